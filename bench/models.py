"""Models on three tasks, the same events held out for all: how well they do, and what they cost.

The quark and gluon jets are ROOT files in the folder TRACKSETS_JETS, with the branches that
`examples/quark_gluon.toml` reads; the other files are those of TRACKSETS_TEST_DATA. EnergyFlow and
weaver's ParticleNet train on the same jets, where the variables TRACKSETS_ENERGYFLOW and
TRACKSETS_WEAVER name a Python that has them.

It takes hours, so each result is kept in `bench/results/models.json` when it is there, and what is
there is not done again. Results of other jets don't compare: rename their `task` before new jets
are used.
"""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from bench import harness, real_data
from tracksets.config import read_config
from tracksets.demo import sample_data
from tracksets.ensembles import fit_inputs
from tracksets.features import JaggedInputs, jagged_inputs
from tracksets.fields import Columns
from tracksets.inputs import Inputs
from tracksets.metrics import roc
from tracksets.models import Model
from tracksets.scorer import Scorer
from tracksets.settings import Training
from tracksets.stores import InMemory
from tracksets.targets import Task

KEPT = Path(__file__).parent / "results" / "models.json"
PEERS = Path(__file__).parent / "peers"
SEEDS = (1, 2, 3)
TASK = Task(kind="binary", names=("background", "signal"))
MODELS: Mapping[str, Model] = {
    "deep_sets": Model.deep_sets(),
    "pfn": Model.pfn(),
    "sum, relu": Model(pool=("sum",), activation="relu"),
    "sum, gelu": Model(pool=("sum",), activation="gelu"),
    "sum, softmax, gelu": Model(pool=("sum", "softmax"), activation="gelu"),
    "sum, mean, max, gelu": Model(pool=("sum", "mean", "max"), activation="gelu"),
    "poolings": Model.poolings(),
    "resnet": Model.resnet(),
    "context": Model.context(),
}
ANGLES = ["y - jet_y", "deltaphi(phi, jet_phi)"]
LEADING = ["y - y[0]", "deltaphi(phi, phi[0])"]
"""Relative to the hardest particle: they are sorted by falling momentum."""

TYPE = "onehot(abs(pdgId), 22, 211, 321, 130, 2112, 2212, 11, 13)"


def with_radius(angles: Sequence[str]) -> list[str]:
    """Add the logarithm of the distance from where both angles are 0."""
    return [*angles, f"log(hypot({', '.join(angles)}) + 0.001)"]


JET = ["log(pt/sum(pt))", *with_radius(ANGLES)]
BOTH = [*JET, *with_radius(LEADING)]
FEATURES: Mapping[str, Sequence[str]] = {
    "z, angles": ["pt/sum(pt)", *ANGLES],
    "log z, jet": JET,
    "log z, jet, leading": BOTH,
    "log z, jet, leading, type": [*BOTH, TYPE],
}
REFLECTIONS = tuple(zip(ANGLES, LEADING, strict=True))
"""What changes sign together; neither beam nor detector tells the two sides from each other."""

JETS = (
    # features, whether with reflections, model, numbers of training jets
    ("z, angles", False, "pfn", (50_000,)),
    ("log z, jet, leading", True, "deep_sets", (50_000, 5_000, 10_000, 20_000)),
    ("log z, jet, leading", False, "deep_sets", (50_000,)),
    ("log z, jet, leading, type", True, "deep_sets", (50_000,)),
    ("log z, jet, leading", True, "poolings", (50_000,)),
    ("log z, jet, leading", True, "deep_sets", (100_000, 200_000)),
)
"""What is trained on jets; the rest of the table is made of peers."""

ENSEMBLES = (("log z, jet, leading, type", True, "deep_sets", 200_000),)
"""Of these, as many members as there are seeds score together."""

N_TEST = 15_000
PEER_EPOCHS = {"EnergyFlow PFN": 15, "ParticleNet-lite": 10}


