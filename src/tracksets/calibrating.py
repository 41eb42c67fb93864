"""A scorer and events with known truth in; the same scorer, calibrated, out.

How good the calibration is, is measured on events that it was not found from: each tenth of the
events is mapped as the other nine say.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, get_args

import awkward as ak
import numpy as np
from jaxtyping import Float, Int

from tracksets.blocks import pack_parts
from tracksets.calibration import Method, calibrate, link
from tracksets.comparisons import mean_reliability
from tracksets.config import Config, read_config
from tracksets.datasets import read_dataset
from tracksets.engine import compute
from tracksets.errors import ConfigError, DataError, near_misses
from tracksets.features import JaggedInputs, jagged_inputs
from tracksets.fields import Columns
from tracksets.scorer import Scorer, loaded
from tracksets.targets import Task, task_of

__all__ = (
    "Calibrated",
    "calibrate_inputs",
    "calibrate_on_events",
    "calibrate_on_files",
    "describe",
)

_PARTS = 10
"""Of the events, each of which is mapped as the others say, to see how good that is."""


@dataclass(frozen=True)
class Calibrated:
    """A calibrated scorer, and what the calibration is good for.

    Attributes
    ----------
    scorer
        The new one; its `summary["calibration"]` has the figures.
    figures
        The number of `events`; the expected calibration error (see `tracksets.comparisons`) and
        the cross-entropy before and after, on events that the calibration was not found from; and
        the error that a perfect score would have by chance. Of too few events there is no after.
    """

    scorer: Scorer
    figures: dict[str, float]


def calibrate_on_events(
    scorer: Scorer,
    events: ak.Array,
    targets: Any,
    weights: Any = None,
    method: Method = "temperature",
) -> Calibrated:
    """Calibrate on events in memory; see `Scorer.calibrated`."""
    names = scorer.task.names if scorer.task.kind != "regression" else ()
    _, classes = task_of(targets, len(events), names)
    w = np.ones(len(events)) if weights is None else np.asarray(weights, np.float64)
    if w.shape != classes.shape or not np.isfinite(w).all():
        raise DataError(f"weights of shape {w.shape} for {len(events)} events, or not finite")
    jagged = jagged_inputs(Columns(events), scorer.inputs, fold=scorer.fold_expression)
    return calibrate_inputs(scorer, [jagged], classes, w, method)


def calibrate_on_files(
    model: Scorer | str | os.PathLike[str],
    config: Config | str | os.PathLike[str],
    method: Method = "temperature",
) -> Calibrated:
    """Calibrate on files.

    Parameters
    ----------
    model
        A scorer, or the name of a model file.
    config
        A configuration, or the name of a TOML file; its `[data]` says which events and what is
        true of them. The model should not have been trained on them.
    method
        `temperature` or `isotonic`; see `tracksets.calibration`.

    Raises
    ------
    ConfigError
        If the configuration's classes are not those of the model.
    DataError
        If the events cannot be calibrated on.
    """
    scorer, config = loaded(model), read_config(config)
    with read_dataset(config, scorer.inputs, columns=scorer.event_level) as data:
        scorer.task.refuse_other(data.task)
        return calibrate_inputs(
            scorer, data.parts(scorer.fold_expression), data.targets, data.weights, method
        )


def calibrate_inputs(
    scorer: Scorer,
    parts: Iterable[JaggedInputs],
    classes: Int[np.ndarray, " event"],
    weights: Float[np.ndarray, " event"],
    method: Method,
) -> Calibrated:
    """Calibrate on flat inputs, in parts; an earlier calibration of the scorer is replaced."""
    if method not in get_args(Method):
        raise ConfigError(f"no calibration {method!r}: {near_misses(method, get_args(Method))}")
    if type(scorer) is not Scorer:
        raise ConfigError(f"cannot calibrate a {type(scorer).__name__}, only a plain Scorer")
    task, classes = scorer.task, np.asarray(classes).reshape(-1).astype(np.int64)
    outputs = _outputs(scorer, parts)
    calibration = calibrate(method, task, outputs, classes, weights)
    before = link(task, scorer.calibration, outputs)
    figures = {
        "events": float(len(classes)),
        **_figures(task, before, classes, weights, "before"),
    }
    with suppress(DataError):  # of few events, a part may not have what it takes
        after = _crosswise(method, task, outputs, classes, weights)
        figures |= _figures(task, after, classes, weights, "after")
    summary = {**scorer.summary, "calibration": {"method": method, **figures}}
    return Calibrated(replace(scorer, calibration=calibration, summary=summary), figures)


def _outputs(scorer: Scorer, parts: Iterable[JaggedInputs]) -> Float[np.ndarray, "event output"]:
    """Return what is calibrated: outputs of the network, or those that the mean of several has."""
    if scorer.n_member > 1:
        raw = replace(scorer, calibration=None)
        return scorer.task.unlink(raw.score_parts(parts))
    blocks = pack_parts(parts, scorer.shape)
    model = (scorer.hash, scorer.architecture, scorer.arrays)
    nothing = np.empty((0, scorer.task.outputs), np.float32)
    return np.concatenate([nothing, *compute(*model, blocks, scorer.shape, scorer.engine)])


def _crosswise(
    method: Method,
    task: Task,
    outputs: Float[np.ndarray, "event output"],
    classes: Int[np.ndarray, " event"],
    weights: Float[np.ndarray, " event"],
) -> Float[np.ndarray, "event score"]:
    """Map each part of the events as all others say."""
    part = np.random.default_rng(0).permutation(len(classes)) % _PARTS
    scores = np.empty((len(classes), task.outputs), np.float32)
    for k in range(_PARTS):
        own, others = part == k, part != k
        found = calibrate(method, task, outputs[others], classes[others], weights[others])
        scores[own] = link(task, found, outputs[own])
    return scores


def _figures(
    task: Task,
    scores: Float[np.ndarray, "event score"],
    classes: Int[np.ndarray, " event"],
    weights: Float[np.ndarray, " event"],
    when: str,
) -> dict[str, float]:
    full = np.concatenate([1 - scores, scores], axis=1) if task.kind == "binary" else scores
    own = np.take_along_axis(full, classes[:, None], axis=1)[:, 0].astype(np.float64)
    losses = -np.log(np.maximum(own, np.finfo(np.float32).tiny))
    figures = mean_reliability(classes, scores, weights)
    figures["loss"] = float(np.average(losses, weights=weights))
    return {f"{name}_{when}": each for name, each in figures.items()}


def describe(done: Calibrated) -> str:
    """Say in a few lines what was found and what it is good for."""
    figures, calibration = done.figures, done.scorer.calibration
    if calibration is None or calibration.method == "temperature":
        found = f"temperature {calibration.temperature if calibration else 1:.4f}"
    else:
        found = f"isotonic, {', '.join(str(len(each)) for each in calibration.knots)} knots"
    lines = [f"{found}, from {figures['events']:.0f} events", f"{'':28}{'before':>10}{'after':>10}"]
    for key, name in (
        ("ece", "expected calibration error"),
        ("ece_by_chance", "  of a perfect score"),
        ("calibration_rms", "root mean square of it"),
        ("loss", "cross-entropy"),
    ):
        after = figures.get(f"{key}_after", np.nan)
        lines.append(f"{name:28}{figures[f'{key}_before']:10.4f}{after:10.4f}")
    return "\n".join(lines)
