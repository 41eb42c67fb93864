"""A ROOT file in; its trees, collections and branches, and a starting configuration, out."""

import json
from pathlib import Path

import awkward as ak
import numpy as np

from tracksets.atomic import appearing
from tracksets.branches import Branches, collections_of
from tracksets.errors import FileError
from tracksets.fields import column_of
from tracksets.reading import open_tree, open_trees, provenances
from tracksets.starting import starting_config
from tracksets.trees import Tree

__all__ = ("describe", "describe_scores", "inspect", "write_starting_config")


def describe(name: str, *more: str, count_nan: bool = False) -> str:
    """Describe a file in words, as `inspect` does, with a starting configuration at the end."""
    text, config = inspect(name, *more, count_nan=count_nan)
    return f"{text}\n\n# A train.toml to start from:\n\n{config}" if config else text


def inspect(
    name: str, *more: str, count_nan: bool = False, folder: Path = Path()
) -> tuple[str, str]:
    """Describe a file in words: trees, collections, branches, types and multiplicities.

    Parameters
    ----------
    name
        `file.root`, `file.root:Events` or `file.parquet`.
    more
        Files of further classes: their number of events, and what they have more or less.
    count_nan
        Whether to read every branch and say how many values are NaN or infinite.
    folder
        Where the configuration will be: files below it are named relative to it.

    Returns
    -------
    description, config
        The description, and a configuration to start from, as TOML: empty without a collection.

    Raises
    ------
    FileError
        If there is no such file or tree, or it is not a ROOT file.
    """
    lines = [f"labelled: {each.describe()}" for each in provenances(name)]
    config = ""
    for tree in open_trees(name):
        groups = collections_of(tree)
        lines.append(f"{tree.path}: tree {tree.name}, {tree.n_event:,} events")
        for group in groups:
            if not group.types:
                continue
            if not group.usable:
                lines.append("  not one number per track or event, cannot be used:")
            elif group.name:
                lines.append(
                    f"  collection {group.name}: {group.mean:.1f} per event, at most {group.largest}"
                )
            else:
                lines.append("  one number per event:")
            width = max(map(len, group.types))
            bad = _not_finite(tree, group) if count_nan and group.usable else {}
            for branch, kind in group.types.items():
                note = f"  ({bad[branch]:,} NaN or infinite)" if bad.get(branch) else ""
                lines.append(f"    {branch:{width}}  {kind}{note}")
        if not config and len(groups) > 1:
            config = starting_config(tree, groups, [name, *more], folder)
            have = set(map(".".join, tree.fields.paths))
            for each in more:
                lines += _differences(each, tree.name, have)
    return "\n".join(lines), config


def write_starting_config(
    output: Path, *names: str, count_nan: bool = False, force: bool = False
) -> str:
    """Describe files as `inspect` does, and write the configuration to start from.

    Raises
    ------
    FileError
        If `output` exists, unless `force`, or no tree has a collection.
    """
    text, config = inspect(*names, count_nan=count_nan, folder=output.parent)
    if not config:
        raise FileError(f"{names[0]} has no tree with a collection, for {output} to start from")
    with appearing(output, force=force) as temporary:
        temporary.write_text(config, encoding="utf-8")
    return text


def describe_scores(name: str) -> str:
    """Print as JSON what a labelled file says of its scores, by field.

    Parameters
    ----------
    name
        `file.root` or `file.parquet`.

    Raises
    ------
    FileError
        If there is no such file, or it is not a ROOT or Parquet file, or `tracksets` has not
        labelled it.
    """
    found = {each.field: each.model_dump(mode="json") for each in provenances(name)}
    if not found:
        raise FileError(f"{name} does not say where scores in it come from: not by tracksets")
    return json.dumps(found, indent=2)


def _not_finite(tree: Tree, group: Branches) -> dict[str, int]:
    """Count the values of each branch that are NaN or infinite, a chunk at a time."""
    paths = [path for path in tree.fields.paths if ".".join(path) in group.types]
    counts = dict.fromkeys(group.types, 0)
    for start, stop in tree.chunks(paths):
        events = tree.read(paths, start, stop)
        for path in paths:
            values = ak.to_numpy(ak.flatten(column_of(events, path), axis=None))
            counts[".".join(path)] += int(np.count_nonzero(~np.isfinite(values)))
    return counts


def _differences(name: str, tree: str, have: set[str]) -> list[str]:
    """Say what a file has more or less than one with these branches."""
    with open_tree(name, tree) as other:
        here = set(map(".".join, other.fields.paths))
        lines = [f"{other.path}: tree {other.name}, {other.n_event:,} events"]
    for what, names in (("without", have - here), ("also with", here - have)):
        if names:
            lines.append(f"  {what}: {', '.join(sorted(names))}")
    return lines if len(lines) > 1 else [f"{lines[0]}, the same branches"]
