"""The history of a training and its scores in, pictures out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from tracksets.plots import _pyplot, _save

__all__ = ("Weighted", "plot_auc", "plot_rates", "plot_scan", "plot_shapes", "require_plots")

_BINS = 40


class Weighted(NamedTuple):
    """Values with weights.

    Attributes
    ----------
    values, weights
        Shape (n_event,).
    """

    values: NDArray[Any]
    weights: NDArray[Any]

    def density(
        self, edges: Float[np.ndarray, " edge"]
    ) -> tuple[Float[np.ndarray, " bin"], Float[np.ndarray, " bin"]]:
        """Return a histogram of unit area and its errors, √Σw²; what is beyond counts to the ends.

        The errors are those of the contents: the area is taken as known.
        """
        n = len(edges) - 1
        at = np.clip(np.searchsorted(edges, self.values, side="right") - 1, 0, n - 1)
        sums = np.bincount(at, self.weights, minlength=n)
        squares = np.bincount(at, np.square(self.weights), minlength=n)
        area = sums.sum() * np.diff(edges)
        return sums / area, np.sqrt(squares) / np.abs(area)


def require_plots() -> None:
    """Raise MissingExtraError if pictures cannot be drawn."""
    _pyplot()


def plot_rates(rates: Mapping[int, float], path: Path) -> Path:
    """Draw the learning rate of each step."""
    plt = _pyplot()
    figure, axes = plt.subplots()
    axes.plot(list(rates), list(rates.values()))
    axes.set_xlabel("step")
    axes.set_ylabel("learning rate")
    axes.set_ylim(bottom=0)
    return _save(plt, figure, path)


def plot_auc(history: Sequence[Mapping[str, float]], path: Path) -> Path:
    """Draw the area under the ROC curve of the validation events by epoch."""
    plt = _pyplot()
    figure, axes = plt.subplots()
    epochs = [entry["epoch"] for entry in history]
    axes.plot(epochs, [entry["validation_auc"] for entry in history])
    axes.set_xlabel("epoch")
    axes.set_ylabel("AUC, validation")
    return _save(plt, figure, path)


def plot_scan(
    rates: Float[np.ndarray, " step"],
    losses: Float[np.ndarray, " step"],
    marks: Mapping[str, float],
    path: Path,
) -> Path:
    """Draw the loss by learning rate, with vertical lines at some rates."""
    plt = _pyplot()
    figure, axes = plt.subplots()
    axes.plot(rates, losses)
    for i, (name, rate) in enumerate(marks.items(), 1):
        axes.axvline(rate, color=f"C{i}", linestyle="--", label=f"{name}: {rate:.2g}")
    axes.set_xscale("log")
    if losses.min() > 0:  # the first steps may undo a start that was far off
        axes.set_yscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.legend()
    return _save(plt, figure, path)


def plot_shapes(
    pairs: Mapping[str, tuple[Weighted, Weighted]],
    ends: tuple[float, float],
    label: str,
    path: Path,
    other: str = "validation",
) -> Path:
    """Draw the distributions of training (lines) and other events (points), of unit area.

    Parameters
    ----------
    pairs
        By class: training and other events, with a positive sum of weights each.
    ends
        Of the axis; what is beyond counts to the first and last bin.
    label
        Of the axis.
    path
        Of the PNG file.
    other
        What the other events are.
    """
    plt = _pyplot()
    figure, axes = plt.subplots()
    edges = np.linspace(*ends, _BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    for i, (name, (training, others)) in enumerate(pairs.items()):
        color = f"C{i}"
        values, errors = training.density(edges)
        axes.stairs(values, edges, color=color, label=f"{name}, training")
        band = {"color": color, "alpha": 0.25, "linewidth": 0}
        axes.stairs(values + errors, edges, baseline=values - errors, fill=True, **band)
        values, errors = others.density(edges)
        points = {"fmt": "o", "markersize": 4, "linewidth": 1, "color": color}
        axes.errorbar(centres, values, errors, label=f"{name}, {other}", **points)
    axes.set_xlabel(label)
    axes.set_ylabel("events, normalised")
    axes.set_xlim(*ends)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.legend()
    return _save(plt, figure, path)
