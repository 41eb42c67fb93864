"""What README.md and docs/ say runs as it stands, and names everything that there is."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import awkward as ak
import numpy as np
import pytest

from tracksets.config import Class, Data, Regression, Reweight, check_config
from tracksets.expressions import parse
from tracksets.fields import Columns, Naming
from tracksets.functions import CONSTANTS, FUNCTIONS, REDUCTIONS
from tracksets.inputs import Collection, Inputs
from tracksets.network import Model
from tracksets.settings import Training

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def checkout(tmp_path: Path, sample_data: Path) -> Path:
    """Return a folder like a checkout, with a configuration that trains for two epochs."""
    copy = tmp_path / "sample_data"
    copy.mkdir()
    for file in sample_data.iterdir():
        if file.suffix == ".root":
            (copy / file.name).symlink_to(file)
        elif file.suffix == ".toml":
            text = file.read_text(encoding="utf-8")
            (copy / file.name).write_text(text.replace("epochs = 30", "epochs = 2"))
    assert "epochs = 2" in (copy / "train.toml").read_text(encoding="utf-8")
    return tmp_path


def test_python_blocks(checkout: Path) -> None:
    script = checkout / "readme.py"
    code = "\n".join(blocks("python"))
    fit = "ts.fit(events, events.isSignal, inputs"
    assert fit in code
    script.write_text(code.replace(fit, f"{fit}, training=ts.Training(epochs=1)"))
    command = [sys.executable, "-W", "error", script.name]
    run = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert (checkout / "labelled" / "events.root").is_file()


@pytest.mark.slow
def test_commands(checkout: Path) -> None:
    lines = "".join(blocks("console")).splitlines()
    commands = [line[2:].partition("#")[0] for line in lines if line.startswith("$ tracksets ")]
    assert len(commands) >= 3
    program = Path(sys.executable).parent / "tracksets"
    for command in commands:
        words = [str(program), *shlex.split(command)[1:]]
        run = subprocess.run(words, cwd=checkout, capture_output=True, text=True, check=False)
        assert run.returncode == 0, f"{command}\n{run.stderr}"
    assert (checkout / "scored" / "events.root").is_file()
    assert (checkout / "evaluation" / "roc.png").is_file()


def test_configuration_is_the_one_of_the_sample_data(sample_data: Path) -> None:
    [text] = blocks("toml")
    shown, used = (
        check_config(tomllib.loads(each))
        for each in (text, (sample_data / "train.toml").read_text(encoding="utf-8"))
    )
    assert shown == used


def test_links() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (REPOSITORY / link).exists(), link


def test_every_module_has_its_job_written_down() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`(\w+\.py)`", text))
    modules = {path.name for path in (REPOSITORY / "src" / "tracksets").glob("[!_]*.py")}
    assert modules <= listed, modules - listed


@pytest.mark.parametrize(
    "configuration", [Data, Class, Regression, Reweight, Inputs, Collection, Model, Training]
)
def test_every_key_is_documented(configuration: type) -> None:
    text = (REPOSITORY / "docs" / "config.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| `")}
    assert {f"`{name}`" for name in configuration.model_fields} <= rows


@pytest.mark.parametrize("configuration", [Model, Training])
def test_defaults_are_documented(configuration: type) -> None:
    text = (REPOSITORY / "docs" / "config.md").read_text(encoding="utf-8")
    cells = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    documented = {row[1].strip(" `"): row[3].strip(" `") for row in cells}
    for name, default in configuration().model_dump(mode="json").items():
        if default is not None:
            assert tomllib.loads(f"x = {documented[name]}")["x"] == default


def test_every_function_is_documented() -> None:
    text = (REPOSITORY / "docs" / "expressions.md").read_text(encoding="utf-8")
    code = " ".join(re.findall(r"`([^`\n]+)`", text))
    words = set(re.findall(r"\w+", code))
    assert {*FUNCTIONS, *REDUCTIONS, *CONSTANTS, "onehot", "at"} <= words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pt > 0.5 && abs(eta) < 2.5", [True, False, True]),
        ("charge > 0 ? pt : -pt", [1.0, -2.0, 3.0]),
        ("pt if charge > 0 else -pt", [1.0, -2.0, 3.0]),
        ("1 < pt < 3", [False, True, False]),
        ("(flags & 4) != 0", [True, False, True]),
        ("(pt > 2) | (charge < 0)", [False, True, True]),
        ("TMath::Abs(eta) + std::floor(pt)", [2.0, 5.0, 4.0]),
        ("pt / sum(pt)", [1 / 3, 2 / 3, 1.0]),
        ("pt / max(Jet_pt)", [0.1, 0.2, 0.1]),
        ("pt - at(Jet_pt, 1, -1)", [-3.0, -2.0, 4.0]),
        ("PV_z", [7.0, 7.0, 8.0]),
        ("round(py)", [0.0, 0.0, 0.0]),
        ("onehot(charge, -1, 1)", [[0, 1], [1, 0], [0, 1]]),
    ],
)
def test_expressions_of_the_documentation(text: str, expected: list[object]) -> None:
    events = ak.Array(
        {
            "Track_pt": [[1.0, 2.0], [], [3.0]],
            "Track_eta": [[1.0, -3.0], [], [1.0]],
            "Track_phi": [[0.0, 0.0], [], [0.0]],
            "Track_charge": [[1, -1], [], [1]],
            "Track_flags": [[5, 3], [], [4]],
            "Jet_pt": [[10.0, 4.0], [], [30.0]],
            "PV_z": [7.0, 9.0, 8.0],
        }
    )
    column = parse(text)(Columns(events).of(Naming("Track")))
    values = column.values
    if column.axis is None:
        values = values.repeat([2, 0, 1])
    np.testing.assert_allclose(values, expected, rtol=1e-6)
