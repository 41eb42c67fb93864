"""Train from files that do not fit into memory, beside the same training in memory."""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from bench import harness
from bench.labelling import command, write_jets
from tracksets.config import Config, read_config
from tracksets.datasets import Dataset, read_dataset
from tracksets.samples import Batch, Part
from tracksets.training import fit_inputs, train

JETS = 200_000
"""Events of a generated file, which has about 100 MB."""
CONFIG = """
[data]
tree = "Events"
[data.classes.background]
files = ["background*.root"]
[data.classes.signal]
files = ["signal*.root"]
[inputs.collections.part]
features = ["log(pt)", "eta", "phi", "charge"]
[model]
phi = [100, 100, 256]
rho = [100, 100, 100]
[training]
epochs = 1
validation = 0.01
"""


def prepare(folder: Path, n_byte: float, n_jet: int = JETS) -> Path:
    """Make a configuration and files of two classes, each one file under many names."""
    size, n = 0, 0
    while size < n_byte:
        for i, name in enumerate(("background", "signal")):
            path, first = folder / f"{name}{n}.root", folder / f"{name}0.root"
            if n:
                path.symlink_to(first)
            else:
                write_jets(path, n_jet, i)
            size += first.stat().st_size
        n += 1
    config = folder / "train.toml"
    config.write_text(CONFIG)
    return config


def limit_steps(n: int) -> None:
    """Let every epoch of this process end after so many steps."""
    original = Part.shuffled

    def shuffled(self: Part, *arguments: object) -> Iterator[Batch]:
        return islice(original(self, *arguments), n)  # type: ignore[arg-type]

    Part.shuffled = shuffled  # type: ignore[method-assign]


def some_steps(config: str, n: int) -> None:
    """Train for a number of steps, in a process of its own."""
    limit_steps(n)
    begin = time.perf_counter()
    scorer = train(config, progress=False)
    events = sum(scorer.summary["events"].values())
    print(f"{events} {time.perf_counter() - begin}")


def memory(folder: Path, sizes: tuple[float, ...], steps: int) -> None:
    """Measure the peak memory of a training, with defaults, on files of so many bytes."""
    rows = []
    for n_byte in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            config = prepare(Path(name), n_byte)
            code = f"from bench.streaming import some_steps; some_steps({str(config)!r}, {steps})"
            begin = time.perf_counter()
            peak = command(sys.executable, "-c", code)()
            rows.append(
                {
                    "files": f"{n_byte / 1e9:.2f} GB",
                    "peak": f"{peak / 1e3:.2f} GB",
                    "seconds": f"{time.perf_counter() - begin:.0f}",
                }
            )
    harness.show(f"Peak memory of reading all and training {steps} steps", rows)


def speed(folder: Path, n_jet: int, steps: int, rounds: int) -> None:
    """Compare steps on events in files, ten times as many as the buffer holds, with memory."""
    config = read_config(prepare(folder, 1, n_jet))
    assert config.inputs is not None
    limit_steps(steps)
    with read_dataset(config, config.inputs, memory=float("inf")) as whole:
        size = int(whole.store.sizes(slice(None)).sum())
        with read_dataset(config, config.inputs, memory=size / 10) as parts:
            contestants = {"memory": training(config, whole), "files": training(config, parts)}
            seconds = alternate(contestants, rounds)
    rows = [
        {
            "inputs in": name,
            "seconds": f"{wall:.2f}",
            "x": f"{wall / seconds['memory'][0]:.3f}",
            "seconds of all cores": f"{cpu:.2f}",
            "x ": f"{cpu / seconds['memory'][1]:.3f}",
        }
        for name, (wall, cpu) in seconds.items()
    ]
    title = f"{steps} steps, {size / 1e6:.0f} MB of inputs, buffer of {size / 1e7:.0f} MB"
    harness.show(f"{title}, {os.cpu_count()} cores", rows)


def training(config: Config, data: Dataset) -> Callable[[], object]:
    """Return a function that trains on this data."""
    what = (data.store, data.targets, data.task, config.inputs, data.weights)
    return lambda: fit_inputs(*what, config.model, config.training, progress=False)  # type: ignore[arg-type]


def alternate(
    contestants: dict[str, Callable[[], object]], rounds: int
) -> dict[str, tuple[float, float]]:
    """Return the median seconds, by the clock and of all cores, after one warm-up."""
    clocks = (time.perf_counter, time.process_time)
    times: dict[str, list[list[float]]] = {name: [] for name in contestants}
    for i in range(rounds + 1):
        for name, run in contestants.items():
            begin = [clock() for clock in clocks]
            run()
            if i:
                times[name].append([clock() - b for clock, b in zip(clocks, begin, strict=True)])
    return {
        name: (statistics.median(t[0] for t in each), statistics.median(t[1] for t in each))
        for name, each in times.items()
    }


def main(rounds: int = 3, scale: float = 1.0) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        speed(Path(folder), int(JETS * scale), int(600 * scale), rounds)
    with tempfile.TemporaryDirectory() as folder:
        memory(Path(folder), (1e9 * scale, 5e9 * scale), int(600 * scale))
