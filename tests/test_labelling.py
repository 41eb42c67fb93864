import errno
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from helpers import BINARY, CLASSES, together
from rootfiles import (
    MODES,
    SAMPLE,
    TOY,
    RootReader,
    by_rdataframe,
    changed_baskets,
    checksum,
    different_branches,
    no_partial_files,
    same_values,
    scorer_for,
    toy_events,
    write_rntuple,
    write_toy,
)

from tracksets import labelling, pyroot, writing
from tracksets.chunks import scored_chunks
from tracksets.errors import ConfigError, FileError, ModelError
from tracksets.folds import Folds
from tracksets.inputs import Collection, Inputs
from tracksets.labelling import LabellingError, Report, label
from tracksets.reading import Tree, open_tree, provenances
from tracksets.scorer import Scorer
from tracksets.targets import Task


def run(model, files, output, mode="branch", **options) -> Report:
    return label(model, files, output, mode=mode, progress=False, **options)


def scores_of(path: Path, mode: str, tree: str = "Events", field: str = "score") -> ak.Array:
    with uproot.open(path) as file:
        return file[tree if mode == "branch" else f"{tree}_score"][field].array()


@pytest.fixture(scope="module")
def toy_scorer() -> Scorer:
    return scorer_for(TOY)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return [write_toy(folder / f"{i}.root", 10 + i, seed=i) for i in range(4)]


@pytest.fixture(params=["ROOT", "uproot"])
def writer(request, monkeypatch) -> str:
    if request.param == "ROOT":
        request.getfixturevalue("root")
    else:
        monkeypatch.setattr(writing, "has_root", lambda: False)
    return request.param


# One file


@pytest.mark.parametrize("chunk", [300, 50_000])
@pytest.mark.parametrize("mode", MODES)
def test_one_score_per_event_in_the_order_of_the_input(
    sample_data, tmp_path, monkeypatch, writer, mode, chunk
):
    if mode != "branch" and writer == "uproot":
        pytest.skip("these modes never use ROOT")
    monkeypatch.setattr(Tree.chunks, "__defaults__", (chunk,))
    source, scorer = sample_data / "events.root", scorer_for(SAMPLE)
    before = checksum(source)
    with uproot.open(source) as file:
        events = file["Events"].arrays()
    report = run(scorer, source, tmp_path, mode)
    assert report.outputs == [tmp_path / "events.root"]
    assert (report.events, report.failures) == (1500, [])
    assert checksum(source) == before
    expected = scorer(events)
    scores = scores_of(report.outputs[0], mode)
    assert scores.type == ak.types.ArrayType(ak.types.NumpyType("float32"), 1500)
    assert np.allclose(scores, expected, rtol=1e-6, atol=1e-7)
    assert len(np.unique(scores)) > 1000
    empty = np.asarray(events.nTrack) == 0
    assert empty.any()
    assert np.isfinite(np.asarray(scores)[empty]).all()
    with uproot.open(source) as old, uproot.open(report.outputs[0]) as new:
        if mode == "friend":
            assert set(new.keys(cycle=False)) == {"Events_score", "tracksets_score"}
            names = ["run", "luminosityBlock", "event"]
            assert new["Events_score"].keys() == [*names, "score"]
            for name in names:
                assert new["Events_score"][name].typename == old["Events"][name].typename
                assert same_values(new["Events_score"][name].array(), events[name])
            assert ak.min(new["Events_score"]["event"].array()) > 2**32
        else:
            assert different_branches(old["Events"], new["Events"]) == []


@pytest.mark.parametrize("mode", MODES)
def test_several_classes(tmp_path, writer, mode):
    task = Task(kind="classes", names=("b", "c", "u/d s"))
    source, scorer = write_toy(tmp_path / "in.root"), scorer_for(TOY, task)
    expected = scorer(toy_events(20))
    run(scorer, source, tmp_path / mode, mode)
    for name, field in (("b", "score_b"), ("c", "score_c"), ("u/d s", "score_u_d_s")):
        scores = scores_of(tmp_path / mode / "in.root", mode, field=field)
        assert np.allclose(scores, expected[name], rtol=1e-6)


