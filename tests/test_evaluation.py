"""Figures of merit and plots of scorers with known scores."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers import random_arrays

from tracksets.blocks import Shape
from tracksets.calibrating import calibrate_on_files
from tracksets.comparisons import confusion, reliability
from tracksets.config import check_config
from tracksets.datasets import read_dataset
from tracksets.errors import ConfigError
from tracksets.evaluation import evaluate
from tracksets.inputs import Inputs
from tracksets.metrics import bootstrap, roc, roc_auc
from tracksets.network import Model
from tracksets.scorer import Scorer
from tracksets.targets import Task
from tracksets.training import train

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
    figures = result.figures
    assert (figures["events"], figures["auc"]) == (1500, expected)
    curve = roc(data.targets, scores, data.weights)
    for percent in (30, 50, 70):
        assert figures[f"rejection_{percent}"] == curve.rejection([percent / 100])[0]
        assert 0 < figures[f"rejection_{percent}_uncertainty"] < figures[f"rejection_{percent}"]
    areas = bootstrap(data.targets, scores, data.weights, lambda curve: curve.auc, 100)
    assert figures["auc_uncertainty"] == pytest.approx(areas.std())
    expected = reliability(data.targets, scores, data.weights)
    assert figures["ece"] == pytest.approx(expected.ece)
    matrix = confusion(data.targets, scores[:, None], data.weights)
    np.testing.assert_array_equal(result.confusion, matrix)
    assert json.loads((tmp_path / "figures.json").read_text()) == {
        **figures,
        "confusion": matrix.tolist(),
    }
    assert re.search(rf"^auc +{figures['auc']:.3f} ± 0\.01", result.table, re.MULTILINE)
    names = {path.name for path in result.outputs}
    assert names >= {"figures.json", "report.html", "score.png", "roc.png", "calibration.png"}
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


def test_calibration_before_and_after(sample_data, tmp_path):
    model = scorer(Task(kind="binary", names=("b", "s")))
    truth = config(sample_data, target="isSignal", classes=CLASSES)
    before = evaluate(model, truth, tmp_path).figures
    calibrated = calibrate_on_files(model, truth, "isotonic").scorer
    after = evaluate(calibrated, truth, tmp_path).figures
    assert not [name for name in before if name.endswith("_uncalibrated")]
    assert after["calibration_rms_uncalibrated"] == before["calibration_rms"]
    assert after["ece_uncalibrated"] == before["ece"] > 3 * after["ece"]
    assert after["auc"] == pytest.approx(before["auc"], abs=1e-5)


def test_variations(sample_data, tmp_path):
    model = scorer(Task(kind="binary", names=("b", "s")))
    truth = config(sample_data, target="isSignal", classes=CLASSES)
    texts = ["up: Track_pt *= 1.5", "Track_d0 = 0"]
    result = evaluate(model, truth, tmp_path, vary=texts)
    data = read_dataset(truth, INPUTS)
    nominal = model.score_inputs(data.inputs)[:, 0].astype(float)
    assert list(result.variations) == ["up", "vary2"]
    for text, found in zip(texts, result.variations.values(), strict=True):
        assert text.endswith(found["text"])
        shifted = model.varied(found["text"])
        others = shifted.score_inputs(read_dataset(truth, shifted.inputs).inputs)[:, 0]
        change = others - nominal
        assert found["largest_change"] == pytest.approx(np.abs(change).max())
        assert found["mean_change"] == pytest.approx(np.average(change, weights=data.weights))
        rms = np.sqrt(np.average(change**2, weights=data.weights))
        assert found["rms_change"] == pytest.approx(rms)
        auc = roc_auc(data.targets, others, data.weights)
        assert found["auc"] == pytest.approx(auc)
        assert found["auc_change"] == pytest.approx(auc - result.figures["auc"])
        assert found["auc_change_uncertainty"] < 2 * result.figures["auc_uncertainty"]
        assert found["text"] in result.table
    assert json.loads((tmp_path / "figures.json").read_text())["variations"] == result.variations
    # Events that are not shifted do not change, and that is known for sure.
    same = evaluate(model, truth, tmp_path, vary=["Track_pt *= 1"]).variations["vary1"]
    assert same["auc_change"] == same["auc_change_uncertainty"] == same["largest_change"] == 0


def test_files_of_the_training_are_named(sample_data, tmp_path):
    def read(*names, **training):
        data = {"classes": {name: {"files": [f"{name}.root"]} for name in names}}
        return check_config(
            {
                "data": data,
                "inputs": INPUTS.model_dump(),
                "model": {"phi": [4], "rho": [4]},
                "training": {"epochs": 1, **training},
                "folder": str(sample_data),
            }
        )

    known = read("background", "signal")
    model = train(known, progress=False)
    assert set(model.summary["files"].values()) == {"background.root", "signal.root"}
    model.save(tmp_path / "model.safetensors")
    note = evaluate(tmp_path / "model.safetensors", known, tmp_path / "known").note
    assert "trained on 2 of these 2 file(s)" in note
    assert str(sample_data / "signal.root") in note
    assert "trained on 2 of these 2 file(s)" in (tmp_path / "known" / "report.html").read_text()
    half = evaluate(model, read("background", "events"), tmp_path / "half").note
    assert "trained on 1 of these 2 file(s)" in half
    assert "events.root" not in half
    new = config(sample_data, target="isSignal", classes=CLASSES)
    assert evaluate(model, new, tmp_path / "new").note == ""
    # With folds, no event is scored by a model that knows it.
    folds = train(read("background", "signal", folds="event % 2"), progress=False)
    assert evaluate(folds, known, tmp_path / "folds").note == ""


def test_json_has_no_infinities(sample_data, tmp_path):
    truth = config(
        sample_data,
        classes={"few": {"where": "nTrack < 5"}, "many": {"where": "nTrack >= 60"}},
        weight=None,
    )
    # Only the number of tracks decides: nothing of the other class is kept.
    model = scorer(Task(kind="binary", names=("few", "many")))
    arrays = {name: np.abs(each) for name, each in model.arrays.items()}
    result = evaluate(replace(model, arrays=arrays), truth, tmp_path)
    assert result.figures["rejection_30"] == np.inf
    written = json.loads((tmp_path / "figures.json").read_text(), parse_constant=pytest.fail)
    assert written["rejection_30"] is None


def test_a_model_of_another_task_is_refused(sample_data, tmp_path):
    truth = config(sample_data, target="isSignal", classes=CLASSES)
    with pytest.raises(ConfigError, match="the model gives regression scores"):
        evaluate(scorer(REGRESSION), truth, tmp_path)
