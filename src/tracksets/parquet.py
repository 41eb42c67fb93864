"""A Parquet file in, an open tree out, whose clusters are the file's row groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import awkward as ak

from tracksets.errors import FileError, MissingExtraError
from tracksets.fields import Fields, Path, leaves
from tracksets.trees import Tree, reason_of

__all__ = ("ParquetTree", "is_parquet", "open_parquet")

_NAME = "rows"
"""What the only tree of a Parquet file is called."""


@dataclass(frozen=True)
class ParquetTree(Tree):
    """The rows of a Parquet file.

    Attributes
    ----------
    group_sizes
        Rows of each row group.
    """

    group_sizes: tuple[int, ...]

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(self.group_sizes)]

    def _edges(self, paths: Sequence[Path]) -> list[int]:  # noqa: ARG002  # the same for all
        return self._starts

    def _columns(self, paths: Sequence[Path], start: int, stop: int) -> ak.Array:
        starts = self._starts
        groups = [
            i for i in range(len(self.group_sizes)) if starts[i] < stop and starts[i + 1] > start
        ] or [0]
        columns = [".".join(path) for path in paths]
        array: Any = ak.from_parquet(self.path, columns=columns, row_groups=groups)
        first = starts[groups[0]]
        return array[start - first : stop - first]


def is_parquet(path: str) -> bool:
    """Whether a file is one by its name."""
    return path.endswith((".parquet", ".pq"))


def open_parquet(path: str, name: str | None = None) -> ParquetTree:
    """Open a Parquet file.

    Parameters
    ----------
    path
        Of the file, or its URL.
    name
        Nothing, or `rows`.

    Raises
    ------
    FileError
        If it is not a Parquet file, or truncated.
    MissingExtraError
        If pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", f"reading {path}") from error
    if name not in (None, _NAME):
        raise FileError(f"{path} is a Parquet file and has no trees, so none called {name!r}")
    try:
        metadata: Any = ak.metadata_from_parquet(path)
        form = metadata["form"]
        sizes = tuple(int(n) for n in metadata["col_counts"])
    except Exception as error:  # files that are not Parquet files raise anything
        raise FileError(
            f"{path} is not a Parquet file, or truncated: {reason_of(error)}"
        ) from error
    fields = Fields((each for each in leaves(form) if each), f"{path}")
    return ParquetTree(path, _NAME, sum(sizes), fields, sizes)
