"""Truth and scores in, figures of merit by name out; and as a table."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tracksets.comparisons import confusion, mean_reliability, residuals
from tracksets.metrics import Roc, bootstrap, roc
from tracksets.targets import Task

__all__ = (
    "EFFICIENCIES",
    "as_table",
    "changes",
    "class_figures",
    "confusion_table",
    "one_against_others",
    "regression_figures",
    "significant",
)

EFFICIENCIES = (0.3, 0.5, 0.7)
"""Of the signal, at which the background rejection is stated."""

_REPLICAS = 100

Scores = Float[np.ndarray, "event score"]
Classes = Int[np.ndarray, " event"]
Weights = Float[np.ndarray, " event"]


def class_figures(
    task: Task, classes: Classes, scores: Scores, weights: Weights
) -> dict[str, float]:
    """Compute the figures of merit of classes.

    Returns
    -------
    dict
        `auc` and `rejection_30`, `_50`, `_70` (1 / background efficiency at this signal efficiency,
        in per cent), each with its `_uncertainty` from a bootstrap; `ece`, the expected calibration
        error, what a perfect score would have, `ece_by_chance`, and `calibration_rms`, from which
        chance is taken off. Of several classes, `auc_b` and
        so on are of each against all others.
    """
    figures = {}
    for suffix, truth, column in one_against_others(task, classes):
        curve = roc(truth, scores[:, column], weights)
        spread = bootstrap(truth, scores[:, column], weights, _of_curve, _REPLICAS)
        # The spread of a rejection that is infinite in a sample is not known.
        known = np.isfinite(spread).all(axis=0)
        spread = np.where(known, np.where(known, spread, 0).std(axis=0), np.nan)
        for name, value, uncertainty in zip(_NAMES, _of_curve(curve), spread, strict=True):
            figures[f"{name}{suffix}"] = float(value)
            figures[f"{name}{suffix}_uncertainty"] = float(uncertainty)
    return {**figures, **mean_reliability(classes, scores, weights)}


_NAMES = ("auc", *(f"rejection_{100 * each:.0f}" for each in EFFICIENCIES))


def _of_curve(curve: Roc) -> Float[np.ndarray, " figure"]:
    return np.concatenate([[curve.auc], curve.rejection(EFFICIENCIES)])


def one_against_others(task: Task, classes: Classes) -> Iterator[tuple[str, Classes, int]]:
    """Name each signal's figures, and give its truth and the column of its score."""
    if task.kind == "binary":
        yield "", classes == 1, 0
        return
    for i, name in enumerate(task.names):
        yield f"_{name}", classes == i, i


def regression_figures(
    task: Task, targets: Float[np.ndarray, "event target"], scores: Scores, weights: Weights
) -> dict[str, float]:
    """Compute `bias`, `rms` and `resolution` of each target, in its unit."""
    figures = {}
    for i, name in enumerate(task.names):
        found = residuals(targets[:, i], scores[:, i], weights)
        figures[f"bias_{name}"] = found.bias
        figures[f"rms_{name}"] = found.rms
        figures[f"resolution_{name}"] = found.resolution
    return figures


def changes(
    task: Task, truth: Any, nominal: Scores, shifted: Scores, weights: Weights
) -> dict[str, float]:
    """Compare the scores of shifted events with those of the events as they are.

    Returns
    -------
    dict
        `mean`, `rms` and `largest` change of a score, over all scores of an event; and of classes,
        the change of `auc` and its uncertainty, from samples of the same events.
    """
    change = shifted.astype(np.float64) - nominal
    share = weights / weights.sum()
    figures = {
        "mean_change": float((share[:, None] * change).sum() / change.shape[1]),
        "rms_change": float(np.sqrt(np.abs((share[:, None] * change**2).mean(axis=1).sum()))),
        "largest_change": float(np.abs(change).max(initial=0)),
    }
    if task.kind == "regression":
        return figures
    for suffix, chosen, column in one_against_others(task, truth):
        areas = []
        for scores in (nominal, shifted):
            one = scores[:, column]
            samples = bootstrap(chosen, one, weights, lambda curve: curve.auc, _REPLICAS)
            areas.append((roc(chosen, one, weights).auc, samples[:, 0]))
        (before, samples_before), (after, samples_after) = areas
        figures[f"auc{suffix}"] = after
        figures[f"auc{suffix}_change"] = after - before
        figures[f"auc{suffix}_change_uncertainty"] = float((samples_after - samples_before).std())
    return figures


def confusion_table(task: Task, classes: Classes, scores: Scores, weights: Weights) -> str:
    """Show of each true class (rows), in per cent, what is predicted (columns)."""
    sums = confusion(classes, scores, weights)
    shares = 100 * sums / sums.sum(axis=1, keepdims=True)
    width = max(12, *(len(name) + 2 for name in task.names))
    lines = [f"{'predicted':{width}}" + "".join(f"{name:>{width}}" for name in task.names)]
    for name, row in zip(task.names, shares, strict=True):
        lines.append(f"{name:{width}}" + "".join(f"{each:>{width - 2}.1f} %" for each in row))
    return "\n".join(lines)


def as_table(figures: Mapping[str, float]) -> str:
    """Show figures, one a line, beside their uncertainties."""
    width = max(map(len, figures))
    lines = []
    for name, value in figures.items():
        if name.endswith("_uncertainty"):
            continue
        uncertainty = figures.get(f"{name}_uncertainty")
        digits = significant(uncertainty)
        shown = (
            f"{value:.6g}" if digits is None else f"{value:.{digits}f} ± {uncertainty:.{digits}f}"
        )
        lines.append(f"{name:{width}}  {shown}")
    return "\n".join(lines)


def significant(uncertainty: float | None) -> int | None:
    """Count the decimals up to the second digit of an uncertainty; None if there is none.

    >>> [significant(each) for each in (0.00601, 0.0996, 15.07, 88.0, 1234.0, 0.0, None)]
    [4, 2, 0, 0, 0, None, None]
    """
    if not uncertainty or not np.isfinite(uncertainty):
        return None
    exponent = int(f"{uncertainty:.1e}".partition("e")[2])
    return max(0, 1 - exponent)
