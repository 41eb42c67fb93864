import itertools
import sys
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st
from rootfiles import TOY, same_values, scorer_for, toy_events, write_rntuple, write_toy

from tracksets.errors import DataError, FileError, MissingExtraError
from tracksets.fields import Columns, Fields
from tracksets.filenames import expand, split_name
from tracksets.inputs import Collection, Inputs, paths_of
from tracksets.reading import CHUNK_EVENTS, RootTree, open_tree, open_trees


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy") / "toy.root")


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    """Return a file with trees in folders, and a histogram."""
    path = tmp_path_factory.mktemp("several") / "several.root"
    with uproot.recreate(path) as file:
        for i, name in enumerate(("Events", "dir/Events", "dir/deeper/Other")):
            file.mktree(name, {"x": "f4"}).extend({"x": np.arange(i + 1, dtype="f4")})
        file["histogram"] = np.histogram([1, 2, 2])
    return path


# Names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("file.root", ("file.root", None)),
        (Path("file.root"), ("file.root", None)),
        ("file.root:Events", ("file.root", "Events")),
        ("file.root:", ("file.root", None)),
        ("file.root:dir/Events;2", ("file.root", "dir/Events;2")),
        ("/a/data*.root:Events", ("/a/data*.root", "Events")),
        ("/a:b/data*.root", ("/a:b/data*.root", None)),
        ("/a:b/data.root:Events", ("/a:b/data.root", "Events")),
        ("root://server//data.root", ("root://server//data.root", None)),
        ("root://server//data.root:Events", ("root://server//data.root", "Events")),
        ("root://server:1094//data.root", ("root://server:1094//data.root", None)),
        ("root://server:1094//data", ("root://server:1094//data", None)),
        ("https://server:80/data.root:d/E;1", ("https://server:80/data.root", "d/E;1")),
    ],
)
def test_split_name(name, expected):
    assert split_name(name) == expected


def test_a_file_with_a_colon_in_its_name(tmp_path):
    path = str(write_toy(tmp_path / "a.root:b"))
    assert split_name(path) == (path, None)
    with open_tree(path) as tree:
        assert tree.n_event == 20


def test_expand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.root", "a1.root", "a2.root", "a[1].root", "deep/er/a1.root"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert expand("b.root") == ["b.root"]
    assert expand(Path("b.root")) == ["b.root"]
    assert expand("a?.root:Events") == ["a1.root:Events", "a2.root:Events"]
    assert expand("a[1].root") == ["a[1].root"]  # a file first, then a pattern
    assert expand(["b.root", "a*.root", "a1.root"]) == ["b.root", "a1.root", "a2.root", "a[1].root"]
    assert expand(["a2.root", "a1.root", "a2.root:T"]) == ["a2.root", "a1.root", "a2.root:T"]
    assert expand("**/a1.root") == ["a1.root", "deep/er/a1.root"]
    assert expand(str(tmp_path / "a?.root")) == [str(tmp_path / f"a{i}.root") for i in (1, 2)]
    assert expand("root://server:1094//a*.root:T") == ["root://server:1094//a*.root:T"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "the list of files is empty"),
        ("{}/dota.root", "no file .*/dota.root; in the folder .*did you mean 'data.root'"),
        ("{}/xyz.root:Events", "no file .*/xyz.root; in the folder .*there are: data.root, other"),
        ("{}/dat*a.txt", "no file matches .*/dat.a.txt; in the folder .*data.root"),
        ("{}/no/data.root", "no file .*: there is no folder .*/no"),
        ("{}/n*o/data.root", "no file matches .*/n.o/data.root"),
        (["{}/data.root", "{}/dota.root"], "no file .*/dota.root"),
    ],
)
def test_no_such_files(tmp_path, names, message):
    (tmp_path / "data.root").touch()
    (tmp_path / "other").touch()
    here = [names] if isinstance(names, str) else names
    with pytest.raises(FileError, match=message):
        expand([name.format(tmp_path) for name in here])


# Opening


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file .*bad.root; in the folder"),
        ("folder", r"is a folder, not a ROOT file; give a pattern: .*/\*\.root"),
        (b"", "not a ROOT file, or truncated"),
        (b"root", "not a ROOT file, or truncated"),
        (b"run,event\n1,2\n" * 100, "not a ROOT file, or truncated"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, "not a ROOT file, or truncated"),
    ],
)
def test_not_a_root_file(tmp_path, content, message):
    path = tmp_path / "bad.root"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    for opening in (open_tree(path), open_tree(f"{path}:Events")):
        with pytest.raises(FileError, match=message), opening:
            pytest.fail("opened")
    with pytest.raises(FileError, match=message):
        next(open_trees(path))


