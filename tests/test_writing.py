import array
import json
import subprocess
import sys
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from rootfiles import (
    RootReader,
    by_rdataframe,
    changed_baskets,
    checksum,
    different_branches,
    same_values,
    write_rntuple,
    write_toy,
)

from tracksets import pyroot, rewriting, writing
from tracksets.errors import DataError, FileError
from tracksets.feeds import Feed
from tracksets.reading import Tree, open_tree
from tracksets.writing import write_append, write_branch, write_friend


def scores(n: int = 20, seed: int = 0, *names: str) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.random(n, np.float32) for name in names or ("score",)}


def feed(values: dict[str, np.ndarray], size: int = 7) -> Feed:
    """Let columns arrive in chunks of another size than anything else has."""
    n = len(next(iter(values.values())))
    chunks = [
        {name: each[i : i + size] for name, each in values.items()} for i in range(0, n, size)
    ]
    return Feed({name: each.dtype for name, each in values.items()}, chunks)


@pytest.fixture(params=["ROOT", "uproot"])
def writer(request, monkeypatch) -> str:
    """Run a test with ROOT and without it."""
    if request.param == "ROOT":
        request.getfixturevalue("root")
    else:
        monkeypatch.setattr(writing, "has_root", lambda: False)
    return request.param


@pytest.fixture
def without_root(monkeypatch):
    monkeypatch.setattr(writing, "has_root", lambda: False)


def branch(source: Path, output: Path, values: dict[str, np.ndarray], name=None, **options) -> None:
    with open_tree(source, name) as tree:
        write_branch(tree, output, feed(values), **options)


def read(path: Path, name: str, tree: str = "Events") -> ak.Array:
    with uproot.open(path) as file:
        return file[tree][name].array()


@pytest.fixture(scope="module")
def rich(root, tmp_path_factory) -> Path:
    """Return a file with everything that uproot can write, too.

    Two trees of one name in different folders, one of them in two cycles, fixed and variable
    dimensions, every type of number, a vector `T` beside its namesake counter `nT`, histograms.
    """
    path = tmp_path_factory.mktemp("rich") / "rich.root"
    file = root.TFile.Open(str(path), "RECREATE")
    histogram = root.TH2D("h2", "title", 3, 0, 1, 2, 0, 1)
    histogram.Sumw2()
    histogram.Fill(0.5, 0.5, 3)
    for folder, cycles, n_event in (("", 1, 7), ("dir", 2, 5), ("dir/deeper", 1, 0)):
        if folder:
            file.mkdir(folder)
        file.cd(folder)
        histogram.Write()
        tree = root.TTree("Events", f"tree in {folder or 'the top'}")
        numbers = {
            kind: array.array(code, [0] * 6)
            for code, kind in zip("bBhHiIqQfd", "BbSsIiLlFD", strict=True)
        }
        for kind, buffer in numbers.items():
            tree.Branch(f"one_{kind}", buffer, f"one_{kind}/{kind}")
            tree.Branch(f"fixed_{kind}", buffer, f"fixed_{kind}[2][3]/{kind}")
        flag, counter = array.array("B", [0]), array.array("I", [0])
        tree.Branch("flag", flag, "flag/O")
        tree.Branch("nT", counter, "nT/i")
        tree.Branch("T_pt", numbers["F"], "T_pt[nT]/F")
        tree.Branch("T_x", numbers["D"], "T_x[nT]/D")
        vector = root.std.vector("float")()
        tree.Branch("T", vector)
        for i in range(n_event):
            for buffer in numbers.values():
                buffer[:] = array.array(buffer.typecode, [i + j for j in range(6)])
            flag[0], counter[0] = i % 2, i % 3
            vector.clear()
            for j in range(i % 4):
                vector.push_back(i * j)
            tree.Fill()
        for _ in range(cycles):
            tree.Write()
    file.Close()
    return path


# A branch


