"""Events and targets, or a configuration, in; a trained `Scorer` out."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from tracksets.blocks import Shape
from tracksets.checkpoints import Checkpoints, refuse_earlier
from tracksets.config import Config, read_config
from tracksets.datasets import read_dataset
from tracksets.errors import ConfigError, DataError
from tracksets.features import JaggedInputs, jagged_inputs
from tracksets.fields import Columns
from tracksets.fitting import Problem, fit_network
from tracksets.inputs import Inputs, feature_names
from tracksets.interrupts import asked_to_stop
from tracksets.network import Architecture, Model
from tracksets.processes import is_first, meet, refuse_different
from tracksets.progress import epochs_bar
from tracksets.samples import InMemory, Sample
from tracksets.scaling import scalings
from tracksets.scorer import Scorer
from tracksets.settings import Training
from tracksets.sharding import share
from tracksets.targets import Task, task_of

__all__ = ("fit", "fit_inputs", "split", "train")


def fit(
    events: ak.Array,
    targets: Any,
    inputs: Inputs,
    *,
    weights: Any = None,
    model: Model | None = None,
    training: Training | None = None,
    names: Sequence[str] = (),
    progress: bool = True,
    checkpoints: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> Scorer:
    """Train a Deep Set on events in memory.

    Parameters
    ----------
    events
        `n * {Track: var * {pt: float32, ...}}` or `n * {Track_pt: var * float32, ...}`.
    targets
        Shape (n_event,): 0/1 or class indices; floats, or several columns, for a regression.
    inputs
        What the network sees.
    weights
        Weight of each event, shape (n_event,); may be negative. 1 by default.
    model, training
        Network and how to train it.
    names
        Names of the classes or targets.
    progress
        Whether to show a progress bar.
    checkpoints
        A folder for the state of the training; without one, nothing is kept of it.
    resume
        Whether to go on from there. The result is the same as without the interruption.

    Returns
    -------
    Scorer
        With the parameters of the best epoch. The same seed gives the same scorer. Ctrl-C ends the
        training after the present epoch; `summary["stopped"]` is then true.

    Raises
    ------
    ConfigError
        If `inputs` is something else.
    DataError
        If lengths differ, there is only one class, or a branch holds what inputs cannot take.
    NonFiniteError
        If a feature or the loss is not finite.
    FileError
        If the folder has checkpoints of another training, or any without `resume`.
    """
    if not isinstance(events, ak.Array):
        raise DataError(f"events must be an awkward array, not {type(events).__name__}")
    if not isinstance(inputs, Inputs):
        raise ConfigError(f"inputs must be ts.Inputs(collections=...), not {type(inputs).__name__}")
    meet()
    if checkpoints is not None and not resume:
        refuse_earlier(checkpoints)
    task, values = task_of(targets, len(events), names)
    jagged = jagged_inputs(Columns(events), inputs)
    return fit_inputs(jagged, values, task, inputs, weights, model, training, progress, checkpoints)


def train(
    config: Config | str | os.PathLike[str],
    *,
    progress: bool = True,
    checkpoints: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> Scorer:
    """Train a Deep Set on files.

    Parameters
    ----------
    config
        A configuration, or the name of a TOML file with one.
    progress, checkpoints, resume
        As in `fit`.

    Returns
    -------
    Scorer
        As `fit` gives.

    Raises
    ------
    ConfigError
        If the configuration is wrong.
    FileError
        If a file, tree or branch is missing or damaged.
    DataError
        If a branch holds what the inputs cannot take.
    """
    meet()
    if checkpoints is not None and not resume:
        refuse_earlier(checkpoints)
    if not isinstance(config, Config):
        config = read_config(config)
    if config.inputs is None:
        raise ConfigError("the configuration has no [inputs], which a training needs")
    data = read_dataset(config, config.inputs)
    return fit_inputs(
        data.inputs,
        data.targets,
        data.task,
        config.inputs,
        data.training_weights(config),
        config.model,
        config.training,
        progress,
        checkpoints,
    )


def fit_inputs(
    jagged: JaggedInputs,
    targets: NDArray[Any],
    task: Task,
    inputs: Inputs,
    weights: Any = None,
    model: Model | None = None,
    training: Training | None = None,
    progress: bool = True,
    checkpoints: str | os.PathLike[str] | None = None,
) -> Scorer:
    """Train on flat inputs; see `fit`."""
    model, training = model or Model(), training or Training()
    if training.label_smoothing and task.kind == "regression":
        raise ConfigError("label_smoothing is for classes, not for a regression")
    sample = Sample(
        InMemory(jagged),
        task.learnable(targets),
        _weights(weights, jagged.n_event).astype(np.float32),
    )
    chosen, held_out = split(jagged.n_event, training)
    train, validation = sample.part(chosen), sample.part(held_out) if len(held_out) else None
    for part, what in ((train, "training"), (validation, "validation")):
        if part is not None and not part.total > 0:
            raise DataError(f"the weights of the {what} events sum to zero or less")
    if task.kind != "regression" and len(np.unique(train.targets)) < len(task.names):
        raise DataError(
            "a class has no event in the training part of the split; there are too few events"
        )
    architecture = Architecture(
        model=model,
        tracks=tuple(inputs.widths.items()),
        event=inputs.event_width,
        outputs=task.outputs,
    )
    problem = Problem(
        architecture=architecture,
        task=task,
        scaling=scalings(
            inputs,
            ((part, sample.weights[events]) for part, events in sample.store.parts(train.events)),
        ),
        sample=train,
        validation=validation,
        # Of all events, so that another seed of the split finds the step compiled.
        shape=Shape.for_multiplicities(jagged.counts, training.block_tracks, training.block_events),
        features={
            **{name: feature_names(each.features) for name, each in inputs.collections.items()},
            "event": feature_names(inputs.event),
        },
    )
    with ExitStack() as stack:
        on_epoch = stack.enter_context(epochs_bar(training.epochs, progress and is_first()))
        stop = stack.enter_context(asked_to_stop())
        mark = _fingerprint(problem, inputs, training)
        refuse_different(mark, "data or settings")
        keeper = None
        if checkpoints is not None:
            keeper = Checkpoints(Path(checkpoints), mark, training.checkpoint_minutes)
            stack.enter_context(keeper)
        fitted = fit_network(problem, training, on_epoch, keeper, stop)
    return Scorer(
        inputs=inputs,
        model=model,
        task=task,
        arrays=fitted.arrays,
        shape=Shape.for_multiplicities(jagged.counts),
        summary={
            "events": {"training": train.n_event, "validation": len(held_out)},
            "training": training.model_dump(mode="json"),
            "best_epoch": fitted.best_epoch,
            "history": [
                {key: value for key, value in entry.items() if key != "seconds"}
                for entry in fitted.history
            ],
            "versions": {name: version(name) for name in ("tracksets", "jax", "flax", "awkward")},
            **({"stopped": True} if fitted.stopped else {}),
        },
    )


def _fingerprint(problem: Problem, inputs: Inputs, training: Training) -> str:
    """Hash what decides the result of a training, but for the features' values."""
    digest = hashlib.sha256()
    n_block, _ = share(training.blocks_per_step)
    settings = training.model_copy(update={"checkpoint_minutes": 0.0, "blocks_per_step": n_block})
    for part in (problem.architecture, problem.task, inputs, settings):
        digest.update(part.model_dump_json().encode())
    sample = problem.sample.sample
    for array in (*sample.store.counts.values(), sample.targets, sample.weights):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def split(n_event: int, training: Training) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw which events are trained on and which are held out; each in rising order."""
    order = np.random.default_rng([training.seed, 0]).permutation(n_event)
    n = round(training.validation * n_event)
    return np.sort(order[n:]), np.sort(order[:n])


def _weights(weights: Any, n_event: int) -> NDArray[np.float64]:
    if weights is None:
        return np.ones(n_event)
    try:
        # A masked value is missing; asarray alone would take what lies under the mask.
        values = np.asarray(np.ma.filled(weights, np.nan), np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"weights must be one number per event: {error}") from None
    if values.shape != (n_event,):
        raise DataError(f"weights of shape {values.shape} for {n_event} events")
    if not np.isfinite(values).all():
        raise DataError(f"{int((~np.isfinite(values)).sum())} weights are NaN or infinite")
    return values
