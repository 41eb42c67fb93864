"""Configurations and files in; events, targets and weights out, against uproot by hand."""

import awkward as ak
import numpy as np
import pytest
import uproot

from tracksets.config import check_config
from tracksets.datasets import read_dataset
from tracksets.errors import DataError, FileError

INPUTS = {"collections": {"Track": {"features": ["pt", "d0"]}}, "event": ["PV_z"]}


def dataset(folder, **data):
    config = check_config({"data": data, "inputs": INPUTS, "folder": str(folder)})
    return read_dataset(config, config.inputs), config


@pytest.fixture(scope="module")
def events(sample_data):
    return uproot.open(f"{sample_data}/events.root:Events").arrays()


def test_classes_by_file_come_in_their_order(sample_data):
    data, _ = dataset(
        sample_data,
        weight="genWeight",
        classes={"s": {"files": ["signal.root"]}, "b": {"files": ["background.root:Events"]}},
    )
    assert data.task.names == ("s", "b")
    assert data.task.kind == "binary"
    signal = uproot.open(f"{sample_data}/signal.root:Events").arrays(["Track_pt", "genWeight"])
    n = len(signal)
    np.testing.assert_array_equal(data.targets, np.arange(len(data.targets)) >= n)
    np.testing.assert_array_equal(data.weights[:n], signal.genWeight)
    np.testing.assert_array_equal(data.inputs.counts["Track"][:n], ak.num(signal.Track_pt))
    flat = ak.flatten(signal.Track_pt)
    np.testing.assert_array_equal(data.inputs.tracks["Track"][: len(flat), 0], flat)


def test_classes_by_where_and_by_value_are_the_same(sample_data, events):
    one, _ = dataset(
        sample_data,
        files=["events.root"],
        classes={"b": {"where": "isSignal == 0"}, "s": {"where": "isSignal == 1"}},
    )
    two, _ = dataset(
        sample_data,
        files=["events.root"],
        target="isSignal",
        classes={"b": {"value": 0}, "s": {"value": 1}},
    )
    truth = np.asarray(events.isSignal)
    for data in (one, two):
        np.testing.assert_array_equal(np.bincount(data.targets), np.bincount(truth))
        expected = np.r_[events.PV_z[truth == 0], events.PV_z[truth == 1]]
        np.testing.assert_array_equal(data.inputs.event[:, 0], expected)
        assert (data.weights == 1).all()


def test_select_drops_events_before_their_features_are_looked_at(sample_data, events):
    config = check_config(
        {
            "data": {
                "files": ["events.root"],
                "select": "nTrack > 0",
                "regression": {"targets": ["max(Track_pt)", "log(nTrack)"], "names": ["a", "b"]},
            },
            "inputs": {"collections": {"Track": {"features": ["pt/mean(pt)"]}}},
            "folder": str(sample_data),
        }
    )
    data = read_dataset(config, config.inputs)
    kept = events[events.nTrack > 0]
    assert data.task.names == ("a", "b")
    np.testing.assert_allclose(data.targets[:, 0], ak.max(kept.Track_pt, axis=1))
    np.testing.assert_allclose(data.targets[:, 1], np.log(kept.nTrack))


def test_further_columns(sample_data, events):
    content = {
        "data": {
            "files": ["events.root"],
            "select": "nTrack > 0",
            "classes": {"b": {"where": "isSignal == 0"}, "s": {"where": "isSignal == 1"}},
        },
        "inputs": INPUTS,
        "folder": str(sample_data),
    }
    config = check_config(content)
    data = read_dataset(config, config.inputs, columns=["event % 5", "max(Track_pt)"])
    kept = events[events.nTrack > 0]
    kept = ak.concatenate([kept[kept.isSignal == i] for i in range(2)])
    assert list(data.columns) == ["event % 5", "max(Track_pt)"]
    np.testing.assert_array_equal(data.columns["event % 5"], kept.event % 5)
    np.testing.assert_array_equal(data.columns["max(Track_pt)"], ak.max(kept.Track_pt, axis=1))
    with pytest.raises(DataError, match="did you mean 'event'"):
        read_dataset(config, config.inputs, columns=["evnt % 5"])


def test_balance_and_reweight_apply_to_the_training_only(sample_data, events):
    data, config = dataset(
        sample_data,
        files=["events.root"],
        weight="genWeight",
        target="isSignal",
        classes={"b": {"value": 0}, "s": {"value": 1}},
        balance=True,
        reweight={"variable": "nTrack", "bins": [0, 30, 60, 90, 200], "match": "s"},
    )
    np.testing.assert_allclose(data.weights.sum(), ak.sum(events.genWeight), rtol=1e-6)
    weights = data.training_weights(config)
    tracks = data.inputs.counts["Track"]
    shapes = []
    for i in range(2):
        chosen = data.targets == i
        np.testing.assert_allclose(weights[chosen].sum(), weights.sum() / 2)
        bins = [0, 30, 60, 90, 200]
        shapes.append(np.histogram(tracks[chosen], bins, weights=weights[chosen])[0])
    np.testing.assert_allclose(shapes[0], shapes[1])


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"weight": "1/(isSignal - 1)"}, DataError, r"weight .* NaN or infinite in 750 event"),
        ({"weight": "genWeigth"}, DataError, "did you mean 'genWeight'"),
        ({"weight": "Track_pt"}, DataError, "one number per track where one per event"),
        ({"select": "nTrack > 1000"}, DataError, "class b has no events in 1 file"),
        ({"tree": "Event"}, FileError, "did you mean 'Events'"),
        ({"files": ["event.root"]}, FileError, "did you mean 'events.root'"),
        ({"files": ["none*.root"]}, FileError, "no file matches"),
    ],
)
def test_what_goes_wrong_is_said(sample_data, data, error, message):
    data = {"files": ["events.root"], "target": "isSignal", **data}
    with pytest.raises(error, match=message):
        dataset(sample_data, classes={"b": {"value": 0}, "s": {"value": 1}}, **data)
