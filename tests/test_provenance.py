"""What a labelled file says of itself: read back in every format, and kept by what comes after."""

from itertools import product
from pathlib import Path

import pytest
import uproot
from helpers import CLASSES
from rootfiles import MODES, TOY, scorer_for, toy_events, write_rntuple, write_toy

import tracksets
from tracksets import writing
from tracksets.inspection import describe
from tracksets.labelling import label
from tracksets.provenance import Provenance, place_of
from tracksets.reading import open_tree, provenances

NOTE = Provenance(
    field="score",
    model="0" * 64,
    config={"inputs": {}},
    input="/data/in.root",
    tree="Events",
    uuid="1234",
    size=10,
    mode="branch",
    format="root",
)
FORMATS = ("root", "rntuple", "parquet")


@pytest.fixture(scope="module")
def scorer():
    return scorer_for(TOY)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Path]:
    import awkward as ak

    folder = tmp_path_factory.mktemp("inputs")
    flat = {"Track_pt": toy_events(20).Track.pt, "event": toy_events(20).event}
    ak.to_parquet(ak.Array(flat), folder / "in.parquet", extensionarray=False)
    return {
        "root": write_toy(folder / "in.root"),
        "rntuple": write_rntuple(folder / "in_rntuple.root"),
        "parquet": folder / "in.parquet",
    }


def run(model, source, output: Path, mode: str = "branch", **options) -> Path:
    [out] = label(model, source, output, mode=mode, progress=False, **options).outputs
    return out


def test_round_trip():
    assert Provenance.parse(NOTE.model_dump_json()) == NOTE
    assert NOTE.key == "tracksets_score"
    assert NOTE.tracksets == tracksets.__version__


@pytest.mark.parametrize(
    "text", ["", "{}", "null", "[]", "text", '{"field": 1}', b"\xff", NOTE.model_dump_json()[:-9]]
)
def test_what_is_none(text):
    assert Provenance.parse(text) is None


@pytest.mark.parametrize(
    ("change", "work", "same_input"),
    [
        ({}, True, True),
        ({"input": "/elsewhere/in.root"}, True, True),  # a copy
        ({"tracksets": "9.9", "config": {}}, True, True),
        ({"model": "1" * 64}, False, True),
        ({"select": "x > 0"}, False, True),
        ({"mode": "friend"}, False, True),
        ({"format": "rntuple"}, False, True),
        ({"tree": "Other"}, False, True),
        ({"uuid": "5678", "size": 11}, False, True),  # made anew in the same place
        ({"uuid": "5678", "input": "/elsewhere/in.root"}, False, False),
    ],
)
def test_same_work_and_same_input(change, work, same_input):
    other = NOTE.model_copy(update=change)
    assert NOTE.is_same_work(other) is work
    assert NOTE.is_same_input(other) is same_input


def test_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert place_of("in.root") == str(tmp_path / "in.root")
    assert place_of("root://server//in.root") == "root://server//in.root"


@pytest.mark.parametrize(
    ("kind", "mode", "target"),
    [
        each
        for each in product(FORMATS, MODES, FORMATS)
        if not (each[1] == "append" and "parquet" in (each[0], each[2]))
        and each != ("rntuple", "branch", "root")  # which cannot be
    ],
)
def test_read_back(sources, scorer, tmp_path, kind, mode, target):
    source = sources[kind]
    out = run(scorer, source, tmp_path, mode, format=target, select="event >= 0")
    [note] = provenances(out)
    with open_tree(source) as tree:
        assert (note.uuid, note.size) == (tree.uuid, tree.n_byte)
        assert note.tree == tree.name
    assert note.model == scorer.hash
    assert (note.mode, note.format, note.select) == (mode, target, "event >= 0")
    assert note.input == str(source)
    assert note.tracksets == tracksets.__version__
    assert note.config["inputs"] == scorer.inputs.model_dump(mode="json")
    assert note.config["model"] == scorer.model.model_dump(mode="json")
    assert note.config["task"] == scorer.task.model_dump(mode="json")
    shown = describe(str(out))
    for each in (scorer.hash[:12], str(source), tree.uuid, "event >= 0", note.tracksets):
        assert each in shown


def test_the_uuid_is_that_of_the_file(sources, tmp_path):
    """ROOT's own for ROOT files, and something that changes with the content for Parquet files."""
    import awkward as ak

    for kind in ("root", "rntuple"):
        with uproot.open(sources[kind]) as file, open_tree(sources[kind]) as tree:
            assert tree.uuid == str(file.file.uuid)
            assert tree.n_byte == sources[kind].stat().st_size
    found = set()
    for i, events in enumerate((toy_events(20), toy_events(20, 1), toy_events(21))):
        ak.to_parquet(ak.Array({"x": ak.sum(events.Track.pt, axis=1)}), tmp_path / f"{i}.parquet")
        with open_tree(tmp_path / f"{i}.parquet") as tree:
            found.add(tree.uuid)
    assert len(found) == 3
    content = (tmp_path / "0.parquet").read_bytes()
    (tmp_path / "copy.parquet").write_bytes(content)
    with open_tree(tmp_path / "copy.parquet") as tree:
        assert tree.uuid in found


@pytest.mark.parametrize("with_root", [True, False])
@pytest.mark.parametrize("second", ["root", "rntuple", "parquet"])
def test_a_second_model_keeps_what_the_first_one_wrote(
    request, sources, scorer, tmp_path, monkeypatch, second, with_root
):
    if with_root:
        request.getfixturevalue("root")
    else:
        monkeypatch.setattr(writing, "has_root", lambda: False)
    other = scorer_for(TOY, CLASSES)
    first = run(scorer, sources["root"], tmp_path / "1", field="a")
    out = run(other, first, tmp_path / "2", field="b", format=second)
    notes = {each.field: each for each in provenances(out)}
    assert {name: each.model for name, each in notes.items()} == {"a": scorer.hash, "b": other.hash}
    assert notes["a"].input == str(sources["root"])
    assert notes["b"].input == str(first)
    appended = run(scorer, f"{first}:Events", tmp_path / "3", "append", field="c")
    assert [each.field for each in provenances(appended)] == ["a", "c"]
    # A model of the same name takes the place of the one before, in the branch and in the note.
    again = run(other, first, tmp_path / "4", field="a", force=True)
    assert [each.model for each in provenances(again)] == [other.hash]


def test_from_parquet_to_root_and_back(sources, scorer, tmp_path):
    path = run(scorer, sources["parquet"], tmp_path / "1", field="a")
    path = run(scorer, path, tmp_path / "2", field="b")
    path = run(scorer, path, tmp_path / "3", field="c", format="root")
    path = run(scorer, path, tmp_path / "4", field="d", format="parquet")
    assert sorted(each.field for each in provenances(path)) == ["a", "b", "c", "d"]


def test_several_models_have_a_note_each(sources, scorer, tmp_path):
    other = scorer_for(TOY, CLASSES)
    for mode in MODES:
        out = run({"a": scorer, "b": other}, sources["root"], tmp_path / mode, mode)
        notes = {each.field: each.model for each in provenances(out)}
        assert notes == {"a": scorer.hash, "b": other.hash}


def test_files_that_say_nothing(sources, tmp_path):
    for path in sources.values():
        assert provenances(path) == []
        assert "labelled" not in describe(str(path))
    with uproot.recreate(tmp_path / "odd.root") as file:
        file["tracksets_x"] = "not what we write"
        file.mktree("tracksets_tree", {"x": "f4"}).extend({"x": [1.0]})
    assert provenances(tmp_path / "odd.root") == []
