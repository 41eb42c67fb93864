"""Against scikit-learn and NumPy for positive weights, closed forms and cancelling pairs for others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix

from tracksets.comparisons import confusion, quantile, reliability, residuals
from tracksets.errors import DataError

SEEDS = st.integers(0, 10**6)


def case(seed, n_class=3, n=300):
    random = np.random.default_rng(seed)
    scores = random.dirichlet(np.ones(n_class), n).astype(np.float32)
    return random.integers(0, n_class, n), scores, random.exponential(size=n)


def with_pairs(seed, *columns):
    """Add events with the weight +w and the same ones with -w."""
    random = np.random.default_rng(seed)
    *values, weights = columns
    chosen = random.integers(0, len(weights), 100)
    w = random.exponential(3, 100)
    doubled = [np.concatenate([each, each[chosen], each[chosen]]) for each in values]
    return *doubled, np.concatenate([weights, w, -w])


@given(seed=SEEDS)
def test_confusion_like_scikit_learn(seed):
    classes, scores, weights = case(seed)
    expected = confusion_matrix(classes, scores.argmax(axis=1), sample_weight=weights)
    np.testing.assert_allclose(confusion(classes, scores, weights), expected)
    binary = (classes > 0).astype(int)
    expected = confusion_matrix(binary, scores[:, 0] >= 0.5, sample_weight=weights)
    np.testing.assert_allclose(confusion(binary, scores[:, :1], weights), expected)


@given(seed=SEEDS)
def test_reliability_like_scikit_learn(seed):
    classes, scores, _ = case(seed, 2)
    found = reliability(classes, scores[:, 1], np.ones(len(classes)), bins=7)
    fraction, score = calibration_curve(classes, scores[:, 1], n_bins=7)
    there = found.share > 0
    np.testing.assert_allclose(found.fraction[there], fraction)
    np.testing.assert_allclose(found.score[there], score, rtol=1e-5)
    expected = (found.share[there] * np.abs(fraction - score)).sum()
    np.testing.assert_allclose(found.ece, expected, rtol=1e-5)


@given(seed=SEEDS)
def test_whole_weights_are_repeated_events(seed):
    classes, scores, _ = case(seed, 2, 60)
    times = np.random.default_rng(seed).integers(1, 4, 60)
    weighted = reliability(classes, scores[:, 1], times.astype(float))
    repeated = reliability(
        *(np.repeat(each, times) for each in (classes, scores[:, 1])), np.ones(times.sum())
    )
    np.testing.assert_allclose(weighted.gap, repeated.gap, atol=1e-12)
    np.testing.assert_allclose(weighted.fraction, repeated.fraction)


@given(seed=SEEDS)
def test_pairs_that_cancel_change_nothing(seed):
    classes, scores, weights = case(seed)
    more = with_pairs(seed, classes, scores, weights)
    np.testing.assert_allclose(confusion(*more), confusion(classes, scores, weights), atol=1e-9)
    plain = reliability(classes == 1, scores[:, 1], weights)
    paired = reliability(more[0] == 1, more[1][:, 1], more[2])
    np.testing.assert_allclose(paired.gap, plain.gap, atol=1e-9)
    assert paired.ece == pytest.approx(plain.ece, abs=1e-9)
    assert paired.ece_by_chance > plain.ece_by_chance  # they do add noise
    plain = residuals(scores[:, 0], scores[:, 1], weights)
    paired = residuals(more[1][:, 0], more[1][:, 1], more[2])
    assert (paired.bias, paired.rms) == pytest.approx((plain.bias, plain.rms))


def test_reliability_with_negative_weights_in_closed_form():
    """Densities 1.5 on [0, 1] and -0.5 on [0, 1]; what is true is p**2, not p."""
    n = 200_000
    p = (np.arange(n) + 0.5) / n
    scores = np.tile(p, 4)
    truth = np.repeat([1, 0, 1, 0], n)
    weights = np.concatenate([1.5 * p**2, 1.5 * (1 - p**2), -0.5 * p**2, -0.5 * (1 - p**2)])
    found = reliability(truth, scores, weights, bins=10)
    edges = np.linspace(0, 1, 11)
    gap = np.diff(edges**3 / 3 - edges**2 / 2)  # the integral of p**2 - p
    np.testing.assert_allclose(found.gap, gap, atol=1e-6)
    assert found.ece == pytest.approx(1 / 6, abs=1e-5)
    np.testing.assert_allclose(found.fraction, np.diff(edges**3) / 0.3, atol=1e-4)


def test_a_perfect_score_errs_by_chance():
    random = np.random.default_rng(0)
    found = []
    for _ in range(100):
        p = random.uniform(size=2000)
        weights = random.choice([1.0, 1.0, 1.0, -0.5], 2000)
        result = reliability(random.uniform(size=2000) < p, p, weights)
        found.append((result.ece, result.ece_by_chance, result.rms))
    measured, expected, rms = np.mean(found, axis=0)
    assert measured == pytest.approx(expected, rel=0.05)
    assert rms < 0.3 * measured


def test_the_root_mean_square_is_what_scores_are_off():
    random = np.random.default_rng(1)
    p = random.uniform(size=100_000)
    found = reliability(random.uniform(size=100_000) < 0.8 * p + 0.1, p, np.ones(100_000))
    assert found.rms == pytest.approx(0.2 / np.sqrt(12), rel=0.05)


@given(seed=SEEDS, share=st.floats(0.01, 0.99))
def test_quantile_like_numpy(seed, share):
    values = np.random.default_rng(seed).normal(size=101)
    expected = np.quantile(values, share, method="inverted_cdf")
    assert quantile(values, np.ones(101), share) == expected


def test_residuals_of_a_normal_distribution():
    n = 20_000
    error = norm.ppf((np.arange(n) + 0.5) / n) * 3 + 0.5
    truth = np.linspace(10, 20, n)
    found = residuals(truth, truth + error, np.ones(n))
    assert found.bias == pytest.approx(0.5, abs=1e-3)
    assert found.resolution == pytest.approx(3, rel=1e-3)
    assert found.rms == pytest.approx(np.hypot(3, 0.5), rel=1e-3)
    # An outlier moves the mean square, not the resolution.
    error[0] = 1e5
    found = residuals(truth, truth + error, np.ones(n))
    assert found.resolution == pytest.approx(3, rel=1e-3)
    assert found.rms > 100


def test_residuals_with_negative_weights_in_closed_form():
    """Density 2 on [0, 1] minus 1 on [0, 0.5]: the same as 1 on [0, 0.5] and 2 on [0.5, 1]."""
    n = 100_000
    x = (np.arange(n) + 0.5) / n
    values = np.concatenate([x, x / 2])
    weights = np.repeat([2.0, -0.5], n)
    found = residuals(np.zeros(2 * n), values, weights)
    assert found.bias == pytest.approx((1 / 8 + 3 / 4) / 1.5, abs=1e-5)
    share = np.array([0.158655, 0.841345]) * 1.5
    low, high = share[0], 0.5 + (share[1] - 0.5) / 2
    assert found.resolution == pytest.approx((high - low) / 2, abs=1e-4)


def test_nothing_to_compare():
    nothing = np.zeros(0)
    for weights in (nothing, np.array([0.1, 0.2, -0.3])):
        values = np.zeros(len(weights))
        with pytest.raises(DataError, match="sum to zero"):
            reliability(values, values, weights)
        with pytest.raises(DataError, match="sum to zero"):
            residuals(values, values, weights)
