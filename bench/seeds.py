"""Gradients of several networks on the same block: one after the other, or all at once by `vmap`.

At once they have to see the same blocks in the same order, so it would have to gain much.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bench import harness, samples, scoring
from tracksets.blocks import Shape
from tracksets.compiling import compiled
from tracksets.network import Architecture, Model
from tracksets.parts import parts_of
from tracksets.samples import Batch, InMemory, Sample, stacked
from tracksets.settings import Training
from tracksets.steps import compiled_steps
from tracksets.targets import Task

N_SEED = 3
SHAPE = Shape({"Track": 8192}, 192)


def stack() -> Batch:
    """Return one full block of jets."""
    jagged = samples.jagged(samples.counts("jets", 180))
    random = np.random.default_rng(1)
    targets = random.integers(0, 2, (jagged.n_event, 1)).astype(np.float32)
    weights = np.full(jagged.n_event, 1 / jagged.n_event, np.float32)
    return next(stacked(Sample(InMemory(jagged), targets, weights).all.shuffled(SHAPE, random), 1))


def forms(model: Model) -> Mapping[str, Callable[[], object]]:
    """Return both ways to get the gradients of a training's step."""
    architecture = Architecture(
        model=model, tracks=tuple(scoring.INPUTS.widths.items()), event=0, outputs=1
    )
    task = Task(kind="binary", names=("background", "signal"))
    steps, functions = compiled_steps(architecture, task, Training()), compiled(architecture)
    networks = [nnx.state(functions.new(seed), nnx.Param, ...) for seed in range(N_SEED)]
    rest = networks[0][1]
    each = [params for params, _ in networks]
    together = jax.tree.map(lambda *arrays: jnp.stack(arrays), *each)
    batches = stack()
    batch = jax.tree.map(lambda x: x[0], batches)
    parts = parts_of(batches)
    assert parts is not None

    def gradient(params: Any, batch: Batch, share: jax.Array) -> Any:
        def of_part(part: Batch, _: jax.Array) -> Any:
            return jax.grad(steps.weighted_loss)(params, rest, part, chunk=parts.chunk)

        return parts.add_up(of_part, batch, share)

    one, all_at_once = jax.jit(gradient), jax.jit(jax.vmap(gradient, (0, None, None)))
    pool = ThreadPoolExecutor(parts.shares)

    def run(function: Any, params: Any) -> None:
        shares = [np.int32(share) for share in range(parts.shares)]
        list(pool.map(lambda s: jax.block_until_ready(function(params, batch, s)), shares))

    return {
        "one after the other": lambda: [run(one, params) for params in each],
        "vmap": lambda: run(all_at_once, together),
    }


def main(rounds: int = 3 * harness.ROUNDS) -> None:
    """Measure and print."""
    rows = []
    for name, model in {**scoring.NETWORKS, "deep_sets": Model.deep_sets()}.items():
        found = harness.alternate(forms(model), rounds)
        first, vmap = found.values()
        rows.append(
            {
                "network": name,
                **{form: f"{1e3 * seconds:.0f} ms" for form, seconds in found.items()},
                "vmap is faster by": f"{first / vmap:.2f}",
            }
        )
    harness.show(f"gradients of {N_SEED} networks, a block of jets", rows)


if __name__ == "__main__":
    main()
