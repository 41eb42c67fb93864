"""`JaggedInputs` in, `Block`s of one fixed shape out; and back, one value per event.

Whole events are packed one after the other, in order, until the next one does not fit. An event
larger than a block gets a block of its own, of a larger size from a short ladder.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import awkward as ak
import jax
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from tracksets.errors import DataError
from tracksets.features import JaggedInputs, jagged_inputs
from tracksets.inputs import Inputs
from tracksets.jagged import Axis
from tracksets.pooling import pooling_matrix
from tracksets.slots import DEFAULT_TRACKS, LADDER, Shape

if TYPE_CHECKING:
    from jax.experimental.sparse import BCOO

__all__ = ("Block", "Shape", "next_block", "pack", "pack_inputs", "pack_parts", "unpack")


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Block:
    """A fixed-size batch of whole events, ready for a compiled function.

    A pytree: pass it to `jax.jit` as it is.

    Attributes
    ----------
    tracks
        By collection: features of each track slot, float32, shape (track_slot, feature).
        Padding is zero.
    rows
        By collection: the event slot of each track slot, rising, int32, shape (track_slot,).
        Padding points to `n_event_slots`, out of bounds.
    event
        Event-level features, float32, shape (event_slot, event_feature).
    mask
        Whether an event slot is used, bool, shape (event_slot,). Used ones come first.
    n_track
        By collection: track slots in use, int32 scalars.
    """

    tracks: dict[str, Float[np.ndarray | jax.Array, "track feature"]]
    rows: dict[str, Int[np.ndarray | jax.Array, " track"]]
    event: Float[np.ndarray | jax.Array, "event feature"]
    mask: NDArray[np.bool_] | jax.Array
    n_track: dict[str, Any]

    @property
    def features(self) -> dict[str, Float[np.ndarray | jax.Array, "track feature"]]:
        """The same as `tracks`."""
        return self.tracks

    @property
    def pooling(self) -> dict[str, "BCOO"]:
        """By collection: the 0/1 matrix of shape (event_slot, track_slot).

        Row j has ones where the tracks of event j stand. It stores one entry per track slot,
        whatever the data; those of padding are out of bounds.
        """
        return {name: pooling_matrix(rows, len(self.mask)) for name, rows in self.rows.items()}

    @property
    def n_event(self) -> int:
        """Number of events, without padding. Not for use under `jax.jit`."""
        return int(np.count_nonzero(self.mask))


def pack(
    events: ak.Array,
    inputs: Inputs,
    block_tracks: int = DEFAULT_TRACKS,
    block_events: int | None = None,
) -> Iterator[Block]:
    """Pack events into blocks of one fixed shape, in order.

    Every event and every track is in exactly one block. `unpack` is the way back.

    Parameters
    ----------
    events
        `n * {Track: var * {pt: float32, ...}}` or `n * {Track_pt: var * float32, ...}`.
    inputs
        What to see of them.
    block_tracks
        Track slots of the collection with most tracks.
    block_events
        Event slots. By default chosen from the multiplicities of `events`; state it to get the
        same shape for other events.

    Yields
    ------
    Block
        An event with more tracks than slots is alone in a block with 4, 16, ... times as many
        track slots.

    Examples
    --------
    >>> import awkward as ak
    >>> events = ak.Array({"Track_pt": [[1.0, 2.0], [], [3.0]]})
    >>> inputs = Inputs(collections={"Track": {"features": ["pt"]}})
    >>> [block] = pack(events, inputs, block_tracks=4, block_events=3)
    >>> block.pooling["Track"].todense() @ block.tracks["Track"]
    Array([[3.],
           [0.],
           [3.]], dtype=float32)
    """
    jagged = jagged_inputs(events, inputs)
    shape = Shape.for_multiplicities(jagged.counts, block_tracks, block_events)
    return pack_inputs(jagged, shape)


def pack_inputs(
    jagged: JaggedInputs, shape: Shape, order: Int[np.ndarray, " event"] | None = None
) -> Iterator[Block]:
    """Pack flat inputs; see `pack`.

    Parameters
    ----------
    jagged
        Flat inputs.
    shape
        The slots of a block.
    order
        Pack these events (indices), in this order, instead of all as they come.
    """
    axes = jagged.axes
    if order is not None:
        axes = {name: Axis(axis.counts[order]) for name, axis in axes.items()}
    n_event = jagged.n_event if order is None else len(order)
    start = 0
    while start < n_event:
        stop, rung = next_block(axes, start, n_event, shape)
        part = jagged.slice(start, stop) if order is None else jagged.take(order[start:stop])
        yield _block(part, shape.rung(rung))
        start = stop


def pack_parts(parts: Iterable[JaggedInputs], shape: Shape) -> Iterator[Block]:
    """Pack flat inputs that come in parts, as if they came in one.

    The last events of a part share a block with the first ones of the next, so that parts of any
    length fill whole blocks.

    Parameters
    ----------
    parts
        Flat inputs, in order.
    shape
        The slots of a block.
    """
    rest: JaggedInputs | None = None
    for part in parts:
        if part.n_event == 0:
            continue
        start = 0
        if rest is not None:  # the copy of a part would cost as much as its blocks: of one alone
            head, _ = next_block(part.axes, 0, part.n_event, shape)
            joined = JaggedInputs.concatenate([rest, part.slice(0, head)])
            stop, rung = next_block(joined.axes, 0, joined.n_event, shape)
            if stop == joined.n_event and head == part.n_event:
                rest = joined
                continue
            yield _block(joined.slice(0, stop), shape.rung(rung))
            start = stop - rest.n_event
        while True:
            stop, rung = next_block(part.axes, start, part.n_event, shape)
            if stop == part.n_event:  # the next part may have events that still fit
                break
            yield _block(part.slice(start, stop), shape.rung(rung))
            start = stop
        rest = part.slice(start, part.n_event)
    if rest is not None:
        yield from pack_inputs(rest, shape)


def next_block(axes: Mapping[str, Axis], start: int, n_event: int, shape: Shape) -> tuple[int, int]:
    """Return the end of the block that starts with event `start`, and its rung of the ladder."""
    stop = min(start + shape.events, n_event)
    rung = 0
    for name, axis in axes.items():
        slots = shape.tracks[name]
        end = axis.offsets[start] + slots
        stop = min(stop, int(np.searchsorted(axis.offsets, end, "right")) - 1)
        while axis.counts[start] > slots * LADDER**rung:
            rung += 1
    return (start + 1, rung) if rung else (stop, 0)


def _block(part: JaggedInputs, shape: Shape) -> Block:
    """Copy events into the first slots of a block, and fill the others with padding."""
    n = part.n_event
    tracks: dict[str, NDArray[Any] | jax.Array] = {}
    rows: dict[str, NDArray[Any] | jax.Array] = {}
    n_track: dict[str, Any] = {}
    for name, source in part.tracks.items():
        used, slots = len(source), shape.tracks[name]
        tracks[name] = np.empty((slots, source.shape[1]), np.float32)
        tracks[name][:used] = source
        tracks[name][used:] = 0
        rows[name] = np.empty(slots, np.int32)
        rows[name][:used] = np.repeat(np.arange(n, dtype=np.int32), part.counts[name])
        rows[name][used:] = shape.events
        n_track[name] = np.int32(used)
    event = np.zeros((shape.events, part.event.shape[1]), np.float32)
    event[:n] = part.event
    return Block(tracks, rows, event, np.arange(shape.events) < n, n_track)


def unpack(values: Iterable[Any], blocks: Iterable[Block]) -> NDArray[Any]:
    """Return one value per event, in the original order: the inverse of `pack`.

    Parameters
    ----------
    values
        One array per block, shape (event_slot, ...).
    blocks
        The blocks that they belong to.

    Raises
    ------
    DataError
        If there are more or fewer arrays than blocks, or one has another number of rows.
    """
    values, blocks = list(values), list(blocks)
    if len(values) != len(blocks):
        raise DataError(f"{len(values)} arrays of values for {len(blocks)} blocks")
    parts = []
    for each, block in zip(values, blocks, strict=True):
        if len(each) != len(block.mask):
            raise DataError(f"{len(each)} values for a block of {len(block.mask)} event slots")
        parts.append(np.asarray(each)[np.asarray(block.mask)])
    return np.concatenate(parts) if parts else np.empty(0, np.float32)
