"""An open tree in, a configuration for a first training out."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

import awkward as ak
import numpy as np

from tracksets.branches import SAMPLE_EVENTS, Branches
from tracksets.fields import column_of
from tracksets.filenames import is_remote, split_name
from tracksets.trees import Tree

__all__ = ("starting_config",)

_LARGE = 1e6
_SCALARS = {"pt", "mass", "energy", "e", "et"}
_ANGLES = {"phi"}
_CARTESIAN = {"px", "py", "pz"}
_BLOCKS_PER_EPOCH = 50


def starting_config(tree: Tree, groups: list[Branches], files: Sequence[str], folder: Path) -> str:
    """Write a `train.toml` to start from, for the largest collection of the tree.

    It works as it stands; the other collections are there as comments. Of several files, each is
    a class, the last one the signal. Of one, the target is a branch that looks like a truth, or
    else an event-level number to regress on, to be replaced.

    Parameters
    ----------
    tree
        The first of the files.
    groups
        Its branches.
    files
        Names of all.
    folder
        Where the configuration will be.
    """
    events = groups[0]
    jagged = [each for each in groups[1:] if each.usable and each.mean > 0]
    lines = ["[data]", f'tree = "{tree.name}"']
    truth, values = _truth(tree, events)
    if len(files) == 1:
        lines.append(f"files = [{_quoted(_seen_from(folder, tree.path))}]")
    if len(files) > 1:
        names = _class_names(files)
        for name, file in zip(names, files, strict=True):
            path = _seen_from(folder, split_name(file)[0])
            note = "  # the last class is the signal of the score" * (name == names[-1])
            lines += ["", f"[data.classes.{name}]{note}", f"files = [{_quoted(path)}]"]
    elif values:
        for value in values:
            lines += [
                "",
                f"[data.classes.{truth}_{value}]".replace("-", "minus_"),
                f'where = "{truth} == {value}"',
            ]
    else:
        lines += ["", "[data.regression]", f'targets = ["{truth}"]']
    jagged.sort(key=lambda group: -group.mean)
    if jagged:
        lines += ["", *_collection(tree, jagged[0])]
    for each in jagged[1:]:
        lines += ["", *(f"# {line}" for line in _collection(tree, each))]
    lines += ["", "[model]", "phi = [128, 128, 128]", "rho = [128, 128]", 'pool = ["sum"]']
    lines += ["", "[training]", "epochs = 30", "seed = 1"]
    if jagged:
        n_track = jagged[0].mean * tree.n_event * len(files)
        lines.append(f"block_tracks = {_block_tracks(n_track)}  # the batch size, in tracks")
    return "\n".join(lines) + "\n"


def _collection(tree: Tree, group: Branches) -> list[str]:
    """Write the table of a collection."""
    features = ", ".join(f'"{name}"' for name in _features(tree, group))
    lines = [f"[inputs.collections.{group.name}]", f"features = [{features}]"]
    bare = group.name + "_"
    if not all(name.startswith((bare, group.name + ".")) for name in group.types):
        lines.append('prefix = ""')
    return lines


def _block_tracks(n_track: float) -> int:
    """Choose a power of two that gives small files some steps per epoch, too."""
    exponent = round(math.log2(max(n_track / _BLOCKS_PER_EPOCH, 1)))
    return 1 << min(max(exponent, 8), 14)


def _quoted(text: str) -> str:
    """Write a TOML string; JSON's are such."""
    return json.dumps(text, ensure_ascii=False)


def _class_names(files: Sequence[str]) -> list[str]:
    """Name classes after files, and number those that would be called the same."""
    stems = [re.sub(r"[^\w-]", "_", PurePath(split_name(file)[0]).stem) for file in files]
    return [
        stem if stems.count(stem) == 1 else f"{stem}_{i}" for i, stem in enumerate(stems, start=1)
    ]


def _seen_from(folder: Path, path: str) -> str:
    """Name a file relative to a folder that it is below, so that both can be moved together."""
    if is_remote(path):
        return path
    file, folder = Path(path).resolve(), folder.resolve()
    return (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()


def _features(tree: Tree, group: Branches) -> list[str]:
    """Choose what to see of the tracks, by names and by the values in the first events."""
    paths = [path for path in tree.fields.paths if ".".join(path) in group.types]
    sample = tree.read(paths, 0, min(tree.n_event, SAMPLE_EVENTS))
    flat = {".".join(path): ak.flatten(column_of(sample, path), axis=None) for path in paths}
    largest = {
        name: np.abs(np.asarray(values, float)).max(initial=0) for name, values in flat.items()
    }
    names = {branch: _bare(branch, group.name) for branch in group.types}
    lower = {name.lower() for name in names.values()}
    cartesian = lower >= _CARTESIAN and "pt" not in lower
    features = []
    if cartesian:  # what is computed from the components says more than they do
        features += ["log(max(pt, 1e-6))", "eta", "cos(phi)", "sin(phi)"]
    for branch, kind in group.types.items():
        name = names[branch]
        if kind.count("*") > 1 or not np.isfinite(largest[branch]):
            continue
        if cartesian and name.lower() in _CARTESIAN:
            continue
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


def _bare(branch: str, collection: str) -> str:
    """Take the collection's name off that of a branch."""
    for separator in (".", "_"):
        branch = branch.removeprefix(collection + separator)
    return branch


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
        sample = np.asarray(tree.read([(name,)], 0, min(tree.n_event, 10 * SAMPLE_EVENTS))[name])
        values = np.unique(sample)
        if 2 <= len(values) <= 10:
            return name, [int(each) for each in values]
    floats = [name for name in names if "float" in events.types[name]]
    return (floats or names or ["1"])[0], []
