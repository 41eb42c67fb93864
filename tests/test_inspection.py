"""What a file holds, in words, and a starting configuration that works."""

import re
import tomllib
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from rootfiles import write_toy

from tracksets.branches import collections_of
from tracksets.config import check_config
from tracksets.errors import FileError
from tracksets.inspection import describe, write_starting_config
from tracksets.reading import open_tree
from tracksets.starting import _block_tracks
from tracksets.training import train


def test_collections_of_the_sample(sample_data):
    with open_tree(sample_data / "events.root") as tree:
        events, tracks = collections_of(tree)
        counts = np.asarray(ak.num(tree.read([("Track_pt",)])["Track_pt"]))
    assert events.name == ""
    assert events.types["event"] == "uint64"
    assert tracks.name == "Track"
    assert tracks.types["Track_charge"] == "var * int32"
    assert (tracks.mean, tracks.largest) == (counts.mean(), counts.max())


def test_what_cannot_be_used_is_said(shared_data):
    text = describe(str(shared_data("uproot-stl_containers.root")))
    usable, odd = text.split("cannot be used")
    assert "vector_int32" in usable
    assert "map_int32_int16" in odd
    assert "vector_string" in odd


@pytest.mark.parametrize(
    "name", ["pfnano.root", "single_top.root", "alice_v0.root", "nano_dy.root", "uproot-HZZ.root"]
)
def test_real_files_are_described(shared_data, name):
    text = describe(str(shared_data(name)))
    assert "collection " in text
    check_config(tomllib.loads(text.partition("# A train.toml to start from:")[2]))


