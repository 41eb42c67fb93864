"""One file in, one labelled file out: read, scored and written at the same time.

One thread reads, another scores while this one writes. The queues between them are short, so that
memory does not grow with the file.
"""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tracksets.atomic import appearing
from tracksets.chunks import ENTRY, Scorers, branches_of, paths_read, scored_chunks
from tracksets.errors import FileError, TracksetsError
from tracksets.explained import write_explained
from tracksets.feeds import Feed
from tracksets.fields import Path as TreePath
from tracksets.prefetch import ahead
from tracksets.provenance import Provenance, place_of
from tracksets.reading import open_tree, provenances
from tracksets.rewriting import name_in_root
from tracksets.scorer import Scorer
from tracksets.trees import Tree
from tracksets.writing import Format, write_append, write_branch, write_friend

__all__ = ("Job", "Labelled", "Mode", "label_file")

Mode = Literal["branch", "append", "friend", "explain"]

IDENTIFIERS = ("run", "luminosityBlock", "event")

_LONG = ("history", "members", "files")
"""What a labelled file does not say of the training of its model."""


@dataclass(frozen=True)
class Job:
    """One file to label, and how; sent to workers as it is."""

    source: str
    output: Path
    tree: str | None
    mode: Mode
    format: Format | None
    select: str | None
    force: bool
    spread: bool = False


@dataclass(frozen=True)
class Labelled:
    """What became of one file.

    Attributes
    ----------
    source, output
        The input with its tree, and what was written.
    events, selected
        How many there are, and how many got a score.
    seconds
        How long it took.
    skipped
        Whether the output was there already, from the same model and input.
    error
        Why it failed; None if it did not.
    """

    source: str
    output: Path
    events: int = 0
    selected: int = 0
    seconds: float = 0.0
    skipped: bool = False
    error: str | None = None


def label_file(scorers: Scorers, job: Job) -> Labelled:
    """Label one file; whatever goes wrong is returned, so that it does not take others with it."""
    begin = time.perf_counter()
    done = Labelled(job.source, job.output)
    try:
        done = _label(scorers, job)
    except Exception as error:  # noqa: BLE001  # anything at all
        known = isinstance(error, TracksetsError)
        done = replace(done, error=str(error) if known else f"{type(error).__name__}: {error}")
    return replace(done, seconds=time.perf_counter() - begin)


def _label(scorers: Scorers, job: Job) -> Labelled:
    with open_tree(job.source, job.tree) as tree:
        notes = [_provenance(field, scorer, tree, job) for field, scorer in scorers.items()]
        done = Labelled(job.source, job.output, tree.n_event)
        if not job.force and _is_finished(job.output, notes):
            return replace(done, skipped=True)
        replaced = job.force or _is_ours(job.output, notes, tree)
        texts = {each.key: each.model_dump_json() for each in [*_carried(tree, job), *notes]}
        try:
            with appearing(job.output, force=replaced) as new:
                selected = _write(scorers, tree, new, job, texts)
        except FileError:
            if not job.force and _is_finished(job.output, notes):  # by another process, meanwhile
                return replace(done, skipped=True)
            raise
        return replace(done, selected=selected)


def _provenance(field: str, scorer: Scorer, tree: Tree, job: Job) -> Provenance:
    summary = {key: each for key, each in scorer.summary.items() if key not in _LONG}
    return Provenance(
        field=field,
        model=scorer.hash,
        config={
            "inputs": scorer.inputs.model_dump(mode="json"),
            "model": scorer.model.model_dump(mode="json"),
            "task": scorer.task.model_dump(mode="json"),
            "summary": summary,
            **({"folds": scorer.folds.model_dump(mode="json")} if scorer.folds else {}),
        },
        input=place_of(tree.path),
        tree=tree.name,
        uuid=tree.uuid,
        size=tree.n_byte,
        mode=job.mode,
        format=job.format or tree.format,
        select=job.select,
        spread=job.spread,
        engine=scorer.engine.name,
        precision=scorer.engine.precision,
    )


