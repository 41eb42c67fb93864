"""The report of trainings whose scores and history are known."""

import csv
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers import BINARY, CLASSES, flat_inputs, random_arrays

from tracksets.blocks import Shape
from tracksets.callbacks import Step
from tracksets.errors import FileError, MissingExtraError
from tracksets.inputs import Inputs
from tracksets.metrics import mean_auc
from tracksets.network import Model
from tracksets.overtraining import kolmogorov_smirnov
from tracksets.problems import Problem
from tracksets.samples import InMemory, Sample
from tracksets.scaling import Scaling
from tracksets.scorer import Scorer
from tracksets.targets import Task
from tracksets.training_report import TrainingReport

INPUTS = Inputs(collections={"Track": {"features": ["pt", "eta"]}}, event=["PV_z"])
REGRESSION = Task(
    kind="regression", names=("m", "p"), shift=(1.0, 2.0), scale=(2.0, 0.5), units=("GeV", "GeV")
)
HISTORY = [
    {
        "epoch": float(epoch),
        "loss": 1 / epoch,
        "validation_loss": 1.5 / epoch,
        "validation_auc": 0.5 + 0.1 * epoch,
        "step": 2.0 * epoch,
        "learning_rate": 0.1 / epoch,
        "seconds": 2.0,
        "events_per_second": 100.0,
    }
    for epoch in (1, 2, 3)
]


def trained(task, n_event=300, validation=100):
    """Return a scorer with random parameters, and the problem it might be the solution of."""
    random = np.random.default_rng(5)
    inputs = flat_inputs({"Track": random.poisson(3, n_event)})
    if task.kind == "regression":
        targets = task.learnable(random.normal(size=(n_event, 2)))
    else:
        targets = random.integers(len(task.names), size=(n_event, 1)).astype(np.float32)
    weights = random.normal(1, 0.6, n_event).astype(np.float32)
    sample = Sample(InMemory(inputs), targets, weights)
    order = random.permutation(n_event)
    summary = {
        "best_epoch": 2,
        "training": {"epochs": 3},
        "versions": {"tracksets": "0"},
    }
    shape = Shape({"Track": 64}, 16)
    blank = Scorer(INPUTS, Model(phi=[4], rho=[4]), task, {}, shape, summary)
    scorer = replace(blank, arrays=random_arrays(blank.architecture))
    scaling = ({"Track": Scaling.identity(2)}, Scaling.identity(1))
    problem = Problem(
        scorer.architecture,
        task,
        scaling,
        sample.part(np.sort(order[validation:])),
        sample.part(np.sort(order[:validation])) if validation else None,
        shape,
        {"Track": ["pt", "<eta>"], "event": ["PV_z"]},
    )
    return scorer, problem


def report(scorer, problem, folder, history=HISTORY):
    with TrainingReport(folder) as callback:
        for entry in history:
            callback.on_step(Step(int(entry["step"]) - 1, 1, 10, 1.0, 0.5))
            callback.on_epoch(entry)
    callback.on_end(scorer, problem)
    return json.loads((folder / "report.json").read_text())


def events(scorer, part):
    """Return scores, targets and weights of a part, by another way."""
    inputs = part.sample.store.inputs.take(part.events)
    return scorer.score_inputs(inputs), part.targets, part.weights


@pytest.mark.parametrize("task", [BINARY, CLASSES], ids=lambda task: task.kind)
def test_classes(task, tmp_path):
    scorer, problem = trained(task)
    found = report(scorer, problem, tmp_path / "new")
    assert found["best_epoch"] == found["epoch"] == 2
    assert found["validation_loss"] == 0.75
    one, other = events(scorer, problem.sample), events(scorer, problem.validation)
    for name, (scores, targets, weights) in (("training", one), ("validation", other)):
        assert found["auc"][name] == pytest.approx(mean_auc(targets[:, 0], scores, weights))
    names = ["signal"] if task is BINARY else ["b", "c", "light"]
    assert list(found["overtraining"]) == [f"score for {name}" for name in names]
    for column, name in enumerate(names):
        tests = found["overtraining"][f"score for {name}"]
        assert list(tests) == list(task.names)
        for i, test in enumerate(tests.values()):
            (a, u), (b, v) = (
                (scores[targets[:, 0] == i, column], weights[targets[:, 0] == i])
                for scores, targets, weights in (one, other)
            )
            expected = kolmogorov_smirnov(a, b, u, v)
            assert test["distance"] == pytest.approx(expected.distance, abs=1e-6)
            assert test["p_value"] == pytest.approx(expected.p_value, abs=1e-6)
            assert test["effective_validation_events"] == pytest.approx(expected.n_effective[1])


