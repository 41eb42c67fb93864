"""A configuration in; flat inputs, targets and weights of its events out.

Files are read once, a chunk at a time, and only the branches that an expression names.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tracksets.config import Config
from tracksets.errors import DataError, FileError
from tracksets.features import JaggedInputs, chosen_events, event_values, jagged_inputs
from tracksets.fields import Columns, Path
from tracksets.filenames import expand, is_remote, split_name
from tracksets.folds import whole_numbers
from tracksets.growing import Growing
from tracksets.inputs import Inputs, paths_of
from tracksets.reading import Tree, open_tree
from tracksets.stores import Store
from tracksets.streaming import Collector
from tracksets.targets import Task, task_of
from tracksets.weights import balanced, matched

__all__ = ("Dataset", "read_dataset")


@dataclass(frozen=True)
class Dataset:
    """Events with what is true of them; a context, at whose end the store is closed.

    Attributes
    ----------
    store
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
    files
        By the identity of each file that was read: its name.
    """

    store: Store
    targets: NDArray[Any]
    weights: NDArray[np.float64]
    task: Task
    variable: NDArray[np.float64] | None = None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def parts(self, folds: str | None = None) -> Iterator[JaggedInputs]:
        """Go through the inputs in bounded memory, with the fold of each event if a column has it."""
        numbers = None if folds is None else whole_numbers(self.columns[folds], folds)
        for part, events in self.store.parts(np.arange(len(self.targets))):
            yield part if numbers is None else replace(part, fold=numbers[events])

    @property
    def inputs(self) -> JaggedInputs:
        """All flat inputs, in memory."""
        [inputs] = self.store.load([np.arange(len(self.targets))])
        return inputs

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


def read_dataset(
    config: Config,
    inputs: Inputs,
    *,
    columns: Sequence[str] = (),
    memory: float | None = None,
) -> Dataset:
    """Read the events of a configuration, in the order of classes, files and entries.

    Parameters
    ----------
    config
        Says which events, and what is true of them.
    inputs
        What to see of them.
    columns
        Further event-level expressions to evaluate.
    memory
        Bytes of flat inputs that may be held in memory; others are kept in temporary files. By
        default what the configuration says.

    Raises
    ------
    FileError
        If a file, tree or branch is missing or damaged, a file changes while it is read, or the
        disk has too little room.
    DataError
        If a class has no events, or a value cannot be taken.
    """
    targets, weights, variables = Growing(), Growing(), Growing()
    others = {text: Growing() for text in columns}
    sources = list(_sources(config))
    identities: dict[str, tuple[object, ...]] = {}
    limit = config.training.memory_gb * 1e9 if memory is None else memory
    with Collector(limit) as collector:
        for source in sources:
            n = 0
            for file, part in _read(source, inputs, list(others), identities):
                collector.add(part.inputs, source.label, file)
                targets.append(part.targets)
                weights.append(part.weights)
                if config.data.reweight:
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
        names = (regression.names or regression.targets) if regression else (*config.data.classes,)
        task, values = task_of(targets.array, len(targets.array), names)
        if regression and regression.units:
            task = task.model_copy(update={"units": regression.units})
        return Dataset(
            collector.store([source.name for source in sources]),
            values,
            weights.array,
            task,
            variables.array if config.data.reweight else None,
            {text: each.array for text, each in others.items()},
            {str(uuid): path for path, (uuid, *_) in identities.items()},
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


def _read(
    source: _Source,
    inputs: Inputs,
    others: Sequence[str],
    identities: dict[str, tuple[object, ...]],
) -> Iterator[tuple[int, _Part]]:
    """Yield the chosen events of each chunk, with the number of its file."""
    for number, file in enumerate(source.files):
        with open_tree(file, source.tree) as tree:
            before = identities.setdefault(tree.path, _identity(tree))  # also by another class
            paths = paths_of(inputs, tree.fields, *source.expressions, *others)
            for start, stop in tree.chunks(paths):
                yield number, _chosen(source, inputs, others, tree, paths, start, stop)
            if _identity(tree) != before:
                raise FileError(
                    f"{tree.path} changed while it was read: it is another file now, or was written "
                    "to. Train when it is complete, or on a copy"
                )


def _chosen(
    source: _Source,
    inputs: Inputs,
    others: Sequence[str],
    tree: Tree,
    paths: list[Path],
    start: int,
    stop: int,
) -> _Part:
    events = tree.read(paths, start, stop)
    chosen = np.ones(stop - start, bool)
    for cut in source.cuts:
        chosen &= chosen_events(cut, Columns(events, tree.fields))
    columns = Columns(events if chosen.all() else events[chosen], tree.fields)
    truth: NDArray[Any] = np.full(columns.n_event, source.label, np.int64)
    if source.targets:
        truth = np.stack(
            [event_values(each, columns) for each in source.targets], 1, dtype=np.float64
        )
    return _Part(
        jagged_inputs(columns, inputs, start),
        truth,
        _numbers(source.weight, "weight", columns),
        _numbers(source.variable, "reweight.variable", columns),
        {text: event_values(text, columns) for text in others},
    )


def _identity(tree: Tree) -> tuple[object, ...]:
    """Tell an open file from what it was before, and from others that may take its place."""
    if is_remote(tree.path):
        return tree.uuid, tree.n_byte
    try:
        now = FilePath(tree.path).stat()
    except FileNotFoundError:
        return (tree.uuid,)
    return tree.uuid, now.st_ino, now.st_size, now.st_mtime_ns


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
