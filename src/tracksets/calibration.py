"""Outputs of a network in, calibrated scores out: what a score says is how often it is true.

A `Calibration` is found on events that were not trained on, and kept in the scorer. It only
stretches: of two events of two classes, the one with the larger score stays that.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tracksets.configuration import Configuration
from tracksets.errors import DataError
from tracksets.targets import Task

__all__ = ("Calibration", "Method", "calibrate", "link", "refuse_uncalibratable", "traced_link")

Method = Literal["temperature", "isotonic"]
Knots = tuple[tuple[float, float], ...]

_GROUPS = 100
"""Groups of events, equal in number, that an isotonic map is found from, at most."""
_SMALLEST_GROUP = 50
_TILT = 1e-3
_HOTTEST = 100.0
"""Scores that say nothing of the classes would fit best with an infinite temperature."""


class Calibration(Configuration):
    """How scores are stretched.

    Parameters
    ----------
    method
        `temperature` divides the outputs of the network by a number before they become
        probabilities (Guo et al., arXiv:1706.04599). `isotonic` maps each probability by a rising
        curve (Zadrozny, Elkan, KDD 2002, doi:10.1145/775047.775151); those of several classes are
        then divided by their sum.
    temperature
        The number.
    knots
        For each score, the points of the curve, rising in both coordinates, from (0, 0) to (1, 1);
        straight lines join them.
    """

    method: Method
    temperature: Annotated[float, Field(gt=0)] = 1.0
    knots: tuple[Knots, ...] = ()

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if (self.method == "isotonic") != bool(self.knots):
            raise ValueError(f"{self.method} with {len(self.knots)} curve(s)")
        for curve in self.knots:
            rises = all(x < u and y < v for (x, y), (u, v) in pairwise(curve))
            if curve[:1] + curve[-1:] != ((0.0, 0.0), (1.0, 1.0)) or not rises:
                raise ValueError("the knots of a curve must rise from (0, 0) to (1, 1)")
        return self

    @classmethod
    def from_header(cls, header: Mapping[str, Any], task: Task) -> Self | None:
        """Read what the header of a model file says, if it says something.

        Raises
        ------
        ValueError
            If it is nothing for the scores of this task.
        """
        if "calibration" not in header:
            return None
        found = cls.model_validate(header["calibration"])
        if task.kind == "regression" or len(found.knots) not in (0, task.outputs):
            raise ValueError(f"{len(found.knots)} curve(s) for {task.kind} of {task.names}")
        return found

    def curve(self, i: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the coordinates of the knots of score `i`."""
        x, y = np.asarray(self.knots[i], np.float64).T
        return x, y


def link(
    task: Task, calibration: Calibration | None, outputs: Float[np.ndarray, "event output"]
) -> Float[np.ndarray, "event score"]:
    """Turn outputs into scores, calibrated if there is a calibration; float32."""
    if calibration is None:
        return task.link(outputs)
    if calibration.method == "temperature":
        return task.link(outputs.astype(np.float64) / calibration.temperature)
    raw = task.link(outputs).astype(np.float64)
    mapped = [np.interp(raw[:, i], *calibration.curve(i)) for i in range(raw.shape[1])]
    scores = np.stack(mapped, axis=1)
    if task.kind == "classes":
        scores /= scores.sum(axis=1, keepdims=True)
    return scores.astype(np.float32)


def traced_link(
    task: Task, calibration: Calibration | None, outputs: Float[Array, "event output"]
) -> Float[Array, "event score"]:
    """Do what `link` does within a compiled function, in single precision."""
    if calibration is None:
        return task.traced_link(outputs)
    if calibration.method == "temperature":
        return task.traced_link(outputs / jnp.float32(calibration.temperature))
    raw = task.traced_link(outputs)
    curves = [map(jnp.float32, calibration.curve(i)) for i in range(raw.shape[1])]
    scores = jnp.stack([jnp.interp(raw[:, i], *each) for i, each in enumerate(curves)], axis=1)
    return scores / scores.sum(axis=1, keepdims=True) if task.kind == "classes" else scores


