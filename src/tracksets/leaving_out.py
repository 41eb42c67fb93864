"""A block in; the outputs of its events without each of their tracks, and gradients, out.

In a Deep Set only rho has to run again for an event that lacks a track: what its pooling would be
follows from that of all tracks.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from tracksets.blocks import Block
from tracksets.calibration import Calibration, traced_link
from tracksets.compiling import compiled
from tracksets.network import Architecture, DeepSet, default_chunk
from tracksets.pooling import pool, pooling_matrix
from tracksets.targets import Task

__all__ = ("can_leave_out", "gradients", "without_each")

Explained = dict[str, Float[Array, "track output"]]


def can_leave_out(architecture: Architecture) -> bool:
    """Whether the network is one whose pooling without a track follows from that with it."""
    known = {"phi", "rho", "pool", "activation", "residual"}
    known |= {"model", "tracks", "event", "outputs"}
    # What else a network may have, it must not have here.
    return set(architecture.model.pool) <= set(_WITHOUT) and all(
        getattr(part, name) == each.default
        for part in (architecture, architecture.model)
        for name, each in type(part).model_fields.items()
        if name not in known
    )


@lru_cache(64)
def without_each(architecture: Architecture) -> Callable[[Any, Block], tuple[Array, Explained]]:
    """Return the compiled function for `can_leave_out` networks.

    Returns
    -------
    callable
        Takes the state of a network and a block; gives the outputs of all event slots, and by
        collection those of the event of each track slot if that track is left out. What belongs to
        padding means nothing.
    """
    graph = compiled(architecture).graph

    def outputs(state: Any, block: Block) -> tuple[Array, Explained]:
        network: DeepSet = nnx.merge(graph, state)
        latents = {name: network.latent(name, jnp.asarray(x)) for name, x in block.tracks.items()}
        rows = {name: jnp.asarray(each) for name, each in block.rows.items()}
        event = network.event_scaling(jnp.asarray(block.event))
        pooled = {
            name: jnp.concatenate(
                [
                    pool(pooling_matrix(rows[name], len(event)), x, how)
                    for how in network.model.pool
                ],
                axis=1,
            )
            for name, x in latents.items()
        }

        def without(name: str) -> Array:
            rest = jnp.concatenate(
                [
                    _WITHOUT[how](latents[name], rows[name], len(event))
                    for how in network.model.pool
                ],
                axis=1,
            )

            def one(track: tuple[Array, Array]) -> Array:
                rest, row = track
                parts = [rest if each == name else pooled[each][row] for each in latents]
                return network.readout([each[None, :] for each in (*parts, event[row])])[0]

            chunk = min(default_chunk(), len(rest))
            result: Array = jax.lax.map(one, (rest, rows[name]), batch_size=chunk)
            return result

        latents = {name: latents[name] for name in network.collections}
        whole = network.readout([*(pooled[name] for name in latents), event])
        return whole, {name: without(name) for name in latents}

    return jax.jit(outputs)


@lru_cache(64)
def gradients(
    architecture: Architecture, task: Task, calibration: Calibration | None
) -> Callable[[Any, Block], Explained]:
    """Return the compiled function for the attribution by gradients, for any network.

    Parameters
    ----------
    architecture
        Of the network.
    task, calibration
        Turn its outputs into scores.

    Returns
    -------
    callable
        Takes the state of a network and a block; gives by collection, of each track slot, the
        gradient of its event's scores times the distance of the track's features from their mean.
    """
    graph = compiled(architecture).graph

    def attributions(state: Any, block: Block) -> Explained:
        network: DeepSet = nnx.merge(graph, state)

        def scores(tracks: Mapping[str, Array]) -> Array:
            outputs = network(replace(block, tracks=dict(tracks)))
            return traced_link(task, calibration, outputs)

        tracks = {name: jnp.asarray(each) for name, each in block.tracks.items()}
        values, back = jax.vjp(scores, tracks)
        used = jnp.asarray(block.mask).astype(values.dtype)
        slopes = [
            back(jnp.zeros_like(values).at[:, i].set(used))[0] for i in range(values.shape[1])
        ]
        distance = {
            name: each - network.scaling[name].shift[...][None, :] for name, each in tracks.items()
        }
        return {
            name: jnp.stack([(each[name] * distance[name]).sum(axis=1) for each in slopes], axis=1)
            for name in tracks
        }

    return jax.jit(attributions)


def _sum(latent: Array, rows: Int[Array, " track"], n_event: int) -> Array:
    total = pool(pooling_matrix(rows, n_event), latent, "sum")
    return total[rows] - latent


def _mean(latent: Array, rows: Int[Array, " track"], n_event: int) -> Array:
    counts = jnp.zeros(n_event, latent.dtype).at[rows].add(1, mode="drop")
    return _sum(latent, rows, n_event) / jnp.maximum(counts[rows] - 1, 1)[:, None]


def _max(latent: Array, rows: Int[Array, " track"], n_event: int) -> Array:
    """Take the largest of all, or the second largest where the track alone is the largest."""
    lowest = jnp.full((n_event, latent.shape[1]), -jnp.inf, latent.dtype)
    largest = lowest.at[rows].max(latent, mode="drop")[rows]
    is_largest = latent == largest
    second = lowest.at[rows].max(jnp.where(is_largest, -jnp.inf, latent), mode="drop")[rows]
    ties = jnp.zeros(lowest.shape, jnp.int32).at[rows].add(is_largest, mode="drop")[rows]
    rest = jnp.where(is_largest & (ties == 1), second, largest)
    return jnp.where(jnp.isneginf(rest), jnp.zeros_like(rest), rest)


_WITHOUT: Mapping[str, Callable[[Array, Array, int], Array]] = {
    "sum": _sum,
    "mean": _mean,
    "max": _max,
}
"""By pooling: the latent of all tracks → what would be pooled without each of them."""
