"""A scorer and events in; what it would be without each feature, and its weightiest tracks, out."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from tracksets.explanations import explain_inputs
from tracksets.flat import JaggedInputs
from tracksets.inputs import feature_names
from tracksets.metrics import mean_auc
from tracksets.scorer import Scorer

__all__ = ("Importance", "important_features", "important_tracks", "names_of")


class Importance(NamedTuple):
    """How much a feature matters.

    Attributes
    ----------
    collection
        `event` for event-level features.
    feature
        Its expression.
    loss
        What is lost when it is shuffled: of the area under the ROC curve (of more than two
        classes, of the mean one); of a regression, the rise of the root mean square residual, in
        units of the targets' spread.
    """

    collection: str
    feature: str
    loss: float


def names_of(scorer: Scorer) -> dict[str, list[str]]:
    """Name the features by collection, and those of the event as `event`."""
    inputs = scorer.inputs
    found = {name: feature_names(each.features) for name, each in inputs.collections.items()}
    return {**found, "event": feature_names(inputs.event)}


def important_features(
    scorer: Scorer,
    inputs: JaggedInputs,
    targets: NDArray[Any],
    weights: Float[np.ndarray, " event"],
    seed: int = 0,
) -> list[Importance]:
    """Shuffle one feature after the other among all tracks, or events; the weightiest one first.

    The permutation importance of Breiman, Random Forests, Machine Learning 45 (2001),
    doi:10.1023/A:1010933404324. Of features that say the same, each one alone may seem to be of no
    use.

    Parameters
    ----------
    scorer
        A model.
    inputs
        Flat inputs of n events.
    targets
        Their classes, shape (n_event,); or shape (n_event, n_target).
    weights
        Of any sign.
    seed
        Of the shuffling.
    """
    random = np.random.default_rng(seed)

    def shuffled(matrix: NDArray[np.float32], column: int) -> NDArray[np.float32]:
        copy = matrix.copy()
        copy[:, column] = random.permutation(copy[:, column])
        return copy

    def variants() -> Iterator[tuple[str, str, JaggedInputs]]:
        for name, features in names_of(scorer).items():
            for i, feature in enumerate(features):
                if name == "event":
                    other = replace(inputs, event=shuffled(inputs.event, i))
                else:
                    tracks = {**inputs.tracks, name: shuffled(inputs.tracks[name], i)}
                    other = replace(inputs, tracks=tracks)
                yield name, feature, other

    best = _merit(scorer, inputs, targets, weights)
    found = [
        Importance(name, feature, best - _merit(scorer, other, targets, weights))
        for name, feature, other in variants()
    ]
    return sorted(found, key=lambda each: -each.loss)


def _merit(
    scorer: Scorer, inputs: JaggedInputs, targets: NDArray[Any], weights: NDArray[np.float64]
) -> float:
    scores, task = scorer.score_inputs(inputs), scorer.task
    if task.kind != "regression":
        area = mean_auc(targets, scores, weights)
        return np.nan if area is None else area
    truth = np.asarray(targets, np.float64).reshape(scores.shape)
    square = (((scores - truth) / np.asarray(task.scale)) ** 2).mean(axis=1)
    return -float(np.sqrt(np.abs(np.average(square, weights=weights))))


def important_tracks(
    scorer: Scorer, inputs: JaggedInputs, most: int = 10
) -> list[dict[str, object]]:
    """Find the tracks without which the score of their event would change most.

    Returns
    -------
    list
        For each track: its `collection`, the largest `change` of a score that it makes (see
        `Scorer.contributions`), and its features.
    """
    found: list[tuple[float, str, int]] = []
    for name, changes in explain_inputs(scorer, inputs).items():
        if changes.size:
            column = np.argmax(np.abs(changes), axis=1)
            values = changes[np.arange(len(changes)), column]
            first = np.argsort(-np.abs(values), kind="stable")[:most]
            found += [(float(values[i]), name, int(i)) for i in first]
    rows: list[dict[str, object]] = []
    for change, name, i in sorted(found, key=lambda each: -abs(each[0]))[:most]:
        values = dict(zip(names_of(scorer)[name], map(float, inputs.tracks[name][i]), strict=True))
        rows.append({"collection": name, "change": change, **values})
    return rows
