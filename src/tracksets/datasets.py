"""A configuration in; flat inputs, targets and weights of its events out.

Files are read a chunk at a time, and only the branches that an expression names.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracksets.config import Config
from tracksets.errors import DataError
from tracksets.features import JaggedInputs, event_values, jagged_inputs
from tracksets.fields import Columns
from tracksets.inputs import Inputs, paths_of
from tracksets.reading import expand, open_tree, split_name
from tracksets.targets import Task, task_of

__all__ = ("Dataset", "read_dataset")


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
    """

    inputs: JaggedInputs
    targets: NDArray[Any]
    weights: NDArray[np.float64]
    task: Task


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


def read_dataset(config: Config, inputs: Inputs) -> Dataset:
    """Read the events of a configuration, in the order of classes, files and entries.

    Parameters
    ----------
    config
        Says which events, and what is true of them.
    inputs
        What to see of them.

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
    for source in _sources(config):
        n = 0
        for part, truth, weight in _read(source, inputs):
            parts.append(part)
            targets.append(truth)
            weights.append(weight)
            n += part.n_event
        if n == 0:
            cuts = " and ".join(f"'{cut}'" for cut in source.cuts) or "no cut"
            raise DataError(
                f"{source.name} has no events in {len(source.files)} file(s) with {cuts}"
            )
    regression = config.data.regression
    names = (regression.names or regression.targets) if regression else tuple(config.data.classes)
    values = np.concatenate(targets)
    task, values = task_of(values.astype(float) if regression else values, len(values), names)
    return Dataset(JaggedInputs.concatenate(parts), values, np.concatenate(weights), task)


def _sources(config: Config) -> Iterator[_Source]:
    data = config.data

    def files(names: tuple[str, ...] | None) -> list[str]:
        names = names or data.files or ()
        return expand([_relative_to(config.folder, name) for name in names])

    cuts = [data.select] if data.select else []
    if data.regression:
        targets = data.regression.targets
        yield _Source("regression", files(None), data.tree, data.weight, cuts, targets, 0)
    for i, (name, each) in enumerate(data.classes.items()):
        yield _Source(
            f"class {name}",
            files(each.files),
            each.tree or data.tree,
            each.weight or data.weight,
            [*cuts, *([each.where] if each.where else [])],
            (),
            i,
        )


def _relative_to(folder: str, name: str) -> str:
    path, _ = split_name(name)
    return name if "://" in path else str(FilePath(folder) / name)


def _read(
    source: _Source, inputs: Inputs
) -> Iterator[tuple[JaggedInputs, NDArray[Any], NDArray[np.float64]]]:
    per_event = [*source.cuts, *source.targets, *([source.weight] if source.weight else [])]
    for file in source.files:
        with open_tree(file, source.tree) as tree:
            paths = paths_of(inputs, tree.fields, *per_event)
            for start, stop in tree.chunks(paths):
                events = tree.read(paths, start, stop)
                chosen = np.ones(stop - start, bool)
                for cut in source.cuts:
                    chosen &= event_values(cut, Columns(events, tree.fields)).astype(bool)
                columns = Columns(events if chosen.all() else events[chosen], tree.fields)
                n = columns.n_event
                weight = np.ones(n)
                if source.weight:
                    weight = event_values(source.weight, columns).astype(np.float64)
                    if not np.isfinite(weight).all():
                        raise DataError(
                            f"weight '{source.weight}' in {tree.fields.where}: "
                            f"{int((~np.isfinite(weight)).sum())} event(s) have NaN or infinity"
                        )
                truth: NDArray[Any] = np.full(n, source.label, np.int64)
                if source.targets:
                    truth = np.stack(
                        [event_values(text, columns) for text in source.targets], axis=1
                    )
                yield jagged_inputs(columns, inputs, start), truth, weight