@pytest.mark.parametrize("name", ["Events", "dir/Events", "dir/deeper/Events"])
def test_branch(rich, writer, root, tmp_path, name):
    before = checksum(rich)
    with open_tree(rich, name) as tree:
        values = scores(tree.n_event, 0, "score_a", "score_b")
        write_branch(tree, tmp_path / "out.root", feed(values))
    assert checksum(rich) == before
    reader = RootReader(root)
    with uproot.open(rich) as old, uproot.open(tmp_path / "out.root") as new:
        assert {key.split(";")[0] for key in old} == {key.split(";")[0] for key in new}
        for key in ("Events", "dir/Events", "dir/deeper/Events"):
            assert different_branches(old[key], new[key]) == []
            assert old[key].title == new[key].title
            added = set(new[key].keys()) - set(old[key].keys())
            if writer == "uproot":
                added.remove("nT_")  # vectors become arrays with a counter
            assert added == (set(values) if key == name else set())
        for key in ("h2", "dir/h2", "dir/deeper/h2"):
            assert new[key].variances().tolist() == old[key].variances().tolist()
            assert new[key].title == "title"
        if writer == "ROOT":
            # Old cycles too, except for the one that is replaced.
            assert set(old.keys()) == set(new.keys())
    for key, expected in values.items():
        back = read(tmp_path / "out.root", key, name)
        assert back.type.content == ak.types.NumpyType("float32")
        assert same_values(back, expected)
        assert np.array_equal(reader.scores(tmp_path / "out.root", name, key), expected)
    if writer == "ROOT":
        for key in ("Events", "dir/Events", "dir/deeper/Events"):
            assert reader.different(rich, tmp_path / "out.root", key) == ""


def test_the_baskets_of_other_branches_are_not_written_anew(root, sample_data, tmp_path):
    source = sample_data / "events.root"
    branch(source, tmp_path / "out.root", scores(1500))
    assert changed_baskets(source, tmp_path / "out.root", "Events") == []


def test_existing_branch(writer, tmp_path):
    source = write_toy(tmp_path / "in.root")
    branch(source, tmp_path / "first.root", scores(20, 1))
    with pytest.raises(FileError, match=r"has a branch 'score' already; .*--field.*--force"):
        branch(tmp_path / "first.root", tmp_path / "no.root", scores(20, 2))
    branch(tmp_path / "first.root", tmp_path / "second.root", scores(20, 2), force=True)
    assert same_values(read(tmp_path / "second.root", "score"), scores(20, 2)["score"])
    with uproot.open(source) as old, uproot.open(tmp_path / "second.root") as new:
        assert sorted(new["Events"].keys()) == sorted([*old["Events"].keys(), "score"])
        assert different_branches(old["Events"], new["Events"]) == []


@pytest.mark.parametrize("force", [False, True])
def test_a_branch_that_others_depend_on_is_never_replaced(writer, tmp_path, force):
    source = write_toy(tmp_path / "in.root")
    with pytest.raises(FileError, match="branch 'nTrack' that other branches depend on"):
        branch(source, tmp_path / "out.root", scores(20, 0, "nTrack"), force=force)


def test_the_only_jagged_branch_is_replaced(writer, tmp_path):
    source = write_toy(tmp_path / "in.root")
    branch(source, tmp_path / "out.root", scores(20, 0, "Track_pt"), force=True)
    assert same_values(read(tmp_path / "out.root", "Track_pt"), scores()["score"])
    assert same_values(read(tmp_path / "out.root", "nTrack"), read(source, "nTrack"))


def test_split_objects(root, tmp_path):
    """A score never takes the name of an object or of its part, and parts keep apart."""
    root.gInterpreter.Declare("struct TracksetsPiece { float pt; };")
    file = root.TFile.Open(str(tmp_path / "in.root"), "RECREATE")
    tree = root.TTree("Events", "")
    pieces = [root.TracksetsPiece(), root.TracksetsPiece()]
    for name, piece in zip(("muon", "jet"), pieces, strict=True):
        tree.Branch(name, piece)
    for i in range(20):
        pieces[0].pt, pieces[1].pt = i, -i
        tree.Fill()
    tree.Write()
    file.Close()
    for name in ("muon", "pt"):
        with pytest.raises(FileError, match=rf"branch '{name}' that other branches depend on"):
            branch(tmp_path / "in.root", tmp_path / "no.root", scores(20, 0, name), force=True)
    branch(tmp_path / "in.root", tmp_path / "out.root", scores())
    assert read(tmp_path / "out.root", "jet/pt").tolist() == [-i for i in range(20)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "has_root", lambda: False)
        with pytest.raises(FileError, match=r"cannot write Events/muon/pt \(float\)"):
            branch(tmp_path / "in.root", tmp_path / "no.root", scores())