def folds_for(inputs: Inputs, task: Task = BINARY, text: str = "event % 3") -> Scorer:
    members = [scorer_for(inputs, task, seed=seed) for seed in range(6)]
    return together(members, Folds(expression=text, values=(0, 1, 2)))


@pytest.mark.parametrize("chunk", [300, 50_000])
@pytest.mark.parametrize("mode", MODES)
def test_folds_and_spread(sample_data, tmp_path, monkeypatch, mode, chunk):
    """Whatever the chunks, the same bits as those of all events at once."""
    monkeypatch.setattr(Tree.chunks, "__defaults__", (chunk,))
    source = sample_data / "events.root"
    with uproot.open(source) as file:
        events = file["Events"].arrays()
    scorer = folds_for(SAMPLE, text="event % 7 == 0 ? -1 : event % 3")
    expected = scorer(events, spread=True)
    members = scorer.members
    seen = ak.to_numpy(events.event) % 7 != 0
    first = seen & (ak.to_numpy(events.event) % 3 == 1)
    np.testing.assert_allclose(
        expected.score[first], np.mean([each(events[first]) for each in members[2:4]], axis=0), 1e-6
    )
    run(scorer, source, tmp_path, mode, spread=True)
    for field in ("score", "spread"):
        name = field if field == "score" else "score_spread"
        found = scores_of(tmp_path / "events.root", mode, field=name)
        np.testing.assert_array_equal(found, expected[field])


def test_spread_of_classes_and_of_selected_events(tmp_path):
    source, scorer = write_toy(tmp_path / "in.root"), folds_for(TOY, CLASSES)
    events = toy_events(20)
    expected = scorer(events, spread=True)
    run(scorer, source, tmp_path / "out", format="parquet", select="event % 2 == 0", spread=True)
    found = ak.from_parquet(tmp_path / "out" / "in.parquet")
    chosen = ak.to_numpy(events.event) % 2 == 0
    for name in CLASSES.names:
        for what, branch in (("score", f"score_{name}"), ("spread", f"score_{name}_spread")):
            np.testing.assert_array_equal(found[branch][chosen], expected[what][name][chosen])
            assert np.isnan(ak.to_numpy(found[branch])[~chosen]).all()


def test_spread_refused(tmp_path, toy_scorer, inputs):
    with pytest.raises(ModelError, match="this is a single one"):
        run({"b": folds_for(TOY), "c": toy_scorer}, inputs, tmp_path / "out", spread=True)
    clash = Task(kind="classes", names=("b", "b_spread", "c"))
    with pytest.raises(ConfigError, match="branches of the same name"):
        run(folds_for(TOY, clash), inputs, tmp_path / "out", spread=True)
    assert not (tmp_path / "out").exists()


