"""ROC curves and their uncertainty."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracksets.bands import roc_band
from tracksets.errors import DataError
from tracksets.metrics import roc

EFFICIENCIES = np.asarray([0.1, 0.3, 0.5, 0.7, 0.9, 1.0])


def sample(n, seed, negative=0.0):
    random = np.random.default_rng(seed)
    truth = random.random(n) < 0.5
    scores = 1 / (1 + np.exp(-random.normal(np.where(truth, 1.0, 0.0))))
    weights = np.where(random.random(n) < negative, -1.0, 1.0) * random.uniform(0.5, 1.5, n)
    return truth, scores, weights


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(1, 4)), min_size=2))
def test_the_curve_is_that_of_the_tightest_cut(events):
    truth, scores, weights = (np.asarray(each) for each in zip(*events, strict=True))
    truth[:2] = True, False
    band = roc_band(truth, scores / 9, weights * 0.25, EFFICIENCIES, replicas=2)
    curve = roc(truth, scores / 9, weights * 0.25)
    for i, efficiency in enumerate(EFFICIENCIES):
        first = np.flatnonzero(curve.signal >= efficiency - 1e-9)[0]
        assert band.background[i] == pytest.approx(curve.background[first])


@pytest.mark.parametrize("negative", [0.0, 0.15])
def test_the_interval_is_as_wide_as_samples_differ(negative):
    spread = [
        roc_band(*sample(2000, seed, negative), EFFICIENCIES[:5], replicas=1).background
        for seed in range(100)
    ]
    bands = [
        roc_band(*sample(2000, seed, negative), EFFICIENCIES[:5]) for seed in range(1000, 1010)
    ]
    widths = np.mean([(band.high - band.low) / 2 for band in bands], axis=0)
    np.testing.assert_allclose(widths, np.std(spread, axis=0), rtol=0.25)
    for band in bands:
        assert (band.low < band.background).all()
        assert (band.background < band.high).all()


def test_the_same_again():
    one, same = (roc_band(*sample(200, 1), EFFICIENCIES, replicas=5) for _ in range(2))
    np.testing.assert_array_equal(one.high, same.high)
    other = roc_band(*sample(200, 1), EFFICIENCIES, replicas=5, seed=2)
    assert not np.array_equal(one.high, other.high)


def test_a_replica_without_an_event_of_a_class():
    """Of two events, some replicas have no signal: they say nothing."""
    band = roc_band(np.asarray([True, False]), np.asarray([0.9, 0.1]), np.ones(2), EFFICIENCIES)
    np.testing.assert_array_equal([band.background, band.low, band.high], 0)


def test_classes_without_weight():
    truth, scores = np.asarray([True, False, False]), np.asarray([0.9, 0.1, 0.2])
    with pytest.raises(DataError, match="sum to zero or less"):
        roc_band(truth, scores, np.asarray([1.0, 1.0, -1.0]), EFFICIENCIES)