def test_an_old_cycle_gets_no_branch(rich, writer, tmp_path):
    branch(rich, tmp_path / "out.root", scores(5), "dir/Events;2")
    with pytest.raises(FileError, match="dir/Events;1 is not the newest cycle"):
        branch(rich, tmp_path / "no.root", scores(5), "dir/Events;1")


def test_cycles_of_other_objects_do_not_count(writer, tmp_path):
    write_toy(tmp_path / "in.root")
    with uproot.update(tmp_path / "in.root") as file:
        file["note"] = "one"
        file["note"] = "two"
        assert {"Events;1", "note;2"} <= set(file.keys())
    branch(tmp_path / "in.root", tmp_path / "out.root", scores(), "Events;1")
    with uproot.open(tmp_path / "out.root") as file:
        assert same_values(file["Events"]["score"].array(), scores()["score"])
        assert str(file["note"]) == "two"


def test_an_rntuple_stays_one(root, writer, tmp_path):
    source = write_rntuple(tmp_path / "in.root")
    branch(source, tmp_path / "out.root", scores())
    with uproot.open(source) as old, uproot.open(tmp_path / "out.root") as new:
        assert new.classnames() == {"Events;1": "ROOT::RNTuple"}
        before, after = old["Events"].arrays(), new["Events"].arrays()
    assert after.fields == [*before.fields, "score"]
    assert ak.array_equal(after[before.fields], before)
    assert same_values(after.score, scores()["score"])
    found = by_rdataframe(tmp_path / "out.root", "Events", ["score"])["score"]
    assert np.array_equal(np.float32(found), scores()["score"])


def test_what_uproot_cannot_write_is_named(root, without_root, tmp_path):
    file = root.TFile.Open(str(tmp_path / "in.root"), "RECREATE")
    tree = root.TTree("Events", "")
    odd = {
        "word": root.std.string("abc"),
        "nested": root.std.vector["std::vector<float>"]([[1, 2], [3]]),
        "table": root.std.map["int", "float"](),
        "momentum": root.TLorentzVector(1, 2, 3, 4),
    }
    for name, value in odd.items():
        tree.Branch(name, value, 32000, 0)
    two = array.array("f", [1, 2])
    one = array.array("i", [1])
    tree.Branch("n", one, "n/I")
    tree.Branch("jagged", two, "jagged[n][2]/F")
    tree.Branch("pair", two, "a/F:b/F")
    for _ in range(20):
        tree.Fill()
    tree.Write()
    other = root.TTree("other", "")
    other.Branch("nested", odd["nested"], 32000, 0)
    other.Write()
    root.TF1("function", "x", 0, 1).Write()
    file.Close()
    with pytest.raises(FileError) as caught:
        branch(tmp_path / "in.root", tmp_path / "out.root", scores(), "Events")
    for each in (
        r"Events/word (std::string)",
        r"Events/nested (std::vector<std::vector<float>>)",
        r"Events/table (std::map<int32_t, float>)",
        r"Events/momentum (TLorentzVector)",
        r"Events/jagged (float[][2])",
        r"Events/pair (struct {float a; float b;})",
        r"other/nested (std::vector<std::vector<float>>)",
        r"function (TF1)",
        "--mode append or --mode friend, or install ROOT: pip install 'tracksets[root]'",
    ):
        assert each in str(caught.value)


@pytest.mark.parametrize("letter", ["#", "?"])
def test_paths_that_root_takes_for_urls(root, tmp_path, letter):
    """ROOT would write to the path before this letter."""
    source = write_toy(tmp_path / "in.root")
    folder = tmp_path / f"a{letter}b"
    folder.mkdir()
    with pytest.raises(FileError, match=r"ROOT cannot write to a path with # or ?"):
        branch(source, folder / "out.root", scores())
    assert {each.name for each in tmp_path.iterdir()} == {"in.root", folder.name}


# A friend tree


