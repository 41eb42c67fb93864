"""Training events in, trained parameters out: epochs, validation, early stopping."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from numpy.typing import NDArray

from tracksets.blocks import Shape
from tracksets.sharding import on_all, share, shared_out, to_host
from tracksets.errors import DataError, NonFiniteError
from tracksets.metrics import mean_auc
from tracksets.network import Architecture, compiled
from tracksets.optimisers import learning_rates
from tracksets.prefetch import ahead
from tracksets.samples import Batch, Part, stacked
from tracksets.scaling import Scaling
from tracksets.settings import Training
from tracksets.steps import State, Steps, compiled_steps
from tracksets.targets import Task

__all__ = ("Fitted", "Problem", "fit_network")

_IN_FLIGHT = 4
"""Steps that may wait in JAX's queue; more only hold memory."""
_AHEAD = 3
"""Stacks of blocks that are packed before they are needed."""

Entry = dict[str, float]


@dataclass(frozen=True)
class Problem:
    """What to train, and on what.

    Attributes
    ----------
    architecture, task, scaling
        Of the network.
    sample, validation
        What to train on, and what decides when to stop.
    shape
        Slots of the blocks.
    features
        By collection: names of the features, for messages.
    """

    architecture: Architecture
    task: Task
    scaling: tuple[dict[str, Scaling], Scaling]
    sample: Part
    validation: Part | None
    shape: Shape
    features: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """The result of a fit.

    Attributes
    ----------
    arrays
        By name: every array of the network.
    history
        One entry per epoch: `epoch`, `loss`, `validation_loss`, `validation_auc`,
        `learning_rate`, `seconds`.
    best_epoch
        The epoch that the parameters are from, counted from 1.
    """

    arrays: dict[str, NDArray[Any]]
    history: list[Entry]
    best_epoch: int


@dataclass
class Progress:
    """How far a training has come; with the arrays, all there is to know to go on.

    Attributes
    ----------
    epoch
        The present one, counted from 1.
    losses
        Of its steps so far.
    step
        Steps of all epochs.
    history
        Of the epochs that are complete.
    best_epoch, best_metric
        The best one of them; the smaller the metric, the better.
    """

    epoch: int = 1
    losses: list[float] = field(default_factory=list)
    step: int = 0
    history: list[Entry] = field(default_factory=list)
    best_epoch: int = 0
    best_metric: float = np.inf


def fit_network(
    problem: Problem, training: Training, on_epoch: Callable[[Entry], None] = lambda _entry: None
) -> Fitted:
    """Train a network.

    The loss of a step is the weighted sum over its events, divided by the mean sum of weights of a
    step: by a constant, not by the sum of this step's weights, which negative weights can bring
    close to zero, and not by the number of slots. So every event counts by its weight alone,
    wherever it is packed. The losses that are reported are sums over all events, divided by the
    sum of all weights.

    Parameters
    ----------
    problem
        What to train, and on what.
    training
        How to train.
    on_epoch
        Called with each new entry of the history.

    Raises
    ------
    NonFiniteError
        If the loss becomes NaN or infinite.
    """
    return _Fit(problem, training).run(on_epoch)


class _Fit:
    """A training under way."""

    def __init__(self, problem: Problem, training: Training) -> None:
        self.problem, self.training = problem, training
        functions = compiled(problem.architecture)
        network = functions.new(training.seed)
        for name, constants in problem.scaling[0].items():
            network.scaling[name].set(constants)
        network.event_scaling.set(problem.scaling[1])
        params, rest = nnx.state(network, nnx.Param, ...)
        self.rest = on_all(rest)
        self.steps: Steps = compiled_steps(problem.architecture, problem.task, training)
        self.state: State = on_all(self.steps.start(params))
        self.best = to_host(params)
        self.progress = Progress()
        sample = problem.sample
        self.n_block, self.n_slot = share(training.blocks_per_step)
        n_step = sample.n_block(problem.shape) / self.n_block
        self.rates = learning_rates(training, n_step)
        self.norm = np.float32(n_step / sample.total)

    def run(self, on_epoch: Callable[[Entry], None]) -> Fitted:
        progress, training = self.progress, self.training
        while progress.epoch <= training.epochs:
            begin = time.perf_counter()
            rate = float(self._rate())
            self._train()
            entry = {"epoch": float(progress.epoch), "loss": self._mean_loss()}
            entry |= self._validate()
            entry |= {"learning_rate": rate, "seconds": time.perf_counter() - begin}
            progress.history.append(entry)
            self._compare(entry)
            progress.epoch += 1
            progress.losses = []
            on_epoch(entry)
            if progress.epoch - 1 - progress.best_epoch >= training.patience:
                break
        arrays = compiled(self.problem.architecture).to_arrays(
            nnx.merge_state(self.best, to_host(self.rest))
        )
        return Fitted(arrays, progress.history, progress.best_epoch)

    def _rate(self) -> np.float32:
        rate: np.float32 = self.rates[min(self.progress.step, len(self.rates) - 1)]
        return rate

    def _train(self) -> None:
        """Make the steps of an epoch that are yet to be made."""
        progress = self.progress
        # All random numbers follow from the seed and from where the training stands.
        random = np.random.default_rng([self.training.seed, 1, progress.epoch])
        batches = self.problem.sample.shuffled(self.problem.shape, random)
        watch = _Watch(self.problem, progress)
        with closing(ahead(stacked(batches, self.n_block, self.n_slot), _AHEAD)) as stacks:
            for stack in skipped(stacks, len(progress.losses)):
                seed = np.asarray([self.training.seed, progress.step], np.uint32)
                weighted = stack._replace(weights=stack.weights * self.norm)
                self.state, loss, largest = self.steps.step(
                    self.state, self.rest, shared_out(weighted), self._rate(), seed
                )
                progress.step += 1
                watch.add(stack, loss, largest)
            watch.finish()

    def _mean_loss(self) -> float:
        total = self.problem.sample.total * float(self.norm)
        return float(np.sum(self.progress.losses, dtype=np.float64)) / total

    def _validate(self) -> Entry:
        part = self.problem.validation
        if part is None:
            return {}
        params = on_all(self.steps.kept(self.state))
        n = share(1)[0]
        parts: list[NDArray[np.float32]] = []
        losses: list[NDArray[np.float32]] = []
        waiting: deque[tuple[Batch, Array, Array]] = deque()

        def fetch() -> None:
            stack, loss, outputs = waiting.popleft()
            losses.append(to_host(loss))
            parts.append(to_host(outputs)[np.asarray(stack.block.mask)])

        for stack in ahead(stacked(part.ordered(self.problem.shape), n), _AHEAD):
            waiting.append((stack, *self.steps.losses(params, self.rest, shared_out(stack))))
            if len(waiting) > _IN_FLIGHT:
                fetch()
        while waiting:
            fetch()
        values = np.concatenate(losses)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise NonFiniteError(
                f"the validation loss is {values[bad[0]]} in block {bad[0]} of epoch "
                f"{self.progress.epoch}: {_REMEDY}"
            )
        entry = {"validation_loss": float(values.sum(dtype=np.float64)) / part.total}
        auc = _auc(self.problem.task, np.concatenate(parts), part)
        return entry if auc is None else {**entry, "validation_auc": auc}

    def _compare(self, entry: Entry) -> None:
        """Keep the parameters if they are the best so far; without validation, always."""
        progress = self.progress
        metric = entry.get("validation_loss", -np.inf)
        if self.training.metric == "auc":
            if "validation_auc" not in entry:
                raise DataError("metric = 'auc' needs validation events of several classes")
            metric = -entry["validation_auc"]
        if metric < progress.best_metric or self.problem.validation is None:
            progress.best_epoch, progress.best_metric = progress.epoch, metric
            self.best = to_host(self.steps.kept(self.state))


