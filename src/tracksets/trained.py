"""All that is known of a trained model, in one picklable object, and what it reads.

It holds NumPy arrays and plain configuration. What JAX needs beside them lives in caches of the
process (see `engine.py`), so that a model that is unpickled again and again is compiled once.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import awkward as ak
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from tracksets.blocks import Shape
from tracksets.calibration import Calibration, link
from tracksets.configuration import Configuration
from tracksets.engines import JAX, Engine
from tracksets.fields import Fields, Path
from tracksets.folds import Folds
from tracksets.headers import write_parts
from tracksets.inputs import Inputs, paths_of
from tracksets.network import Architecture, Model
from tracksets.targets import Task

__all__ = ("Trained",)


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model with its inputs.

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
    n_member
        Models that it consists of. Several stand on a leading axis of the arrays, and a score is
        the mean of theirs.
    folds
        Which events each of them has not seen, and scores; see `Folds`.
    calibration
        What makes probabilities of the outputs of the network, or of the mean of several, if that
        is more than its task.
    engine
        What computes; not saved in a model file. See `on`.
    """

    inputs: Inputs
    model: Model
    task: Task
    arrays: Mapping[str, NDArray[Any]] = field(repr=False)
    shape: Shape
    summary: Mapping[str, Any] = field(default_factory=dict, repr=False)
    n_member: int = 1
    folds: Folds | None = None
    calibration: Calibration | None = None
    engine: Engine = JAX

    @cached_property
    def architecture(self) -> Architecture:
        """What decides the shapes of the network's arrays."""
        return Architecture.of(self.model, self.inputs, self.task.outputs)

    @property
    def history(self) -> list[dict[str, float]]:
        """Losses and metrics of every epoch of the training; of several models, see `members`."""
        return [dict(entry) for entry in self.summary.get("history", ())]

    @property
    def _decisive(self) -> Sequence[Configuration | None]:
        return self.inputs, self.model, self.task, self.folds, self.calibration

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the model: inputs, network, parameters, task."""
        digest = hashlib.sha256()
        for part in filter(None, self._decisive):
            digest.update(part.model_dump_json().encode())
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @property
    def identity(self) -> str:
        """What decides a score: the hash, and the engine if it isn't JAX."""
        return self.hash if self.engine == JAX else f"{self.hash} {self.engine}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trained) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    def __dask_tokenize__(self) -> str:
        return self.identity

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file with a JSON header; `load` is the way back."""
        write_parts(path, self.__getstate__())

    @property
    def fold_expression(self) -> str | None:
        """What gives the fold of an event, if there are folds."""
        return self.folds.expression if self.folds else None

    @property
    def event_level(self) -> list[str]:
        """Event-level expressions that are evaluated beside the inputs."""
        return [self.folds.expression] if self.folds else []

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
            return self.inputs.plain_branches(*self.event_level)
        if isinstance(source, ak.Array):
            fields = Fields.of(source)
        else:
            names: Sequence[str] = source.keys() if hasattr(source, "keys") else source
            fields = Fields([(name,) for name in names], getattr(source, "object_path", "the list"))
        return [".".join(path) for path in self.paths(fields)]

    def paths(self, fields: Fields, *event_level: str) -> list[Path]:
        """List the columns that a call reads, and those of further event-level expressions."""
        return paths_of(self.inputs, fields, *self.event_level, *event_level)

    def link(self, outputs: Float[np.ndarray, "event output"]) -> Float[np.ndarray, "event score"]:
        """Turn outputs of the network into scores."""
        return link(self.task, self.calibration, outputs)

    def __getstate__(self) -> dict[str, Any]:
        # Cached properties are cheap to make again, and an architecture pickles larger than hash.
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}
