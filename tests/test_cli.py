import csv
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from helpers import make_scorer
from rootfiles import toy_events, write_toy

import tracksets
from tracksets import cli
from tracksets.metrics import roc_auc
from tracksets.scorer import load

TRAIN = """
[data.classes.background]
files = ["a.root"]
[data.classes.signal]
files = ["b.root"]
[inputs.collections.Track]
features = ["log(pt)"]
[model]
phi = [8]
rho = [8]
[training]
epochs = 2
"""


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The error, if there is one message and nothing else."""
        assert self.err.startswith("error: ")
        assert self.err.count("error: ") == 1
        assert "Traceback" not in self.err
        return self.err.removeprefix("error: ")


@pytest.fixture
def tracksets_(monkeypatch, capsys):
    """Run the command line as a shell would."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["tracksets", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return Done(stop.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Return a folder with files of two classes, a configuration and a model."""
    folder = tmp_path_factory.mktemp("made")
    write_toy(folder / "a.root", 40, seed=1)
    write_toy(folder / "b.root", 50, seed=2)
    (folder / "train.toml").write_text(TRAIN)
    tracksets.train(folder / "train.toml", progress=False).save(folder / "model.safetensors")
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch) -> Path:
    """Work in an empty folder, beside a copy of what is made."""
    for path in made.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# What works


HEAVY = ("jax", "flax", "awkward", "uproot", "optax", "ROOT", "matplotlib")


@pytest.mark.parametrize(
    "action",
    [
        "dir(tracksets)",
        "sys.argv[1:] = ['--help']; main()",
        "sys.argv[1:] = ['label', '--help']; main()",
        "sys.argv[1:] = ['--version']; main()",
    ],
)
def test_starts_fast(action):
    """Nothing heavy is imported before it is needed."""
    code = f"""
import sys, tracksets, tracksets.cli
from tracksets.cli import main
try:
    {action}
except SystemExit as stop:
    assert not stop.code
print([name for name in {HEAVY} if name in sys.modules])
"""
    assert python(code).splitlines()[-1] == "[]"


