"""Scores of a tree in, a file out: as a branch of the same tree, or as a friend tree.

uproot's `add_branches` is never used: it corrupts trees with jagged branches.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import Any, Literal

import awkward as ak
import uproot

from tracksets.errors import FileError, TracksetsError
from tracksets.feeds import Digest, Feed
from tracksets.filenames import is_remote
from tracksets.parquet import new_parquet
from tracksets.pyroot import add_branches, has_root
from tracksets.reading import RootTree, leaves_of, open_tree
from tracksets.rewriting import name_in_root, rewrite
from tracksets.trees import Tree

__all__ = ("Format", "write_append", "write_branch", "write_friend")

Format = Literal["root", "rntuple", "parquet"]


def write_branch(
    tree: Tree,
    output: FilePath,
    scores: Feed,
    *,
    target: Format | None = None,
    notes: Mapping[str, str] | None = None,
    force: bool = False,
) -> None:
    """Write the whole input with the scores as further branches of the tree.

    A TTree that stays one gets them from ROOT: the file is copied byte for byte and the branches
    are added to the tree in the copy, so that all other branches, trees and objects stay as they
    are. Without ROOT, and for other formats, everything is written anew, where that is possible.

    Parameters
    ----------
    tree
        The open input.
    output
        Where to; overwritten.
    scores
        float32, one column per branch, n_event values.
    target
        The format of the new tree; that of the input if it is not said.
    notes
        Texts to leave in the file, by name.
    force
        Whether branches of these names are replaced.

    Raises
    ------
    FileError
        If a branch of that name exists, or something in the file cannot be written.
    """
    target = target or tree.format  # type: ignore[assignment]  # which has no other values
    notes = notes or {}
    existing = _existing(tree, scores.types)
    if existing and not force:
        raise FileError(
            f"{tree.path}, tree {tree.name} has a branch {existing[0]!r} already; choose another "
            "name with --field, or replace it with --force"
        )
    if not _is_newest(tree):
        raise FileError(
            f"{tree.path}: {tree.name} is not the newest cycle of this tree, the one that gets a "
            f"branch; leave out the number, or use --mode append or --mode friend"
        )
    with _writing(tree, output):
        if tree.format == target == "root" and has_root():
            _copy(tree, output)
            add_branches(output, tree.name, scores, existing, notes)
        else:
            rewrite(tree, output, scores, notes, str(target), _advice(tree, str(target)))
    _verify(tree, output, None if target == "parquet" else name_in_root(tree), scores)


def write_append(
    tree: Tree,
    output: FilePath,
    scores: Feed,
    name: str,
    *,
    target: Format | None = None,
    notes: Mapping[str, str] | None = None,
    force: bool = False,
) -> None:
    """Write a byte-for-byte copy of the input file plus a friend tree of scores.

    Parameters
    ----------
    tree, output, scores, notes
        As in `write_branch`.
    name
        Of the new tree.
    target
        The format of the new tree, `root` or `rntuple`; that of the input if it is not said.
    force
        Whether an object of that name is allowed to be there; the new tree is its next cycle.

    Raises
    ------
    FileError
        If an object of that name exists, or the input is a Parquet file.
    """
    if not isinstance(tree, RootTree):
        raise FileError(
            f"{tree.path} is a Parquet file, to which no tree can be appended; use --mode branch "
            "or --mode friend"
        )
    with _writing(tree, output):
        _copy(tree, output)
        with uproot.update(output) as file:
            if name in {key.split(";")[0] for key in file.keys(recursive=True)} and not force:
                raise FileError(
                    f"{tree.path} has an object {name!r} already; choose another name with --field"
                )
            _fill(file, name, scores, target or tree.format)
            for key, text in (notes or {}).items():
                file[key] = text
    _verify(tree, output, name, scores)


def write_friend(
    tree: Tree,
    output: FilePath,
    columns: Feed,
    name: str,
    *,
    target: Format | None = None,
    notes: Mapping[str, str] | None = None,
    every: bool = True,
) -> None:
    """Write a file with scores and event identifiers only, in the order of the input.

    Parameters
    ----------
    tree, output, target, notes
        As in `write_branch`.
    columns
        What says which event it is, and the scores.
    name
        Of the new tree.
    every
        Whether there is one row per event, or only some events have one.
    """
    target = target or tree.format  # type: ignore[assignment]  # which has no other values
    with _writing(tree, output):
        if target == "parquet":
            with new_parquet(output, notes or {}) as extend:
                extend(columns.take(0))
                for chunk in columns:
                    extend(chunk)
        else:
            with uproot.recreate(output) as file:
                _fill(file, name, columns, str(target))
                for key, text in (notes or {}).items():
                    file[key] = text
    _verify(tree, output, None, columns, every)


def _fill(file: Any, name: str, columns: Feed, target: str) -> None:
    """Write a new TTree or RNTuple of numbers."""
    make = file.mkrntuple if target == "rntuple" else file.mktree
    made = make(name, columns.types)
    for chunk in columns:
        if len(next(iter(chunk.values()))):
            made.extend(chunk)


def _advice(tree: Tree, target: str) -> str:
    """Say what to do about a column that cannot be copied."""
    if not isinstance(tree, RootTree):
        return "Use --mode friend"
    advice = "Use --mode append or --mode friend"
    if tree.format == target == "root":
        advice += ", or install ROOT: pip install 'tracksets[root]'"
    return advice


def _is_newest(tree: Tree) -> bool:
    name, _, cycle = tree.name.partition(";")
    if not cycle or not isinstance(tree, RootTree):
        return True
    keys = tree.source.file.root_directory.keys(recursive=True)
    return all(int(key.split(";")[1]) <= int(cycle) for key in keys if key.split(";")[0] == name)


def _existing(tree: Tree, names: Iterable[str]) -> list[str]:
    """List which names are branches already; refuse those that can't be replaced."""
    if not isinstance(tree, RootTree) or tree.is_rntuple:
        tops = {path[0]: path for path in tree.fields.paths}
        existing = [name for name in names if name in tops]
        for name in existing:
            if len(tops[name]) > 1:
                raise _depended_on(tree, name)
        return existing
    branches = {branch.name: branch for branch in tree.source.branches}
    everywhere = {branch.name for branch in tree.source.itervalues(recursive=True)}
    leaves = leaves_of(tree.source).values()
    counters = {leaf.count_branch.name for leaf in leaves if leaf.count_branch is not None}
    existing = [name for name in names if name in everywhere]
    for name in existing:
        if name in counters or name not in branches or len(branches[name].branches):
            raise _depended_on(tree, name)
    return existing


