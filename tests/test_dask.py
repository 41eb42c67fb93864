"""Files and lazy arrays on Dask: equal to plain scores, and the model is sent to a worker once."""

import os
import re
import runpy
from collections import Counter
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from helpers import CLASSES, together
from rootfiles import SAMPLE, TOY, scorer_for, write_toy

from tracksets.errors import ConfigError, DataError, FileError, ModelError
from tracksets.folds import Folds
from tracksets.integrations.dask import score_files
from tracksets.scorer import Scorer

dask = pytest.importorskip("dask", reason="dask is not installed")
REPOSITORY = Path(__file__).parents[1]
SCORER = scorer_for(SAMPLE)
FOLDS = together(
    [scorer_for(SAMPLE, seed=seed) for seed in range(4)],
    Folds(expression="event % 2", values=(0, 1)),
)
READ = {"Track_pt", "Track_eta", "Track_d0", "Track_d0_err", "PV_z"}


class Counted(Scorer):
    """A scorer that writes down where it is unpickled; `summary` says into which file."""

    def __setstate__(self, state):
        self.__dict__.update(state)
        with Path(self.summary["log"]).open("a") as file:
            file.write(f"{os.getpid()}\n")


def counted(scorer, log):
    parts = {name: getattr(scorer, name) for name in scorer.__dataclass_fields__}
    return Counted(**{**parts, "summary": {"log": str(log)}})


@pytest.fixture(scope="module")
def plain(sample_data):
    with uproot.open(f"{sample_data}/events.root:Events") as tree:
        return tree.arrays()


@pytest.fixture(scope="module")
def dak():
    """Return dask-awkward, or skip the test where it is missing or cannot work."""
    module = pytest.importorskip("dask_awkward", reason="dask-awkward is not installed")
    if tuple(map(int, dask.__version__.split(".")[:2])) >= (2025, 4):
        pytest.skip(f"dask-awkward needs dask < 2025.4, and there is {dask.__version__}")
    return module


@pytest.mark.parametrize("steps", [1, 4])
def test_files(sample_data, plain, steps):
    name = str(sample_data / "events.root")
    lazy = score_files(SCORER, name, columns=["event", "log1p(nTrack)"], steps_per_file=steps)
    [scores] = dask.compute(lazy)[0].values()
    assert str(scores.type).startswith("1500 * {score: float32, event: int64")
    np.testing.assert_array_equal(scores.score, SCORER(plain))
    assert scores.event.to_list() == plain.event.to_list()
    np.testing.assert_allclose(scores["log1p(nTrack)"], np.log1p(plain.nTrack))


def test_files_with_folds(sample_data, plain):
    name = str(sample_data / "events.root")
    lazy = score_files(FOLDS, name, columns=["event"], steps_per_file=3, spread=True)
    [scores] = dask.compute(lazy)[0].values()
    assert scores.fields == ["score", "spread", "event"]
    assert ak.array_equal(scores[["score", "spread"]], FOLDS(plain, spread=True))
    with pytest.raises(ModelError, match="a single one"):
        score_files(SCORER, name, spread=True)
    with pytest.raises(ConfigError, match="cannot be called 'spread'"):
        score_files(FOLDS, name, columns=["spread"])


def test_several_scores_and_few_events(tmp_path):
    scorer = scorer_for(TOY, CLASSES)
    files = [write_toy(tmp_path / f"{n}.root", n) for n in (0, 1, 5)]
    [scores] = dask.compute(score_files(scorer, files, columns=["event"], steps_per_file=3))
    assert [len(each) for each in scores.values()] == [0, 1, 5]
    for path, each in scores.items():
        expected = scorer(uproot.open(f"{path}:Events").arrays())
        assert each.score.fields == ["b", "c", "light"]
        assert ak.array_equal(each.score, expected)


def test_tasks_have_the_same_names_again(sample_data):
    keys = [
        [each.key for each in score_files(scorer, sample_data / "*.root").values()]
        for scorer in (SCORER, scorer_for(SAMPLE), scorer_for(SAMPLE, seed=1))
    ]
    assert keys[0] == keys[1]
    assert not set(keys[0]) & set(keys[2])


@pytest.mark.slow
def test_cluster(client, sample_data, plain, tmp_path):
    log = tmp_path / "log"
    scorer = counted(SCORER, log)
    lazy = score_files(scorer, sample_data / "*.root", steps_per_file=6)
    scores = dask.compute(lazy)[0][str(sample_data / "events.root")]
    np.testing.assert_array_equal(scores.score, SCORER(plain))
    loads = Counter(log.read_text().split())
    workers = {str(each) for each in client.run(os.getpid).values()}
    assert {loads[worker] for worker in workers} <= {0, 1}
    assert set(loads) <= workers | {str(os.getpid())}  # the scheduler is in this process


