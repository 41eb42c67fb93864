"""Names in, columns out: where a name of an expression is found in an array or a tree.

`pt` of the collection `Track` is `events.Track.pt` or `events.Track_pt`; `PV_z` is `events.PV_z` or
`events.PV.z`. The same names serve NanoEvents, zipped records and plain branches. Four-vector
properties that are not stored are computed from the coordinates that are.
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
from tracksets.functions import elementwise
from tracksets.jagged import Column, column

__all__ = ("Columns", "Fields", "Found", "Naming", "Path")

Path = tuple[str, ...]
"""The fields to take, one after the other, from the events to a column."""

_BRACKETS = re.compile(r"(\[[^\]]*\])+$")
_AZIMUTHAL = (("pt", "phi"), ("px", "py"))
_LONGITUDINAL = ("eta", "pz", "theta")
_TEMPORAL = ("mass", "m", "energy", "e")
_VECTOR = {
    **{name: name for name in ("px", "py", "pz", "pt", "phi", "eta", "theta", "p")},
    **{name: name for name in ("mass", "energy", "rapidity", "et", "mt", "beta", "gamma")},
    "m": "mass",
    "e": "energy",
    "y": "rapidity",
}


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

    def candidates(self, name: str) -> Iterator[str]:
        """Spellings of a name, the likeliest first."""
        name = (self.rename or {}).get(name, name)
        if self.prefix:
            yield f"{self.prefix}.{name}"
            yield f"{self.prefix}_{name}"
            if self.verbatim:
                yield f"{self.prefix}{name}"
        yield name


@dataclass(frozen=True)
class Found:
    """Where a name is: one stored column, or the coordinates to compute it from."""

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
        self._exact: dict[str, Path] = {}
        self._folded: dict[str, Path | None] = {}
        for path in self.paths:
            last = _BRACKETS.sub("", path[-1])
            for name in dict.fromkeys(
                (".".join(path), ".".join((*path[:-1], last)), "_".join((*path[:-1], last)))
            ):
                self._exact.setdefault(name, path)
                # None where a name without regard to case is ambiguous
                known = self._folded.setdefault(name.lower(), path)
                if known != path:
                    self._folded[name.lower()] = None

    @classmethod
    def of(cls, events: ak.Array, where: str = "the array") -> "Fields":
        """List the fields of an array, without reading any of them."""
        return cls(_leaves(ak.to_layout(events)), where)

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
        if name.lower() in _VECTOR:
            coordinates = self._coordinates(naming)
            if coordinates:
                return Found(coordinates, _VECTOR[name.lower()])
        tried = list(naming.candidates(name))
        listed = near_misses(tried[0], self._exact)
        if "did you mean" not in listed and len(tried) > 1:
            listed = near_misses(tried[-2], self._exact)
        looked = " or ".join(repr(each) for each in reversed(tried))
        raise DataError(f"no branch or field {looked} in {self.where}: {listed}")

    def _stored(self, name: str, naming: Naming) -> Path | None:
        for table, fold in ((self._exact, str), (self._folded, str.lower)):
            for spelling in naming.candidates(name):
                path = table.get(fold(spelling))
                if path is not None:
                    return path
        return None

    def _coordinates(self, naming: Naming) -> dict[str, Path]:
        def first(*names: str) -> dict[str, Path]:
            for name in names:
                path = self._stored(name, naming)
                if path is not None:
                    return {name: path}
            return {}

        for pair in _AZIMUTHAL:
            azimuthal = {**first(pair[0]), **first(pair[1])}
            longitudinal = first(*_LONGITUDINAL)
            if len(azimuthal) == 2 and longitudinal:
                return {**azimuthal, **longitudinal, **first(*_TEMPORAL)}
        return {}


def _leaves(layout: Any, path: Path = ()) -> Iterator[Path]:
    while not layout.is_record and hasattr(layout, "content") and not layout.is_union:
        layout = layout.content
    if not layout.is_record or layout.is_tuple:
        yield path
        return
    for name, content in zip(layout.fields, layout.contents, strict=True):
        yield from _leaves(content, (*path, name))


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
        self._array: Callable[[Path], ak.Array] = partial(_take, events)
        self._read: dict[Path, Column] = {}

    def window(self, start: int, stop: int) -> "Columns":
        """Return the columns of the events from `start` to before `stop`."""
        part = copy(self)
        part.n_event = stop - start
        part._array = lambda path: self.array(path)[start:stop]
        part._read = {}
        return part

    def array(self, path: Path) -> ak.Array:
        """Return a column as it is stored; a virtual one is read now, and nothing else is."""
        return self._array(path)

    def of(self, naming: Naming | None = None) -> Callable[[str], Column]:
        """Return the look-up that expressions of one collection evaluate with."""

        def lookup(name: str) -> Column:
            found = self.fields.find(name, naming)
            if found.quantity is None:
                return self.read(*found.paths.values())
            return _four_vector(
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


def _take(events: ak.Array, path: Path) -> ak.Array:
    for name in path:
        events = events[name]
    return ak.materialize(events)


def _four_vector(quantity: str, coordinates: dict[str, Column]) -> Column:
    """Compute a property of four-vectors in double precision; massless where there is no mass."""
    import vector

    names = {"m": "mass", "e": "energy"}

    def compute(*values: Any) -> Any:
        arrays = np.broadcast_arrays(*(np.asarray(each, np.float64) for each in values))
        parts = {names.get(k, k): v for k, v in zip(coordinates, arrays, strict=True)}
        if not {"mass", "energy"} & set(parts):
            parts["mass"] = np.zeros_like(arrays[0])
        return np.asarray(getattr(vector.array(parts), quantity))

    result = elementwise(compute, *coordinates.values())
    assert isinstance(result, Column)
    return result
