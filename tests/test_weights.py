"""Balanced and matched weights, against sums by hand."""

import numpy as np
import pytest

from tracksets.errors import DataError
from tracksets.weights import balanced, matched

NAMES = ("background", "signal")
RANDOM = np.random.default_rng(3)
CLASSES = RANDOM.integers(0, 2, 500)
WEIGHTS = RANDOM.normal(1.0, 0.8, 500)
"""About one in ten is negative."""


def sums(weights, classes=CLASSES):
    return [weights[classes == i].sum() for i in range(2)]


def test_balanced_classes_have_equal_sums_and_the_total_stays():
    result = balanced(WEIGHTS, CLASSES, NAMES)
    np.testing.assert_allclose(sums(result), WEIGHTS.sum() / 2)
    assert (np.sign(result) == np.sign(WEIGHTS)).all()
    for i in range(2):
        ratio = result[i == CLASSES] / WEIGHTS[i == CLASSES]
        np.testing.assert_allclose(ratio, ratio[0])


def test_a_class_of_negative_weight_cannot_be_balanced():
    with pytest.raises(DataError, match=r"class signal sum to -3"):
        balanced(np.array([1.0, -3.0]), np.array([0, 1]), NAMES)


def histogram(weights, variable, i, edges):
    chosen = i == CLASSES
    return np.histogram(np.clip(variable[chosen], -3, 3), edges, weights=weights[chosen])[0]


@pytest.fixture
def variable():
    return RANDOM.normal(CLASSES * 0.7, 1.0)


EDGES = np.array([-3.0, -0.5, 0.0, 0.4, 1.0, 3.0])


def test_matched_classes_have_the_distribution_of_the_one_they_match(variable):
    result = matched(WEIGHTS, CLASSES, NAMES, variable, EDGES, to=1)
    np.testing.assert_allclose(result[CLASSES == 1], WEIGHTS[CLASSES == 1])
    target = histogram(WEIGHTS, variable, 1, EDGES)
    found = histogram(result, variable, 0, EDGES)
    np.testing.assert_allclose(found / found.sum(), target / target.sum())
    np.testing.assert_allclose(sums(result), sums(WEIGHTS))


def test_flat_is_flat_in_the_variable_whatever_the_bins(variable):
    result = matched(WEIGHTS, CLASSES, NAMES, variable, EDGES)
    for i in range(2):
        density = histogram(result, variable, i, EDGES) / np.diff(EDGES)
        np.testing.assert_allclose(density, density[0])


def test_values_beyond_the_edges_count_to_the_outer_bins():
    result = matched(
        np.ones(4), np.array([0, 0, 1, 1]), NAMES, np.array([-9.0, 9, 0.2, 0.8]), np.r_[0, 0.5, 1]
    )
    np.testing.assert_allclose(result, 1)


def test_a_bin_of_negative_weight_is_named():
    with pytest.raises(DataError, match=r"class signal: .* 1 event\(s\) between 0 and 1 sum to -1"):
        matched(np.array([1.0, -1.0]), np.array([0, 1]), NAMES, np.zeros(2), np.r_[0, 1])


def test_classes_that_share_no_bin_cannot_be_matched():
    with pytest.raises(DataError, match="background has no events where class signal has some"):
        matched(np.ones(2), np.array([0, 1]), NAMES, np.array([0.5, 1.5]), np.r_[0, 1, 2], to=1)