def dies_at_first(events, mark):
    """Kill the worker, the first time that it is called."""
    if not mark.exists():
        mark.touch()
        os._exit(1)
    return events


@pytest.mark.slow
def test_a_worker_dies(client, sample_data, plain, tmp_path):
    [lazy] = score_files(SCORER, sample_data / "events.root").values()
    survived = dask.delayed(dies_at_first)(lazy, tmp_path / "mark").compute()
    assert (tmp_path / "mark").exists()
    np.testing.assert_array_equal(survived.score, SCORER(plain))


def test_errors(sample_data, tmp_path):
    with pytest.raises(FileError, match=r"no_such\.root"):
        score_files(SCORER, tmp_path / "no_such.root")
    with pytest.raises(ConfigError, match="in 0 steps; ask for 1 or more"):
        score_files(SCORER, sample_data / "*.root", steps_per_file=0)
    with pytest.raises(ConfigError, match="cannot be called 'score'"):
        score_files(SCORER, sample_data / "*.root", columns=["score"])
    toy = write_toy(tmp_path / "toy.root")
    with pytest.raises(FileError, match=r"Track_eta.*toy\.root"):
        dask.compute(score_files(SCORER, toy))
    with pytest.raises(FileError, match=r"Event.*did you mean 'event'"):
        dask.compute(score_files(scorer_for(TOY), toy, columns=["eventt"]))


def test_documented_files(sample_data, tmp_path, monkeypatch, capsys):
    text = (REPOSITORY / "docs" / "dask.md").read_text(encoding="utf-8")
    [code] = re.findall(r"^```python\n(import dask\n.*?)^```", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "recipe.py").write_text(code)
    monkeypatch.chdir(sample_data.parent)
    runpy.run_path(str(tmp_path / "recipe.py"), {"scorer": SCORER})
    assert "sample_data/events.root 1500" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["one", "classes"])
def test_lazy_array(dak, sample_data, plain, task):
    scorer = SCORER if task == "one" else scorer_for(SAMPLE, CLASSES)
    events = uproot.dask({f"{sample_data}/events.root": "Events"}, steps_per_file=5)
    lazy = scorer(events)
    assert isinstance(lazy, dak.Array)
    assert lazy.npartitions == 5
    assert str(lazy.type).removeprefix("?? * ") == str(scorer(plain).type).removeprefix("1500 * ")
    [columns] = dak.necessary_columns(lazy).values()
    assert columns == READ
    assert ak.array_equal(lazy.compute(), scorer(plain))


def test_lazy_array_with_folds(dak, sample_data, plain):
    events = uproot.dask({f"{sample_data}/events.root": "Events"}, steps_per_file=5)
    lazy = FOLDS(events, spread=True)
    [columns] = dak.necessary_columns(lazy).values()
    assert columns == READ | {"event"}
    assert ak.array_equal(lazy.compute(), FOLDS(plain, spread=True))


def test_lazy_field(dak, sample_data, plain):
    events = uproot.dask({f"{sample_data}/events.root": "Events"}, steps_per_file=5)
    events["score"] = SCORER(events)
    cut = float(np.median(SCORER(plain)))
    chosen = events[events.score > cut].genWeight
    [columns] = dak.necessary_columns(chosen).values()
    assert columns == READ | {"genWeight"}
    expected = plain.genWeight[SCORER(plain) > cut]
    assert 0 < len(expected) < len(plain)
    assert ak.array_equal(chosen.compute(), expected)


def read_nothing(*_):
    raise AssertionError("a partition was read while the graph was built")


def test_lazy_arrays_read_nothing_while_the_graph_is_built(dak, plain):
    meta = ak.Array(ak.to_layout(plain).to_typetracer(forget_length=True))
    lazy = SCORER(dak.from_map(read_nothing, range(3), meta=meta, label="never"))
    assert str(lazy.type) == "?? * float32"
    with pytest.raises(AssertionError, match="was read"):
        lazy.compute()


def test_lazy_array_without_a_branch(dak, plain):
    with pytest.raises(DataError, match="'PV_z'"):
        SCORER(dak.from_awkward(plain[["Track_pt", "Track_eta", "Track_d0", "Track_d0_err"]], 2))


@pytest.mark.slow
def test_lazy_array_on_a_cluster(dak, client, sample_data, plain, tmp_path):
    scorer = counted(SCORER, tmp_path / "log")
    events = uproot.dask({f"{sample_data}/events.root": "Events"}, steps_per_file=6)
    assert ak.array_equal(scorer(events).compute(), SCORER(plain))
    loads = Counter((tmp_path / "log").read_text().split())
    workers = client.run(os.getpid).values()
    assert {loads[str(worker)] for worker in workers} <= {0, 1}