def test_append(rich, root, tmp_path):
    out = tmp_path / "out.root"
    before = checksum(rich)
    with open_tree(rich, "dir/Events") as tree:
        write_append(tree, out, feed(scores(5)), "dir/Events_score")
    assert checksum(rich) == before
    # All that was there stands where it stood; only the header and the lists of keys are new.
    with uproot.open(rich) as old, uproot.open(out) as new:
        assert set(new.keys()) == {*old.keys(), "dir/Events_score;1"}
        content, copy = rich.read_bytes(), out.read_bytes()
        for folder in (old, old["dir"], old["dir/deeper"]):
            for key in folder.keys(recursive=False):
                data = folder.key(key)
                start, stop = data.fSeekKey, data.fSeekKey + data.fNbytes
                if data.fClassName != "TDirectory":
                    assert copy[start:stop] == content[start:stop], key
        for name in ("Events", "dir/Events"):
            assert different_branches(old[name], new[name]) == []
    reader = RootReader(root)
    assert reader.different(rich, out, "dir/Events") == ""
    back = reader.scores(out, "dir/Events", "score", out, "dir/Events_score")
    assert np.array_equal(back, scores(5)["score"])


def test_append_to_rntuple(tmp_path):
    source = write_rntuple(tmp_path / "in.root")
    with open_tree(source) as tree:
        write_append(tree, tmp_path / "out.root", feed(scores()), "Events_score")
    assert same_values(read(tmp_path / "out.root", "score", "Events_score"), scores()["score"])
    with open_tree(source) as old, open_tree(tmp_path / "out.root", "Events") as new:
        assert same_values(old.read(old.fields.paths), new.read(new.fields.paths))


@pytest.mark.parametrize("name", ["Events_score", "dir/Events_score"])
def test_append_twice(tmp_path, name):
    source, first = write_toy(tmp_path / "in.root"), tmp_path / "first.root"
    with open_tree(source) as tree:
        write_append(tree, first, feed(scores(20, 1)), name)
    with open_tree(first, "Events") as tree:
        with pytest.raises(FileError, match=f"has an object '{name}' already"):
            write_append(tree, tmp_path / "no.root", feed(scores(20, 2)), name)
        write_append(tree, tmp_path / "out.root", feed(scores(20, 2)), name, force=True)
    back = read(tmp_path / "out.root", "score", name)
    assert same_values(back, scores(20, 2)["score"])


def test_friend(root, tmp_path):
    source, out = write_toy(tmp_path / "in.root"), tmp_path / "out.root"
    identifiers = {"event": np.arange(20, dtype=np.uint64) + 2**63}
    with open_tree(source) as tree:
        write_friend(tree, out, feed({**identifiers, **scores()}), "Events_score")
    with uproot.open(out) as file:
        assert file.keys() == ["Events_score;1"]
        assert file["Events_score"].keys() == ["event", "score"]
    back = read(out, "event", "Events_score")
    assert back.type.content == ak.types.NumpyType("uint64")
    assert same_values(back, identifiers["event"])
    found = RootReader(root).scores(source, "Events", "score", out, "Events_score")
    assert np.array_equal(found, scores()["score"])


@pytest.mark.parametrize("target", ["root", "rntuple", "parquet"])
def test_a_friend_of_nothing_has_its_columns(tmp_path, target):
    nothing = {"event": np.empty(0, np.uint64), **scores(0)}
    name, out = ("rows", "out.parquet") if target == "parquet" else ("kept", "out.root")
    with open_tree(write_toy(tmp_path / "in.root")) as tree:
        write_friend(tree, tmp_path / out, feed(nothing), name, target=target, every=False)
    with open_tree(tmp_path / out, name) as written:
        assert (written.format, written.n_event) == (target, 0)
        assert list(written.fields.paths) == [("event",), ("score",)]


# All of them


def write(mode: str, source: Path, output: Path, values: dict[str, np.ndarray]) -> str:
    """Write in a mode; returns the name of the tree with the scores."""
    with open_tree(source) as tree:
        if mode == "branch":
            write_branch(tree, output, feed(values))
            return tree.name
        if mode == "append":
            write_append(tree, output, feed(values), "Events_score")
        else:
            write_friend(tree, output, feed(values), "Events_score")
    return "Events_score"


@pytest.mark.parametrize("mode", ["branch", "append", "friend"])
def test_odd_values_and_memory(writer, tmp_path, mode):
    """Scores that are strided, not finite, or none at all."""
    for n in (0, 20):
        table = np.random.default_rng(0).random((n, 3), np.float32)
        table[3:5] = [[np.nan, np.inf, 0]]
        values = dict(zip("abc", table.T, strict=True))
        source = write_toy(tmp_path / f"in{n}.root", n)
        tree = write(mode, source, tmp_path / f"{n}.root", values)
        for name, expected in values.items():
            assert same_values(read(tmp_path / f"{n}.root", name, tree), expected)


