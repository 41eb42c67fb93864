"""One file in, one out: scores to the bit, each branch read once, bounded memory, selections."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from helpers import CLASSES, make_events, make_scorer
from rootfiles import TOY, scorer_for, write_toy

from tracksets import chunks
from tracksets.blocks import Shape
from tracksets.errors import ConfigError, FileError
from tracksets.inputs import Collection, Inputs
from tracksets.pipeline import Job, Labelled, label_file
from tracksets.reading import open_tree
from tracksets.trees import Tree

N = 1000
CHUNKS = (1, 7, 300, 50_000)


@pytest.fixture(scope="module")
def events() -> ak.Array:
    """Made-up events; the one with number 3 has NaN as its `PV_t`, which nothing else uses."""
    array = make_events(N)
    times = np.random.default_rng(2).normal(size=N).astype(np.float32)
    times[3] = np.nan
    return ak.with_field(array, times, "PV_t")


@pytest.fixture(scope="module")
def source(events, tmp_path_factory) -> Path:
    """Write a TTree with many small clusters."""
    path = tmp_path_factory.mktemp("pipeline") / "in.root"
    ids = {"run": np.full(N, 7, np.int32), "event": np.arange(N, dtype=np.uint64) + 2**40}
    columns = {**{name: events[name] for name in events.fields}, **ids}
    with uproot.recreate(path) as file:
        types = {
            name: ak.type(values[:1]).content if name not in ids else values.dtype
            for name, values in columns.items()
        }
        tree = file.mktree("Events", types)
        for start in range(0, N, 10):
            tree.extend({name: values[start : start + 10] for name, values in columns.items()})
    return path


def job(source: Path, output: Path, **options: Any) -> Job:
    blank = Job(str(source), output, None, "friend", None, None, False)
    return replace(blank, **options)


def done(scorers: Any, each: Job) -> Labelled:
    result = label_file(scorers, each)
    assert result.error is None, result.error
    return result


def friend(path: Path, name: str = "Events_score") -> ak.Array:
    with uproot.open(path) as file:
        return file[name].arrays()


def bits(scores: Any) -> list[int]:
    return np.asarray(scores, np.float32).view(np.uint32).tolist()


# Scores


def test_scores_do_not_depend_on_the_chunks(events, source, tmp_path, monkeypatch):
    """To the bit: the chunks change neither which events share a block nor their order."""
    scorer = make_scorer()
    expected = bits(scorer(events))
    ways: set[Any] = set()
    for size in CHUNKS:
        monkeypatch.setattr(Tree.chunks, "__defaults__", (size,))
        with open_tree(source) as tree:
            ways.add(tuple(tree.chunks([("PV_z",)])))
        result = done({"score": scorer}, job(source, tmp_path / f"{size}.root"))
        assert (result.events, result.selected) == (N, N)
        assert bits(friend(tmp_path / f"{size}.root").score) == expected
    assert len(ways) == len(CHUNKS)


def test_several_models_give_what_each_of_them_gives(source, tmp_path):
    """Models with blocks of other sizes and with several classes; the same bits as alone."""
    wide = make_scorer()
    scorers = {
        "a": replace(wide, shape=Shape({"Track": 700, "Jet": 300}, 150)),
        "b": make_scorer(CLASSES, 3),
        "c": make_scorer(seed=4),
    }
    done(scorers, job(source, tmp_path / "all.root"))
    together = friend(tmp_path / "all.root", "Events_a_b_c")
    names = ["run", "event", "a", "b_b", "b_c", "b_light", "c"]
    assert together.fields == names
    for name, scorer in scorers.items():
        done({name: scorer}, job(source, tmp_path / f"{name}.root"))
        alone = friend(tmp_path / f"{name}.root", f"Events_{name}")
        for field in alone.fields:
            assert together[field].to_list() == alone[field].to_list()


@pytest.mark.parametrize("select", [None, "PV_z > 0"])
def test_each_branch_is_read_once(source, tmp_path, monkeypatch, select):
    monkeypatch.setattr(Tree.chunks, "__defaults__", (300,))
    read, calls = Tree.read, []

    def count(tree, paths, start=0, stop=None):
        if tree.path == str(source) and stop != start:
            calls.append((tuple(paths), start, stop))
        return read(tree, paths, start, stop)

    monkeypatch.setattr(Tree, "read", count)
    fewer = Inputs(collections={"Track": Collection(features=["pt"])})
    done(
        {"a": make_scorer(), "b": make_scorer(seed=1), "c": scorer_for(fewer)},
        job(source, tmp_path / "out.root", select=select),
    )
    assert [(start, stop) for _, start, stop in calls] == [
        (0, 300),
        (300, 600),
        (600, 900),
        (900, N),
    ]
    wanted = {"Track_pt", "Track_eta", "Track_charge", "Jet_pt", "PV_z", "run", "event"}
    for paths, _, _ in calls:
        assert sorted(paths) == sorted((name,) for name in wanted)


# Selections

SELECTIONS = {
    "some": "PV_z > 0",
    "half of the chunks": "event % 600 < 300",
    "none": "PV_z > 1e9",
    "all": "PV_z < 1e9",
    "one": "event % 1000 == 999 - 1099511627776 % 1000",
    "a number": "PV_z > 0 ? 2.5 : 0",
    "NaN": "PV_t",
}


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("size", [300, 50_000])
def test_selections(events, source, tmp_path, monkeypatch, name, size):
    monkeypatch.setattr(Tree.chunks, "__defaults__", (size,))
    z, t, number = (np.asarray(events.PV_z), np.asarray(events.PV_t), np.arange(N) + 2**40)
    chosen = {
        "some": z > 0,
        "half of the chunks": number % 600 < 300,
        "none": np.zeros(N, bool),
        "all": np.ones(N, bool),
        "one": number % 1000 == 999 - 2**40 % 1000,
        "a number": z > 0,
        "NaN": ~np.isnan(t),
    }[name]
    scorer, text = make_scorer(), SELECTIONS[name]
    scores = np.asarray(scorer(events[chosen]))
    everyone = np.full(N, np.nan, np.float32)
    everyone[chosen] = scores
    for mode in ("branch", "append", "friend"):
        out = tmp_path / f"{mode}.root"
        result = done({"score": scorer}, job(source, out, mode=mode, select=text))
        assert (result.events, result.selected) == (N, chosen.sum())
        if mode == "friend":
            rows = friend(out)
            assert rows.fields == ["run", "event", "entry", "score"]
            assert rows.entry.to_list() == np.flatnonzero(chosen).tolist()
            assert rows.event.to_list() == number[chosen].tolist()
            assert set(rows.run.to_list()) <= {7}
            assert bits(rows.score) == bits(scores)
        else:
            back = friend(out, "Events" if mode == "branch" else "Events_score")
            assert bits(back.score) == bits(everyone)


def test_only_chosen_events_must_be_fit_to_be_scored(events, tmp_path):
    """What cannot be scored, like the logarithm of 0, can be left out."""
    bad = ak.with_field(
        events, ak.where(events.PV_z > 0, events.Track_pt, 0 * events.Track_pt), "Track_pt"
    )
    source = tmp_path / "in.root"
    with uproot.recreate(source) as file:
        columns = {name: bad[name] for name in bad.fields}
        file.mktree("Events", {k: ak.type(v[:1]).content for k, v in columns.items()}).extend(
            columns
        )
    inputs = Inputs(collections={"Track": Collection(features=["log(pt)"])})
    scorers = {"score": scorer_for(inputs)}
    failed = label_file(scorers, job(source, tmp_path / "no.root"))
    assert "is NaN or infinite" in failed.error or "infinite" in failed.error
    result = done(scorers, job(source, tmp_path / "out.root", select="PV_z > 0"))
    assert result.selected == int((events.PV_z > 0).to_numpy().sum())


def test_a_selection_that_cannot_be_one(source, tmp_path):
    for text, message in {"Track_pt > 1": "one per event is needed", "PV_x": "'PV_x'"}.items():
        result = label_file(
            {"score": make_scorer()}, job(source, tmp_path / "out.root", select=text)
        )
        assert message in result.error
    assert not list(tmp_path.iterdir())


def test_no_events_at_all(tmp_path):
    source = write_toy(tmp_path / "in.root", 0)
    for select in (None, "event > 3"):
        out = tmp_path / f"{select}.root"
        result = done({"a": scorer_for(TOY)}, job(source, out, select=select))
        assert (result.events, result.selected) == (0, 0)
        names = ["event", "a"] if select is None else ["event", "entry", "a"]
        assert friend(out, "Events_a").fields == names


# What else goes into a friend, and errors


def test_names_that_are_taken(source, tmp_path):
    result = label_file({"event": make_scorer()}, job(source, tmp_path / "out.root"))
    assert "'event' as an identifier" in result.error
    result = label_file(
        {"entry": make_scorer()}, job(source, tmp_path / "out.root", select="PV_z > 0")
    )
    assert "'entry' as an identifier" in result.error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileError("as it is"), "as it is"),
        (MemoryError("no room"), "MemoryError: no room"),
        (ConfigError("this"), "this"),
    ],
)
def test_any_error_is_returned(source, tmp_path, monkeypatch, error, said):
    def fail(*_):
        raise error

    monkeypatch.setattr(chunks, "_read", fail)
    result = label_file({"score": make_scorer()}, job(source, tmp_path / "out.root"))
    assert said in result.error
    assert result.seconds > 0
    assert not list(tmp_path.iterdir())
