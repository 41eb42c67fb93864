"""An open tree and scores in, a new file with both out: everything is read and written anew.

For formats that cannot get another column in place. Nothing is left out without a word: what the
format cannot hold is refused by name, and the copy is compared with the input.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

import awkward as ak
import numpy as np
import uproot

from tracksets.errors import FileError
from tracksets.feeds import Feed
from tracksets.fields import Path
from tracksets.parquet import ParquetTree, add_columns, new_parquet
from tracksets.reading import RootTree, leaves_of, open_tree, root_trees, trees_of
from tracksets.trees import Tree, required_type

__all__ = ("name_in_root", "rewrite")

Extend = Callable[[Mapping[str, Any]], None]

_NUMBERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_NUMBERS |= {"bool", "float32", "float64"}


def name_in_root(tree: Tree) -> str:
    """Name the tree in a ROOT file; the rows of a Parquet file have no name of their own."""
    return "Events" if tree.format == "parquet" else tree.name.split(";")[0]


def rewrite(
    tree: Tree, output: FilePath, scores: Feed, notes: Mapping[str, str], target: str, advice: str
) -> None:
    """Write the file of a tree anew, with the scores as further columns.

    Parameters
    ----------
    tree
        The open input.
    output
        Where to; overwritten.
    scores
        The columns to add; columns of these names are left out of the copy.
    notes
        Texts to leave in the file, by name.
    target
        The format of the tree in the new file: `root`, `rntuple` or `parquet`. Other trees of a
        ROOT file stay what they are; a Parquet file has only the one.
    advice
        What to do if something cannot be written.

    Raises
    ------
    FileError
        If something in the file cannot be written, or the copy is not equal to the input.
    """
    if target == "parquet" and isinstance(tree, ParquetTree):
        add_columns(tree.path, output, scores, notes)
        _compare(tree, output, None, scores, advice)
    elif target == "parquet":
        _refuse(tree, _unwritable(tree, target), advice)
        with new_parquet(output, notes) as extend:
            _copy(tree, scores, extend, target, advice)
        _compare(tree, output, None, scores, advice)
    else:
        _rewrite_root(tree, output, scores, notes, target, advice)


def _refuse(tree: Tree, refused: list[str], advice: str) -> None:
    if refused:
        more = f" and {len(refused) - 10} more" if len(refused) > 10 else ""
        raise FileError(f"{tree.path}: cannot write {', '.join(refused[:10])}{more}. {advice}")


def _rewrite_root(
    tree: Tree, output: FilePath, scores: Feed, notes: Mapping[str, str], target: str, advice: str
) -> None:
    name = name_in_root(tree)
    objects: dict[str, Any] = {}
    refused = _unwritable(tree, target)
    if isinstance(tree, RootTree):
        for each in _others(tree):
            refused += _unwritable(each, each.format)
        with uproot.open({tree.path: None}) as source:
            trees = trees_of(source)
            for key, kind in source.classnames(recursive=True, cycle=False).items():
                if key in trees or kind.startswith("TDirectory") or key in notes:
                    continue
                try:
                    made = source[key]
                    objects[key] = str(made) if kind == "TObjString" else uproot.to_writable(made)
                except Exception:  # noqa: BLE001  # whatever uproot says of what it can't write
                    refused.append(f"{key} ({kind})")
    _refuse(tree, refused, advice)
    with uproot.recreate(output) as file:
        for key, made in {**objects, **notes}.items():
            file[key] = made
        _copy(tree, scores, _new_tree(file, name, tree, scores.types, target), target, advice)
        for each in _others(tree):
            made = _new_tree(file, each.name, each, {}, each.format)
            _copy(each, None, made, each.format, advice)
    _compare(tree, output, name, scores, advice)
    for each in _others(tree):
        _compare(each, output, each.name, None, advice)


def _others(tree: Tree) -> Iterator[RootTree]:
    """Open the other trees of a file, in turn."""
    if isinstance(tree, RootTree):
        yield from (each for each in root_trees(tree.path) if each.name != name_in_root(tree))


def _kept(tree: Tree, scores: Feed | None) -> list[Path]:
    return [path for path in tree.fields.paths if scores is None or path[0] not in scores.types]


def _read(
    tree: Tree, paths: list[Path], start: int, stop: int, target: str, advice: str
) -> dict[str, ak.Array]:
    """Read columns as the new format can hold them."""
    events = tree.read(paths, start, stop)
    columns = {name: events[name] for name in events.fields}
    if target in ("parquet", tree.format):
        return columns
    kind = "a TTree" if target == "root" else "an RNTuple's record"
    for name, column in columns.items():
        missing = FileError(
            f"{tree.path}: {tree.name}/{name} has missing values in events {start}:{stop}, which "
            f"{kind} cannot hold. {advice}"
        )
        columns[name] = _required(column, target, missing)
    return columns


def _required(array: ak.Array, target: str, missing: FileError) -> ak.Array:
    """Leave out that values may be missing, as in most Parquet files, where none is."""

    def required(layout: Any, **_: Any) -> Any:
        # uproot reads a record that may be missing from an RNTuple as a list of records.
        if not layout.is_option or not (target == "root" or layout.fields):
            return None
        if np.any(layout.mask_as_bool(valid_when=False)):
            raise missing
        return ak.transform(required, layout.project(), highlevel=False)

    return ak.transform(required, array)


def _copy(tree: Tree, scores: Feed | None, extend: Extend, target: str, advice: str) -> None:
    """Copy a tree chunk by chunk, beside the scores."""
    paths = _kept(tree, scores)
    for start, stop in [*tree.chunks(paths)] or [(0, 0)]:
        columns = _read(tree, paths, start, stop, target, advice)
        extend({**columns, **(scores.take(stop - start) if scores else {})})


def _new_tree(file: Any, name: str, tree: Tree, added: Mapping[str, Any], target: str) -> Extend:
    """Make an empty TTree or RNTuple for the columns of a tree and further ones."""
    paths = [path for path in tree.fields.paths if path[0] not in added]
    empty = _read(tree, paths, 0, 0, target, "")
    if target == "rntuple":
        zeros = {key: np.empty(0, kind) for key, kind in added.items()}
        made = file.mkrntuple(name, _table({**empty, **zeros}).layout.form)
        # ROOT reads no RNTuple with an empty cluster.
        return lambda chunk: made.extend(_table(chunk)) if _any(chunk) else None
    counters = _counters(tree, added)
    title = tree.source.title if isinstance(tree, RootTree) and target == tree.format else ""
    types = {**{key: each.type.content for key, each in empty.items()}, **dict(added)}

    def counter_name(column: str) -> str:
        new = f"n{column}"
        while new in empty or new in added:  # a vector `Jet` beside a number `nJet`
            new += "_"
        return counters.get(column, new)

    made = file.mktree(name, types, title=title, counter_name=counter_name)
    return lambda chunk: made.extend({key: chunk[key] for key in types})


def _table(columns: Mapping[str, Any]) -> ak.Array:
    """Join columns for an RNTuple; uproot writes wrong values beside a mask, but not an index."""

    def indexed(layout: Any, continuation: Any, **_: Any) -> Any:
        layout = continuation()
        return layout.to_IndexedOptionArray64() if layout.is_option else layout

    return ak.to_packed(ak.transform(indexed, ak.zip(dict(columns), depth_limit=1)))


def _any(chunk: Mapping[str, Any]) -> bool:
    return bool(len(next(iter(chunk.values()))))


def _counters(tree: Tree, added: Mapping[str, Any]) -> dict[str, str]:
    """Name the counters that the branches of a TTree share, to have them shared in the copy."""
    if tree.format != "root" or not isinstance(tree, RootTree):
        return {}
    return {
        branch.name: branch.count_branch.name
        for branch in leaves_of(tree.source).values()
        if branch.count_branch is not None and branch.name not in added
    }


def _compare(
    tree: Tree, output: FilePath, name: str | None, scores: Feed | None, advice: str
) -> None:
    """Compare a copy with the input; uproot has written wrong counts without an error."""
    paths = _kept(tree, scores)
    # Only types may differ: counters become int32, vectors arrays.
    same: dict[str, Any] = {
        "equal_nan": True,
        "dtype_exact": False,
        "check_parameters": False,
        "check_regular": False,
    }
    with open_tree(output, name) as copy:
        for start, stop in tree.chunks(paths):
            old = _read(tree, paths, start, stop, copy.format, advice)
            new = copy.read(paths, start, stop)
            for column, values in old.items():
                if not ak.array_equal(values, new[column], **same):
                    raise FileError(
                        f"{tree.path}: {tree.name}/{column} was not copied correctly. {advice}"
                    )


def _unwritable(tree: Tree, target: str) -> list[str]:
    """List the columns that cannot be written, with their types."""
    refused = []
    for path, kind in tree.types().items():
        known = _fits_ttree(kind) if target == "root" else _fits(kind)
        # uproot writes the parts of a branch as branches beside it: muon/pt as muon_pt.
        if known and not (target == "root" and len(path) > 1):
            continue
        shown = kind
        if isinstance(tree, RootTree):
            shown = tree.source[
                "/".join(path) if tree.format == "root" else ".".join(path)
            ].typename
        refused.append(f"{tree.name}/{'/'.join(path)} ({shown})")
    return refused


def _fits_ttree(kind: Any) -> bool:
    """Whether it is a number or a list of numbers, or has fixed dimensions but is not jagged.

    Whether a value is missing, where its type allows that, is seen when it is read.
    """
    kind = required_type(kind)
    if isinstance(kind, ak.types.ListType) and not kind.parameters:
        kind = required_type(kind.content)
        if isinstance(kind, ak.types.RegularType):
            return False  # uproot writes `var * 3 * float32` with wrong counts
    while isinstance(kind, ak.types.RegularType) and not kind.parameters:
        kind = required_type(kind.content)
    return (
        isinstance(kind, ak.types.NumpyType) and not kind.parameters and kind.primitive in _NUMBERS
    )


def _fits(kind: Any) -> bool:
    """Whether an RNTuple and a Parquet file can hold it, as uproot and awkward write them.

    Records are no case: each of their fields is a column of its own.
    """
    if kind.parameters.get("__array__") == "bytestring":
        return False
    if isinstance(kind, ak.types.NumpyType):
        return kind.primitive in _NUMBERS
    if isinstance(kind, (ak.types.ListType, ak.types.RegularType, ak.types.OptionType)):
        return _fits(kind.content)
    return False
