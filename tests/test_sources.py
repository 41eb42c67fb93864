"""One model, the same events in every form that people have them in: equal scores."""

import awkward as ak
import numpy as np
import pytest
import uproot

import tracksets as ts
from tracksets.datasets import read_dataset
from tracksets.fields import Columns
from tracksets.inputs import paths_of
from tracksets.reading import open_tree

INPUTS = ts.Inputs(
    collections={
        "Track": ts.Collection(features=["log(pt)", "eta", "d0/d0_err", "px"], select="pt > 0.6")
    },
    event=["PV_z", "log1p(nTrack)"],
)


@pytest.fixture(scope="module")
def plain(sample_data):
    return uproot.open(f"{sample_data}/events.root:Events").arrays()


@pytest.fixture(scope="module")
def scorer(plain):
    training = ts.Training(epochs=1, block_tracks=2048)
    model = ts.Model(phi=[8], rho=[8])
    return ts.fit(plain, plain.isSignal, INPUTS, model=model, training=training, progress=False)


@pytest.fixture(scope="module")
def expected(plain, scorer):
    return np.asarray(scorer(plain))


@pytest.fixture(scope="module")
def records(plain):
    """What `how="zip"` and NanoEvents look like; nTrack is not a field of its own."""
    names = [name for name in plain.fields if name.startswith("Track_")]
    tracks = ak.zip({name.removeprefix("Track_"): plain[name] for name in names})
    return ak.Array({"Track": tracks, "PV": ak.zip({"z": plain.PV_z}), "event": plain.event})


def test_records(records, scorer, expected):
    np.testing.assert_array_equal(scorer(records), expected)
    assert set(scorer.branches(records)) <= {
        *("Track.pt", "Track.eta", "Track.d0", "Track.d0_err", "Track.phi"),
        *("PV.z", "Track.charge", "Track.z0", "Track.z0_err"),
    }


def test_nanoevents(sample_data, scorer, expected):
    factory = pytest.importorskip("coffea.nanoevents", reason="coffea is not installed")

    class Schema(factory.NanoAODSchema):
        warn_missing_crossrefs = False  # the sample has no electrons that could refer to jets
        mixins = factory.NanoAODSchema.mixins | {"PV": "NanoCollection"}  # a vertex without x, y

    read = []
    events = factory.NanoEventsFactory.from_root(
        {f"{sample_data}/events.root": "Events"},
        schemaclass=Schema,
        access_log=read,
    ).events()
    np.testing.assert_array_equal(scorer(events), expected)
    branches = {str(getattr(each, "branch", each)) for each in read}
    assert not {name for name in branches if "z0" in name or "charge" in name}


@pytest.mark.parametrize("suffix", ["root", "parquet"])
def test_other_files(tmp_path, records, plain, scorer, expected, suffix):
    for i, array in enumerate((records, plain)):
        path = tmp_path / f"{i}.{suffix}"
        if suffix == "root":
            with uproot.recreate(path) as file:
                file.mkrntuple("Events", array)
        else:
            ak.to_parquet(array, path, row_group_size=400)
        with open_tree(path) as tree:
            paths = paths_of(INPUTS, tree.fields)
            events = tree.read(paths)
            np.testing.assert_array_equal(scorer.score(Columns(events))[:, 0], expected)


def test_training_from_parquet_is_training_from_root(tmp_path, plain, sample_data):
    ak.to_parquet(plain, tmp_path / "events.parquet", row_group_size=500)
    content = {
        "data": {
            "files": ["events.*"],
            "target": "isSignal",
            "classes": {"b": {"value": 0}, "s": {"value": 1}},
        },
        "inputs": INPUTS.model_dump(mode="json"),
    }
    one, two = (
        read_dataset(ts.Config(folder=str(folder), **content), INPUTS)
        for folder in (sample_data, tmp_path)
    )
    np.testing.assert_array_equal(one.inputs.tracks["Track"], two.inputs.tracks["Track"])
    np.testing.assert_array_equal(one.inputs.event, two.inputs.event)
    np.testing.assert_array_equal(one.targets, two.targets)


THREE = """
[data]
files = ["events.root"]
weight = "genWeight"
[data.classes.few]
where = "nTrack < 45"
[data.classes.some]
where = "nTrack >= 45 && nTrack < 70"
[data.classes.many]
where = "nTrack >= 70"
[inputs.collections.Track]
features = ["log(pt)", "eta"]
[model]
phi = [16]
rho = [16]
[training]
epochs = 20
block_tracks = 1024
learning_rate = 5e-3
"""
TWO = THREE.partition("[data.classes.few]")[0] + (
    "[data.regression]\ntargets = ['nTrack', 'sum(Track_pt)']\nnames = ['n', 'ht']\nunits = ['', 'GeV']\n[inputs"
    + THREE.partition("[inputs")[2]
)


@pytest.mark.parametrize(
    ("config", "names"), [(THREE, ("few", "some", "many")), (TWO, ("n", "ht"))]
)
def test_several_scores_end_to_end(tmp_path, sample_data, plain, config, names):
    path = tmp_path / "train.toml"
    path.write_text(config.replace("events.root", f"{sample_data}/events.root"))
    scorer = ts.train(path, progress=False)
    scores = scorer(plain)
    assert scores.fields == list(names)
    assert scorer.task.units == (() if len(names) == 3 else ("", "GeV"))
    report = ts.label(scorer, sample_data / "events.root", tmp_path / "out", progress=False)
    labelled = uproot.open(f"{report.outputs[0]}:Events").arrays()
    for name in names:
        np.testing.assert_array_equal(labelled[f"score_{name}"], scores[name])
    n = np.asarray(plain.nTrack)
    if len(names) == 3:
        stacked = np.stack([np.asarray(scores[name]) for name in names], axis=1)
        np.testing.assert_allclose(stacked.sum(axis=1), 1, rtol=1e-6)
        assert (stacked.argmax(axis=1) == np.digitize(n, [45, 70])).mean() > 0.7
    else:  # in the units of the targets
        assert np.std(scores.n - n) < 0.3 * n.std()
        ht = np.asarray(ak.sum(plain.Track_pt, axis=1))
        assert np.std(scores.ht - ht) < 0.5 * ht.std()