def _carried(tree: Tree, job: Job) -> list[Provenance]:
    """List what the input says of scores in it, if its tree goes into a file of another format."""
    changes = job.mode == "branch" and job.format not in (None, tree.format)
    return provenances(tree.path) if changes else []


def _found(output: Path) -> dict[str, Provenance]:
    """Read what an output that exists says of itself, by field."""
    if not output.is_file():
        return {}
    try:
        return {each.field: each for each in provenances(output)}
    except FileError:  # it is something else
        return {}


def _is_finished(output: Path, notes: Sequence[Provenance]) -> bool:
    there = _found(output)
    return all(each.field in there and there[each.field].is_same_work(each) for each in notes)


def _is_ours(output: Path, notes: Sequence[Provenance], tree: Tree) -> bool:
    """Whether an output comes from the same input, so that making it anew loses nothing."""
    there = _found(output)
    if not all(each.field in there and there[each.field].is_same_input(each) for each in notes):
        return False
    kept = {each.field for each in (*notes, *(provenances(tree.path) if there else ()))}
    return set(there) <= kept


def _write(scorers: Scorers, tree: Tree, output: Path, job: Job, notes: Mapping[str, str]) -> int:
    """Write the output; returns how many events got a score."""
    drop = job.mode == "friend" and job.select is not None
    others = _identifiers(tree) if job.mode in ("friend", "explain") else {}
    _refuse_uneven(tree, job, paths_read(scorers, tree, job.select, list(others)))
    made = f"{name_in_root(tree)}_{'_'.join(scorers)}"
    base = made.rpartition("/")[2]
    if job.mode == "explain":
        [(field, scorer)] = scorers.items()
        return write_explained(
            tree,
            output,
            scorer,
            field,
            base,
            target=job.format or tree.format,
            others=list(others),
            notes=notes,
        )
    types = {**others, **({ENTRY: np.dtype(np.int64)} if drop else {})}
    fields = [branches_of(field, each, job.spread) for field, each in scorers.items()]
    for name in itertools.chain.from_iterable(fields):
        if name in types:
            raise FileError(
                f"{tree.path} has {name!r} as an identifier of events, which goes with the "
                "scores; choose another name with --field"
            )
        types[name] = np.dtype(np.float32)
    selected = 0

    def chunks() -> Iterator[dict[str, NDArray[Any]]]:
        nonlocal selected
        for chunk in ahead(scored_chunks(scorers, tree, job.select, list(others), job.spread)):
            selected += chunk.n_chosen
            yield chunk.chosen_columns() if drop else chunk.columns()

    feed = Feed(types, chunks())
    if job.mode == "branch":
        write_branch(tree, output, feed, target=job.format, notes=notes, force=job.force)
    elif job.mode == "append":
        write_append(tree, output, feed, made, target=job.format, notes=notes, force=job.force)
    else:
        write_friend(tree, output, feed, base, target=job.format, notes=notes, every=not drop)
    return selected


def _refuse_uneven(tree: Tree, job: Job, read: Sequence[TreePath]) -> None:
    """Refuse branches that are shorter than their tree, among those that are read or copied."""
    for path, n in tree.uneven().items():
        if job.mode in ("branch", "append") or path in read:
            raise FileError(
                f"{tree.path}, tree {tree.name}: {'.'.join(path)} has {n} entries where the tree "
                f"has {tree.n_event}, so that its rows belong to no events"
            )


def _identifiers(tree: Tree) -> dict[str, np.dtype[Any]]:
    """Find the branches that say which event it is: whole numbers, one per event."""
    names = [name for name in IDENTIFIERS if (name,) in tree.fields.paths]
    types = {name: tree.read([(name,)], 0, 0)[name].type.content for name in names}
    kinds = {name: getattr(each, "primitive", "") for name, each in types.items()}
    return {name: np.dtype(kind) for name, kind in kinds.items() if "int" in kind}
