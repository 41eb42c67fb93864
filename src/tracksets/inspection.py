"""A ROOT file in; its trees, collections and branches, and a starting configuration, out."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from tracksets.errors import FileError
from tracksets.fields import column_of
from tracksets.filenames import is_remote
from tracksets.reading import Tree, open_trees, provenances

__all__ = ("Branches", "collections_of", "describe", "describe_scores", "starting_config")

_SAMPLE_EVENTS = 10_000
_LARGE = 1e6
_SCALARS = {"pt", "mass", "energy", "e", "et"}
_ANGLES = {"phi"}


@dataclass(frozen=True)
class Branches:
    """Branches that belong together.

    Attributes
    ----------
    name
        Of the collection; empty for event-level branches.
    types
        By branch, as awkward says it.
    mean, largest
        Tracks per event in the first events; 1 for event-level branches.
    usable
        Whether they hold one number per track or event.
    """

    name: str
    types: dict[str, str]
    mean: float = 1.0
    largest: int = 1
    usable: bool = True


def collections_of(tree: Tree) -> list[Branches]:
    """Group the branches of a tree: event-level ones, collections, and those that don't fit.

    Parameters
    ----------
    tree
        An open tree; multiplicities are those of its first 10,000 events.
    """
    kinds = tree.types()
    groups: dict[str, dict[str, str]] = {"": {}}
    odd: dict[str, str] = {}
    for path in tree.fields.paths:
        kind = kinds.get(path)
        name = ".".join(path)
        shown = "unreadable" if kind is None else str(kind)
        if _is_number(kind):
            groups[""][name] = shown
        elif isinstance(kind, ak.types.ListType) and _is_number(kind.content):
            groups.setdefault(_group(path), {})[name] = shown
        else:
            odd[name] = shown
    found = [Branches("", groups.pop(""))]
    for group, types in groups.items():
        path = next(each for each in tree.fields.paths if ".".join(each) in types)
        sample = tree.read([path], 0, min(tree.n_event, _SAMPLE_EVENTS))
        column = column_of(sample, path)
        counts = np.asarray(ak.num(column, axis=1)) if len(column) else np.zeros(1)
        found.append(Branches(group, types, float(counts.mean()), int(counts.max(initial=0))))
    if odd:
        found.append(Branches("other", odd, usable=False))
    return found


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


def _is_number(kind: Any) -> bool:
    while isinstance(kind, ak.types.RegularType) and not kind.parameters:
        kind = kind.content
    return isinstance(kind, ak.types.NumpyType) and not kind.parameters


def _group(path: tuple[str, ...]) -> str:
    """Name the collection: the part of the name that its branches share."""
    if len(path) > 1:
        return path[0]
    for separator in (".", "_"):
        head, found, _ = path[0].partition(separator)
        if found and head:
            return head
    return path[0]


def starting_config(tree: Tree, groups: list[Branches]) -> str:
    """Write a `train.toml` to start from, for the largest collection of the tree.

    It works as it stands: the target is a branch that looks like a truth, or else an event-level
    number to regress on, to be replaced.
    """
    events = groups[0]
    jagged = [each for each in groups[1:] if each.usable and each.mean > 0]
    lines = ["[data]", f'tree = "{tree.name}"', f'files = ["{_absolute(tree.path)}"]']
    truth, values = _truth(tree, events)
    if values:
        for value in values:
            lines += [
                f"[data.classes.{truth}_{value}]".replace("-", "minus_"),
                f'where = "{truth} == {value}"',
            ]
    else:
        lines += ["[data.regression]", f'targets = ["{truth}"]']
    lines.append("")
    for each in sorted(jagged, key=lambda group: -group.mean)[:1]:
        features = _features(tree, each)
        lines += [
            f"[inputs.collections.{each.name}]",
            "features = [" + ", ".join(f'"{name}"' for name in features) + "]",
        ]
        bare = each.name + "_"
        if not all(name.startswith((bare, each.name + ".")) for name in each.types):
            lines.append('prefix = ""')
    lines += ["", "[model]", "phi = [128, 128, 128]", "rho = [128, 128]", 'pool = ["sum"]']
    lines += ["", "[training]", "epochs = 30", "seed = 1"]
    return "\n".join(lines) + "\n"


def _absolute(path: str) -> str:
    """The configuration may be saved in any folder."""
    return path if is_remote(path) else str(Path(path).resolve())


def _features(tree: Tree, group: Branches) -> list[str]:
    """Choose what to see of the tracks, by names and by the values in the first events."""
    paths = [path for path in tree.fields.paths if ".".join(path) in group.types]
    sample = tree.read(paths, 0, min(tree.n_event, _SAMPLE_EVENTS))
    flat = {".".join(path): ak.flatten(column_of(sample, path), axis=None) for path in paths}
    largest = {
        name: np.abs(np.asarray(values, float)).max(initial=0) for name, values in flat.items()
    }
    features = []
    for branch, kind in group.types.items():
        if kind.count("*") > 1 or not np.isfinite(largest[branch]):
            continue
        name = branch
        for separator in (".", "_"):
            name = name.removeprefix(group.name + separator)
        if f"{branch}_err" in group.types:
            features.append(f"clip({name}/{name}_err, -30, 30)")
        elif name.endswith("_err") and branch.removesuffix("_err") in group.types:
            continue
        elif name.lower() in _SCALARS:
            features.append(f"log(max({name}, 1e-6))")
        elif name.lower() in _ANGLES:
            features += [f"cos({name})", f"sin({name})"]
        elif largest[branch] > _LARGE:  # more than float32 holds exactly, or just very spread
            features.append(f"sign({name}) * log1p(abs({name}))")
        else:
            features.append(name)
    return features


def _truth(tree: Tree, events: Branches) -> tuple[str, list[int]]:
    """Find a branch with a handful of integer values, or else a number that varies."""
    likely = ("label", "target", "signal", "truth", "class", "is_", "isS", "is")
    names = sorted(
        (name for name, kind in events.types.items() if "*" not in kind),
        key=lambda name: next((i for i, each in enumerate(likely) if each in name), len(likely)),
    )
    for name in names:
        kind = events.types[name]
        if "int" not in kind and kind != "bool":
            continue
        if not any(each in name for each in likely):
            break
        sample = np.asarray(tree.read([(name,)], 0, min(tree.n_event, 10 * _SAMPLE_EVENTS))[name])
        values = np.unique(sample)
        if 2 <= len(values) <= 10:
            return name, [int(each) for each in values]
    floats = [name for name in names if "float" in events.types[name]]
    return (floats or names or ["1"])[0], []


def describe(name: str, *, count_nan: bool = False) -> str:
    """Describe a file in words: trees, collections, branches, types and multiplicities.

    Parameters
    ----------
    name
        `file.root`, `file.root:Events` or `file.parquet`.
    count_nan
        Whether to read every branch and say how many values are NaN or infinite.

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
            config = starting_config(tree, groups)
    if config:
        lines += ["", "# A train.toml to start from:", "", config]
    return "\n".join(lines)


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
