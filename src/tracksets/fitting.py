"""Packed training events in, trained parameters out: loss, step, epochs, early stopping."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float
from numpy.typing import NDArray
from pydantic import Field

from tracksets.blocks import DEFAULT_TRACKS, Block, Shape, pack_inputs
from tracksets.errors import NonFiniteError
from tracksets.features import JaggedInputs
from tracksets.inputs import Configuration
from tracksets.network import Architecture, compiled
from tracksets.scaling import Scaling
from tracksets.targets import Task

__all__ = ("Fitted", "Sample", "Training", "fit_network")

_IN_FLIGHT = 4
"""Steps that may wait in JAX's queue; more only hold memory."""


class Training(Configuration):
    """How to train.

    Parameters
    ----------
    epochs
        Most passes over the training events.
    block_tracks
        Track slots of a block: the batch size, counted in tracks.
    block_events
        Event slots of a block; by default what typical events fill.
    learning_rate
        Of Adam (Kingma, Ba, arXiv:1412.6980).
    weight_decay
        Decoupled, as in AdamW (Loshchilov, Hutter, arXiv:1711.05101).
    validation
        Fraction of the events that is not trained on and decides when to stop.
    patience
        Epochs without a better validation loss before training stops. The best parameters are
        kept.
    seed
        Of the split, the initial weights and the order of events.
    """

    epochs: Annotated[int, Field(gt=0)] = 30
    block_tracks: Annotated[int, Field(gt=0)] = DEFAULT_TRACKS
    block_events: Annotated[int, Field(gt=0)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.2
    patience: Annotated[int, Field(gt=0)] = 5
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1


@dataclass(frozen=True)
class Sample:
    """Events with what to learn from them.

    Attributes
    ----------
    inputs
        Flat inputs of n events.
    targets
        As `Task.learnable` gives them, float32, shape (n_event, n_target).
    weights
        Weight of each event, float32, shape (n_event,); may be negative.
    """

    inputs: JaggedInputs
    targets: Float[np.ndarray, "event target"]
    weights: Float[np.ndarray, " event"]

    def take(self, events: NDArray[np.int64]) -> "Sample":
        """Return the chosen events (indices)."""
        return Sample(self.inputs.take(events), self.targets[events], self.weights[events])

    def batches(
        self, shape: Shape, order: NDArray[np.int64]
    ) -> Iterator[tuple[Block, NDArray[np.float32], NDArray[np.float32]]]:
        """Pack the events in this order: blocks, with targets and weights of the event slots."""
        start = 0
        for block in pack_inputs(self.inputs, shape, order):
            chosen = order[start : start + block.n_event]
            targets = np.zeros((len(block.mask), self.targets.shape[1]), np.float32)
            weights = np.zeros(len(block.mask), np.float32)
            targets[: len(chosen)] = self.targets[chosen]
            weights[: len(chosen)] = self.weights[chosen]
            yield block, targets, weights
            start += len(chosen)


@dataclass(frozen=True)
class Fitted:
    """The result of a fit.

    Attributes
    ----------
    arrays
        By name: every array of the network.
    history
        One entry per epoch: `epoch`, `loss`, `validation_loss`, `seconds`.
    best_epoch
        The epoch that the parameters are from, counted from 1.
    """

    arrays: dict[str, NDArray[Any]]
    history: list[dict[str, float]]
    best_epoch: int


class _Steps:
    """The compiled functions of training: one set per architecture, task and optimiser."""

    def __init__(self, architecture: Architecture, task: Task, rate: float, decay: float) -> None:
        graph = compiled(architecture).graph
        self.optimiser = optax.adamw(rate, weight_decay=decay) if decay else optax.adam(rate)

        def weighted_loss(
            params: Any, rest: Any, block: Block, targets: Array, weights: Array
        ) -> Array:
            network = nnx.merge(graph, params, rest)
            losses = task.losses(network(block), targets)
            # Padding has weight 0, but 0 * inf is NaN, also in the gradient.
            return jnp.sum(jnp.where(block.mask, losses, 0.0) * weights)

        def step(
            params: Any, opt_state: Any, rest: Any, block: Block, targets: Array, weights: Array
        ) -> tuple[Any, Any, Array]:
            loss, gradient = jax.value_and_grad(weighted_loss)(
                params, rest, block, targets, weights
            )
            updates, opt_state = self.optimiser.update(gradient, opt_state, params)
            return optax.apply_updates(params, updates), opt_state, loss

        self.weighted_loss = jax.jit(weighted_loss)
        self.step = jax.jit(step, donate_argnums=(0, 1))


@lru_cache(maxsize=16)
def _steps(architecture: Architecture, task: Task, rate: float, decay: float) -> _Steps:
    return _Steps(architecture, task, rate, decay)


def fit_network(
    architecture: Architecture,
    task: Task,
    scaling: tuple[dict[str, Scaling], Scaling],
    sample: Sample,
    validation: Sample | None,
    training: Training,
    shape: Shape,
    on_epoch: Callable[[dict[str, float]], None] = lambda _entry: None,
) -> Fitted:
    """Train a network.

    The loss of a step is the weighted sum over its events, divided by the mean sum of weights of a
    block: by a constant, not by the sum of this block's weights, which negative weights can bring
    close to zero, and not by the number of slots. So every event counts by its weight alone,
    wherever it is packed. The losses that are reported are sums over all events, divided by the
    sum of all weights.

    Parameters
    ----------
    architecture, task, scaling
        What to train.
    sample, validation
        What to train on, and what decides when to stop.
    training
        How to train.
    shape
        Slots of the blocks to train on.
    on_epoch
        Called with each new entry of the history.

    Raises
    ------
    NonFiniteError
        If the loss becomes NaN or infinite.
    """
    functions = compiled(architecture)
    steps = _steps(architecture, task, training.learning_rate, training.weight_decay)
    network = functions.new(training.seed)
    for name, constants in scaling[0].items():
        network.scaling[name].set(constants)
    network.event_scaling.set(scaling[1])
    params, rest = nnx.state(network, nnx.Param, ...)
    opt_state = steps.optimiser.init(params)
    random = np.random.default_rng([training.seed, 1])
    total = float(sample.weights.sum(dtype=np.float64))
    norm = np.float32(_n_block(sample.inputs, shape) / total)

    best, best_loss, best_epoch = params, np.inf, 0
    history: list[dict[str, float]] = []
    for epoch in range(1, training.epochs + 1):
        begin = time.perf_counter()
        losses: list[Array] = []
        waiting: deque[Array] = deque()
        order = random.permutation(sample.inputs.n_event)
        for block, targets, weights in sample.batches(shape, order):
            if best is params:  # the step reuses the memory of the parameters it is given
                best = jax.tree.map(jnp.copy, params)
            params, opt_state, loss = steps.step(
                params, opt_state, rest, block, targets, weights * norm
            )
            losses.append(loss)
            waiting.append(loss)
            if len(waiting) > _IN_FLIGHT:
                waiting.popleft().block_until_ready()
        entry = {
            "epoch": float(epoch),
            "loss": _total(losses, epoch, "training") / (total * float(norm)),
        }
        if validation is not None:
            parts = [
                steps.weighted_loss(params, rest, *batch)
                for batch in validation.batches(shape, np.arange(validation.inputs.n_event))
            ]
            entry["validation_loss"] = _total(parts, epoch, "validation") / float(
                validation.weights.sum(dtype=np.float64)
            )
        entry["seconds"] = time.perf_counter() - begin
        history.append(entry)
        on_epoch(entry)
        watched = entry.get("validation_loss", -np.inf)
        if watched < best_loss or validation is None:
            best, best_loss, best_epoch = params, watched, epoch
        elif epoch - best_epoch >= training.patience:
            break
    arrays = functions.to_arrays(nnx.merge_state(best, rest))
    return Fitted(arrays, history, best_epoch)


def _n_block(inputs: JaggedInputs, shape: Shape) -> float:
    """Estimate into how many blocks events are packed: the scarcest kind of slot decides."""
    filled = [len(inputs.tracks[name]) / slots for name, slots in shape.tracks.items()]
    return max(1.0, inputs.n_event / shape.events, *filled)


def _total(losses: list[Array], epoch: int, what: str) -> float:
    values = np.asarray([float(each) for each in losses])
    if not np.isfinite(values).all():
        first = int(np.flatnonzero(~np.isfinite(values))[0])
        raise NonFiniteError(
            f"the {what} loss is {values[first]} in block {first} of epoch {epoch}: lower the "
            "learning rate, or look for extreme features and weights (clip them)"
        )
    return float(values.sum())
