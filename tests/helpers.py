"""What several tests need: made-up events, a Deep Set written out as a loop over events, OpenVINO,
and a folder without a superuser's rights.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import awkward as ak
import numpy as np
import pytest
from numpy.typing import NDArray

from tracksets.blocks import Shape
from tracksets.compiling import compiled
from tracksets.errors import MissingExtraError
from tracksets.features import JaggedInputs
from tracksets.folds import Folds
from tracksets.inputs import Collection, Inputs
from tracksets.network import Architecture, Model
from tracksets.scorer import Scorer
from tracksets.targets import Task

BINARY = Task(kind="binary", names=("background", "signal"))
CLASSES = Task(kind="classes", names=("b", "c", "light"))
INPUTS = Inputs(
    collections={
        "Track": Collection(features=["log(pt)", "eta", "charge"], select="pt > 0.5"),
        "Jet": Collection(features=["pt"]),  # not in alphabetical order
    },
    event=["PV_z"],
)
MODEL = Model(phi=[8, 6], rho=[5], pool=["sum", "max"], activation="relu")


def flat_inputs(
    counts: Mapping[str, Sequence[int]],
    widths: Mapping[str, int] | None = None,
    event: int = 1,
    seed: int = 0,
) -> JaggedInputs:
    """Make flat inputs with these tracks per event and normally distributed features."""
    random = np.random.default_rng(seed)
    arrays = {name: np.asarray(each, np.int64) for name, each in counts.items()}

    def normal(n: int, width: int) -> NDArray[np.float32]:
        return random.normal(size=(n, width)).astype(np.float32)

    n_event = len(next(iter(arrays.values())))
    widths = widths or dict.fromkeys(arrays, 2)
    tracks = {name: normal(int(each.sum()), widths[name]) for name, each in arrays.items()}
    return JaggedInputs(arrays, tracks, normal(n_event, event))


def make_events(n_event: int, mean: float = 4, seed: int = 0) -> ak.Array:
    """Make `n * {Track_pt: var * float32, ..., Jet_pt: var * float32, PV_z: float32}`.

    The first event has no tracks, the second no jets.
    """
    random = np.random.default_rng(seed)

    def jagged(counts: NDArray[np.int64], values: NDArray[np.float64]) -> ak.Array:
        return ak.unflatten(values[: counts.sum()].astype(np.float32), counts)

    n_track, n_jet = random.poisson(mean, n_event), random.poisson(1, n_event)
    n_track[:1], n_jet[1:2] = 0, 0
    most = n_track.sum() + n_jet.sum()
    return ak.Array(
        {
            "Track_pt": jagged(n_track, random.exponential(2, most) + 0.3),
            "Track_eta": jagged(n_track, random.normal(size=most)),
            "Track_charge": jagged(n_track, random.choice([-1.0, 1.0], most)),
            "Jet_pt": jagged(n_jet, random.exponential(30, most)),
            "PV_z": random.normal(size=n_event).astype(np.float32),
        }
    )


def as_records(events: ak.Array) -> ak.Array:
    """Turn `Track_pt` into `Track.pt`, as NanoEvents and zipped arrays have it."""
    tracks = {name: events[f"Track_{name}"] for name in ("pt", "eta", "charge")}
    return ak.Array(
        {"Track": ak.zip(tracks), "Jet": ak.zip({"pt": events.Jet_pt}), "PV_z": events.PV_z}
    )


def random_arrays(architecture: Architecture, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Draw every array of a network, constants and biases too, so that each one matters."""
    random = np.random.default_rng(seed)
    arrays = {}
    for name, shape in compiled(architecture).shapes.items():
        values = random.normal(size=shape) / np.sqrt(shape[0] if len(shape) > 1 else 4)
        arrays[name] = (np.exp(values) if name.endswith(".scale") else values).astype(np.float32)
    return arrays


@cache
def make_scorer(task: Task = BINARY, seed: int = 0) -> Scorer:
    """Make a scorer with random parameters and small blocks."""
    blank = Scorer(INPUTS, MODEL, task, {}, Shape({"Track": 64, "Jet": 32}, 16), {"epochs": 0})
    return replace(blank, arrays=random_arrays(blank.architecture, seed))


def together(members: Sequence[Scorer], folds: Folds | None = None) -> Scorer:
    """Put scorers into one."""
    arrays = {name: np.stack([each.arrays[name] for each in members]) for name in members[0].arrays}
    return replace(members[0], arrays=arrays, n_member=len(members), folds=folds)


@cache
def make_folds(task: Task = BINARY, n_fold: int = 3, n_seed: int = 2, first: int = 0) -> Scorer:
    """Make a scorer of several random models, by `event % n_fold`; without folds if that is 1."""
    members = [make_scorer(task, first + i) for i in range(n_fold * n_seed)]
    if n_fold == 1:
        return together(members)
    return together(members, Folds(expression=f"event % {n_fold}", values=tuple(range(n_fold))))