def test_a_first_score_imports_what_it_needs(tmp_path):
    make_scorer().save(tmp_path / "model.safetensors")
    code = f"""
import sys
import tracksets
from helpers import make_events
tracksets.load({str(tmp_path / "model.safetensors")!r})(make_events(9))
print([name for name in ("scipy", "uproot", "vector", "orbax", "typer") if name in sys.modules])
"""
    assert (
        python(f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{code}") == "[]\n"
    )


@pytest.mark.parametrize(
    "command",
    [
        "",
        "demo",
        "sample-data",
        "inspect",
        "train",
        "find-rate",
        "label",
        "export",
        "evaluate",
        "calibrate",
        "explain",
    ],
)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(tracksets_, command, option):
    done = tracksets_(*filter(None, [command]), option)
    assert done.code == 0
    assert "Usage" in done.out
    assert done.err == ""


def test_version(tracksets_):
    done = tracksets_("--version")
    assert (done.code, done.out) == (0, f"tracksets {tracksets.__version__}\n")


def test_inspect(tracksets_, here):
    done = tracksets_("inspect", "a.root:Events")
    assert (done.code, done.err) == (0, "")
    assert "Track_pt" in done.out
    assert "[inputs.collections.Track]" in done.out
    done = tracksets_("inspect", "a.root", "-o", "start.toml")
    assert (done.code, done.err) == (0, "wrote start.toml\n")
    assert "[inputs.collections.Track]" in Path("start.toml").read_text()
    assert "[inputs.collections.Track]" not in done.out
    assert tracksets_("inspect", "a.root", "-o", "start.toml").code == 2
    assert tracksets_("inspect", "a.root", "-o", "start.toml", "--force").code == 0


def test_sample_data(tracksets_, here):
    done = tracksets_("sample-data", "-o", "new/data")
    assert (done.code, done.err) == (0, "")
    assert {"new/data/train.toml", "new/data/events.root"} < set(done.out.split())
    assert (here / "new" / "data" / "README.md").is_file()
    again = tracksets_("sample-data", "-o", "new/data")
    assert (again.code, again.out) == (2, "")
    assert "new/data exists already" in again.err


def test_train_label_evaluate(tracksets_, here):
    """From files to a model, from a model to scores and figures."""
    done = tracksets_("train", "train.toml", "-o", "new/m.safetensors", "-q")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("new/m.safetensors: best epoch ")
    scorer = load("new/m.safetensors")
    assert scorer == load("model.safetensors")  # the same seed

    done = tracksets_("label", "new/m.safetensors", "a.root", "b*.root:Events", "-o", "out", "-q")
    assert (done.code, done.out, done.err) == (0, "out/a.root\nout/b.root\n", "")
    for name, n, seed in (("a", 40, 1), ("b", 50, 2)):
        with uproot.open(f"out/{name}.root") as file:
            scores = file["Events"]["score"].array()
        assert np.allclose(scores, scorer(toy_events(n, seed)), rtol=1e-6)

    more = ("--training", "train.toml", "--experiment", "ATLAS 2/3 $x_{")
    done = tracksets_("evaluate", "new/m.safetensors", "train.toml", "-o", "plots", *more)
    assert (done.code, done.err) == (0, "")
    assert "Overtraining</h2>" in Path("plots/report.html").read_text(encoding="utf-8")
    figures = json.loads(Path("plots/figures.json").read_text())
    assert re.search(rf"^auc +{figures['auc']:.3f} ± 0\.0\d\d$", done.out, re.MULTILINE)
    assert figures["events"] == 90
    for name in ("figures.json", "calibration.png"):
        assert f"\nplots/{name}\n" in done.out


def test_calibrate(tracksets_, here):
    done = tracksets_("calibrate", "model.safetensors", "train.toml", "-o", "c.safetensors")
    assert (done.code, done.err) == (0, "")
    scorer = load("c.safetensors")
    assert done.out.startswith(f"temperature {scorer.calibration.temperature:.4f}, from 90 events")
    assert done.out.endswith("c.safetensors\n")
    done = tracksets_("calibrate", "model.safetensors", "train.toml", "-o", "c.safetensors")
    assert done.code == 2
    assert "exists already" in done.message
    options = ["--method", "isotonic", "--force", "-o", "c.safetensors"]
    done = tracksets_("calibrate", "model.safetensors", "train.toml", *options)
    assert re.match(r"isotonic, \d+ knots, from 90 events", done.out)


def test_explain(tracksets_, here):
    done = tracksets_("explain", "model.safetensors", "a.root", "-o", "out", "-q")
    assert (done.code, done.out, done.err) == (0, "out/a.root\n", "")
    found = uproot.open("out/a.root:Events_score")["Track_score_change"].array()
    expected = load("model.safetensors").contributions(toy_events(40, 1))
    assert ak.num(found).tolist() == ak.num(expected).tolist()
    assert np.allclose(ak.flatten(found), ak.flatten(expected), atol=1e-6)
    done = tracksets_("explain", "model.safetensors", "a.root", "nothere.root", "-o", "new", "-q")
    assert done.code == 2


def test_vary(tracksets_, here):
    up = "up: Track_pt *= 1.5"
    done = tracksets_("label", "model.safetensors", "a.root", "-o", "out", "-q", "--vary", up)
    assert (done.code, done.err) == (0, "")
    scorer, events = load("model.safetensors"), toy_events(40, 1)
    tree = uproot.open("out/a.root:Events")
    assert np.allclose(tree["score"].array(), scorer(events))
    assert np.allclose(tree["score_up"].array(), scorer.varied("Track_pt *= 1.5")(events))
    done = tracksets_("evaluate", "model.safetensors", "train.toml", "-o", "p", "--vary", up)
    assert done.code == 0
    assert done.err.startswith("note: The model was trained on 2 of these 2 file(s): ")
    assert "\nup: Track_pt *= 1.5\nmean_change" in done.out
    done = tracksets_("evaluate", "model.safetensors", "train.toml", "--vary", "Track_pt")
    assert "is no variation" in done.message


def test_folds(tracksets_, here):
    """From a configuration with folds to unbiased scores of the files that were trained on."""
    folds = TRAIN + 'folds = "event % 2"\nensemble = 2\nvalidation = "event % 10 >= 8"\n'
    Path("folds.toml").write_text(folds)
    done = tracksets_("train", "folds.toml", "-o", "m.safetensors", "-q")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        f"m.safetensors, model {i} of 4" for i in (1, 2, 3, 4)
    ]
    assert not Path("m.safetensors.checkpoints").exists()
    scorer = load("m.safetensors")
    assert scorer.summary["members"][0]["events"] == {"training": 36, "validation": 9}

    done = tracksets_("label", "m.safetensors", "a.root", "-o", "out", "-q", "--spread")
    assert (done.code, done.err) == (0, "")
    with uproot.open("out/a.root") as file:
        found = file["Events"].arrays(["score", "score_spread"])
    expected = scorer(toy_events(40, 1), spread=True)
    np.testing.assert_array_equal(found.score, expected.score)
    np.testing.assert_array_equal(found.score_spread, expected.spread)
    message = tracksets_("label", "model.safetensors", "a.root", "-o", "o", "--spread").message
    assert "this is a single one" in message

    done = tracksets_("evaluate", "m.safetensors", "train.toml", "-o", "plots")
    assert (done.code, done.err) == (0, "")
    truth = np.repeat([0, 1], [40, 50])
    scores = np.concatenate([scorer(toy_events(40, 1)), scorer(toy_events(50, 2))])
    figures = json.loads(Path("plots/figures.json").read_text())
    assert figures["auc"] == pytest.approx(roc_auc(truth, scores), rel=1e-6)
    assert Path("plots/loss_4.png").is_file()

    assert "with folds, of 4 models" in tracksets_("export", "m.safetensors").message


