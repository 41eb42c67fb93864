"""An open tree and a scorer in; a friend tree out, with the scores and what each track contributes.

Row i belongs to row i of the tree, and element j of a list to track j of that event.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from tracksets.chunks import branches_of, paths_read
from tracksets.errors import FileError
from tracksets.explanations import Kind, as_jagged, explain_columns
from tracksets.feeds import Digest
from tracksets.fields import Columns, Naming
from tracksets.parquet import new_parquet
from tracksets.prefetch import ahead
from tracksets.reading import open_tree
from tracksets.scorer import Scorer
from tracksets.trees import Tree

__all__ = ("write_explained",)


def write_explained(
    tree: Tree,
    output: Path,
    scorer: Scorer,
    field: str,
    name: str,
    *,
    target: str,
    others: Sequence[str] = (),
    notes: Mapping[str, str] | None = None,
) -> int:
    """Write scores and contributions, read them back, and compare.

    Parameters
    ----------
    tree
        The open input.
    output
        Where to; overwritten.
    scorer, field
        What to explain, and the name of its branch: contributions to `score` of the collection
        `Track` are `Track_score_change` and `Track_score_gradient`.
    name
        Of the new tree.
    target
        `root`, `rntuple` or `parquet`.
    others
        Branches to pass on, one number per event.
    notes
        Texts to leave in the file, by name.

    Returns
    -------
    int
        The number of events.

    Raises
    ------
    FileError
        If two branches would have the same name, or what was written cannot be read back.
    """
    names = [*others, *branches_of(field, scorer), *map(_plain, scorer.inputs.collections)]
    twice = [each for each in names if names.count(each) > 1]
    if twice:
        raise FileError(
            f"{tree.path}: {twice[0]!r} would be the name of two branches; choose another --field"
        )
    sent = _Fingerprint(names[: -len(scorer.inputs.collections)])
    try:
        _write(
            output, name, target, notes or {}, sent.watched(_chunks(tree, scorer, field, others))
        )
    except OSError as error:
        raise FileError(f"cannot write to {output.parent}: {error}") from error
    back = _Fingerprint(sent.flat)
    with open_tree(output, None if target == "parquet" else name) as written:
        for start, stop in written.chunks(written.fields.paths):
            events = written.read(written.fields.paths, start, stop)
            back.update(Columns(events, written.fields), sent.jagged)
        if written.n_event != tree.n_event or back.digests != sent.digests:
            raise FileError(f"what explains {tree.path} was not written correctly")
    return tree.n_event


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _chunks(
    tree: Tree, scorer: Scorer, field: str, others: Sequence[str]
) -> Iterator[dict[str, ak.Array]]:
    paths = paths_read({field: scorer}, tree, None, others)
    branches = branches_of(field, scorer)
    for start, stop in [*tree.chunks(paths)] or [(0, 0)]:
        events = tree.read(paths, start, stop)
        columns = Columns(events, tree.fields)
        scores = scorer.score(columns, start).T
        lists: dict[str, dict[str, ak.Array]] = {}
        for kind in get_args(Kind):
            for collection, (axis, values) in explain_columns(scorer, columns, kind, start).items():
                found = as_jagged(scorer, axis, values)
                for branch, name in zip(branches, scorer.task.score_names or (None,), strict=True):
                    one = found[name] if name else found
                    lists.setdefault(_plain(collection), {})[f"{branch}_{kind}"] = one
        yield {
            **{name: events[name] for name in others},
            **{name: ak.Array(each) for name, each in zip(branches, scores, strict=True)},
            **{name: ak.zip(each) for name, each in lists.items()},
        }


def _write(
    output: Path,
    name: str,
    target: str,
    notes: Mapping[str, str],
    chunks: Iterator[dict[str, ak.Array]],
) -> None:
    if target == "parquet":
        with new_parquet(output, notes) as extend:
            for chunk in ahead(chunks):
                extend(chunk)
        return
    with uproot.recreate(output) as file:
        made: Any = None
        for chunk in ahead(chunks):
            table = ak.zip(chunk, depth_limit=1)
            if made is None and target == "rntuple":
                made = file.mkrntuple(name, table[:0].layout.form)
            elif made is None:
                made = file.mktree(name, {key: each.type.content for key, each in chunk.items()})
            if len(table):
                made.extend(table if target == "rntuple" else chunk)
        for key, text in notes.items():
            file[key] = text


class _Fingerprint:
    """Hashes of flat columns, and of the counts and values of jagged ones."""

    def __init__(self, flat: Sequence[str]) -> None:
        self.flat = list(flat)
        self.jagged: dict[str, list[str]] = {}
        self._digests: dict[str, Digest] = {}

    @property
    def digests(self) -> dict[str, str]:
        """By column."""
        return {name: each.hash_of(name) for name, each in self._digests.items()}

    def watched(self, chunks: Iterator[dict[str, ak.Array]]) -> Iterator[dict[str, ak.Array]]:
        """Pass chunks on."""
        for chunk in chunks:
            lists = [name for name in chunk if name not in self.flat]
            self.jagged = {name: list(chunk[name].fields) for name in lists}
            self.update(Columns(ak.zip(chunk, depth_limit=1)), self.jagged)
            yield chunk

    def update(self, columns: Columns, jagged: Mapping[str, Sequence[str]]) -> None:
        """Add the next events."""
        for name in self.flat:
            self._add(name, columns.of()(name).values)
        for collection, names in jagged.items():
            for name in names:
                found = columns.of(Naming(collection))(name)
                counts = np.zeros(0, np.int64) if found.axis is None else found.axis.counts
                self._add(f"{collection} {name}", found.values)
                self._add(f"{collection} {name} counts", counts)

    def _add(self, name: str, values: NDArray[Any]) -> None:
        if not len(values):
            return
        self._digests.setdefault(name, Digest({name: values.dtype})).update({name: values})