@pytest.mark.parametrize("write", [write_toy, write_rntuple])
def test_truncated(tmp_path, write):
    """A file is refused wherever it is cut off, even if what is asked for would still be there."""
    content = write(tmp_path / "whole.root").read_bytes()
    path = tmp_path / "cut.root"
    for length in [4, 60, 99, 150, 300, *range(350, len(content), 997), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(FileError, match=r"cut\.root is .*truncated"), open_tree(path):
            pytest.fail(f"opened with {length} of {len(content)} bytes")


def test_which_tree(several, toy):
    with open_tree(toy) as tree:
        assert (tree.name, tree.n_event) == ("Events", 20)
    for said, n in (("Events", 1), ("dir/Events", 2), ("dir/deeper/Other;1", 3)):
        for opening in (open_tree(f"{several}:{said}"), open_tree(several, said)):
            with opening as tree:
                assert (tree.name, tree.n_event) == (said, n)
    with open_tree(f"{several}:dir/Events", "Events") as tree:
        assert tree.name == "dir/Events"  # the file's own word counts more
    names = [tree.name for tree in open_trees(several)]
    assert names == ["Events", "dir/Events", "dir/deeper/Other"]
    assert [tree.name for tree in open_trees(f"{several}:Events")] == ["Events"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, "has 3 trees; say which one.*There are: Events, dir/Events, dir/deeper/Other"),
        ("Event", "no tree 'Event' in .*several.root: did you mean 'Events'"),
        ("zzz", "no tree 'zzz' in .*there are: Events, dir/Events, dir/deeper/Other"),
        ("histogram", "no tree 'histogram' in .*there are: Events"),
        ("dir", "no tree 'dir' in"),
        ("Events;7", "Events;7 of .*several.root is damaged|no tree"),
    ],
)
def test_no_such_tree(several, name, message):
    with pytest.raises(FileError, match=message), open_tree(several, name):
        pytest.fail("opened")