def test_files_and_page(tmp_path):
    scorer, problem = trained(CLASSES)
    found = report(scorer, problem, tmp_path)
    pictures = ("auc", "learning_rate", "loss", "scores_0", "scores_1", "scores_2")
    assert {path.name for path in tmp_path.iterdir()} == {
        *("report.html", "report.json", "history.csv"),
        *(f"{name}.{kind}" for name in pictures for kind in ("png", "pdf")),
    }
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["validation_auc"]) for row in rows] == pytest.approx([0.6, 0.7, 0.8])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == len(pictures)
    test = found["overtraining"]["score for c"]["light"]
    expected = rf"score for c</td><td>light</td><td>{test['distance']:.5g}</td>"
    assert re.search(expected, page)
    assert "<eta>" not in page
    assert "&lt;eta&gt;" in page


def test_regression(tmp_path):
    scorer, problem = trained(REGRESSION)
    history = [{k: v for k, v in each.items() if k != "validation_auc"} for each in HISTORY]
    found = report(scorer, problem, tmp_path, history)
    assert "auc" not in found
    assert not (tmp_path / "auc.png").exists()
    labels = ["predicted - true m [GeV]", "predicted - true p [GeV]"]
    assert list(found["overtraining"]) == labels
    residuals = [
        (scores - task_targets * np.asarray([2, 0.5]) - np.asarray([1, 2]), weights)
        for scores, task_targets, weights in (
            events(scorer, problem.sample),
            events(scorer, problem.validation),
        )
    ]
    for i, label in enumerate(labels):
        (a, u), (b, v) = residuals
        expected = kolmogorov_smirnov(a[:, i], b[:, i], u, v)
        test = found["overtraining"][label]["events"]
        assert test["distance"] == pytest.approx(expected.distance, abs=0.02)
        assert test["effective_training_events"] == pytest.approx(expected.n_effective[0])


def test_without_validation(tmp_path):
    scorer, problem = trained(BINARY, validation=0)
    history = [{k: v for k, v in each.items() if "validation" not in k} for each in HISTORY]
    found = report(scorer, problem, tmp_path, history)
    assert set(found) == {"best_epoch", *history[0]}
    assert "Training against validation" not in (tmp_path / "report.html").read_text("utf-8")


def test_a_class_without_validation_events_is_left_out(tmp_path):
    scorer, problem = trained(CLASSES)
    targets = problem.sample.sample.targets
    of_class = problem.validation.events[targets[problem.validation.events, 0] == 1]
    targets[of_class] = 0
    found = report(scorer, problem, tmp_path)
    assert found["auc"]["validation"] is None
    assert list(found["overtraining"]["score for b"]) == ["b", "light"]


def test_a_training_that_went_on(tmp_path):
    """Of the steps before, only the last one of each epoch is known."""
    callback = TrainingReport(tmp_path)
    for entry in HISTORY[:2]:
        callback.on_epoch(entry)
    callback.on_step(Step(5, 3, 10, 1.0, 0.5))
    callback.on_epoch(HISTORY[2])
    assert callback._rates == {2: 0.1, 4: 0.05, 5: 0.5, 6: 0.1 / 3}


def test_what_is_missing_is_said_before_the_training(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot write to the folder"):
        TrainingReport(tmp_path / "file").__enter__()
    monkeypatch.setitem(sys.modules, "mplhep", None)
    with pytest.raises(MissingExtraError, match=r"tracksets\[plot\]"):
        TrainingReport(tmp_path)