@dataclass(frozen=True)
class Problem:
    """Events of two classes, how to train on them, and which are held out in turn.

    Attributes
    ----------
    inputs
        What a network sees of them.
    jagged, truth
        The events, and whether they are signal.
    training
        How to train.
    parts
        Each of these sets of events is scored by a model that was trained on all others.
    """

    inputs: Inputs
    jagged: JaggedInputs
    truth: NDArray[np.int64]
    training: Training
    parts: tuple[NDArray[np.int64], ...]


def folded(config_file: Path, events: ak.Array, truth: NDArray[np.int64]) -> Problem:
    """Make flat inputs as a configuration says, and share the events out among four folds."""
    config = read_config(config_file)
    assert config.inputs is not None
    number = np.arange(len(events))
    parts = tuple(np.flatnonzero(number % 4 == k) for k in range(4))
    jagged = jagged_inputs(Columns(events), config.inputs)
    return Problem(config.inputs, jagged, truth, config.training, parts)


def sample() -> Problem:
    """Pairs of b quarks, from the sample data."""
    files = [f"{sample_data() / name}.root:Events" for name in ("background", "signal")]
    events = [uproot.open(name).arrays() for name in files]
    truth = np.repeat([0, 1], [len(each) for each in events])
    return folded(sample_data() / "train.toml", ak.concatenate(events), truth)


def single_top() -> Problem:
    """Single top quarks against W pairs."""
    config = real_data.REPOSITORY / "examples" / "single_top.toml"
    return folded(config, *real_data.read(Path(os.environ["TRACKSETS_TEST_DATA"])))


