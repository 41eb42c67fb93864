"""A scorer in, StableHLO of the same scores out: a file that needs JAX and nothing else to run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export
from jaxtyping import Array, Float, Int
from numpy.typing import NDArray

from tracksets.blocks import Block
from tracksets.calibration import traced_link
from tracksets.compiling import compiled
from tracksets.errors import MissingExtraError
from tracksets.features import JaggedInputs
from tracksets.scorer import Scorer

if TYPE_CHECKING:
    from tracksets.network import DeepSet

try:
    import flatbuffers  # noqa: F401  # what jax.export writes files with
except ImportError:
    raise MissingExtraError("flatbuffers", "stablehlo", "StableHLO") from None

__all__ = ("stablehlo_bytes", "stablehlo_scores")

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
_CHUNK = 1024
"""Tracks that are computed at a time; see `tracksets.network.default_chunk`."""


def stablehlo_bytes(scorer: Scorer) -> bytes:
    """Write a scorer as StableHLO, with sizes that are free.

    Returns
    -------
    bytes
        For `jax.export.deserialize`. What it gives is called with `tracks` (by collection:
        float32, shape (n_track, n_feature)), `counts` (by collection: int32, shape (n_event,)) and
        `event` (float32, shape (n_event, n_event_feature)), and returns float32 scores of shape
        (n_event, n_score). Tracks beyond the sum of the counts are ignored.
    """
    architecture = scorer.architecture
    functions = compiled(architecture)
    network: DeepSet = nnx.merge(functions.graph, functions.to_state(scorer.arrays))

    def scores(
        tracks: dict[str, Float[Array, "track feature"]],
        counts: dict[str, Int[Array, " event"]],
        event: Float[Array, "event feature"],
    ) -> Float[Array, "event score"]:
        # With at least one chunk of padding, the sizes of chunks don't depend on those of inputs.
        padded = {name: jnp.pad(each, ((0, _CHUNK), (0, 0))) for name, each in tracks.items()}
        block = Block(
            tracks={**padded},
            rows={name: _rows(counts[name], each.shape[0]) for name, each in padded.items()},
            event=event,
            mask=jnp.ones(event.shape[0], bool),
            n_track={name: each.sum() for name, each in counts.items()},
        )
        outputs = network(block, chunk=_CHUNK, scoring=True)
        return traced_link(scorer.task, scorer.calibration, outputs)

    scope = export.SymbolicScope()
    (n_event,) = export.symbolic_shape("n_event", scope=scope)
    tracks, counts = {}, {}
    for i, (name, width) in enumerate(architecture.tracks):
        # Dimension variables are 1 or more, but there may be no tracks.
        (n_track,) = export.symbolic_shape(f"n_{i} - 1", scope=scope)
        tracks[name] = jax.ShapeDtypeStruct((n_track, width), jnp.float32)
        counts[name] = jax.ShapeDtypeStruct((n_event,), jnp.int32)
    event = jax.ShapeDtypeStruct((n_event, architecture.event), jnp.float32)
    exported = export.export(jax.jit(scores), platforms=PLATFORMS)(tracks, counts, event)
    return bytes(exported.serialize())


def stablehlo_scores(
    path: str | os.PathLike[str],
) -> Callable[[JaggedInputs], Float[np.ndarray, "event score"]]:
    """Open an exported file with JAX; what comes back scores flat inputs."""
    exported = export.deserialize(bytearray(Path(path).read_bytes()))

    def padded(values: NDArray[Any]) -> NDArray[Any]:
        # To a power of two, as JAX compiles for every size that it meets.
        more = (1 << max(len(values) - 1, 0).bit_length()) - len(values)
        return np.pad(values, ((0, more), *((0, 0),) * (values.ndim - 1)))

    def score(jagged: JaggedInputs) -> NDArray[np.float32]:
        tracks = {name: padded(each) for name, each in jagged.tracks.items()}
        counts = {name: padded(each.astype(np.int32)) for name, each in jagged.counts.items()}
        return np.asarray(exported.call(tracks, counts, padded(jagged.event)))[: jagged.n_event]

    return score


def _rows(counts: Int[Array, " event"], n_track: int) -> Int[Array, " track"]:
    """Number the event of each track slot: counts [2, 0, 1] give [0, 0, 2, 3, 3, ...]."""
    marks = jnp.zeros(n_track + 1, counts.dtype).at[jnp.cumsum(counts)].add(1, mode="drop")
    rows: Array = jnp.cumsum(marks)[:n_track]
    return rows
