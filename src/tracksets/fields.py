"""Names in, columns out: where a name of an expression is found in an array or a tree.

`pt` of the collection `Track` is `events.Track.pt` or `events.Track_pt`; `PV_z` is `events.PV_z` or
`events.PV.z`. The same names serve NanoEvents, zipped records and plain branches. Four-vector
properties that are not stored are computed from the coordinates that are (see `fourvectors.py`).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import awkward as ak
import numpy as np

from tracksets.errors import DataError, near_misses
from tracksets.fourvectors import Path, coordinates_for, four_vector, long_name
from tracksets.jagged import Column, column, per_event

__all__ = ("Columns", "Fields", "Found", "Naming", "Path", "column_of", "leaves")

_BRACKETS = re.compile(r"(\[[^\]]*\])+$")


@dataclass(frozen=True)
class Naming:
    """How the names of one collection are spelled in a tree.

    Attributes
    ----------
    prefix
        The collection; `Track` finds `Track_pt`, `Track.pt` and a record's field.
    verbatim
        Also take the prefix as it stands, without a separator: `part` finds `partPt`.
    rename
        From the names in expressions to the names in the tree.
    """

    prefix: str = ""
    verbatim: bool = False
    rename: Mapping[str, str] | None = None

    def candidates(self, name: str, bare: bool = True) -> Iterator[str]:
        """Spellings of a name, the likeliest first.

        Without `bare`, only those that start with the prefix, or that the user gave.
        """
        renamed = (self.rename or {}).get(name)
        bare = bare or not self.prefix or renamed is not None
        name = name if renamed is None else renamed
        if self.prefix:
            yield f"{self.prefix}.{name}"
            yield f"{self.prefix}_{name}"
            if self.verbatim:
                yield f"{self.prefix}{name}"
        if bare:
            yield name


@dataclass(frozen=True)
class Found:
    """Where a name is: one stored column, or those to compute a quantity from.

    Attributes
    ----------
    paths
        Stored columns, by coordinate where they are those of four-vectors.
    quantity
        Nothing, `count`, or a property of four-vectors.
    """

    paths: Mapping[str, Path]
    quantity: str | None = None


class Fields:
    """The columns that an array or a tree has, by every name they go by.

    Parameters
    ----------
    paths
        All columns.
    where
        What to call the place in errors.
    """

    def __init__(self, paths: Iterable[Path], where: str = "the array") -> None:
        self.paths = tuple(paths)
        self.where = where
        exact = {".".join(path): path for path in self.paths}
        # None where several columns could be meant
        self._names: dict[str, Path | None] = {}
        self._folded: dict[str, Path | None] = {}
        for name, path in exact.items():
            plain = _BRACKETS.sub("", name)
            for table, alias in (
                (self._names, plain),
                (self._names, _underscored(plain)),
                (self._folded, plain.lower()),
                (self._folded, _underscored(plain).lower()),
            ):
                if table.setdefault(alias, path) != path:
                    table[alias] = None
        self._names.update(exact)

    @classmethod
    def of(cls, events: ak.Array, where: str = "the array") -> "Fields":
        """List the fields of an array, without reading any of them."""
        return cls((path for path in leaves(ak.to_layout(events)) if path), where)

    def find(self, name: str, naming: Naming | None = None) -> Found:
        """Find a name.

        Raises
        ------
        DataError
            If there is no such column; the message lists near misses.
        """
        naming = naming or Naming()
        stored = self._stored(name, naming)
        if stored is not None:
            return Found({name: stored})
        if name not in (naming.rename or {}):
            counted = self._counted(name)
            if counted is not None:
                return Found({name: counted}, "count")
            owner, _, last = name.replace(".", "_").rpartition("_")
            quantity = long_name(last.lower())
            # Either all coordinates are the collection's or none: never an event's own `mass`
            # with the momenta of its tracks.
            for whose in [Naming(owner)] if owner else [naming, Naming(rename=naming.rename)]:
                stored_as = partial(self._stored, naming=whose, bare=False)
                coordinates = coordinates_for(quantity, stored_as)
                if coordinates:
                    return Found(coordinates, quantity)
        tried = list(naming.candidates(name))
        known = [".".join(path) for path in self.paths]
        for spelling in tried:
            listed = near_misses(spelling, known)
            if listed.startswith("did you mean"):
                break
        looked = " or ".join(repr(each) for each in reversed(tried))
        raise DataError(f"no branch or field {looked} in {self.where}: {listed}")

    def _stored(self, name: str, naming: Naming, bare: bool = True) -> Path | None:
        spellings = list(naming.candidates(name, bare))
        for table, spelled in (
            (self._names, spellings),
            (self._names, map(_underscored, spellings)),
            (self._folded, map(str.lower, spellings)),
            (self._folded, [_underscored(each).lower() for each in spellings]),
        ):
            for each in spelled:
                path = table.get(each)
                if path is not None:
                    return path
        return None

    def _counted(self, name: str) -> Path | None:
        """Find a column of the collection `Track` that `nTrack` counts, as NanoEvents hides it."""
        if not name.startswith("n"):
            return None
        known = [path for path in self.paths if len(path) > 1 and path[0] == name[1:]]
        # Any of them will do; the one that is most probably needed anyway.
        return next((path for path in known if path[1:] == ("pt",)), known[0] if known else None)


def _underscored(name: str) -> str:
    return name.replace(".", "_")


def leaves(layout: Any, path: Path = ()) -> Iterator[Path]:
    """List the columns of a layout or a form, without reading any of them."""
    while not layout.is_record and hasattr(layout, "content") and not layout.is_union:
        layout = layout.content
    if not layout.is_record or layout.is_tuple:
        yield path
        return
    for name, content in zip(layout.fields, layout.contents, strict=True):
        yield from leaves(content, (*path, name))


class Columns:
    """The columns of events, each flattened once, whatever number of expressions uses it.

    Parameters
    ----------
    events
        Events in memory.
    fields
        Where to find names in them; found out from `events` by default.
    """

    def __init__(self, events: ak.Array, fields: Fields | None = None) -> None:
        self.n_event = len(events)
        self.fields = fields or Fields.of(events)
        self._array: Callable[[Path], ak.Array] = partial(column_of, events)
        self._read: dict[Path, Column] = {}

    def window(self, start: int, stop: int) -> "Columns":
        """Return the columns of the events from `start` to before `stop`."""
        if stop - start == self.n_event:
            return self
        part = copy(self)
        part.n_event = stop - start
        part._array = lambda path: self.array(path)[start:stop]
        part._read = {}
        return part

    def replaced(self, path: Path, values: Column) -> "Columns":
        """Return the columns with other values in one of them."""
        other = copy(self)
        other._read = {**self._read, path: values}
        return other

    def windows(self, paths: Iterable[Path], n_track: int) -> Iterator[tuple[int, int]]:
        """Split the events into runs of about `n_track` tracks of the fullest of some columns."""
        counts = np.ones(self.n_event, np.int64)
        for array in map(self.array, paths):
            if array.ndim > 1:
                counts = np.maximum(counts, per_event(array))
        filled = np.cumsum(counts) // n_track
        edges = (np.flatnonzero(np.diff(filled)) + 1).tolist()
        yield from zip([0, *edges], [*edges, self.n_event], strict=True)

    def array(self, path: Path) -> ak.Array:
        """Return a column as it is stored; a virtual one is not read yet."""
        return self._array(path)

    def of(self, naming: Naming | None = None) -> Callable[[str], Column]:
        """Return the look-up that expressions of one collection evaluate with."""

        def lookup(name: str) -> Column:
            found = self.fields.find(name, naming)
            if found.quantity is None:
                return self.read(*found.paths.values())
            if found.quantity == "count":
                return self._count(*found.paths.values())
            return four_vector(
                found.quantity, {key: self.read(path) for key, path in found.paths.items()}
            )

        return lookup

    def read(self, path: Path) -> Column:
        """Flatten one column.

        Raises
        ------
        DataError
            If it is not one number per track or per event.
        """
        if path not in self._read:
            self._read[path] = column(self.array(path), ".".join(path))
        return self._read[path]

    def _count(self, path: Path) -> Column:
        """Count the tracks of a column, without reading their values."""
        array, name = self.array(path), ".".join(path)
        if array.ndim < 2:
            raise DataError(f"{name} counts tracks, but has one number per event")
        return column(ak.num(array, axis=1), name)


def column_of(events: ak.Array, path: Path) -> ak.Array:
    """Take one column of a record, of any layout; a virtual one is not read yet."""
    for name in path:
        events = events[name]
    return events
