"""Every format into every other: equal in awkward and in real ROOT, or refused with the reason."""

import re
from itertools import product
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from rootfiles import MODES, by_rdataframe, same_values, scorer_for

from tracksets import rewriting, writing
from tracksets.errors import ConfigError
from tracksets.inputs import Collection, Inputs
from tracksets.labelling import LabellingError, label
from tracksets.parquet import is_parquet
from tracksets.reading import open_tree, provenances
from tracksets.trees import Tree

N = 250
FORMATS = ("root", "rntuple", "parquet")
INPUTS = Inputs(collections={"Track": Collection(features=["pt", "q"])}, event=["z"])


def flat_events() -> ak.Array:
    """Make events with what all formats can hold: numbers, lists of numbers, fixed dimensions."""
    random = np.random.default_rng(5)
    counts = random.poisson(2, N)
    n = counts.sum()
    z = random.normal(size=N)
    z[0] = 1e300  # beyond float32, in a column that is only copied
    return ak.Array(
        {
            "Track_pt": ak.unflatten(random.random(n, np.float32), counts),
            "Track_q": ak.unflatten(random.integers(-1, 2, n).astype(np.int16), counts),
            "z": random.normal(size=N).astype(np.float32),
            "double": z,
            "event": random.integers(2**63, 2**64, N, np.uint64),
            "run": np.full(N, 4, np.int32),
            "small": random.integers(-128, 128, N).astype(np.int8),
            "flag": random.random(N) < 0.5,
            "three": random.normal(size=(N, 3)),
            "empty": ak.unflatten(np.empty(0, np.int16), np.zeros(N, np.int64)),
        }
    )


def record_events() -> ak.Array:
    """Make events with records, lists of lists and strings."""
    flat = flat_events()
    tracks = ak.zip({"pt": flat.Track_pt, "q": flat.Track_q})
    lists = ak.unflatten(flat.Track_pt, 1, axis=1)
    names = ak.Array([f"event {i}" for i in range(N)])
    values = {"Track": tracks, "z": flat.z, "event": flat.event, "lists": lists, "name": names}
    return ak.zip(values, depth_limit=1)


def write(path: Path, events: ak.Array, kind: str) -> Path:
    """Write events in several clusters."""
    if kind == "parquet":
        ak.to_parquet(events, path, row_group_size=60, extensionarray=False)
        return path
    with uproot.recreate(path) as file:
        if kind == "rntuple":
            tree = file.mkrntuple("Events", events.layout.form)
        else:
            types = {name: ak.type(events[name][:1]).content for name in events.fields}
            tree = file.mktree("Events", types)
        for start in range(0, N, 60):
            part = events[start : start + 60]
            tree.extend(part if kind == "rntuple" else {name: part[name] for name in types})
    return path


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[tuple[str, str], Path]:
    folder = tmp_path_factory.mktemp("formats")
    made = {"flat": flat_events(), "records": record_events()}
    files = {}
    for (shape, events), kind in product(made.items(), FORMATS):
        if (shape, kind) != ("records", "root"):
            ending = "parquet" if kind == "parquet" else "root"
            files[shape, kind] = write(folder / f"{shape}_{kind}.{ending}", events, kind)
    return files


@pytest.fixture(scope="module")
def scorer():
    return scorer_for(INPUTS)


def read(path: Path, tree: str = "Events") -> ak.Array:
    """Read a tree by uproot or awkward alone."""
    if is_parquet(str(path)):
        return ak.from_parquet(path)
    with uproot.open(path) as file:
        return file[tree].arrays()


def kind_of(path: Path, tree: str = "Events") -> str:
    with open_tree(path, None if is_parquet(str(path)) else tree) as opened:
        return opened.format


def check(output: Path, tree: str, expected: ak.Array, root: Any) -> None:
    """Compare a tree with what it should hold: by uproot or awkward, and by ROOT."""
    found = read(output, tree)
    assert set(expected.fields) <= set(found.fields)
    for name in expected.fields:
        assert same_values(plain_types(found[name]), plain_types(expected[name])), name
    if is_parquet(str(output)):
        return
    flat = [name for name in expected.fields if name not in ("Track", "lists", "name", "empty")]
    for name, values in by_rdataframe(output, tree, flat).items():
        assert values == expected[name].to_list(), name


def plain_types(array: ak.Array) -> ak.Array:
    """Leave out what formats say differently: regular lists, options without a None."""
    assert not ak.any(ak.is_none(array))
    array = ak.drop_none(array)
    return ak.from_regular(array, axis=None) if array.ndim > 1 else array


