"""Trainings on files with more inputs than memory_gb, against the same ones in memory."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tracksets as ts
from tracksets.checkpoints import Checkpoints
from tracksets.config import check_config, read_config
from tracksets.datasets import read_dataset
from tracksets.errors import FileError
from tracksets.evaluation import evaluate
from tracksets.stores import InMemory
from tracksets.streaming import Spooled
from tracksets.trees import Tree

WHOLE = 1.0
HALF = 3e-4
"""Gigabytes: the sample data take 0.7 MB, and come in five pools or so."""
CONFIG = """
[data]
tree = "Events"
weight = "genWeight"
balance = true
[data.classes.background]
files = ["background.root"]
[data.classes.signal]
files = ["signal.root"]
[inputs]
event = ["PV_z"]
[inputs.collections.Track]
features = ["log(pt)", "eta"]
[model]
phi = [8]
rho = [8]
[training]
epochs = 2
block_tracks = 8192
learning_rate = 5e-3
checkpoint_minutes = 0
"""


def config(folder, memory_gb, text=CONFIG):
    path = Path(folder) / "train.toml"
    path.write_text(text + f"memory_gb = {memory_gb}\n")
    return path


@pytest.fixture
def folder(tmp_path, sample_data):
    for name in ("signal", "background"):
        shutil.copy(sample_data / f"{name}.root", tmp_path)
    return tmp_path


def dataset(folder, memory, **changes):
    content = {
        "data": {
            "tree": "Events",
            "weight": "genWeight",
            "classes": {"b": {"files": ["background.root"]}, "s": {"files": ["signal.root"]}},
            **changes,
        },
        "inputs": {"collections": {"Track": {"features": ["pt"]}}, "event": ["PV_z"]},
        "folder": str(folder),
    }
    checked = check_config(content)
    return read_dataset(checked, checked.inputs, memory=memory)


def same_training(one, two):
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, two.arrays[name])
    assert one.summary["history"] == two.summary["history"]


def test_all_that_is_known_of_the_events_is_the_same(folder):
    memory = dataset(folder, None)
    with dataset(folder, 100_000) as files:
        assert isinstance(memory.store, InMemory)
        assert isinstance(files.store, Spooled)
        for name in ("targets", "weights"):
            np.testing.assert_array_equal(getattr(files, name), getattr(memory, name), strict=True)
        np.testing.assert_array_equal(files.inputs.tracks["Track"], memory.inputs.tracks["Track"])
        np.testing.assert_array_equal(files.inputs.event, memory.inputs.event)
        classes = [
            np.mean(files.targets[order])
            for order in files.store.orders(np.arange(len(files.targets)), np.random.default_rng(0))
        ]
    assert len(classes) > 5
    np.testing.assert_allclose(classes, np.mean(memory.targets), atol=0.1)


def test_the_same_model_as_in_memory_where_the_training_events_fit(folder):
    """Those of the validation, a fifth, do not."""
    content = read_config(config(folder, WHOLE))
    size = int(read_dataset(content, content.inputs).store.sizes(slice(None)).sum())
    expected = ts.train(config(folder, WHOLE), progress=False)
    made = []
    original = Spooled.orders

    def orders(self, *arguments):
        found = list(original(self, *arguments))
        made.append(len(found))
        return iter(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Spooled, "orders", orders)
        same_training(ts.train(config(folder, 0.9 * size / 1e9), progress=False), expected)
    assert made == [1, 1]


def test_two_runs_give_one_file_with_any_number_of_threads(folder, monkeypatch):
    found = set()
    for readers in (1, 4):
        monkeypatch.setattr("tracksets.streaming.READERS", readers)
        ts.train(config(folder, HALF), progress=False).save(folder / f"{readers}.safetensors")
        found.add((folder / f"{readers}.safetensors").read_bytes())
    assert len(found) == 1


def test_files_are_read_once_whatever_the_number_of_epochs(folder, monkeypatch):
    read = []
    original = Tree.read
    monkeypatch.setattr(
        Tree, "read", lambda self, *what: read.append((self.path, *what)) or original(self, *what)
    )
    ts.train(config(folder, HALF), progress=False)
    assert sorted({path for path, *_ in read}) == [
        str(folder / "background.root"),
        str(folder / "signal.root"),
    ]
    assert len(read) == 2
    assert {path[-1] for _, paths, *_ in read for path in paths} == {
        *("Track_pt", "Track_eta", "PV_z", "genWeight")
    }


@pytest.mark.parametrize("n", [1, 8, 13])
def test_going_on_is_like_no_interruption(folder, n, failing, monkeypatch):
    expected = ts.train(config(folder, HALF), progress=False)
    failing(n)
    with pytest.raises(RuntimeError, match="power cut"):
        ts.train(config(folder, HALF), progress=False, checkpoints=folder / "state")
    monkeypatch.undo()
    state = {"progress": False, "checkpoints": folder / "state", "resume": True}
    same_training(ts.train(config(folder, HALF), **state), expected)


@pytest.mark.slow
def test_killed_at_any_moment(folder):
    def command(output):
        program = [sys.executable, "-m", "tracksets", "train", config(folder, HALF), "-q"]
        return [*program, "-o", folder / f"{output}.safetensors"]

    subprocess.run(command("whole"), check=True)
    state = folder / "killed.safetensors.checkpoints"
    moments, codes = random.Random(0), []
    for n in (1, 8, 13):
        process = subprocess.Popen([*command("killed"), "--resume"])
        while process.poll() is None:
            steps = [int(each.name) for each in state.glob("[0-9]*") if each.name.isdigit()]
            if max(steps, default=-1) >= n:
                break
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        codes.append(process.wait())
    # On a busy machine a training may have ended before this process gets to kill it.
    assert -signal.SIGKILL in codes
    assert set(codes) <= {-signal.SIGKILL, 0}
    subprocess.run([*command("killed"), "--resume"], check=True)
    one, two = (folder / f"{name}.safetensors" for name in ("whole", "killed"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("how", ["written to", "replaced", "removed"])
def test_a_file_that_changes_while_it_is_read(folder, how, monkeypatch):
    original = Tree.read

    def read(self, *arguments):
        events = original(self, *arguments)
        path = Path(self.path)
        if how == "written to":
            os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
        else:
            path.unlink()
        if how == "replaced":
            shutil.copy(folder / "signal.root", path)
        return events

    monkeypatch.setattr(Tree, "read", read)
    with pytest.raises(FileError, match=r"background.root changed while it was read"):
        dataset(folder, None)


def test_a_file_that_changes_between_two_classes(folder, monkeypatch):
    """Each class reads it as a whole, but not the same."""
    classes = {"b": {"where": "nTrack < 60"}, "s": {"where": "nTrack >= 60"}}
    changes = {"files": ["signal.root"], "classes": classes}
    dataset(folder, None, **changes)
    original = read_dataset.__globals__["open_tree"]

    def open_tree(name, tree):
        shutil.copyfile(folder / "signal.root", folder / "copy.root")
        (folder / "copy.root").replace(folder / "signal.root")
        return original(name, tree)

    monkeypatch.setattr("tracksets.datasets.open_tree", open_tree)
    with pytest.raises(FileError, match=r"signal.root changed while it was read"):
        dataset(folder, None, **changes)


def test_evaluation(folder, tmp_path):
    scorer = ts.train(config(folder, WHOLE), progress=False)
    for memory in (WHOLE, HALF):
        evaluate(scorer, config(folder, memory), tmp_path / str(memory))
    one, two = (
        json.loads((tmp_path / str(memory) / "figures.json").read_text())
        for memory in (WHOLE, HALF)
    )
    assert one == two


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_is_left_of_a_training_that_fails(folder, error, monkeypatch):
    closed = []
    original = Spooled.close
    monkeypatch.setattr(Spooled, "close", lambda self: original(self) or closed.append(self))

    def fail(self, *_):
        raise error

    monkeypatch.setattr(Checkpoints, "save", fail)
    with pytest.raises(error):
        ts.train(config(folder, HALF), progress=False, checkpoints=folder / "state")
    [store] = closed
    assert all(file.closed for file in store.spool._files.values())
    with pytest.raises(RuntimeError, match="shutdown"):
        store._threads.submit(print)