def _depended_on(tree: Tree, name: str) -> FileError:
    return FileError(
        f"{tree.path}, tree {tree.name} has a branch {name!r} that other branches depend on; "
        "choose another name with --field"
    )


@contextmanager
def _writing(tree: Tree, output: FilePath) -> Iterator[None]:
    try:
        yield
    except TracksetsError:
        raise
    except Exception as error:  # uproot and ROOT raise anything
        raise FileError(
            f"cannot write the labelled copy of {tree.path} to {output.parent}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _copy(tree: Tree, output: FilePath) -> None:
    """Copy the input byte for byte."""
    if not is_remote(tree.path):
        shutil.copyfile(tree.path, output)
        return
    import fsspec

    with fsspec.open(tree.path) as source, output.open("wb") as target:
        shutil.copyfileobj(source, target)


def _verify(
    tree: Tree,
    output: FilePath,
    name: str | None,
    scores: Feed,
    every: bool = True,
) -> None:
    """Read the scores back: a full disk or a failed write must not pass for an output."""
    for _ in scores:  # there must be none left
        pass
    expected = tree.n_event if every else scores.digest.n_event
    problem = ""
    if scores.digest.n_event != expected:
        problem = f"{scores.digest.n_event} scores for {expected} events"
    try:
        with open_tree(output, name) as written:
            paths = [(key,) for key in scores.types]
            if written.n_event != expected:
                problem = problem or f"{written.n_event} events instead of {expected}"
            else:
                back = Digest(scores.types)
                for start, stop in written.chunks(paths):
                    events = written.read(paths, start, stop)
                    back.update({key: ak.to_numpy(events[key]) for key in scores.types})
                for key in back.different(scores.digest)[:1]:
                    problem = problem or f"the values of {key} differ"
    except FileError as error:
        problem = problem or str(error)
    if problem:
        raise FileError(f"the labelled copy of {tree.path} was not written correctly: {problem}")
