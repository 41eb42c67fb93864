"""A header and named arrays in, one safetensors file out; and back.

The file holds numbers and JSON, nothing that could be executed: no pickle, no code.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors

from tracksets.atomic import appearing
from tracksets.blocks import Shape
from tracksets.errors import ModelError

__all__ = ("FORMAT_VERSION", "check_arrays", "read_model", "read_shape", "write_model")

FORMAT_VERSION = 1
_KEY = "tracksets"


def write_model(
    path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Write a model file; it appears complete or not at all.

    Parameters
    ----------
    path
        Where to.
    header
        What JSON can say.
    arrays
        By name.

    Raises
    ------
    FileError
        If the folder cannot be written.
    """
    # Keys keep their order: that of the collections is the order of the network.
    text = json.dumps({"format_version": FORMAT_VERSION, **header})
    content = safetensors.save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        metadata={_KEY: text},
    )
    with appearing(path, force=True) as temporary:
        temporary.write_bytes(content)


def read_model(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read a model file.

    Returns
    -------
    tuple
        The header and the arrays.

    Raises
    ------
    ModelError
        If the file is missing, truncated, not a model, or of another format version.
    """
    if not Path(path).is_file():
        raise ModelError(f"no model file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{path} is not a model file, or truncated: {error}") from None
    if text is None:
        raise ModelError(
            f"{path} is a safetensors file, but not one that tracksets wrote (it has no "
            f"'{_KEY}' header)"
        )
    try:
        header = json.loads(text)
        version = header["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ModelError(f"{path}: the header is not what a model file has") from None
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{path} has format version {version!r}; this version of tracksets reads "
            f"{FORMAT_VERSION}. Use the version of tracksets that wrote it, or train again"
        )
    return header, arrays


def read_shape(header: Mapping[str, Any], collections: Iterable[str]) -> Shape:
    """Read the slots of blocks; anything odd about them is a ValueError."""
    tracks = {str(name): int(n) for name, n in header["tracks"].items()}
    events = int(header["events"])
    if set(tracks) != set(collections):
        raise ValueError(f"blocks of {list(tracks)} for the collections {list(collections)}")
    if not all(0 < n <= 2**24 for n in (*tracks.values(), events)):
        raise ValueError(f"block sizes out of range: {header}")
    return Shape(tracks, events)


def check_arrays(
    arrays: Mapping[str, NDArray[Any]], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Compare arrays with the shapes that a network has; a difference is a ValueError."""
    if set(expected) != set(arrays):
        odd = sorted(set(expected) ^ set(arrays))
        raise ValueError(f"arrays missing or too many: {', '.join(odd)}")
    for name, array in arrays.items():
        if array.shape != expected[name] or array.dtype != np.float32:
            raise ValueError(
                f"array {name} is {array.dtype} {array.shape}, expected float32 {expected[name]}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"array {name} is not finite")
