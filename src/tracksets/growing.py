"""Numbers that arrive in parts in, one array of them out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ("Growing",)


class Growing:
    """Rows that arrive in parts, kept in one array with room for more.

    Joining a list of the parts in the end would take twice their memory; the room for more takes
    none before it is used.
    """

    def __init__(self) -> None:
        self._array: NDArray[Any] | None = None
        self._n = 0

    def append(self, rows: NDArray[Any]) -> None:
        """Take further rows; the first ones say of which type and width all are."""
        if self._array is None:
            self._array = np.empty((0, *rows.shape[1:]), rows.dtype)
        stop = self._n + len(rows)
        if stop > len(self._array):
            larger = np.empty((max(stop, 2 * len(self._array)), *rows.shape[1:]), rows.dtype)
            larger[: self._n] = self._array[: self._n]
            self._array = larger
        self._array[self._n : stop] = rows
        self._n = stop

    @property
    def array(self) -> NDArray[Any]:
        """All rows so far."""
        if self._array is None:
            raise ValueError("nothing was appended")
        return self._array[: self._n]
