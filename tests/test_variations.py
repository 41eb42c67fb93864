"""Shifted branches, against events that were shifted by hand."""

import awkward as ak
import numpy as np
import pytest
import uproot
from helpers import INPUTS, as_records, make_events, make_scorer

import tracksets as ts
from tracksets.errors import ConfigError, DataError, ModelError
from tracksets.export import export
from tracksets.features import jagged_inputs
from tracksets.fields import Columns
from tracksets.inputs import Inputs
from tracksets.variations import named_variations, parse_variations, varied

EVENTS = make_events(50, seed=7)


def shifted(**columns):
    events = EVENTS
    for name, values in columns.items():
        events = ak.with_field(events, values, name)
    return events


CASES = {
    "Track_pt *= 1.02": shifted(Track_pt=EVENTS.Track_pt * 1.02),
    "Track_pt = Track_pt * 1.02": shifted(Track_pt=EVENTS.Track_pt * 1.02),
    "Track_pt /= 2": shifted(Track_pt=EVENTS.Track_pt / 2),
    "PV_z += 3": shifted(PV_z=EVENTS.PV_z + 3),
    "PV_z = -1.5": shifted(PV_z=EVENTS.PV_z * 0 - 1.5),
    "Track_eta = 0.5": shifted(Track_eta=EVENTS.Track_eta * 0 + 0.5),
    "Track_eta -= PV_z": shifted(Track_eta=EVENTS.Track_eta - EVENTS.PV_z),
    "Track_pt *= abs(Track_eta) < 1 ? 1.1 : 0.9": shifted(
        Track_pt=EVENTS.Track_pt * ak.where(abs(EVENTS.Track_eta) < 1, 1.1, 0.9)
    ),
}


@pytest.mark.parametrize("text", CASES)
def test_like_events_that_were_shifted(text):
    scorer, expected = make_scorer(), make_scorer()(CASES[text])
    found = scorer.varied(text)(EVENTS)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.allclose(found, scorer(EVENTS))
    np.testing.assert_array_equal(scorer.varied(text)(as_records(EVENTS)), found)
    part = scorer.varied(text)(EVENTS[10:20])
    np.testing.assert_array_equal(part, found[10:20])


def test_one_after_the_other():
    text = "Track_eta = abs(Track_eta) + 1; Track_pt *= Track_eta"
    eta = abs(EVENTS.Track_eta) + 1
    expected = make_scorer()(shifted(Track_eta=eta, Track_pt=EVENTS.Track_pt * eta))
    np.testing.assert_allclose(make_scorer().varied(text)(EVENTS), expected, rtol=1e-5)
    twice = make_scorer().varied("Track_eta = abs(Track_eta) + 1").varied("Track_pt *= Track_eta")
    np.testing.assert_allclose(twice(EVENTS), expected, rtol=1e-5)


def test_cuts_see_what_is_shifted():
    inputs = INPUTS.model_copy(update={"vary": ("Track_pt *= 0.5",)})
    found, nominal = jagged_inputs(EVENTS, inputs), jagged_inputs(EVENTS, INPUTS)
    assert found.counts["Track"].sum() == ak.sum(EVENTS.Track_pt * 0.5 > 0.5)
    assert found.counts["Track"].sum() < nominal.counts["Track"].sum()
    contributions = make_scorer().varied("Track_pt *= 0.5").contributions(EVENTS)
    assert ak.num(contributions.Track).tolist() == ak.num(EVENTS.Track_pt).tolist()


def test_what_is_computed_shifts_too():
    random = np.random.default_rng(0)
    columns = {
        f"Jet_{name}": ak.unflatten(random.normal(size=6), [2, 0, 4]) for name in ("Px", "Py", "Pz")
    }
    events = ak.Array({**columns, "Jet_E": abs(columns["Jet_Px"]) + 20})
    inputs = Inputs(collections={"Jet": {"features": ["pt", "mass"]}}, vary=["Jet_Px *= 1.1"])
    expected = inputs.model_copy(update={"vary": ()})
    by_hand = ak.with_field(events, events.Jet_Px * 1.1, "Jet_Px")
    np.testing.assert_allclose(
        jagged_inputs(events, inputs).tracks["Jet"],
        jagged_inputs(by_hand, expected).tracks["Jet"],
        rtol=1e-6,
    )


