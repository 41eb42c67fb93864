"""Figures of merit, for weights of any sign: truth and scores in, numbers and curves out."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from tracksets.errors import DataError

__all__ = ("Roc", "mean_auc", "roc", "roc_auc")


@dataclass(frozen=True)
class Roc:
    """Efficiencies of the cuts `score >= threshold`, from the tightest to the loosest.

    Attributes
    ----------
    threshold, signal, background
        Cut, and weighted efficiency of signal and of background; shape (n_cut,). The first cut
        keeps nothing.
    """

    threshold: Float[np.ndarray, " cut"]
    signal: Float[np.ndarray, " cut"]
    background: Float[np.ndarray, " cut"]

    @property
    def auc(self) -> float:
        """Area under the curve of signal over background efficiency.

        It is the weighted fraction of pairs in which the signal event has the larger score, ties
        counted half; this holds for weights of any sign, where the area may leave [0, 1].
        """
        return float(np.trapezoid(self.signal, self.background))


def roc(is_signal: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Roc:
    """Compute the receiver operating characteristic.

    Negative weights are summed as they are: a negative event undoes a positive one at the same
    score. Nothing is dropped or clipped.

    Parameters
    ----------
    is_signal
        0 or 1, shape (n_event,).
    scores
        Shape (n_event,).
    weights
        Shape (n_event,); 1 by default.

    Raises
    ------
    DataError
        If lengths differ, a truth is not 0 or 1, a score is not finite, or the weights of a class
        sum to zero.
    """
    truth = np.asarray(is_signal)
    if not np.isin(truth, (0, 1)).all():
        raise DataError("the truth of an event must be 0 or 1")
    truth = truth.astype(bool)
    values = np.asarray(scores, np.float64)
    w = np.ones(len(truth)) if weights is None else np.asarray(weights, np.float64)
    if not truth.shape == values.shape == w.shape or truth.ndim != 1:
        raise DataError(f"{truth.shape} truths, {values.shape} scores and {w.shape} weights")
    if not (np.isfinite(values).all() and np.isfinite(w).all()):
        raise DataError("scores and weights must be finite")
    sums = {"signal": float(w[truth].sum()), "background": float(w[~truth].sum())}
    for name, total in sums.items():
        if total == 0:
            raise DataError(f"the weights of the {name} events sum to zero, or there are none")
    order = np.argsort(-values, kind="stable")
    values, truth, w = values[order], truth[order], w[order]
    last = np.flatnonzero(np.diff(values, append=-np.inf))  # the last event of each score
    signal = np.cumsum(np.where(truth, w, 0))[last] / sums["signal"]
    background = np.cumsum(np.where(truth, 0, w))[last] / sums["background"]
    start = np.zeros(1)
    return Roc(
        np.concatenate([[np.inf], values[last]]),
        np.concatenate([start, signal]),
        np.concatenate([start, background]),
    )


def roc_auc(is_signal: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve; see `roc`.

    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    return roc(is_signal, scores, weights).auc


def mean_auc(classes: ArrayLike, scores: ArrayLike, weights: ArrayLike) -> float | None:
    """Area under the ROC curve; of three classes and more, the mean of each against all others.

    Parameters
    ----------
    classes
        Index of the class of each event, shape (n_event,).
    scores
        Probability of the last of two classes, or of each, shape (n_event, n_score).
    weights
        Shape (n_event,).

    Returns
    -------
    float or None
        None if the weights of a class, or of all others, sum to zero: then there is no curve.
    """
    truth, table = np.asarray(classes), np.asarray(scores)
    w = np.asarray(weights, np.float64)
    signals = [1] if table.shape[1] == 1 else range(table.shape[1])
    areas = []
    for column, i in enumerate(signals):
        chosen = truth == i
        if w[chosen].sum() == 0 or w[~chosen].sum() == 0:
            return None
        areas.append(roc_auc(chosen, table[:, column], w))
    return float(np.mean(areas))
