"""An open tree in, its events with their scores out, a chunk at a time.

A thread reads and flattens the next chunk while this one is scored. Branches that several scorers
see are read once.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracksets.errors import ConfigError, DataError, FileError
from tracksets.features import JaggedInputs, chosen_events
from tracksets.feeds import Feed
from tracksets.fields import Columns, Path
from tracksets.prefetch import ahead
from tracksets.scorer import Scorer
from tracksets.trees import Tree

__all__ = ("ENTRY", "Chunk", "Scorers", "branches_of", "paths_read", "scored_chunks")

Scorers = Mapping[str, Scorer]
"""By field."""

ENTRY = "entry"
"""Column for when there are only some events: the row of each in the tree."""


@dataclass(frozen=True)
class Chunk:
    """Some events on their way: read and flat, and scored in the end.

    Attributes
    ----------
    start
        Number of the first event in the tree.
    chosen
        Which of them get a score.
    others
        Columns that are passed on, of all events.
    parts
        By field: flat inputs of the chosen events, until they are scored.
    scores
        By branch: scores of the chosen events.
    """

    start: int
    chosen: NDArray[np.bool_]
    others: dict[str, NDArray[Any]]
    parts: dict[str, list[JaggedInputs]]
    scores: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def n_chosen(self) -> int:
        """How many events get a score."""
        return int(np.count_nonzero(self.chosen))

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return one column per branch, with NaN as the score of events that were not chosen."""
        if self.chosen.all():
            return {**self.others, **self.scores}
        everyone = {}
        for name, scores in self.scores.items():
            everyone[name] = np.full(len(self.chosen), np.nan, np.float32)
            everyone[name][self.chosen] = scores
        return {**self.others, **everyone}

    def chosen_columns(self) -> dict[str, NDArray[Any]]:
        """Return one column per branch, of the chosen events only, and which rows they are."""
        others = {name: values[self.chosen] for name, values in self.others.items()}
        return {**others, ENTRY: self.start + np.flatnonzero(self.chosen), **self.scores}


def branches_of(field: str, scorer: Scorer, spread: bool = False) -> list[str]:
    """Name the branches of a scorer: `score`; `score_b` of a class, `score_log_pt_` of a target.

    With `spread`, `score_spread` or `score_b_spread` of each follow.

    Raises
    ------
    ConfigError
        If two would have the same name.
    """
    names = scorer.task.score_names
    fields = [f"{field}_{re.sub(r'[^A-Za-z0-9_]', '_', name)}" for name in names] or [field]
    fields += [f"{each}_spread" for each in fields] if spread else []
    if len(set(fields)) < len(fields):
        raise ConfigError(f"the scores {list(names)} would become branches of the same name")
    return fields


def paths_read(
    scorers: Scorers, tree: Tree, select: str | None, others: Sequence[str]
) -> list[Path]:
    """List what is read: each branch once, whoever wants it.

    Raises
    ------
    FileError
        If a branch is not there.
    """
    cuts = [] if select is None else [select]
    try:
        wanted = [path for each in scorers.values() for path in each.paths(tree.fields, *cuts)]
    except DataError as error:
        raise FileError(str(error)) from error
    return list(dict.fromkeys([*wanted, *((name,) for name in others)]))


def scored_chunks(
    scorers: Scorers,
    tree: Tree,
    select: str | None = None,
    others: Sequence[str] = (),
    spread: bool = False,
) -> Iterator[Chunk]:
    """Read and score a tree.

    Parameters
    ----------
    scorers
        By field.
    tree
        The events.
    select
        Expression that chooses events; all by default.
    others
        Branches to pass on, one number per event.
    spread
        Whether each score has its spread beside it.
    """
    chunks = ahead(_read(scorers, tree, select, others))
    read: deque[Chunk] = deque()
    flat: dict[str, deque[JaggedInputs]] = {field: deque() for field in scorers}

    def fetch() -> bool:
        """Share out the next chunk, if there is one."""
        chunk = next(chunks, None)
        if chunk is None:
            return False
        for name, parts in chunk.parts.items():
            flat[name].extend(part for part in parts if part.n_event)
        read.append(replace(chunk, parts={}))
        return True

    def parts(field: str) -> Iterator[JaggedInputs]:
        while flat[field] or fetch():
            if flat[field]:
                yield flat[field].popleft()

    def feed(field: str, scorer: Scorer) -> Feed:
        names = branches_of(field, scorer, spread)
        rows = scorer.stream(parts(field), spread)
        columns = (dict(zip(names, each.T, strict=True)) for each in rows)
        return Feed(dict.fromkeys(names, np.float32), columns)

    feeds = [feed(field, scorer) for field, scorer in scorers.items()]
    while read or fetch():
        chunk = read.popleft()
        taken = [each.take(chunk.n_chosen) for each in feeds]
        yield replace(chunk, scores={name: each for part in taken for name, each in part.items()})


def _read(
    scorers: Scorers, tree: Tree, select: str | None, others: Sequence[str]
) -> Iterator[Chunk]:
    """Read a tree and make flat inputs, a chunk at a time."""
    paths = paths_read(scorers, tree, select, others)
    for start, stop in [*tree.chunks(paths)] or [(0, 0)]:
        events = tree.read(paths, start, stop)
        chosen = np.ones(stop - start, bool)
        if select is not None:
            chosen = chosen_events(select, Columns(events, tree.fields))
        columns = Columns(events if chosen.all() else events[chosen], tree.fields)
        yield Chunk(
            start,
            chosen,
            {name: np.asarray(events[name]) for name in others},
            {field: list(scorer.flatten(columns, start)) for field, scorer in scorers.items()},
        )
