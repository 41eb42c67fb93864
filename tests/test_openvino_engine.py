"""Scores of the engine openvino: like a loop over events, and like JAX's within what is stated."""

import logging
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from helpers import (
    BINARY,
    CLASSES,
    INPUTS,
    MODEL,
    deep_set,
    flat_inputs,
    make_events,
    make_scorer,
    need_openvino,
    random_arrays,
)
from hypothesis import given
from hypothesis import strategies as st

import tracksets as ts
from tracksets import engine as engine_module
from tracksets.blocks import Shape
from tracksets.config import read_config
from tracksets.datasets import read_dataset
from tracksets.engines import Engine
from tracksets.errors import ModelError, ProcessError
from tracksets.metrics import roc_auc
from tracksets.scorer import Scorer
from tracksets.targets import Task

need_openvino()

from tracksets import openvino_engine, openvino_graph

WIDTHS = dict(INPUTS.widths)
TASKS = {
    "binary": BINARY,
    "classes": CLASSES,
    "regression": Task(kind="regression", names=("x",), shift=(1.5,), scale=(0.1,)),
}
MODELS = {
    "relu": MODEL,
    "gelu": ts.Model(phi=[8], rho=[], pool=["mean", "sum", "max"], activation="gelu"),
    "silu": ts.Model(phi=[8, 70, 8], rho=[4, 4], pool=["mean"], activation="silu"),
    "tanh": ts.Model(phi=[5], rho=[4], pool=["max"], activation="tanh"),
}
MOST = {"float32": 1e-5, "bfloat16": 0.05}
"""Stated in docs/engines.md: how far a probability may be off."""
MOST_AUC = {"float32": 1e-5, "bfloat16": 1e-3}


@cache
def scorer_of(task: str = "binary", model: str = "relu", slots: int = 64) -> Scorer:
    shape = Shape({"Track": slots, "Jet": slots // 2}, 16)
    scorer = replace(make_scorer(TASKS[task]), model=MODELS[model], shape=shape)
    return replace(scorer, arrays=random_arrays(scorer.architecture))


def on(scorer: Scorer, precision: str) -> Scorer:
    """Choose the engine, or skip where the processor has no such instructions."""
    try:
        Engine("openvino", precision).describe()
    except ProcessError as error:
        pytest.skip(str(error))
    return scorer.on("openvino", precision)


def random_counts(n_event: int, mean: float, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {"Track": random.poisson(mean, n_event), "Jet": random.poisson(1, n_event)}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", MODELS)
def test_like_a_loop_over_events(task, model):
    scorer = scorer_of(task, model)
    fast = scorer.on("openvino")
    for counts in (random_counts(60, 5), random_counts(3, 700), {"Track": [0, 0], "Jet": [0, 0]}):
        inputs = flat_inputs(counts, WIDTHS)
        exact = scorer.task.link(deep_set(scorer.architecture, scorer.arrays, inputs))
        found = fast.score_inputs(inputs)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found, scorer.score_inputs(inputs), rtol=5e-5, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_bfloat16_is_close_and_not_the_same(model):
    scorer = scorer_of("binary", model)
    inputs = flat_inputs(random_counts(200, 5), WIDTHS)
    difference = on(scorer, "bfloat16").score_inputs(inputs) - scorer.score_inputs(inputs)
    assert 1e-5 < np.abs(difference).max() < MOST["bfloat16"]


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 17)), max_size=30))
def test_any_counts(pairs):
    scorer = scorer_of("classes", "gelu", slots=256)
    track, jet = zip(*pairs, strict=True) if pairs else ((), ())
    inputs = flat_inputs({"Track": track, "Jet": jet}, WIDTHS)
    found = scorer.on("openvino").score_inputs(inputs)
    assert found.shape == (len(pairs), 3)
    np.testing.assert_allclose(found, scorer.score_inputs(inputs), rtol=5e-5, atol=1e-7)


@pytest.mark.parametrize("precision", MOST)
def test_a_score_does_not_depend_on_the_other_events(precision):
    scorer = on(scorer_of("classes", "gelu"), precision)
    inputs = flat_inputs(random_counts(40, 20), WIDTHS)
    whole = scorer.score_inputs(inputs)
    alone = [scorer.score_inputs(inputs.slice(i, i + 1)) for i in range(40)]
    np.testing.assert_allclose(whole, np.concatenate(alone), rtol=_SAME[precision])
    order = np.random.default_rng(1).permutation(40)
    np.testing.assert_allclose(
        scorer.score_inputs(inputs.take(order)), whole[order], rtol=_SAME[precision]
    )
    parts = [inputs.slice(i, i + 4) for i in range(0, 40, 4)]
    assert np.array_equal(scorer.score_parts(parts), whole)


_SAME = {"float32": 2e-6, "bfloat16": 2e-2}


def test_an_infinite_event_leaves_the_others_alone():
    scorer = scorer_of("binary", "gelu")
    inputs = flat_inputs(random_counts(40, 20), WIDTHS)
    before = scorer.on("openvino").score_inputs(inputs)
    first = int(inputs.counts["Track"][:7].sum())
    inputs.tracks["Track"][first] = 3e38
    with np.errstate(invalid="ignore"):
        after = scorer.on("openvino").score_inputs(inputs)
        expected = scorer.score_inputs(inputs)
    others = np.arange(40) != 7
    np.testing.assert_allclose(after[others], before[others], rtol=1e-5)
    assert np.array_equal(np.isnan(after), np.isnan(expected))


def test_events_of_an_awkward_array():
    events = make_events(50)
    scores = make_scorer().on("openvino")(events)
    assert ak.all(abs(scores - make_scorer()(events)) < MOST["float32"])
    assert len(make_scorer().on("openvino")(events[:0])) == 0


