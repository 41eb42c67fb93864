"""Models on three tasks, the same events held out for all: area under the ROC curve.

The quark and gluon jets are ROOT files in the folder TRACKSETS_JETS, with the branches that
`examples/quark_gluon.toml` reads; the other files are those of TRACKSETS_TEST_DATA.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

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
from tracksets.metrics import roc_auc
from tracksets.models import Model
from tracksets.settings import Training
from tracksets.stores import InMemory
from tracksets.targets import Task

SEEDS = (1, 2, 3)
MODELS: Mapping[str, Model] = {
    "default": Model(),
    "deep_sets": Model.deep_sets(),
    "pfn": Model.pfn(),
    "sum, mean, max": Model(pool=("sum", "mean", "max"), activation="relu"),
    "sum, mean, max; gelu": Model(pool=("sum", "mean", "max"), activation="gelu"),
    "poolings": Model.poolings(),
    "resnet": Model.resnet(),
    "context": Model.context(),
    "context, 2 rounds": Model.context(rounds=2),
}
JET = Inputs.model_validate(
    {
        "collections": {
            "part": {"features": ["log(pt/sum(pt))", "y - jet_y", "deltaphi(phi, jet_phi)"]}
        }
    }
)


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


def problem(
    inputs: Inputs, events: ak.Array, truth: NDArray[np.int64], training: Training, folds: int
) -> Problem:
    """Make flat inputs, and share the events out among folds."""
    number = np.arange(len(events))
    parts = tuple(np.flatnonzero(number % folds == k) for k in range(folds))
    return Problem(inputs, jagged_inputs(Columns(events), inputs), truth, training, parts)


def sample() -> Problem:
    """Pairs of b quarks, from the sample data; four folds."""
    config = read_config(sample_data() / "train.toml")
    events = [
        uproot.open(f"{sample_data() / name}.root:Events").arrays()
        for name in ("background", "signal")
    ]
    truth = np.repeat([0, 1], [len(each) for each in events])
    return problem(config.inputs, ak.concatenate(events), truth, config.training, 4)


def single_top() -> Problem:
    """Single top quarks against W pairs; four folds."""
    config = read_config(real_data.REPOSITORY / "examples" / "single_top.toml")
    events, truth = real_data.read(Path(os.environ["TRACKSETS_TEST_DATA"]))
    return problem(config.inputs, events, truth, config.training, real_data.FOLDS)


def jets(n_train: int = 50_000, n_test: int = 15_000, inputs: Inputs = JET) -> Problem:
    """Quark against gluon jets without particle type, as many of both; one part is held out."""
    files = sorted(Path(os.environ["TRACKSETS_JETS"]).glob("*.root"))
    events = ak.concatenate([uproot.open(f"{name}:Events").arrays() for name in files])
    truth = ak.to_numpy(events.is_quark).astype(np.int64)
    random = np.random.default_rng(0)
    each = (n_train + n_test) // 2
    classes = [random.permutation(np.flatnonzero(truth == kind))[:each] for kind in (0, 1)]
    if min(map(len, classes)) < each:
        raise SystemExit(f"{n_train + n_test} jets needed, there are {[*map(len, classes)]}")
    chosen = random.permutation(np.concatenate(classes))
    training = Training(epochs=15, block_tracks=8192, validation=0.05)
    inputs_of = jagged_inputs(Columns(events[chosen]), inputs)
    return Problem(inputs, inputs_of, truth[chosen], training, (np.arange(n_test),))


def auc(these: Problem, model: Model, seed: int, **options: object) -> tuple[float, float]:
    """Return the AUC on held-out events, and the seconds that the training took.

    The AUC is that of all parts together, as their scores are probabilities.
    """
    training = Training.model_validate({**these.training.model_dump(), **options, "seed": seed})
    task = Task(kind="binary", names=("background", "signal"))
    held_out = np.concatenate(these.parts)
    scores = []
    begin = time.perf_counter()
    for part in these.parts:
        others = np.setdiff1d(np.arange(len(these.truth)), part)
        scorer = fit_inputs(
            InMemory(these.jagged.take(others)),
            these.truth[others],
            task,
            these.inputs,
            model=model,
            training=training,
            progress=False,
        )
        scores.append(scorer.score_inputs(these.jagged.take(part))[:, 0])
    seconds = time.perf_counter() - begin
    return roc_auc(these.truth[held_out], np.concatenate(scores)), seconds


def rows(these: Problem, **options: object) -> Iterator[dict[str, str]]:
    """Measure each model with each seed."""
    for name, model in MODELS.items():
        found = [auc(these, model, seed, **options) for seed in SEEDS]
        values = [each for each, _ in found]
        yield {
            "model": name,
            **{f"seed {seed}": f"{each:.4f}" for seed, each in zip(SEEDS, values, strict=True)},
            "mean": f"{statistics.mean(values):.4f}",
            "seconds": f"{statistics.mean(each for _, each in found):.0f}",
        }


def main() -> None:
    """Measure on each task whose files are there, with constant and with falling learning rate."""
    tasks: dict[str, tuple[Callable[[], Problem], str | None]] = {
        "sample data": (sample, None),
        "single top against WW": (single_top, "TEST_DATA"),
        "quark against gluon jets": (jets, "JETS"),
    }
    for title, (make, needs) in tasks.items():
        if needs is not None and f"TRACKSETS_{needs}" not in os.environ:
            print(f"{title}: left out, set TRACKSETS_{needs}")
            continue
        these = make()
        for schedule in ("constant", "cosine"):
            shown = list(rows(these, schedule=schedule))
            harness.show(f"{title}, {schedule} learning rate: AUC on held-out events", shown)
