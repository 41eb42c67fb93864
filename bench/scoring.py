"""Score events: tracksets, other forms of the same in JAX, and other libraries.

The limit is the time that the matrix products alone take at the rate that the machine reaches on
2048 x 2048 x 2048 float32.
"""

import itertools
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bench import harness, samples
from tracksets.blocks import Block, Shape
from tracksets.compiling import compiled
from tracksets.features import JaggedInputs
from tracksets.inputs import Collection, Inputs
from tracksets.network import Architecture, DeepSet, Model
from tracksets.scorer import Scorer
from tracksets.targets import Task

NETWORKS = {
    "64-64-64 | 64-64": Model(phi=(64, 64, 64), rho=(64, 64), activation="relu"),
    "100-100-256 | 100-100-100": Model.pfn(),
    "6 x 256 | 256": Model(phi=(256,) * 6, rho=(256,), activation="relu"),
}


INPUTS = Inputs(collections={"Track": Collection(features=tuple("abcdef"[: samples.N_FEATURE]))})


def scorer(model: Model, inputs: Inputs = INPUTS, shape: Shape | None = None) -> Scorer:
    """Make a scorer with random weights."""
    architecture = Architecture(
        model=model, tracks=tuple(inputs.widths.items()), event=0, outputs=1
    )
    functions = compiled(architecture)
    arrays = functions.to_arrays(nnx.state(functions.new(1)))
    task = Task(kind="binary", names=("background", "signal"))
    return Scorer(inputs, model, task, arrays, shape or Shape({"Track": 16384}, 512))


def flops(model: Model, n_track: int, n_event: int, n_feature: int = samples.N_FEATURE) -> float:
    """Count the operations of the matrix products."""
    phi = [n_feature, *model.phi]
    rho = [model.phi[-1], *model.rho, 1]
    per_track = sum(a * b for a, b in itertools.pairwise(phi))
    per_event = sum(a * b for a, b in itertools.pairwise(rho))
    return 2.0 * (per_track * n_track + per_event * n_event)


def matmul_rate() -> Callable[[], object]:
    """Return a product of 2048 x 2048 x 2048."""
    a = jnp.ones((2048, 2048), jnp.float32)
    multiply = jax.jit(jnp.matmul)
    return lambda: multiply(a, a).block_until_ready()


def whole_block(network: DeepSet, use_matrix: bool) -> Callable[[Block], jax.Array]:
    """Run phi over the whole block, then `BCOO @ latent` or a segment sum."""
    graph, state = nnx.split(network)

    @jax.jit
    def run(state: nnx.State, block: Block) -> jax.Array:
        net: DeepSet = nnx.merge(graph, state)
        latent = net.phi["Track"](net.scaling["Track"](jnp.asarray(block.tracks["Track"])))
        if use_matrix:
            pooled = block.pooling["Track"] @ latent
        else:
            rows = jnp.asarray(block.rows["Track"])
            pooled = jax.ops.segment_sum(latent, rows, len(block.mask), indices_are_sorted=True)
        return net.out(net.rho(pooled))

    return partial(run, state)


def padded(network: DeepSet) -> Callable[[np.ndarray, np.ndarray], jax.Array]:
    """Pad every event to the largest one, as most tools do."""
    graph, state = nnx.split(network)

    @jax.jit
    def run(state: nnx.State, tracks: jax.Array, mask: jax.Array) -> jax.Array:
        net: DeepSet = nnx.merge(graph, state)
        n_event, n_track, n_feature = tracks.shape
        flat = tracks.reshape(n_event * n_track, n_feature)
        latent = net.phi["Track"](net.scaling["Track"](flat)).reshape(n_event, n_track, -1)
        return net.out(net.rho(jnp.sum(latent * mask[:, :, None], axis=1)))

    return partial(run, state)


def pad(jagged: JaggedInputs, batch: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Make batches of events padded to the largest event of all."""
    axis = jagged.axes["Track"]
    largest = int(axis.counts.max())
    batches = []
    for start in range(0, jagged.n_event, batch):
        counts = np.zeros(batch, np.int64)
        part = axis.counts[start : start + batch]
        counts[: len(part)] = part
        mask = np.arange(largest) < counts[:, None]
        tracks = np.zeros((batch, largest, samples.N_FEATURE), np.float32)
        first = axis.offsets[start]
        tracks[mask] = jagged.tracks["Track"][first : first + counts.sum()]
        batches.append((tracks, mask.astype(np.float32)))
    return batches


KINDS = ("constant", "jets", "exponential", "zipf")


def main(rounds: int = harness.ROUNDS, scale: float = 1.0) -> None:
    """Measure all contestants, each with prepared inputs and from awkward arrays."""
    from bench import contest, report  # they import this module

    names = list(NETWORKS)
    sizes = dict(zip(names, (8_000, 4_000, 1_500), strict=True))

    def field(name: str, kind: str) -> contest.Field:
        return contest.Field(name, NETWORKS[name], kind, int(sizes[name] * scale))

    fields = [(field(name, kind), 1) for name in names for kind in KINDS]
    fields += [(field(names[1], kind), 2) for kind in ("jets", "exponential")]
    report.keep(contest.contest("score", fields, rounds))