def calibrate(
    method: Method,
    task: Task,
    outputs: Float[np.ndarray, "event output"],
    classes: Int[np.ndarray, " event"],
    weights: Float[np.ndarray, " event"],
) -> Calibration:
    """Find the calibration that fits events which were not trained on.

    Parameters
    ----------
    method
        As in `Calibration`. A temperature is one number, found from few events; a curve needs
        thousands, and also repairs what is wrong in the middle, such as other shares of classes.
    task
        Of classes.
    outputs
        Of the network, shape (n_event, n_output).
    classes
        Index of the class of each event.
    weights
        Of any sign.

    Raises
    ------
    DataError
        If the task is a regression, or the weights of a class do not sum to more than 0.
    """
    refuse_uncalibratable(task, classes, weights)
    if method == "temperature":
        return Calibration(method=method, temperature=_temperature(task, outputs, classes, weights))
    scores = task.link(outputs).astype(np.float64)
    signals = [1] if task.kind == "binary" else range(len(task.names))
    curves = [_curve(scores[:, k], classes == i, weights) for k, i in enumerate(signals)]
    return Calibration(method=method, knots=tuple(curves))


def refuse_uncalibratable(
    task: Task, classes: Int[np.ndarray, " event"], weights: Float[np.ndarray, " event"]
) -> None:
    """Refuse events that nothing can be calibrated on; see `calibrate`."""
    if task.kind == "regression":
        raise DataError("a regression has no probabilities to calibrate")
    for i, name in enumerate(task.names):
        total = weights[classes == i].sum()
        if not total > 0:
            raise DataError(
                f"the weights of the events of class {name} sum to {total:g}, where more than 0 is "
                "needed to calibrate"
            )


def _temperature(
    task: Task, outputs: NDArray[Any], classes: NDArray[np.int64], weights: NDArray[np.float64]
) -> float:
    """Minimise the cross-entropy; negative weights subtract."""
    z = outputs.astype(np.float64)
    if task.kind == "binary":
        z = np.concatenate([np.zeros_like(z), z], axis=1)
    own = np.take_along_axis(z, classes.reshape(-1, 1), axis=1)[:, 0]

    def loss(log_t: float) -> float:
        t = np.exp(log_t)
        return float(weights @ (np.logaddexp.reduce(z / t, axis=1) - own / t) / weights.sum())

    end = np.log(_HOTTEST)
    from scipy.optimize import minimize_scalar  # which scoring does without

    found = minimize_scalar(loss, bounds=(-end, end), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def _curve(
    scores: NDArray[np.float64], truth: NDArray[np.bool_], weights: NDArray[np.float64]
) -> Knots:
    """Fit a rising curve to the fraction of true events over the score.

    Events are gathered in groups first: of those with negative weights, none could be fitted to
    alone. Lines join the groups, and level ones are tilted a little, so that scores which differ
    stay different.
    """
    n_group = max(min(_GROUPS, len(scores) // _SMALLEST_GROUP), 1)
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, n_group + 1))[1:-1])
    group = np.searchsorted(edges, scores, "right")
    totals = np.bincount(group, weights, len(edges) + 1)
    group = _merged(totals)[group]
    total = np.bincount(group, weights)
    from scipy.optimize import isotonic_regression

    steps = isotonic_regression(np.bincount(group, weights * truth) / total, weights=total).x
    size = np.abs(weights)
    x = np.bincount(group, size * scores) / np.bincount(group, size)
    # A fraction of 0 or 1 among n events is no certainty: Laplace's rule of succession.
    n = np.bincount(group, size) ** 2 / np.bincount(group, size**2)
    y = np.maximum.accumulate(np.clip(steps, 1 / (n + 2), (n + 1) / (n + 2)))
    y = (1 - _TILT) * y + _TILT * x
    knots = [(0.0, 0.0)]
    for u, v in zip(x.tolist(), y.tolist(), strict=True):
        if knots[-1][0] < u < 1 and knots[-1][1] < v < 1:
            knots.append((u, v))
    return (*knots, (1.0, 1.0))


def _merged(totals: NDArray[Any]) -> NDArray[np.int64]:
    """Join groups with their neighbours until every sum of weights is positive."""
    number, group, open_sum = np.empty(len(totals), np.int64), 0, 0.0
    for i, total in enumerate(totals):
        number[i] = group
        open_sum += total
        if open_sum > 0:
            group, open_sum = group + 1, 0.0
    # What is left at the end belongs to the last complete group.
    return np.minimum(number, max(group - 1, 0))