def test_a_file_without_trees(tmp_path):
    with uproot.recreate(tmp_path / "h.root") as file:
        file["h"] = np.histogram([1])
    with pytest.raises(FileError, match=r"has 0 trees.*none"), open_tree(tmp_path / "h.root"):
        pytest.fail("opened")
    with pytest.raises(FileError, match="has no tree in it"):
        next(open_trees(tmp_path / "h.root"))


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("root://localhost//a.root", "fsspec_xrootd", "xrootd"),
        ("https://localhost:1/a.root", "aiohttp", "http"),
    ],
)
def test_missing_extra(monkeypatch, url, module, extra):
    for name in [each for each in sys.modules if each.startswith("fsspec.implementations.http")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    message = rf"reading {url} needs the package .*pip install 'tracksets\[{extra}\]'"
    with pytest.raises(MissingExtraError, match=message), open_tree(url + ":Events"):
        pytest.fail("opened")


def test_other_remote_problems_are_said_as_they_are(monkeypatch):
    with (
        pytest.raises(FileError, match=r"cannot read foo://x/a.root: .*foo"),
        open_tree("foo://x/a.root"),
    ):
        pytest.fail("opened")

    def fail(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(uproot, "open", fail)
    with (
        pytest.raises(FileError, match=r"cannot read s3://x/a.root: Install s3fs"),
        open_tree("s3://x/a.root"),
    ):
        pytest.fail("opened")


def test_reading_a_url(toy):
    with open_tree(f"file://{toy}:Events") as tree:
        assert tree.path == f"file://{toy}"
        assert same_values(tree.read([("event",)]).event, toy_events(20).event)


# Branches


def test_branches(toy):
    with open_tree(toy) as tree:
        assert not tree.is_rntuple
        assert set(tree.fields.paths) == {("nTrack",), ("Track_pt",), ("event",)}
        events = tree.read([("Track_pt",), ("event",)], 3, 11)
    expected = toy_events(20)[3:11]
    assert events.fields in (["Track_pt", "event"], ["event", "Track_pt"])
    assert same_values(events.Track_pt, expected.Track.pt)
    assert same_values(events.event, expected.event)
    assert events.event[0] == 2**40 + 3


def test_rntuple(tmp_path):
    with open_tree(write_rntuple(tmp_path / "n.root")) as tree:
        assert tree.is_rntuple
        assert (tree.name, tree.n_event) == ("Events", 20)
        assert tree.fields.paths == (("Track", "pt"), ("event",))
        assert list(tree.chunks(tree.fields.paths, 7)) == [(0, 7), (7, 20)]
        events = tree.read([("Track", "pt")], 3, 11)
        assert ak.fields(events) == ["Track"]
        assert same_values(events.Track.pt, toy_events(20)[3:11].Track.pt)


def test_no_columns(toy):
    with open_tree(toy) as tree:
        for n in (0, 5):
            events = tree.read([], 2, 2 + n)
            assert len(events) == n
            assert ak.fields(events) == []


def test_parts_of_split_objects_may_share_a_name(root, tmp_path):
    """`muon/pt` and `jet/pt` are two columns, and neither is taken for the other."""
    root.gInterpreter.Declare("struct TracksetsPart { float pt; float only; };")
    file = root.TFile.Open(str(tmp_path / "split.root"), "RECREATE")
    tree = root.TTree("Events", "")
    parts = {"muon": root.TracksetsPart(), "jet": root.TracksetsPart()}
    for name, part in parts.items():
        tree.Branch(name, part)
    for i in range(5):
        parts["muon"].pt, parts["jet"].pt = i, 10 * i
        tree.Fill()
    tree.Write()
    file.Close()
    with open_tree(tmp_path / "split.root") as tree:
        events = tree.read(tree.fields.paths)
        assert events.muon.pt.tolist() == [0, 1, 2, 3, 4]
        assert events.jet.pt.tolist() == [0, 10, 20, 30, 40]
        assert tree.read([("jet", "pt")], 1, 3).jet.pt.tolist() == [10, 20]
        columns = Columns(tree.read([("jet", "pt")]), tree.fields)
        assert columns.of()("jet.pt").values.tolist() == [0, 10, 20, 30, 40]
        with pytest.raises(DataError, match="no branch or field 'pt'"):
            tree.fields.find("pt")


def test_near_misses_of_branches(toy):
    with open_tree(toy) as tree:
        wrong = Inputs(collections={"Track": Collection(features=["log(ptt)"])})
        message = r"log\(ptt\).*tree Events of .*toy\.root: did you mean 'Track_pt'"
        with pytest.raises(DataError, match=message):
            paths_of(wrong, tree.fields)


@pytest.fixture(scope="module")
def odd(root, tmp_path_factory) -> Path:
    """Return a file with branches that are not numbers."""
    path = tmp_path_factory.mktemp("odd") / "odd.root"
    file = root.TFile.Open(str(path), "RECREATE")
    tree = root.TTree("Events", "")
    branches = {
        "word": root.std.string("abc"),
        "words": root.std.vector["std::string"](["a", "bc"]),
        "nested": root.std.vector["std::vector<float>"]([[1, 2], [3]]),
        "momentum": root.TLorentzVector(1, 2, 3, 4),
    }
    for name, value in branches.items():
        tree.Branch(name, value, 32000, 0)
    for _ in range(3):
        tree.Fill()
    tree.Write()
    file.Close()
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("word", "word holds strings"),
        ("words", "words holds strings"),
        ("nested", "nested holds lists of lists"),
        ("momentum", "momentum holds records"),
    ],
)
def test_what_is_not_a_number_per_track(odd, name, message):
    scorer = scorer_for(Inputs(collections={"X": Collection(features=[name])}))
    with open_tree(odd) as tree, pytest.raises(DataError, match=message):
        scorer.score(Columns(tree.read([(name,)]), tree.fields))


def test_only_the_wanted_branches_are_read(sample_data):
    with open_tree(sample_data / "events.root") as tree:
        source = tree.source.file.source
        paths = paths_of(TOY, tree.fields)
        assert paths == [("Track_pt",)]
        baskets = sum(
            int(tree.source[name].member("fBasketBytes")[1:4].sum())
            for name in ("Track_pt", "nTrack")  # jagged arrays need the offsets in their own basket
        )
        before = source.num_requested_bytes
        tree.read(paths, 300, 1200)
        read = source.num_requested_bytes - before
        assert tree.source["Track_pt"].member("fBasketBytes")[1:4].sum() <= read <= baskets
        everything = tree.source.compressed_bytes
        assert read < everything / 8


def test_only_the_wanted_fields_of_an_rntuple_are_read(tmp_path):
    random = np.random.default_rng(0)
    with uproot.recreate(tmp_path / "n.root") as file:
        file["Events"] = {"small": np.zeros(100), "large": random.random(100_000)[:100_000:1000]}
        file["Other"] = {"small": np.zeros(50_000), "large": random.random(50_000)}
    with open_tree(tmp_path / "n.root:Other") as tree:
        source = tree.source.file.source
        before = source.num_requested_bytes
        tree.read([("small",)])
        assert source.num_requested_bytes - before < 100_000
        tree.read([("large",)])
        assert source.num_requested_bytes - before > 300_000