def test_the_events_stay():
    columns, before = Columns(EVENTS), ak.to_list(EVENTS)
    other = varied(columns, ["PV_z += 1"])
    assert ak.to_list(EVENTS) == before
    np.testing.assert_array_equal(columns.of()("PV_z").values, EVENTS.PV_z)
    np.testing.assert_allclose(other.of()("PV_z").values, EVENTS.PV_z + 1)


def test_it_is_part_of_the_scorer(tmp_path):
    plain = make_scorer()
    scorer = plain.varied("Track_pt *= 1 + 0.1 * Extra_pt")
    assert scorer.hash != plain.hash
    assert "vary" not in plain.inputs.model_dump_json()
    assert Inputs.model_validate_json(scorer.inputs.model_dump_json()) == scorer.inputs
    assert "Extra_pt" in scorer.branches()
    assert set(scorer.branches(["Extra_pt", *EVENTS.fields])) == {"Extra_pt", *EVENTS.fields}
    scorer.save(tmp_path / "m.safetensors")
    assert ts.load(tmp_path / "m.safetensors") == scorer
    for name in ("m.onnx", "m.stablehlo"):
        with pytest.raises(ModelError, match=r"cannot export variations of inputs: Track_pt \*="):
            export(scorer, tmp_path / name)


def test_in_labelled_files(tmp_path, sample_data):
    training = ts.Training(epochs=1, block_tracks=2048)
    inputs = ts.Inputs(
        collections={"Track": {"features": ["log(pt)", "eta"], "select": "pt > 0.6"}}
    )
    events = uproot.open(f"{sample_data}/events.root:Events").arrays()
    model = ts.Model(phi=[8], rho=[8])
    scorer = ts.fit(events, events.isSignal, inputs, model=model, training=training, progress=False)
    vary = {"up": "Track_pt *= 1.1", "down": "Track_pt *= 0.9"}
    ts.label(
        scorer, sample_data / "events.root", tmp_path, mode="friend", vary=vary, progress=False
    )
    written = uproot.open(f"{tmp_path}/events.root:Events_score_score_up_score_down").arrays()
    np.testing.assert_array_equal(written.score, scorer(events))
    for name, text in vary.items():
        np.testing.assert_array_equal(written[f"score_{name}"], scorer.varied(text)(events))
        assert not np.array_equal(written[f"score_{name}"], written.score)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Track_pt", "is no variation: expected an assignment"),
        ("Track_pt == 1", "is no variation"),
        ("Track_pt *= ", "an expression is empty"),
        ("2 *= 3", "is no variation"),
        ("Track_pt *= __import__('os')", "\\^"),
        ("Track_pt *= onehot(Track_charge, 1)", "onehot gives several numbers"),
        ("PV_z += 1;", "'' is no variation"),
    ],
)
def test_what_is_no_variation(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_variations(text)
    with pytest.raises(ConfigError, match=message):
        Inputs(collections=INPUTS.collections, vary=[text])
    with pytest.raises(ConfigError, match=message):
        make_scorer().varied(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Track_ptt *= 2", "did you mean 'Track_pt'"),
        ("PV_z *= Track_pt", "not one number per event or track of this branch"),
        ("Track_pt *= Jet_pt", "variation"),
        ("Track_pt *= Track_ptt", "did you mean 'Track_pt'"),
        ("Other *= 2", "changes nothing: the inputs do not see Other"),
    ],
)
def test_what_cannot_be_varied(text, message):
    events = ak.with_field(EVENTS, EVENTS.PV_z, "Other")
    with pytest.raises((DataError, ConfigError), match=message):
        make_scorer().varied(text)(events)


def test_names():
    assert named_variations(["up: Track_pt *= 1.02", "PV_z += 1"]) == {
        "up": "Track_pt *= 1.02",
        "vary2": "PV_z += 1",
    }
    with pytest.raises(ConfigError, match="two variations are called 'up'"):
        named_variations(["up: a *= 1", "up: a *= 2"])
