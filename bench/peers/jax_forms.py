"""tracksets, other forms of the same in JAX, and the rate of matrix products."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import awkward as ak
import jax
import jax.numpy as jnp
import numpy as np
import optax
from case import CORES, LARGEST, Case, Contestants, serve
from flax import nnx

import tracksets as ts
from bench.scoring import pad, padded, whole_block
from tracksets.blocks import Block, pack, pack_inputs
from tracksets.compiling import compiled
from tracksets.engine import compute
from tracksets.features import JaggedInputs, jagged_inputs
from tracksets.network import DeepSet
from tracksets.prefetch import ahead
from tracksets.samples import InMemory, Sample, stacked
from tracksets.scorer import Scorer
from tracksets.settings import Training
from tracksets.steps import compiled_steps

MOST_DENSE = 500_000
"""Tracks beyond which a dense matrix would take minutes."""


def limits(case: Case) -> Contestants:
    """Return the products of large matrices, and those of the network's own shapes."""
    square = jnp.ones((2048, 2048), jnp.float32)
    multiply = jax.jit(jnp.matmul)
    kernels = [jnp.asarray(kernel) for kernel, _ in case.phi]

    @jax.jit
    def chain(tracks: jax.Array, kernels: list[jax.Array]) -> jax.Array:
        def one(sums: jax.Array, x: jax.Array) -> tuple[jax.Array, None]:
            for kernel in kernels:
                x = jax.lax.optimization_barrier(x @ kernel)
            return sums + x[0, 0], None

        return jax.lax.scan(one, jnp.float32(0), tracks)[0]

    pool = ThreadPoolExecutor(CORES)  # each with its own, as XLA does not share out small products
    tracks = jnp.zeros((64, 1024, case.tracks.shape[1]), jnp.float32)
    return {
        "limit|2048": lambda: multiply(square, square).block_until_ready(),
        "limit|shapes": lambda: [
            *pool.map(lambda _: jax.block_until_ready(chain(tracks, kernels)), range(CORES))
        ],
    }


def dense(network: DeepSet) -> Callable[[Block], jax.Array]:
    """Run phi over the whole block, then multiply by a dense 0/1 matrix."""
    graph, state = nnx.split(network)

    @jax.jit
    def run(state: Any, block: Block) -> jax.Array:
        net: DeepSet = nnx.merge(graph, state)
        latent = net.phi["Track"](net.scaling["Track"](jnp.asarray(block.tracks["Track"])))
        matrix = jnp.asarray(block.rows["Track"])[None, :] == jnp.arange(len(block.mask))[:, None]
        return net.out(net.rho(matrix.astype(jnp.float32) @ latent))

    return lambda block: run(state, block)


