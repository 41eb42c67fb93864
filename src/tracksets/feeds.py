"""Columns that arrive a chunk at a time; the same columns out, in the portions that a writer wants.

What passes is counted and hashed, so that a file can be checked against it without keeping it.
"""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracksets.errors import DataError

__all__ = ("Digest", "Feed")

Chunk = Mapping[str, NDArray[Any]]


class Digest:
    """The number of values of each column and a hash of their bytes; the same for any chunks."""

    def __init__(self, types: Mapping[str, Any]) -> None:
        self.n_event = 0
        self._types = {name: np.dtype(kind) for name, kind in types.items()}
        self._hashes = {name: blake2b(digest_size=16) for name in types}

    def update(self, chunk: Chunk) -> None:
        """Add the next events."""
        for name, digest in self._hashes.items():
            digest.update(np.ascontiguousarray(chunk[name]).data)
            self._types[name] = chunk[name].dtype
        self.n_event += len(next(iter(chunk.values())))

    def hash_of(self, name: str) -> str:
        """Return the type and the hash of a column."""
        return f"{self._types[name]} {self._hashes[name].hexdigest()}"

    def different(self, other: "Digest") -> list[str]:
        """List the columns whose types or values are not the same, bit for bit."""
        return [
            name
            for name, digest in self._hashes.items()
            if digest.digest() != other._hashes[name].digest()
            or self._types[name] != other._types[name]
        ]


class Feed:
    """Columns of numbers, one per event, on their way into a file.

    Parameters
    ----------
    types
        By column, at least one.
    chunks
        The values, in order; every chunk has every column.

    Attributes
    ----------
    types
        As given.
    digest
        Of what was taken so far.
    """

    def __init__(self, types: Mapping[str, Any], chunks: Iterable[Chunk]) -> None:
        self.types = {name: np.dtype(kind) for name, kind in types.items()}
        self.digest = Digest(self.types)
        self._chunks = iter(chunks)
        self._rest = {name: np.empty(0, kind) for name, kind in self.types.items()}

    def take(self, n: int) -> dict[str, NDArray[Any]]:
        """Return the next n events.

        Raises
        ------
        DataError
            If there are fewer.
        """
        while _length(self._rest) < n:
            if not self._fetch():
                raise DataError(f"{self.digest.n_event + _length(self._rest)} scores are too few")
        taken = {name: values[:n] for name, values in self._rest.items()}
        self._rest = {name: values[n:] for name, values in self._rest.items()}
        self.digest.update(taken)
        return taken

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Take all that is left, as it comes."""
        while (n := _length(self._rest)) or self._fetch():
            yield self.take(n or _length(self._rest))

    def _fetch(self) -> bool:
        """Add the next chunk to the rest, if there is one."""
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        columns = {name: np.asarray(chunk[name], kind) for name, kind in self.types.items()}
        shapes = {values.shape for values in columns.values()}
        if len(shapes) > 1 or len(next(iter(shapes))) != 1:
            raise DataError(f"columns of unequal shapes: {sorted(shapes)}")
        self._rest = {name: np.concatenate([self._rest[name], columns[name]]) for name in columns}
        return True


def _length(chunk: Chunk) -> int:
    return len(next(iter(chunk.values())))
