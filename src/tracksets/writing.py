"""Scores of a tree in, a ROOT file out: as a branch of the same tree, or as a friend tree.

This and `reading.py` are the only modules that touch ROOT files. uproot's `add_branches` is never
used: it corrupts trees with jagged branches.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path as FilePath
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from tracksets.errors import DataError, FileError, TracksetsError
from tracksets.reading import RootTree, is_remote, leaves_of, open_tree, root_trees, trees_of

__all__ = ("has_root", "write_append", "write_branch", "write_friend")

Scores = Mapping[str, NDArray[np.float32]]

_FILL = """
namespace tracksets {
Long64_t fill_branch(TTree *tree, const char *name, const float *values, Long64_t n) {
  float value = 0;
  TBranch *branch = tree->Branch(name, &value, (std::string(name) + "/F").c_str());
  for (Long64_t i = 0; i < n; ++i) {
    value = values[i];
    if (branch->Fill() < 0) return -1;
  }
  tree->ResetBranchAddress(branch);
  return branch->GetEntries();
}
void drop_branch(TTree *tree, const char *name) {
  TBranch *branch = tree->GetBranch(name);
  TObjArray *leaves = branch->GetListOfLeaves();
  for (int i = 0; i < leaves->GetEntriesFast(); ++i) tree->GetListOfLeaves()->Remove(leaves->At(i));
  tree->GetListOfLeaves()->Compress();
  tree->GetListOfBranches()->Remove(branch);
  tree->GetListOfBranches()->Compress();
}
}
"""


@cache
def has_root() -> bool:
    """Whether ROOT's Python module can be imported."""
    try:
        _root()
    except ImportError:
        return False
    return True


@cache
def _root() -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "in alpha stage"
        import ROOT
    ROOT.gROOT.SetBatch(True)
    ROOT.gInterpreter.Declare(_FILL)
    return ROOT


@contextmanager
def _quiet(root: Any) -> Iterator[None]:
    """Silence ROOT's own messages; what matters is checked, and reported with the file's name."""
    level = root.gErrorIgnoreLevel
    root.gErrorIgnoreLevel = root.kFatal
    try:
        yield
    finally:
        root.gErrorIgnoreLevel = level


def write_branch(tree: RootTree, output: FilePath, scores: Scores, *, force: bool = False) -> None:
    """Write the whole input file with the scores as further branches of the tree.

    With ROOT, the file is copied byte for byte and the branches are added to the tree in the copy:
    all other branches, trees and objects stay as they are. Without it, uproot writes everything
    anew, where it can.

    Parameters
    ----------
    tree
        The open input.
    output
        Where to; overwritten.
    scores
        By name of the branch, shape (n_event,).
    force
        Whether branches of these names are replaced.

    Raises
    ------
    FileError
        If a branch of that name exists, or something in the file cannot be written.
    """
    _check(tree, scores)
    if not _is_newest(tree):
        raise FileError(
            f"{tree.path}: {tree.name} is not the newest cycle of this tree, the one that gets a "
            f"branch; leave out the number, or use --mode append or --mode friend"
        )
    if tree.is_rntuple:
        raise FileError(
            f"{tree.path}: {tree.name} is an RNTuple, to which no branch can be added; use "
            "--mode append or --mode friend"
        )
    existing = _existing(tree, scores)
    if existing and not force:
        raise FileError(
            f"{tree.path}, tree {tree.name} has a branch {existing[0]!r} already; choose another "
            "name with --field, or replace it with --force"
        )
    if has_root():
        _branch_by_root(tree, output, scores, existing)
    else:
        _branch_by_uproot(tree, output, scores)
    _verify(tree, output, tree.name.split(";")[0], scores)


def write_append(
    tree: RootTree, output: FilePath, scores: Scores, name: str, *, force: bool = False
) -> None:
    """Write a byte-for-byte copy of the input file plus a friend tree of scores.

    Parameters
    ----------
    tree, output, scores
        As in `write_branch`.
    name
        Of the new tree.
    force
        Whether an object of that name is allowed to be there; the new tree is its next cycle.

    Raises
    ------
    FileError
        If an object of that name exists.
    """
    _check(tree, scores)
    with _writing(tree, output):
        _copy(tree, output)
    with _writing(tree, output), uproot.update(output) as file:
        if name in {key.split(";")[0] for key in file.keys(recursive=True)} and not force:
            raise FileError(
                f"{tree.path} has an object {name!r} already; choose another name with --field"
            )
        file.mktree(name, {key: values.dtype for key, values in scores.items()})
        if tree.n_event:
            file[name].extend(dict(scores))
    _verify(tree, output, name, scores)


