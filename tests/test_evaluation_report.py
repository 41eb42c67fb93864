"""The report of an evaluation: what is in it, and that it is what was found."""

import re
from dataclasses import replace

import pytest
from helpers import random_arrays

from tracksets.blocks import Shape
from tracksets.config import check_config
from tracksets.datasets import read_dataset
from tracksets.errors import ConfigError
from tracksets.evaluation import evaluate
from tracksets.evaluation_report import Evaluated, write_evaluation_report
from tracksets.inputs import Inputs
from tracksets.network import Model
from tracksets.overtraining import kolmogorov_smirnov
from tracksets.scorer import Scorer
from tracksets.targets import Task

INPUTS = Inputs(
    collections={"Track": {"features": ["log(pt)", "d0/d0_err"], "select": "pt < 50"}},
    event=["PV_z"],
)
CLASSES = {"b": {"value": 0}, "s": {"value": 1}}
HISTORY = [{"epoch": 1.0, "loss": 2.0, "validation_loss": 2.5}, {"epoch": 2.0, "loss": 1.0}]


def scorer(task):
    blank = Scorer(INPUTS, Model(phi=[4], rho=[4]), task, {}, Shape({"Track": 4096}, 100))
    return replace(blank, arrays=random_arrays(blank.architecture))


def config(folder, **data):
    data = {"files": ["events.root"], "weight": "genWeight", "target": "isSignal", **data}
    return check_config({"data": data, "folder": str(folder)})


def page(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def headings(folder):
    return re.findall(r"<h2[^>]*>(.*?)</h2>", page(folder))


def test_binary(sample_data, tmp_path):
    """The test is that of half of the events, taken as trained on, against all."""
    model = scorer(Task(kind="binary", names=("b", "s")))
    summary = {"history": [HISTORY[0]] * 2, "best_epoch": 1, "events": {"training": 1234}}
    model = replace(model, summary=summary)
    truth = config(sample_data, classes=CLASSES)
    trained = config(sample_data, classes=CLASSES, select="event % 2 == 0")
    result = evaluate(model, truth, tmp_path, training=trained)
    names = {path.name for path in result.outputs}
    assert names == {
        *(
            "report.html",
            "figures.json",
            "calibration.png",
            "score.png",
            "roc.png",
            "loss.png",
            "overtraining_0.png",
        ),
        *(f"feature_{i}.png" for i in range(3)),
    }
    assert all((tmp_path / name).with_suffix(".pdf").is_file() for name in names if "png" in name)
    assert headings(tmp_path) == [
        *("Model and data", "Figures", "Training", "Overtraining"),
        *("Features by class", "Importance", "Speed and size"),
    ]
    text = page(tmp_path)
    assert text.count("data:image/png;base64,") == 8
    assert f"<td>auc</td><td>{result.figures['auc']:.3f}</td><td>0.0" in text
    for each in (model.hash, "1,234 training events", "Track: pt &lt; 50", "genWeight"):
        assert each in text
    data, half = read_dataset(truth, INPUTS), read_dataset(trained, INPUTS)
    for i, name in enumerate(("b", "s")):
        chosen = data.targets == i
        assert f"<td>{name}</td><td>{chosen.sum()}</td>" in text
        one, other = (
            (model.score_inputs(each.inputs)[each.targets == i, 0], each.weights[each.targets == i])
            for each in (half, data)
        )
        test = kolmogorov_smirnov(one[0], other[0], one[1], other[1])
        assert f"<td>score for s</td><td>{name}</td><td>{test.distance:.5g}</td>" in text


def test_several_classes_without_history(sample_data, tmp_path):
    data = {
        "target": None,
        "classes": {"few": {"where": "nTrack < 50"}, "many": {"where": "nTrack >= 50"}},
    }
    data["classes"]["<b>"] = {"where": "nTrack < 10"}
    model = scorer(Task(kind="classes", names=("few", "many", "<b>")))
    evaluate(model, config(sample_data, **data), tmp_path)
    assert headings(tmp_path) == [
        *("Model and data", "Figures", "Features by class", "Importance", "Speed and size")
    ]
    assert page(tmp_path).count("background efficiency") == 3
    assert "<b>" not in page(tmp_path)


def test_regression(sample_data, tmp_path):
    task = Task(kind="regression", names=("z",), shift=(0.0,), scale=(1.0,))
    truth = config(sample_data, target=None, regression={"targets": ["PV_z"], "names": ["z"]})
    evaluate(scorer(task), truth, tmp_path, training=truth)
    assert headings(tmp_path) == [
        "Model and data",
        "Figures",
        "Overtraining",
        "Importance",
        "Speed and size",
    ]
    assert "predicted - true z</td><td>events</td><td>0</td><td>1</td>" in page(tmp_path)
    assert "<td>all</td><td>1,500</td>" in page(tmp_path)


def test_uncertainties_stand_beside_their_figures(sample_data, tmp_path):
    model = scorer(Task(kind="binary", names=("b", "s")))
    truth = config(sample_data, classes=CLASSES)
    data = read_dataset(truth, INPUTS)
    figures = {"auc": 0.75, "auc_uncertainty": 0.0125, "ece": 0.5}
    found = Evaluated(model, truth, data, model.score_inputs(data.inputs), figures, [])
    write_evaluation_report(found, tmp_path)
    text = page(tmp_path)
    assert "<td>auc</td><td>0.750</td><td>0.013</td>" in text
    assert "<td>ece</td><td>0.5</td><td></td>" in text


def test_another_training_is_refused(sample_data, tmp_path):
    model = scorer(Task(kind="binary", names=("b", "s")))
    other = config(sample_data, classes={"x": {"value": 0}, "y": {"value": 1}})
    with pytest.raises(
        ConfigError, match=r"scores of \['b', 's'\].*training has binary targets \['x', 'y'\]"
    ):
        evaluate(model, config(sample_data, classes=CLASSES), tmp_path, training=other)
