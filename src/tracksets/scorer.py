"""Events in, one score per event out."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import awkward as ak
import numpy as np
from jaxtyping import Float

from tracksets.abilities import Abilities
from tracksets.blocks import pack_parts
from tracksets.engine import compute
from tracksets.engines import Engine
from tracksets.errors import DataError, ModelError
from tracksets.features import JaggedInputs, jagged_inputs
from tracksets.fields import Columns, Fields, column_of
from tracksets.headers import read_parts
from tracksets.members import combined, joined
from tracksets.trained import Trained

__all__ = ("Scorer", "load", "loaded")

_WINDOW_TRACKS = 2**18
"""Tracks that are made into flat inputs at a time; bounds the memory of a call, and is small enough
that the network computes most of the time while the next ones are made."""


@dataclass(frozen=True, eq=False)
class Scorer(Trained, Abilities):
    """A trained model with its inputs: call it on events to get scores.

    Its attributes are those of `Trained`.

    Examples
    --------
    >>> scorer = load("b_events.safetensors")               # doctest: +SKIP
    >>> events["score"] = scorer(events)                    # doctest: +SKIP
    """

    def __call__(self, events: ak.Array, spread: bool = False) -> ak.Array:
        """Score every event.

        The order of the events is kept, and an event without tracks gets a score too. Scores do
        not depend on how the array is laid out or sliced, nor on the other events in it.

        Parameters
        ----------
        events
            `n * {Track: var * {pt: float32, ...}}` or `n * {Track_pt: var * float32, ...}`.
        spread
            Whether to return, beside the score, the standard deviation of the scores of the models
            whose mean it is, before they are calibrated. NaN where only one model of several folds has not seen the event.

        Returns
        -------
        ak.Array
            `n * float32`; for several classes or targets `n * {class: float32, ...}`. With
            `spread` a record of two of these, `score` and `spread`. A lazy array of dask-awkward
            gives a lazy one.

        Raises
        ------
        DataError
            If a branch is missing or holds what the inputs cannot take.
        ProcessError
            In a process that was forked after JAX had computed.
        ModelError
            If the spread is asked of a single model.
        """
        self.check_spread(spread)
        if type(events).__module__.startswith("dask_awkward."):
            from tracksets.integrations.dask import score_partitions

            return score_partitions(self, events, spread)
        if not isinstance(events, ak.Array):
            raise DataError(f"events must be an awkward array, not {type(events).__name__}")
        if ak.backend(events) == "typetracer":
            return self._traced(events, spread)
        if len(events) == 0 and not ak.fields(events):
            return self.task.as_array(self.score_parts([], spread), spread)
        return self.task.as_array(self.score(Columns(events), spread=spread), spread)

    def score(
        self, columns: Columns, first_event: int = 0, spread: bool = False
    ) -> Float[np.ndarray, "event column"]:
        """Score columns that are looked up already; shape (n_event, n_score).

        Parameters
        ----------
        columns
            Of the events.
        first_event
            Number of the first one in its source, for messages.
        spread
            Whether the spread of each score follows, in as many further columns.
        """
        return self.score_parts(self.flatten(columns, first_event), spread)

    def flatten(self, columns: Columns, first_event: int = 0) -> Iterator[JaggedInputs]:
        """Make flat inputs of columns, in parts of bounded size; see `score`."""
        for start, stop in columns.windows(self.paths(columns.fields), _WINDOW_TRACKS):
            yield jagged_inputs(
                columns.window(start, stop), self.inputs, first_event + start, self.fold_expression
            )

    def score_inputs(self, jagged: JaggedInputs) -> Float[np.ndarray, "event score"]:
        """Score flat inputs; shape (n_event, n_score)."""
        return self.score_parts([jagged])

    def score_parts(
        self, parts: Iterable[JaggedInputs], spread: bool = False
    ) -> Float[np.ndarray, "event column"]:
        """Score flat inputs that come in parts; shape (n_event, n_score).

        Parts of any length fill whole blocks, and how the events are shared out among them does
        not change a score.
        """
        nothing = np.empty((0, self.task.outputs * (1 + spread)), np.float32)
        return np.concatenate([nothing, *self.stream(parts, spread)])

    def stream(
        self, parts: Iterable[JaggedInputs], spread: bool = False
    ) -> Iterator[Float[np.ndarray, "event column"]]:
        """Score flat inputs that come in parts; yields scores of some events at a time, in order.

        The same scores as those of `score_parts`, in memory that does not grow with the events.
        """
        if self.n_member > 1:
            models = [member.score_inputs for member in self.members]
            for part in joined(parts):
                means = combined(part, models, self.folds, spread)
                if self.calibration is not None:
                    n = self.task.outputs
                    means[:, :n] = self.link(self.task.unlink(means[:, :n]))
                yield means
            return
        blocks = pack_parts(parts, self.shape)
        model = (self.hash, self.architecture, self.arrays)
        for outputs in compute(*model, blocks, self.shape, self.engine):
            yield self.link(outputs)

    @cached_property
    def members(self) -> tuple["Scorer", ...]:
        """The models that it consists of, each a scorer on its own."""
        if self.n_member == 1:
            return (self,)
        return tuple(
            replace(
                self,
                arrays={name: array[i] for name, array in self.arrays.items()},
                n_member=1,
                folds=None,
                calibration=None,
            )
            for i in range(self.n_member)
        )

    def on(self, engine: str, precision: str = "float32") -> "Scorer":
        """Return the same scorer, computed by another engine.

        Parameters
        ----------
        engine
            `jax`, or `openvino`, which needs the extra of that name.
        precision
            `float32`, or with openvino `bfloat16`: faster on processors with AMX, less precise.

        Raises
        ------
        ConfigError, MissingExtraError
            If there is no such engine or precision, or it is not installed.
        """
        chosen = Engine(engine, precision)
        chosen.check_installed()
        return replace(self, engine=chosen)

    def without_folds(self) -> "Scorer":
        """Return a scorer that takes the mean of all models for every event.

        For events that are known not to have been in the training, whatever their fold.
        """
        return replace(self, folds=None)

    def check_spread(self, spread: bool) -> None:
        """Raise ModelError if the spread is wanted and there is only one model."""
        if spread and self.n_member == 1:
            raise ModelError(
                "the spread is that of several models, and this is a single one: train several "
                "with ensemble or folds"
            )

    def _traced(self, events: ak.Array, spread: bool) -> ak.Array:
        """Answer Dask and coffea, which ask with arrays without data what a call would read."""
        for path in self.paths(Fields.of(events)):
            ak.typetracer.touch_data(column_of(events, path))
        scores = self.task.as_array(self.score_parts([], spread), spread)
        return ak.Array(ak.to_layout(scores).to_typetracer(forget_length=True))


def loaded(model: Scorer | str | os.PathLike[str]) -> Scorer:
    """Return a scorer as it is, or read it from a model file; see `load`."""
    return model if isinstance(model, Scorer) else load(model)


def load(
    path: str | os.PathLike[str], *, engine: str = "jax", precision: str = "float32"
) -> Scorer:
    """Read a scorer from a model file.

    Parameters
    ----------
    path
        What `Scorer.save` or `tracksets train` wrote.
    engine, precision
        What computes, and how precisely: see `Scorer.on`.

    Raises
    ------
    ModelError
        If the file is missing, truncated, not a model, or of another format version.
    """
    return Scorer(**read_parts(path)).on(engine, precision)
