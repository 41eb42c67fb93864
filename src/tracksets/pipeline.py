"""One file in, one labelled file out: read, scored and written at the same time.

A thread reads and flattens the next chunk while this one is scored, and another scores while this
one writes. The queues between them are short, so that memory does not grow with the file.
"""

import re
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tracksets.atomic import appearing
from tracksets.errors import ConfigError, DataError, FileError, TracksetsError
from tracksets.features import JaggedInputs, chosen_events
from tracksets.feeds import Feed
from tracksets.fields import Columns
from tracksets.inputs import paths_of
from tracksets.prefetch import ahead
from tracksets.provenance import Provenance, place_of
from tracksets.reading import open_tree, provenances
from tracksets.rewriting import name_in_root
from tracksets.scorer import Scorer
from tracksets.trees import Tree
from tracksets.writing import Format, write_append, write_branch, write_friend

__all__ = ("ENTRY", "Job", "Labelled", "Mode", "Scorers", "branches_of", "label_file")

Mode = Literal["branch", "append", "friend"]
Scorers = Mapping[str, Scorer]
"""By field."""

IDENTIFIERS = ("run", "luminosityBlock", "event")
ENTRY = "entry"
"""Column of a friend that has only some events: the row of each in the input."""


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


def branches_of(field: str, scorer: Scorer) -> list[str]:
    """Name the branches of a scorer: `score`; `score_b` of a class, `score_log_pt_` of a target.

    Raises
    ------
    ConfigError
        If two would have the same name.
    """
    names = scorer.task.score_names
    fields = [f"{field}_{re.sub(r'[^A-Za-z0-9_]', '_', name)}" for name in names] or [field]
    if len(set(fields)) < len(fields):
        raise ConfigError(f"the scores {list(names)} would become branches of the same name")
    return fields


def _label(scorers: Scorers, job: Job) -> Labelled:
    with open_tree(job.source, job.tree) as tree:
        notes = [_provenance(field, scorer, tree, job) for field, scorer in scorers.items()]
        done = Labelled(job.source, job.output, tree.n_event)
        if not job.force and _is_finished(job.output, notes):
            return replace(done, skipped=True)
        replaced = job.force or _is_ours(job.output, notes, tree)
        counted: list[int] = []
        texts = {each.key: each.model_dump_json() for each in [*_carried(tree, job), *notes]}
        try:
            with appearing(job.output, force=replaced) as new:
                _write(scorers, tree, new, job, texts, counted)
        except FileError:
            if not job.force and _is_finished(job.output, notes):  # by another process, meanwhile
                return replace(done, skipped=True)
            raise
        return replace(done, selected=sum(counted))


