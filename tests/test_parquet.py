"""Parquet files: the same columns as the array that was written, and clear errors."""

import sys
from decimal import Decimal

import awkward as ak
import numpy as np
import pytest

from tracksets.errors import FileError, MissingExtraError
from tracksets.reading import open_tree, open_trees


@pytest.fixture(scope="module")
def events():
    random = np.random.default_rng(1)
    counts = random.poisson(3, 1000)
    pt = ak.unflatten(random.random(counts.sum()).astype(np.float32), counts)
    return ak.Array({"Track": ak.zip({"pt": pt, "eta": -pt}), "Jet_pt": pt[::-1], "z": counts})


@pytest.fixture(scope="module")
def path(events, tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "events.parquet"
    ak.to_parquet(events, path, row_group_size=300)
    return path


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1000), (299, 301), (300, 600), (7, 7), (990, 1000)]
)
def test_ranges_across_row_groups(path, events, start, stop):
    with open_tree(path) as tree:
        assert tree.n_event == 1000
        assert set(tree.fields.paths) == {("Track", "pt"), ("Track", "eta"), ("Jet_pt",), ("z",)}
        array = tree.read([("Track", "pt"), ("z",)], start, stop)
        assert ak.fields(array) == ["Track", "z"]
        assert ak.fields(array.Track) == ["pt"]
        assert array.Track.pt.tolist() == events.Track.pt[start:stop].tolist()
        assert array.z.tolist() == events.z[start:stop].tolist()


def test_chunks_are_row_groups(path):
    with open_tree(f"{path}:rows") as tree:
        assert list(tree.chunks([("z",)], 300)) == [(0, 300), (300, 600), (600, 900), (900, 1000)]
        assert list(tree.chunks([("z",)], 700)) == [(0, 600), (600, 1000)]
    [tree] = open_trees(path)
    assert tree.name == "rows"


def test_a_row_group_is_read_once_and_one_is_kept(path, events, monkeypatch):
    """It can be read as a whole only, whatever part of it is wanted."""
    calls = []
    read = ak.from_parquet
    monkeypatch.setattr(
        ak, "from_parquet", lambda *a, **k: calls.append(k["row_groups"]) or read(*a, **k)
    )
    with open_tree(path) as tree:
        for start in range(0, 600, 100):
            part = tree.read([("z",)], start, start + 100)
            assert part.z.tolist() == events.z[start : start + 100].tolist()
            assert len(tree._latest) == 1
        assert calls == [[0], [1]]
        tree.read([("Jet_pt",)], 300, 400)
    assert calls == [[0], [1], [1]]


def test_what_is_not_parquet_is_refused(path, tmp_path):
    other = tmp_path / "other.parquet"
    with pytest.raises(FileError, match=r"no file .*other\.parquet"), open_tree(other):
        pass
    for content in (b"", b"text", path.read_bytes()[:-20], path.read_bytes()[: 2**10]):
        other.write_bytes(content)
        with (
            pytest.raises(FileError, match="is not a Parquet file, or truncated"),
            open_tree(other),
        ):
            pass
    with pytest.raises(FileError, match="has no trees, so none called 'Events'"):
        next(open_trees(f"{path}:Events"))


def test_dots_in_names(events, tmp_path):
    dotted = {"Aux.pt": events.Jet_pt, "Aux.z": events.z, "Track": events.Track}
    ak.to_parquet(ak.zip(dotted, depth_limit=1), tmp_path / "in.parquet", row_group_size=300)
    with open_tree(tmp_path / "in.parquet") as tree:
        assert tree.fields.paths == (("Aux.pt",), ("Aux.z",), ("Track", "pt"), ("Track", "eta"))
        found = tree.read([("Aux.pt",), ("Track", "pt")], 200, 700)
    assert found.fields == ["Aux.pt", "Track"]
    assert ak.array_equal(found["Aux.pt"], events.Jet_pt[200:700])
    assert ak.array_equal(found.Track.pt, events.Track.pt[200:700])


def test_a_column_that_awkward_cannot_read_is_named(tmp_path):
    import pyarrow.parquet

    table = pyarrow.table({"z": [1.0], "price": pyarrow.array([Decimal("1.50")])})
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    message = r"in\.parquet: awkward cannot read the column price, of type decimal128\(3, 2\)"
    with pytest.raises(FileError, match=message), open_tree(tmp_path / "in.parquet"):
        pass


def test_without_pyarrow_the_extra_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"tracksets\[parquet\]"), open_tree(path):
        pass