def test_compiled_once_per_process(monkeypatch):
    calls = []
    original = openvino_engine.compiled_model
    monkeypatch.setattr(engine_module, "_known", type(engine_module._known)())
    monkeypatch.setattr(
        openvino_engine, "compiled_model", lambda *args: calls.append(args) or original(*args)
    )
    scorer, events = make_scorer(seed=5).on("openvino"), make_events(30)
    data = pickle.dumps(scorer)
    with ThreadPoolExecutor(4) as pool:
        scores = list(pool.map(lambda _: pickle.loads(data)(events).to_list(), range(8)))
    assert scores == [scores[0]] * 8
    assert len(calls) == 3  # phi of two collections, and rho


def test_what_it_does_not_know_is_refused_by_name():
    scorer = scorer_of()
    odd = replace(scorer, arrays={**scorer.arrays, "phi.Track.norm.scale": np.ones(3, np.float32)})
    with pytest.raises(ModelError, match="does not know phi.Track.norm.scale; use the engine jax"):
        odd.on("openvino").score_inputs(flat_inputs({"Track": [1], "Jet": [0]}, WIDTHS))
    architecture = scorer.architecture
    model = architecture.model.model_copy(update={"pool": ("median",)})
    with pytest.raises(ModelError, match="does not know pool = 'median'"):
        openvino_graph.check_known(architecture.model_copy(update={"model": model}), {})
    with pytest.raises(ModelError, match="does not know the activation 'rel'; did you mean 'relu'"):
        openvino_graph._activation("rel")


def test_a_processor_without_bfloat16_is_told(monkeypatch):
    class Core:
        def get_property(self, *_):
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino_graph, "_core", Core)
    with pytest.raises(ProcessError, match="in bfloat16 on this .* FP32, INT8; use the precision"):
        openvino_graph.compiled_model(None, "bfloat16", 1)


@pytest.mark.parametrize(("kernel", "level"), [("amx_bf16", "INFO"), ("avx512_bf16", "WARNING")])
def test_what_is_gained_is_said(monkeypatch, caplog, kernel, level):
    monkeypatch.setattr(openvino_graph, "kernel", lambda precision: kernel)
    monkeypatch.setattr(openvino_engine, "compiled_model", lambda *_: None)
    scorer = scorer_of()
    with caplog.at_level(logging.INFO, "tracksets"):
        openvino_engine.openvino_outputs(
            scorer.architecture, scorer.arrays, scorer.shape, "bfloat16"
        )
    [record] = caplog.records
    assert record.levelname == level
    assert "times as fast as jax" in record.message


@pytest.mark.parametrize("events", [1, 16, 16384, 2**20])
@pytest.mark.parametrize("tracks", [1, 64, 1000, 16384])
@pytest.mark.parametrize("precision", MOST)
def test_chunks_are_sensible(tracks, events, precision):
    slots = openvino_engine._slots(Shape({"Track": tracks}, events), "Track", precision)
    assert slots.tracks % openvino_graph.GROUP == 0
    assert 64 <= slots.tracks <= 768
    assert 1 <= slots.events <= slots.tracks


FORK = """
import os, sys
from helpers import make_events, make_scorer
import tracksets as ts
from tracksets.devices import limit_threads

scorer = make_scorer().on("openvino")
scorer(make_events(9))
assert "openvino_telemetry" not in sys.modules
try:
    limit_threads(7)
except ts.TracksetsError as error:
    print("refused:", error, flush=True)
child = os.fork()
if child == 0:
    try:
        scorer(make_events(9))
    except ts.TracksetsError as error:
        print("refused:", error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_after_a_fork_an_error_and_no_word_to_anybody():
    paths = (str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))
    done = subprocess.run(
        [sys.executable, "-c", FORK],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout.count("refused:") == 2
    assert "would hang" in done.stdout


def compare(scorer: Scorer, truth: np.ndarray, score) -> None:
    """Check scores, and how well they separate, against those of JAX."""
    expected = score(scorer)
    for precision, most in MOST.items():
        found = score(on(scorer, precision))
        assert np.abs(found - expected).max() < most, precision
        difference = roc_auc(truth, found) - roc_auc(truth, expected)
        assert abs(difference) < MOST_AUC[precision], precision


def test_sample_data(sample_data):
    config = read_config(sample_data / "train.toml")
    config = config.model_copy(
        update={"training": config.training.model_copy(update={"epochs": 4})}
    )
    scorer = ts.train(config, progress=False)
    data = read_dataset(config, config.inputs)
    compare(scorer, data.targets, lambda each: each.score_inputs(data.inputs)[:, 0])


@pytest.mark.slow
def test_single_top(shared_data):
    config = read_config(Path(__file__).parents[1] / "examples" / "single_top.toml")
    files = [f"{shared_data(name)}:events" for name in ("ww.root", "single_top.root")]
    parts = [uproot.open(each).arrays() for each in files]
    events, truth = ak.concatenate(parts), np.repeat([0, 1], [len(part) for part in parts])
    training = config.training.model_copy(update={"epochs": 8})
    scorer = ts.fit(
        events, truth, config.inputs, model=config.model, training=training, progress=False
    )
    compare(scorer, truth, lambda each: np.asarray(each(events)))


@pytest.mark.slow
def test_k0s(shared_data, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "examples"))
    import k0s

    events, truth = k0s.read(str(shared_data("alice_v0.root")))
    scorer = ts.fit(
        events,
        truth,
        k0s.INPUTS,
        model=ts.Model(phi=[64, 64], rho=[64], pool=["sum", "max"]),
        training=ts.Training(epochs=8, block_tracks=256),
        progress=False,
    )
    compare(scorer, truth, lambda each: np.asarray(each(events)))
