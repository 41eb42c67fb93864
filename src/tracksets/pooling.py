"""The latent of tracks in, one pooled vector per event out.

The pooling matrix is a BCOO with one stored entry per track slot. `matrix @ latent` and the faster
kernels here, which work on the matrix's own row indices, give the same result and gradient. This is
the only module that imports `jax.experimental.sparse`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

if TYPE_CHECKING:
    from jax.experimental.sparse import BCOO

__all__ = ("SMOOTH", "Pooling", "pool", "pool_chunks", "pooling_matrix")

Pooling = Literal["sum", "mean", "max", "std", "softmax"]


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
    matrix: "BCOO",
    latent: Float[Array, "track latent"],
    how: Pooling = "sum",
    logits: Float[Array, " track"] | None = None,
) -> Float[Array, "event latent"]:
    """Pool the tracks of each event; the same as `matrix @ latent` for the sum, and faster.

    Parameters
    ----------
    matrix
        From `pooling_matrix` or `Block.pooling`.
    latent
        One vector per track slot.
    how
        `sum`; `mean` and `std`, weighted with the matrix's entries; `max`, over entries,
        unweighted; `softmax`, the mean with the matrix's entries times `exp(logits)` as weights.
    logits
        For `softmax`: one number per track slot.

    Returns
    -------
    array
        Zero for events without tracks.

    Raises
    ------
    ValueError
        If `softmax` has no logits.
    """
    n_event = matrix.shape[0]
    rows = matrix.indices[:, 0]
    weights = matrix.data.astype(latent.dtype)
    sums = _nothing((how,), n_event, latent.shape[1], latent.dtype)
    likely = None if logits is None else _below_zero(logits, rows, n_event)
    attend = None if likely is None else lambda _: likely
    sums = _add(sums, latent, rows, weights, attend)
    return _finish(how, sums, _counts(rows, n_event, weights[:, None]))


def pool_chunks(
    phi: Callable[..., Float[Array, "chunk latent"]],
    tracks: Float[Array, "track feature"],
    rows: Int[Array, " track"],
    n_event: int,
    how: Sequence[Pooling],
    chunk: int,
    used: Int[Array, ""] | None = None,
    *,
    weights: Float[Array, " track"] | None = None,
    attend: Callable[[Float[Array, "chunk latent"]], Float[Array, " chunk"]] | None = None,
    context: Float[Array, "event context"] | None = None,
) -> Float[Array, "event pooled"]:
    """Run phi and pool its result, a chunk of tracks at a time.

    The latent of a chunk stays in the processor's cache, where that of a whole block does not.
    Tracks are added one after the other, so the size of the chunk does not change the result.

    Parameters
    ----------
    phi
        Maps the tracks of a chunk to their latent; with a context, is given that of their events,
        too.
    tracks, rows
        As in `Block`.
    n_event
        Event slots.
    how
        Poolings; their results are concatenated.
    chunk
        Tracks per chunk; the last one is filled up with padding.
    used
        Track slots in use: chunks of nothing but padding are then not computed. Such a loop has
        no reverse-mode derivative.
    weights
        What each track counts; 1 by default.
    attend
        For `softmax`: maps the latent of tracks to their logits.
    context
        What phi is to know of each event.

    Returns
    -------
    array
        Shape (n_event, len(how) * latent); zero for events without tracks.
    """
    n_track = tracks.shape[0]
    n_chunk = -(-n_track // chunk)
    missing = n_chunk * chunk - n_track
    tracks = jnp.pad(tracks, ((0, missing), (0, 0)))
    rows = jnp.pad(rows, (0, missing), constant_values=n_event)
    parts: dict[str, Array] = {
        "tracks": tracks.reshape(n_chunk, chunk, tracks.shape[1]),
        "rows": rows.reshape(n_chunk, chunk),
    }
    if weights is not None:
        weights = jnp.pad(weights, (0, missing))
        parts["weights"] = weights.reshape(n_chunk, chunk)

    def latent_of(part: dict[str, Array]) -> Array:
        if context is None:
            return phi(part["tracks"])
        # Padding gets the last context, and is dropped later.
        known = context.at[part["rows"]].get(mode="clip", indices_are_sorted=True)
        return phi(part["tracks"], known)

    def add(sums: dict[str, Array], part: dict[str, Array]) -> dict[str, Array]:
        return _add(sums, latent_of(part), part["rows"], part.get("weights"), attend)

    shape = jax.eval_shape(
        latent_of,
        {name: jax.ShapeDtypeStruct(each.shape[1:], each.dtype) for name, each in parts.items()},
    )
    sums = _nothing(how, n_event, shape.shape[1], shape.dtype)
    if used is None:
        sums, _ = jax.lax.scan(lambda sums, part: (add(sums, part), None), sums, parts)
    else:
        n_used = (used + chunk - 1) // chunk
        sums = jax.lax.fori_loop(
            0, n_used, lambda i, sums: add(sums, {k: v[i] for k, v in parts.items()}), sums
        )
    ones = jnp.ones((), shape.dtype) if weights is None else weights[:, None]
    counts = _counts(rows, n_event, ones)
    return jnp.concatenate([_finish(each, sums, counts) for each in how], axis=1)


_SUMS: Mapping[Pooling, tuple[str, ...]] = {
    "sum": ("sum",),
    "mean": ("sum",),
    "max": ("max",),
    "std": ("sum", "squares"),
    "softmax": ("likely",),
}
"""What is accumulated for each pooling."""

SMOOTH = 1e-4
"""Is added to a variance, whose root would have an infinite gradient at 0 (arXiv:2004.05718)."""


def _nothing(how: Sequence[Pooling], n_event: int, width: int, dtype: Any) -> dict[str, Array]:
    """Return what there is before the first track."""
    kinds = dict.fromkeys(kind for each in how for kind in _SUMS[each])
    return {
        kind: jnp.full(
            # The sum of softmax weights stands in a column of its own.
            (n_event, width + (kind == "likely")),
            -jnp.inf if kind == "max" else 0.0,
            dtype,
        )
        for kind in kinds
    }


def _add(
    sums: dict[str, Array],
    latent: Array,
    rows: Array,
    weights: Array | None,
    attend: Callable[[Array], Array] | None,
) -> dict[str, Array]:
    """Take in tracks."""
    clean = latent
    if weights is not None or attend is not None or "squares" in sums:
        # Where the latent of padding is NaN, so would be gradients: 0 * NaN.
        used = rows < next(iter(sums.values())).shape[0]
        clean = jnp.where(used[:, None], latent, jnp.zeros_like(latent))

    def summand(kind: str) -> Array:
        if kind == "max":
            return latent
        parts = clean
        if kind == "squares":
            parts = parts * parts
        elif kind == "likely":
            if attend is None:
                raise ValueError("the pooling 'softmax' needs logits")
            likely = jnp.exp(attend(clean))[:, None]
            parts = jnp.concatenate([parts * likely, likely], axis=1)
        return parts if weights is None else parts * weights[:, None]

    return {kind: _update(kind, sums[kind], summand(kind), rows) for kind in sums}


def _below_zero(logits: Array, rows: Array, n_event: int) -> Array:
    """Subtract each event's largest logit, which changes no share and keeps exponentials finite."""
    start = jnp.full((n_event, 1), -jnp.inf, logits.dtype)
    largest = _update("max", start, jax.lax.stop_gradient(logits)[:, None], rows)
    lower = logits - largest.at[rows].get(mode="clip", indices_are_sorted=True)[:, 0]
    return jnp.where(rows < n_event, lower, jnp.zeros_like(lower))