def read_jets(n_train: int) -> tuple[ak.Array, NDArray[np.int64]]:
    """Return quark and gluon jets, as many of both, and which are quarks.

    The first `N_TEST` are to be held out; they are the same for each number of training jets, and
    stay the same when files are added behind.
    """
    files = sorted(Path(os.environ["TRACKSETS_JETS"]).glob("*.root"))
    events = ak.concatenate([uproot.open(f"{name}:Events").arrays() for name in files])
    truth = ak.to_numpy(events.is_quark).astype(np.int64)
    each = (n_train + N_TEST) // 2
    classes = [np.flatnonzero(truth == kind)[:each] for kind in (0, 1)]
    if min(map(len, classes)) < each:
        raise SystemExit(f"{each} jets of both kinds needed, there are {[*map(len, classes)]}")
    random = np.random.default_rng(2)
    held_out = random.permutation(np.concatenate([each[: N_TEST // 2] for each in classes]))
    train = random.permutation(np.concatenate([each[N_TEST // 2 :] for each in classes]))
    chosen = np.concatenate([held_out, train])
    return events[chosen], truth[chosen]


def jets(
    events: ak.Array,
    truth: NDArray[np.int64],
    features: str,
    mirrored: bool = False,
    members: int = 1,
) -> Problem:
    """Quark against gluon jets; one part is held out."""
    inputs = Inputs.model_validate({"collections": {"part": {"features": FEATURES[features]}}})
    training = Training(epochs=15, block_tracks=8192, validation=0.05, ensemble=members)
    if features != "z, angles":  # these are trained on as EnergyFlow does
        training = training.model_copy(update={"schedule": "one-cycle", "learning_rate": 6e-3})
    if mirrored:
        more = {"reflections": REFLECTIONS, "epochs": 30, "patience": 30}
        training = training.model_copy(update=more)
    jagged = jagged_inputs(Columns(events), inputs)
    return Problem(inputs, jagged, truth, training, (np.arange(N_TEST),))


def quality(truth: NDArray[np.int64], scores: NDArray[np.floating]) -> dict[str, float]:
    """Return the area under the ROC curve, and the background rejection at 50 % efficiency."""
    curve = roc(truth, scores)
    return {"auc": curve.auc, "rejection": float(curve.rejection([0.5])[0])}


def train(these: Problem, model: Model, seed: int) -> dict[str, float]:
    """Return quality and costs of a model.

    The quality is that of all parts together, as their scores are probabilities.
    """
    held_out = np.concatenate(these.parts)
    scores, begin = [], time.perf_counter()
    for part in these.parts:
        scorer = fitted(these, np.setdiff1d(np.arange(len(these.truth)), part), model, seed)
        scores.append(scorer.score_inputs(these.jagged.take(part))[:, 0])
    return {
        **quality(these.truth[held_out], np.concatenate(scores)),
        "seconds": time.perf_counter() - begin,
        **size(scorer, {name: each.mean() for name, each in these.jagged.counts.items()}),
    }


def fitted(these: Problem, chosen: NDArray[np.int64], model: Model, seed: int) -> Scorer:
    """Train a model on some of the events."""
    return fit_inputs(
        InMemory(these.jagged.take(chosen)),
        these.truth[chosen],
        TASK,
        these.inputs,
        model=model,
        training=these.training.model_copy(update={"seed": seed}),
        progress=False,
    )


def size(scorer: Scorer, multiplicity: Mapping[str, float]) -> dict[str, float]:
    """Count the parameters, and the operations of the matrix products per event."""
    weights = {k: v for k, v in scorer.arrays.items() if not k.rpartition(".")[2].startswith("s")}
    operations = 0.0
    for name, array in weights.items():
        *parents, last = name.split(".")
        if last != "kernel":
            continue
        rows, per_event = array.shape[0], 1.0
        if "phi" in parents:
            per_event = multiplicity[parents[parents.index("phi") + 1]]
            if parents[0] == "rounds" and parents[-2:] == ["layers", "0"]:
                # What phi makes of the context is computed once per event.
                context = scorer.model.phi[0]
                operations += 2 * context * array.shape[1]
                rows -= context
        operations += 2 * per_event * rows * array.shape[1]
    return {"parameters": sum(each.size for each in weights.values()), "flops": float(operations)}


def train_peer(
    name: str, events: ak.Array, truth: NDArray[np.int64], seed: int
) -> dict[str, float]:
    """Let another tool train on the jets, padded to the largest."""
    variable, program = {
        "EnergyFlow PFN": ("TRACKSETS_ENERGYFLOW", "energyflow_training.py"),
        "ParticleNet-lite": ("TRACKSETS_WEAVER", "particlenet_training.py"),
    }[name]
    with TemporaryDirectory() as folder:
        columns = {
            "z": events.part_pt / ak.sum(events.part_pt, axis=1),
            "y": events.part_y - events.jet_y,
            "phi": (events.part_phi - events.jet_phi + np.pi) % (2 * np.pi) - np.pi,
        }
        most = int(ak.max(ak.num(events.part_pt)))
        padded = [
            ak.to_numpy(ak.fill_none(ak.pad_none(each, most), 0)) for each in columns.values()
        ]
        x = np.stack(padded, axis=-1).astype(np.float32)
        np.savez(Path(folder) / "jets.npz", x=x, truth=truth, n_test=N_TEST)
        command = [os.environ[variable], PEERS / program, folder, seed, PEER_EPOCHS[name]]
        subprocess.run([*map(str, command)], check=True)
        found: dict[str, float] = json.loads((Path(folder) / "result.json").read_text())
        scores = np.load(Path(folder) / "scores.npy")
    return {**quality(truth[:N_TEST], scores), **found}


def kept() -> list[dict[str, Any]]:
    """Return all results so far."""
    return json.loads(KEPT.read_text()) if KEPT.exists() else []


def once(key: dict[str, Any], run: Callable[[], Mapping[str, float]]) -> None:
    """Measure and keep the result, unless it is there."""
    if any(key.items() <= each.items() for each in kept()):
        return
    row = {**key, **run()}
    print(json.dumps(row), flush=True)
    KEPT.write_text(json.dumps([*kept(), row], indent=1) + "\n")


def table(rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> Iterator[dict[str, str]]:
    """Join the seeds; the uncertainty is the standard deviation of one training."""
    for key in dict.fromkeys(tuple(row[name] for name in by) for row in rows):
        these = [row for row in rows if tuple(row[name] for name in by) == key]
        areas = [row["auc"] for row in these]
        spread = f" ± {statistics.stdev(areas):.4f}" if len(areas) > 1 else ""
        yield {
            **{name: str(value) for name, value in zip(by, key, strict=True)},
            "seeds": str(len(these)),
            "AUC": f"{statistics.mean(areas):.4f}{spread}",
            "rejection": f"{statistics.mean(row['rejection'] for row in these):.1f}",
            "parameters": f"{these[0]['parameters']:,}",
            "MFLOP/event": f"{these[0]['flops'] / 1e6:.2f}",
            "training s": f"{statistics.median(row['seconds'] for row in these):.0f}",
        }


def main() -> None:
    """Measure what is not measured yet, and print all."""
    folded_tasks: dict[str, tuple[Callable[[], Problem], str | None]] = {
        "sample data": (sample, None),
        "single top": (single_top, "TRACKSETS_TEST_DATA"),
    }
    if "TRACKSETS_JETS" in os.environ:
        for seed in SEEDS:
            jet_models(seed)
        for ensemble in ENSEMBLES:
            jet_ensemble(*ensemble)
    for task, (make, needs) in folded_tasks.items():
        if needs is not None and needs not in os.environ:
            print(f"{task}: left out, set {needs}")
            continue
        these = make()
        for seed in SEEDS:
            for name, model in MODELS.items():
                once({"task": task, "model": name, "seed": seed}, lambda: train(these, model, seed))  # noqa: B023
    for seed in SEEDS:
        if "TRACKSETS_JETS" in os.environ:
            jet_peer("ParticleNet-lite", "TRACKSETS_WEAVER", seed)
    for task in folded_tasks:
        rows = [row for row in kept() if row["task"] == task]
        if rows:
            harness.show(task, list(table(rows, ["model"])))
    for task in sorted({row["task"] for row in kept()} - set(folded_tasks)):
        rows = [row for row in kept() if row["task"] == task]
        harness.show(task, list(table(rows, ["model", "features", "mirrored", "jets"])))


def jet_models(seed: int) -> None:
    """Train all but the slowest on jets, with one seed."""
    for features, mirrored, name, numbers in JETS:
        for n in numbers:

            def run() -> Mapping[str, float]:
                return train(jets(*read_jets(n), features, mirrored), MODELS[name], seed)  # noqa: B023

            once(jet_key(name, features, n, seed, mirrored), run)
    jet_peer("EnergyFlow PFN", "TRACKSETS_ENERGYFLOW", seed)


def jet_key(name: str, features: str, n: int, seed: int, mirrored: bool = False) -> dict[str, Any]:
    """Say what was measured."""
    key = {"task": "jets", "model": name, "features": features, "mirrored": mirrored}
    return {**key, "jets": n, "seed": seed}


def jet_ensemble(features: str, mirrored: bool, name: str, n: int) -> None:
    """Train an ensemble on jets; also keep how well each member does alone."""

    def run() -> dict[str, Any]:
        these = jets(*read_jets(n), features, mirrored, len(SEEDS))
        train, (held_out,) = np.arange(N_TEST, len(these.truth)), these.parts
        begin = time.perf_counter()
        scorer = fitted(these, train, MODELS[name], SEEDS[0])
        seconds = time.perf_counter() - begin
        parts, truth = these.jagged.take(held_out), these.truth[held_out]
        alone = [quality(truth, each.score_inputs(parts)[:, 0]) for each in scorer.members]
        return {
            **quality(truth, scorer.score_inputs(parts)[:, 0]),
            "members": [each["auc"] for each in alone],
            "seconds": seconds,
            **size(scorer.members[0], {"part": these.jagged.counts["part"].mean()}),
        }

    title = f"{len(SEEDS)} of {name}"
    once(jet_key(title, features, n, 1, mirrored), run)


def jet_peer(name: str, variable: str, seed: int) -> None:
    """Let another tool train on the same jets."""
    if variable not in os.environ:
        print(f"{name}: left out, set {variable}")
        return
    key = jet_key(name, "z, angles", 50_000, seed)
    once(key, lambda: train_peer(name, *read_jets(50_000), seed))


if __name__ == "__main__":
    main()
