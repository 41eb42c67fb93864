"""The main job on the sample data: train, label a file, evaluate, draw."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tracksets.errors import FileError
from tracksets.evaluation import evaluate
from tracksets.labelling import label
from tracksets.training import train

__all__ = ("copy_sample_data", "run", "sample_data")


def sample_data() -> Path:
    """Return the folder of the sample data: in the package, or beside it in a checkout.

    Raises
    ------
    FileError
        If it is in neither place.
    """
    here = Path(__file__).parent
    for folder in (here / "sample_data", here.parents[1] / "sample_data"):
        if (folder / "events.root").is_file():
            return folder
    raise FileError(f"the sample data is neither in {here} nor in {here.parents[1]}")


def copy_sample_data(output: Path) -> list[Path]:
    """Copy files and configurations of the sample data into a new folder; returns their copies.

    Raises
    ------
    FileError
        If there is something of this name.
    """
    if output.exists():
        raise FileError(f"{output} exists already; remove it, or say where else with -o")
    source = sample_data()
    output.mkdir(parents=True)
    names = sorted(path.name for path in source.iterdir() if path.suffix in (".root", ".toml"))
    return [Path(shutil.copy(source / name, output)) for name in [*names, "README.md"]]


def run(output: Path, say: Callable[[str], None], *, progress: bool = True) -> None:
    """Run the demo into a folder; what is there of an earlier run is replaced.

    Parameters
    ----------
    output
        The folder.
    say
        Called with each line to show.
    progress
        Whether to show progress bars.
    """
    data = sample_data()
    output.mkdir(parents=True, exist_ok=True)
    model = output / "b_events.safetensors"
    begin = time.perf_counter()
    say(f"training as {data / 'train.toml'} says")
    scorer = train(data / "train.toml", progress=progress)
    scorer.save(model)
    say(f"model    {model}")
    report = label(scorer, data / "events.root", output / "labelled", force=True, progress=progress)
    result = evaluate(scorer, data / "evaluate.toml", output / "plots")
    say(f"labelled {report.outputs[0]} (branch 'score' of its tree Events)")
    for path in result.outputs:
        say(f"plots    {path}")
    say(f"test AUC {result.figures['auc']:.4f} on {result.figures['events']:.0f} events")
    say(f"done in {time.perf_counter() - begin:.0f} s")
