"""Flat inputs and several models in; the mean of their scores, and its spread, out.

With folds, an event of one of them is scored only by the models that were trained without it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from tracksets.errors import DataError
from tracksets.features import JaggedInputs
from tracksets.folds import Folds

__all__ = ("combined", "joined", "shares")

_Score = Callable[[JaggedInputs], Float[np.ndarray, "event score"]]

_WINDOW = 2**20
"""Tracks, and events, that are shared out among the models at a time: many blocks for each."""


def joined(parts: Iterable[JaggedInputs]) -> Iterator[JaggedInputs]:
    """Join parts to larger ones of bounded size; the last one may be small."""
    waiting: list[JaggedInputs] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += part.n_track + part.n_event
        if size >= _WINDOW:
            yield JaggedInputs.concatenate(waiting)
            waiting, size = [], 0
    if waiting:
        yield JaggedInputs.concatenate(waiting)


def combined(
    inputs: JaggedInputs, models: Sequence[_Score], folds: Folds | None, spread: bool
) -> Float[np.ndarray, "event column"]:
    """Score events with the models that are meant for each of them.

    Parameters
    ----------
    inputs
        Flat inputs of n events.
    models
        Functions that score flat inputs; with folds, equally many for each fold, in their order.
    folds
        Which events a model has not seen.
    spread
        Whether to add the standard deviation of the scores whose mean is taken: the square root
        of the sum of squares over n - 1. NaN where it is the score of one model.

    Returns
    -------
    NDArray
        float32: the columns of a model and, with `spread`, that of each of them.
    """
    parts = []
    order = []
    for events, chosen in shares(inputs, len(models), folds):
        if len(events):
            some = inputs if len(events) == inputs.n_event else inputs.take(events)
            parts.append(_mean([models[i](some) for i in chosen], spread))
            order.append(events)
    if not parts:
        return _mean([model(inputs) for model in models[:1]], spread)
    result = np.empty((inputs.n_event, parts[0].shape[1]), np.float32)
    for events, part in zip(order, parts, strict=True):
        result[events] = part
    return result


def shares(
    inputs: JaggedInputs, n_model: int, folds: Folds | None
) -> Iterator[tuple[Int[np.ndarray, " chosen"], range]]:
    """Share out the events: pairs of events and the models that score them."""
    if folds is None:
        yield np.arange(inputs.n_event), range(n_model)
        return
    if inputs.fold is None:
        raise DataError("the model has folds, but these flat inputs do not say that of each event")
    n = n_model // len(folds.values)
    for i, value in enumerate(folds.values):
        yield np.flatnonzero(inputs.fold == value), range(i * n, (i + 1) * n)
    yield np.flatnonzero(~np.isin(inputs.fold, folds.values)), range(n_model)


def _mean(scores: list[NDArray[np.float32]], spread: bool) -> NDArray[np.float32]:
    every = np.stack(scores)
    columns = [every.mean(axis=0, dtype=np.float64)]
    if spread and len(scores) > 1:
        columns.append(every.std(axis=0, dtype=np.float64, ddof=1))
    elif spread:
        columns.append(np.full(every.shape[1:], np.nan))
    return np.concatenate(columns, axis=1).astype(np.float32)
