"""What the network learns: targets in, losses; outputs in, scores.

A `Task` is binary (one output, the probability of the last class), multi-class (one probability
per class) or regression (standardised inside, in the original unit outside).
"""

from collections.abc import Sequence
from typing import Any, Literal, Self

import awkward as ak
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from numpy.typing import NDArray
from pydantic import model_validator

from tracksets.configuration import Configuration
from tracksets.errors import ConfigError, DataError

__all__ = ("Task", "task_of")


class Task(Configuration):
    """What is learned, and how outputs become scores.

    Parameters
    ----------
    kind
        `binary`, `classes` or `regression`.
    names
        Names of the classes, or of the regression's targets. The last class is the signal of a
        binary score.
    shift, scale
        Of a regression: the network learns `(target - shift) / scale`.
    units
        Of a regression's targets, for people: `GeV`. All or none.
    """

    kind: Literal["binary", "classes", "regression"]
    names: tuple[str, ...]
    shift: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    units: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        n = len(self.names)
        constants = n if self.kind == "regression" else 0
        fewest = {"binary": 2, "classes": 3, "regression": 1}[self.kind]
        if n < fewest or (self.kind == "binary" and n > 2) or len(set(self.names)) < n:
            raise ValueError(f"{self.kind} with the names {self.names}")
        if not len(self.shift) == len(self.scale) == constants or 0 in self.scale:
            raise ValueError(f"{self.kind} with shift {self.shift} and scale {self.scale}")
        if self.units and len(self.units) != constants:
            raise ValueError(f"{self.kind} of {n} name(s) with the units {self.units}")
        return self

    @property
    def outputs(self) -> int:
        """Outputs of the network."""
        return 1 if self.kind == "binary" else len(self.names)

    @property
    def score_names(self) -> tuple[str, ...]:
        """Names of the scores of an event; none if there is only one score."""
        return () if self.outputs == 1 else self.names

    def refuse_other(self, data: "Task") -> None:
        """Refuse events whose truth is of another kind than the scores of a model.

        Raises
        ------
        ConfigError
            If it is, or of another number of classes or targets.
        """
        if (data.kind, len(data.names)) != (self.kind, len(self.names)):
            raise ConfigError(
                f"the model gives {self.kind} scores of {list(self.names)}, but the configuration "
                f"has {data.kind} targets {list(data.names)}"
            )

    def learnable(self, targets: NDArray[Any]) -> Float[np.ndarray, "event output"]:
        """Return targets as the loss wants them: class index, or standardised; float32."""
        targets = targets.reshape(len(targets), -1)
        if self.kind == "regression":
            targets = (targets - np.asarray(self.shift)) / np.asarray(self.scale)
        return targets.astype(np.float32)

    def losses(
        self,
        outputs: Float[Array, "event output"],
        targets: Float[Array, "event target"],
        smoothing: float = 0.0,
    ) -> Float[Array, " event"]:
        """Loss of each event: cross-entropy of the classes, or squared error.

        With smoothing, an event counts as one of its class by `1 - smoothing`, and the rest is
        spread evenly over all classes.
        """
        losses: Array
        if self.kind == "binary":
            soft = targets[:, 0] * (1 - smoothing) + smoothing / 2
            losses = optax.sigmoid_binary_cross_entropy(outputs[:, 0], soft)
        elif self.kind == "classes":
            labels = targets[:, 0].astype(jnp.int32)
            losses = optax.softmax_cross_entropy_with_integer_labels(outputs, labels)
            if smoothing:
                even = -jnp.mean(jax.nn.log_softmax(outputs), axis=1)
                losses = (1 - smoothing) * losses + smoothing * even
        else:
            losses = jnp.mean((outputs - targets) ** 2, axis=1)
        return losses

    def link(self, outputs: Float[np.ndarray, "event output"]) -> Float[np.ndarray, "event score"]:
        """Turn outputs into scores: probabilities, or targets in their unit; float32.

        The work is done in double precision, so that small probabilities keep their digits.
        """
        wide = outputs.astype(np.float64)
        if self.kind == "binary":
            wide = np.exp(-np.logaddexp(0, -wide))
        elif self.kind == "classes":
            wide = np.exp(wide - wide.max(axis=1, keepdims=True, initial=-np.inf))
            wide /= wide.sum(axis=1, keepdims=True)
        else:
            wide = wide * np.asarray(self.scale) + np.asarray(self.shift)
        return wide.astype(np.float32)

    def as_array(self, scores: Float[np.ndarray, "event column"], spread: bool = False) -> ak.Array:
        """Return scores of shape (n_event, n_score) as awkward array.

        Without names of scores `n * float32`, else a record by name. With `spread`, the second
        half of the columns is that of the scores: a record of two of these, `score` and `spread`.
        """
        if spread:
            halves = map(self.as_array, np.split(scores, 2, axis=1))
            return ak.zip(dict(zip(("score", "spread"), halves, strict=True)), depth_limit=1)
        if not self.score_names:
            return ak.Array(np.ascontiguousarray(scores[:, 0]))
        columns = map(np.ascontiguousarray, scores.T)
        return ak.zip(dict(zip(self.score_names, columns, strict=True)), depth_limit=1)

    def unlink(self, scores: Float[np.ndarray, "event score"]) -> Float[np.ndarray, "event output"]:
        """Return outputs that give these probabilities; float64."""
        with np.errstate(divide="ignore"):  # a probability of 0 or 1 is an infinite output
            outputs: np.ndarray = np.log(scores.astype(np.float64))
            return (
                outputs - np.log1p(-scores.astype(np.float64)) if self.kind == "binary" else outputs
            )

    def traced_link(self, outputs: Float[Array, "event output"]) -> Float[Array, "event score"]:
        """Turn outputs into scores within a compiled function, in single precision."""
        scores: Array
        if self.kind == "binary":
            # Neither form of the logistic function overflows, and small ones keep their digits.
            scores = jnp.exp(jnp.minimum(outputs, 0)) / (1 + jnp.exp(-jnp.abs(outputs)))
        elif self.kind == "classes":
            scores = jax.nn.softmax(outputs, axis=1)
        else:
            scores = outputs * jnp.float32(self.scale)[None, :] + jnp.float32(self.shift)[None, :]
        return scores