def scoring(case: Case, scorer: Scorer) -> tuple[Contestants, dict[str, float]]:
    events = ak.Array({"Track": case.events})
    jagged = jagged_inputs(events, scorer.inputs)
    blocks = list(pack_inputs(jagged, scorer.shape))
    functions = compiled(scorer.architecture)
    network: DeepSet = nnx.merge(functions.graph, functions.to_state(scorer.arrays))
    key = (scorer.hash, scorer.architecture, scorer.arrays)

    def outputs(form: Callable[[Block], jax.Array], blocks: Any) -> np.ndarray:
        return np.concatenate([np.asarray(form(each))[: each.n_event, 0] for each in blocks])

    def packed() -> Iterator[Block]:
        return pack(events, scorer.inputs, scorer.shape.tracks["Track"], scorer.shape.events)

    contestants: dict[str, Callable[[], object]] = {
        "tracksets|network": lambda: list(compute(*key, blocks, scorer.shape)),
        "tracksets|call": lambda: scorer(events),
    }
    differences = {
        "tracksets": case.difference(np.concatenate(list(compute(*key, blocks, scorer.shape))))
    }
    forms = {
        "whole block, BCOO": whole_block(network, True),
        "whole block, segment sum": whole_block(network, False),
    }
    if jagged.n_track < MOST_DENSE:
        forms["whole block, dense matrix"] = dense(network)
    for name, form in forms.items():
        contestants[f"{name}|network"] = lambda form=form: outputs(form, blocks)
        contestants[f"{name}|call"] = lambda form=form: outputs(form, packed())
        differences[name] = case.difference(outputs(form, blocks))
    if case.largest <= LARGEST:
        form = padded(network)
        n = max(1, 16384 // case.largest)

        def run(batches: Any) -> np.ndarray:
            return np.concatenate([np.asarray(form(*each))[:, 0] for each in batches])

        batches = pad(jagged, n)
        contestants["padded, JAX|network"] = lambda: run(batches)
        contestants["padded, JAX|call"] = lambda: run(pad(jagged_inputs(events, scorer.inputs), n))
        differences["padded, JAX"] = case.difference(run(batches)[: jagged.n_event])
    return contestants, differences


def training(case: Case, scorer: Scorer) -> tuple[Contestants, dict[str, float]]:
    """Make one pass over the events in random order, packing included."""
    inputs = JaggedInputs(
        {"Track": case.counts},
        {"Track": case.tracks},
        np.empty((len(case.counts), 0), np.float32),
    )
    sample = Sample(
        InMemory(inputs),
        case.targets[:, None],
        np.full(len(case.counts), 1 / case.per_batch, np.float32),
    )
    steps = compiled_steps(scorer.architecture, scorer.task, Training())
    functions = compiled(scorer.architecture)
    params, rest = nnx.state(
        nnx.merge(functions.graph, functions.to_state(scorer.arrays)), nnx.Param, ...
    )
    random = np.random.default_rng(1)
    rate = np.float32(1e-3)

    def stacks() -> Iterator[Any]:
        return ahead(stacked(sample.all.shuffled(scorer.shape, random), 1), 3)

    state = steps.start(jax.tree.map(jnp.copy, params))

    def ours() -> None:
        nonlocal state
        for i, stack in enumerate(stacks()):
            state, _, _ = steps.step(state, rest, stack, rate, np.asarray([1, i], np.uint32))
        jax.block_until_ready(state)

    def plain(use_matrix: bool) -> Callable[[], None]:
        optimiser = optax.adam(1e-3)

        def loss(params: Any, block: Block, targets: jax.Array, weights: jax.Array) -> jax.Array:
            network = nnx.merge(functions.graph, params, rest)
            latent = network.phi["Track"](network.scaling["Track"](block.tracks["Track"]))
            if use_matrix:
                pooled = block.pooling["Track"] @ latent
            else:
                pooled = jax.ops.segment_sum(
                    latent, block.rows["Track"], len(block.mask), indices_are_sorted=True
                )
            logits = network.out(network.rho(pooled))
            return jnp.sum(optax.sigmoid_binary_cross_entropy(logits, targets)[:, 0] * weights)

        @jax.jit
        def step(params: Any, state: Any, block: Block, targets: Any, weights: Any) -> Any:
            gradient = jax.grad(loss)(params, block, targets, weights)
            updates, state = optimiser.update(gradient, state)
            return optax.apply_updates(params, updates), state

        now = (params, optimiser.init(params))

        def run() -> None:
            nonlocal now
            for stack in stacks():
                batch = jax.tree.map(lambda x: x[0], stack)
                now = step(*now, batch.block, batch.targets, batch.weights)
            jax.block_until_ready(now)

        return run

    return {
        "tracksets": ours,
        "whole block, BCOO": plain(True),
        "whole block, segment sum": plain(False),
    }, {}


def load(case: Case, task: str) -> tuple[Contestants, dict[str, float], str]:
    scorer = ts.load(case.folder / "model.safetensors")
    contestants, differences = (scoring if task == "score" else training)(case, scorer)
    return (
        {**limits(case), **contestants},
        differences,
        f"tracksets {ts.__version__}, jax {jax.__version__}",
    )


serve(load)