@pytest.mark.parametrize("write", [write_toy, write_rntuple])
def test_no_events(tmp_path, write):
    if write is write_rntuple:
        with uproot.recreate(tmp_path / "zero.root") as file:
            file.mkrntuple("Events", toy_events(1).layout.form)
    else:
        write_toy(tmp_path / "zero.root", 0)
    with open_tree(tmp_path / "zero.root") as tree:
        assert tree.n_event == 0
        assert list(tree.chunks(tree.fields.paths)) == []
        events = tree.read(tree.fields.paths)
        assert len(events) == 0
        scores = scorer_for(TOY).score(Columns(events, tree.fields))
        assert scores.shape == (0, 1)


def damage(path: Path, branch: str, basket: int) -> None:
    """Flip bits in the middle of a basket."""
    with uproot.open(path) as file:
        where = file["Events"][branch].member("fBasketSeek")[basket]
        size = file["Events"][branch].member("fBasketBytes")[basket]
    content = bytearray(path.read_bytes())
    for i in range(where + size // 2, where + size // 2 + 16):
        content[i] ^= 0xFF
    path.write_bytes(content)


def test_a_damaged_basket(sample_data, tmp_path):
    path = tmp_path / "events.root"
    path.write_bytes((sample_data / "events.root").read_bytes())
    damage(path, "Track_pt", 2)
    with open_tree(path) as tree:
        tree.read([("Track_eta",), ("PV_z",)])
        tree.read([("Track_pt",)], 0, 600)
        message = (
            r"events\.root, tree Events, events 300 to 900: cannot read PV_z, Track_pt: \w+.*"
            "damaged or truncated"
        )
        with pytest.raises(FileError, match=message):
            tree.read([("Track_pt",), ("PV_z",)], 300, 900)


def test_a_tree_that_promises_more_events_than_there_are(toy, monkeypatch):
    with open_tree(toy) as tree:
        monkeypatch.setattr(type(tree.source), "arrays", lambda *_, **__: ak.Array([{"event": 1}]))
        message = "1 events read where 20 were expected"
        with pytest.raises(FileError, match=message):
            tree.read([("event",)])


# Chunks


class Clusters(uproot.TTree):
    """A tree of which nothing is known but where its clusters end."""

    def __init__(self, edges: list[int]) -> None:
        self.edges = edges

    def common_entry_offsets(self, **_: object) -> list[int]:
        return self.edges


@given(st.lists(st.integers(1, 60)), st.integers(1, 50))
def test_chunks_follow_clusters(sizes, events):
    edges = [0, *np.cumsum(sizes).tolist()]
    tree = RootTree("file", "tree", edges[-1], Fields([("x",)]), Clusters(edges))
    chunks = list(tree.chunks([("x",)], events))
    assert [i for start, stop in chunks for i in range(start, stop)] == list(range(edges[-1]))
    huge = [(a, b) for a, b in itertools.pairwise(edges) if b - a > events]
    for start, stop in chunks:
        assert 0 < stop - start <= 2 * events
        inside = any(a < start < b for a, b in huge)
        assert start in edges or inside
    # As few as possible: no two neighbours would do as one.
    assert all(b[1] - a[0] > events for a, b in itertools.pairwise(chunks))


def test_chunks_of_a_file(sample_data):
    with open_tree(sample_data / "events.root") as tree:
        paths = paths_of(TOY, tree.fields)
        assert list(tree.chunks(paths)) == [(0, 1500)]
        assert list(tree.chunks(paths, 700)) == [(0, 600), (600, 1200), (1200, 1500)]
        whole = tree.read(paths)
        parts = [tree.read(paths, *each) for each in tree.chunks(paths, 700)]
        assert same_values(ak.concatenate(parts), whole)
    assert CHUNK_EVENTS > 1500


def test_chunks_of_an_rntuple(tmp_path):
    events = toy_events(100)
    with uproot.recreate(tmp_path / "in.root") as file:
        made = file.mkrntuple("Events", events.layout.form)
        for start in range(0, 100, 25):
            made.extend(events[start : start + 25])
    with open_tree(tmp_path / "in.root") as tree:
        assert list(tree.chunks([("event",)], 60)) == [(0, 50), (50, 100)]
        parts = [tree.read([("event",)], *each) for each in tree.chunks([("event",)], 60)]
    assert ak.concatenate(parts).event.tolist() == events.event.tolist()


def test_what_was_read_is_not_kept(toy):
    """Closed files would hold on to it until Python looks for cycles."""
    with open_tree(toy) as tree:
        tree.read(tree.fields.paths)
        assert not tree.source.file.array_cache
