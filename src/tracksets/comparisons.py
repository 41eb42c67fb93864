"""Truth and predictions in, what they have to do with each other out; weights of any sign.

The confusion of classes, how often a probability is right, the residuals of a regression. Negative
weights are summed as they are.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from tracksets.errors import DataError
from tracksets.metrics import sums_to_zero

__all__ = (
    "Reliability",
    "Residuals",
    "confusion",
    "mean_reliability",
    "quantile",
    "reliability",
    "residuals",
)

BINS = 15
"""Bins of a calibration curve, as many as Guo et al. have."""


def confusion(
    classes: Int[np.ndarray, " event"],
    scores: Float[np.ndarray, "event score"],
    weights: Float[np.ndarray, " event"],
) -> Float[np.ndarray, "true predicted"]:
    """Return the sums of weights by true and by predicted class, the one with the largest score.

    Parameters
    ----------
    classes
        Index of the class of each event.
    scores
        Probability of the last of two classes, which is predicted from 0.5 on, or of each.
    weights
        Of any sign.
    """
    if scores.shape[1] == 1:
        scores = np.concatenate([1 - scores, scores], axis=1)
    # Of equal ones the last, as a binary score of 0.5 is.
    n = scores.shape[1]
    predicted = n - 1 - np.argmax(scores[:, ::-1], axis=1)
    return np.bincount(classes * n + predicted, weights, n * n).reshape(n, n)


@dataclass(frozen=True)
class Reliability:
    """How often what has a certain probability is true: the calibration curve.

    Attributes
    ----------
    score
        Mean score of the events of each bin; shape (n_bin,).
    fraction
        Weighted fraction of them that is true. NaN where weights sum to nothing.
    uncertainty
        Of the fraction, if the score were right.
    share
        Of all weights.
    gap
        Share times (fraction - score), which is defined for every bin.
    chance
        How large the size of the gap would be on average if the score were right.
    """

    score: Float[np.ndarray, " bin"]
    fraction: Float[np.ndarray, " bin"]
    uncertainty: Float[np.ndarray, " bin"]
    share: Float[np.ndarray, " bin"]
    gap: Float[np.ndarray, " bin"]
    chance: Float[np.ndarray, " bin"]

    @property
    def ece(self) -> float:
        """Expected calibration error: the sum of the sizes of all gaps.

        It is never 0: see `ece_by_chance`.
        """
        return float(np.abs(self.gap).sum())

    @property
    def ece_by_chance(self) -> float:
        """What the expected calibration error of a perfect score is on that many events."""
        return float(self.chance.sum())

    @property
    def rms(self) -> float:
        """Root mean square of how far scores are off, without what chance adds to it.

        It is 0 if chance explains all (Kumar, Liang, Ma, arXiv:1909.10155), so that it can be
        small also of few events; from bins whose weights sum to more than 0.
        """
        there = self.share > 0
        noise = np.pi / 2 * self.chance[there] ** 2
        square = ((self.gap[there] ** 2 - noise) / self.share[there]).sum()
        return float(np.sqrt(max(square, 0.0)))


def reliability(
    truth: Int[np.ndarray, " event"],
    scores: Float[np.ndarray, " event"],
    weights: Float[np.ndarray, " event"],
    bins: int = BINS,
) -> Reliability:
    """Compare probabilities with what is true, in bins of equal width from 0 to 1.

    As in Guo et al., arXiv:1706.04599, for the probability of one class.

    Parameters
    ----------
    truth
        0 or 1.
    scores
        Probability of 1.
    weights
        Of any sign.
    bins
        How many.

    Raises
    ------
    DataError
        If the weights sum to zero.
    """
    if sums_to_zero(weights):
        raise DataError("the weights of the events sum to zero, or there are none")
    p = scores.astype(np.float64)
    where = np.minimum((p * bins).astype(np.int64), bins - 1)

    def sums(values: Float[np.ndarray, " event"]) -> Float[np.ndarray, " bin"]:
        return np.bincount(where, values, bins)

    total = sums(weights)
    spread = np.sqrt(sums(weights**2 * p * (1 - p)))
    with np.errstate(all="ignore"):
        score, fraction, uncertainty = (
            np.where(total == 0, np.nan, each / total)
            for each in (sums(weights * p), sums(weights * truth), spread)
        )
    return Reliability(
        score=score,
        fraction=fraction,
        uncertainty=np.abs(uncertainty),
        share=total / weights.sum(),
        gap=sums(weights * (truth - p)) / weights.sum(),
        chance=np.sqrt(2 / np.pi) * spread / abs(weights.sum()),
    )


def mean_reliability(
    classes: Int[np.ndarray, " event"],
    scores: Float[np.ndarray, "event score"],
    weights: Float[np.ndarray, " event"],
) -> dict[str, float]:
    """Return `ece`, `ece_by_chance` and `calibration_rms`; the means over several classes.

    Parameters
    ----------
    classes, scores, weights
        As in `confusion`.
    """
    signals = [1] if scores.shape[1] == 1 else range(scores.shape[1])
    found = [reliability(classes == i, scores[:, k], weights) for k, i in enumerate(signals)]
    return {
        "ece": float(np.mean([each.ece for each in found])),
        "ece_by_chance": float(np.mean([each.ece_by_chance for each in found])),
        "calibration_rms": float(np.mean([each.rms for each in found])),
    }


@dataclass(frozen=True)
class Residuals:
    """Prediction minus truth, in the unit of the target.

    Attributes
    ----------
    bias
        Mean.
    rms
        Root of the mean square.
    resolution
        Half the distance from the 16th to the 84th percentile, which outliers don't move: the
        standard deviation of a normal distribution.
    """

    bias: float
    rms: float
    resolution: float


def residuals(
    truth: Float[np.ndarray, " event"],
    predictions: Float[np.ndarray, " event"],
    weights: Float[np.ndarray, " event"],
) -> Residuals:
    """Compare a regression with the truth.

    Raises
    ------
    DataError
        If the weights sum to zero.
    """
    if sums_to_zero(weights):
        raise DataError("the weights of the events sum to zero, or there are none")
    values = predictions.astype(np.float64) - truth
    low, high = (quantile(values, weights, each) for each in (0.158655, 0.841345))
    square = float(np.average(values**2, weights=weights))
    return Residuals(
        bias=float(np.average(values, weights=weights)),
        rms=float(np.sqrt(square)) if square >= 0 else float("nan"),
        resolution=(high - low) / 2,
    )


def quantile(
    values: Float[np.ndarray, " event"], weights: Float[np.ndarray, " event"], share: float
) -> float:
    """Find the smallest value up to which events have this share of all weights.

    With negative weights the share may fall again further on; the first one counts.
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum() >= share
    return float(values[order][np.argmax(reached)] if reached.any() else values.max())
