"""Make the golden model files of the current format version, once; see README.md.

Usage: python tests/golden/make.py
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import awkward as ak
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers import deep_set, random_arrays

import tracksets as ts
from tracksets.blocks import Shape
from tracksets.features import jagged_inputs
from tracksets.folds import Folds
from tracksets.modelfile import FORMAT_VERSION
from tracksets.scaling import scalings
from tracksets.targets import Task

INPUTS = ts.Inputs(
    collections={
        "Track": ts.Collection(
            features=["log(pt)", "cos(phi)", "d0/d0_err", "onehot(charge, -1, 1)", "px"],
            select="pt > 0.5 && abs(eta) < 2.5",
            sort="pt",
            first=5,
            fill={"d0/d0_err": 0.0},
            clip={"d0/d0_err": (-10.0, 10.0)},
        ),
        "Jet": ts.Collection(features=["energy"], prefix="jt", rename={"energy": "jtE"}),
    },
    event=["PV_z", "log1p(sum(Track_pt))"],
)
SCORERS = {
    "binary": (
        Task(kind="binary", names=("light", "b")),
        ts.Model(phi=[6, 5], rho=[4], pool=["sum", "max"]),
    ),
    "classes": (
        Task(kind="classes", names=("b", "c", "light")),
        ts.Model(phi=[6], rho=[], pool=["mean", "max"], activation="gelu"),
    ),
    "regression": (
        Task(
            kind="regression",
            names=("mass", "n"),
            shift=(91.0, 3.0),
            scale=(2.5, 1.5),
            units=("GeV", ""),
        ),
        ts.Model(phi=[5, 6], rho=[4, 3], pool=["sum"], activation="silu"),
    ),
    "ensemble": (
        Task(kind="binary", names=("light", "b")),
        ts.Model(phi=[5], rho=[4], pool=["sum"]),
    ),
    "folds": (
        Task(kind="classes", names=("b", "c", "light")),
        ts.Model(phi=[5], rho=[4], pool=["mean"]),
    ),
}
FOLDS = Folds(expression="event > 15 ? -1 : event % 3", values=(0, 1, 2))
"""Of two models each."""


def make_events(n_event: int) -> ak.Array:
    """Make events of which the first has no tracks, the second no jets, and one d0_err is 0."""
    random = np.random.default_rng(2026)
    n_track, n_jet = random.poisson(5, n_event), random.poisson(2, n_event)
    n_track[0] = n_jet[1] = 0
    n = n_track.sum()
    d0_err = random.exponential(0.02, n) + 0.01
    d0_err[3] = 0
    tracks = {
        "pt": random.exponential(2, n) + 0.2,
        "eta": random.normal(0, 1.5, n),
        "phi": random.uniform(-np.pi, np.pi, n),
        "d0": random.normal(0, 0.1, n),
        "d0_err": d0_err,
    }
    columns = {f"Track_{name}": each.astype(np.float32) for name, each in tracks.items()}
    columns["Track_charge"] = random.choice([-1, 1], n)
    events = {name: ak.unflatten(each, n_track) for name, each in columns.items()}
    energy = random.exponential(50, n_jet.sum()).astype(np.float32)
    vertex = random.normal(0, 35, n_event).astype(np.float32)
    number = np.arange(n_event)
    return ak.Array({**events, "jtE": ak.unflatten(energy, n_jet), "PV_z": vertex, "event": number})


def main() -> None:
    """Write `format_N`: events, models, and their scores in double precision."""
    folder = Path(__file__).with_name(f"format_{FORMAT_VERSION}")
    folder.mkdir()  # fails if it is there: golden files are made once
    events = make_events(20)
    (folder / "events.json").write_text(ak.to_json(events))
    jagged = jagged_inputs(events, INPUTS)
    tracks, event = scalings(INPUTS, [(jagged, np.ones(jagged.n_event))])
    standard = {
        **{f"scaling.{name}": each for name, each in tracks.items()},
        "event_scaling": event,
    }
    scores = {}
    for seed, (name, (task, model)) in enumerate(SCORERS.items()):
        blank = ts.Scorer(
            INPUTS, model, task, {}, Shape({"Track": 32, "Jet": 16}, 8), {"seed": seed}
        )
        several = {"ensemble": 3, "folds": 6}
        every = []
        for member in range(several.get(name, 1)):
            arrays = random_arrays(blank.architecture, seed + 10 * member)
            for prefix, constants in standard.items():
                arrays[f"{prefix}.shift"] = constants.shift
                arrays[f"{prefix}.scale"] = constants.scale
            every.append(arrays)
        scorer = replace(blank, arrays=arrays)
        if name in several:
            stacked = {key: np.stack([each[key] for each in every]) for key in arrays}
            scorer = replace(blank, arrays=stacked, n_member=len(every))
        if name == "folds":
            scorer = replace(scorer, folds=FOLDS)
        scorer.save(folder / f"{name}.safetensors")
        members = [task.link(deep_set(blank.architecture, each, jagged)) for each in every]
        mean = np.mean(members, axis=0, dtype=np.float64)
        if name == "folds":
            for i in range(16):
                first = 2 * (i % 3)
                mean[i] = np.mean([each[i] for each in members[first : first + 2]], axis=0)
        scores[name] = mean.tolist()
    (folder / "scores.json").write_text(json.dumps(scores))


if __name__ == "__main__":
    main()
