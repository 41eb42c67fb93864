from dataclasses import replace

import numpy as np
import pytest
from helpers import INPUTS, flat_inputs, make_events

import tracksets as ts
from tracksets.blocks import Shape, pack_inputs
from tracksets.config import check_config
from tracksets.errors import ConfigError
from tracksets.reflections import Reflections

GROUPS = (("eta", "PV_z"), ("charge",), ("charge", "pt"))
REFLECTIONS = Reflections.of(GROUPS, INPUTS)
WIDTHS = {"Track": 3, "Jet": 1}
RANDOM = np.random.default_rng(0)
FLAT = flat_inputs({"Track": RANDOM.poisson(3, 60), "Jet": RANDOM.poisson(1, 60)}, WIDTHS)
SHAPE = Shape({"Track": 50, "Jet": 40}, 16)


def by_hand(flat, chosen):
    """Go through the events, and through the features that each reflection names."""
    tracks = {name: each.copy() for name, each in flat.tracks.items()}
    event = flat.event.copy()
    for i in range(flat.n_event):
        for reflection, applied in zip(GROUPS, chosen[i], strict=True):
            for feature in reflection if applied else ():
                for name, features in (("Track", ["log(pt)", "eta", "charge"]), ("Jet", ["pt"])):
                    if feature in features:
                        own = flat.axes[name].event == i
                        tracks[name][own, features.index(feature)] *= -1
                if feature == "PV_z":
                    event[i] *= -1
    return replace(flat, tracks=tracks, event=event)


def test_reflected_events_are_those_of_a_loop():
    mirrors = REFLECTIONS.mirrors([1], 60)
    assert {tuple(each) for each in mirrors.chosen} == set(np.ndindex(2, 2, 2))  # all there are
    order = np.random.default_rng(1).permutation(60)
    start = 0
    expected = pack_inputs(by_hand(FLAT, mirrors.chosen), SHAPE, order)
    for block, reflected in zip(pack_inputs(FLAT, SHAPE, order), expected, strict=True):
        found = mirrors(block, order[start : start + block.n_event])
        start += block.n_event
        for name in WIDTHS:
            np.testing.assert_array_equal(found.tracks[name], reflected.tracks[name])
            np.testing.assert_array_equal(found.rows[name], block.rows[name])
            assert found.tracks[name].dtype == np.float32
        np.testing.assert_array_equal(found.event, reflected.event)
        assert found.event.dtype == np.float32


def test_an_unknown_feature_is_refused_with_near_misses():
    with pytest.raises(ConfigError, match=r"reflections: no feature 'PV_x'; did you mean.*PV_z"):
        Reflections.of([["PV_x"]], INPUTS)
    content = {
        "data": {"classes": {"a": {"files": ["a.root"]}, "b": {"files": ["b.root"]}}},
        "inputs": {"collections": {"Track": {"features": ["pt", "eta"]}}},
        "training": {"reflections": [["etta"]]},
    }
    with pytest.raises(ConfigError, match="no feature 'etta'; did you mean 'eta'"):
        check_config(content, "train.toml")


def test_a_training_with_reflections_learns_the_symmetry():
    events = make_events(1500, mean=5, seed=3)
    targets = np.asarray(events.PV_z) > 0  # not symmetric: nothing is to be learned of it
    inputs = ts.Inputs(collections={"Track": {"features": ["pt"]}}, event=["PV_z"])
    training = ts.Training(epochs=8, block_tracks=512, learning_rate=0.01, validation=0)
    model = ts.Model(phi=[8], rho=[8])

    def fit(**options):
        settings = ts.Training.model_validate({**training.model_dump(), **options})
        return ts.fit(events, targets, inputs, model=model, training=settings, progress=False)

    plain, mirrored = fit(), fit(reflections=[["PV_z"]])
    assert np.ptp(plain(events)) > 0.9
    assert np.ptp(mirrored(events)) < 0.5
    again = fit(reflections=[["PV_z"]])
    assert again.hash == mirrored.hash
