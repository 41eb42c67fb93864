"""Scores of training and of other events in; their distributions, compared, in a report out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracksets.overtraining import kolmogorov_smirnov
from tracksets.report import Report
from tracksets.targets import Task
from tracksets.training_plots import Weighted, plot_shapes

__all__ = ("Scored", "Tests", "compare")

Tests = dict[str, dict[str, dict[str, float]]]
"""By score and class: the numbers of a test."""

_TEST = (
    "Two-sample Kolmogorov-Smirnov test of training against {other} events, with weights. The "
    "number of events is the effective one, (Σw)² / Σw²; negative weights are summed as they are. "
    "A small p-value says that the two differ: the network knows its training events better than "
    "others. Of many events small differences have small p-values too: look at the distance, and "
    "at the AUC of both."
)


class Scored(NamedTuple):
    """Events with their scores.

    Attributes
    ----------
    scores
        Shape (n_event, n_score).
    truth
        Classes, shape (n_event,); or what was to be predicted, shape (n_event, n_score).
    weights
        Shape (n_event,).
    """

    scores: NDArray[np.float32]
    truth: NDArray[Any]
    weights: NDArray[Any]


def compare(
    report: Report, folder: Path, stem: str, task: Task, pair: tuple[Scored, Scored], other: str
) -> tuple[Tests, list[Path]]:
    """Draw the distributions of each score and test whether they agree, class by class.

    A class whose weights sum to zero or less in one of the samples is left out.

    Parameters
    ----------
    report
        To add pictures and a table to.
    folder, stem
        Where the pictures go: `folder/stem_0.png` and so on.
    task
        What the scores are.
    pair
        Training and other events.
    other
        What the others are: `validation`.

    Returns
    -------
    dict, list
        The numbers of the tests, and the pictures.
    """
    tests: Tests = {}
    outputs: list[Path] = []
    for label, shapes, ends in _distributions(task, pair):
        known = {
            name: each for name, each in shapes.items() if all(x.weights.sum() > 0 for x in each)
        }
        if not known:
            continue
        path = folder / f"{stem}_{len(outputs)}.png"
        outputs.append(plot_shapes(known, ends, label, path, other))
        report.figure(path, f"Training (lines) and {other} events (points) by {label}.")
        tests[label] = {name: _test(one, two, other) for name, (one, two) in known.items()}
    report.text(_TEST.format(other=other))
    report.table(
        {"": label, "of": name, **{key.replace("_", " "): each for key, each in test.items()}}
        for label, of_label in tests.items()
        for name, test in of_label.items()
    )
    return tests, outputs


def _test(one: Weighted, two: Weighted, other: str) -> dict[str, float]:
    found = kolmogorov_smirnov(one.values, two.values, one.weights, two.weights)
    return {
        "distance": found.distance,
        "p_value": found.p_value,
        "effective_training_events": found.n_effective[0],
        f"effective_{other}_events": found.n_effective[1],
    }


Shapes = dict[str, tuple[Weighted, Weighted]]


def _distributions(
    task: Task, pair: tuple[Scored, Scored]
) -> Iterator[tuple[str, Shapes, tuple[float, float]]]:
    """Go through what is drawn: label, samples by class, and ends of the axis."""
    if task.kind == "regression":
        for i, name in enumerate(task.names):
            one, two = (
                Weighted(each.scores[:, i] - each.truth[:, i], each.weights) for each in pair
            )
            low, high = np.quantile(two.values, (0.005, 0.995))
            margin = 0.1 * (high - low) or 1.0
            unit = f" [{task.units[i]}]" if task.units else ""
            ends = (float(low - margin), float(high + margin))
            yield f"predicted - true {name}{unit}", {"events": (one, two)}, ends
        return
    signals = [len(task.names) - 1] if task.kind == "binary" else range(len(task.names))
    for column, signal in enumerate(signals):
        shapes: Shapes = {}
        for i, name in enumerate(task.names):
            one, two = (
                Weighted(each.scores[each.truth == i, column], each.weights[each.truth == i])
                for each in pair
            )
            shapes[name] = (one, two)
        yield f"score for {task.names[signal]}", shapes, (0.0, 1.0)