def test_a_file_without_the_branch_of_the_folds(tmp_path, inputs):
    with pytest.raises(LabellingError, match=r"event-level 'evnt % 3'.*did you mean 'event'"):
        run(folds_for(TOY, text="evnt % 3"), inputs[0], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_spread_is_written_when_it_is_asked_for_later(tmp_path, inputs):
    scorer = folds_for(TOY)
    run(scorer, inputs[0], tmp_path, "friend")
    assert run(scorer, inputs[0], tmp_path, "friend").skipped
    report = run(scorer, inputs[0], tmp_path, "friend", spread=True)
    assert report.skipped == []
    assert len(scores_of(report.outputs[0], "friend", field="score_spread")) == 10
    [note] = provenances(report.outputs[0])
    assert note.config["folds"] == {"expression": "event % 3", "values": [0, 1, 2]}


def test_classes_that_would_share_a_branch(tmp_path):
    task = Task(kind="classes", names=("b", "a+", "a-"))
    with pytest.raises(ConfigError, match="branches of the same name"):
        run(scorer_for(TOY, task), write_toy(tmp_path / "in.root"), tmp_path / "out")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", [None, CLASSES])
def test_no_events(tmp_path, writer, mode, task):
    source = write_toy(tmp_path / "in.root", 0)
    scorer = scorer_for(TOY, task) if task else scorer_for(TOY)
    report = run(scorer, source, tmp_path / "out", mode)
    assert report.events == 0
    for field in ("score_b", "score_c", "score_light") if task else ("score",):
        scores = scores_of(report.outputs[0], mode, field=field)
        assert scores.type == ak.types.ArrayType(ak.types.NumpyType("float32"), 0)
    if mode == "friend":
        with uproot.open(report.outputs[0]) as file:
            assert file["Events_score"]["event"].typename == "uint64_t"


@pytest.mark.parametrize("mode", MODES)
def test_rntuple(tmp_path, toy_scorer, mode):
    source = write_rntuple(tmp_path / "in.root")
    run(toy_scorer, source, tmp_path / "out", mode)
    scores = scores_of(tmp_path / "out" / "in.root", mode)
    assert np.allclose(scores, toy_scorer(toy_events(20)), rtol=1e-6)
    with uproot.open(tmp_path / "out" / "in.root") as file:
        kinds = {kind for key, kind in file.classnames().items() if key.startswith("Events")}
        assert kinds == {"ROOT::RNTuple"}


def test_trees_in_folders(tmp_path, toy_scorer):
    source = write_toy(tmp_path / "in.root", name="dir/Events")
    expected = toy_scorer(toy_events(20))
    for mode, name in (("append", "dir/Events"), ("friend", "Events"), ("branch", "dir/Events")):
        run(toy_scorer, f"{source}:dir/Events", tmp_path / mode, mode)
        scores = scores_of(tmp_path / mode / "in.root", mode, name)
        assert np.allclose(scores, expected, rtol=1e-6)


def test_which_tree(tmp_path, toy_scorer):
    source = tmp_path / "in.root"
    events = toy_events(20)
    with uproot.recreate(source) as file:
        for name in ("A", "B"):
            types = {"Track": ak.type(events.Track).content}
            file.mktree(name, types).extend(
                {"Track": events.Track[:10] if name == "A" else events.Track}
            )
    with pytest.raises(LabellingError, match="has 2 trees; say which one"):
        run(toy_scorer, source, tmp_path / "0")
    assert run(toy_scorer, source, tmp_path / "1", tree="A").events == 10
    assert run(toy_scorer, f"{source}:B", tmp_path / "2").events == 20


def test_an_event_branch_that_is_no_identifier(tmp_path, toy_scorer):
    """`run` a fraction and `event` a list: neither says which event it is."""
    events = toy_events(5)
    lists = ak.Array([[1], [], [2, 3], [], [4]])
    with uproot.recreate(tmp_path / "in.root") as file:
        types = {
            "Track": ak.type(events.Track).content,
            "run": np.dtype("f4"),
            "event": "var * int32",
        }
        file.mktree("Events", types).extend(
            {"Track": events.Track, "run": np.ones(5), "event": lists}
        )
    run(toy_scorer, tmp_path / "in.root", tmp_path / "out", "friend")
    with uproot.open(tmp_path / "out" / "in.root") as file:
        assert file["Events_score"].keys() == ["score"]


def test_field(tmp_path, toy_scorer, inputs):
    run(toy_scorer, inputs[0], tmp_path / "b", field="b_score")
    run(toy_scorer, inputs[0], tmp_path / "a", "append", field="b_score")
    with uproot.open(tmp_path / "b" / "0.root") as b, uproot.open(tmp_path / "a" / "0.root") as a:
        assert "b_score" in b["Events"]
        assert a["Events_b_score"].keys() == ["b_score"]
    for wrong in ("", "1st", "a b", "a/F", "scoré", "a.b"):
        with pytest.raises(ConfigError, match="cannot be the name of a branch"):
            run(toy_scorer, inputs[0], tmp_path / "c", field=wrong)
    with pytest.raises(LabellingError, match="'event' as an identifier"):
        run(toy_scorer, inputs[0], tmp_path / "d", "friend", field="event")


# What is refused before anything is written


def test_refused_at_once(tmp_path, toy_scorer, inputs):
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="no mode 'frend': did you mean 'friend'"):
        run(toy_scorer, inputs, out, "frend")
    with pytest.raises(ModelError):
        run(tmp_path / "no.safetensors", inputs, out)
    with pytest.raises(FileError, match="no file"):
        run(toy_scorer, [*inputs, tmp_path / "no.root"], out)
    with pytest.raises(FileError, match="list of files is empty"):
        run(toy_scorer, [], out)
    (tmp_path / "0.root").write_bytes(inputs[0].read_bytes())
    with pytest.raises(FileError, match=r"0\.root and .*0\.root would both become .*0\.root"):
        run(toy_scorer, [*inputs, tmp_path / "0.root"], out)
    assert not out.exists()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
