"""Events in, `JaggedInputs` out: counts and one flat float32 matrix per collection.

This is the adapter between awkward arrays and blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import awkward as ak
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from tracksets.errors import DataError, NonFiniteError
from tracksets.expressions import parse
from tracksets.fields import Columns, Naming
from tracksets.functions import common_axis
from tracksets.inputs import Collection, Inputs, feature_names
from tracksets.jagged import Axis, Column, float32

__all__ = ("JaggedInputs", "event_values", "jagged_inputs")


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
        axis, tracks[name] = _collection(columns, name, collection, first_event)
        counts[name] = axis.counts
    event = _matrix(
        [_event_value(text, columns) for text in inputs.event], inputs.event, columns.n_event
    )
    where = f"event-level inputs in {columns.fields.where}"
    _clean(event, inputs.event, inputs, where, lambda at: first_event + at)
    return JaggedInputs(counts, tracks, event)


def event_values(text: str, columns: Columns) -> NDArray[np.generic]:
    """Evaluate an expression that gives one number per event; shape (n_event,)."""
    return np.broadcast_to(_event_value(text, columns).values, (columns.n_event,))


def _event_value(text: str, columns: Columns) -> Column:
    value = parse(text)(columns.of())
    if not isinstance(value, Column):
        return Column(np.full(columns.n_event, value))
    if value.axis is not None:
        raise DataError(
            f"'{text}' gives one number per track where one per event is needed: reduce it, for "
            "instance with sum(), max(), count() or [0]"
        )
    if value.values.shape[1:] and parse(text).width == 1:
        raise DataError(f"'{text}' gives {value.values.shape[1]} numbers per event: choose [0] ...")
    return value


def _collection(
    columns: Columns, name: str, collection: Collection, first_event: int
) -> tuple[Axis, NDArray[np.float32]]:
    naming = collection.naming(name)
    axis = _axis(columns, name, collection, naming)

    def on_tracks(text: str) -> Column:
        value = parse(text)(columns.of(naming))
        if not isinstance(value, Column):
            return Column(np.full(axis.n_track, value), axis)
        if value.axis is None:
            return Column(np.repeat(value.values, axis.counts, axis=0), axis)
        common_axis(axis, value.axis)
        if value.values.ndim > 1 and parse(text).width == 1:
            raise DataError(
                f"'{text}' gives {value.values.shape[1]} numbers per track: choose one, as in x[0]"
            )
        return value

    try:
        features = [on_tracks(text) for text in collection.features]
        keep = None
        if collection.select is not None:
            keep = on_tracks(collection.select).values.astype(bool)
        if collection.sort is not None and collection.first is not None:
            keep = _hardest(on_tracks(collection.sort).values, axis, collection.first, keep)
    except DataError as error:
        raise DataError(f"collection {name}: {error}") from None
    if keep is not None:
        features = [Column(each.values[keep], each.axis) for each in features]
        axis = axis.select(keep)
    matrix = _matrix(features, collection.features, axis.n_track)

    def event_of(track: int) -> int:
        return int(np.searchsorted(axis.offsets, track, "right")) - 1

    where = f"collection {name} in {columns.fields.where}"
    _clean(matrix, collection.features, collection, where, lambda at: first_event + event_of(at))
    return axis, matrix


def _axis(columns: Columns, name: str, collection: Collection, naming: Naming) -> Axis:
    """Find how the tracks are shared out, from the first branch that is jagged."""
    paths: dict[str, Column] = {}
    for text in collection.expressions():
        for each in parse(text).names:
            found = columns.fields.find(each, naming)
            for path in found.paths.values():
                paths[".".join(path)] = columns.read(path)
    for each in paths.values():
        if each.axis is not None:
            return each.axis
    if columns.n_event == 0:
        return Axis(np.zeros(0, np.int64))
    raise DataError(
        f"collection {name}: none of the branches {list(paths)} is jagged (one number per track); "
        "features with one number per event belong into `event`"
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


def _matrix(columns: list[Column], texts: tuple[str, ...], rows: int) -> NDArray[np.float32]:
    widths = [parse(text).width for text in texts]
    matrix = np.empty((rows, sum(widths)), np.float32)
    at = 0
    for text, width, each in zip(texts, widths, columns, strict=True):
        values = float32(each.values, f"feature '{text}'")
        matrix[:, at : at + width] = values if width > 1 else values.reshape(rows, 1)
        at += width
    return matrix


def _clean(
    matrix: NDArray[np.float32],
    texts: tuple[str, ...],
    options: Collection | Inputs,
    where: str,
    event_of: Callable[[int], int],
) -> None:
    """Fill and clip in place as the options say; refuse what is left that is not finite."""
    with np.errstate(all="ignore"):
        suspicious = not np.isfinite(matrix.sum())
    roots = [text for text in texts for _ in range(parse(text).width)]
    for i, (root, name) in enumerate(zip(roots, feature_names(texts), strict=True)):
        values = matrix[:, i]
        if suspicious:
            bad = ~np.isfinite(values)
            if bad.any() and root not in options.fill:
                at = int(np.argmax(bad))
                raise NonFiniteError(
                    f"{where}: feature '{name}' (of {', '.join(parse(root).names)}) is NaN or "
                    f"infinite {int(bad.sum())} time(s), first {values[at]} in event "
                    f"{event_of(at)}. Cut such tracks away with select, or give a value with "
                    f'fill = {{ "{root}" = 0.0 }}'
                )
            values[bad] = options.fill.get(root, 0.0)
        if root in options.clip:
            np.clip(values, *options.clip[root], out=values)
