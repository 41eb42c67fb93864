"""Figures of merit, for weights of any sign: truth and scores in, numbers and curves out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

from tracksets.errors import DataError

__all__ = ("Roc", "bootstrap", "mean_auc", "roc", "roc_auc", "sums_to_zero")

_ROUNDING = 1e-12
"""Of a sum of weights, as a fraction."""


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

    def background_at(self, efficiencies: Sequence[float]) -> Float[np.ndarray, " efficiency"]:
        """Find the background efficiency of the tightest cuts that keep this much of the signal.

        Efficiencies are above 0 and up to 1; what lies between cuts is interpolated. With negative
        weights, a looser cut may keep less again.
        """
        found = []
        for wanted in efficiencies:
            # A cut that keeps 0.3 but for the rounding of a sum is the one that is meant.
            reached = self.signal >= min(wanted, self.signal.max()) - _ROUNDING
            i = max(int(np.argmax(reached)), 1)
            part = (wanted - self.signal[i - 1]) / (self.signal[i] - self.signal[i - 1])
            found.append(
                self.background[i - 1] + part * (self.background[i] - self.background[i - 1])
            )
        return np.asarray(found)

    def rejection(self, efficiencies: Sequence[float]) -> Float[np.ndarray, " efficiency"]:
        """Background rejection, 1 / background efficiency; infinite where nothing is kept."""
        kept = self.background_at(efficiencies)
        rejections = np.full(len(kept), np.inf)
        np.divide(1, kept, out=rejections, where=kept > 0)
        return rejections


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
    return _Sorted(is_signal, scores, weights).curve()


class _Sorted:
    """Events by falling score, checked, ready to make one curve or many."""

    def __init__(
        self, is_signal: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
    ) -> None:
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
        for name, chosen in (("signal", w[truth]), ("background", w[~truth])):
            if sums_to_zero(chosen):
                raise DataError(f"the weights of the {name} events sum to zero, or there are none")
        self.order = order = np.argsort(-values, kind="stable")
        self.truth, self.weights = truth[order], w[order]
        self.last = np.flatnonzero(np.diff(values[order], append=-np.inf))  # of each score
        self.threshold = np.concatenate([[np.inf], values[order][self.last]])

    def curve(self, times: NDArray[Any] | None = None) -> Roc:
        """Make the curve in which each event counts this many times, in the original order."""
        weights = self.weights if times is None else self.weights * times[self.order]

        def efficiency(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
            kept = np.cumsum(np.where(chosen, weights, 0))
            return np.concatenate([np.zeros(1), kept[self.last] / kept[-1]])

        return Roc(self.threshold, efficiency(self.truth), efficiency(~self.truth))


def sums_to_zero(weights: Float[np.ndarray, " event"]) -> bool:
    """Whether nothing is left of weights but what rounding leaves, or there are none."""
    return bool(abs(weights.sum()) <= 1e-12 * np.abs(weights).sum())


def bootstrap(
    is_signal: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None,
    figures: Callable[[Roc], ArrayLike],
    replicas: int = 200,
    seed: int = 0,
) -> Float[np.ndarray, "replica figure"]:
    """Compute figures of merit for samples as they could have been: their spread is an uncertainty.

    Each event counts as often as a Poisson distribution of mean 1 says (Chamandy et al., Estimating
    uncertainty for massive data streams, Google 2012), which also is right for weighted events.

    Parameters
    ----------
    is_signal, scores, weights
        As in `roc`.
    figures
        From a curve to one or several numbers.
    replicas
        How many samples; 200 give an uncertainty that is itself known to 5 %.
    seed
        Of the samples. They are the same for other scores of the same events, so that the spread
        of a difference can be found, too.

    Examples
    --------
    >>> areas = bootstrap([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8], None, lambda curve: curve.auc)
    >>> areas.shape
    (200, 1)
    """
    events = _Sorted(is_signal, scores, weights)
    random = np.random.default_rng(seed)
    rows: list[NDArray[np.float64]] = []
    while len(rows) < replicas:
        times = random.poisson(1.0, len(events.weights))
        weights = events.weights * times[events.order]
        if not any(sums_to_zero(weights[each]) for each in (events.truth, ~events.truth)):
            rows.append(np.atleast_1d(np.asarray(figures(events.curve(times)), np.float64)))
    return np.stack(rows)


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
        if sums_to_zero(w[chosen]) or sums_to_zero(w[~chosen]):
            return None
        areas.append(roc_auc(chosen, table[:, column], w))
    return float(np.mean(areas))