def test_the_starting_configuration_works_as_it_stands(sample_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = describe(f"{sample_data}/events.root:Events").partition("start from:")[2]
    content = tomllib.loads(text)
    assert content["data"]["files"] == [str((sample_data / "events.root").resolve())]
    assert "clip(d0/d0_err, -30, 30)" in content["inputs"]["collections"]["Track"]["features"]
    assert set(content["data"]["classes"]) == {"isSignal_0", "isSignal_1"}
    content["training"]["epochs"] = 1
    content["model"] = {"phi": [4], "rho": [4]}
    scorer = train(check_config(content), progress=False)
    assert scorer.task.names == ("isSignal_0", "isSignal_1")


def test_several_files_are_classes(sample_data, tmp_path):
    more = write_toy(tmp_path / "signal.root")
    files = [str(sample_data / name) for name in ("background.root", "signal.root")]
    text = describe(*files)
    assert f"{files[1]}: tree Events, 2,200 events, the same branches\n" in text
    content = tomllib.loads(text.partition("start from:")[2])
    assert list(content["data"]["classes"]) == ["background", "signal"]
    content["training"]["epochs"] = 1
    content["model"] = {"phi": [4], "rho": [4]}
    assert train(check_config(content), progress=False).task.names == ("background", "signal")
    text = describe(f"{files[1]}:Events", str(more))
    assert "  without: PV_z, Track_charge," in text
    assert list(tomllib.loads(text.partition("start from:")[2])["data"]["classes"]) == [
        "signal_1",
        "signal_2",
    ]


def test_without_a_truth_it_is_a_regression(tmp_path):
    path = tmp_path / "file.root"
    pt = ak.Array([[1.0, 2.0], [], [3.0]] * 20)
    with uproot.recreate(path) as file:
        file.mktree("tree", {"hit_pt": pt, "hit_phi": pt, "energy": np.arange(60.0)})
        file["histogram"] = np.histogram([1, 2])
    content = tomllib.loads(describe(str(path)).partition("start from:")[2])
    assert content["data"]["regression"]["targets"] == ["energy"]
    features = content["inputs"]["collections"]["hit"]["features"]
    assert features == ["log(max(pt, 1e-6))", "cos(phi)", "sin(phi)"]


def test_what_the_configuration_starts_with(tmp_path):
    """Momenta as components become pt and angles; other collections are comments that work."""
    path = tmp_path / "file.root"
    jets = ak.Array([[1.0, 2.0], [3.0]] * 30)
    with uproot.recreate(path) as file:
        jet = {f"Jet_{name}": jets for name in ("Px", "Py", "Pz", "E", "btag")}
        file.mktree("tree", {**jet, "Muon_pt": jets[:, :1], "isSignal": np.arange(60) % 2})
    text = describe(str(path)).partition("start from:")[2]
    commented = re.sub(r"^# ", "", text, flags=re.MULTILINE)
    found = tomllib.loads(commented)["inputs"]["collections"]
    assert found["Jet"]["features"] == [
        "log(max(pt, 1e-6))",
        "eta",
        "cos(phi)",
        "sin(phi)",
        "log(max(E, 1e-6))",
        "btag",
    ]
    assert found["Muon"]["features"] == ["log(max(pt, 1e-6))"]
    assert set(tomllib.loads(text)["inputs"]["collections"]) == {"Jet"}
    content = tomllib.loads(commented)
    content["training"]["epochs"] = 1
    content["model"] = {"phi": [4], "rho": [4]}
    assert train(check_config(content), progress=False).inputs.widths == {"Jet": 6, "Muon": 1}


@pytest.mark.parametrize(
    ("n_track", "block"), [(0, 256), (10_000, 256), (260_000, 4096), (1e6, 16384), (1e9, 16384)]
)
def test_small_files_get_small_blocks(n_track, block):
    assert _block_tracks(n_track) == block


def test_the_configuration_is_written(sample_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [str(sample_data / name) for name in ("background.root", "signal.root")]
    output = tmp_path / "new" / "train.toml"
    text = write_starting_config(output, *files)
    assert describe(*files) == f"{text}\n\n# A train.toml to start from:\n\n{output.read_text()}"
    with pytest.raises(FileError, match="exists already"):
        write_starting_config(output, *files)
    write_starting_config(output, str(sample_data / "events.root"), force=True)
    assert "isSignal" in output.read_text()


def test_files_below_the_configuration_are_named_relative_to_it(tmp_path, monkeypatch):
    for name in ("work/data/one.root", "work/data/two.root", "elsewhere/three.root"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_toy(tmp_path / name)
    monkeypatch.chdir(tmp_path / "work")
    files = [
        "data/one.root:Events",
        str(tmp_path / "work/data/two.root"),
        "../elsewhere/three.root",
    ]
    here = tomllib.loads(describe(*files).partition("start from:")[2])["data"]["classes"]
    there = str((tmp_path / "elsewhere/three.root").resolve())
    assert [each["files"] for each in here.values()] == [
        ["data/one.root"],
        ["data/two.root"],
        [there],
    ]
    write_starting_config(Path("data/train.toml"), *files)
    text = Path("data/train.toml").read_text()
    found = [each["files"] for each in tomllib.loads(text)["data"]["classes"].values()]
    assert found == [["one.root"], ["two.root"], [there]]
    monkeypatch.chdir(tmp_path)
    write_starting_config(Path("toml/train.toml"), str(tmp_path / "work/data/one.root"))
    found = tomllib.loads(Path("toml/train.toml").read_text())["data"]["files"]
    assert found == [str((tmp_path / "work/data/one.root").resolve())]


def test_no_collection_to_start_from(tmp_path):
    with uproot.recreate(tmp_path / "file.root") as file:
        file.mktree("tree", {"x": np.arange(3.0)})
    with pytest.raises(FileError, match="no tree with a collection"):
        write_starting_config(tmp_path / "train.toml", str(tmp_path / "file.root"))
    assert not (tmp_path / "train.toml").exists()


def test_a_file_without_trees_is_refused(tmp_path):
    with uproot.recreate(tmp_path / "file.root") as file:
        file["histogram"] = np.histogram([1, 2])
    with pytest.raises(FileError, match="no tree"):
        describe(str(tmp_path / "file.root"))


def test_nan_is_counted_on_request(tmp_path):
    path = tmp_path / "file.root"
    pt = ak.Array([[1.0, np.nan], [], [np.inf]])
    with uproot.recreate(path) as file:
        file.mktree("tree", {"hit_pt": pt, "hit_phi": ak.Array([[1.0, 2.0], [], [3.0]])})
    assert "hit_pt   var * float64  (2 NaN or infinite)\n" in describe(str(path), count_nan=True)
    assert "NaN" not in describe(str(path))
    assert describe(str(path), count_nan=True).count("NaN") == 1


def test_values_that_may_be_missing_are_usable(tmp_path):
    """As in the files of most programs that write Parquet."""
    path = tmp_path / "file.parquet"
    pt = ak.Array([[1.0, 2.0], None, [3.0, None], []])
    ak.to_parquet(ak.Array({"Track_pt": pt, "x": [1.0, None, 2.0, np.nan]}), path)
    text = describe(str(path), count_nan=True)
    assert "cannot be used" not in text
    assert (
        "collection Track: 1.0 per event, at most 2\n    Track_pt  option[var * ?float64]" in text
    )
    assert "x  ?float64  (1 NaN or infinite)" in text
    assert check_config(tomllib.loads(text.partition("start from:")[2])).inputs


def test_a_missing_file_is_named_whatever_its_format(tmp_path):
    for name in ("none.parquet", "none.root"):
        with pytest.raises(FileError, match=f"no file .*{name}"):
            describe(str(tmp_path / name))


def test_parquet_is_described(tmp_path):
    path = tmp_path / "file.parquet"
    tracks = ak.zip({"pt": ak.Array([[1.0, 2.0], [], [3.0]])})
    ak.to_parquet(ak.Array({"Track": tracks, "x": [1.0, 2.0, 3.0]}), path)
    text = describe(str(path), count_nan=True)
    assert "tree rows, 3 events" in text
    assert "collection Track: 1.0 per event, at most 2" in text
    check_config(tomllib.loads(text.partition("start from:")[2]))


def test_large_integers_and_nan_do_not_spoil_the_starting_configuration(tmp_path):
    path = tmp_path / "file.root"
    code = ak.Array([[1010010030, 2], [], [-5]])
    with uproot.recreate(path) as file:
        bad = ak.Array([[np.nan, 2.0], [], [1.0]])
        file.mktree("tree", {"hit_pdg": code, "hit_bad": bad, "hit_x": bad[:, 1:], "e": np.ones(3)})
    content = tomllib.loads(describe(str(path)).partition("start from:")[2])
    assert content["inputs"]["collections"]["hit"]["features"] == [
        "sign(pdg) * log1p(abs(pdg))",
        "x",
    ]