def test_what_people_watch(tracksets_, here):
    """A line per epoch, the history, a report; the model is that of a training unwatched."""
    command = ("train", "train.toml", "-o", "m.safetensors", "--history", "h.csv", "--report", "r")
    done = tracksets_(*command)
    assert done.code == 0
    assert done.out.splitlines()[1:] == ["r/report.html"]
    lines = done.err.splitlines()
    pattern = r"epoch {}/2 loss \S+ val \S+ AUC \S+ rate 0.001 \S+ events/s \S+ left"
    assert len(lines) == 2
    assert all(re.fullmatch(pattern.format(i), line) for i, line in enumerate(lines, 1))
    scorer = load("m.safetensors")
    assert scorer == load("model.safetensors")
    with Path("h.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert Path("h.csv").read_bytes() == Path("r/history.csv").read_bytes()
    for entry, row in zip(scorer.history, table, strict=True):
        assert {name: float(row[name]) for name in entry} == pytest.approx(entry)
    figures = json.loads(Path("r/report.json").read_text())
    assert list(figures["overtraining"]["score for signal"]) == ["background", "signal"]
    assert figures["auc"]["validation"] == pytest.approx(figures["validation_auc"], abs=1e-6)
    Path("m.safetensors").unlink()
    assert "h.csv exists already" in tracksets_(*command, "-q").message
    assert tracksets_(*command, "-q", "--force").code == 0


def test_find_rate(tracksets_, here):
    command = ("find-rate", "train.toml", "-o", "new/rate.png", "--steps", "30", "--stop", "1e30")
    done = tracksets_(*command, "-q")
    assert (done.code, done.err) == (0, "")
    [path, how, suggestion] = done.out.splitlines()
    assert Path(path).read_bytes().startswith(b"\x89PNG")
    lowest = re.fullmatch(r"the loss is lowest at (\S+) and diverges up to \S+", how)[1]
    rate = float(suggestion.removeprefix("suggestion: learning_rate = "))
    assert rate == pytest.approx(float(lowest) / 10, rel=0.06)
    assert "new/rate.png exists already" in tracksets_(*command).message
    assert "rates" in tracksets_(*command, "--force").err


def test_tensorboard(tracksets_, here):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    done = tracksets_("train", "train.toml", "-o", "m.safetensors", "-q", "--tensorboard", "runs/a")
    assert (done.code, done.err) == (0, "")
    [path] = Path("runs/a").iterdir()
    assert path.name.startswith("events.out.tfevents.")
    assert b"epoch/validation_loss" in path.read_bytes()


@pytest.mark.parametrize("mode", ["append", "friend"])
def test_options_of_label(tracksets_, here, mode):
    options = ["--mode", mode, "--field", "b", "--workers", "2", "-o", "out"]
    for more in ([], ["--force"]):
        done = tracksets_("label", "model.safetensors", "a.root", *options, *more)
        assert done.code == 0
        assert "out/a.root" in done.out
    with uproot.open("out/a.root") as file:
        assert file["Events_b"]["b"].num_entries == 40


def test_export(tracksets_, here):
    pytest.importorskip("onnxruntime", reason="onnx and onnxruntime are not installed")
    done = tracksets_("export", "model.safetensors", "-o", "new/m.onnx", "--check", "a.root:Events")
    assert (done.code, done.err) == (0, "")
    found = re.fullmatch(r"new/m.onnx\nlargest .* (\d\S+), on 40 events\n", done.out)
    assert 0 < float(found[1]) < 1e-5
    again = ("export", "model.safetensors", "-o", "new/m.onnx")
    assert "exists already" in tracksets_(*again).message
    done = tracksets_(*again, "--force")
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(", on 256 made-up events\n")
    done = tracksets_("export", "model.safetensors", "-o", "m.stablehlo")
    assert done.out.startswith("m.stablehlo\nm.stablehlo.json\nlargest ")


def test_several_models_a_selection_and_a_format(tracksets_, here):
    models = ["--model", "x=model.safetensors", "--model", "y=model.safetensors"]
    options = ["--mode", "friend", "--select", "event % 2 == 0", "--format", "parquet"]
    done = tracksets_("label", *models, "a.root", "b.root", *options, "-o", "out/{stem}.parquet")
    assert done.code == 0
    assert done.out.splitlines() == ["out/a.parquet", "out/b.parquet"]
    [row] = [line.split() for line in done.err.splitlines() if line.startswith("labelled ")]
    assert row[:4] == ["labelled", "2", "90", "45"]
    rows = ak.from_parquet("out/a.parquet")
    assert rows.fields == ["event", "entry", "x", "y"]
    assert rows.x.to_list() == rows.y.to_list()
    shown = tracksets_("inspect", "out/a.parquet").out
    assert shown.count("only where event % 2 == 0") == 2
    assert "labelled: x: model " in shown
    said = json.loads(tracksets_("inspect", "--provenance", "out/a.parquet").out)
    scorer = load("model.safetensors")
    assert set(said) == {"x", "y"}
    assert said["x"]["model"] == scorer.hash
    assert said["x"]["config"]["inputs"] == scorer.inputs.model_dump(mode="json")
    assert Path(said["x"]["input"]) == here / "a.root"
    assert tracksets_("inspect", "--provenance", "a.root").code == 2
    again = tracksets_("label", *models, "a.root", *options, "-o", "out/{stem}.parquet").err
    assert ["there", "already", "1", "40"] in [line.split() for line in again.splitlines()]


@pytest.mark.parametrize("models", [["x"], ["=m"], ["x=m", "x=n"]])
def test_models_without_names(tracksets_, here, models):
    options = [word for model in models for word in ("--model", model)]
    assert re.search(
        "expected FIELD=MODEL|same field",
        tracksets_("label", *options, "a.root", "-o", "out").message,
    )


def test_force_of_train(tracksets_, here):
    command = ["train", "train.toml", "-q", "-o", "model.safetensors"]
    before = Path("model.safetensors").stat().st_mtime_ns
    assert "exists already" in tracksets_(*command).message
    assert Path("model.safetensors").stat().st_mtime_ns == before
    assert tracksets_(*command, "--force").code == 0
    assert Path("model.safetensors").stat().st_mtime_ns > before


def test_ctrl_c_and_resume(tracksets_, here, monkeypatch):
    """The first run stops after an epoch, the second one goes on to the same model."""
    from tracksets.fitting import _Fit

    tracksets_("train", "train.toml", "-q", "-o", "whole.safetensors")
    validate = _Fit._validate

    def interrupt(self):
        os.kill(os.getpid(), signal.SIGINT)
        return validate(self)

    monkeypatch.setattr(_Fit, "_validate", interrupt)
    command = ["train", "train.toml", "-q", "-o", "m.safetensors"]
    done = tracksets_(*command)
    assert done.code == 0
    assert "to go on: tracksets train train.toml -o m.safetensors --resume" in done.err
    assert "best epoch 1" in done.out
    monkeypatch.setattr(_Fit, "_validate", validate)
    Path("m.safetensors").unlink()
    assert "go on with it by --resume" in tracksets_(*command).message.lower()
    assert "say one of them" in tracksets_(*command, "--resume", "--force").err
    assert tracksets_(*command, "--resume").code == 0
    assert Path("m.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()
    assert not Path("m.safetensors.checkpoints").exists()


# Mistakes of the user


MISTAKES = {
    "no such file": ("inspect c.root", "no file c.root; in the folder .: .*a.root"),
    "no such tree": ("inspect a.root:Event", "no tree 'Event' in a.root: did you mean 'Events'"),
    "no such configuration": ("train no.toml -o new.safetensors", "no configuration file no.toml"),
    "no TOML": ("train a.root -o new.safetensors", "a.root is not a TOML file"),
    "no such model": ("label no.model a.root -o out", "no.model"),
    "no model": ("label a.root a.root -o out", "a.root"),
    "no files": ("label model.safetensors c*.root -o out", r"no file matches c\*.root"),
    "no such mode": (
        "label model.safetensors a.root -o out --mode appendix",
        "no mode 'appendix': did you mean 'append'",
    ),
    "bad name": ("label model.safetensors a.root -o out --field a/b", "name of a branch"),
    "output is the input": ("label model.safetensors a.root -o .", "is the input itself"),
    "model exists": ("train train.toml -o model.safetensors", "exists already.*--force"),
    "model is a folder": ("train train.toml -o in_the_way", "is a folder"),
    "history exists": (
        "train train.toml -o new.safetensors --history a.root -q",
        "a.root exists already",
    ),
    "rates that fall": ("find-rate train.toml --start 2", "rates from 2.0 to 1.0"),
    "report into a file": ("train train.toml -o new.safetensors --report a.root -q", "a.root"),
    "unknown format": ("export model.safetensors -o m.pt", "m.pt: expected .*.onnx"),
    "no events to check": ("export model.safetensors -o m.onnx --check c.root", "no file c.root"),
    "evaluation into a file": ("evaluate model.safetensors train.toml -o a.root", "a.root"),
    "demo into a file": ("demo -q -o a.root", "a.root"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(tracksets_, here, name):
    command, expected = MISTAKES[name]
    (here / "in_the_way").mkdir()
    (here / "in_the_way" / "b.root").touch()
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    done = tracksets_(*command.split())
    assert done.code == 2
    assert done.out == "" or command.startswith("demo")
    assert re.search(expected, done.message)
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before


CONFIGURATIONS = {
    "several mistakes": (
        (("epochs = 2", 'epochs = "many"\nepoch = 1'), ("rho = [8]", "rho = [-1]")),
        ["3 mistake(s)", "training.epochs:", "training.epoch: unknown key", "model.rho.0:"],
    ),
    "one class": ((('[data.classes.signal]\nfiles = ["b.root"]\n', ""),), ["only one class"]),
    "no such file": ((("b.root", "c.root"),), ["no file", "c.root"]),
    "no such branch": ((("log(pt)", "log(ptt)"),), ["log(ptt)", "a.root", "Track_pt"]),
    "not finite": ((("log(pt)", "log(pt - 0.5)"),), ["log(pt - 0.5)", "NaN"]),
    "too large for float32": (
        (("[inputs.coll", '[inputs]\nevent = ["event"]\n[inputs.coll'),),
        ["2**24"],
    ),
    "a list as an event's number": (
        (("[inputs.coll", '[inputs]\nevent = ["Track_pt"]\n[inputs.coll'),),
        ["Track_pt"],
    ),
    "unbalanced": ((("log(pt)", "log(pt"),), ["log(pt"]),
    "no events": (
        (("[data.classes.b", '[data]\nselect = "event < 0"\n[data.classes.b'),),
        ["no events"],
    ),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_mistakes_in_configurations(tracksets_, here, name):
    changes, expected = CONFIGURATIONS[name]
    text = TRAIN
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (here / "train.toml").write_text(text)
    done = tracksets_("train", "train.toml", "-o", "new.safetensors", "-q")
    assert (done.code, done.out) == (2, "")
    for each in expected:
        assert each in done.message
    assert not (here / "new.safetensors").exists()


def test_fields_of_unequal_length(tracksets_, here):
    for name in ("a.root", "b.root"):
        with uproot.recreate(here / name) as file:
            types = {"Track_pt": "var * float32", "Track_eta": "var * float32"}
            file.mktree("Events", types).extend(
                {"Track_pt": toy_events(5, 1).Track.pt, "Track_eta": toy_events(5, 2).Track.pt}
            )
    (here / "train.toml").write_text(TRAIN.replace('"log(pt)"', '"log(pt)", "eta"'))
    done = tracksets_("train", "train.toml", "-o", "new.safetensors", "-q")
    assert done.code == 2
    assert "Track_eta" in done.message or "eta" in done.message


@pytest.mark.parametrize("command", ["", "train", "label model.safetensors", "lable", "train --no"])
def test_usage(tracksets_, here, command):
    """What the command line itself cannot make sense of."""
    done = tracksets_(*command.split())
    assert done.code == 2
    assert "Usage" in done.out + done.err
    assert "Traceback" not in done.err


def test_failures_of_label(tracksets_, here):
    """Files that can be labelled are; the exit code says that others are not."""
    with uproot.recreate(here / "c.root") as file:
        types = {"Track_pt": "var * float32"}
        file.mktree("Events", types).extend({"Track_pt": -toy_events(5).Track.pt})
    (here / "d.root").write_bytes((here / "a.root").read_bytes()[:500])
    command = ["label", "model.safetensors", "a.root", "c.root", "d.root", "-o", "out", "-q"]
    done = tracksets_(*command)
    assert done.code == 1
    assert done.out == "out/a.root\n"
    message = done.message
    assert message.startswith("2 of 3 files could not be labelled\n")
    [c, d] = message.strip().splitlines()[1:]
    assert c.startswith("  c.root: ")
    assert "log(pt)" in c
    assert d.startswith("  d.root: ")
    assert "truncated" in d
    assert [each.name for each in (here / "out").iterdir()] == ["a.root"]


def test_interrupt(tracksets_, here, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tracksets.labelling.label", interrupt)
    done = tracksets_("label", "model.safetensors", "a.root", "-o", "out")
    assert done.code == 130
    assert done.err == "interrupted; nothing incomplete was left behind\n"


def test_as_a_program(here):
    """The program that is installed, in a process of its own."""
    program = Path(sys.executable).with_name("tracksets")
    command = [str(program), "inspect", "no.root"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no file no.root")