def task_of(targets: Any, n_event: int, names: Sequence[str] = ()) -> tuple[Task, NDArray[Any]]:
    """Find out what there is to learn from the targets themselves.

    Parameters
    ----------
    targets
        Shape (n_event,): booleans or integers are classes, numbered from 0; floats are a
        regression. Shape (n_event, k): a regression on k targets; a record array, on its fields.
    n_event
        Events that they belong to.
    names
        Names of the classes or targets.

    Returns
    -------
    tuple
        The task, and the targets as an array of shape (n_event,) or (n_event, k).

    Raises
    ------
    DataError
        If the length is another than that of the events, if values are missing, not finite or
        negative class numbers, or if there is only one class.
    """
    try:
        if isinstance(targets, ak.Array) and ak.fields(targets):
            names = tuple(names) or tuple(ak.fields(targets))
            targets = np.stack([np.asarray(targets[name]) for name in ak.fields(targets)], axis=1)
        values = np.asarray(targets)
    except (ValueError, TypeError) as error:
        raise DataError(f"targets must be one number per event: {error}") from None
    if values.ndim not in (1, 2) or 0 in values.shape[1:] or values.dtype.kind not in "biuf":
        raise DataError(
            f"targets must be numbers of shape (n_event,) or (n_event, n_target), not "
            f"{values.dtype} of shape {values.shape}"
        )
    if len(set(names)) < len(names):
        raise DataError(f"names must differ: {list(names)}")
    if len(values) != n_event:
        raise DataError(f"{len(values)} targets for {n_event} events")
    if n_event == 0:
        raise DataError("there are no events to train on")
    if np.ma.is_masked(targets) or not np.isfinite(values.astype(np.float64)).all():
        raise DataError("targets are missing, NaN or infinite; remove those events first")
    if values.dtype.kind == "f" and not _is_zero_one(values):
        return _regression(values, names), values
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2:
        return _regression(values, names), values
    return _classification(values.astype(np.int64), names)


def _is_zero_one(values: NDArray[Any]) -> bool:
    return values.ndim == 1 and bool(np.isin(values, (0, 1)).all())


def _classification(
    values: NDArray[np.int64], names: Sequence[str]
) -> tuple[Task, NDArray[np.int64]]:
    present = np.unique(values)
    if present[0] < 0:
        raise DataError(f"class numbers start from 0, but {present[0]} is among the targets")
    n_class = max(int(present[-1]) + 1, len(names))
    if n_class > 10_000:
        raise DataError(f"the targets name {n_class} classes; are they meant for a regression?")
    missing = sorted(set(range(max(n_class, 2))) - set(present.tolist()))
    if missing:
        raise DataError(
            f"only the classes {present.tolist()} are among the targets, {missing} are missing: "
            "there is nothing to tell apart"
        )
    if names and len(names) != n_class:
        raise DataError(f"{len(names)} class names for {n_class} classes")
    if not names:
        names = ("background", "signal") if n_class == 2 else tuple(map(str, range(n_class)))
    return Task(kind="binary" if n_class == 2 else "classes", names=tuple(names)), values


def _regression(values: NDArray[Any], names: Sequence[str]) -> Task:
    wide = values.reshape(len(values), -1).astype(np.float64)
    spread = wide.std(axis=0)
    if names and len(names) != wide.shape[1]:
        raise DataError(f"{len(names)} names for {wide.shape[1]} targets")
    if not names:
        one = wide.shape[1] == 1
        names = ("target",) if one else tuple(f"target_{i}" for i in range(wide.shape[1]))
    return Task(
        kind="regression",
        names=tuple(names),
        shift=tuple(wide.mean(axis=0).tolist()),
        scale=tuple(np.where(spread > 0, spread, 1.0).tolist()),
    )
