"""Training events in, trained parameters out: epochs, validation, early stopping."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from numpy.typing import NDArray

from tracksets.callbacks import Entry, Step
from tracksets.checkpoints import Checkpoints
from tracksets.compiling import compiled
from tracksets.errors import DataError, NonFiniteError
from tracksets.metrics import mean_auc
from tracksets.optimisers import learning_rates
from tracksets.prefetch import ahead
from tracksets.problems import Problem
from tracksets.processes import agreed
from tracksets.samples import Batch, Part, stacked
from tracksets.settings import Training
from tracksets.sharding import on_all, share, shared_out, to_host
from tracksets.steps import State, Steps, compiled_steps
from tracksets.targets import Task
from tracksets.units import units
from tracksets.watching import IN_FLIGHT, REMEDY, Progress, Watch

__all__ = ("Fitted", "fit_network", "started")

_AHEAD = 3
"""Stacks of blocks that are packed before they are needed."""


@dataclass(frozen=True)
class Fitted:
    """The result of a fit.

    Attributes
    ----------
    arrays
        By name: every array of the network.
    history
        One entry per epoch: `epoch`, `loss`, `validation_loss`, `validation_auc`; number and
        `learning_rate` of its last `step`; `seconds`, and training `events_per_second`.
    best_epoch
        The epoch that the parameters are from, counted from 1.
    stopped
        Whether it was asked to stop before its end.
    """

    arrays: dict[str, NDArray[Any]]
    history: list[Entry]
    best_epoch: int
    stopped: bool = False


def fit_network(
    problem: Problem,
    training: Training,
    on_epoch: Callable[[Entry], None] = lambda _entry: None,
    checkpoints: Checkpoints | None = None,
    stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[Step], None] = lambda _step: None,
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
        Called with each new entry of the history; at once with those of a training that goes on.
    checkpoints
        Where to go on, if there is something, and where to keep the state.
    stop
        Asked after each epoch whether to stop there.
    on_step
        Called with each step once its loss is known.

    Raises
    ------
    NonFiniteError
        If the loss or a gradient becomes NaN or infinite.
    """
    return _Fit(problem, training, checkpoints, on_step).run(on_epoch, stop)


def started(problem: Problem, training: Training) -> tuple[Steps, State, Any]:
    """Return the compiled functions, the state before the first step, and what no step changes."""
    functions = compiled(problem.architecture)
    network = functions.new(training.seed)
    for name, constants in problem.scaling[0].items():
        network.scaling[name].set(constants)
    network.event_scaling.set(problem.scaling[1])
    params, rest = nnx.state(network, nnx.Param, ...)
    steps = compiled_steps(problem.architecture, problem.task, training)
    measure = units(params, problem.architecture, problem.multiplicity)
    return steps, on_all(steps.start(params, measure)), on_all(rest)


class _Fit:
    """A training under way."""

    def __init__(
        self,
        problem: Problem,
        training: Training,
        checkpoints: Checkpoints | None,
        on_step: Callable[[Step], None],
    ) -> None:
        self.problem, self.training, self.checkpoints = problem, training, checkpoints
        self.on_step = on_step
        self.steps, self.state, self.rest = started(problem, training)
        self.best = to_host(self.state.params)
        self.progress = Progress()
        sample = problem.sample
        self.n_block, self.n_slot = share(training.blocks_per_step)
        n_step = sample.n_block(problem.shape) / self.n_block
        self.rates = learning_rates(training, n_step)
        self.norm = np.float32(n_step / sample.total)

        self._restore()

    def run(self, on_epoch: Callable[[Entry], None], stop: Callable[[], bool]) -> Fitted:
        progress = self.progress
        for entry in progress.history:
            on_epoch(entry)
        ended = progress.finished
        stopped = False
        while not (ended or stopped):
            entry, ended = self._epoch()
            on_epoch(entry)
            stopped = agreed(stop()) and not ended
            if self.checkpoints and (ended or stopped or self.checkpoints.due):
                self._save()
        arrays = compiled(self.problem.architecture).to_arrays(
            nnx.merge_state(self.best, to_host(self.rest))
        )
        return Fitted(arrays, progress.history, progress.best_epoch, stopped)

    def _epoch(self) -> tuple[Entry, bool]:
        """Train and validate; also say whether that was the last epoch."""
        progress, training = self.progress, self.training
        begin = time.perf_counter()
        speed = self._train() / (time.perf_counter() - begin)
        rate = float(self._rate(progress.step - 1))
        entry = {"epoch": float(progress.epoch), "loss": self._mean_loss()}
        entry |= self._validate()
        entry |= {"step": float(progress.step), "learning_rate": rate}
        entry |= {"seconds": time.perf_counter() - begin, "events_per_second": speed}
        progress.history.append(entry)
        self._compare(entry)
        waited = progress.epoch - progress.best_epoch
        progress.finished = progress.epoch == training.epochs or waited >= training.patience
        progress.epoch += 1
        progress.losses = []
        return entry, progress.finished

    def _save(self) -> None:
        if self.checkpoints:
            arrays = {"state": to_host(self.state), "best": self.best}
            self.checkpoints.save(arrays, asdict(self.progress))

    def _restore(self) -> None:
        like = {"state": to_host(self.state), "best": self.best}
        restored = self.checkpoints.restore(like) if self.checkpoints else None
        if restored is not None:
            arrays, progress = restored
            self.state, self.best = on_all(arrays["state"]), arrays["best"]
            self.progress = Progress(**progress)

    def _rate(self, step: int) -> np.float32:
        rate: np.float32 = self.rates[min(step, len(self.rates) - 1)]
        return rate

    def _train(self) -> int:
        """Make the steps of an epoch that are yet to be made; return how many events they had."""
        progress, problem = self.progress, self.problem
        made = len(progress.losses)
        batches = problem.batches(self.training.seed, progress.epoch, made * self.n_block)
        watch = Watch(
            problem.architecture, problem.scaling, problem.features, progress, self.on_step
        )
        with closing(ahead(stacked(batches, self.n_block, self.n_slot), _AHEAD)) as stacks:
            for stack in stacks:
                seed = np.asarray([self.training.seed, progress.step], np.uint32)
                weighted = stack._replace(weights=stack.weights * self.norm)
                rate = self._rate(progress.step)
                self.state, loss, largest = self.steps.step(
                    self.state, self.rest, weighted, rate, seed
                )
                progress.step += 1
                watch.add(stack, loss, largest, float(rate))
                if self.checkpoints and self.checkpoints.due:
                    watch.finish()  # what is saved is known to be good
                    self._save()
            watch.finish()
        return watch.events

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
            if len(waiting) > IN_FLIGHT:
                fetch()
        while waiting:
            fetch()
        values = np.concatenate(losses)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise NonFiniteError(
                f"the validation loss is {values[bad[0]]} in block {bad[0]} of epoch "
                f"{self.progress.epoch}: {REMEDY}"
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


def _auc(task: Task, outputs: Float[np.ndarray, "event output"], part: Part) -> float | None:
    if task.kind == "regression":
        return None
    return mean_auc(part.targets[:, 0], task.link(outputs), part.weights)
