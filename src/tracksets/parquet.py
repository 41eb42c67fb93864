"""A Parquet file in, an open tree out, whose clusters are the file's row groups; and the way back."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory
from typing import Any

import awkward as ak
import numpy as np

from tracksets.errors import FileError, MissingExtraError
from tracksets.feeds import Feed
from tracksets.fields import Fields, Path, leaves
from tracksets.provenance import PREFIX
from tracksets.trees import Tree, reason_of

__all__ = ("ParquetTree", "add_columns", "is_parquet", "new_parquet", "notes_of", "open_parquet")

_NAME = "rows"
"""What the only tree of a Parquet file is called."""

_DESCRIPTION = "awkward_array_metadata"
"""Where `ak.to_parquet` says what Arrow cannot."""


@dataclass(frozen=True)
class ParquetTree(Tree):
    """The rows of a Parquet file.

    Attributes
    ----------
    metadata
        The footer, as pyarrow gives it.
    """

    metadata: Any

    @property
    def format(self) -> str:
        """What it is."""
        return "parquet"

    @cached_property
    def uuid(self) -> str:
        """A hash of the footer, which has the place and the statistics of every column."""
        footer = io.BytesIO()
        self.metadata.write_metadata_file(footer)
        return hashlib.sha256(footer.getvalue()).hexdigest()[:32]

    @cached_property
    def n_byte(self) -> int:
        """Size of all columns, compressed."""
        groups = map(self.metadata.row_group, range(self.metadata.num_row_groups))
        return sum(
            group.column(i).total_compressed_size
            for group in groups
            for i in range(group.num_columns)
        )

    @cached_property
    def _starts(self) -> list[int]:
        n = self.metadata.num_row_groups
        return [0, *accumulate(self.metadata.row_group(i).num_rows for i in range(n))]

    @cached_property
    def _latest(self) -> dict[tuple[Any, ...], ak.Array]:
        return {}

    def _edges(self, paths: Sequence[Path]) -> list[int]:  # noqa: ARG002  # the same for all
        return self._starts

    def _columns(self, paths: Sequence[Path], start: int, stop: int) -> ak.Array:
        starts = self._starts
        groups = [
            i for i, first in enumerate(starts[:-1]) if first < stop and starts[i + 1] > start
        ]
        groups = groups or [0][: len(starts) - 1]
        columns: list[str] | None = [".".join(path) for path in paths]
        if any("." in name for path in paths for name in path):
            columns = None  # awkward takes `a.b` for a part of `a`: all columns are read
        # Row groups can be read as a whole only, and a large one is read in several chunks.
        key = (*groups, *(columns or ()))
        array: Any = self._latest.get(key)
        if array is None:
            array = ak.from_parquet(self.path, columns=columns, row_groups=groups or None)
            self._latest.clear()
            self._latest[key] = array
        first = starts[groups[0]] if groups else 0
        names = list(dict.fromkeys(path[0] for path in paths))
        return array[names][start - first : stop - first]


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
    _pyarrow(f"reading {path}")
    if name not in (None, _NAME):
        raise FileError(f"{path} is a Parquet file and has no trees, so none called {name!r}")
    try:
        metadata = _metadata(path)
        form = ak.metadata_from_parquet(path)["form"]
    except Exception as error:  # files that are not Parquet files raise anything
        raise FileError(
            _beyond_awkward(path)
            or f"{path} is not a Parquet file, or truncated: {reason_of(error)}"
        ) from error
    fields = Fields((each for each in leaves(form) if each), f"{path}")
    return ParquetTree(path, _NAME, metadata.num_rows, fields, metadata)


def _pyarrow(purpose: str) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", purpose) from error
    return pyarrow


def _beyond_awkward(path: str) -> str | None:
    """Name the column for whose type awkward has none, if that is what is wrong with a file."""
    pyarrow = _pyarrow(f"reading {path}")
    try:
        schema = _metadata(path).schema.to_arrow_schema()
    except Exception:  # noqa: BLE001  # it is no Parquet file
        return None
    for field in schema:
        try:
            ak.from_arrow_schema(pyarrow.schema([field]))
        except Exception:  # noqa: BLE001  # of many kinds
            return (
                f"{path}: awkward cannot read the column {field.name}, of type {field.type}; "
                "make a file without it"
            )
    return None


def _metadata(path: str) -> Any:
    import fsspec

    with fsspec.open(path, "rb") as file:
        return _pyarrow(f"reading {path}").parquet.read_metadata(file)


def notes_of(path: str) -> list[str]:
    """List what `tracksets` wrote into the metadata of a Parquet file."""
    try:
        metadata: Mapping[bytes, bytes] = _metadata(path).metadata or {}
    except MissingExtraError:
        raise
    except Exception as error:
        raise FileError(
            f"{path} is not a Parquet file, or truncated: {reason_of(error)}"
        ) from error
    return [value.decode() for key, value in metadata.items() if key.startswith(PREFIX.encode())]


@contextmanager
def new_parquet(
    path: FilePath, notes: Mapping[str, str]
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Make a Parquet file; yields the function that writes the next rows, one at least.

    Parameters
    ----------
    path
        Where to; overwritten.
    notes
        For the file's metadata.
    """
    pyarrow = _pyarrow(f"writing {path.name}")
    writer: Any = None

    def extend(columns: Mapping[str, Any]) -> None:
        nonlocal writer
        # Plain Arrow types, which every reader knows, keep all of awkward's that files have.
        table = ak.to_arrow_table(ak.zip(dict(columns), depth_limit=1), extensionarray=False)
        if writer is None:
            schema = _with_notes(table.schema, notes)
            writer = pyarrow.parquet.ParquetWriter(path, schema, compression="zstd")
        writer.write_table(table.cast(writer.schema))

    try:
        yield extend
    finally:
        if writer is not None:
            writer.close()


