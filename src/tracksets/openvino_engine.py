"""A network's arrays in, a function from blocks to the outputs of their events out, by OpenVINO.

Tracks are computed a chunk at a time, so that the latent stays in the second-level cache, and rows
of a chunk know the number of their event in it. An event may go on in the next chunk.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from tracksets.blocks import Block, Shape
from tracksets.devices import threads
from tracksets.engines import Engine
from tracksets.network import Architecture, Model
from tracksets.openvino_graph import (
    GROUP,
    Slots,
    check_known,
    compiled_model,
    phi_model,
    rho_model,
)

__all__ = ("openvino_outputs",)

_logger = logging.getLogger(__name__)
_TRACKS = {"float32": 384, "bfloat16": 768}
_Lent = tuple[Any, list[NDArray[Any]], list[NDArray[Any]]]
"""A request, and its inputs and outputs as arrays that it reads and writes."""


def openvino_outputs(
    architecture: Architecture,
    arrays: Mapping[str, NDArray[Any]],
    shape: Shape,
    precision: str,
) -> Callable[[Block], Float[np.ndarray, "event output"]]:
    """Compile a network; what comes back may be called by several threads at the same time.

    Parameters
    ----------
    architecture, arrays
        The network.
    shape
        Of typical blocks: says how many events the tracks of a chunk belong to. Blocks of any
        other shape are computed as well.
    precision
        `float32` or `bfloat16`.

    Raises
    ------
    ModelError
        If the network has something that this engine does not know.
    ProcessError
        If the processor has no instructions for the precision.
    """
    model, n = architecture.model, threads()
    check_known(architecture, arrays)
    said = Engine("openvino", precision).describe()
    _logger.log(logging.WARNING if said.endswith("use float32") else logging.INFO, said)
    graph = rho_model(arrays, model, shape.events, precision)
    rho = _Requests(compiled_model(graph, precision, n))
    phi = {}
    for name, _ in architecture.tracks:
        slots = _slots(shape, name, precision)
        graph = phi_model(arrays, name, model, slots, precision)
        requests = _Requests(compiled_model(graph, precision, n))
        phi[name] = _Phi(requests, model, slots, arrays[f"scaling.{name}.shift"])

    def outputs(block: Block) -> NDArray[Any]:
        n_event, stop = block.n_event, 0
        with rho() as (request, [x], [y]):
            x.fill(0)
            for name, pool in phi.items():
                n_track = int(block.n_track[name])
                tracks = np.asarray(block.tracks[name])[:n_track]
                rows = np.asarray(block.rows[name])[:n_track]
                start, stop = stop, stop + pool.width
                pool(tracks, rows, x[:n_event, start:stop])
            event = np.asarray(block.event)[:n_event] - arrays["event_scaling.shift"]
            np.multiply(event, arrays["event_scaling.scale"], out=x[:n_event, stop:])
            request.infer(share_outputs=True)
            return y[:n_event].copy()

    return outputs


class _Requests:
    """A compiled model with its buffers, one set for each of those that call at the same time."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self.free: deque[_Lent] = deque()

    @contextmanager
    def __call__(self) -> Iterator[_Lent]:
        """Lend a request to one caller."""
        try:
            lent = self.free.pop()
        except IndexError:
            lent = self._new()
        yield lent
        self.free.append(lent)

    def _new(self) -> _Lent:
        request = self.compiled.create_infer_request()
        inputs = [request.get_input_tensor(i).data for i in range(len(self.compiled.inputs))]
        outputs = [request.get_output_tensor(i).data for i in range(len(self.compiled.outputs))]
        return request, inputs, outputs


class _Phi:
    """Computes and pools the latent of one collection."""

    def __init__(
        self, requests: _Requests, model: Model, slots: Slots, shift: NDArray[np.float32]
    ) -> None:
        self.requests, self.slots, self.how = requests, slots, model.pool
        self.latent, self.width = model.phi[-1], len(model.pool) * model.phi[-1]
        # In full: NumPy would take a loop of its own for the few features of each track.
        self.shift = np.tile(shift, (slots.tracks, 1))

    def __call__(
        self,
        tracks: Float[np.ndarray, "track feature"],
        rows: Int[np.ndarray, " track"],
        out: Float[np.ndarray, "event pooled"],
    ) -> None:
        """Pool tracks whose rows rise; zero for events without tracks."""
        parts = {how: out[:, i * self.latent :][:, : self.latent] for i, how in enumerate(self.how)}
        total, largest = parts.get("sum", parts.get("mean")), parts.get("max")
        layout = _Layout.of(tracks, rows, 1 if largest is None else GROUP)
        with self.requests() as lent, np.errstate(over="ignore", invalid="ignore"):
            if largest is not None:
                largest[layout.present] = -np.inf
            self._pool(lent, layout, self.slots.events, total, largest)
            if total is not None and not np.isfinite(total.sum()):
                # In the product, an event's infinity (times 0) is NaN for the others of a chunk.
                total.fill(0)
                self._pool(lent, layout, 1, total, largest)
            if total is not None and "mean" in parts:
                counts = np.ones((len(out), 1), np.float32)
                counts[layout.present, 0] = layout.counts
                np.divide(total, counts, out=parts["mean"])

    def _pool(
        self,
        lent: _Lent,
        layout: "_Layout",
        most: int,
        total: NDArray[np.float32] | None,
        largest: NDArray[np.float32] | None,
    ) -> None:
        request, [x, *owners], outputs = lent
        for piece in layout.pieces(self.slots.tracks, most):
            n = piece.stop - piece.start
            np.subtract(layout.tracks[piece], self.shift[:n], out=x[:n])
            x[n:] = 0
            if total is not None:
                layout.number(piece, owners[0])
            request.infer(share_outputs=True)
            events = layout.events(piece)
            if total is not None:
                n_event = int(layout.owner[piece.stop - 1] - layout.owner[piece.start]) + 1
                total[events] += outputs[0][:n_event]
            if largest is not None:
                groups = layout.reduced(piece, outputs[-1])
                largest[events] = np.maximum(largest[events], groups)