def write_friend(
    tree: RootTree,
    output: FilePath,
    scores: Scores,
    name: str,
    identifiers: Mapping[str, NDArray[Any]],
) -> None:
    """Write a file with scores and event identifiers only, in the order of the input.

    Parameters
    ----------
    tree, output, scores
        As in `write_branch`.
    name
        Of the new tree.
    identifiers
        By name: columns that say which event it is, shape (n_event,).
    """
    _check(tree, scores)
    for key in scores:
        if key in identifiers:
            raise FileError(
                f"{tree.path} has {key!r} as an identifier of events, which goes with the scores; "
                "choose another name with --field"
            )
    columns = {**identifiers, **scores}
    with _writing(tree, output), uproot.recreate(output) as file:
        file.mktree(name, {key: values.dtype for key, values in columns.items()})
        if tree.n_event:
            file[name].extend(columns)
    _verify(tree, output, name, scores)


def _check(tree: RootTree, scores: Scores) -> None:
    for name, values in scores.items():
        if values.shape != (tree.n_event,):
            raise DataError(f"{values.shape} values of {name} for {tree.n_event} events")


def _is_newest(tree: RootTree) -> bool:
    name, _, cycle = tree.name.partition(";")
    keys = tree.source.file.root_directory.keys(recursive=True) if cycle else []
    return all(int(key.split(";")[1]) <= int(cycle) for key in keys if key.split(";")[0] == name)


def _existing(tree: RootTree, names: Iterable[str]) -> list[str]:
    """List which names are branches already; refuse those that can't be replaced."""
    tops = {branch.name: branch for branch in tree.source.branches}
    everywhere = {branch.name for branch in tree.source.itervalues(recursive=True)}
    leaves = leaves_of(tree.source).values()
    counters = {leaf.count_branch.name for leaf in leaves if leaf.count_branch is not None}
    existing = [name for name in names if name in everywhere]
    for name in existing:
        if name in counters or name not in tops or len(tops[name].branches):
            raise FileError(
                f"{tree.path}, tree {tree.name} has a branch {name!r} that other branches depend "
                "on; choose another name with --field"
            )
    return existing


