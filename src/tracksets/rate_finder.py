"""What to train in, the loss at rising learning rates out: the learning-rate range test.

Of Smith, Cyclical Learning Rates for Training Neural Networks, WACV 2017, arXiv:1506.01186, with a
rate that rises exponentially.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

from tracksets.config import Config
from tracksets.datasets import read_dataset
from tracksets.ensembles import first_problem
from tracksets.errors import ConfigError, NonFiniteError
from tracksets.fitting import started
from tracksets.inputs import Inputs
from tracksets.network import Model
from tracksets.prefetch import ahead
from tracksets.problems import Problem
from tracksets.progress import counted
from tracksets.samples import Batch, stacked
from tracksets.settings import Training
from tracksets.sharding import share
from tracksets.training import flattened, to_train
from tracksets.training_plots import plot_scan

__all__ = ("RateScan", "find_learning_rate", "find_learning_rate_for", "scan")

_FEWEST = 20
_DIVERGED = 4.0
"""The loss has diverged when it is so many times the lowest one."""


@dataclass(frozen=True)
class RateScan:
    """How the loss depends on the learning rate.

    Attributes
    ----------
    rates
        Of each step that was made, shape (n_step,).
    losses
        Weighted mean loss of the events around each step, shape (n_step,).
    diverged
        Whether the loss did, so that the scan ended there.
    """

    rates: Float[np.ndarray, " step"]
    losses: Float[np.ndarray, " step"]
    diverged: bool

    @property
    def lowest(self) -> float:
        """The rate at the lowest loss: the edge of what the training bears."""
        return float(self.rates[np.argmin(self.losses)])

    @property
    def steepest(self) -> float:
        """The rate at which the loss falls fastest, up to the lowest one."""
        slopes = np.diff(self.losses[: np.argmin(self.losses) + 1])
        return float(self.rates[np.argmin(slopes)]) if len(slopes) else self.lowest

    @property
    def suggestion(self) -> float:
        """One tenth of the rate at the lowest loss."""
        return self.lowest / 10

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Draw the loss by learning rate, as PNG and PDF."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        marks = {"lowest": self.lowest, "steepest": self.steepest, "suggestion": self.suggestion}
        return plot_scan(self.rates, self.losses, marks, path)


def find_learning_rate(
    events: ak.Array,
    targets: Any,
    inputs: Inputs,
    *,
    weights: Any = None,
    model: Model | None = None,
    training: Training | None = None,
    names: Sequence[str] = (),
    start: float = 1e-6,
    stop: float = 1.0,
    steps: int = 100,
    progress: bool = True,
) -> RateScan:
    """Train a hundred steps with a rising learning rate, to see which one to choose.

    Nothing of this training is kept. A training with the same settings finds its step compiled.

    Parameters
    ----------
    events, targets, inputs, weights, model, training, names
        As in `fit`; schedule and learning rate of the settings don't matter here.
    start, stop
        Lowest and highest rate. The scan ends before when the loss diverges.
    steps
        How many there are between the two.
    progress
        Whether to show a progress bar.

    Raises
    ------
    ConfigError, DataError
        As from `fit`, or if the rates or steps make no sense.
    NonFiniteError
        If the loss is not finite from the beginning.
    """
    model, training = model or Model(), training or Training()
    flat = flattened(events, targets, inputs, names, training)
    settings = (inputs, weights, model, training, flat.columns)
    problem = first_problem(flat.store, flat.targets, flat.task, *settings)
    return scan(problem, training, start, stop, steps, progress)


def find_learning_rate_for(
    config: Config | str | os.PathLike[str],
    *,
    start: float = 1e-6,
    stop: float = 1.0,
    steps: int = 100,
    progress: bool = True,
) -> RateScan:
    """Do as `find_learning_rate`, for what a configuration says; see there."""
    config, inputs = to_train(config)
    with read_dataset(config, inputs, columns=config.training.expressions) as data:
        what = (data.store, data.targets, data.task, inputs, data.training_weights(config))
        problem = first_problem(*what, config.model, config.training, data.columns)
        return scan(problem, config.training, start, stop, steps, progress)


def scan(
    problem: Problem,
    training: Training,
    start: float,
    stop: float,
    steps: int,
    progress: bool = False,
) -> RateScan:
    """Make steps with a rising rate until the loss diverges; see `find_learning_rate`."""
    if not 0 < start < stop < np.inf:
        raise ConfigError(f"rates from {start} to {stop}: expected two that rise, above 0")
    if steps < _FEWEST:
        raise ConfigError(f"{steps} steps are too few to see anything: expected {_FEWEST} or more")
    rates = np.geomspace(start, stop, steps, dtype=np.float32)
    functions, state, rest = started(problem, training)
    n_step = problem.sample.n_block(problem.shape) / share(training.blocks_per_step)[0]
    norm = np.float32(n_step / problem.sample.total)
    sums: list[float] = []
    weights: list[float] = []
    losses = np.empty(0)
    diverged = False
    with closing(ahead(_forever(problem, training), 3)) as stacks:
        for i, stack in counted(zip(range(steps), stacks, strict=False), steps, "rates", progress):
            weighted = stack._replace(weights=stack.weights * norm)
            seed = np.asarray([training.seed, i], np.uint32)
            state, loss, _ = functions.step(state, rest, weighted, rates[i], seed)
            if not np.isfinite(float(loss)):
                diverged = True
                break
            sums.append(float(loss))
            weights.append(float(weighted.weights.sum()))
            losses = _smooth(sums, weights, steps / 40)
            if i >= _FEWEST and losses[-1] > _DIVERGED * losses.min():
                diverged = True
                break
    if not len(losses):
        raise NonFiniteError(f"the loss is not finite at a learning rate of {start}: see the data")
    return RateScan(rates[: len(losses)].astype(np.float64), losses, diverged)


def _forever(problem: Problem, training: Training) -> Iterator[Batch]:
    """Go through the training events again and again, in the order of a training."""
    n_block, n_slot = share(training.blocks_per_step)
    for epoch in count(1):
        yield from stacked(problem.batches(training.seed, epoch), n_block, n_slot)


def _smooth(sums: ArrayLike, weights: ArrayLike, width: float) -> NDArray[np.float64]:
    """Return the weighted mean loss around each step.

    Sums of losses and of weights are smoothed apart, so that the last step of an epoch, which may
    have a few events only, counts as such.
    """
    parts = (
        gaussian_filter1d(np.asarray(each, np.float64), width, mode="nearest")
        for each in (sums, weights)
    )
    mean: NDArray[np.float64] = np.divide(*parts)
    return mean