def with_numbers(events: ak.Array, seed: int = 0) -> ak.Array:
    """Give events numbers, in any order."""
    numbers = np.random.default_rng(seed).permutation(len(events))
    return ak.with_field(events, numbers, "event")


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}
SMOOTH = 1e-4


def pooled(
    how: str, x: NDArray[np.float64], w: NDArray[np.float64], logits: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Pool the tracks of one event, each with a weight; zero without tracks."""
    if not len(x):
        return np.zeros(x.shape[1])
    if how == "max":
        return x.max(axis=0)
    if how == "sum":
        return w @ x
    if how == "softmax":
        w = w * np.exp(logits)
    mean = w @ x / w.sum()
    if how == "std":
        return np.sqrt(w @ (x - mean) ** 2 / w.sum() + SMOOTH) - np.sqrt(SMOOTH)
    return mean


def deep_set(
    architecture: Architecture, arrays: Mapping[str, NDArray[np.float32]], inputs: JaggedInputs
) -> NDArray[np.float64]:
    """Compute the outputs of a Deep Set event by event, in double precision."""
    wide = {name: each.astype(np.float64) for name, each in arrays.items()}
    activation = ACTIVATIONS[architecture.model.activation]

    def scaled(name: str, x: NDArray[np.float32]) -> NDArray[np.float64]:
        return (x.astype(np.float64) - wide[f"{name}.shift"]) * wide[f"{name}.scale"]

    def affine(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x @ wide[f"{name}.kernel"] + wide[f"{name}.bias"]

    def dense(
        name: str, widths: Sequence[int], x: NDArray[np.float64], residual: bool
    ) -> NDArray[np.float64]:
        for layer in range(len(widths)):
            seen = x
            if residual and layer:
                spread = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
                norm = f"{name}.norms.{layer - 1}"
                seen = (x - x.mean(axis=-1, keepdims=True)) / spread
                seen = seen * wide[f"{norm}.scale"] + wide[f"{norm}.bias"]
            y = activation(affine(f"{name}.layers.{layer}", seen))
            x = x + y if residual and layer and x.shape == y.shape else y
        return x

    model, weights = architecture.model, dict(architecture.weights)

    def pool_all(prefix: str, event: int, context: NDArray[np.float64]) -> list[Any]:
        parts = []
        for name, _ in architecture.tracks:
            first = int(inputs.counts[name][:event].sum())
            tracks = inputs.tracks[name][first : first + inputs.counts[name][event]]
            x, w = scaled(f"scaling.{name}", tracks), np.ones(len(tracks))
            if name in weights:
                w = tracks[:, weights[name]].astype(np.float64)
                x = np.delete(x, weights[name], axis=1)
            x = np.concatenate([x, np.tile(context, (len(x), 1))], axis=1)
            x = dense(f"{prefix}.{name}", model.phi, x, model.residual)
            logits = np.zeros(len(x))
            if "softmax" in model.pool:
                logits = 8 * np.tanh(affine(f"{prefix}.{name}.attention", x)[:, 0] / 8)
            parts += [pooled(how, x, w, logits) for how in model.pool]
        return parts

    outputs = []
    for event in range(inputs.n_event):
        parts = pool_all("phi", event, np.zeros(0))
        parts.append(scaled("event_scaling", inputs.event[event]))
        for i in range(model.rounds):
            known = np.concatenate(parts)
            context = dense(f"rounds.{i}.context", model.phi[:1], known, residual=False)
            parts = [*pool_all(f"rounds.{i}.phi", event, context), *parts]
        x = dense("rho", model.rho, np.concatenate(parts), model.residual)
        outputs.append(affine("out", x))
    return np.asarray(outputs).reshape(inputs.n_event, architecture.outputs)


def need_openvino() -> Any:
    """Return OpenVINO, or skip the test.

    By way of tracksets: imported alone, it forks a process that reports to its makers, and JAX
    warns of that fork in whichever test is just running.
    """
    reason = "openvino is not installed"
    pytest.importorskip("tracksets.openvino_graph", reason=reason, exc_type=MissingExtraError)
    return pytest.importorskip("openvino", reason=reason)


@contextmanager
def unprivileged() -> Iterator[Path]:
    """Give up a superuser's rights, who may write everywhere, for a block; yields a folder.

    No fixture: what counts the coverage of each test writes at both ends of it.
    """
    # pytest's own folders are hidden from other users.
    with TemporaryDirectory() as name:
        folder, before = Path(name), (os.getegid(), os.geteuid())
        folder.chmod(0o777)
        if before[1] == 0:
            os.setegid(65534)
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(before[1])
            os.setegid(before[0])
            for each in (folder, *folder.rglob("*")):
                if each.is_dir():
                    each.chmod(0o777)
