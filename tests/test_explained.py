"""Friend trees with what each track contributes, against the contributions in memory."""

import awkward as ak
import numpy as np
import pytest
import uproot
from helpers import CLASSES, INPUTS, make_events, make_scorer

import tracksets as ts
from tracksets.errors import ConfigError, FileError
from tracksets.labelling import LabellingError

KINDS = ("change", "gradient")


def write(path, events):
    """Write a tree with the branches that INPUTS want."""
    columns = {name: events[name] for name in events.fields}
    with uproot.recreate(path) as file:
        tree = file.mktree("Events", {name: each.type.content for name, each in columns.items()})
        if len(events):
            tree.extend(columns)
    return path


def read(path):
    """Return score and lists, by branch, of any format."""
    if path.suffix == ".parquet":
        array = ak.from_parquet(path)
    else:
        array = uproot.open(f"{path}:Events_score").arrays()
    found = {}
    for name in array.fields:
        if array[name].fields:
            found |= {f"{name}_{each}": array[name, each] for each in array[name].fields}
        else:
            found[name] = array[name]
    return found


@pytest.fixture(scope="module")
def events():
    return make_events(300, seed=11)


@pytest.fixture(scope="module")
def source(tmp_path_factory, events):
    return write(tmp_path_factory.mktemp("explained") / "a.root", events)


@pytest.mark.parametrize("format_", ["root", "rntuple", "parquet"])
def test_like_the_contributions(tmp_path, source, events, format_, monkeypatch):
    monkeypatch.setattr("tracksets.trees.CHUNK_EVENTS", 100)
    scorer = make_scorer()
    report = ts.label(scorer, source, tmp_path, mode="explain", format=format_, progress=False)
    found = read(report.outputs[0])
    np.testing.assert_array_equal(found["score"], scorer(events))
    for kind in KINDS:
        expected = scorer.contributions(events, kind)
        for collection in INPUTS.collections:
            branch = found[f"{collection}_score_{kind}"]
            assert ak.num(branch).tolist() == ak.num(events[f"{collection}_pt"]).tolist()
            np.testing.assert_allclose(
                ak.flatten(branch), ak.flatten(expected[collection]), atol=1e-6
            )
            assert ak.flatten(branch).to_numpy().dtype == np.float32


def test_several_classes(tmp_path, source, events):
    scorer = make_scorer(CLASSES)
    [path] = ts.label(scorer, source, tmp_path, mode="explain", progress=False).outputs
    found = read(path)
    expected = scorer.contributions(events)
    for name in CLASSES.names:
        np.testing.assert_allclose(
            ak.flatten(found[f"Track_score_{name}_change"]),
            ak.flatten(expected.Track[name]),
            atol=1e-6,
        )
        assert f"Jet_score_{name}_gradient" in found


@pytest.mark.parametrize("format_", ["root", "rntuple", "parquet"])
@pytest.mark.parametrize("n", [0, 3])
def test_no_tracks_at_all(tmp_path, n, format_):
    events = make_events(n + 1)[:n]
    for name in events.fields[:-1]:
        events[name] = events[name][:, :0]
    source = write(tmp_path / "empty.root", events)
    report = ts.label(
        make_scorer(), source, tmp_path / "o", mode="explain", format=format_, progress=False
    )
    found = read(report.outputs[0])
    assert len(found["score"]) == n
    assert ak.sum(ak.num(found["Track_score_change"])) == 0


def test_root_reads_it_as_a_friend(tmp_path, source, events, root):
    [path] = ts.label(make_scorer(), source, tmp_path, mode="explain", progress=False).outputs
    file = root.TFile.Open(str(source))
    tree = file.Get("Events")
    tree.AddFriend("Events_score", str(path))
    n = tree.Draw("Track_score_change:Track_pt", "Events_score.score > 0.3", "goff")
    contributions = make_scorer().contributions(events).Track
    chosen = make_scorer()(events) > 0.3
    assert n == ak.sum(ak.num(contributions[chosen]))
    pairs = np.array([[tree.GetV1()[i], tree.GetV2()[i]] for i in range(n)])
    np.testing.assert_allclose(pairs[:, 0], ak.flatten(contributions[chosen]), atol=1e-6)
    np.testing.assert_allclose(pairs[:, 1], ak.flatten(events.Track_pt[chosen]), rtol=1e-6)
    file.Close()


def test_again_and_with_another_model(tmp_path, source):
    def run(scorer):
        return ts.label(scorer, source, tmp_path, mode="explain", progress=False)

    assert len(run(make_scorer()).written) == 1
    assert len(run(make_scorer()).skipped) == 1
    assert len(run(make_scorer(seed=1)).written) == 1


def test_damage_is_noticed(tmp_path, source, monkeypatch):
    real = uproot.WritableTree.extend

    def lossy(self, chunk):
        real(
            self, {**chunk, "Track": ak.zip({n: -chunk["Track"][n] for n in chunk["Track"].fields})}
        )

    monkeypatch.setattr(uproot.WritableTree, "extend", lossy)
    with pytest.raises(LabellingError, match="was not written correctly"):
        ts.label(make_scorer(), source, tmp_path, mode="explain", progress=False)
    assert not list(tmp_path.iterdir())


def test_what_is_refused(tmp_path, source):
    for options in (
        {"select": "PV_z > 0"},
        {"engine": "openvino"},
        {"vary": {"up": "Track_pt *= 1.1"}},
    ):
        with pytest.raises(ConfigError, match="takes one model, explains all events"):
            ts.label(make_scorer(), source, tmp_path, mode="explain", **options)
    with pytest.raises(LabellingError, match="'Track' would be the name of two branches") as error:
        ts.label(make_scorer(), source, tmp_path, mode="explain", field="Track", progress=False)
    assert len(error.value.report.failures) == 1
    assert not issubclass(LabellingError, FileError)
