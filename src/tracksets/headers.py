"""The parts of a scorer in, a model file out; and back, with every part checked."""

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from tracksets.blocks import Shape
from tracksets.calibration import Calibration
from tracksets.compiling import compiled
from tracksets.configuration import as_config_error
from tracksets.errors import ModelError
from tracksets.folds import Folds
from tracksets.inputs import Inputs
from tracksets.modelfile import read_model, write_model
from tracksets.network import Architecture, Model
from tracksets.targets import Task

__all__ = ("read_parts", "write_parts")


def write_parts(path: str | os.PathLike[str], parts: Mapping[str, Any]) -> None:
    """Write the parts of a scorer, by name; see `read_parts`."""
    shape = parts["shape"]
    header = {
        **{name: parts[name].model_dump(mode="json") for name in ("inputs", "model", "task")},
        "shape": {"tracks": dict(shape.tracks), "events": shape.events},
        "summary": json.loads(json.dumps(parts["summary"])),
        "members": parts["n_member"],
    }
    for name in ("folds", "calibration"):
        if parts[name] is not None:
            header[name] = parts[name].model_dump(mode="json")
    write_model(path, header, parts["arrays"])


def read_parts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `write_parts` wrote.

    Raises
    ------
    ModelError
        If the file is missing, truncated, not a model, or of another format version.
    """
    header, arrays = read_model(path)
    try:
        return _checked(header, arrays)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason: object = repr(error)
        if isinstance(error, ValidationError):
            reason = as_config_error(error, "the header")
        raise ModelError(f"{path} is damaged or not a tracksets model: {reason}") from None


def _checked(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    inputs = Inputs.model_validate(header["inputs"])
    model = Model.model_validate(header["model"])
    task = Task.model_validate(header["task"])
    shape = _shape(header["shape"], header["inputs"]["collections"])
    n_member, folds = _members(header)
    shapes = compiled(Architecture.of(model, inputs, task.outputs)).shapes
    if n_member > 1:
        shapes = {name: (n_member, *each) for name, each in shapes.items()}
    _check_arrays(arrays, shapes)
    return {
        "inputs": inputs,
        "model": model,
        "task": task,
        "arrays": arrays,
        "shape": shape,
        "summary": dict(header["summary"]),
        "n_member": n_member,
        "folds": folds,
        "calibration": Calibration.from_header(header, task),
    }


def _members(header: Mapping[str, Any]) -> tuple[int, Folds | None]:
    if header["format_version"] == 1:
        return 1, None
    n_member = int(header["members"])
    folds = Folds.model_validate(header["folds"]) if "folds" in header else None
    if n_member < 1 or (folds and n_member % len(folds.values)):
        raise ValueError(f"{n_member} member(s) of the folds {list(folds.values) if folds else []}")
    return n_member, folds


def _check_arrays(
    arrays: Mapping[str, NDArray[Any]], expected: Mapping[str, tuple[int, ...]]
) -> None:
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


def _shape(header: Mapping[str, Any], collections: Iterable[str]) -> Shape:
    tracks = {str(name): int(n) for name, n in header["tracks"].items()}
    events = int(header["events"])
    if set(tracks) != set(collections):
        raise ValueError(f"blocks of {list(tracks)} for the collections {list(collections)}")
    if not all(0 < n <= 2**24 for n in (*tracks.values(), events)):
        raise ValueError(f"block sizes out of range: {header}")
    return Shape(tracks, events)
