"""A configuration in; flat inputs, targets and weights of its events out.

Files are read a chunk at a time, and only the branches that an expression names.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracksets.config import Config
from tracksets.errors import ConfigError, DataError
from tracksets.features import JaggedInputs, chosen_events, event_values, jagged_inputs
from tracksets.fields import Columns
from tracksets.filenames import expand, split_name
from tracksets.folds import whole_numbers
from tracksets.inputs import Inputs, paths_of
from tracksets.reading import open_tree
from tracksets.targets import Task, task_of
from tracksets.weights import balanced, matched

__all__ = ("Dataset", "read_dataset", "refuse_other_task")


@dataclass(frozen=True)
class Dataset:
    """Events with what is true of them.

    Attributes
    ----------
    inputs
        Flat inputs of n events.
    targets
        Class of each event, int64, shape (n_event,); or float64, shape (n_event, n_target).
    weights
        float64, shape (n_event,); may be negative.
    task
        What there is to learn.
    variable
        The one to match between classes, shape (n_event,).
    columns
        By expression: its values, shape (n_event,), of those that were asked for.
    """

    inputs: JaggedInputs
    targets: NDArray[Any]
    weights: NDArray[np.float64]
    task: Task
    variable: NDArray[np.float64] | None = None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def inputs_in(self, folds: str | None) -> JaggedInputs:
        """Return the inputs with the fold of each event, if this column says it."""
        if folds is None:
            return self.inputs
        return replace(self.inputs, fold=whole_numbers(self.columns[folds], folds))

    def training_weights(self, config: Config) -> NDArray[np.float64]:
        """Return the weights as the configuration wants them: matched, then balanced."""
        weights, names = self.weights, self.task.names
        reweight = config.data.reweight
        if reweight is not None and self.variable is not None:
            to = None if reweight.match is None else names.index(reweight.match)
            edges = np.asarray(reweight.bins)
            weights = matched(weights, self.targets, names, self.variable, edges, to)
        return balanced(weights, self.targets, names) if config.data.balance else weights


@dataclass(frozen=True)
class _Source:
    """Files whose events have one class, or one set of targets."""

    name: str
    files: list[str]
    tree: str | None
    weight: str | None
    cuts: list[str]
    targets: tuple[str, ...]
    label: int
    variable: str | None

    @property
    def expressions(self) -> list[str]:
        """All that is evaluated per event."""
        optional = [text for text in (self.weight, self.variable) if text]
        return [*self.cuts, *self.targets, *optional]


def read_dataset(config: Config, inputs: Inputs, *, columns: Sequence[str] = ()) -> Dataset:
    """Read the events of a configuration, in the order of classes, files and entries.

    Parameters
    ----------
    config
        Says which events, and what is true of them.
    inputs
        What to see of them.
    columns
        Further event-level expressions to evaluate.

    Raises
    ------
    FileError
        If a file, tree or branch is missing or damaged.
    DataError
        If a class has no events, or a value cannot be taken.
    """
    parts: list[JaggedInputs] = []
    targets: list[NDArray[Any]] = []
    weights: list[NDArray[np.float64]] = []
    variables: list[NDArray[np.float64]] = []
    others: dict[str, list[NDArray[Any]]] = {text: [] for text in columns}
    for source in _sources(config):
        n = 0
        for part in _read(source, inputs, list(others)):
            parts.append(part.inputs)
            targets.append(part.targets)
            weights.append(part.weights)
            variables.append(part.variable)
            for text, each in part.columns.items():
                others[text].append(each)
            n += part.inputs.n_event
        if n == 0:
            cuts = " and ".join(f"'{cut}'" for cut in source.cuts) or "no cut"
            raise DataError(
                f"{source.name} has no events in {len(source.files)} file(s) with {cuts}"
            )
    regression = config.data.regression
    names = (regression.names or regression.targets) if regression else tuple(config.data.classes)
    values = np.concatenate(targets)
    task, values = task_of(values.astype(float) if regression else values, len(values), names)
    if regression and regression.units:
        task = task.model_copy(update={"units": regression.units})
    return Dataset(
        JaggedInputs.concatenate(parts),
        values,
        np.concatenate(weights),
        task,
        np.concatenate(variables) if config.data.reweight else None,
        {text: np.concatenate(each) for text, each in others.items()},
    )


def refuse_other_task(model: Task, data: Task) -> None:
    """Refuse events whose truth is of another kind than the scores of a model.

    Raises
    ------
    ConfigError
        If it is, or of another number of classes or targets.
    """
    if (data.kind, len(data.names)) != (model.kind, len(model.names)):
        raise ConfigError(
            f"the model gives {model.kind} scores of {list(model.names)}, but the configuration "
            f"has {data.kind} targets {list(data.names)}"
        )


def _sources(config: Config) -> Iterator[_Source]:
    data = config.data

    def files(names: tuple[str, ...] | None) -> list[str]:
        names = names or data.files or ()
        return expand([_relative_to(config.folder, name) for name in names])

    cuts = [data.select] if data.select else []
    if data.regression:
        targets = data.regression.targets
        yield _Source("regression", files(None), data.tree, data.weight, cuts, targets, 0, None)
    for i, (name, each) in enumerate(data.classes.items()):
        own = [each.where] if each.where else []
        if each.value is not None:
            own.append(f"({data.target}) == {each.value}")
        yield _Source(
            f"class {name}",
            files(each.files),
            each.tree or data.tree,
            each.weight or data.weight,
            [*cuts, *own],
            (),
            i,
            data.reweight.variable if data.reweight else None,
        )


def _relative_to(folder: str, name: str) -> str:
    path, _ = split_name(name)
    return name if "://" in path else str(FilePath(folder) / name)


@dataclass(frozen=True)
class _Part:
    """The chosen events of a chunk."""

    inputs: JaggedInputs
    targets: NDArray[Any]
    weights: NDArray[np.float64]
    variable: NDArray[np.float64]
    columns: dict[str, NDArray[Any]]


def _read(source: _Source, inputs: Inputs, others: Sequence[str]) -> Iterator[_Part]:
    for file in source.files:
        with open_tree(file, source.tree) as tree:
            paths = paths_of(inputs, tree.fields, *source.expressions, *others)
            for start, stop in tree.chunks(paths):
                events = tree.read(paths, start, stop)
                chosen = np.ones(stop - start, bool)
                for cut in source.cuts:
                    chosen &= chosen_events(cut, Columns(events, tree.fields))
                columns = Columns(events if chosen.all() else events[chosen], tree.fields)
                truth: NDArray[Any] = np.full(columns.n_event, source.label, np.int64)
                if source.targets:
                    truth = np.stack([event_values(each, columns) for each in source.targets], 1)
                yield _Part(
                    jagged_inputs(columns, inputs, start),
                    truth,
                    _numbers(source.weight, "weight", columns),
                    _numbers(source.variable, "reweight.variable", columns),
                    {text: event_values(text, columns) for text in others},
                )


def _numbers(text: str | None, what: str, columns: Columns) -> NDArray[np.float64]:
    """Evaluate an optional expression; 1 without it."""
    if text is None:
        return np.ones(columns.n_event)
    values = event_values(text, columns).astype(np.float64)
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise DataError(
            f"{what} '{text}' in {columns.fields.where} is NaN or infinite in {bad} event(s)"
        )
    return values