def _provenance(field: str, scorer: Scorer, tree: Tree, job: Job) -> Provenance:
    summary = {key: each for key, each in scorer.summary.items() if key != "history"}
    return Provenance(
        field=field,
        model=scorer.hash,
        config={
            "inputs": scorer.inputs.model_dump(mode="json"),
            "model": scorer.model.model_dump(mode="json"),
            "task": scorer.task.model_dump(mode="json"),
            "summary": summary,
        },
        input=place_of(tree.path),
        tree=tree.name,
        uuid=tree.uuid,
        size=tree.n_byte,
        mode=job.mode,
        format=job.format or tree.format,
        select=job.select,
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


def _write(
    scorers: Scorers,
    tree: Tree,
    output: Path,
    job: Job,
    notes: Mapping[str, str],
    counted: list[int],
) -> None:
    drop = job.mode == "friend" and job.select is not None
    others = _identifiers(tree) if job.mode == "friend" else {}
    fields = {field: branches_of(field, scorer) for field, scorer in scorers.items()}
    types = {**others, **({ENTRY: np.dtype(np.int64)} if drop else {})}
    for names in fields.values():
        for name in names:
            if name in types:
                raise FileError(
                    f"{tree.path} has {name!r} as an identifier of events, which goes with the "
                    "scores; choose another name with --field"
                )
            types[name] = np.dtype(np.float32)

    seen = _paths(scorers, tree, job.select, list(others))
    for path, n in tree.uneven().items():
        if job.mode != "friend" or path in seen:
            raise FileError(
                f"{tree.path}, tree {tree.name}: {'.'.join(path)} has {n} entries where the tree "
                f"has {tree.n_event}, so that its rows belong to no events"
            )

    def chunks() -> Iterator[dict[str, NDArray[Any]]]:
        for chunk in ahead(_scored(scorers, tree, job.select, list(others))):
            counted.append(int(np.count_nonzero(chunk.chosen)))
            yield chunk.columns(fields, drop)

    feed = Feed(types, chunks())
    name = f"{name_in_root(tree)}_{'_'.join(scorers)}"
    if job.mode == "branch":
        write_branch(tree, output, feed, target=job.format, notes=notes, force=job.force)
    elif job.mode == "append":
        write_append(tree, output, feed, name, target=job.format, notes=notes, force=job.force)
    else:
        name = name.rpartition("/")[2]
        write_friend(tree, output, feed, name, target=job.format, notes=notes, every=not drop)


def _identifiers(tree: Tree) -> dict[str, np.dtype[Any]]:
    """Find the branches that say which event it is: whole numbers, one per event."""
    names = [name for name in IDENTIFIERS if (name,) in tree.fields.paths]
    types = {name: tree.read([(name,)], 0, 0)[name].type.content for name in names}
    kinds = {name: getattr(each, "primitive", "") for name, each in types.items()}
    return {name: np.dtype(kind) for name, kind in kinds.items() if "int" in kind}


@dataclass(frozen=True)
class _Chunk:
    """Some events on their way: read and flat, and scored in the end."""

    start: int
    chosen: NDArray[np.bool_]
    others: dict[str, NDArray[Any]]
    parts: dict[str, list[JaggedInputs]]
    scores: Mapping[str, NDArray[np.float32]] | None = None

    def columns(self, fields: Mapping[str, list[str]], drop: bool) -> dict[str, NDArray[Any]]:
        """Return one column per branch; events that were not chosen are NaN, or left out."""
        rows = np.flatnonzero(self.chosen)
        columns: dict[str, NDArray[Any]] = {
            name: values[rows] if drop else values for name, values in self.others.items()
        }
        if drop:
            columns[ENTRY] = self.start + rows
        for field, names in fields.items():
            scores = (self.scores or {})[field]
            if not drop and len(rows) < len(self.chosen):
                everyone = np.full((len(self.chosen), scores.shape[1]), np.nan, np.float32)
                everyone[rows] = scores
                scores = everyone
            columns.update(zip(names, scores.T, strict=True))
        return columns


def _scored(
    scorers: Scorers, tree: Tree, select: str | None, others: Sequence[str]
) -> Iterator[_Chunk]:
    """Score a tree; the branches that several scorers see are read once."""
    chunks = ahead(_read(scorers, tree, select, others))
    read: deque[_Chunk] = deque()
    flat: dict[str, deque[JaggedInputs]] = {field: deque() for field in scorers}

    def fetch() -> bool:
        """Share out the next chunk, if there is one."""
        chunk = next(chunks, None)
        if chunk is None:
            return False
        for field, parts in chunk.parts.items():
            flat[field].extend(part for part in parts if part.n_event)
        read.append(replace(chunk, parts={}))
        return True

    def parts(field: str) -> Iterator[JaggedInputs]:
        while flat[field] or fetch():
            if flat[field]:
                yield flat[field].popleft()

    rows = {
        field: _Rows(scorer.stream(parts(field)), scorer.task.outputs)
        for field, scorer in scorers.items()
    }
    while read or fetch():
        chunk = read.popleft()
        n = int(np.count_nonzero(chunk.chosen))
        yield replace(chunk, scores={field: each.take(n) for field, each in rows.items()})


class _Rows:
    """Rows that arrive in arrays of any length, to be taken in portions."""

    def __init__(self, arrays: Iterator[NDArray[np.float32]], width: int) -> None:
        self._arrays = arrays
        self._rest = np.empty((0, width), np.float32)

    def take(self, n: int) -> NDArray[np.float32]:
        parts = [self._rest]
        while sum(map(len, parts)) < n:
            parts.append(next(self._arrays))
        whole = np.concatenate(parts)
        self._rest = whole[n:]
        return whole[:n]


def _read(
    scorers: Scorers, tree: Tree, select: str | None, others: Sequence[str]
) -> Iterator[_Chunk]:
    """Read a tree and make flat inputs, a chunk at a time."""
    paths = _paths(scorers, tree, select, others)
    for start, stop in [*tree.chunks(paths)] or [(0, 0)]:
        events = tree.read(paths, start, stop)
        chosen = np.ones(stop - start, bool)
        if select is not None:
            chosen = chosen_events(select, Columns(events, tree.fields))
        columns = Columns(events if chosen.all() else events[chosen], tree.fields)
        yield _Chunk(
            start,
            chosen,
            {name: np.asarray(events[name]) for name in others},
            {field: list(scorer.flatten(columns, start)) for field, scorer in scorers.items()},
        )


def _paths(
    scorers: Scorers, tree: Tree, select: str | None, others: Sequence[str]
) -> list[tuple[str, ...]]:
    """List what is read: each branch once, whoever wants it."""
    cuts = [] if select is None else [select]
    try:
        wanted = [
            path for each in scorers.values() for path in paths_of(each.inputs, tree.fields, *cuts)
        ]
    except DataError as error:
        raise FileError(str(error)) from error
    return list(dict.fromkeys([*wanted, *((name,) for name in others)]))
