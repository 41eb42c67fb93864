"""Events with their targets in, batches for a training step out.

A `Sample` is a store of flat inputs with what is true of the events, and a `Part` of it, such as
the training events, packs batches.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from tracksets.blocks import Block, Shape, next_block, pack_inputs
from tracksets.jagged import Axis
from tracksets.stores import Indices, InMemory, Pool, Store

__all__ = ("Batch", "InMemory", "Part", "Pool", "Sample", "Store", "stacked")


class Batch(NamedTuple):
    """A block with what is true of its events; or several, on a leading axis.

    Attributes
    ----------
    block
        Packed events.
    targets
        Of the event slots, float32, shape (event_slot, n_target).
    weights
        Of the event slots, float32, shape (event_slot,); 0 for padding.
    """

    block: Block
    targets: Float[np.ndarray, "event target"]
    weights: Float[np.ndarray, " event"]


@dataclass(frozen=True)
class Sample:
    """Events with what to learn from them.

    Attributes
    ----------
    store
        Flat inputs of n events.
    targets
        As `Task.learnable` gives them, float32, shape (n_event, n_target).
    weights
        Weight of each event, float32, shape (n_event,); may be negative.
    """

    store: Store
    targets: Float[np.ndarray, "event target"]
    weights: Float[np.ndarray, " event"]

    def part(self, events: Indices) -> "Part":
        """Return the chosen events (indices, rising)."""
        return Part(self, events)

    @property
    def all(self) -> "Part":
        """Every event."""
        return Part(self, np.arange(len(self.weights)))


def _unchanged(block: Block, _events: Indices) -> Block:
    return block


@dataclass(frozen=True)
class Part:
    """Some of the events of a sample.

    Attributes
    ----------
    sample
        All of them.
    events
        The chosen ones, rising, shape (n_event,).
    """

    sample: Sample
    events: Indices

    @property
    def n_event(self) -> int:
        """Number of events."""
        return len(self.events)

    @property
    def targets(self) -> Float[np.ndarray, "event target"]:
        """Those of these events."""
        return self.sample.targets[self.events]

    @property
    def weights(self) -> Float[np.ndarray, " event"]:
        """Those of these events."""
        return self.sample.weights[self.events]

    @cached_property
    def total(self) -> float:
        """Sum of the weights."""
        return float(self.weights.sum(dtype=np.float64))

    def n_block(self, shape: Shape) -> float:
        """Estimate into how many blocks the events are packed: the scarcest kind of slot decides."""
        counts = self.sample.store.counts
        filled = [counts[name][self.events].sum() / n for name, n in shape.tracks.items()]
        return max(1.0, self.n_event / shape.events, *map(float, filled))

    def shuffled(
        self,
        shape: Shape,
        random: np.random.Generator,
        skip: int = 0,
        change: Callable[[Block, Indices], Block] = _unchanged,
    ) -> Iterator[Batch]:
        """Pack the events in random order; the first `skip` batches are neither packed nor read.

        `change` is given each block and which events of the sample are in it.
        """
        store = self.sample.store
        orders = _without(store.orders(self.events, random), store.counts, shape, skip)
        for pool in store.pools(orders):
            yield from self._batches(pool, shape, change)
            del pool  # so that there are two at most, this one and the next

    def ordered(self, shape: Shape) -> Iterator[Batch]:
        """Pack the events as they come."""
        for inputs, events in self.sample.store.parts(self.events):
            pool = Pool(inputs, np.arange(len(events)), events)
            yield from self._batches(pool, shape, _unchanged)

    def _batches(
        self,
        pool: Pool,
        shape: Shape,
        change: Callable[[Block, Indices], Block],
    ) -> Iterator[Batch]:
        start = 0
        for block in pack_inputs(pool.inputs, shape, pool.order):
            chosen = pool.events[start : start + block.n_event]
            targets = np.zeros((len(block.mask), self.sample.targets.shape[1]), np.float32)
            weights = np.zeros(len(block.mask), np.float32)
            targets[: len(chosen)] = self.sample.targets[chosen]
            weights[: len(chosen)] = self.sample.weights[chosen]
            yield Batch(change(block, chosen), targets, weights)
            start += len(chosen)


def _without(
    orders: Iterator[Indices], counts: Mapping[str, NDArray[Any]], shape: Shape, skip: int
) -> Iterator[Indices]:
    """Leave out the events of the first blocks."""
    for order in orders:
        start = 0
        if skip:
            axes = {name: Axis(each[order]) for name, each in counts.items()}
            while skip and start < len(order):
                start, _ = next_block(axes, start, len(order), shape)
                skip -= 1
        if start < len(order):
            yield order[start:]


def stacked(batches: Iterator[Batch], n: int, slots: int | None = None) -> Iterator[Batch]:
    """Put `n` batches at a time on a leading axis of `slots`, the last ones empty if need be.

    All blocks of a stack get the track slots of the largest one.
    """
    slots = slots or n
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == n:
            yield _stack(group, slots)
            group = []
    if group:
        yield _stack(group, slots)


def _stack(group: list[Batch], slots: int) -> Batch:
    first = group[0]
    if slots == 1:
        one: Batch = jax.tree.map(lambda array: np.asarray(array)[None], first)
        return one
    largest = {
        name: max(len(batch.block.rows[name]) for batch in group) for name in first.block.rows
    }
    group = [batch._replace(block=_grown(batch.block, largest)) for batch in group]
    empty = jax.tree.map(np.zeros_like, group[0])
    n_slot = len(first.block.mask)
    rows: dict[str, Any] = {name: np.full(n, n_slot, np.int32) for name, n in largest.items()}
    block = Block(
        empty.block.tracks, rows, empty.block.event, empty.block.mask, empty.block.n_track
    )
    group += [empty._replace(block=block)] * (slots - len(group))
    stack: Batch = jax.tree.map(lambda *arrays: np.stack(arrays), *group)
    return stack


def _grown(block: Block, slots: Mapping[str, int]) -> Block:
    """Add padding up to so many track slots."""
    tracks: dict[str, Any] = {}
    rows: dict[str, Any] = {}
    for name, n in slots.items():
        missing = n - len(block.rows[name])
        tracks[name] = np.pad(block.tracks[name], ((0, missing), (0, 0)))
        rows[name] = np.pad(block.rows[name], (0, missing), constant_values=len(block.mask))
    return Block(tracks, rows, block.event, block.mask, block.n_track)