def skipped(stacks: Iterator[Batch], n: int) -> Iterator[Batch]:
    """Leave out the first n; they are packed, which is cheap beside a step."""
    for i, stack in enumerate(stacks):
        if i >= n:
            yield stack


def _auc(task: Task, outputs: Float[np.ndarray, "event output"], part: Part) -> float | None:
    if task.kind == "regression":
        return None
    return mean_auc(part.targets[:, 0], task.link(outputs), part.weights)


_REMEDY = "lower the learning rate, clip_gradient, or clip extreme features"


class _Watch:
    """Collects the losses of steps as they are computed, and stops at one that is not finite."""

    def __init__(self, problem: Problem, progress: Progress) -> None:
        self.problem, self.progress = problem, progress
        self.waiting: deque[tuple[Batch, Array, Array]] = deque()

    def add(self, stack: Batch, loss: Array, largest: Array) -> None:
        """Take a step whose result is yet to come."""
        self.waiting.append((stack, loss, largest))
        if len(self.waiting) > _IN_FLIGHT:
            self._fetch()

    def finish(self) -> None:
        """Wait for all steps."""
        while self.waiting:
            self._fetch()

    def _fetch(self) -> None:
        stack, loss, largest = self.waiting.popleft()
        value = float(loss)
        if not np.isfinite(value):
            self._stop(stack, value, np.asarray(largest))
        self.progress.losses.append(value)

    def _stop(self, stack: Batch, loss: float, largest: NDArray[np.float32]) -> None:
        progress = self.progress
        block = len(progress.losses)
        step = progress.step - len(self.waiting)
        raise NonFiniteError(
            f"the training loss is {loss} in block {block} of epoch {progress.epoch} (step {step}):"
            f" {_REMEDY}.\n"
            f"  largest features: {', '.join(self._features(stack))}\n"
            f"  largest gradients: {', '.join(self._gradients(largest))}"
        )

    def _features(self, stack: Batch) -> list[str]:
        """Name the features that are farthest from their centre, in units of their spread."""
        scaled: list[tuple[float, str]] = []
        constants = {**self.problem.scaling[0], "event": self.problem.scaling[1]}
        for name, matrix in {**stack.block.tracks, "event": stack.block.event}.items():
            scaling = constants[name]
            flat = np.asarray(matrix).reshape(-1, matrix.shape[-1])
            size = np.abs((flat - scaling.shift) * scaling.scale)
            # Padding is 0, which may be far from the centre.
            size = np.where((flat != 0).any(axis=1)[:, None], size, 0)
            names = self.problem.features.get(name) or range(matrix.shape[-1])
            for i, feature in enumerate(names):
                at = np.argmax(np.nan_to_num(size[:, i], nan=np.inf)) if len(size) else None
                if at is not None:
                    text = f"{name} '{feature}' = {flat[at, i]:.4g} ({size[at, i]:.3g} σ)"
                    scaled.append((float(np.nan_to_num(size[at, i], nan=np.inf)), text))
        scaled.sort(key=lambda each: -each[0])
        return [text for _, text in scaled[:3]]

    def _gradients(self, largest: NDArray[np.float32]) -> list[str]:
        params = nnx.state(compiled(self.problem.architecture).new(0), nnx.Param)
        names = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(params)]
        order = np.argsort(-np.nan_to_num(largest, nan=np.inf), kind="stable")
        return [f"{names[i]} {largest[i]:.3g}" for i in order[:3]]
