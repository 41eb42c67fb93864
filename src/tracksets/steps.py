"""Settings in; the compiled functions of training out: one step, and the losses of a batch."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int
from numpy.typing import NDArray

from tracksets.compiling import compiled
from tracksets.devices import threads
from tracksets.network import Architecture
from tracksets.optimisers import direction
from tracksets.parts import Parts, parts_of
from tracksets.samples import Batch
from tracksets.settings import Training
from tracksets.sharding import AXIS, device_mesh, shared_out
from tracksets.targets import Task

__all__ = ("State", "Steps", "compiled_steps")


class State(NamedTuple):
    """What a step changes.

    Attributes
    ----------
    params
        Parameters of the network.
    optimiser
        Of optax.
    average
        Moving average of the parameters and its counter; empty without one.
    units
        What the optimiser measures the parameters in; see `units`. Stays the same.
    """

    params: Any
    optimiser: Any
    average: Any
    units: Any


class Steps:
    """The compiled functions of one architecture, task and way to train.

    Batches come stacked, on a leading axis that the devices share out among themselves. Learning
    rate and seed are arguments, so that other ones find everything compiled.
    """

    def __init__(self, architecture: Architecture, task: Task, training: Training) -> None:
        self.graph = compiled(architecture).graph
        self.task, self.training = task, training
        self.direction = direction(training)
        decay = training.average
        self.averaging = optax.ema(decay) if decay is not None else optax.identity()
        self.mesh = device_mesh()
        self.traces = 0
        self._ready: set[Any] = set()
        everywhere, shared = PartitionSpec(), PartitionSpec(AXIS)
        self._compiled_step = cache(
            lambda parts: jax.jit(
                self._on_devices(
                    partial(self._step, parts),
                    (everywhere, everywhere, shared, everywhere, everywhere),
                    everywhere,
                ),
                donate_argnums=0,
            )
        )
        self._gradient = jax.jit(self._accumulated, static_argnums=0)
        self._finish = jax.jit(self._finished, donate_argnums=0)
        self.losses = jax.jit(
            self._on_devices(self._losses, (everywhere, everywhere, shared), shared)
        )

    def _on_devices(self, function: Any, inputs: Any, outputs: Any) -> Any:
        if self.mesh is None:
            return function
        # Without the check of what varies over devices, which adds up gradients by itself.
        return jax.shard_map(
            function, mesh=self.mesh, in_specs=inputs, out_specs=outputs, check_vma=False
        )

    def _sum(self, tree: Any) -> Any:
        """Add up over the devices, as one vector: each message between processes takes time."""
        if self.mesh is None:
            return tree
        vector, as_tree = ravel_pytree(tree)
        return as_tree(jax.lax.psum(vector, AXIS))

    def start(self, drawn: Any, units: Any = None) -> State:
        """Return the state before the first step, of weights that were drawn in these units."""
        units = jax.tree.map(lambda _: jnp.ones(()), drawn) if units is None else units
        params = jax.tree.map(jnp.multiply, drawn, units)
        return State(params, self.direction.init(drawn), self.averaging.init(params), units)

    def kept(self, state: State) -> Any:
        """Return the parameters to validate and to keep: the average, if there is one."""
        if self.training.average is None or not int(state.average.count):
            return state.params
        share = 1 - self.training.average ** float(state.average.count)
        return jax.tree.map(lambda sums: sums / share, state.average.ema)

    def step(
        self, state: State, rest: Any, stack: Batch, rate: np.float32, seed: NDArray[np.uint32]
    ) -> tuple[State, Float[Array, ""], Float[Array, " array"]]:
        """Make one step; also return the loss, and the largest gradient of each array.

        Parameters
        ----------
        state
            Its arrays are used up.
        rest
            Constants of the network.
        stack
            Blocks, in memory.
        rate
            Learning rate.
        seed
            Of the training, and the number of the step.
        """
        parts = parts_of(stack)
        result: tuple[State, Array, Array]
        if parts is None or parts.shares == 1:
            step = self._compiled_step(parts)
            result = step(state, rest, shared_out(stack), rate, seed)
            return result

        # XLA gains next to nothing from sharing out small products among its threads.
        def gradient(share: int) -> Any:
            found = self._gradient(parts, state.params, rest, stack, seed, np.int32(share))
            return jax.block_until_ready(found)

        key = (parts, stack.weights.shape)
        # The first time, one after the other: each thread would trace it.
        each = _pool().map if key in self._ready else map
        sums = tuple(each(gradient, range(parts.shares)))
        self._ready.add(key)
        result = self._finish(state, sums, rate)
        return result

    def weighted_loss(
        self,
        params: Any,
        rest: Any,
        batch: Batch,
        key: Array | None = None,
        chunk: int | None = None,
    ) -> Float[Array, ""]:
        """Sum of the losses of the events of one block, times their weights."""
        network = nnx.merge(self.graph, params, rest)
        settings = self.training
        outputs = network(
            batch.block, chunk=chunk, dtype=settings.precision, dropout=settings.dropout, key=key
        )
        return self._weighted(outputs, batch, settings.label_smoothing)

    def _weighted(self, outputs: Array, batch: Batch, smoothing: float = 0.0) -> Array:
        losses = self.task.losses(outputs, jnp.asarray(batch.targets), smoothing)
        # Padding has weight 0, but 0 * inf is NaN, also in the gradient.
        return jnp.sum(jnp.where(batch.block.mask, losses, 0.0) * batch.weights)

    def _step(
        self, parts: Parts | None, state: State, rest: Any, stack: Batch, rate: Array, seed: Array
    ) -> tuple[State, Array, Array]:
        sums = self._accumulated(parts, state.params, rest, stack, seed, jnp.int32(0))
        return self._finished(state, (sums,), rate)

    def _finished(
        self, state: State, shares: Sequence[tuple[Array, Any]], rate: Array
    ) -> tuple[State, Array, Array]:
        """Make a step along what the shares add up to."""
        sums = jax.tree.map(lambda *each: sum(each[1:], each[0]), *shares)
        loss, gradient = self._sum(sums)
        largest = jnp.stack([jnp.max(jnp.abs(x)) for x in jax.tree.leaves(gradient)])
        units = state.units
        updates, optimiser = self.direction.update(
            jax.tree.map(jnp.multiply, gradient, units),
            state.optimiser,
            jax.tree.map(jnp.divide, state.params, units),
        )
        updates = jax.tree.map(lambda x, unit: -rate * unit * x, updates, units)
        params = optax.apply_updates(state.params, updates)
        _, average = self.averaging.update(params, state.average)
        return State(params, optimiser, average, units), loss, largest

    def _accumulated(
        self,
        parts: Parts | None,
        params: Any,
        rest: Any,
        stack: Batch,
        seed: Array,
        share: Int[Array, ""],
    ) -> tuple[Array, Any]:
        """Add up loss and gradient over one share of each block of a stack."""
        self.traces += 1  # runs when JAX traces, not when it computes
        value_and_grad = jax.value_and_grad(self.weighted_loss)
        key = None
        if self.training.dropout:
            key = jax.random.fold_in(jax.random.key(seed[0]), seed[1])
            if self.mesh is not None:
                key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))

        def folded(key: Array | None, number: Array) -> Array | None:
            return None if key is None else jax.random.fold_in(key, number)

        def of_block(block: Batch, key: Array | None) -> tuple[Array, Any]:
            sums: tuple[Array, Any]
            if parts is None:
                sums = value_and_grad(params, rest, block, key)
                return sums

            def of_part(part: Batch, first: Array) -> Any:
                return value_and_grad(params, rest, part, folded(key, first), parts.chunk)

            sums = parts.add_up(of_part, block, share)
            return sums

        n = stack.weights.shape[0]
        sums: tuple[Array, Any]
        if n == 1:
            sums = of_block(jax.tree.map(lambda x: x[0], stack), key)
            return sums

        def add(sums: Any, item: tuple[Array, Batch]) -> tuple[Any, None]:
            found = of_block(item[1], folded(key, item[0]))
            return jax.tree.map(jnp.add, sums, found), None

        zero = jax.tree.map(jnp.zeros_like, (jnp.sum(stack.weights), params))
        sums, _ = jax.lax.scan(add, zero, (jnp.arange(n), stack))
        return sums

    def _losses(
        self, params: Any, rest: Any, stack: Batch
    ) -> tuple[Float[Array, " block"], Float[Array, "block event output"]]:
        """Return the weighted loss of each block, and the outputs of its events."""
        network = nnx.merge(self.graph, params, rest)

        def one(batch: Batch) -> tuple[Array, Array]:
            outputs = network(batch.block, scoring=True, dtype=self.training.precision)
            return self._weighted(outputs, batch), outputs

        result: tuple[Array, Array] = jax.lax.map(one, stack)
        return result


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads(), "tracksets-steps")


@lru_cache(maxsize=16)
def _compiled_steps(architecture: Architecture, task: Task, training: Training) -> Steps:
    return Steps(architecture, task, training)


_COMPILED = (
    "weight_decay", "clip_gradient", "label_smoothing", "dropout", "average", "precision",
)  # fmt: skip
"""Settings that are part of what is compiled."""


def compiled_steps(architecture: Architecture, task: Task, training: Training) -> Steps:
    """Return the compiled functions; the same ones where only other settings differ."""
    decisive = {name: getattr(training, name) for name in _COMPILED}
    return _compiled_steps(architecture, task, Training(**decisive))
