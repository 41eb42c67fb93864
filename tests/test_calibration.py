"""Temperatures and curves that are known beforehand, weights of any sign, and files."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import uproot
from helpers import BINARY, CLASSES, make_events, make_scorer
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

import tracksets as ts
from tracksets.calibrating import calibrate_on_files
from tracksets.calibration import Calibration, calibrate, link, traced_link
from tracksets.comparisons import mean_reliability
from tracksets.config import read_config
from tracksets.errors import ConfigError, DataError, ModelError
from tracksets.splitting import split
from tracksets.targets import Task

CURVE = ((0.0, 0.0), (0.2, 0.5), (0.6, 0.7), (1.0, 1.0))
CALIBRATIONS = [
    Calibration(method="temperature", temperature=2.5),
    Calibration(method="isotonic", knots=(CURVE,)),
]
REGRESSION = Task(kind="regression", names=("a",), shift=(1.0,), scale=(3.0,))


def too_sure(task, factor, n=20_000, seed=0):
    """Make outputs that are `factor` times what they should be; the truth is drawn from those."""
    random = np.random.default_rng(seed)
    right = random.normal(scale=1.5, size=(n, task.outputs))
    full = np.concatenate([np.zeros((n, 1)), right], axis=1) if task.kind == "binary" else right
    p = np.exp(full) / np.exp(full).sum(axis=1, keepdims=True)
    classes = (random.uniform(size=n)[:, None] > np.cumsum(p, axis=1)).sum(axis=1)
    return (factor * right).astype(np.float32), np.minimum(classes, p.shape[1] - 1)


@pytest.mark.parametrize("task", [BINARY, CLASSES])
@pytest.mark.parametrize("factor", [0.3, 3.0])
@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_what_is_wrong_is_repaired(task, factor, method):
    outputs, classes = too_sure(task, factor)
    weights = np.ones(len(classes))
    found = calibrate(method, task, outputs, classes, weights)
    if method == "temperature":
        assert found.temperature == pytest.approx(factor, rel=0.03)
    others, truth = too_sure(task, factor, seed=1)
    before = mean_reliability(truth, task.link(others), weights)
    after = mean_reliability(truth, link(task, found, others), weights)
    assert before["ece"] > 0.05
    # One curve for each class cannot repair all of what one temperature for all did.
    several = method == "isotonic" and task is CLASSES
    assert after["ece"] < (0.03 if several else 2 * after["ece_by_chance"])
    assert after["calibration_rms"] < (0.04 if several else 0.01)


def test_the_temperature_has_the_smallest_loss():
    outputs, classes = too_sure(CLASSES, 2.0, 500)
    weights = np.random.default_rng(0).exponential(size=500)

    def loss(t):
        p = CLASSES.link(outputs / t[0])
        return -np.average(np.log(p[np.arange(500), classes]), weights=weights)

    expected = minimize(loss, [1.0], method="Nelder-Mead", options={"xatol": 1e-5}).x[0]
    found = calibrate("temperature", CLASSES, outputs, classes, weights)
    assert found.temperature == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_pairs_that_cancel_change_nothing(method):
    outputs, classes = too_sure(BINARY, 2.0, 3000)
    plain = calibrate(method, BINARY, outputs, classes, np.ones(3000))
    chosen = np.random.default_rng(0).integers(0, 3000, 500)
    order = np.random.default_rng(1).permutation(4000)
    weights = np.concatenate([np.ones(3500), -np.ones(500)])[order]
    rows = np.concatenate([np.arange(3000), chosen, chosen])[order]
    paired = calibrate(method, BINARY, outputs[rows], classes[rows], weights)
    if method == "temperature":
        assert paired.temperature == pytest.approx(plain.temperature, rel=1e-5)
    else:  # the groups, of other events, are others
        p = np.linspace(0.02, 0.98, 50)
        found, expected = (np.interp(p, *each.curve(0)) for each in (paired, plain))
        np.testing.assert_allclose(found, expected, atol=0.05)


def test_a_curve_like_scikit_learn():
    random = np.random.default_rng(2)
    p = random.uniform(size=50_000)
    truth = (random.uniform(size=50_000) < p**2).astype(int)
    outputs = np.log(p / (1 - p))[:, None].astype(np.float32)
    found = calibrate("isotonic", BINARY, outputs, truth, np.ones(50_000))
    expected = IsotonicRegression().fit(p, truth)
    grid = np.linspace(0.05, 0.95, 50)
    np.testing.assert_allclose(np.interp(grid, *found.curve(0)), expected.predict(grid), atol=0.04)
    np.testing.assert_allclose(np.interp(grid, *found.curve(0)), grid**2, atol=0.03)


@given(
    seed=st.integers(0, 1000),
    n=st.sampled_from([4, 50, 1000]),
    negative=st.sampled_from([0.0, 0.2]),
    tied=st.booleans(),
)
def test_a_curve_rises_whatever_the_weights(seed, n, negative, tied):
    random = np.random.default_rng(seed)
    # Beyond 17, a probability of float32 is 1 itself.
    outputs = random.normal(scale=4, size=(n, 1)).clip(-15, 15).astype(np.float32)
    outputs = outputs.round() if tied else outputs
    classes = np.arange(n) % 2
    weights = random.exponential(size=n) * np.where(random.random(n) < negative, -1, 1)
    weights[:2] += n - np.minimum(weights, 0).sum()  # each class has a positive sum
    found = calibrate("isotonic", BINARY, outputs, classes, weights)  # which checks that it rises
    scores = link(BINARY, found, outputs)[:, 0]
    assert ((scores > 0) & (scores < 1)).all()
    raw = BINARY.link(outputs)[:, 0]
    order = np.argsort(raw)
    rises = np.diff(scores[order])
    assert (rises >= 0).all()
    assert (rises[np.diff(raw[order]) > 1e-3] > 0).all()  # closer ones may be rounded to one


@pytest.mark.parametrize("calibration", [None, *CALIBRATIONS])
def test_compiled_functions_link_alike(calibration, strict_dtypes):
    outputs = np.linspace(-20, 20, 101, dtype=np.float32)[:, None]
    found = traced_link(BINARY, calibration, outputs)
    np.testing.assert_allclose(found, link(BINARY, calibration, outputs), rtol=1e-5)


def test_several_classes_sum_to_one():
    calibration = Calibration(method="isotonic", knots=(CURVE, CURVE[:2] + CURVE[3:], CURVE))
    outputs = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    scores = link(CLASSES, calibration, outputs)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(traced_link(CLASSES, calibration, outputs), scores, rtol=1e-5)
    raw = CLASSES.link(outputs).astype(float)
    mapped = np.stack([np.interp(raw[:, i], *calibration.curve(i)) for i in range(3)], axis=1)
    np.testing.assert_allclose(scores, mapped / mapped.sum(axis=1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_it_is_kept_in_the_file(tmp_path, calibration):
    plain = make_scorer()
    scorer = replace(plain, calibration=calibration)
    scorer.save(tmp_path / "m.safetensors")
    again = ts.load(tmp_path / "m.safetensors")
    assert again.calibration == calibration
    assert again == scorer != plain
    events = make_events(20)
    np.testing.assert_array_equal(again(events), scorer(events))
    expected = link(
        BINARY, calibration, np.log(plain(events) / (1 - plain(events))).to_numpy()[:, None]
    )
    np.testing.assert_allclose(again(events), expected[:, 0], rtol=1e-4)


def test_a_hash_without_calibration_is_what_it_was():
    """Files that were labelled before there were calibrations stay recognised."""
    scorer, digest = make_scorer(), hashlib.sha256()
    for part in (scorer.inputs, scorer.model, scorer.task):
        digest.update(part.model_dump_json().encode())
    for name, array in sorted(scorer.arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    assert scorer.hash == digest.hexdigest()


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "temperature", "temperature": -1},
        {"method": "isotonic", "knots": [[[0, 0], [0.5, 0.7], [0.4, 0.8], [1, 1]]]},
        {"method": "isotonic", "knots": [[[0, 0], [0.5, 0.5]]]},
        {"method": "isotonic"},
        {"method": "platt"},
    ],
)
def test_damaged_headers_are_refused(tmp_path, monkeypatch, wrong):
    with pytest.raises(ValidationError):
        Calibration.model_validate(wrong)
    monkeypatch.setattr(Calibration, "model_dump", lambda *_, **__: wrong)
    replace(make_scorer(), calibration=CALIBRATIONS[0]).save(tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match="damaged or not a tracksets model"):
        ts.load(tmp_path / "m.safetensors")


def test_one_curve_for_every_score(tmp_path):
    scorer = replace(make_scorer(CLASSES), calibration=CALIBRATIONS[1])
    scorer.save(tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match="1 curve"):
        ts.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_after_training(sample_data, method):
    config = read_config(sample_data / "train.toml")
    training = ts.Training(epochs=3, block_tracks=4096, calibration=method, validation=0.5)
    config = config.model_copy(update={"training": training, "model": ts.Model(phi=[16], rho=[16])})
    scorer = ts.train(config, progress=False)
    figures = scorer.summary["calibration"]
    assert scorer.calibration.method == method == figures["method"]
    assert figures["events"] == scorer.summary["events"]["validation"]
    assert figures["loss_after"] < figures["loss_before"] + 0.01
    plain = ts.train(
        config.model_copy(update={"training": training.model_copy(update={"calibration": None})}),
        progress=False,
    )
    assert plain == replace(scorer, calibration=None)


def test_on_events_and_on_files(sample_data):
    scorer = ts.train(
        read_config(sample_data / "train.toml").model_copy(
            update={"training": ts.Training(epochs=5), "model": ts.Model(phi=[16], rho=[16])}
        ),
        progress=False,
    )
    too_sure = {name: scorer.arrays[name] * 5 for name in ("out.kernel", "out.bias")}
    scorer = replace(scorer, arrays={**scorer.arrays, **too_sure})
    done = calibrate_on_files(scorer, sample_data / "evaluate.toml")
    events = uproot.open(f"{sample_data}/events.root:Events").arrays()
    # In the order of the classes, as the configuration has them.
    order = np.argsort(events.isSignal, kind="stable")
    again = scorer.calibrated(events[order], events.isSignal[order], events.genWeight[order])
    assert again == done.scorer
    assert done.figures["events"] == 1500
    assert done.figures["loss_after"] < done.figures["loss_before"]
    # A calibration replaces another one; it is not put on top of it.
    assert calibrate_on_files(again, sample_data / "evaluate.toml").scorer == done.scorer


def test_scores_that_say_nothing_or_everything():
    outputs = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
    truth, ones = (outputs[:, 0] > 0).astype(int), np.ones(50)
    for sign, expected in ((-1, 100), (1, 0.01)):
        found = calibrate("temperature", BINARY, sign * outputs, truth, ones).temperature
        assert found == pytest.approx(expected, rel=0.01)


def test_too_few_events_to_check():
    scorer = make_scorer().calibrated(make_events(2), [0, 1])
    assert scorer.calibration is not None
    figures = scorer.summary["calibration"]
    assert "ece_before" in figures
    assert "ece_after" not in figures


def test_before_the_training():
    events = make_events(40)
    weights = np.ones(40)
    _, held_out = split(40, ts.Training())
    weights[held_out] = -1  # which a training would take, if the others outweigh them
    targets = np.arange(40) % 2
    training = ts.Training(calibration="temperature", epochs=1)
    with pytest.raises(DataError, match="class background sum to -"):
        ts.fit(events, targets, make_scorer().inputs, weights=weights, training=training)


def test_what_is_refused():
    outputs, classes = too_sure(BINARY, 1.0, 50)
    ones = np.ones(50)
    with pytest.raises(DataError, match="no probabilities to calibrate"):
        calibrate("temperature", REGRESSION, outputs, classes, ones)
    with pytest.raises(DataError, match="class signal sum to 0"):
        calibrate("isotonic", BINARY, outputs, np.zeros(50, int), ones)
    with pytest.raises(ConfigError, match="no calibration 'isotonc': did you mean 'isotonic'"):
        make_scorer().calibrated(make_events(4), [0, 1, 0, 1], method="isotonc")
    with pytest.raises(DataError, match="weights of shape"):
        make_scorer().calibrated(make_events(4), [0, 1, 0, 1], [1.0])
    with pytest.raises(ConfigError, match="needs validation events"):
        ts.Training(calibration="isotonic", validation=0)
    training = ts.Training(calibration="isotonic")
    with pytest.raises(ConfigError, match="calibration is for classes"):
        ts.fit(make_events(20), np.linspace(0, 2, 20), make_scorer().inputs, training=training)
