"""Figures of merit and plots of scorers with known scores."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import random_arrays

from tracksets.blocks import Shape
from tracksets.config import check_config
from tracksets.datasets import read_dataset
from tracksets.errors import ConfigError
from tracksets.evaluation import evaluate
from tracksets.inputs import Inputs
from tracksets.metrics import roc_auc
from tracksets.network import Model
from tracksets.scorer import Scorer
from tracksets.targets import Task

INPUTS = Inputs(collections={"Track": {"features": ["log(pt)", "d0/d0_err"]}})
CLASSES = {"b": {"value": 0}, "s": {"value": 1}}
REGRESSION = Task(kind="regression", names=("a", "b"), shift=(1.0, 2.0), scale=(1.0, 0.5))


def scorer(task):
    blank = Scorer(INPUTS, Model(phi=[4], rho=[4]), task, {}, Shape({"Track": 4096}, 100))
    return replace(blank, arrays=random_arrays(blank.architecture))


def config(folder, **data):
    data = {"files": ["events.root"], "weight": "genWeight", **data}
    return check_config({"data": data, "folder": str(folder)})


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") and path.stat().st_size > 5_000


def test_binary(sample_data, tmp_path):
    model = scorer(Task(kind="binary", names=("b", "s")))
    truth = config(sample_data, target="isSignal", classes=CLASSES)
    result = evaluate(model, truth, tmp_path)
    data = read_dataset(truth, INPUTS)
    scores = model.score_inputs(data.inputs)[:, 0]
    expected = roc_auc(data.targets, scores, data.weights)
    assert result.figures == {"events": 1500, "auc": expected}
    assert json.loads((tmp_path / "figures.json").read_text()) == result.figures
    assert {path.name for path in result.outputs} >= {"figures.json", "score.png", "roc.png"}
    assert all(is_png(path) for path in result.outputs if path.suffix == ".png")


def test_several_classes(sample_data, tmp_path):
    truth = config(
        sample_data,
        classes={
            "empty": {"where": "nTrack == 0"},
            "few": {"where": "nTrack > 0 && nTrack < 50"},
            "many": {"where": "nTrack >= 50"},
        },
    )
    model = scorer(Task(kind="classes", names=("empty", "few", "many")))
    history = [{"epoch": 1.0, "loss": 2.0, "validation_loss": 2.5}, {"epoch": 2.0, "loss": 1.0}]
    model = replace(model, summary={"history": [history[0], history[0]]})
    result = evaluate(model, truth, tmp_path)
    data = read_dataset(truth, INPUTS)
    scores = model.score_inputs(data.inputs)
    for i, name in enumerate(model.task.names):
        expected = roc_auc(data.targets == i, scores[:, i], data.weights)
        assert result.figures[f"auc_{name}"] == expected
    names = {path.name for path in result.outputs}
    assert names >= {"score_empty.png", "score_few.png", "score_many.png", "roc.png", "loss.png"}


def test_regression(sample_data, tmp_path):
    truth = config(sample_data, regression={"targets": ["PV_z", "nTrack"], "names": ["a", "b"]})
    result = evaluate(scorer(REGRESSION), truth, tmp_path)
    data = read_dataset(truth, INPUTS)
    residuals = scorer(REGRESSION).score_inputs(data.inputs) - data.targets
    for i, name in enumerate("ab"):
        bias = np.average(residuals[:, i], weights=data.weights)
        rms = np.sqrt(np.average(residuals[:, i] ** 2, weights=data.weights))
        np.testing.assert_allclose(result.figures[f"bias_{name}"], bias, rtol=1e-6)
        np.testing.assert_allclose(result.figures[f"rms_{name}"], rms, rtol=1e-6)
    assert {path.name for path in result.outputs} >= {"prediction_0.png", "prediction_1.png"}


def test_a_model_of_another_task_is_refused(sample_data, tmp_path):
    truth = config(sample_data, target="isSignal", classes=CLASSES)
    with pytest.raises(ConfigError, match="the model gives regression scores"):
        evaluate(scorer(REGRESSION), truth, tmp_path)