def test_the_output_is_the_input(tmp_path, toy_scorer, inputs, force, link):
    folder = tmp_path / "in"
    folder.mkdir()
    source = Path(shutil.copy(inputs[1], folder))
    if link:
        folder = tmp_path / "out"
        folder.mkdir()
        getattr(folder / "1.root", link)(source)
    before = checksum(source)
    with pytest.raises(FileError, match="is the input itself"):
        run(toy_scorer, [inputs[0], source], folder, force=force)
    assert checksum(source) == before
    assert not (folder / "0.root").exists()


def test_existing_outputs(tmp_path, toy_scorer, inputs):
    """What tracksets has not made from this input is not touched."""
    (tmp_path / "1.root").write_text("old")
    with pytest.raises(LabellingError, match=r"1\.root exists already.*--force") as caught:
        run(toy_scorer, inputs[:2], tmp_path)
    assert caught.value.report.outputs == [tmp_path / "0.root"]
    assert (tmp_path / "1.root").read_text() == "old"
    assert run(toy_scorer, inputs[:2], tmp_path, force=True).events == 21
    assert no_partial_files(tmp_path)
    assert len(scores_of(tmp_path / "1.root", "branch")) == 11


# What fails while it is written


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_a_file_that_fails_does_not_take_the_others(tmp_path, toy_scorer, inputs, mode, workers):
    if workers == 2 and mode != "branch":
        pytest.skip("as with the other mode")
    bad = tmp_path / "bad.root"
    bad.write_bytes(inputs[2].read_bytes()[:700])
    other = tmp_path / "other.root"
    with uproot.recreate(other) as file:
        file.mktree("Events", {"Track_ptt": "f4"}).extend({"Track_ptt": np.ones(3)})
    out = tmp_path / "out"
    with pytest.raises(LabellingError, match="2 of 4 files could not be labelled") as caught:
        run(toy_scorer, [inputs[0], bad, other, inputs[1]], out, mode, workers=workers)
    report = caught.value.report
    assert [Path(each.source) for each in report.files] == [inputs[0], bad, other, inputs[1]]
    assert [each.source for each in report.failures] == [str(bad), str(other)]
    assert report.outputs == [out / "0.root", out / "1.root"]
    assert report.events == 21
    assert "truncated" in report.failures[0].error
    assert "other.root: did you mean 'Track_ptt'" in report.failures[1].error
    assert str(bad) in str(caught.value)
    assert sorted(each.name for each in out.iterdir()) == ["0.root", "1.root"]
    assert no_partial_files(out)


