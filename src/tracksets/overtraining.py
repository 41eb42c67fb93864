"""Scores of training and validation events in; how well their distributions agree out."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.stats import kstwo

from tracksets.errors import DataError

__all__ = ("Agreement", "kolmogorov_smirnov")


@dataclass(frozen=True)
class Agreement:
    """Whether two samples may come from one distribution.

    Attributes
    ----------
    distance
        Largest difference of the two cumulative distributions.
    p_value
        Probability of such a distance or a larger one, if there is one distribution.
    n_effective
        Events without weights that would fluctuate as much, of each sample.
    """

    distance: float
    p_value: float
    n_effective: tuple[float, float]


def kolmogorov_smirnov(
    one: ArrayLike,
    other: ArrayLike,
    weights: ArrayLike | None = None,
    other_weights: ArrayLike | None = None,
) -> Agreement:
    """Compare two weighted samples by the test of Kolmogorov and Smirnov.

    Without weights this is `scipy.stats.ks_2samp(method="asymp")`. With weights, each cumulative
    distribution is that of the weights, and the number of events is replaced by the effective one,
    (Σw)² / Σw² (Kish, Survey Sampling, 1965). Negative weights are summed as they are: they lower
    the distribution where they stand, and the effective number with the sum. The p-value is exact
    for large samples if weight and value are independent, and a good guide else.

    Parameters
    ----------
    one, other
        Values, shapes (n,) and (m,).
    weights, other_weights
        Of the same shapes; 1 by default.

    Raises
    ------
    DataError
        If lengths differ, something is not finite, or the weights of a sample sum to zero or less.
    """
    x, u, n = _sorted(one, weights)
    y, v, m = _sorted(other, other_weights)
    at = np.concatenate([x, y])
    difference = _cumulative(x, u, at) - _cumulative(y, v, at)
    distance = min(1.0, float(np.abs(difference).max()))
    p_value = float(kstwo.sf(distance, max(1, round(n * m / (n + m)))))
    return Agreement(distance, p_value, (n, m))


def _sorted(
    values: ArrayLike, weights: ArrayLike | None
) -> tuple[Float[np.ndarray, " event"], Float[np.ndarray, " event"], float]:
    """Return values in rising order, their weights, and the effective number."""
    x = np.asarray(values, np.float64)
    w = np.ones(x.shape) if weights is None else np.asarray(weights, np.float64)
    if x.shape != w.shape or x.ndim != 1:
        raise DataError(f"{x.shape} values and {w.shape} weights")
    if not (np.isfinite(x).all() and np.isfinite(w).all()):
        raise DataError("values and weights must be finite")
    total = float(w.sum())
    if not total > 0:
        raise DataError("the weights of a sample sum to zero or less, or it is empty")
    order = np.argsort(x, kind="stable")
    return x[order], w[order], total**2 / float((w**2).sum())


def _cumulative(
    x: Float[np.ndarray, " event"], w: Float[np.ndarray, " event"], at: Float[np.ndarray, " point"]
) -> Float[np.ndarray, " point"]:
    """Share of the weights of the events with values of at most `at`."""
    sums = np.concatenate([np.zeros(1), np.cumsum(w)])
    found: Float[np.ndarray, " point"] = sums[np.searchsorted(x, at, side="right")] / sums[-1]
    return found
