"""How far scores are from probabilities on the three tasks, before and after a calibration.

Events are those of `bench.models`; of the sample data, those that `make_sample_data.py` wrote into
the folder TRACKSETS_SAMPLE (`--mixed-events 40000 --seed 1013`): the file that ships has too few
for an error below 0.01 to be seen.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import tracksets as ts
from bench import harness, models
from tracksets.calibrating import calibrate_inputs, calibrate_on_files
from tracksets.config import read_config
from tracksets.demo import sample_data
from tracksets.ensembles import fit_inputs
from tracksets.settings import Training
from tracksets.stores import InMemory

METHODS = ("temperature", "isotonic")


def sample(seed: int) -> Iterator[dict[str, float]]:
    """Train on the sample data, and look at events of the same kind."""
    training = {"seed": seed}
    config = read_config(sample_data() / "train.toml")
    config = config.model_copy(update={"training": config.training.model_copy(update=training)})
    scorer = ts.train(config, progress=False)
    more = read_config(sample_data() / "evaluate.toml")
    more = more.model_copy(update={"folder": Path(os.environ["TRACKSETS_SAMPLE"])})
    for method in METHODS:
        yield calibrate_on_files(scorer, more, method).figures


def single_top(seed: int) -> Iterator[dict[str, float]]:
    """Let four models score the events that they have not seen."""
    these = models.single_top()
    fold = np.arange(len(these.truth)) % 4
    training = {**these.training.model_dump(), "folds": "event % 4", "seed": seed}
    config = read_config(models.real_data.REPOSITORY / "examples" / "single_top.toml")
    scorer = fit_inputs(
        InMemory(these.jagged),
        these.truth,
        models.TASK,
        these.inputs,
        model=config.model,
        training=Training.model_validate(training),
        columns={"event % 4": fold},
        progress=False,
    )
    parts = replace(these.jagged, fold=fold)
    for method in METHODS:
        yield calibrate_inputs(scorer, [parts], these.truth, np.ones(len(fold)), method).figures


def jets(seed: int) -> Iterator[dict[str, float]]:
    """Train on 50,000 jets and look at 35,000 others: of fewer, an error of 0.01 is chance."""
    these = models.jets(*models.read_jets(70_000), "log z, jet, leading", True)
    order = np.arange(len(these.truth))
    scorer = models.fitted(these, order[-50_000:], models.MODELS["deep_sets"], seed)
    parts, truth = these.jagged.take(order[:-50_000]), these.truth[:-50_000]
    for method in METHODS:
        yield calibrate_inputs(scorer, [parts], truth, np.ones(len(truth)), method).figures


def main() -> None:
    """Measure with three seeds, where the files are."""
    tasks: dict[str, tuple[Callable[[int], Iterator[dict[str, float]]], str]] = {
        "sample data": (sample, "TRACKSETS_SAMPLE"),
        "single top against WW": (single_top, "TRACKSETS_TEST_DATA"),
        "quark against gluon jets": (jets, "TRACKSETS_JETS"),
    }
    rows = []
    for name, (run, needs) in tasks.items():
        if needs not in os.environ:
            print(f"{name}: left out, set {needs}")
            continue
        for seed in models.SEEDS:
            found = dict(zip(METHODS, run(seed), strict=True))
            first = found[METHODS[0]]
            row = {"task": name, "seed": str(seed), "events": f"{first['events']:.0f}"}
            row["before"] = f"{first['ece_before']:.4f} ({first['ece_by_chance_before']:.4f})"
            for method, each in found.items():
                row[method] = f"{each['ece_after']:.4f} ({each['ece_by_chance_after']:.4f})"
            print(row, flush=True)
            rows.append(row)
    if rows:
        harness.show("expected calibration error (of a perfect score by chance)", rows)
