"""The latent of tracks in, one pooled vector per event out.

The pooling matrix is a BCOO with one stored entry per track slot. `matrix @ latent` and the faster
kernels here, which work on the matrix's own row indices, give the same result and gradient. This is
the only module that imports `jax.experimental.sparse`.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

if TYPE_CHECKING:
    from jax.experimental.sparse import BCOO

__all__ = ("Pooling", "pool", "pool_chunks", "pooling_matrix")

Pooling = Literal["sum", "mean", "max"]


def pooling_matrix(
    rows: Int[Array | np.ndarray, " track"],
    n_event: int,
    weights: Float[Array, " track"] | None = None,
) -> "BCOO":
    """Build the sparse matrix of shape (n_event, n_track) that sums tracks by event.

    Parameters
    ----------
    rows
        The event of each track slot, rising; `n_event` for padding.
    n_event
        Event slots.
    weights
        What each track counts; 1 by default.

    Returns
    -------
    BCOO
        With one stored entry per track slot. Those of padding have row and column index equal to
        the shape: products drop them, and their gradient is zero.
    """
    from jax.experimental.sparse import BCOO  # imports SciPy, which scoring does without

    rows = jnp.asarray(rows)
    n_track = rows.shape[0]
    columns = jnp.where(rows < n_event, jnp.arange(n_track, dtype=rows.dtype), n_track)
    data = jnp.ones(n_track, jnp.float32) if weights is None else weights
    return BCOO(
        (data, jnp.stack([rows, columns], axis=1)), shape=(n_event, n_track), indices_sorted=True
    )


def pool(
    matrix: "BCOO", latent: Float[Array, "track latent"], how: Pooling = "sum"
) -> Float[Array, "event latent"]:
    """Pool the tracks of each event; the same as `matrix @ latent` for the sum, and faster.

    Parameters
    ----------
    matrix
        From `pooling_matrix` or `Block.pooling`.
    latent
        One vector per track slot.
    how
        `sum`, `mean` (weighted with the matrix's entries), or `max` (over entries, unweighted).

    Returns
    -------
    array
        Zero for events without tracks.
    """
    n_event = matrix.shape[0]
    rows = matrix.indices[:, 0]
    if how == "max":
        start = jnp.full((n_event, latent.shape[1]), -jnp.inf, latent.dtype)
        return _finite(_update("max", start, latent, rows))
    weights = matrix.data.astype(latent.dtype)[:, None]
    # Where the latent of padding is NaN, the gradient of its weight would be 0 * NaN.
    latent = jnp.where((rows < n_event)[:, None], latent, jnp.zeros_like(latent))
    start = jnp.zeros((n_event, latent.shape[1]), latent.dtype)
    total = _update("sum", start, latent * weights, rows)
    if how == "sum":
        return total
    return total / _counts(rows, n_event, weights)


def pool_chunks(
    phi: Callable[[Float[Array, "chunk feature"]], Float[Array, "chunk latent"]],
    tracks: Float[Array, "track feature"],
    rows: Int[Array, " track"],
    n_event: int,
    how: Sequence[Pooling],
    chunk: int,
    used: Int[Array, ""] | None = None,
) -> Float[Array, "event pooled"]:
    """Run phi and pool its result, a chunk of tracks at a time.

    The latent of a chunk stays in the processor's cache, where that of a whole block does not.
    Tracks are added one after the other, so the size of the chunk does not change the result.

    Parameters
    ----------
    phi
        Maps the tracks of a chunk to their latent.
    tracks, rows
        As in `Block`.
    n_event
        Event slots.
    how
        Poolings; their results are concatenated.
    chunk
        Tracks per chunk.
    used
        Track slots in use: chunks of nothing but padding are then not computed. Such a loop has
        no reverse-mode derivative.

    Returns
    -------
    array
        Shape (n_event, len(how) * latent); zero for events without tracks.
    """
    n_track = tracks.shape[0]
    chunk = max(min(chunk, n_track), 1)
    n_chunk = -(-n_track // chunk)
    missing = n_chunk * chunk - n_track
    tracks = jnp.pad(tracks, ((0, missing), (0, 0)))
    rows = jnp.pad(rows, (0, missing), constant_values=n_event)
    shape = jax.eval_shape(phi, jax.ShapeDtypeStruct((chunk, tracks.shape[1]), tracks.dtype))
    kinds = tuple(dict.fromkeys("max" if each == "max" else "sum" for each in how))
    start = {
        kind: jnp.full((n_event, shape.shape[1]), -jnp.inf if kind == "max" else 0.0, shape.dtype)
        for kind in kinds
    }
    parts, places = tracks.reshape(n_chunk, chunk, tracks.shape[1]), rows.reshape(n_chunk, chunk)

    def add(sums: dict[str, Array], part: Array, where: Array) -> dict[str, Array]:
        latent = phi(part)
        return {kind: _update(kind, sums[kind], latent, where) for kind in kinds}

    if used is None:
        sums, _ = jax.lax.scan(lambda sums, xs: (add(sums, *xs), None), start, (parts, places))
    else:
        n_used = (used + chunk - 1) // chunk
        sums = jax.lax.fori_loop(0, n_used, lambda i, sums: add(sums, parts[i], places[i]), start)
    pooled = {
        "sum": lambda: sums["sum"],
        "mean": lambda: sums["sum"] / _counts(rows, n_event, jnp.ones((), shape.dtype)),
        "max": lambda: _finite(sums["max"]),
    }
    return jnp.concatenate([pooled[each]() for each in how], axis=1)


def _update(kind: str, sums: Array, latent: Array, rows: Array) -> Array:
    target = sums.at[rows]
    update = target.max if kind == "max" else target.add
    return update(latent, indices_are_sorted=True, mode="drop")


def _counts(rows: Array, n_event: int, weights: Array) -> Array:
    ones = jnp.broadcast_to(weights, (rows.shape[0], 1))
    counts = _update("sum", jnp.zeros((n_event, 1), weights.dtype), ones, rows)
    return jnp.where(counts == 0, jnp.ones_like(counts), counts)


def _finite(maxima: Array) -> Array:
    return jnp.where(jnp.isneginf(maxima), jnp.zeros_like(maxima), maxima)