STAGES = {
    "scoring": (Scorer, "stream"),
    "reading": (Tree, "read"),
    "copying": (writing, "_copy"),
    "writing by uproot": (uproot.WritableDirectory, "mktree"),
    "reading back": (writing, "_verify"),
    "to disk": (os, "fsync"),
    "moving": (Path, "replace"),
}
ERRORS = {
    "interrupt": KeyboardInterrupt(),
    "disk": OSError(errno.ENOSPC, "No space left on device"),
    "bug": RuntimeError("unexpected"),
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("stage", STAGES)
def test_nothing_incomplete_is_left(tmp_path, toy_scorer, inputs, monkeypatch, stage, error):
    home, name = STAGES[stage]
    original, calls = getattr(home, name), []

    def fail_for_the_second_file(*args, **options):
        calls.append(1)
        if (tmp_path / "0.root").exists():  # the first one is done
            raise ERRORS[error]
        return original(*args, **options)

    monkeypatch.setattr(home, name, fail_for_the_second_file)
    expected = KeyboardInterrupt if error == "interrupt" else LabellingError
    with pytest.raises(expected) as caught:
        run(toy_scorer, inputs[:2], tmp_path, "append")
    assert len(calls) > 1
    assert [each.name for each in tmp_path.iterdir()] == ["0.root"]
    assert no_partial_files(tmp_path)
    if error != "interrupt":
        assert ("No space left" if error == "disk" else "unexpected") in str(caught.value)


def test_root_fails_half_way(root, tmp_path, toy_scorer, inputs, monkeypatch):
    class Broken:
        def __getattr__(self, name):
            return getattr(root, name)

        class tracksets:  # a namespace of C++
            @staticmethod
            def Filler(*_):
                return type("", (), {"fill": lambda *_: True, "close": lambda _: 3})()

    monkeypatch.setattr(pyroot, "_root", Broken)
    with pytest.raises(LabellingError, match=r"ROOT could not write to .*disk full"):
        run(toy_scorer, inputs[0], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_cannot_be_written(tmp_path, toy_scorer, inputs):
    (tmp_path / "file").write_text("")
    with pytest.raises(LabellingError, match=r"cannot write to the folder .*file"):
        run(toy_scorer, inputs[0], tmp_path / "file" / "out")


# Runs that are repeated


def test_a_repeated_run_does_the_rest(tmp_path, toy_scorer, inputs):
    first = run(toy_scorer, inputs[:2], tmp_path, "friend")
    times = [path.stat().st_mtime_ns for path in first.outputs]
    second = run(toy_scorer, inputs, tmp_path, "friend")
    assert [each.source for each in second.skipped] == [str(path) for path in inputs[:2]]
    assert [each.source for each in second.written] == [str(path) for path in inputs[2:]]
    assert [path.stat().st_mtime_ns for path in second.outputs[:2]] == times
    assert len(second.outputs) == 4
    assert second.events == 10 + 11 + 12 + 13
    assert run(toy_scorer, inputs, tmp_path, "friend", force=True).skipped == []


@pytest.mark.parametrize(
    "change",
    [
        {"model": scorer_for(TOY, CLASSES)},
        {"select": "event > 3"},
        {"mode": "append"},
        {"mode": "branch"},
        {"format": "rntuple"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_model_or_other_options_do_it_again(tmp_path, toy_scorer, inputs, change):
    options = {"model": toy_scorer, "mode": "friend", **change}
    run(toy_scorer, inputs[:2], tmp_path, "friend")
    for expected in (0, 2):
        report = run(options["model"], inputs[:2], tmp_path, **_without_model(options))
        assert len(report.skipped) == expected
    [first, _] = report.outputs
    kinds = {each.mode for each in provenances(first)}
    assert kinds == {options["mode"]}


def _without_model(options: dict) -> dict:
    return {name: value for name, value in options.items() if name != "model"}


def test_an_input_that_was_made_anew_is_labelled_again(tmp_path, toy_scorer):
    source = write_toy(tmp_path / "in.root", 10)
    run(toy_scorer, source, tmp_path / "out")
    write_toy(source, 12)
    report = run(toy_scorer, source, tmp_path / "out")
    assert not report.skipped
    assert report.events == 12
    assert len(scores_of(report.outputs[0], "branch")) == 12


def test_another_input_of_the_same_name_is_refused(tmp_path, toy_scorer, inputs):
    (tmp_path / "a").mkdir()
    same = Path(shutil.copy(inputs[0], tmp_path / "a" / "0.root"))
    other = write_toy(tmp_path / "0.root", 10, seed=9)
    run(toy_scorer, inputs[0], tmp_path / "out")
    assert len(run(toy_scorer, same, tmp_path / "out").skipped) == 1  # a copy is the same
    before = checksum(tmp_path / "out" / "0.root")
    with pytest.raises(LabellingError, match=r"0\.root exists already.*--force"):
        run(toy_scorer, other, tmp_path / "out")
    assert checksum(tmp_path / "out" / "0.root") == before


def test_scores_of_other_models_are_not_lost(tmp_path, toy_scorer, inputs):
    """An output with more than this run would give is not made anew from the same input."""
    source = inputs[0]
    both = {"a": toy_scorer, "b": scorer_for(TOY, CLASSES)}
    run(both, source, tmp_path)
    assert len(run(toy_scorer, source, tmp_path, field="a").skipped) == 1  # it is there
    with pytest.raises(LabellingError, match="exists already"):
        run(scorer_for(TOY, CLASSES), source, tmp_path, field="a")
    with pytest.raises(LabellingError, match="exists already"):
        run(toy_scorer, source, tmp_path, field="c")
    assert len(run(both, source, tmp_path).skipped) == 1


def test_an_output_that_was_damaged_is_not_skipped(tmp_path, toy_scorer, inputs):
    [out] = run(toy_scorer, inputs[0], tmp_path).outputs
    with uproot.open(out) as file:
        end = file.file.fEND  # what uproot writes has room behind it
    out.write_bytes(out.read_bytes()[: end - 100])
    with pytest.raises(LabellingError, match="exists already"):
        run(toy_scorer, inputs[0], tmp_path)
    run(toy_scorer, inputs[0], tmp_path, force=True)


# Names of outputs


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("out", "out/in.root"),
        ("out/{name}", "out/in.root"),
        ("{folder}/{stem}_scored.root", "first/in_scored.root"),
        ("{number}.root", "0.root"),
        ("{folder}_{number}_{stem}/{name}", "first_0_in/in.root"),
    ],
)
def test_patterns_for_outputs(tmp_path, toy_scorer, pattern, expected):
    (tmp_path / "first").mkdir()
    source = write_toy(tmp_path / "first" / "in.root")
    report = run(toy_scorer, f"{source}:Events", tmp_path / "new" / pattern)
    assert report.outputs == [tmp_path / "new" / expected]
    found = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert found == report.outputs


def test_a_pattern_keeps_files_of_the_same_name_apart(tmp_path, toy_scorer):
    sources = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        sources.append(write_toy(tmp_path / name / "in.root"))
    with pytest.raises(FileError, match=r"would both become .*\{folder\} or \{number\}"):
        run(toy_scorer, sources, tmp_path / "out")
    report = run(toy_scorer, sources, tmp_path / "out" / "{folder}_{stem}.root")
    assert [path.name for path in report.outputs] == ["a_in.root", "b_in.root"]
    report = run(toy_scorer, tmp_path / "[ab]" / "*.root", tmp_path / "out" / "{number}.root")
    assert [path.name for path in report.outputs] == ["0.root", "1.root"]


@pytest.mark.parametrize(
    ("pattern", "options", "message"),
    [
        ("{fodler}/x.root", {}, "no {fodler}: did you mean 'folder'"),
        ("{0}.root", {}, "no {0}: there are: name, stem, folder, number"),
        ("{stem}.parquet", {}, "the name of such a file ends in .root"),
        ("{stem}.root", {"format": "parquet"}, "the name of such a file ends in .parquet"),
    ],
)
def test_patterns_that_cannot_be(tmp_path, toy_scorer, inputs, pattern, options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        run(toy_scorer, inputs[0], tmp_path / pattern, **options)
    assert list(tmp_path.iterdir()) == []


# Several models, and how the run ends


def test_models_that_cannot_go_together(tmp_path, toy_scorer, inputs):
    for models, options, message in (
        ({}, {}, "there is no model"),
        ({"a": toy_scorer}, {"field": "b"}, "leave out --field"),
        ({"a b": toy_scorer}, {}, "cannot be the name of a branch"),
        ({"a": scorer_for(TOY, CLASSES), "a_b": toy_scorer}, {}, "two models would write .* 'a_b'"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(models, inputs, tmp_path, **options)
    with pytest.raises(ConfigError, match="leave out --workers"):
        run(toy_scorer, inputs, tmp_path, workers=2, dask="tcp://nowhere:1")
    with pytest.raises(ConfigError, match="no format 'rotn': did you mean 'root'"):
        run(toy_scorer, inputs, tmp_path, format="rotn")
    with pytest.raises(ConfigError):
        run(toy_scorer, inputs, tmp_path, select="event >")
    assert list(tmp_path.iterdir()) == []


def test_failing_fast_ends_the_others_at_once(tmp_path, toy_scorer, inputs, monkeypatch):
    """Not when the error, which holds on to all that was going on, is forgotten."""
    ended = []

    def running(_scorers, jobs, _workers):
        try:
            for job in jobs:
                yield labelling.Labelled(job.source, job.output, error="no")
        finally:
            ended.append(True)

    monkeypatch.setattr(labelling, "run_in_processes", running)
    with pytest.raises(LabellingError) as caught:
        run(toy_scorer, inputs, tmp_path, workers=2, fail_fast=True)
    assert ended == [True], caught


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_fail_fast(tmp_path, toy_scorer, workers):
    (tmp_path / "bad.root").write_text("nothing")
    sources = [write_toy(tmp_path / f"{i}.root") for i in range(20)]
    with pytest.raises(LabellingError) as caught:
        run(
            toy_scorer,
            [sources[0], tmp_path / "bad.root", *sources[1:]],
            tmp_path / "out",
            workers=workers,
            fail_fast=True,
        )
    report = caught.value.report
    errors = [each.error for each in report.files]
    assert len(errors) == 21
    assert "not a ROOT file" in errors[1]
    assert errors.count("not tried, because another file failed") > (18 if workers == 1 else 5)
    assert re.search(r"\n  \d+ more were not tried, because another", str(caught.value))
    assert len(str(caught.value).splitlines()) == 3
    assert no_partial_files(tmp_path / "out")


def test_report(tmp_path, toy_scorer, inputs):
    out = tmp_path / "out"
    run(toy_scorer, inputs[:1], out, select="event % 2 == 0")
    bad = tmp_path / "bad.root"
    bad.write_text("nothing")
    with pytest.raises(LabellingError) as caught:
        run(toy_scorer, [*inputs[:3], bad], out, select="event % 2 == 0")
    report = caught.value.report
    rows = [line.split() for line in str(report).splitlines()]
    assert rows[0] == ["files", "events", "with", "a", "score", "events/s"]
    assert rows[1][:4] == ["labelled", "2", "23", str(6 + 6)]
    assert float(rows[1][4].replace(",", "")) == pytest.approx(23 / report.seconds, rel=0.5, abs=1)
    assert rows[2] == ["there", "already", "1", "10"]
    assert rows[3] == ["failed", "1"]
    assert repr(report) == str(report)
    assert report.seconds >= sum(each.seconds for each in report.files) > 0
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.report) == (str(caught.value), report)


def test_a_report_of_nothing_new(tmp_path, toy_scorer, inputs):
    run(toy_scorer, inputs, tmp_path)
    report = run(toy_scorer, inputs, tmp_path)
    assert str(report).splitlines()[1].split() == ["labelled", "0", "0", "0"]
    assert str(report).splitlines()[2].split() == ["there", "already", "4", "46"]


# Processes side by side


def test_workers_write_the_same(tmp_path, toy_scorer, inputs):
    toy_scorer.save(tmp_path / "model.safetensors")
    one = run(toy_scorer, inputs, tmp_path / "1", "friend")
    two = run(tmp_path / "model.safetensors", inputs, tmp_path / "2", "friend", workers=2)
    assert [each.source for each in two.files] == [str(path) for path in inputs]
    assert [each.events for each in two.files] == [each.events for each in one.files]
    for a, b in zip(one.outputs, two.outputs, strict=True):
        assert a.name == b.name
        with uproot.open(a) as x, uproot.open(b) as y:
            assert x.keys() == y.keys()
            assert different_branches(x["Events_score"], y["Events_score"]) == []


_INTERRUPTED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where tests run in the background
from tracksets import labelling, pools
from tracksets.cli import main

def slow(job):
    time.sleep(3)
    open(f"{job.output}.started", "w")
    return labelling.Labelled(job.source, job.output, 1)

pools._label_here = slow
if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_an_interrupt_does_not_wait_for_all_files(tmp_path, toy_scorer):
    toy_scorer.save(tmp_path / "model")
    (tmp_path / "main.py").write_text(_INTERRUPTED)
    for i in range(40):
        (tmp_path / f"{i}.root").touch()
    files = [str(path) for path in tmp_path.glob("*.root")]
    command = [sys.executable, "main.py", "label", "model", *files, "-o", "out", "--workers", "2"]
    (tmp_path / "out").mkdir()
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not list((tmp_path / "out").iterdir()):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "interrupted; nothing incomplete was left behind" in stderr
    assert len(list((tmp_path / "out").iterdir())) < 20


# Real files


def _collection(features: list[str], **options) -> Inputs:
    return Inputs(collections={"C": Collection(features=features, **options)})


def _jets() -> Inputs:
    return _collection(["pt", "eta"], prefix="Jet")


REAL = {
    "single_top": ("events", _collection(["px", "py", "btag"], prefix="Jet")),
    "ww": ("events", _collection(["px", "py", "btag"], prefix="Jet")),
    "qcd": ("events", _collection(["px", "py", "btag"], prefix="Jet")),
    "alice_v0": ("fTreeV0", _collection(["fV0pt", "fV0eta"], prefix="V0s.")),
    "nano_dy": ("Events", _jets()),
    "nano_dimuon": ("Events", _jets()),
    "nano_tt_v15": ("Events", _jets()),
    "nano_dy_empty": ("Events", _jets()),
    "nano_dy_rntuple": ("Events", _jets()),
    "pfnano": ("Events", _collection(["pt", "eta"], prefix="PFCands")),
    "uproot-HZZ": ("events", _collection(["px", "py"], prefix="Jet")),
    "uproot-HZZ-objects": ("events", _collection(["jetbtag"])),
    "uproot-stl_containers": ("tree", _collection(["vector_int32"])),
}
FEW = 100
"""Branches that uproot reads and compares; the bytes of all are compared, and ROOT reads all."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            n,
            marks=pytest.mark.slow
            if n in {"nano_tt_v15", "pfnano", "nano_dy_rntuple", "nano_dimuon", "nano_dy_empty"}
            else (),
        )
        for n in REAL
    ],
)
def test_real_files(root, shared_data, tmp_path, name):
    source, (tree_name, inputs) = shared_data(f"{name}.root"), REAL[name]
    scorer, reader = scorer_for(inputs), RootReader(root)
    with open_tree(source, tree_name) as tree:
        n_event, rntuple = tree.n_event, tree.is_rntuple
        expected = np.concatenate(
            [each.scores["score"] for each in scored_chunks({"score": scorer}, tree)]
        )
    assert len(expected) == n_event
    for mode in MODES:
        [out] = run(scorer, f"{source}:{tree_name}", tmp_path / mode, mode).outputs
        assert np.array_equal(scores_of(out, mode, tree_name), expected)
        if rntuple:
            friends = {"branch": (out, tree_name), "append": (out, f"{tree_name}_score")}
            where, name_there = friends.get(mode, (out, f"{tree_name}_score"))
            found = by_rdataframe(where, name_there, ["score"])["score"]
            assert np.array_equal(np.float32(found), expected)
            continue
        friend = f"{tree_name}_score"
        where = source if mode == "friend" else out
        options = {} if mode == "branch" else {"friend": out, "other": friend}
        assert np.array_equal(reader.scores(where, tree_name, "score", **options), expected)
        if mode == "friend":
            continue
        assert reader.different(source, out, tree_name, 200) == ""
        assert changed_baskets(source, out, tree_name) == []
        with uproot.open(source) as old, uproot.open(out) as new:
            assert set(new.keys(cycle=False)) - set(old.keys(cycle=False)) == (
                {"tracksets_score"} if mode == "branch" else {"tracksets_score", friend}
            )
            assert set(old.keys(cycle=False)) <= set(new.keys(cycle=False))
            names = old[tree_name].keys()
            some = names[:: max(1, len(names) // FEW)]
            assert different_branches(old[tree_name], new[tree_name], some) == []


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("qcd", None),
        ("uproot-HZZ", None),
        ("uproot-HZZ-objects", r"cannot write events/muonp4 \(TLorentzVector.*and \d+ more|muonp4"),
        (
            "uproot-stl_containers",
            r"tree/vector_vector_int32 \(std::vector<std::vector<int32_t>>\)",
        ),
        ("alice_v0", r"cannot write fTreeV0/V0s.fInvMass\[2\] \(float\[\]\[2\]\)"),
        pytest.param("nano_dy", None, marks=pytest.mark.slow),
    ],
)
def test_real_files_without_root(shared_data, tmp_path, monkeypatch, name, problem):
    monkeypatch.setattr(writing, "has_root", lambda: False)
    source, (tree_name, inputs) = shared_data(f"{name}.root"), REAL[name]
    if problem:
        with pytest.raises(LabellingError, match=problem):
            run(scorer_for(inputs), f"{source}:{tree_name}", tmp_path)
        assert list(tmp_path.iterdir()) == []
        return
    [out] = run(scorer_for(inputs), f"{source}:{tree_name}", tmp_path).outputs
    with uproot.open(source) as old, uproot.open(out) as new:
        assert different_branches(old[tree_name], new[tree_name]) == []
        assert new[tree_name].num_entries == len(new[tree_name]["score"].array())