CASES = [
    (shape, *rest)
    for shape, *rest in product(("flat", "records"), FORMATS, MODES, FORMATS)
    if (shape, rest[0]) != ("records", "root")
]


def reason(shape: str, kind: str, mode: str, target: str) -> str | None:
    """Say why there is no such output."""
    if mode == "append" and target == "parquet":
        return "a Parquet file holds one table only"
    if mode == "append" and kind == "parquet":
        return "is a Parquet file, to which no tree can be appended"
    if mode == "branch" and shape == "records" and target == "root":
        return r"cannot write Events/Track/pt \(.*\), .*lists.*Use --mode append or --mode friend"
    return None


@pytest.mark.parametrize(("shape", "kind", "mode", "target"), CASES)
def test_every_format_in_every_mode(root, sources, scorer, tmp_path, shape, kind, mode, target):
    source = sources[shape, kind]
    events = flat_events() if shape == "flat" else record_events()
    refused = reason(shape, kind, mode, target)
    if kind == "parquet" and refused:
        refused = refused.replace("Events/", "rows/").replace("append or --mode ", "")
    if refused:
        with pytest.raises((ConfigError, LabellingError), match=refused):
            label(scorer, source, tmp_path, mode=mode, format=target, progress=False)
        assert list(tmp_path.iterdir()) == []
        return
    report = label(scorer, source, tmp_path, mode=mode, format=target, progress=False)
    [out] = report.outputs
    ending = "parquet" if target == "parquet" else "root"
    assert [each.name for each in tmp_path.iterdir()] == [f"{source.stem}.{ending}"]
    scores = scorer(events)
    ids = [name for name in ("run", "event") if name in events.fields]
    tree = "Events" if mode == "branch" else "Events_score"
    assert kind_of(out, tree) == target
    if mode == "branch":
        check(out, tree, ak.with_field(events, scores, "score"), root)
    else:
        named = {**({name: events[name] for name in ids} if mode == "friend" else {})}
        check(out, tree, ak.zip({**named, "score": scores}, depth_limit=1), root)
        assert read(out, tree).fields == [*named, "score"]
    if mode == "append":
        assert kind_of(out) == kind
        check(out, "Events", events, root)
    assert report.events == N
    assert len(label(scorer, source, tmp_path, mode=mode, format=target, progress=False).skipped)


@pytest.mark.parametrize("kind", FORMATS)
def test_there_and_back(sources, scorer, tmp_path, kind):
    """Through the two other formats; what the first model wrote is kept beside the second's."""
    a, b, c = (each for each in (FORMATS + FORMATS)[FORMATS.index(kind) :][1:4])
    path, events = sources["flat", kind], flat_events()
    for i, (field, target) in enumerate((("one", a), ("two", b), ("three_", c))):
        report = label(scorer, path, tmp_path / str(i), format=target, field=field, progress=False)
        [path] = report.outputs
    back = read(path)
    for name in events.fields:
        assert same_values(plain_types(back[name]), plain_types(events[name])), name
    for field in ("one", "two", "three_"):
        assert same_values(back[field], scorer(events))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_chunk_by_chunk(monkeypatch, sources, scorer, tmp_path, kind, target):
    monkeypatch.setattr(writing, "has_root", lambda: False)
    monkeypatch.setattr(Tree.chunks, "__defaults__", (50,))
    source, events = sources["flat", kind], flat_events()
    with open_tree(source) as tree:
        assert [stop for _, stop in tree.chunks(tree.fields.paths)] == [60, 120, 180, 240, 250]
    [out] = label(scorer, source, tmp_path, format=target, progress=False).outputs
    found = read(out)
    for name in events.fields:
        assert same_values(plain_types(found[name]), plain_types(events[name])), name
    assert same_values(found.score, scorer(events))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_no_events(root, scorer, tmp_path, kind, target):
    """ROOT, other than uproot, reads no RNTuple with an empty cluster."""
    events = flat_events()[:0]
    ending = "parquet" if kind == "parquet" else "root"
    source = tmp_path / f"in.{ending}"
    if kind == "parquet":
        ak.to_parquet(events, source, extensionarray=False)
    else:
        with uproot.recreate(source) as file:
            if kind == "rntuple":
                file.mkrntuple("Events", events.layout.form)
            else:
                file.mktree("Events", {k: events[k].type.content for k in events.fields})
    for mode in ("branch", "friend"):
        [out] = label(
            scorer, source, tmp_path / mode, mode=mode, format=target, progress=False
        ).outputs
        tree = "Events" if mode == "branch" else "Events_score"
        back = read(out, tree)
        assert len(back) == 0
        if target == "rntuple":  # RDataFrame crashes on any without entries
            assert root.RNTupleReader.Open(tree, str(out)).GetNEntries() == 0
        elif target == "root":
            assert by_rdataframe(out, tree, ["score"]) == {"score": []}
        assert back.score.type.content == ak.types.NumpyType("float32")


