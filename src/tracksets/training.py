"""Events and targets, or a configuration, in; a trained `Scorer` out."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
from numpy.typing import NDArray

from tracksets.callbacks import Callback
from tracksets.checkpoints import refuse_earlier
from tracksets.config import Config, read_config
from tracksets.datasets import read_dataset
from tracksets.ensembles import fit_inputs
from tracksets.errors import ConfigError, DataError
from tracksets.features import event_values, jagged_inputs
from tracksets.fields import Columns
from tracksets.inputs import Inputs
from tracksets.network import Model
from tracksets.processes import meet
from tracksets.scorer import Scorer
from tracksets.settings import Training
from tracksets.stores import InMemory
from tracksets.targets import Task, task_of

__all__ = ("Flat", "fit", "flattened", "to_train", "train")


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
    callbacks: Sequence[Callback] = (),
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
    callbacks
        Who else is told of each step and epoch: `callbacks.HistoryFile("history.csv")`.

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
    StoppedError
        If Ctrl-C was pressed before the last one of several models.
    """
    meet()
    if checkpoints is not None and not resume:
        refuse_earlier(checkpoints)
    flat = flattened(events, targets, inputs, names, training)
    settings = (weights, model, training, progress, checkpoints, flat.columns, callbacks)
    return fit_inputs(flat.store, flat.targets, flat.task, inputs, *settings)


def to_train(config: Config | str | os.PathLike[str]) -> tuple[Config, Inputs]:
    """Read a configuration, if that is yet to be done, and return its inputs, too.

    Raises
    ------
    ConfigError
        If it has none, or is wrong.
    """
    config = read_config(config)
    if config.inputs is None:
        raise ConfigError("the configuration has no [inputs], which a training needs")
    return config, config.inputs


class Flat(NamedTuple):
    """Events in memory, with what there is to learn."""

    store: InMemory
    targets: NDArray[Any]
    task: Task
    columns: dict[str, NDArray[Any]]


def flattened(
    events: ak.Array,
    targets: Any,
    inputs: Inputs,
    names: Sequence[str],
    training: Training | None,
) -> Flat:
    """Make events flat inputs, and find out what there is to learn; see `fit`."""
    if not isinstance(events, ak.Array):
        raise DataError(f"events must be an awkward array, not {type(events).__name__}")
    if not isinstance(inputs, Inputs):
        raise ConfigError(f"inputs must be ts.Inputs(collections=...), not {type(inputs).__name__}")
    task, values = task_of(targets, len(events), names)
    columns = Columns(events)
    others = {text: event_values(text, columns) for text in (training or Training()).expressions}
    return Flat(InMemory(jagged_inputs(columns, inputs)), values, task, others)


def train(
    config: Config | str | os.PathLike[str],
    *,
    progress: bool = True,
    checkpoints: str | os.PathLike[str] | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Scorer:
    """Train a Deep Set on files.

    Parameters
    ----------
    config
        A configuration, or the name of a TOML file with one.
    progress, checkpoints, resume, callbacks
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
    config, inputs = to_train(config)
    with read_dataset(config, inputs, columns=config.training.expressions) as data:
        scorer = fit_inputs(
            data.store,
            data.targets,
            data.task,
            inputs,
            data.training_weights(config),
            config.model,
            config.training,
            progress,
            checkpoints,
            data.columns,
            callbacks,
        )
        # So that an evaluation can tell. Folders are nobody's business.
        files = {uuid: Path(path).name for uuid, path in data.files.items()}
    return replace(scorer, summary={**scorer.summary, "files": files})
