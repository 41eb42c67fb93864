"""A block in; parts of it that fit a processor's cache out, each of whole events.

The gradient of a part needs nothing from outside of it, so that a part goes forth and back through
the network while the latent of its tracks is in the cache. That of a whole block would have to be
written to memory and read again, which can take as long as the products themselves. Parts are also
what the cores of a machine share out among themselves; how many do so changes results by rounding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from tracksets.blocks import Block
from tracksets.devices import threads
from tracksets.network import default_chunk
from tracksets.samples import Batch
from tracksets.sharding import device_mesh

__all__ = ("Parts", "parts_of")


@dataclass(frozen=True)
class Parts:
    """How blocks of one shape are cut.

    Attributes
    ----------
    tracks
        By collection: track slots of a part.
    events
        Event slots of a part.
    shares
        Threads that the parts are dealt out to, like cards.
    """

    tracks: tuple[tuple[str, int], ...]
    events: int
    shares: int

    @property
    def chunk(self) -> int:
        """Track slots of the collection with most of them."""
        return max(n for _, n in self.tracks)

    def add_up(
        self, function: Callable[[Batch, Array], Any], batch: Batch, share: Int[Array, ""]
    ) -> Any:
        """Compute a function of each part that one share of a block has, and add up the results.

        Parameters
        ----------
        function
            Of a part and of the number of its first event; returns a pytree of arrays.
        batch
            A block none of whose events is larger than a part.
        share
            Which share, from 0.
        """
        n_slot = batch.block.mask.shape[0]
        offsets = {
            name: jnp.searchsorted(jnp.asarray(rows), jnp.arange(n_slot + 1))
            for name, rows in batch.block.rows.items()
        }
        used = jnp.sum(batch.block.mask)
        # For every event: where a part that begins with it ends.
        ends = jnp.minimum(jnp.arange(n_slot) + self.events, used)
        for name, n in self.tracks:
            full = jnp.searchsorted(offsets[name], offsets[name][:-1] + n, side="right") - 1
            ends = jnp.minimum(ends, full)
        padded = self._padded(batch)

        def skip(n: Array | int, begin: Array) -> Any:
            """Return the first event that is n parts later."""
            return jax.lax.fori_loop(0, n, lambda _, event: ends.at[event].get(mode="clip"), begin)

        def compute(begin: Array) -> Any:
            return function(self._part(padded, offsets, begin, ends[begin]), begin)

        def add(state: tuple[Array, Any]) -> tuple[Array, Any]:
            begin, sums = state
            return skip(self.shares, begin), jax.tree.map(jnp.add, sums, compute(begin))

        start = skip(share, jnp.zeros((), ends.dtype))
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(compute, start))
        return jax.lax.while_loop(lambda state: state[0] < used, add, (start, zero))[1]

    def _padded(self, batch: Batch) -> Batch:
        """Add what a part at the very end reaches out to."""
        slots, block = dict(self.tracks), batch.block

        def grown(array: Any, n: int) -> Any:
            return jnp.pad(jnp.asarray(array), ((0, n), *((0, 0),) * (array.ndim - 1)))

        padded = Block(
            {name: grown(each, slots[name]) for name, each in block.tracks.items()},
            {name: grown(each, slots[name]) for name, each in block.rows.items()},
            grown(block.event, self.events),
            grown(block.mask, self.events),
            block.n_track,
        )
        return Batch(padded, grown(batch.targets, self.events), grown(batch.weights, self.events))

    def _part(self, padded: Batch, offsets: Mapping[str, Array], begin: Array, end: Array) -> Batch:
        """Copy the events from `begin` to `end` into the slots of a part."""
        block = padded.block
        tracks: dict[str, Any] = {}
        rows: dict[str, Any] = {}
        n_track: dict[str, Any] = {}

        def cut(array: Any, start: Array, n: int) -> Any:
            return jax.lax.dynamic_slice_in_dim(array, start, n)

        for name, n in self.tracks:
            start = offsets[name][begin]
            n_track[name] = offsets[name][end] - start
            inside = jnp.arange(n) < n_track[name]
            tracks[name] = cut(block.tracks[name], start, n)
            rows[name] = jnp.where(inside, cut(block.rows[name], start, n) - begin, self.events)
        mask: Any = jnp.arange(self.events) < end - begin
        event, targets, weights = (
            cut(each, begin, self.events) for each in (block.event, padded.targets, padded.weights)
        )
        kept: Any = jnp.where(mask, weights, 0.0)
        return Batch(Block(tracks, rows, event, mask, n_track), targets, kept)


def parts_of(stack: Batch) -> Parts | None:
    """Say how to cut the blocks of a stack, whose arrays are in memory.

    Returns
    -------
    Parts or None
        None where blocks are to be computed whole: where they are not much larger than a part,
        where an event is, and on accelerators.
    """
    rows = stack.block.rows
    n_slot = stack.weights.shape[1]
    sizes = {name: each.shape[1] for name, each in rows.items()}
    n = max(sizes.values()) // default_chunk()
    if n < 2:
        return None
    # Parts end with an event, so some slots stay empty: n parts suffice if they have a few more.
    tracks = {name: -(-size // n) - (-5 * size // (4 * n_slot)) for name, size in sizes.items()}
    for name, each in rows.items():
        later = each[:, tracks[name] :]
        if np.any((later < n_slot) & (later == each[:, : -tracks[name]])):
            return None
    per_part = n_slot / n
    events = int(np.ceil(per_part + np.sqrt(per_part))) + 1
    shares = 1 if device_mesh() else min(threads(), n)  # devices compute side by side as it is
    return Parts(tuple(tracks.items()), min(events, n_slot), shares)
