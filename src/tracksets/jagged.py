"""One awkward column in, whatever its layout; counts and flat NumPy values out.

A `Column` is what expressions work on. What cannot be represented as one number (or one short
vector of numbers) per track or per event is refused here, never dropped or rounded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from tracksets.errors import DataError

__all__ = ("LARGEST_EXACT", "Axis", "Column", "column", "float32", "per_event")

LARGEST_EXACT = 2**24
"""float32 holds every integer up to here."""


@dataclass(frozen=True, eq=False)
class Axis:
    """How the flat values of a jagged column are shared out among the events.

    Attributes
    ----------
    counts
        Tracks per event, int64, shape (n_event,).
    """

    counts: NDArray[np.int64]

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """First track of each event and, last, the number of tracks; shape (n_event + 1,)."""
        return np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])

    @cached_property
    def event(self) -> NDArray[np.int64]:
        """The event of each track; shape (n_track,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def n_track(self) -> int:
        """Number of tracks in all events together."""
        return int(self.offsets[-1])

    def same_as(self, other: "Axis") -> bool:
        """Whether both share out their tracks alike."""
        return self is other or np.array_equal(self.counts, other.counts)

    def select(self, mask: NDArray[np.bool_]) -> "Axis":
        """Return the axis that is left of the tracks where `mask` (n_track,) is true."""
        kept = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
        return Axis(np.diff(kept[self.offsets]))


@dataclass(frozen=True, eq=False)
class Column:
    """Flat values, one per event (`axis` is None) or one per track of a collection.

    Attributes
    ----------
    values
        Shape (n_event,) or (n_track,), or with one more, regular, dimension: `var * 2 * float32`.
    axis
        The jagged axis of the tracks, shared by all columns of one collection.
    """

    values: NDArray[Any]
    axis: Axis | None = None


def column(array: ak.Array, name: str = "array") -> Column:
    """Flatten an awkward column of numbers.

    The order of events and tracks is kept. Nothing is copied where the layout is contiguous.

    Parameters
    ----------
    array
        `n * number`, `n * var * number`, or the latter with one regular inner dimension
        (`n * var * 2 * number`); any layout: sliced, masked, indexed, with 32-bit offsets,
        option-typed without a None in it. A regular list (`n * 4 * number`) has four tracks in
        every event.
    name
        What to call it in errors.

    Raises
    ------
    DataError
        If a value is missing, or is not a number, or is nested too deep.
    """
    layout = _present(ak.to_layout(array).materialize(), name, "event", lambda at: at)
    if not layout.is_list or _not_a_number(layout):
        return Column(_numbers(layout, name, lambda at: at))
    lists = layout.to_ListOffsetArray64(True)
    axis = Axis(np.diff(np.asarray(lists.offsets.data)))

    def event_of(track: int) -> int:
        return int(axis.event[track])

    tracks = _present(lists.content[: axis.n_track], name, "track", event_of)
    return Column(_numbers(tracks, name, event_of), axis)


def per_event(array: ak.Array) -> NDArray[np.int64]:
    """Count the tracks of each event without reading their values; 0 where an event is missing."""
    layout = ak.to_layout(array)
    if isinstance(layout, ak.contents.ListOffsetArray):  # ak.num takes ten times as long
        return np.diff(np.asarray(layout.offsets.data)).astype(np.int64, copy=False)
    counted = np.ma.filled(ak.to_numpy(ak.num(array, axis=1)), 0)
    return counted.astype(np.int64, copy=False)


def _present(layout: Any, name: str, what: str, event_of: Callable[[int], int]) -> Any:
    """Drop option types and indexes at the top of a layout; refuse if a value is missing."""
    while layout.is_option or layout.is_indexed:
        if layout.parameter("__array__") == "categorical":
            raise DataError(f"{name} holds categories; expected numbers")
        if layout.is_option:
            missing = np.flatnonzero(np.asarray(layout.mask_as_bool(valid_when=False)))
            if len(missing):
                raise DataError(
                    f"{name}: {len(missing)} {what}(s) missing (None), the first in event "
                    f"{event_of(int(missing[0]))}. Every {what} needs a value: remove them with a "
                    "mask or ak.drop_none, or put a number in with ak.fill_none"
                )
        layout = layout.project()
    # A NumPy array of several dimensions says that it is no list.
    return layout.to_RegularArray() if layout.is_numpy and layout.data.ndim > 1 else layout


def _numbers(layout: Any, name: str, event_of: Callable[[int], int]) -> NDArray[Any]:
    """Return the numbers of a layout, all integers as int64."""
    inner = layout
    if layout.is_regular and not _not_a_number(layout):
        inner = _present(layout.content, name, "value", lambda at: event_of(at // layout.size))
    problem = _not_a_number(inner) or ("lists of lists" if inner.is_list else None)
    if problem:
        raise DataError(
            f"{name} holds {problem} (type {layout.form.type}); expected one number per track or "
            "per event"
        )
    if inner.is_unknown:
        return np.empty(layout.length if layout is inner else (layout.length, layout.size))
    plain = layout.data if layout.is_numpy else ak.to_numpy(layout)
    values = np.asarray(plain)
    if values.dtype.kind == "u" and values.dtype.itemsize == 8 and values.size:
        largest = values.max()
        if largest > np.iinfo(np.int64).max:
            raise DataError(f"{name} holds {largest}, which is too large for a signed integer")
    if values.dtype.kind in "iu":
        # Unsigned arithmetic wraps around (nTrack - 10) and narrow integers overflow.
        return values.astype(np.int64, copy=False)
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _not_a_number(layout: Any) -> str | None:
    """Say what a layout holds if that cannot be a number, whatever is inside."""
    if layout.parameter("__array__") in ("string", "bytestring", "char", "byte"):
        return "strings"
    if layout.is_union:
        return "values of several types"
    if layout.is_record:
        return "tuples" if layout.is_tuple else f"records with the fields {layout.fields}"
    if layout.is_numpy and layout.dtype.kind not in "biuf":
        return f"{layout.dtype.name} values"
    return None


def float32(values: NDArray[Any], name: str = "array") -> NDArray[np.float32]:
    """Convert to float32, or refuse what float32 cannot hold.

    Raises
    ------
    DataError
        For integers beyond 2**24, which would be rounded, and for finite numbers that would
        become infinite. NaN and infinity pass: whether they are allowed is for the inputs to say.
    """
    if values.dtype.kind == "i" and values.size:
        largest = max(abs(int(values.min())), abs(int(values.max())))
        if largest > LARGEST_EXACT:
            raise DataError(
                f"{name} holds the integer {largest}: float32 is exact only up to 2**24 "
                f"({LARGEST_EXACT}). Take its logarithm, a remainder, or divide it first"
            )
    with np.errstate(over="ignore"):
        result = values.astype(np.float32, copy=False)
    if values.dtype.kind == "f" and values.dtype.itemsize > result.dtype.itemsize:
        lost = np.isinf(result) & np.isfinite(values)
        if lost.any():
            raise DataError(
                f"{name} holds {values[lost][0]:g}, which float32 cannot hold (up to 3.4e38)"
            )
    return result