def _finish(how: Pooling, sums: dict[str, Array], counts: Array) -> Array:
    """Return the pooled latents."""
    if how == "sum":
        return sums["sum"]
    if how == "max":
        return jnp.where(jnp.isneginf(sums["max"]), jnp.zeros_like(sums["max"]), sums["max"])
    if how == "softmax":
        total = sums["likely"][:, -1:]
        return sums["likely"][:, :-1] / jnp.where(total == 0, jnp.ones_like(total), total)
    mean = sums["sum"] / counts
    if how == "mean":
        return mean
    variance = jax.nn.relu(sums["squares"] / counts - mean * mean)
    return jnp.sqrt(variance + SMOOTH) - jnp.sqrt(jnp.asarray(SMOOTH, variance.dtype))


def _update(kind: str, sums: Array, latent: Array, rows: Array) -> Array:
    target = sums.at[rows]
    update = target.max if kind == "max" else target.add
    return update(latent, indices_are_sorted=True, mode="drop")


def _counts(rows: Array, n_event: int, weights: Array) -> Array:
    ones = jnp.broadcast_to(weights, (rows.shape[0], 1))
    counts = _update("sum", jnp.zeros((n_event, 1), weights.dtype), ones, rows)
    return jnp.where(counts == 0, jnp.ones_like(counts), counts)
