"""Events in, `JaggedInputs` out: counts and one flat float32 matrix per collection.

This is the adapter between awkward arrays and blocks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import awkward as ak
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from tracksets.errors import DataError, NonFiniteError
from tracksets.expressions import parse
from tracksets.fields import Columns
from tracksets.functions import Value, common_axis
from tracksets.inputs import Collection, Inputs
from tracksets.jagged import LARGEST_EXACT, Axis, Column, float32

__all__ = ("JaggedInputs", "chosen_events", "event_values", "jagged_inputs")


@dataclass(frozen=True)
class JaggedInputs:
    """What the network sees of a number of events, flat.

    Attributes
    ----------
    counts
        By collection: tracks of each event, int64, shape (n_event,).
    tracks
        By collection: float32, shape (n_track, n_feature), the tracks of event 0 first.
    event
        Event-level features, float32, shape (n_event, n_event_feature).
    """

    counts: dict[str, Int[np.ndarray, " event"]]
    tracks: dict[str, Float[np.ndarray, "track feature"]]
    event: Float[np.ndarray, "event feature"]

    @cached_property
    def axes(self) -> dict[str, Axis]:
        """By collection: how the tracks are shared out."""
        return {name: Axis(counts) for name, counts in self.counts.items()}

    @property
    def n_event(self) -> int:
        """Number of events."""
        return len(self.event)

    @property
    def n_track(self) -> int:
        """Number of tracks of all collections."""
        return sum(len(each) for each in self.tracks.values())

    @property
    def widths(self) -> tuple[dict[str, int], int]:
        """Features by collection, and event-level features."""
        return {name: each.shape[1] for name, each in self.tracks.items()}, self.event.shape[1]

    def take(self, events: Int[np.ndarray, " chosen"]) -> "JaggedInputs":
        """Return the chosen events, in the order of `events` (indices)."""
        counts, tracks = {}, {}
        for name, axis in self.axes.items():
            chosen = Axis(axis.counts[events])
            shift = axis.offsets[:-1][events] - chosen.offsets[:-1]
            where = np.repeat(shift, chosen.counts) + np.arange(chosen.n_track)
            counts[name], tracks[name] = chosen.counts, self.tracks[name][where]
        return JaggedInputs(counts, tracks, self.event[events])

    def slice(self, start: int, stop: int) -> "JaggedInputs":
        """Return the events from `start` to before `stop`; tracks are not copied."""
        counts, tracks = {}, {}
        for name, axis in self.axes.items():
            counts[name] = axis.counts[start:stop]
            tracks[name] = self.tracks[name][axis.offsets[start] : axis.offsets[stop]]
        return JaggedInputs(counts, tracks, self.event[start:stop])

    @staticmethod
    def concatenate(parts: "list[JaggedInputs]") -> "JaggedInputs":
        """Join events of several sources, in order."""
        names = parts[0].counts
        return JaggedInputs(
            {name: np.concatenate([part.counts[name] for part in parts]) for name in names},
            {name: np.concatenate([part.tracks[name] for part in parts]) for name in names},
            np.concatenate([part.event for part in parts]),
        )


def jagged_inputs(events: ak.Array | Columns, inputs: Inputs, first_event: int = 0) -> JaggedInputs:
    """Evaluate all features.

    The order of events and of tracks is kept; an event without tracks stays an event.

    Parameters
    ----------
    events
        `n * {Track: var * {pt: float32, ...}}` or `n * {Track_pt: var * float32, ...}`.
    inputs
        What to evaluate.
    first_event
        Number of the first of these events in their source, for messages.

    Raises
    ------
    DataError
        If a branch is missing, is not one number per track or event, or has missing values; if
        the branches of a collection have unequal counts.
    NonFiniteError
        If a feature is NaN or infinite and `fill` has no value for it.
    """
    columns = events if isinstance(events, Columns) else Columns(events)
    counts: dict[str, NDArray[np.int64]] = {}
    tracks: dict[str, NDArray[np.float32]] = {}
    for name, collection in inputs.collections.items():
        axis, features = _collection(columns, name, collection)
        counts[name] = axis.counts

        def event_of(track: int, axis: Axis = axis) -> int:
            return first_event + int(axis.event[track])

        where = f"collection {name} in {columns.fields.where}"
        tracks[name] = _matrix(features, axis.n_track, collection.features, collection, where)
        _finite(tracks[name], collection.features, where, event_of, "cut such tracks with select")
    features = [_event_value(text, columns).values for text in inputs.event]
    where = f"event-level inputs in {columns.fields.where}"
    event = _matrix(features, columns.n_event, inputs.event, inputs, where)
    _finite(event, inputs.event, where, lambda at: first_event + at, "leave such events out")
    return JaggedInputs(counts, tracks, event)


def event_values(text: str, columns: Columns) -> NDArray[np.generic]:
    """Evaluate an expression that gives one number per event; shape (n_event,)."""
    values = _event_value(text, columns).values
    if values.ndim > 1:
        raise DataError(f"'{text}' gives several numbers per event where one is needed")
    return values


def chosen_events(text: str, columns: Columns) -> NDArray[np.bool_]:
    """Say where an expression per event is not 0; NaN, which compares with nothing, is no choice."""
    values = event_values(text, columns)
    chosen: NDArray[np.bool_] = (values != 0) & ~np.isnan(values)
    return chosen


def _event_value(text: str, columns: Columns) -> Column:
    value = parse(text)(columns.of())
    if not isinstance(value, Column):
        return Column(np.full(columns.n_event, value))
    if value.axis is not None:
        raise DataError(
            f"'{text}' gives one number per track where one per event is needed: reduce it, for "
            "instance with sum(), max(), count() or [0]"
        )
    return Column(_of_width(value.values, text, "event"))


def _of_width(values: NDArray[Any], text: str, row: str) -> NDArray[Any]:
    """Refuse a vector where one number is meant; one-hots are (n, n_code), others (n,)."""
    if values.ndim == 1 or parse(text).is_onehot:
        return values
    if values.shape[1] != 1:
        raise DataError(
            f"'{text}' gives {values.shape[1]} numbers per {row}: choose one, as in x[0]"
        )
    return values[:, 0]


def _collection(
    columns: Columns, name: str, collection: Collection
) -> tuple[Axis, list[NDArray[Any]]]:
    """Evaluate the features of the tracks that are kept."""
    lookup = columns.of(collection.naming(name))
    try:
        values = {text: parse(text)(lookup) for text in collection.expressions()}
        axis = _axis(values, columns.n_event)

        def on_tracks(text: str) -> NDArray[Any]:
            value = values[text]
            if not isinstance(value, Column):
                return np.full(axis.n_track, value)
            flat = _of_width(value.values, text, "track")
            return flat if value.axis is not None else np.repeat(flat, axis.counts, axis=0)

        features = [on_tracks(text) for text in collection.features]
        keep = None
        if collection.select is not None:
            keep = on_tracks(collection.select).astype(bool)
        if collection.sort is not None and collection.first is not None:
            keep = _hardest(on_tracks(collection.sort), axis, collection.first, keep)
    except DataError as error:
        raise DataError(f"collection {name}: {error}") from None
    if keep is None:
        return axis, features
    return axis.select(keep), [each[keep] for each in features]


def _axis(values: Mapping[str, Value], n_event: int) -> Axis:
    """Return how the tracks are shared out, which all expressions have to agree on."""
    axis = None
    for text, value in values.items():
        if isinstance(value, Column) and value.axis is not None:
            try:
                axis = common_axis(axis, value.axis)
            except DataError as error:
                raise DataError(f"'{text}': {error}") from None
    if axis is not None:
        return axis
    if n_event == 0:  # nothing says then what would be jagged
        return Axis(np.zeros(0, np.int64))
    raise DataError(
        f"none of {list(values)} is jagged (one number per track); features with one number per "
        "event belong into `event`"
    )


def _hardest(
    key: NDArray[np.generic], axis: Axis, first: int, keep: NDArray[np.bool_] | None
) -> NDArray[np.bool_]:
    """Mark the `first` tracks of each event by falling key, among those that `keep` marks."""
    candidates = np.arange(axis.n_track) if keep is None else np.flatnonzero(keep)
    event = axis.event[candidates]
    order = np.lexsort((-key[candidates].astype(np.float64), event))
    starts = np.searchsorted(event, event)
    chosen = candidates[order[np.arange(len(order)) - starts < first]]
    mask = np.zeros(axis.n_track, bool)
    mask[chosen] = True
    return mask


def _matrix(
    columns: Sequence[NDArray[Any]],
    rows: int,
    texts: Sequence[str],
    options: Collection | Inputs,
    where: str,
) -> NDArray[np.float32]:
    """Fill and clip as the options say, and put side by side."""
    matrix = np.empty((rows, sum(parse(text).width for text in texts)), np.float32)
    at = 0
    for text, values in zip(texts, columns, strict=True):
        width = parse(text).width
        try:
            matrix[:, at : at + width] = _cleaned(values, text, options).reshape(rows, width)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        at += width
    return matrix


def _cleaned(values: NDArray[Any], text: str, options: Collection | Inputs) -> NDArray[np.float32]:
    name = f"feature '{text}'"
    if text in options.fill and values.dtype.kind == "f":
        values = np.where(np.isfinite(values), values, options.fill[text])
    if text in options.clip:
        low, high = options.clip[text]
        if values.dtype.kind == "i" and max(-low, high) > LARGEST_EXACT:
            float32(values, name)  # NumPy clips in double precision: what it rounds shows no more
        # Before float32 has to hold it, but infinity isn't a number to clip.
        values = np.where(np.isinf(values), values, np.clip(values, low, high))
    return float32(values, name)


def _finite(
    matrix: NDArray[np.float32],
    texts: Sequence[str],
    where: str,
    event_of: Callable[[int], int],
    remedy: str,
) -> None:
    with np.errstate(all="ignore"):
        if np.isfinite(matrix.sum()):
            return
    at = 0
    for text in texts:
        width = parse(text).width
        bad = ~np.isfinite(matrix[:, at : at + width])
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise NonFiniteError(
                f"{where}: feature '{text}' (of {', '.join(parse(text).names)}) is NaN or infinite "
                f"{int(bad.sum())} time(s), first {matrix[row, at + column]} in event "
                f"{event_of(int(row))}. To go on, {remedy}, or give a value with "
                f'fill = {{ "{text}" = 0.0 }}'
            )
        at += width