def add_columns(source: str, output: FilePath, scores: Feed, notes: Mapping[str, str]) -> None:
    """Copy a Parquet file, row group by row group, with further columns.

    Parameters
    ----------
    source, output
        From where, and where to; overwritten.
    scores
        The new columns; columns of these names are left out of the copy.
    notes
        For the file's metadata.
    """
    import fsspec

    pyarrow = _pyarrow(f"writing {output.name}")
    with fsspec.open(source, "rb") as opened:
        file = pyarrow.parquet.ParquetFile(opened)
        names = [name for name in file.schema_arrow.names if name not in scores.types]

        def labelled(table: Any) -> Any:
            table = table.select(names)
            for name, values in scores.take(len(table)).items():
                field = pyarrow.field(name, pyarrow.from_numpy_dtype(values.dtype), nullable=False)
                table = table.append_column(field, pyarrow.array(values))
            return table

        empty = labelled(file.schema_arrow.empty_table())
        schema = _with_notes(empty.schema, {**notes, **_described(empty.schema, scores)})
        n = file.num_row_groups
        codec = file.metadata.row_group(0).column(0).compression.lower() if n else "zstd"
        codec = {"uncompressed": "none"}.get(codec, codec)
        with pyarrow.parquet.ParquetWriter(output, schema, compression=codec) as writer:
            for i in range(n):
                table = labelled(file.read_row_group(i))
                writer.write_table(table, row_group_size=max(len(table), 1))


def _described(schema: Any, scores: Feed) -> dict[str, str]:
    """Return awkward's description of all columns, if a file has one of those that it came with.

    It has the names of records and more that Arrow has no word for. awkward reads no file in which
    a column is left out of it.
    """
    there = (schema.metadata or {}).get(_DESCRIPTION.encode())
    if there is None:
        return {}
    with TemporaryDirectory() as folder:
        path = f"{folder}/scores.parquet"
        empty = ak.zip({name: np.empty(0, kind) for name, kind in scores.types.items()})
        ak.to_parquet(empty, path, extensionarray=True)
        new = _metadata(path).metadata[_DESCRIPTION.encode()]
    return {_DESCRIPTION: json.dumps({**json.loads(there), **json.loads(new)})}


def _with_notes(schema: Any, notes: Mapping[str, str]) -> Any:
    texts = {key.encode(): text.encode() for key, text in notes.items()}
    return schema.with_metadata({**(schema.metadata or {}), **texts})
