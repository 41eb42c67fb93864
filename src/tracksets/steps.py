"""Settings in; the compiled functions of training out: one step, and the losses of a batch."""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from tracksets.compiling import compiled
from tracksets.network import Architecture
from tracksets.optimisers import direction
from tracksets.samples import Batch
from tracksets.settings import Training
from tracksets.sharding import AXIS, device_mesh
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
    """

    params: Any
    optimiser: Any
    average: Any


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
        everywhere, shared = PartitionSpec(), PartitionSpec(AXIS)
        self.step = jax.jit(
            self._on_devices(
                self._step, (everywhere, everywhere, shared, everywhere, everywhere), everywhere
            ),
            donate_argnums=0,
        )
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

    def start(self, params: Any) -> State:
        """Return the state before the first step."""
        return State(params, self.direction.init(params), self.averaging.init(params))

    def kept(self, state: State) -> Any:
        """Return the parameters to validate and to keep: the average, if there is one."""
        if self.training.average is None or not int(state.average.count):
            return state.params
        share = 1 - self.training.average ** float(state.average.count)
        return jax.tree.map(lambda sums: sums / share, state.average.ema)

    def weighted_loss(
        self, params: Any, rest: Any, batch: Batch, key: Array | None = None
    ) -> Float[Array, ""]:
        """Sum of the losses of the events of one block, times their weights."""
        network = nnx.merge(self.graph, params, rest)
        settings = self.training
        outputs = network(batch.block, dtype=settings.precision, dropout=settings.dropout, key=key)
        return self._weighted(outputs, batch, settings.label_smoothing)

    def _weighted(self, outputs: Array, batch: Batch, smoothing: float = 0.0) -> Array:
        losses = self.task.losses(outputs, jnp.asarray(batch.targets), smoothing)
        # Padding has weight 0, but 0 * inf is NaN, also in the gradient.
        return jnp.sum(jnp.where(batch.block.mask, losses, 0.0) * batch.weights)

    def _step(
        self, state: State, rest: Any, stack: Batch, rate: Array, seed: Array
    ) -> tuple[State, Float[Array, ""], Float[Array, " array"]]:
        """Make one step; also return the loss, and the largest gradient of each array.

        `seed` is that of the training and the number of the step.
        """
        self.traces += 1  # runs when JAX traces, not when it computes
        key = None
        if self.training.dropout:
            key = jax.random.fold_in(jax.random.key(seed[0]), seed[1])
            if self.mesh is not None:
                key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
        loss, gradient = self._sum(self._accumulated(state.params, rest, stack, key))
        largest = jnp.stack([jnp.max(jnp.abs(x)) for x in jax.tree.leaves(gradient)])
        updates, optimiser = self.direction.update(gradient, state.optimiser, state.params)
        updates = jax.tree.map(lambda x: -rate * x, updates)
        params = optax.apply_updates(state.params, updates)
        _, average = self.averaging.update(params, state.average)
        return State(params, optimiser, average), loss, largest

    def _accumulated(
        self, params: Any, rest: Any, stack: Batch, key: Array | None
    ) -> tuple[Array, Any]:
        """Add up loss and gradient over the blocks of a stack."""
        gradient = jax.value_and_grad(self.weighted_loss)
        n = stack.weights.shape[0]
        sums: tuple[Array, Any]
        if n == 1:
            sums = gradient(params, rest, jax.tree.map(lambda x: x[0], stack), key)
            return sums

        def add(sums: Any, item: tuple[Array, Batch]) -> tuple[Any, None]:
            of_block = None if key is None else jax.random.fold_in(key, item[0])
            found = gradient(params, rest, item[1], of_block)
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
            outputs = network(batch.block, skip_padding=True, dtype=self.training.precision)
            return self._weighted(outputs, batch), outputs

        result: tuple[Array, Array] = jax.lax.map(one, stack)
        return result


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