@dataclass(frozen=True)
class _Layout:
    """Tracks in the order of their events, some of them repeated so that groups are full.

    Attributes
    ----------
    tracks
        Features.
    present, counts
        The row of each event that has tracks, and how many.
    owner
        The event of each track, as a place in `present`.
    ends
        Where the tracks of each event end.
    repeated
        Which tracks count for a maximum only; None if there are none of these.
    group
        Tracks of a group.
    """

    tracks: NDArray[np.float32]
    present: NDArray[np.int32]
    counts: NDArray[np.int64]
    owner: NDArray[np.int32]
    ends: NDArray[np.int64]
    repeated: NDArray[np.bool_] | None
    group: int

    @classmethod
    def of(cls, tracks: NDArray[np.float32], rows: NDArray[np.int32], group: int) -> "_Layout":
        ends = np.flatnonzero(np.diff(rows, append=-1)) + 1
        counts, present = np.diff(ends, prepend=0), rows[ends - 1]
        slots = -(-counts // group) * group
        owner = np.repeat(np.arange(len(counts), dtype=np.int32), slots)
        if group == 1:
            return cls(tracks, present, counts, owner, ends, None, group)
        first, ends = ends - counts, np.cumsum(slots)
        place = np.arange(len(owner)) - (ends - slots)[owner]
        last = counts[owner] - 1
        tracks = tracks[first[owner] + np.minimum(place, last)]
        return cls(tracks, present, counts, owner, ends, place > last, group)

    def pieces(self, tracks: int, events: int) -> Iterator[slice]:
        """Cut into pieces of so many tracks, of so many events, at most."""
        start, n_event = 0, len(self.present)
        while start < len(self.owner):
            last = min(int(self.owner[start]) + events, n_event) - 1
            stop = min(start + tracks, int(self.ends[last]))
            yield slice(start, stop)
            start = stop

    def events(self, piece: slice) -> slice | NDArray[np.int32]:
        """Find the rows of the events that a piece has tracks of; a slice if there are no gaps."""
        first, last = int(self.owner[piece.start]), int(self.owner[piece.stop - 1])
        begin, end = int(self.present[first]), int(self.present[last])
        if end - begin == last - first:
            return slice(begin, end + 1)
        return self.present[first : last + 1]

    def number(self, piece: slice, owners: NDArray[np.int32]) -> None:
        """Write the number of each track's event in a piece."""
        n = piece.stop - piece.start
        np.subtract(self.owner[piece], self.owner[piece.start], out=owners[:n])
        owners[n:] = -1
        if self.repeated is not None:
            owners[:n][self.repeated[piece]] = -1

    def reduced(self, piece: slice, groups: NDArray[np.float32]) -> NDArray[np.float32]:
        """Find the largest latents of each event in a piece from those of its groups."""
        owners = self.owner[piece][:: self.group]
        begins = np.flatnonzero(np.diff(owners, prepend=-1))
        largest: NDArray[np.float32] = np.maximum.reduceat(groups[: len(owners)], begins, axis=0)
        return largest


def _slots(shape: Shape, name: str, precision: str) -> Slots:
    """Choose chunks that the tracks of typical events fill, and with few events."""
    multiplicity = max(shape.tracks[name] / shape.events, 1.0)
    tracks = min(_TRACKS[precision], math.ceil(shape.tracks[name] / 64) * 64)
    while tracks > 128 and tracks / multiplicity > 64:
        tracks //= 2
    n = tracks / multiplicity
    events = math.ceil((n + 1.5 * math.sqrt(n) + 1) / 8) * 8
    return Slots(tracks, min(events, tracks))