@contextmanager
def _writing(tree: RootTree, output: FilePath) -> Iterator[None]:
    try:
        yield
    except TracksetsError:
        raise
    except Exception as error:  # uproot and ROOT raise anything
        raise FileError(
            f"cannot write the labelled copy of {tree.path} to {output.parent}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _copy(tree: RootTree, output: FilePath) -> None:
    """Copy the input byte for byte."""
    if not is_remote(tree.path):
        shutil.copyfile(tree.path, output)
        return
    import fsspec

    with fsspec.open(tree.path) as source, output.open("wb") as target:
        shutil.copyfileobj(source, target)


def _verify(tree: RootTree, output: FilePath, name: str, scores: Scores) -> None:
    """Read the scores back: a full disk or a failed write must not pass for an output."""
    problem = ""
    try:
        with open_tree(output, name) as written:
            back = written.read([(key,) for key in scores])
            if written.n_event != tree.n_event:
                problem = f"{written.n_event} events instead of {tree.n_event}"
            for key, values in scores.items():
                if not np.array_equal(ak.to_numpy(back[key]), values, equal_nan=True):
                    problem = f"the values of {key} differ"
    except FileError as error:
        problem = str(error)
    if problem:
        raise FileError(f"the labelled copy of {tree.path} was not written correctly: {problem}")


def _branch_by_root(tree: RootTree, output: FilePath, scores: Scores, existing: list[str]) -> None:
    root = _root()
    if {"#", "?"} & set(str(output)):
        raise FileError(f"{output.parent}: ROOT cannot write to a path with # or ? in it")
    with _writing(tree, output), _quiet(root):
        _copy(tree, output)
        file = root.TFile.Open(str(output), "UPDATE")
        try:
            target = file.Get(tree.name)
            for name in existing:
                root.tracksets.drop_branch(target, name)
            for name, values in scores.items():
                # An empty array has no address to give.
                buffer = np.ascontiguousarray(values) if len(values) else np.zeros(1, np.float32)
                filled = root.tracksets.fill_branch(target, name, buffer, len(values))
                if filled != tree.n_event:
                    raise FileError(
                        f"ROOT wrote {filled} of {tree.n_event} values of {name} for {tree.path}; "
                        "is the disk full?"
                    )
            target.GetDirectory().cd()
            if not target.Write("", root.TObject.kOverwrite):
                raise FileError(f"ROOT could not write the tree of {tree.path}; is the disk full?")
        finally:
            file.Close()


def _branch_by_uproot(tree: RootTree, output: FilePath, scores: Scores) -> None:
    with (
        uproot.open({tree.path: None}) as source,
        _writing(tree, output),
        uproot.recreate(output) as file,
    ):
        trees = trees_of(source)
        copies: dict[str, Any] = {}
        refused: list[str] = []
        for key, kind in source.classnames(recursive=True, cycle=False).items():
            if key in trees:
                refused += [f"{key}/{each}" for each in _unwritable(source[key])]
            elif not kind.startswith("TDirectory"):
                try:
                    copies[key] = uproot.to_writable(source[key])
                except Exception:  # noqa: BLE001  # whatever uproot says of objects it can't write
                    refused.append(f"{key} ({kind})")
        if refused:
            more = f" and {len(refused) - 10} more" if len(refused) > 10 else ""
            raise FileError(
                f"{tree.path}: uproot cannot write {', '.join(refused[:10])}{more}. Use --mode "
                "append or --mode friend, or install ROOT: pip install 'tracksets[root]'"
            )
        for key, each in copies.items():
            file[key] = each
        for each in root_trees(tree.path):
            _copy_tree(each, file, scores if each.name == tree.name.split(";")[0] else {})
    for each in root_trees(tree.path):
        _verify_copy(each, output, scores)


def _verify_copy(tree: RootTree, output: FilePath, scores: Scores) -> None:
    """Compare what uproot wrote with the input; it has written wrong counts without an error."""
    paths = [path for path in tree.fields.paths if path[0] not in scores]
    with open_tree(output, tree.name) as copy:
        for start, stop in tree.chunks(paths):
            old, new = tree.read(paths, start, stop), copy.read(paths, start, stop)
            for name in old.fields:
                # Only types may differ: counters become int32, vectors arrays.
                same = {"equal_nan": True, "dtype_exact": False, "same_content_types": False}
                if not ak.array_equal(old[name], new[name], **same):
                    raise FileError(
                        f"{tree.path}: uproot did not copy {tree.name}/{name} correctly. Use --mode "
                        "append or --mode friend, or install ROOT: pip install 'tracksets[root]'"
                    )


def _unwritable(source: Any) -> list[str]:
    """List the branches that uproot cannot write into a TTree, with their types."""
    if not isinstance(source, uproot.TTree):
        return [f"* ({type(source).__name__})"]
    refused = []
    leaves = leaves_of(source)
    names = Counter(branch.name for branch in leaves.values())
    for name, branch in leaves.items():
        try:
            kind = branch.array(entry_stop=0).type.content
        except Exception:  # noqa: BLE001  # objects that uproot can't read raise anything
            kind = None
        # Of two parts with the same name, as in muon/pt and jet/pt, only one would be left.
        if not _is_writable(kind) or names[branch.name] > 1:
            refused.append(f"{name} ({branch.typename})")
    return refused


def _is_writable(kind: Any) -> bool:
    """Whether it is a number or a list of numbers, or has fixed dimensions but is not jagged."""
    if isinstance(kind, ak.types.ListType) and not kind.parameters:
        # uproot writes `var * 3 * float32` with wrong counts.
        kind = None if isinstance(kind.content, ak.types.RegularType) else kind.content
    while isinstance(kind, ak.types.RegularType) and not kind.parameters:
        kind = kind.content
    return (
        isinstance(kind, ak.types.NumpyType)
        and not kind.parameters
        and kind.primitive
        in (
            "bool",
            "int8",
            "uint8",
            "int16",
            "uint16",
            "int32",
            "uint32",
            "int64",
            "uint64",
            "float32",
            "float64",
        )
    )


def _copy_tree(tree: RootTree, file: Any, scores: Scores) -> None:
    """Write a TTree anew, a chunk at a time, with its counters shared as they were."""
    branches = {branch.name: branch for branch in leaves_of(tree.source).values()}
    counter: dict[str, str] = {
        name: branch.count_branch.name
        for name, branch in branches.items()
        if branch.count_branch is not None and name not in scores
    }
    kept = [name for name in branches if name not in counter.values() and name not in scores]
    paths = [(name,) for name in kept]
    empty = tree.read(paths, 0, 0)
    types = {name: empty[name].type.content for name in kept}

    def counter_name(name: str) -> str:
        new = f"n{name}"
        while new in branches or new in scores:  # a vector `Jet` beside a number `nJet`
            new += "_"
        return counter.get(name, new)

    target = file.mktree(
        tree.name,
        {**types, **{name: np.dtype("f4") for name in scores}},
        title=tree.source.title,
        counter_name=counter_name,
    )
    for start, stop in tree.chunks(paths):
        part = tree.read(paths, start, stop)
        target.extend(
            {
                **{name: part[name] for name in kept},
                **{name: values[start:stop] for name, values in scores.items()},
            }
        )