@pytest.mark.parametrize("target", FORMATS)
def test_nan_stays_nan(monkeypatch, scorer, tmp_path, target):
    """In a column that is copied only, and compared afterwards."""
    monkeypatch.setattr(writing, "has_root", lambda: False)
    events = flat_events()
    double = ak.to_numpy(events.double).copy()
    double[3] = np.nan
    source = write(tmp_path / "nan.root", ak.with_field(events, double, "double"), "root")
    [out] = label(scorer, source, tmp_path / "out", format=target, progress=False).outputs
    np.testing.assert_array_equal(ak.to_numpy(read(out).double), double)


def test_what_parquet_cannot_hold_is_named(scorer, tmp_path):
    either = ak.concatenate([ak.Array(np.arange(N // 2)), ak.Array([[1.5]] * (N // 2))])
    source = write(tmp_path / "in.root", ak.with_field(flat_events(), either, "either"), "rntuple")
    with pytest.raises(LabellingError, match=r"cannot write Events/either \(.*\). Use --mode"):
        label(scorer, source, tmp_path / "out", format="parquet", progress=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_values_stay_missing(scorer, tmp_path):
    """In columns that the model does not read; a TTree cannot say it."""
    events = flat_events()
    odd = {
        "maybe": ak.mask(events.z, events.flag),
        "name": ak.mask(record_events().name, events.flag),
        "list": ak.mask(events.Track_pt, events.flag),
        "inside": ak.mask(events.Track_pt, events.Track_pt > 0.5),
    }
    for name, values in odd.items():
        events = ak.with_field(events, values, name)
    source = write(tmp_path / "in.parquet", events, "parquet")
    for target in ("parquet", "rntuple"):
        [out] = label(scorer, source, tmp_path / target, format=target, progress=False).outputs
        for name, values in odd.items():
            assert ak.to_list(read(out)[name]) == ak.to_list(values), name
    with pytest.raises(
        LabellingError, match=r"cannot write rows/name \(\?string\). Use --mode friend"
    ):
        label(scorer, source, tmp_path / "root", format="root", progress=False)


def optional(events: ak.Array) -> ak.Array:
    """Let every value be one that may be missing, at every level, as most programs write them."""
    columns = {}
    for name in events.fields:
        inside = ak.mask(events[name], ak.full_like(events[name], True, dtype=bool))
        columns[name] = ak.mask(inside, np.ones(len(events), bool))
    return ak.zip(columns, depth_limit=1)


def test_what_may_be_missing_and_is_not_fits_a_ttree(root, scorer, tmp_path):
    events = flat_events()
    source = write(tmp_path / "in.parquet", optional(events), "parquet")
    assert str(read(source).three.type.content) == "option[3 * ?float64]"
    [out] = label(scorer, source, tmp_path / "out", format="root", progress=False).outputs
    check(out, "Events", ak.with_field(events, scorer(events), "score"), root)
    empty = write(tmp_path / "empty.parquet", optional(events)[:0], "parquet")
    [out] = label(scorer, empty, tmp_path / "out", format="root", progress=False).outputs
    assert {"score", *events.fields} <= set(read(out).fields)


@pytest.mark.parametrize("jagged", [False, True])
def test_records_that_may_be_missing_fit_an_rntuple_if_none_is(scorer, tmp_path, jagged):
    """uproot reads a record that may be missing as a list of records."""
    events = flat_events()
    parts = {"a": ak.mask(events.z, events.z < 0), "b": optional(events).Track_pt}
    for missing in (None, 130):
        values = ak.mask(ak.zip(parts, depth_limit=1), np.arange(N) != missing)
        values = ak.unflatten(values, 1) if jagged else values
        source = write(tmp_path / "in.parquet", ak.with_field(events, values, "odd"), "parquet")
        options = {"format": "rntuple", "force": True, "progress": False}
        if missing is None:
            [out] = label(scorer, source, tmp_path / "out", **options).outputs
            assert ak.to_list(read(out).odd) == ak.to_list(values)
            continue
        message = r"rows/odd has missing values in events \d+:\d+, which an RNTuple's record cannot"
        with pytest.raises(LabellingError, match=message):
            label(scorer, source, tmp_path / "out", **options)


def test_bytes_are_no_text_for_an_rntuple(scorer, tmp_path):
    events = ak.with_field(flat_events(), ak.Array([b"bytes"] * N), "odd")
    source = write(tmp_path / "in.parquet", events, "parquet")
    with pytest.raises(LabellingError, match=r"cannot write rows/odd \(bytes\). Use --mode friend"):
        label(scorer, source, tmp_path / "out", format="rntuple", progress=False)


@pytest.mark.parametrize(("n", "end"), [(10, "odd9 (bytes)"), (12, "odd9 (bytes) and 2 more")])
def test_a_long_list_is_cut(scorer, tmp_path, n, end):
    odd = {f"odd{i}": ak.Array([b"bytes"] * N) for i in range(n)}
    events = flat_events()
    columns = dict(zip(events.fields, ak.unzip(events), strict=True))
    source = write(tmp_path / "in.parquet", ak.zip({**columns, **odd}, depth_limit=1), "parquet")
    with pytest.raises(LabellingError) as caught:
        label(scorer, source, tmp_path / "out", format="root", progress=False)
    assert "cannot write rows/odd0 (bytes), rows/odd1 (bytes), " in str(caught.value)
    assert f", rows/{end}. Use --mode friend" in str(caught.value)


@pytest.mark.parametrize("name", ["z", "Track_pt", "inside", "three"])
def test_what_is_missing_does_not_fit_a_ttree(scorer, tmp_path, name):
    events = flat_events()
    there = np.arange(N) != 130  # in a later row group
    if name == "inside":
        values = ak.mask(events.empty, there)
        values = ak.concatenate([values[:130], [[None]], values[131:]])
    elif name == "three":  # older versions of Arrow write no fixed dimension that is missing
        values = ak.mask(events.three, np.repeat(there[:, np.newaxis], 3, axis=1))
    else:
        values = ak.mask(events[name], there)
    inputs = Inputs(collections={"Track": Collection(features=["q"])})
    source = write(tmp_path / "in.parquet", ak.with_field(events, values, "odd"), "parquet")
    message = (
        r"rows/odd has missing values in events (\d+):(\d+), which a TTree cannot hold. "
        "Use --mode friend"
    )
    with pytest.raises(LabellingError, match=message) as caught:
        label(scorer_for(inputs), source, tmp_path / "out", format="root", progress=False)
    start, stop = map(int, re.search(message, str(caught.value)).groups())
    assert start <= 130 < stop
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("target", ["rntuple", "parquet"])
def test_parquet_as_awkward_writes_it(scorer, tmp_path, target):
    """It says there what records are called, which an RNTuple cannot say."""
    events = record_events()
    events = ak.with_field(events, ak.with_name(events.Track, "Momentum4D"), "Track")
    ak.to_parquet(events, tmp_path / "in.parquet", row_group_size=60)
    options = {"format": target, "progress": False}
    [out] = label(scorer, tmp_path / "in.parquet", tmp_path / "out", **options).outputs
    found = read(out)
    assert ak.to_list(found[events.fields]) == ak.to_list(events)
    assert same_values(found.score, scorer(events))
    if target == "parquet":
        assert found.Track.type == ak.from_parquet(tmp_path / "in.parquet").Track.type


def test_a_score_in_parquet_is_replaced_with_its_note(scorer, tmp_path):
    ak.to_parquet(flat_events(), tmp_path / "in.parquet")
    [once] = label(scorer, tmp_path / "in.parquet", tmp_path / "1", progress=False).outputs
    [twice] = label(scorer, once, tmp_path / "2", force=True, progress=False).outputs
    assert len(provenances(twice)) == 1
    assert read(twice).fields == read(once).fields
    assert same_values(read(twice).score, scorer(flat_events()))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_column_is_replaced_by_force(monkeypatch, sources, scorer, tmp_path, kind):
    monkeypatch.setattr(writing, "has_root", lambda: False)
    source = sources["flat", kind]
    options = {"field": "double", "progress": False}
    with pytest.raises(LabellingError, match="has a branch 'double' already"):
        label(scorer, source, tmp_path, **options)
    [out] = label(scorer, source, tmp_path, force=True, **options).outputs
    back, events = read(out), flat_events()
    assert set(back.fields) - {"nTrack", "nTrack_pt", "nTrack_q", "nempty"} == set(events.fields)
    assert back.double.type.content == ak.types.NumpyType("float32")
    assert same_values(back.double, scorer(events))


@pytest.mark.parametrize("kind", ["rntuple", "parquet"])
def test_a_record_is_not_replaced(sources, scorer, tmp_path, kind):
    with pytest.raises(LabellingError, match="branch 'Track' that other branches depend on"):
        label(scorer, sources["records", kind], tmp_path, field="Track", force=True, progress=False)


def test_row_groups_and_compression_of_parquet_are_kept(sources, scorer, tmp_path):
    import pyarrow.parquet

    [out] = label(scorer, sources["records", "parquet"], tmp_path, progress=False).outputs
    old, new = (pyarrow.parquet.ParquetFile(each) for each in (sources["records", "parquet"], out))
    groups = [[each.metadata.row_group(i) for i in range(5)] for each in (old, new)]
    assert [each.num_rows for each in groups[0]] == [each.num_rows for each in groups[1]]
    assert {group.column(0).compression for both in groups for group in both} == {
        groups[0][0].column(0).compression
    }
    for name in old.schema_arrow.names:
        assert new.schema_arrow.field(name).type == old.schema_arrow.field(name).type


@pytest.mark.parametrize("target", FORMATS)
def test_a_wrong_copy_does_not_pass(monkeypatch, sources, scorer, tmp_path, target):
    """Another column than the scores comes out different; nothing has raised."""
    copy = rewriting._copy

    def wrong(tree, scores, extend, *rest):
        def extend_wrongly(columns):
            extend({**columns, "double": columns["double"] + (columns["event"] % 97 == 0)})

        copy(tree, scores, extend_wrongly, *rest)

    monkeypatch.setattr(rewriting, "_copy", wrong)
    source = sources["flat", "rntuple"]
    with pytest.raises(LabellingError, match="double was not copied correctly"):
        label(scorer, source, tmp_path / "out", format=target, progress=False)
    assert not list((tmp_path / "out").iterdir())


def test_a_wrong_copy_of_parquet_does_not_pass(monkeypatch, sources, scorer, tmp_path):
    events = flat_events()
    wrong = ak.with_field(events, events.double + (events.event % 97 == 0), "double")
    other, add_columns = write(tmp_path / "wrong.parquet", wrong, "parquet"), rewriting.add_columns
    monkeypatch.setattr(rewriting, "add_columns", lambda _, *rest: add_columns(str(other), *rest))
    with pytest.raises(LabellingError, match="double was not copied correctly"):
        label(scorer, sources["flat", "parquet"], tmp_path / "out", progress=False)
    assert not list((tmp_path / "out").iterdir())


def beside(path: Path, other: ak.Array) -> Path:
    """Write events as a TTree, with an RNTuple of something else in the same file."""
    events = flat_events()
    with uproot.recreate(path) as file:
        file.mktree("Events", {k: events[k].type.content for k in events.fields})
        file["Events"].extend(dict(zip(events.fields, ak.unzip(events), strict=True)))
        file["other"] = other
    return path


def test_a_wrong_copy_of_another_tree_does_not_pass(monkeypatch, scorer, tmp_path):
    monkeypatch.setattr(writing, "has_root", lambda: False)
    source = beside(tmp_path / "in.root", ak.Array({"x": np.arange(9)}))
    options = {"tree": "Events", "progress": False}
    [out] = label(scorer, source, tmp_path / "out", **options).outputs
    assert read(out, "other").x.to_list() == list(range(9))
    copy = rewriting._copy

    def wrong(tree, scores, extend, *rest):
        copy(tree, scores, extend if scores else lambda new: extend({"x": new["x"] * 2}), *rest)

    monkeypatch.setattr(rewriting, "_copy", wrong)
    with pytest.raises(LabellingError, match="other/x was not copied correctly"):
        label(scorer, source, tmp_path / "wrong", **options)
    assert not list((tmp_path / "wrong").iterdir())


def test_what_another_tree_cannot_keep_is_named(monkeypatch, scorer, tmp_path):
    monkeypatch.setattr(writing, "has_root", lambda: False)
    either = ak.concatenate([ak.Array(np.arange(3)), ak.Array([[1.5]])])
    source = beside(tmp_path / "in.root", ak.Array({"either": either}))
    with pytest.raises(LabellingError, match=r"cannot write other/either \(.*\). Use --mode"):
        label(scorer, source, tmp_path / "out", tree="Events", progress=False)
    assert not list((tmp_path / "out").iterdir())
