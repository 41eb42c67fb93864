"""A training that is killed and gone on with, against one that is not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import make_events

import tracksets as ts
from tracksets.checkpoints import Checkpoints, discard, refuse_earlier
from tracksets.errors import FileError, NonFiniteError
from tracksets.steps import Steps

INPUTS = ts.Inputs(collections={"Track": {"features": ["log(pt)", "eta", "charge"]}})
MODEL = ts.Model(phi=[8], rho=[8])
TRAINING = ts.Training(
    epochs=4,
    block_tracks=400,
    block_events=100,
    learning_rate=1e-2,
    schedule="cosine",
    dropout=0.1,
    average=0.9,
    checkpoint_minutes=0,
)
EVENTS = make_events(500, seed=5)
TARGETS = np.arange(500) % 2


def fit(training=TRAINING, **options):
    return ts.fit(
        EVENTS, TARGETS, INPUTS, model=MODEL, training=training, progress=False, **options
    )


def saved(scorer, folder):
    scorer.save(folder / "model.safetensors")
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return saved(fit(), tmp_path_factory.mktemp("uninterrupted"))


@pytest.mark.parametrize("n", [0, 1, 4, 7, 11])
def test_going_on_is_like_no_interruption(n, failing, monkeypatch, tmp_path, uninterrupted):
    failing(n)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(checkpoints=tmp_path / "state")
    monkeypatch.undo()
    assert saved(fit(checkpoints=tmp_path / "state", resume=True), tmp_path) == uninterrupted


def test_going_on_makes_only_the_steps_that_are_left(failing, monkeypatch, tmp_path):
    failing(9)
    with pytest.raises(RuntimeError):
        fit(checkpoints=tmp_path)
    monkeypatch.undo()
    made = []
    step = Steps._step
    monkeypatch.setattr(Steps, "_step", step)
    original = Steps.start

    def start(self, params):
        compiled = self.step
        monkeypatch.setattr(self, "step", lambda *x: made.append(x[-1][1]) or compiled(*x))
        return original(self, params)

    monkeypatch.setattr(Steps, "start", start)
    fit(checkpoints=tmp_path, resume=True)
    assert made == list(range(9, 9 + len(made)))


def test_checkpoints_change_nothing(tmp_path, uninterrupted):
    assert saved(fit(checkpoints=tmp_path / "state"), tmp_path) == uninterrupted


def test_what_is_finished_is_not_done_again(failing, tmp_path, uninterrupted):
    fit(checkpoints=tmp_path / "state")
    failing(0)
    assert saved(fit(checkpoints=tmp_path / "state", resume=True), tmp_path) == uninterrupted


def test_resume_without_checkpoints_begins(tmp_path, uninterrupted):
    scorer = fit(checkpoints=tmp_path / "state", resume=True)
    assert saved(scorer, tmp_path) == uninterrupted


def test_ctrl_c_ends_the_epoch_and_saves(monkeypatch, tmp_path, uninterrupted):
    """The process gets the signal while its second epoch runs."""
    validate = "tracksets.fitting._Fit._validate"
    from tracksets.fitting import _Fit

    original = _Fit._validate
    validated = []

    def interrupt(self):
        validated.append(1)
        if len(validated) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self)

    monkeypatch.setattr(validate, interrupt)
    handler = signal.getsignal(signal.SIGINT)
    scorer = fit(
        TRAINING.model_copy(update={"checkpoint_minutes": 60}), checkpoints=tmp_path / "state"
    )
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(scorer.summary["history"]) == 2
    assert scorer.summary["stopped"] is True
    monkeypatch.undo()
    assert saved(fit(checkpoints=tmp_path / "state", resume=True), tmp_path) == uninterrupted


def test_the_last_good_state_is_kept_when_the_loss_is_not_finite(failing, monkeypatch, tmp_path):
    failing(6)
    with pytest.raises(RuntimeError):
        fit(checkpoints=tmp_path / "state")
    monkeypatch.undo()
    huge = TRAINING.model_copy(update={"learning_rate": 1e30, "schedule": "constant"})
    with pytest.raises(NonFiniteError):
        fit(huge, checkpoints=tmp_path / "huge")
    with Checkpoints(tmp_path / "huge", "", 0) as checkpoints:
        step = checkpoints._manager.latest_step()
        content = checkpoints._manager.restore(
            step, args=checkpoints._args.Composite(arrays=checkpoints._args.StandardRestore())
        )
    for array in content.arrays.values():
        assert np.isfinite(array).all()


def test_round_trip(tmp_path):
    arrays = {
        "a": [np.float32([[1e-45, -0.0], [3e38, 1]]), np.int32([-(2**31)])],
        "b": {"counter": np.asarray(7, np.int32), "empty": np.empty((0, 3), np.float32)},
    }
    progress = {"losses": [0.1, 1 / 3, float("inf")], "step": 2**40, "history": [{"epoch": 1.0}]}
    with Checkpoints(tmp_path, "x", 0) as checkpoints:
        assert checkpoints.restore(arrays) is None
        checkpoints.save({**arrays, "b": arrays["b"] | {"counter": np.asarray(6, np.int32)}}, {})
        checkpoints.save(arrays, progress)
        found, said = checkpoints.restore(arrays)
    assert said == progress
    for mine, theirs in zip([*found["a"], *found["b"].values()], [*arrays["a"], *arrays["b"].values()], strict=True):  # fmt: skip
        np.testing.assert_array_equal(mine, theirs, strict=True)
        assert np.signbit(mine).tolist() == np.signbit(theirs).tolist()
    assert len([each for each in tmp_path.iterdir() if each.is_dir()]) == 1


def test_when_it_is_due(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Checkpoints(tmp_path, "x", 2) as checkpoints:
        for seconds, due in ((100, False), (219, False), (220, True)):
            now[0] = seconds
            assert checkpoints.due == due
        checkpoints.save({"a": np.zeros(1)}, {})
        assert not checkpoints.due


@pytest.mark.parametrize(
    "options", [{"seed": 2}, {"epochs": 5}, {"schedule": "constant"}, {"block_tracks": 300}]
)
def test_that_of_another_training_is_refused(options, tmp_path, monkeypatch, failing):
    failing(1)
    with pytest.raises(RuntimeError):
        fit(checkpoints=tmp_path)
    monkeypatch.undo()
    with pytest.raises(FileError, match="another training.*Remove the folder"):
        fit(TRAINING.model_copy(update=options), checkpoints=tmp_path, resume=True)
    monkeypatch.setattr(sys.modules[__name__], "TARGETS", 1 - TARGETS)
    with pytest.raises(FileError, match="another training"):
        fit(checkpoints=tmp_path, resume=True)


def test_earlier_ones_are_not_overwritten(tmp_path):
    (tmp_path / "state" / "0").mkdir(parents=True)
    with pytest.raises(FileError, match=r"checkpoints of a training.*--resume.*--force"):
        fit(checkpoints=tmp_path / "state")
    discard(tmp_path / "state")
    refuse_earlier(tmp_path / "state")
    discard(tmp_path / "state")


def test_damaged(tmp_path, failing, monkeypatch):
    failing(3)
    with pytest.raises(RuntimeError):
        fit(checkpoints=tmp_path)
    monkeypatch.undo()
    [metadata] = tmp_path.glob("*/progress/metadata")
    metadata.write_text("{}")
    with pytest.raises(FileError, match="damaged"):
        fit(checkpoints=tmp_path, resume=True)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot write checkpoints"):
        fit(checkpoints=tmp_path / "file" / "state")


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_checkpoints
test_checkpoints.fit(
    checkpoints={folder!r}, resume=True
).save(Path({folder!r}).with_name("killed.safetensors"))
"""


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path, uninterrupted):
    folder = tmp_path / "state"
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(folder))
    moments, codes = random.Random(0), []
    for n in (1, 3, 6, 9):
        process = subprocess.Popen([sys.executable, "-c", script])
        while process.poll() is None:
            steps = [int(each.name) for each in folder.glob("[0-9]*") if each.name.isdigit()]
            if max(steps, default=-1) >= n:
                break
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        codes.append(process.wait())
    # On a busy machine a training may have ended before this process gets to kill it.
    assert -signal.SIGKILL in codes
    assert set(codes) <= {-signal.SIGKILL, 0}
    subprocess.run([sys.executable, "-c", script], check=True)
    assert (tmp_path / "killed.safetensors").read_bytes() == uninterrupted
