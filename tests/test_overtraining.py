"""Weighted comparisons of two samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from tracksets.errors import DataError
from tracksets.overtraining import kolmogorov_smirnov

# Halves and quarters, so that there are ties and sums are exact.
VALUES = st.lists(st.integers(-8, 8).map(lambda i: i / 4), min_size=2, max_size=40)
COUNTS = st.integers(1, 4)


@given(VALUES, VALUES)
def test_without_weights_it_is_that_of_scipy(one, other):
    found = kolmogorov_smirnov(one, other)
    expected = ks_2samp(one, other, method="asymp")
    assert found.distance == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.n_effective == (len(one), len(other))


@given(st.lists(st.tuples(st.integers(-5, 5), COUNTS), min_size=1), VALUES)
def test_a_weight_of_two_is_two_events_for_the_distance(pairs, other):
    values, counts = np.asarray(pairs).T
    weighted = kolmogorov_smirnov(values, other, counts)
    repeated = kolmogorov_smirnov(np.repeat(values, counts), other)
    assert weighted.distance == pytest.approx(repeated.distance)
    assert weighted.n_effective[0] == pytest.approx(counts.sum() ** 2 / (counts**2).sum())
    assert weighted.n_effective[0] <= len(values) + 1e-9


@given(VALUES, VALUES, st.floats(0.1, 1000))
def test_the_scale_of_weights_does_not_matter(one, other, scale):
    found = kolmogorov_smirnov(one, other, np.full(len(one), scale))
    expected = kolmogorov_smirnov(one, other)
    assert found.distance == pytest.approx(expected.distance)
    assert found.n_effective == pytest.approx(expected.n_effective)


def test_a_negative_event_undoes_a_positive_one():
    one, other = [0.1, 0.2, 0.3, 0.9], [0.15, 0.25, 0.5]
    found = kolmogorov_smirnov([*one, 0.7, 0.7], other, [1, 1, 1, 1, 2, -2])
    assert found.distance == pytest.approx(kolmogorov_smirnov(one, other).distance)
    assert found.n_effective == pytest.approx((16 / 12, 3))


@pytest.mark.parametrize("negative", [0.0, 0.2])
def test_p_values_of_samples_that_agree_are_uniform(negative):
    """With weights of any sign; those of samples that do not agree are small."""
    random = np.random.default_rng(1)

    def sample(n, shift=0.0):
        signs = np.where(random.random(n) < negative, -1.0, 1.0)
        return random.normal(shift, size=n), signs * random.uniform(0.5, 1.5, n)

    def p_value(shift):
        (x, u), (y, v) = sample(1500), sample(700, shift)
        return kolmogorov_smirnov(x, y, u, v).p_value

    found = np.sort([p_value(0.0) for _ in range(400)])
    # The largest difference from a uniform distribution, which is itself a test of this kind.
    assert np.abs(found - (np.arange(400) + 0.5) / 400).max() < 1.6 / np.sqrt(400)
    assert np.median([p_value(0.3) for _ in range(20)]) < 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [1.0]), "sum to zero or less, or it is empty"),
        (([1.0, 2.0], [1.0], [1.0, -1.0]), "sum to zero or less"),
        (([1.0, 2.0], [1.0], [1.0]), r"\(2,\) values and \(1,\) weights"),
        (([np.nan], [1.0]), "finite"),
        (([1.0], [1.0], None, [np.inf]), "finite"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(DataError, match=message):
        kolmogorov_smirnov(*arguments)