@pytest.mark.parametrize("mode", ["branch", "append", "friend"])
@pytest.mark.parametrize("n", [0, 1, 19, 21])
def test_wrong_length(writer, tmp_path, mode, n):
    source = write_toy(tmp_path / "in.root")
    with pytest.raises((DataError, FileError), match=f"{n} scores (for 20 events|are too few)"):
        write(mode, source, tmp_path / "out.root", scores(n))


@pytest.mark.parametrize("mode", ["branch", "append", "friend"])
def test_what_was_written_is_read_back(writer, tmp_path, monkeypatch, mode):
    source = write_toy(tmp_path / "in.root")
    read_whole = Tree.read

    def read_wrong(tree, paths, *span):
        events = read_whole(tree, paths, *span)
        return (
            ak.with_field(events, events.score * 2, "score") if "score" in events.fields else events
        )

    monkeypatch.setattr(Tree, "read", read_wrong)
    with pytest.raises(FileError, match="not written correctly: the values of score differ"):
        write(mode, source, tmp_path / "out.root", scores())


def test_what_uproot_copies_wrongly_is_found(root, without_root, tmp_path, monkeypatch):
    """`var * 2 * float32` comes back with wrong counts; here it passes as if it did not."""
    file = root.TFile.Open(str(tmp_path / "in.root"), "RECREATE")
    tree = root.TTree("Events", "")
    n, x = array.array("i", [1]), array.array("f", [1, 2, 3, 4])
    tree.Branch("n", n, "n/I")
    tree.Branch("jagged", x, "jagged[n][2]/F")
    for i in range(20):
        n[0] = i % 3
        tree.Fill()
    tree.Write()
    file.Close()
    monkeypatch.setattr(rewriting, "_fits_ttree", lambda _: True)
    with pytest.raises(
        FileError, match=r"cannot read jagged|Events/jagged was not copied correctly"
    ):
        branch(tmp_path / "in.root", tmp_path / "out.root", scores())


@pytest.mark.parametrize("mode", ["branch", "append", "friend"])
def test_whatever_the_writer_raises_names_the_file(writer, tmp_path, monkeypatch, mode):
    def fail(*_, **__):
        raise ValueError("cannot do it")

    source = write_toy(tmp_path / "in.root")
    if writer == "ROOT" and mode == "branch":
        monkeypatch.setattr(pyroot._root().TFile, "Open", fail)
    else:
        monkeypatch.setattr(uproot.WritableDirectory, "mktree", fail)
    with pytest.raises(FileError, match=r"in\.root to .*: ValueError: cannot do it"):
        write(mode, source, tmp_path / "out.root", scores())


@pytest.mark.parametrize("mode", ["branch", "append", "friend"])
def test_remote_input(writer, tmp_path, mode):
    source = write_toy(tmp_path / "in.root")
    tree = write(mode, f"file://{source}:Events", tmp_path / "out.root", scores())
    assert same_values(read(tmp_path / "out.root", "score", tree), scores()["score"])


_RDATAFRAME = """
import json, sys, warnings
warnings.simplefilter("ignore")
import ROOT
source, folder = sys.argv[1:]
result = {}
for mode in ("branch", "append", "friend"):
    out = f"{folder}/{mode}.root"
    file = ROOT.TFile.Open(source if mode == "friend" else out)
    tree = file.Get("Events")
    if mode != "branch":
        tree.AddFriend("Events_score", out)
    columns = ROOT.RDataFrame(tree).AsNumpy(["event", "score"])
    result[mode] = {name: values.tolist() for name, values in columns.items()}
print(json.dumps(result))
"""


def test_rdataframe(root, sample_data, tmp_path):
    """A ROOT that knows nothing of `tracksets` sees the scores beside the other branches."""
    source, values = sample_data / "events.root", scores(1500)
    for mode in ("branch", "append", "friend"):
        write(mode, source, tmp_path / f"{mode}.root", values)
    command = [sys.executable, "-c", _RDATAFRAME, str(source), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    with uproot.open(source) as file:
        event = file["Events"]["event"].array().tolist()
    for columns in json.loads(done.stdout.splitlines()[-1]).values():
        assert columns == {"event": event, "score": values["score"].tolist()}
