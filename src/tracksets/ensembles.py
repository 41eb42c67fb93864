"""Flat inputs with targets in; one model, or several, one after the other, in a `Scorer` out."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracksets.blocks import Shape
from tracksets.calibrating import calibrate_inputs
from tracksets.calibration import refuse_uncalibratable
from tracksets.callbacks import Callback, Callbacks
from tracksets.checkpoints import Checkpoints
from tracksets.errors import ConfigError, DataError, StoppedError
from tracksets.features import JaggedInputs
from tracksets.fitting import Fitted, fit_network
from tracksets.inputs import Inputs, feature_names
from tracksets.interrupts import asked_to_stop
from tracksets.network import Architecture, Model
from tracksets.problems import Problem
from tracksets.processes import is_first, refuse_different
from tracksets.progress import epochs_bar
from tracksets.reflections import Reflections
from tracksets.samples import Sample
from tracksets.scaling import scalings
from tracksets.scorer import Scorer
from tracksets.settings import Training
from tracksets.sharding import share
from tracksets.splitting import Member, Splitting
from tracksets.stores import Indices, Store
from tracksets.targets import Task
from tracksets.units import multiplicities

__all__ = ("first_problem", "fit_inputs")

_TIMES = ("seconds", "events_per_second")
"""Entries of the history that no two trainings have in common."""


def fit_inputs(
    store: Store,
    targets: NDArray[Any],
    task: Task,
    inputs: Inputs,
    weights: Any = None,
    model: Model | None = None,
    training: Training | None = None,
    progress: bool = True,
    checkpoints: str | os.PathLike[str] | None = None,
    columns: Mapping[str, NDArray[Any]] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Scorer:
    """Train on flat inputs; see `fit`. `columns` has the values of `training.expressions`."""
    model, training = model or Model(), training or Training()
    sample, splitting = _split(store, targets, task, weights, training, columns)
    unseen = splitting.unseen() if training.calibration else np.empty(0, np.int64)
    if training.calibration:  # rather now than after the training
        refuse_uncalibratable(task, np.asarray(targets[unseen]), sample.weights[unseen])
    make = partial(Scorer, inputs, model, task, shape=Shape.for_multiplicities(store.counts))
    several = splitting.n_member > 1
    done: list[tuple[Member, Fitted]] = []
    with asked_to_stop() as stop:
        for member in splitting.members():
            folder = None if checkpoints is None else Path(checkpoints) / member.folder
            problem = _problem(sample, member, task, inputs, model)
            own = [each.for_member(member.folder) for each in callbacks] if several else callbacks
            fitted = _fit_member(problem, member, inputs, progress, folder, own, stop)
            done.append((member, fitted))
            if fitted.stopped and len(done) < splitting.n_member:
                how = "--resume (resume=True)" if folder else "checkpoints, next time"
                raise StoppedError(
                    f"stopped at {member.name}, and all are needed to score. Go on with {how}"
                )
            if several:
                summary = _summary(member.training, done[-1:])
                Callbacks(own).on_end(make(arrays=fitted.arrays, summary=summary), problem)
    every = [fitted.arrays for _, fitted in done]
    stacks = {name: np.stack([arrays[name] for arrays in every]) for name in every[0]}
    scorer = make(
        arrays=stacks if several else every[0],
        summary=_summary(training, done),
        n_member=len(done),
        folds=splitting.folds,
    )
    if training.calibration:
        held_out = _with_folds(store, unseen, splitting)
        weight = sample.weights[unseen].astype(np.float64)
        what = (held_out, targets[unseen], weight, training.calibration)
        scorer = calibrate_inputs(scorer, *what).scorer
    if not several:
        Callbacks(callbacks).on_end(scorer, problem)
    return scorer


def first_problem(
    store: Store,
    targets: NDArray[Any],
    task: Task,
    inputs: Inputs,
    weights: Any,
    model: Model,
    training: Training,
    columns: Mapping[str, NDArray[Any]],
) -> Problem:
    """Return what the first model is trained on, or the only one; see `fit_inputs`."""
    sample, splitting = _split(store, targets, task, weights, training, columns)
    return _problem(sample, next(splitting.members()), task, inputs, model)


def _split(
    store: Store,
    targets: NDArray[Any],
    task: Task,
    weights: Any,
    training: Training,
    columns: Mapping[str, NDArray[Any]] | None,
) -> tuple[Sample, Splitting]:
    for option in ("label_smoothing", "calibration"):
        if getattr(training, option) and task.kind == "regression":
            raise ConfigError(f"{option} is for classes, not for a regression")
    weights = _weights(weights, len(targets)).astype(np.float32)
    sample = Sample(store, task.learnable(targets), weights)
    return sample, Splitting.of(len(targets), training, columns or {})


def _with_folds(store: Store, events: Indices, splitting: Splitting) -> Iterator[JaggedInputs]:
    for part, chosen in store.parts(events):
        numbers = splitting.numbers
        yield part if numbers is None else replace(part, fold=numbers[chosen])


def _problem(sample: Sample, member: Member, task: Task, inputs: Inputs, model: Model) -> Problem:
    training = member.training
    train = sample.part(member.chosen)
    validation = sample.part(member.held_out) if len(member.held_out) else None
    for part, what in ((train, "training"), (validation, "validation")):
        if part is not None and not part.total > 0:
            raise DataError(f"{member.where}the weights of the {what} events sum to zero or less")
    if task.kind != "regression" and len(np.unique(train.targets)) < len(task.names):
        raise DataError(
            f"{member.where}a class has no event in the training part of the split; there are too "
            "few events"
        )
    counts = sample.store.counts
    architecture = Architecture.of(model, inputs, task.outputs)
    return Problem(
        architecture=architecture,
        task=task,
        scaling=scalings(
            inputs,
            ((part, sample.weights[events]) for part, events in sample.store.parts(train.events)),
        ),
        sample=train,
        validation=validation,
        # Of all events, so that other splits and seeds find the step compiled.
        shape=Shape.for_multiplicities(counts, training.block_tracks, training.block_events),
        features={
            **{name: feature_names(each.features) for name, each in inputs.collections.items()},
            "event": feature_names(inputs.event),
        },
        multiplicity=multiplicities(
            architecture, {name: each[train.events] for name, each in counts.items()}
        ),
        reflections=Reflections.of(training.reflections, inputs) if training.reflections else None,
    )


def _fit_member(
    problem: Problem,
    member: Member,
    inputs: Inputs,
    progress: bool,
    folder: Path | None,
    callbacks: Sequence[Callback],
    stop: Callable[[], bool],
) -> Fitted:
    training = member.training
    with ExitStack() as stack:
        show = progress and is_first()
        bar = epochs_bar(training.epochs, problem.sample.n_event, show, member.name)
        told = stack.enter_context(Callbacks([*callbacks, stack.enter_context(bar)]))
        mark = _fingerprint(problem, inputs, training)
        refuse_different(mark, "data or settings")
        keeper = None
        if folder is not None:
            keeper = Checkpoints(folder, mark, training.checkpoint_minutes)
            stack.enter_context(keeper)
        return fit_network(problem, training, told.on_epoch, keeper, stop, told.on_step)


def _summary(training: Training, done: Sequence[tuple[Member, Fitted]]) -> dict[str, Any]:
    """Say how the training went; of several models in a list of `members`."""
    each = [
        {
            "events": {"training": len(member.chosen), "validation": len(member.held_out)},
            "best_epoch": fitted.best_epoch,
            "history": [
                {key: value for key, value in entry.items() if key not in _TIMES}
                for entry in fitted.history
            ],
            **({} if member.fold is None else {"fold": member.fold}),
        }
        for member, fitted in done
    ]
    return {
        **(each[0] if len(each) == 1 else {"members": each}),
        "training": training.model_dump(mode="json"),
        "versions": {name: version(name) for name in ("tracksets", "jax", "flax", "awkward")},
        **({"stopped": True} if done[-1][1].stopped else {}),
    }


def _fingerprint(problem: Problem, inputs: Inputs, training: Training) -> str:
    """Hash what decides the result of a training, but for the features' values."""
    digest = hashlib.sha256()
    n_block, _ = share(training.blocks_per_step)
    settings = training.model_copy(update={"checkpoint_minutes": 0.0, "blocks_per_step": n_block})
    for part in (problem.architecture, problem.task, inputs, settings):
        digest.update(part.model_dump_json().encode())
    sample = problem.sample.sample
    chosen = problem.sample.events
    for array in (*sample.store.counts.values(), sample.targets, sample.weights, chosen):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _weights(weights: Any, n_event: int) -> NDArray[np.float64]:
    if weights is None:
        return np.ones(n_event)
    try:
        # A masked value is missing; asarray alone would take what lies under the mask.
        values = np.asarray(np.ma.filled(weights, np.nan), np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"weights must be one number per event: {error}") from None
    if values.shape != (n_event,):
        raise DataError(f"weights of shape {values.shape} for {n_event} events")
    if not np.isfinite(values).all():
        raise DataError(f"{int((~np.isfinite(values)).sum())} weights are NaN or infinite")
    return values
