"""Flat inputs in, temporary files of float32 out, any rows of which are read back by any thread."""

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from os import preadv
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from tracksets.errors import FileError
from tracksets.features import JaggedInputs

__all__ = ("EVENT", "Spool")

EVENT = ""
"""Key of the event-level features beside the collections' names, none of which is empty."""

_SPARE = 500_000_000
"""Bytes of the disk that are left to others."""


class Spool:
    """The matrices of flat inputs, each in a temporary file.

    The files have no names, so that nothing is left of them when the process ends, however it
    does. They are in the folder that the environment variable TMPDIR names, or else in the system's
    for temporary files.

    Parameters
    ----------
    widths
        Features of each matrix: by collection, and of the event-level features as `EVENT`.
    """

    def __init__(self, widths: Mapping[str, int]) -> None:
        self.widths = dict(widths)
        self.n_byte = 0
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}
        for name in widths:
            file = self._stack.enter_context(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115
            self._files[name] = file

    def close(self) -> None:
        """Remove the files."""
        self._stack.close()

    def append(self, part: JaggedInputs) -> None:
        """Add the rows of further events.

        Raises
        ------
        FileError
            If there is no more room.
        """
        matrices = {**part.tracks, EVENT: part.event}
        n_byte = sum(each.nbytes for each in matrices.values())
        folder = Path(tempfile.gettempdir())
        free = shutil.disk_usage(folder).free
        if free < n_byte + _SPARE:
            raise self._full(folder, f"only {free / 1e9:.2g} GB are left")
        try:
            for name, matrix in matrices.items():
                _write(self._files[name], matrix)
        except OSError as error:
            raise self._full(folder, str(error.strerror)) from error
        self.n_byte += n_byte

    def _full(self, folder: Path, why: str) -> FileError:
        return FileError(
            f"the inputs do not fit into memory_gb, and {self.n_byte / 1e9:.2g} GB of them are "
            f"written to a temporary file in {folder}, where {why}. Let the environment variable "
            "TMPDIR name a folder on a larger disk, or raise memory_gb"
        )

    def read(self, name: str, row: int, out: Float[np.ndarray, "row feature"]) -> None:
        """Fill a contiguous matrix with rows from `row` on; threads may do so side by side."""
        view, at = _bytes_of(out), row * 4 * self.widths[name]
        while view:
            n = preadv(self._files[name].fileno(), [view], at)
            if not n:
                raise FileError(f"the temporary file of the inputs {name} ends too early")
            view, at = view[n:], at + n


def _write(file: Any, matrix: NDArray[np.float32]) -> None:
    view = _bytes_of(np.ascontiguousarray(matrix))
    while view:  # a write may take a part only
        view = view[file.write(view) :]


def _bytes_of(matrix: NDArray[np.float32]) -> memoryview:
    return matrix.reshape(-1).view(np.uint8).data
