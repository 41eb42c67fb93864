"""The examples run, and reach what they promise."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uproot
from rootfiles import SAMPLE, scorer_for, write_toy

import tracksets as ts
from tracksets.config import read_config
from tracksets.pyroot import has_root

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str, folder: Path, warnings: str = "error") -> str:
    """Run an example in a folder, and return what it prints; a warning is an error."""
    command = [sys.executable, "-W", warnings, str(EXAMPLES / name), *arguments]
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def number(pattern: str, text: str) -> float:
    match = re.search(pattern + r" ([0-9.]+)", text)
    assert match, text
    return float(match[1])


def test_every_example_is_tested() -> None:
    # Examples that need more than the sample data are tested beside what they show.
    files = Path(__file__).parent.glob("test_*.py")
    tests = "".join(each.read_text(encoding="utf-8") for each in files)
    assert all(f'"{path.name}"' in tests for path in EXAMPLES.glob("*.py"))


def test_analysis(tmp_path: Path) -> None:
    printed = run("analysis.py", "-o", "new/out", "--epochs", "2", folder=tmp_path)
    assert "purity" in printed
    assert (tmp_path / "new" / "out" / "analysis.png").stat().st_size > 0


def test_train_from_config(tmp_path: Path) -> None:
    printed = run("train_from_config.py", "-o", "out", "--epochs", "2", folder=tmp_path)
    assert number("test AUC", printed) > 0.8
    assert (tmp_path / "out" / "b_events.safetensors").is_file()
    assert (tmp_path / "out" / "evaluation" / "roc.png").is_file()


SMALL = """
[data.classes.background]
files = ["a.root"]
[data.classes.signal]
files = ["b.root"]
[inputs.collections.Track]
features = ["log(pt)"]
[training]
block_tracks = 500
"""


def search(folder: Path) -> tuple[str, str]:
    """Search in two trials; return what is printed and the table."""
    printed = run("search.py", "train.toml", "-o", "out", "-n", "2", "--epochs", "2", folder=folder)
    return printed, (folder / "out" / "trials.csv").read_text()


@pytest.fixture
def search_folder(tmp_path: Path) -> Path:
    pytest.importorskip("optuna", reason="optuna is not installed")
    (tmp_path / "train.toml").write_text(SMALL)
    for name, seed in (("a", 1), ("b", 2)):
        write_toy(tmp_path / f"{name}.root", 200, seed=seed)
    return tmp_path


def test_search(search_folder: Path) -> None:
    """Two trials; the model is trained as the better one was."""
    printed, table = search(search_folder)
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["state"] for row in rows] == ["COMPLETE", "COMPLETE"]
    assert rows[0]["learning_rate"] != rows[1]["learning_rate"]
    best = min(rows, key=lambda row: float(row["validation_loss"]))
    found = number("best of 2: validation loss", printed)
    assert found == pytest.approx(float(best["validation_loss"]), abs=1e-4)
    scorer = ts.load(search_folder / "out" / "best.safetensors")
    assert min(entry["validation_loss"] for entry in scorer.history) == float(
        best["validation_loss"]
    )
    assert scorer.summary["training"]["learning_rate"] == float(best["learning_rate"])
    assert scorer.model.phi == (int(best["width"]),) * 3
    assert list(scorer.model.pool) == best["pool"].split()
    assert f"learning_rate = {best['learning_rate']}" in printed


@pytest.mark.slow
def test_the_same_search_again(search_folder: Path) -> None:
    assert search(search_folder) == search(search_folder)


def test_label_files(tmp_path: Path) -> None:
    printed = run("label_files.py", "-o", "out", "--epochs", "1", folder=tmp_path)
    assert "all three hold the same scores" in printed
    assert all((tmp_path / "out" / mode / "events.root").is_file() for mode in ("append", "friend"))


def test_friend(tmp_path: Path) -> None:
    if not has_root():
        pytest.skip("ROOT is not installed")
    scorer = scorer_for(SAMPLE)
    arrays = {**scorer.arrays, "out.bias": scorer.arrays["out.bias"] - 0.73}  # half above 0.5
    replace(scorer, arrays=arrays).save(tmp_path / "model.safetensors")
    # ROOT itself warns that it is in alpha stage.
    printed = run("friend.py", "model.safetensors", folder=tmp_path, warnings="default")
    [one, two] = re.findall(r"^(?:RDataFrame|uproot): (.*)$", printed, re.MULTILINE)
    assert one == two
    assert 300 < number("RDataFrame:", printed) < 1200


@pytest.mark.slow
def test_own_model(tmp_path: Path) -> None:
    printed = run("own_model.py", folder=tmp_path)
    assert number("test AUC", printed) > 0.93


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, sample_data: Path) -> tuple[ts.Scorer, Path]:
    """Return a scorer with the inputs of the sample data, and its model.onnx."""
    pytest.importorskip("onnxruntime", reason="onnx and onnxruntime are not installed")
    from tracksets.export import export

    inputs = read_config(sample_data / "train.toml").inputs
    events = uproot.open(f"{sample_data}/signal.root:Events").arrays(entry_stop=200)
    training = ts.Training(epochs=1, block_tracks=1024)
    scorer = ts.fit(events, events.event % 2, inputs, training=training, progress=False)
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export(scorer, path)
    return scorer, path


def test_onnx_scores(exported: tuple[ts.Scorer, Path], tmp_path: Path, sample_data: Path) -> None:
    scorer, model = exported
    file = sample_data / "events.root"
    printed = run("onnx_scores.py", str(model), str(file), folder=tmp_path)
    lines = [line.split() for line in printed.splitlines()]
    events = uproot.open(f"{file}:Events").arrays()
    assert [int(number) for number, _ in lines] == events.event.to_list()
    assert 0 in events.nTrack
    # Rounding in float32 alone moves a score of this scorer by 2e-5.
    np.testing.assert_allclose([float(each) for _, each in lines], scorer(events), rtol=5e-5)


def test_onnx_scores_refuses_another_model(
    exported: tuple[ts.Scorer, Path], tmp_path: Path, sample_data: Path
) -> None:
    from tracksets.export import export

    scorer, _ = exported
    track = scorer.inputs.collections["Track"].model_copy(update={"select": "pt > 1"})
    inputs = scorer.inputs.model_copy(update={"collections": {"Track": track}})
    export(replace(scorer, inputs=inputs), tmp_path / "other.onnx")
    command = [EXAMPLES / "onnx_scores.py", "other.onnx", sample_data / "events.root"]
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "other.onnx wants" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_program_in_cpp_expects_what_its_twin_expects(
    exported: tuple[ts.Scorer, Path],
) -> None:
    from tracksets.export import metadata

    code = (EXAMPLES / "onnx_scores.cpp").read_text(encoding="utf-8")
    expected = re.findall(r'R"json\((.*?)\)json"', code)
    assert len(expected) == 3
    about = json.dumps(metadata(exported[0]))
    assert all(each in about for each in expected)


def build_tools(folder: Path) -> tuple[str, list[str]]:
    """Return a C++ compiler and its flags for ROOT and ONNX Runtime, or skip and say what misses.

    Headers are those of the folder `ONNXRUNTIME`; the library, too, or that of the Python package.
    """
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler, c++")
    there = os.environ.get("ONNXRUNTIME")
    if there is None:
        pytest.skip("ONNXRUNTIME does not name a folder with the headers of ONNX Runtime")
    headers = sorted(Path(there).rglob("onnxruntime_cxx_api.h"))
    if not headers:
        pytest.skip(f"there is no onnxruntime_cxx_api.h in {there}")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    package = Path(onnxruntime.__file__).parent
    libraries = [*Path(there).rglob("libonnxruntime.so*"), *package.rglob("libonnxruntime.so*")]
    if not libraries:
        pytest.skip(f"there is no libonnxruntime.so in {there} or {package}")
    command = [shutil.which("root-config") or "", "--cflags", "--libs", "--libdir"]
    if not command[0]:
        if not has_root():
            pytest.skip("ROOT is not installed")
        import ROOT

        root = Path(ROOT.__file__).parent
        command[:1] = [str(root / "bin" / "root-config"), f"--prefix={root}"]
    *flags, libdir = subprocess.check_output(command, text=True).split()
    library = folder / "libonnxruntime.so.1"  # which a wheel has under another name
    library.symlink_to(libraries[0].resolve())
    # The graphics of ROOT's wheel want libraries that the wheel brings along.
    flags += [f"-I{headers[0].parent}", str(library), "-Wl,--allow-shlib-undefined"]
    return compiler, [*flags, f"-Wl,-rpath,{libdir}", f"-Wl,-rpath,{folder}"]


@pytest.mark.slow
def test_onnx_scores_in_cpp(
    exported: tuple[ts.Scorer, Path], tmp_path: Path, sample_data: Path
) -> None:
    """The program compiles, and gives what its twin in Python gives."""
    compiler, flags = build_tools(tmp_path)
    program = tmp_path / "onnx_scores"
    command = [compiler, "-O2", str(EXAMPLES / "onnx_scores.cpp"), "-o", str(program), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    arguments = [str(exported[1]), str(sample_data / "events.root")]
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = np.loadtxt(done.stdout.splitlines())
    twin = np.loadtxt(run("onnx_scores.py", *arguments, folder=tmp_path).splitlines())
    np.testing.assert_array_equal(found[:, 0], twin[:, 0])
    np.testing.assert_allclose(found[:, 1], twin[:, 1], rtol=5e-5)


def test_toy_sets_runs(tmp_path: Path) -> None:
    printed = run("toy_sets.py", "-o", "out", "--steps", "2", folder=tmp_path)
    assert number("test loss", printed) > 0.1
    assert (tmp_path / "out" / "toy_sets.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("elements", "seed"), [("uniform", 1), ("uniform", 2), ("uniform", 3), ("normal", 1)]
)
def test_toy_sets_are_learned(tmp_path: Path, elements: str, seed: int) -> None:
    printed = run("toy_sets.py", "--elements", elements, "--seed", str(seed), folder=tmp_path)
    assert number("test loss", printed) < 0.1
