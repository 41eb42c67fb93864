"""Events in, one score per event out: everything needed in between, in one picklable object.

A `Scorer` holds NumPy arrays and plain configuration. What JAX needs beside them lives in caches of
the process (see `engine.py`), so that a scorer that is unpickled again and again is compiled once.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import awkward as ak
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import ValidationError

from tracksets.blocks import Shape, pack_parts
from tracksets.compiling import compiled
from tracksets.engine import compute
from tracksets.errors import DataError, ModelError
from tracksets.features import JaggedInputs, jagged_inputs
from tracksets.fields import Columns, Fields, column_of
from tracksets.inputs import Inputs, as_config_error, paths_of
from tracksets.modelfile import read_model, write_model
from tracksets.network import Architecture, Model
from tracksets.targets import Task

__all__ = ("Scorer", "load")

_WINDOW_TRACKS = 2**18
"""Tracks that are made into flat inputs at a time; bounds the memory of a call, and is small enough
that the network computes most of the time while the next ones are made."""


@dataclass(frozen=True, eq=False)
class Scorer:
    """A trained model with its inputs: call it on events to get scores.

    Attributes
    ----------
    inputs
        What the network sees.
    model
        Configuration of the network.
    task
        What the scores are.
    arrays
        By name: every array of the network, scaling included.
    shape
        Slots of the blocks that events are packed into.
    summary
        About the training: events, losses, versions. Plain JSON.

    Examples
    --------
    >>> scorer = load("b_events.safetensors")               # doctest: +SKIP
    >>> events["score"] = scorer(events)                    # doctest: +SKIP
    """

    inputs: Inputs
    model: Model
    task: Task
    arrays: Mapping[str, NDArray[Any]] = field(repr=False)
    shape: Shape
    summary: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __call__(self, events: ak.Array) -> ak.Array:
        """Score every event.

        The order of the events is kept, and an event without tracks gets a score too. Scores do
        not depend on how the array is laid out or sliced, nor on the other events in it.

        Parameters
        ----------
        events
            `n * {Track: var * {pt: float32, ...}}` or `n * {Track_pt: var * float32, ...}`.

        Returns
        -------
        ak.Array
            `n * float32`; for several classes or targets `n * {class: float32, ...}`. A lazy
            array of dask-awkward gives a lazy one.

        Raises
        ------
        DataError
            If a branch is missing or holds what the inputs cannot take.
        ProcessError
            In a process that was forked after JAX had computed.
        """
        if type(events).__module__.startswith("dask_awkward."):
            from tracksets.integrations.dask import score_partitions

            return score_partitions(self, events)
        if not isinstance(events, ak.Array):
            raise DataError(f"events must be an awkward array, not {type(events).__name__}")
        if ak.backend(events) == "typetracer":
            return self._traced(events)
        if len(events) == 0 and not ak.fields(events):
            return self.as_array(np.empty((0, self.task.outputs), np.float32))
        return self.as_array(self.score(Columns(events)))

    def score(self, columns: Columns, first_event: int = 0) -> Float[np.ndarray, "event score"]:
        """Score columns that are looked up already; shape (n_event, n_score).

        Parameters
        ----------
        columns
            Of the events.
        first_event
            Number of the first one in its source, for messages.
        """
        return self.score_parts(self.flatten(columns, first_event))

    def flatten(self, columns: Columns, first_event: int = 0) -> Iterator[JaggedInputs]:
        """Make flat inputs of columns, in parts of bounded size; see `score`."""
        for start, stop in columns.windows(paths_of(self.inputs, columns.fields), _WINDOW_TRACKS):
            yield jagged_inputs(columns.window(start, stop), self.inputs, first_event + start)

    def score_inputs(self, jagged: JaggedInputs) -> Float[np.ndarray, "event score"]:
        """Score flat inputs; shape (n_event, n_score)."""
        return self.score_parts([jagged])

    def score_parts(self, parts: Iterable[JaggedInputs]) -> Float[np.ndarray, "event score"]:
        """Score flat inputs that come in parts; shape (n_event, n_score).

        Parts of any length fill whole blocks, and how the events are shared out among them does
        not change a score.
        """
        nothing = np.empty((0, self.task.outputs), np.float32)
        return np.concatenate([nothing, *self.stream(parts)])

    def stream(self, parts: Iterable[JaggedInputs]) -> Iterator[Float[np.ndarray, "event score"]]:
        """Score flat inputs that come in parts; yields scores of some events at a time, in order.

        The same scores as those of `score_parts`, in memory that does not grow with the events.
        """
        blocks = pack_parts(parts, self.shape)
        for outputs in compute(self.hash, self.architecture, self.arrays, blocks):
            yield self.task.link(outputs)

    def _traced(self, events: ak.Array) -> ak.Array:
        """Answer Dask and coffea, which ask with arrays without data what a call would read."""
        for path in paths_of(self.inputs, Fields.of(events)):
            ak.typetracer.touch_data(column_of(events, path))
        scores = self.as_array(np.empty((0, self.task.outputs), np.float32))
        return ak.Array(ak.to_layout(scores).to_typetracer(forget_length=True))

    def as_array(self, scores: Float[np.ndarray, "event score"]) -> ak.Array:
        """Return scores of shape (n_event, n_score) as what a call returns."""
        names = self.task.score_names
        if not names:
            return ak.Array(np.ascontiguousarray(scores[:, 0]))
        columns = [np.ascontiguousarray(scores[:, i]) for i in range(len(names))]
        return ak.zip(dict(zip(names, columns, strict=True)), depth_limit=1)

    def branches(self, source: Any = None) -> list[str]:
        """List what the scorer reads.

        Parameters
        ----------
        source
            An awkward array, an uproot tree or a list of names: the branches or fields are those
            found there. Without it (or with the name of a tree), the names that plain branches of
            a tree would have: `Track_pt`, `PV_z`.

        Raises
        ------
        DataError
            If one is not there.
        """
        if source is None or isinstance(source, str):
            return self.inputs.plain_branches()
        if isinstance(source, ak.Array):
            fields = Fields.of(source)
        else:
            names: Sequence[str] = source.keys() if hasattr(source, "keys") else source
            fields = Fields([(name,) for name in names], getattr(source, "object_path", "the list"))
        return [".".join(path) for path in paths_of(self.inputs, fields)]

    @property
    def history(self) -> list[dict[str, float]]:
        """Losses and metrics of every epoch of the training; see `Fitted`."""
        return [dict(entry) for entry in self.summary.get("history", ())]

    @cached_property
    def architecture(self) -> Architecture:
        """What decides the shapes of the network's arrays."""
        return Architecture(
            model=self.model,
            tracks=tuple(self.inputs.widths.items()),
            event=self.inputs.event_width,
            outputs=self.task.outputs,
        )

    @cached_property
    def hash(self) -> str:
        """SHA-256 of everything that decides a score: inputs, network, parameters, task."""
        digest = hashlib.sha256()
        for part in (self.inputs, self.model, self.task):
            digest.update(part.model_dump_json().encode())
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scorer) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def __dask_tokenize__(self) -> str:
        return self.hash

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file with a JSON header; `load` is the way back."""
        header = {
            "inputs": self.inputs.model_dump(mode="json"),
            "model": self.model.model_dump(mode="json"),
            "task": self.task.model_dump(mode="json"),
            "shape": {"tracks": dict(self.shape.tracks), "events": self.shape.events},
            "summary": json.loads(json.dumps(self.summary)),
        }
        write_model(path, header, self.arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            If the file is missing, truncated, not a model, or of another format version.
        """
        header, arrays = read_model(path)
        try:
            scorer = cls(
                inputs=Inputs.model_validate(header["inputs"]),
                model=Model.model_validate(header["model"]),
                task=Task.model_validate(header["task"]),
                arrays=arrays,
                shape=_shape(header["shape"], header["inputs"]["collections"]),
                summary=dict(header["summary"]),
            )
            scorer._check_arrays()
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            reason: object = repr(error)
            if isinstance(error, ValidationError):
                reason = as_config_error(error, "the header")
            raise ModelError(f"{path} is damaged or not a tracksets model: {reason}") from None
        return scorer

    def _check_arrays(self) -> None:
        expected = compiled(self.architecture).shapes
        if set(expected) != set(self.arrays):
            odd = sorted(set(expected) ^ set(self.arrays))
            raise ValueError(f"arrays missing or too many: {', '.join(odd)}")
        for name, array in self.arrays.items():
            if array.shape != expected[name] or array.dtype != np.float32:
                raise ValueError(
                    f"array {name} is {array.dtype} {array.shape}, expected float32 {expected[name]}"
                )
            if not np.isfinite(array).all():
                raise ValueError(f"array {name} is not finite")

    def __getstate__(self) -> dict[str, Any]:
        # Cached properties are cheap to make again, and an architecture pickles larger than hash.
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}


def _shape(header: Mapping[str, Any], collections: Iterable[str]) -> Shape:
    tracks = {str(name): int(n) for name, n in header["tracks"].items()}
    events = int(header["events"])
    if set(tracks) != set(collections):
        raise ValueError(f"blocks of {list(tracks)} for the collections {list(collections)}")
    if not all(0 < n <= 2**24 for n in (*tracks.values(), events)):
        raise ValueError(f"block sizes out of range: {header}")
    return Shape(tracks, events)


def load(path: str | os.PathLike[str]) -> Scorer:
    """Read a scorer from a model file.

    Parameters
    ----------
    path
        What `Scorer.save` or `tracksets train` wrote.

    Raises
    ------
    ModelError
        If the file is missing, truncated, not a model, or of another format version.
    """
    return Scorer.load(path)
