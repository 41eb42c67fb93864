"""The examples run, and reach what they promise."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rootfiles import SAMPLE, scorer_for

from tracksets.writing import has_root

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
