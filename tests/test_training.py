import awkward as ak
import numpy as np
import pytest
from helpers import as_records, make_events

import tracksets as ts
from tracksets.errors import ConfigError, DataError, NonFiniteError
from tracksets.metrics import roc_auc
from tracksets.splitting import split

INPUTS = ts.Inputs(
    collections={"Track": {"features": ["log(pt)", "eta", "charge"]}}, event=["PV_z"]
)
MODEL = ts.Model(phi=[16, 16], rho=[16])
# One shape of blocks and one rate, so that all fits share what was compiled.
LEARN = ts.Training(epochs=30, block_tracks=1024, block_events=300, learning_rate=1e-2, patience=30)
QUICK = LEARN.model_copy(update={"epochs": 1})


def fit(events, targets, *, training=QUICK, **options):
    return ts.fit(
        events, targets, INPUTS, model=MODEL, training=training, progress=False, **options
    )


@pytest.fixture(scope="module")
def events():
    return make_events(2000, seed=5)


@pytest.fixture(scope="module")
def charge(events):
    """Charge of each event, which takes all tracks to know."""
    return ak.to_numpy(ak.sum(events.Track_charge, axis=1)).astype(np.float64)


def test_learns_two_classes(events, charge):
    scorer = fit(events, charge > 0, training=LEARN)
    test = make_events(1000, seed=6)
    truth = ak.to_numpy(ak.sum(test.Track_charge, axis=1)) > 0
    assert roc_auc(truth, scorer(test)) > 0.97
    assert scorer.task.kind == "binary"
    assert scorer.summary["events"] == {"training": 1600, "validation": 400}


def test_learns_a_sum_in_its_own_unit(events, charge):
    scorer = fit(events, 1000 + 10 * charge, training=LEARN, names=["charge"])
    scores = ak.to_numpy(scorer(events))
    assert abs(np.mean(scores) - np.mean(1000 + 10 * charge)) < 2
    assert np.std(scores - 1000 - 10 * charge) < 0.2 * np.std(10 * charge)


def test_learns_three_classes(events, charge):
    truth = np.sign(charge).astype(int) + 1
    scorer = fit(events, truth, training=LEARN, names=["minus", "neutral", "plus"])
    scores = scorer(events)
    assert scores.fields == ["minus", "neutral", "plus"]
    table = np.stack([ak.to_numpy(scores[name]) for name in scores.fields], axis=1)
    np.testing.assert_allclose(table.sum(axis=1), 1, rtol=1e-5)
    assert np.mean(table.argmax(axis=1) == truth) > 0.85


def test_same_seed_same_scorer(events, charge):
    one, same, other = (
        fit(events, charge > 0, training=QUICK.model_copy(update={"seed": seed}))
        for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other
    np.testing.assert_array_equal(one(events), same(events))
    assert one.summary == same.summary


def test_layout_does_not_matter(events, charge):
    order = np.random.default_rng(0).permutation(len(events))
    restored = as_records(events[order])[np.argsort(order)]
    assert fit(events, charge > 0) == fit(restored, ak.Array(charge > 0))


@pytest.mark.parametrize("fraction", [0, 0.2, 0.5])
def test_split(fraction):
    training = ts.Training(validation=fraction)
    chosen, held_out = split(1000, training)
    assert len(held_out) == 1000 * fraction
    np.testing.assert_array_equal(np.sort(np.concatenate([chosen, held_out])), np.arange(1000))
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(split(1000, training)[0], chosen)
    if fraction:
        other = split(1000, training.model_copy(update={"seed": 9}))[0]
        assert not np.array_equal(other, chosen)


def test_validation_events_are_not_trained_on(events, charge):
    """Neither the parameters nor the scaling know anything of them."""
    training = QUICK.model_copy(update={"patience": 1})
    _, held_out = split(len(events), training)
    targets = (charge > 0).astype(int)
    changed = targets.copy()
    changed[held_out] = 1 - changed[held_out]
    other = ak.with_field(
        events, np.where(np.isin(np.arange(2000), held_out), 50, events.PV_z), "PV_z"
    )
    assert fit(events, targets) == fit(other, changed)


def test_no_validation(events, charge):
    scorer = fit(events, charge > 0, training=QUICK.model_copy(update={"validation": 0.0}))
    assert scorer.summary["events"] == {"training": 2000, "validation": 0}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), r"weights of shape \(3,\) for 40 events"),
        (np.ones((40, 1)), "weights of shape"),
        (np.full(40, np.nan), "40 weights are NaN"),
        (np.zeros(40), "training events sum to zero"),
        (-np.ones(40), "training events sum to zero or less"),
        (["a"] * 40, "one number per event"),
        (ak.Array([[1.0], []] * 20), "one number per event"),
        (ak.Array([1.0, None] * 20), "one number per event"),
        (np.ma.array(np.ones(40), mask=np.arange(40) == 3), "1 weights are NaN"),
    ],
)
def test_weights_refused(weights, message):
    with pytest.raises(DataError, match=message):
        fit(make_events(40), np.arange(40) % 2, weights=weights)


def test_weights_of_the_validation_events_refused():
    weights = np.ones(40)
    weights[split(40, QUICK)[1]] = -0.1
    with pytest.raises(DataError, match="validation events sum to zero or less"):
        fit(make_events(40), np.arange(40) % 2, weights=weights)


def test_targets_refused():
    events = make_events(40)
    with pytest.raises(DataError, match="3 targets for 40 events"):
        fit(events, [0, 1, 1])
    with pytest.raises(DataError, match="nothing to tell apart"):
        fit(events, np.ones(40, int))
    rare = np.zeros(40, int)
    rare[split(40, QUICK)[1][0]] = 1
    with pytest.raises(DataError, match="no event in the training part"):
        fit(events, rare)
    with pytest.raises(DataError, match="no events"):
        fit(events[:0], [])
    with pytest.raises(DataError, match="must be an awkward array, not list"):
        fit([1, 2], [0, 1])


def test_bad_features_refused():
    events = make_events(40)
    events["PV_z"] = np.where(np.arange(40) == 7, np.nan, events.PV_z)
    with pytest.raises(NonFiniteError, match=r"PV_z.*event 7"):
        fit(events, np.arange(40) % 2)


def test_progress_bar(capsys):
    ts.fit(make_events(40), np.arange(40) % 2, INPUTS, model=MODEL, training=QUICK)
    assert "1/1" in capsys.readouterr().err


def test_label_smoothing_of_a_regression_refused():
    training = QUICK.model_copy(update={"label_smoothing": 0.1})
    with pytest.raises(ConfigError, match="label_smoothing is for classes"):
        fit(make_events(40), np.linspace(0.5, 1, 40), training=training)
