"""What an open tree is, whatever the format of its file: columns by event range, in chunks."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import awkward as ak

from tracksets.errors import FileError
from tracksets.fields import Fields, Path, column_of

__all__ = ("CHUNK_EVENTS", "Tree", "reason_of", "required_type")

CHUNK_EVENTS = 50_000
"""Events to read at a time, about; boundaries follow the clusters of the tree."""


@dataclass(frozen=True)
class Tree(ABC):
    """An open tree: a TTree, an RNTuple or the rows of a Parquet file.

    Attributes
    ----------
    path, name
        Of the file, and of the tree in it.
    n_event
        Entries.
    fields
        The branches.
    """

    path: str
    name: str
    n_event: int
    fields: Fields

    @property
    @abstractmethod
    def format(self) -> str:
        """What it is: `root` (a TTree), `rntuple` or `parquet`."""

    @property
    @abstractmethod
    def uuid(self) -> str:
        """The identity of the file, which another file of that name does not have."""

    @property
    @abstractmethod
    def n_byte(self) -> int:
        """Size of the file."""

    def uneven(self) -> dict[Path, int]:
        """Find branches that have another number of entries than the tree, and how many."""
        return {}

    @abstractmethod
    def _columns(self, paths: Sequence[Path], start: int, stop: int) -> ak.Array:
        """Read columns of a range of events; may raise anything."""

    @abstractmethod
    def _edges(self, paths: Sequence[Path]) -> Sequence[int]:
        """List where clusters of these columns begin and, last, the number of events."""

    def read(self, paths: Sequence[Path], start: int = 0, stop: int | None = None) -> ak.Array:
        """Read columns of the events from `start` to before `stop`, and nothing else.

        Returns
        -------
        ak.Array
            A record with one field per branch, as they are called in the tree.

        Raises
        ------
        FileError
            If a branch cannot be read.
        """
        stop = self.n_event if stop is None else stop
        if not paths:
            return ak.Array(ak.contents.RecordArray([], [], length=stop - start))
        try:
            array = self._columns(paths, start, stop)
        except Exception as error:  # damaged files raise anything
            wanted = ", ".join(sorted(".".join(path) for path in paths))
            raise FileError(
                f"{self.path}, tree {self.name}, events {start} to {stop}: cannot read {wanted}: "
                f"{reason_of(error)}. The file may be damaged or truncated"
            ) from error
        if len(array) != stop - start:
            raise FileError(
                f"{self.path}, tree {self.name}: {len(array)} events read where {stop - start} "
                f"were expected (from {start} to {stop}): the file is damaged"
            )
        return array

    def types(self) -> dict[Path, Any]:
        """Find awkward's type of every column; None for those that cannot be read."""

        def of(*paths: Path) -> dict[Path, Any]:
            empty = self.read(paths, 0, 0)
            return {path: column_of(empty, path).type.content for path in paths}

        try:
            return of(*self.fields.paths)
        except FileError:
            kinds: dict[Path, Any] = {}
            for path in self.fields.paths:
                kinds[path] = None
                with suppress(FileError):
                    kinds.update(of(path))
            return kinds

    def chunks(
        self, paths: Sequence[Path], events: int = CHUNK_EVENTS
    ) -> Iterator[tuple[int, int]]:
        """Split the entries into runs of about `events`, at boundaries of clusters."""
        start = 0
        for left, right in pairwise(self._edges(paths)):
            if right - start > events and left > start:
                yield start, left
                start = left
            while right - start > 2 * events:  # one huge cluster
                yield start, start + events
                start += events
        if start < self.n_event:
            yield start, self.n_event


def required_type(kind: Any) -> Any:
    """Return the type that the values have which are not missing; the same if none may be."""
    while isinstance(kind, ak.types.OptionType):
        kind = kind.content
    return kind


def reason_of(error: BaseException) -> str:
    """Say in one line what another library complained about."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
