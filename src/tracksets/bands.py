"""Truth and scores in, how far a ROC curve may be off out; by resampling events."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from tracksets.errors import DataError

__all__ = ("Band", "roc_band")

_BINS = 1000


@dataclass(frozen=True)
class Band:
    """Background efficiency at some signal efficiencies, with a central interval of 68 %.

    Attributes
    ----------
    signal
        Signal efficiencies, rising, shape (n_point,).
    background, low, high
        Background efficiency of the tightest cut that reaches them, and its interval; of the same
        shape. With negative weights they may leave the range from 0 to 1.
    """

    signal: Float[np.ndarray, " point"]
    background: Float[np.ndarray, " point"]
    low: Float[np.ndarray, " point"]
    high: Float[np.ndarray, " point"]


def roc_band(
    is_signal: Bool[np.ndarray, " event"],
    scores: Float[np.ndarray, " event"],
    weights: Float[np.ndarray, " event"],
    signal: Float[np.ndarray, " point"],
    replicas: int = 100,
    seed: int = 1,
) -> Band:
    """Compute the ROC curve at some signal efficiencies, and its interval by a bootstrap.

    In each replica, every event counts as often as a Poisson number of mean 1 says, with its weight
    of whatever sign; one in which a class has no weight left says nothing. The cuts are at the
    scores of the signal; of many, at a thousand quantiles of them.

    Parameters
    ----------
    is_signal, scores, weights
        Of the events, shape (n_event,).
    signal
        Efficiencies, rising, shape (n_point,).
    replicas, seed
        How many, and of their random numbers.

    Raises
    ------
    DataError
        If the weights of signal or background sum to zero or less.
    """
    random = np.random.default_rng(seed)
    quantiles = np.linspace(0, 1, _BINS)
    cuts = np.unique(np.quantile(scores[is_signal], quantiles, method="inverted_cdf"))
    # The number of cuts that an event does not pass.
    at = len(cuts) - np.searchsorted(cuts, scores, side="right")

    def curve(w: Float[np.ndarray, " event"]) -> Float[np.ndarray, " point"] | None:
        sums = [
            np.cumsum(np.bincount(at[chosen], w[chosen], minlength=len(cuts) + 1))
            for chosen in (is_signal, ~is_signal)
        ]
        if not all(each[-1] > 0 for each in sums):
            return None
        efficiency, background = (each / each[-1] for each in sums)
        reached = np.searchsorted(np.maximum.accumulate(efficiency), signal - 1e-12)
        found: Float[np.ndarray, " point"] = background[np.minimum(reached, len(cuts))]
        return found

    background = curve(weights)
    if background is None:
        raise DataError("the weights of signal or background sum to zero or less")
    samples = (curve(weights * random.poisson(1, len(weights))) for _ in range(replicas))
    low, high = np.quantile([each for each in samples if each is not None], (0.16, 0.84), axis=0)
    return Band(signal, background, low, high)
