"""File names in, awkward arrays of the wanted branches out, a chunk of events at a time.

This and `writing.py` are the only modules that touch ROOT files.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import awkward as ak
import uproot

from tracksets.errors import DataError, FileError, MissingExtraError, near_misses
from tracksets.fields import Fields, Path
from tracksets.filenames import is_remote, no_such_file, split_name
from tracksets.parquet import is_parquet, notes_of, open_parquet
from tracksets.provenance import PREFIX, Provenance
from tracksets.trees import CHUNK_EVENTS, Tree, reason_of

__all__ = (
    "CHUNK_EVENTS",
    "RootTree",
    "Tree",
    "open_tree",
    "open_trees",
    "provenances",
)

_EXTRAS = {
    "root": ("fsspec-xrootd", "xrootd"),
    "roots": ("fsspec-xrootd", "xrootd"),
    "http": ("aiohttp", "http"),
    "https": ("aiohttp", "http"),
}


@dataclass(frozen=True)
class RootTree(Tree):
    """An open tree of a ROOT file: a TTree or an RNTuple.

    Attributes
    ----------
    source
        What uproot gives.
    """

    source: Any

    @property
    def is_rntuple(self) -> bool:
        """Whether it is an RNTuple, not a TTree."""
        return not isinstance(self.source, uproot.TTree)

    @property
    def format(self) -> str:
        """What it is."""
        return "rntuple" if self.is_rntuple else "root"

    @property
    def uuid(self) -> str:
        """The identity of the file, as ROOT keeps it in its header."""
        return str(self.source.file.uuid)

    @property
    def n_byte(self) -> int:
        """Size of the file."""
        return int(self.source.file.fEND)

    def uneven(self) -> dict[Path, int]:
        """Find branches of a TTree that were filled less often than it, or more often."""
        if self.is_rntuple:
            return {}
        leaves = leaves_of(self.source).values()
        counts = zip(self.fields.paths, (int(each.num_entries) for each in leaves), strict=True)
        return {path: n for path, n in counts if n != self.n_event}

    def _columns(self, paths: Sequence[Path], start: int, stop: int) -> ak.Array:
        if self.is_rntuple:
            wanted = {".".join(path) for path in paths}
            return self.source.arrays(
                filter_name=lambda name: name in wanted, entry_start=start, entry_stop=stop
            )
        branches = {path[0] for path in paths if len(path) == 1}
        array = self.source.arrays(
            filter_branch=lambda branch: branch.name in branches, entry_start=start, entry_stop=stop
        )
        # Branches of the same name one by one: arrays() gives a single field to all of them.
        nested = [path for path in paths if len(path) > 1]
        columns: dict[str, Any] = {name: array[name] for name in ak.fields(array)}
        for path in nested:
            inner = columns
            for name in path[:-1]:
                inner = inner.setdefault(name, {})
            branch = self.source["/".join(path)]
            inner[path[-1]] = branch.array(entry_start=start, entry_stop=stop)
        return _record(columns) if nested else array

    def _edges(self, paths: Sequence[Path]) -> list[int]:
        if self.is_rntuple:
            clusters = self.source.ntuple.cluster_summaries
            return [*(int(each.num_first_entry) for each in clusters), self.n_event]
        if not paths:
            return [0, self.n_event]
        wanted = {path[-1] for path in paths}
        offsets: list[int] = self.source.common_entry_offsets(
            filter_branch=lambda branch: branch.name in wanted
        )
        return offsets


def _record(columns: dict[str, Any]) -> ak.Array:
    arrays = {k: _record(v) if isinstance(v, dict) else v for k, v in columns.items()}
    return ak.zip(arrays, depth_limit=1)


@contextmanager
def open_tree(name: str | os.PathLike[str], tree: str | None = None) -> Iterator[Tree]:
    """Open a tree.

    Parameters
    ----------
    name
        `file.root` or `file.root:Events`.
    tree
        The tree, if `name` doesn't say it. Not needed where there is only one.

    Raises
    ------
    FileError
        If there is no such file or tree, or the file is not a ROOT file, or truncated.
    """
    path, said = split_name(name)
    if is_parquet(path):
        yield _open_parquet(path, said or tree)
        return
    with _open_file(path) as file:
        yield _find_tree(file, path, said or tree)


def _open_parquet(path: str, name: str | None) -> Tree:
    _need_file(path)
    return open_parquet(path, name)


def _need_file(path: str) -> None:
    if not is_remote(path) and not FilePath(path).is_file():
        raise FileError(no_such_file(path))


def open_trees(name: str | os.PathLike[str]) -> Iterator[Tree]:
    """Open the tree of `file.root:Events` or, if none is said, every tree of the file in turn.

    Raises
    ------
    FileError
        As `open_tree`, and if there is no tree in the file.
    """
    path, said = split_name(name)
    if is_parquet(path):
        yield _open_parquet(path, said)
    else:
        yield from root_trees(path, said)


def root_trees(path: str, said: str | None = None) -> Iterator[RootTree]:
    """Open one tree of a ROOT file, or every one in turn; see `open_trees`."""
    with _open_file(path) as file:
        names = [said] if said else list(_trees(file, path))
        if not names:
            raise FileError(f"{path} has no tree in it")
        for each in names:
            yield _find_tree(file, path, each)


def provenances(name: str | os.PathLike[str]) -> list[Provenance]:
    """List what a file says of the scores in it; see `open_trees`."""
    path, _ = split_name(name)
    if is_parquet(path):
        _need_file(path)
        texts = notes_of(path)
    else:
        with _open_file(path) as file:
            kinds = file.classnames(recursive=False, cycle=False)
            texts = [
                str(file[key])
                for key, kind in kinds.items()
                if kind == "TObjString" and key.startswith(PREFIX)
            ]
    found = [Provenance.parse(text) for text in texts]
    return [each for each in found if each is not None]


@contextmanager
def _open_file(path: str) -> Iterator[Any]:
    if not is_remote(path) and FilePath(path).is_dir():
        raise FileError(f"{path} is a folder, not a ROOT file; give a pattern: {path}/*.root")
    _need_file(path)
    try:
        # A plain string would be split at its last colon. What is read is not kept: of closed files,
        # caches would stay in memory until Python looks for cycles.
        file = uproot.open({path: None}, array_cache=None)
    except ImportError as error:
        scheme = path.partition("://")[0]
        if scheme not in _EXTRAS:
            raise FileError(f"cannot read {path}: {error}") from error
        raise MissingExtraError(*_EXTRAS[scheme], f"reading {path}") from error
    except Exception as error:  # files that are not ROOT files raise anything
        if is_remote(path) or isinstance(error, PermissionError):
            raise FileError(f"cannot read {path}: {reason_of(error)}") from error
        raise FileError(f"{path} is not a ROOT file, or truncated: {reason_of(error)}") from error
    with file:
        end = file.file.fEND
        size = end if is_remote(path) else FilePath(path).stat().st_size
        if size < end:  # uproot reads what is there, but a copy would be as damaged as this file
            raise FileError(f"{path} is truncated: it has {size} bytes of {end}")
        yield file


def trees_of(file: Any) -> dict[str, str]:
    """Name the trees of an open file, without cycle numbers, and their classes."""
    classes = file.classnames(recursive=True)
    return {
        key.split(";")[0]: kind
        for key, kind in classes.items()
        if kind in ("TTree", "TNtuple", "TNtupleD", "TChain") or "RNTuple" in kind
    }


def leaves_of(source: Any) -> dict[str, Any]:
    """Branches of a TTree that hold data, by their full names: `muon/pt`."""
    branches = source.iteritems(recursive=True)
    return {key: branch for key, branch in branches if not len(branch.branches)}


def _trees(file: Any, path: str) -> dict[str, str]:
    try:
        return trees_of(file)
    except Exception as error:
        raise FileError(f"{path} is damaged or truncated: {reason_of(error)}") from error


def _find_tree(file: Any, path: str, name: str | None) -> RootTree:
    trees = _trees(file, path)
    if name is None:
        if len(trees) != 1:
            listed = ", ".join(trees) or "none"
            raise FileError(
                f"{path} has {len(trees)} trees; say which one, as in {path}:Events. "
                f"There are: {listed}"
            )
        [name] = trees
    if name.split(";")[0] not in trees:
        raise FileError(f"no tree {name!r} in {path}: {near_misses(name, trees)}")
    try:
        source = file[name]
        n_event = int(source.num_entries)
        fields = Fields(_paths(source), f"tree {name} of {path}")
    except DataError:
        raise
    except Exception as error:
        raise FileError(f"tree {name} of {path} is damaged: {reason_of(error)}") from error
    return RootTree(path, name, n_event, fields, source)


def _paths(source: Any) -> Iterator[Path]:
    if isinstance(source, uproot.TTree):
        leaves = leaves_of(source)
        names = Counter(branch.name for branch in leaves.values())
        for key, branch in leaves.items():
            # Parts of two split objects may have the same name: `muon/pt` and `jet/pt`.
            yield (branch.name,) if names[branch.name] == 1 else tuple(key.split("/"))
        return
    keys = source.keys()
    parents = {key.rpartition(".")[0] for key in keys}
    for key in keys:
        if key not in parents:
            yield tuple(key.split("."))
