"""Curves and scores in, pictures out, in the style of mplhep."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracksets.bands import Band
from tracksets.comparisons import Reliability
from tracksets.errors import MissingExtraError
from tracksets.metrics import Roc

__all__ = (
    "experiment_label",
    "plot_history",
    "plot_prediction",
    "plot_reliability",
    "plot_roc",
    "plot_scores",
)


_EXPERIMENT = ContextVar("experiment", default="")


def _pyplot() -> Any:
    try:
        import hist  # noqa: F401
        import matplotlib as mpl
        import mplhep
    except ImportError as error:
        raise MissingExtraError(str(error.name), "plot", "drawing plots") from error
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    style: dict[str, Any] = {**mplhep.style.ROOT, "figure.figsize": (7, 6), "font.size": 15}
    plt.style.use(style)
    return plt


@contextmanager
def experiment_label(text: str) -> Iterator[None]:
    """Put a text above every picture that is drawn within: `CMS Preliminary`."""
    token = _EXPERIMENT.set(text)
    try:
        yield
    finally:
        _EXPERIMENT.reset(token)


def _save(plt: Any, figure: Any, path: Path) -> Path:
    """Write a PNG file, and a PDF beside it; the same picture gives the same files."""
    # As text alone: what looks like a formula may be none.
    title = {"loc": "left", "fontweight": "bold", "parse_math": False}
    figure.axes[0].set_title(_EXPERIMENT.get(), **title)
    figure.tight_layout()
    figure.savefig(path)
    figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
    plt.close(figure)
    return path


def plot_history(
    history: Sequence[Mapping[str, float]], path: Path, best_epoch: int | None = None
) -> Path:
    """Draw training and validation loss by epoch."""
    plt = _pyplot()
    figure, axes = plt.subplots()
    epochs = [entry["epoch"] for entry in history]
    axes.plot(epochs, [entry["loss"] for entry in history], label="training")
    if "validation_loss" in history[0]:
        axes.plot(epochs, [entry["validation_loss"] for entry in history], label="validation")
    if best_epoch is not None:
        axes.axvline(best_epoch, color="gray", linestyle=":", label="best epoch")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.legend()
    return _save(plt, figure, path)


def plot_roc(
    curves: Mapping[str, Roc], path: Path, bands: Mapping[str, Band] | None = None
) -> Path:
    """Draw background efficiency over signal efficiency, one curve per signal class."""
    plt = _pyplot()
    figure, axes = plt.subplots()
    for name, band in (bands or {}).items():
        color = f"C{list(curves).index(name)}"
        axes.fill_between(band.signal, band.low, band.high, color=color, alpha=0.25, linewidth=0)
    for name, each in curves.items():
        axes.plot(each.signal, each.background, label=f"{name}, AUC {each.auc:.4f}")
    axes.set_yscale("log")
    axes.set_ylim(1e-4, 1.2)
    axes.set_xlim(0, 1)
    axes.set_xlabel("signal efficiency")
    axes.set_ylabel("background efficiency")
    axes.legend(loc="upper left")
    return _save(plt, figure, path)


def plot_reliability(curves: Mapping[str, Reliability], path: Path) -> Path:
    """Draw how often what has a certain probability is true, one calibration curve per class."""
    plt = _pyplot()
    figure, axes = plt.subplots()
    axes.plot([0, 1], [0, 1], color="black", linewidth=1)
    for name, each in curves.items():
        label = f"{name}, ECE {each.ece:.4f} ({each.ece_by_chance:.4f} by chance)"
        axes.errorbar(each.score, each.fraction, each.uncertainty, fmt="o", label=label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("score")
    axes.set_ylabel("fraction of the class")
    axes.legend(loc="upper left")
    return _save(plt, figure, path)


def plot_scores(
    scores: NDArray[np.float32],
    classes: NDArray[np.int64],
    weights: NDArray[np.float64],
    names: Sequence[str],
    label: str,
    path: Path,
) -> Path:
    """Draw the distribution of a score for each true class, weighted, each with unit area."""
    plt = _pyplot()
    import hist
    import mplhep

    figure, axes = plt.subplots()
    for i, name in enumerate(names):
        chosen = classes == i
        counts = hist.Hist(hist.axis.Regular(40, 0, 1, name="score"), storage=hist.storage.Weight())
        counts.fill(np.minimum(scores[chosen], np.float32(1 - 1e-7)), weight=weights[chosen])
        mplhep.histplot(counts, ax=axes, label=name, density=True, yerr=True)
    axes.set_xlabel(label)
    axes.set_ylabel("events, normalised")
    axes.set_xlim(0, 1)
    axes.legend()
    return _save(plt, figure, path)


def plot_prediction(
    targets: NDArray[np.float64], predictions: NDArray[np.float32], name: str, path: Path
) -> Path:
    """Draw prediction against truth."""
    plt = _pyplot()
    figure, axes = plt.subplots()
    axes.scatter(targets, predictions, s=6, alpha=0.5)
    ends = [min(targets.min(), predictions.min()), max(targets.max(), predictions.max())]
    axes.plot(ends, ends, color="black", linewidth=1)
    axes.set_xlabel(f"true {name}")
    axes.set_ylabel(f"predicted {name}")
    return _save(plt, figure, path)
