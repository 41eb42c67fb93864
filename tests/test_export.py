"""Exported files give the scorer's scores, whatever the sizes; what cannot be exported is refused."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
from helpers import (
    BINARY,
    CLASSES,
    INPUTS,
    MODEL,
    deep_set,
    flat_inputs,
    make_events,
    make_folds,
    make_scorer,
    need_openvino,
    random_arrays,
)
from hypothesis import given
from hypothesis import strategies as st

import tracksets as ts
from tracksets import export as export_module
from tracksets.blocks import Shape
from tracksets.calibration import Calibration
from tracksets.config import read_config
from tracksets.errors import ConfigError, DataError, FileError, ModelError, TracksetsError
from tracksets.export import export, metadata
from tracksets.features import JaggedInputs, jagged_inputs
from tracksets.scorer import Scorer
from tracksets.targets import Task

pytest.importorskip("onnxruntime", reason="onnx and onnxruntime are not installed")
pytest.importorskip("flatbuffers", reason="flatbuffers is not installed")

import onnx
import onnxruntime

from tracksets import onnx_export
from tracksets.onnx_export import onnx_bytes, onnx_scores
from tracksets.stablehlo import stablehlo_scores

REGRESSION = Task(
    kind="regression",
    names=("m", "ht"),
    shift=(90.0, 1e3),
    scale=(2.5, 400.0),
    units=("GeV", "GeV"),
)
ONE_TARGET = Task(kind="regression", names=("x",), shift=(1.5,), scale=(0.1,))
MODELS = {
    "relu": MODEL,
    "gelu": ts.Model(phi=[8], rho=[], pool=["mean", "sum", "max"], activation="gelu"),
    "silu": ts.Model(phi=[8, 8, 8], rho=[4, 4], pool=["mean"], activation="silu"),
    "tanh": ts.Model(phi=[5], rho=[4], pool=["max"], activation="tanh"),
    "all": ts.Model(
        phi=[8, 8, 6], rho=[5, 5], pool=["std", "softmax", "max"], residual=True, rounds=2
    ),
}
OPEN = {"onnx": onnx_scores, "stablehlo": stablehlo_scores}


@cache
def scorer_of(task: Task, model: str) -> Scorer:
    scorer = replace(make_scorer(task), model=MODELS[model])
    return replace(scorer, arrays=random_arrays(scorer.architecture))


def of_inputs(inputs: ts.Inputs, model: ts.Model = MODEL) -> Scorer:
    """Make a scorer with random parameters for other inputs."""
    shape = Shape(dict.fromkeys(inputs.collections, 64), 16)
    scorer = Scorer(inputs, model, BINARY, {}, shape)
    return replace(scorer, arrays=random_arrays(scorer.architecture))


def largest_difference(found, expected, scorer: Scorer) -> float:
    spread = np.abs(scorer.task.scale) if scorer.task.scale else 1e-30
    return float((np.abs(found - expected) / np.maximum(np.abs(expected), spread)).max())


def random_counts(n_event: int, mean: float, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {"Track": random.poisson(mean, n_event), "Jet": random.poisson(1, n_event)}


WIDTHS = {"Track": 3, "Jet": 1}


TASKS = {"binary": BINARY, "classes": CLASSES, "regression": REGRESSION, "one": ONE_TARGET}
CASES = [
    *(("onnx", task, model) for task in TASKS for model in MODELS),
    # Which task and which model have nothing to do with each other, and compiling takes seconds.
    *(("stablehlo", *each) for each in zip(cycle(TASKS), MODELS, strict=False)),
]


@pytest.mark.parametrize(("suffix", "task", "model"), CASES)
def test_like_the_scorer_and_like_a_loop_over_events(tmp_path, task, model, suffix):
    task = TASKS[task]
    scorer = scorer_of(task, model)
    path = tmp_path / f"model.{suffix}"
    done = export(scorer, path)
    # Versions of the runtimes round the root of a small variance differently.
    tolerance = 1e-4 if "std" in scorer.model.pool else 2e-5
    assert done.outputs[0] == path
    assert done.events > 100
    assert done.difference < tolerance
    score = OPEN[suffix](path)
    for counts in (random_counts(60, 5), random_counts(3, 700), {"Track": [0, 0], "Jet": [0, 0]}):
        inputs = flat_inputs(counts, WIDTHS)
        found = score(inputs)
        assert found.dtype == np.float32
        assert largest_difference(found, scorer.score_inputs(inputs), scorer) < tolerance
        exact = task.link(deep_set(scorer.architecture, scorer.arrays, inputs))
        assert largest_difference(found, exact, scorer) < 1e-4


@pytest.mark.parametrize("suffix", OPEN)
@pytest.mark.parametrize("pool", [["sum"], ["std", "softmax", "mean"]], ids="-".join)
def test_energy_weights(tmp_path, suffix, pool):
    inputs = ts.Inputs(collections={"part": {"features": ["y", "pt/sum(pt)", "phi"]}})
    model = ts.Model.efn("pt/sum(pt)", phi=[8, 6], rho=[5], pool=pool, rounds=1)
    scorer, path = of_inputs(inputs, model), tmp_path / f"model.{suffix}"
    assert export(scorer, path).difference < 2e-5
    jagged = flat_inputs({"part": [3, 0, 40, 1]}, {"part": 3}, event=0)
    np.abs(jagged.tracks["part"], out=jagged.tracks["part"])
    found = OPEN[suffix](path)(jagged)
    exact = scorer.task.link(deep_set(scorer.architecture, scorer.arrays, jagged))
    assert largest_difference(found, exact, scorer) < 1e-4


@cache
def onnx_scores_of(scorer: Scorer):
    session = onnxruntime.InferenceSession(onnx_bytes(scorer, ""))

    def score(inputs: JaggedInputs) -> np.ndarray:
        feeds = {"event": inputs.event}
        for name in inputs.tracks:
            feeds[f"tracks.{name}"] = inputs.tracks[name]
            feeds[f"counts.{name}"] = inputs.counts[name]
        return session.run(None, feeds)[0]

    return score


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 17)), max_size=30))
def test_any_counts(pairs):
    scorer = scorer_of(BINARY, "gelu")
    track, jet = zip(*pairs, strict=True) if pairs else ((), ())
    inputs = flat_inputs({"Track": track, "Jet": jet}, WIDTHS)
    found = onnx_scores_of(scorer)(inputs)
    assert found.shape == (len(pairs), 1)
    np.testing.assert_allclose(found, scorer.score_inputs(inputs), rtol=2e-5)


def test_an_events_score_does_not_depend_on_the_others():
    scorer = scorer_of(CLASSES, "gelu")
    score = onnx_scores_of(scorer)
    inputs = flat_inputs(random_counts(40, 20), WIDTHS)
    alone = [score(inputs.slice(i, i + 1)) for i in range(40)]
    np.testing.assert_allclose(score(inputs), np.concatenate(alone), rtol=1e-5)


def test_threads_lose_no_track(tmp_path):
    """With ScatterND, several threads that add to one event would overwrite each other."""
    inputs = ts.Inputs(collections={"Track": {"features": ["pt"]}})
    scorer = of_inputs(inputs, ts.Model(phi=[64], rho=[], pool=["mean"]))  # not at 0 or 1
    content = onnx_bytes(scorer, "")
    counts = {"Track": np.array([0, 8192, 3])}
    inputs = flat_inputs(counts, {"Track": 1}, event=0)
    feeds = {"tracks.Track": inputs.tracks["Track"], "counts.Track": counts["Track"]}
    results = set()
    for threads in (1, 2, 8):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(content, options)
        assert "ScatterND" not in {
            node.op_type for node in onnx.load_from_string(content).graph.node
        }
        results |= {session.run(None, feeds)[0].tobytes() for _ in range(30)}
    assert 0.01 < scorer.score_inputs(inputs).min() < scorer.score_inputs(inputs).max() < 0.99
    for each in results:
        found = np.frombuffer(each, np.float32)[:, np.newaxis]
        np.testing.assert_allclose(found, scorer.score_inputs(inputs), rtol=1e-5)


@pytest.mark.parametrize("counts", [[2, 2], [2, 4], [0], [6], [], [8, 8]])
def test_counts_that_do_not_fit_are_an_error(counts):
    scorer = of_inputs(ts.Inputs(collections={"Track": {"features": ["pt"]}}))
    session = onnxruntime.InferenceSession(onnx_bytes(scorer, ""))
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4  # its messages on the terminal are not ours
    tracks = np.zeros((5, 1), np.float32)
    with pytest.raises(Exception, match="Split node"):
        session.run(
            None, {"tracks.Track": tracks, "counts.Track": np.array(counts, np.int64)}, options
        )


@pytest.mark.parametrize("suffix", OPEN)
@pytest.mark.parametrize("bias", [-80.0, 20.0])
def test_probabilities_keep_their_digits(tmp_path, suffix, bias):
    for task in (BINARY, CLASSES):
        scorer = make_scorer(task)
        arrays = {**scorer.arrays, "out.bias": scorer.arrays["out.bias"].copy()}
        arrays["out.bias"][0] += bias
        scorer = replace(scorer, arrays=arrays)
        export(scorer, tmp_path / f"{task.kind}.{suffix}")
        inputs = flat_inputs(random_counts(50, 3), WIDTHS)
        found = OPEN[suffix](tmp_path / f"{task.kind}.{suffix}")(inputs)
        np.testing.assert_allclose(found, scorer.score_inputs(inputs), rtol=3e-5)


# What stands in the files


INPUTS_WITH_ALL = ts.Inputs(
    collections={
        "b-Jet": ts.Collection(
            features=["log(pt)", "onehot(charge, -1, 1)"],
            select="pt > 20",
            sort="pt",
            first=4,
            fill={"log(pt)": -1.0},
            clip={"log(pt)": (-5.0, 5.0)},
        ),
        "Track": ts.Collection(features=["pt"], prefix="trk_", rename={"pt": "trk_pT"}),
    },
    event=["PV_z", "nTrack > 3"],
    fill={"PV_z": 0.0},
)


@pytest.mark.parametrize("suffix", OPEN)
def test_metadata(tmp_path, suffix):
    scorer = of_inputs(INPUTS_WITH_ALL)
    path = tmp_path / f"model.{suffix}"
    done = export(scorer, path)
    if suffix == "onnx":
        assert done.outputs == (path,)
        properties = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
        text = properties["tracksets"]
    else:
        assert done.outputs == (path, tmp_path / "model.stablehlo.json")
        text = done.outputs[1].read_text(encoding="utf-8")
    about = json.loads(text)
    assert about == json.loads(json.dumps(metadata(scorer)))
    jets, tracks = about["collections"]
    assert jets == {
        "name": "b-Jet",
        "tracks": "tracks.b-Jet",
        "counts": "counts.b-Jet",
        "features": ["log(pt)", "onehot(charge, -1, 1)[0]", "onehot(charge, -1, 1)[1]"],
        "select": "pt > 20",
        "sort": "pt",
        "first": 4,
        "fill": {"log(pt)": -1.0},
        "clip": {"log(pt)": [-5.0, 5.0]},
        "prefix": None,
        "rename": {},
    }
    assert (tracks["prefix"], tracks["rename"]) == ("trk_", {"pt": "trk_pT"})
    assert about["event"] == {"features": ["PV_z", "nTrack > 3"], "fill": {"PV_z": 0.0}, "clip": {}}
    assert about["hash"] == scorer.hash
    assert [len(each["features"]) for each in about["collections"]] == [3, 1]


def test_metadata_of_the_documentation(sample_data):
    text = (Path(__file__).parents[1] / "docs" / "export.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"^```json\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    found = metadata(of_inputs(read_config(sample_data / "train.toml").inputs))
    assert json.loads(shown) == {name: each for name, each in found.items() if name != "hash"}


@pytest.mark.parametrize(
    ("task", "classes", "scores", "units"),
    [
        (BINARY, ["background", "signal"], ["signal"], []),
        (CLASSES, ["b", "c", "light"], ["b", "c", "light"], []),
        (REGRESSION, [], ["m", "ht"], ["GeV", "GeV"]),
        (ONE_TARGET, [], ["x"], []),
    ],
)
def test_metadata_of_scores(task, classes, scores, units):
    about = metadata(make_scorer(task))
    assert (about["classes"], about["scores"], about["units"]) == (classes, scores, units)
    assert len(about["scores"]) == task.outputs


def test_inputs_and_outputs_of_the_graph():
    proto = onnx.load_from_string(onnx_bytes(of_inputs(INPUTS_WITH_ALL), "about"))

    def shape(value):
        dims = value.type.tensor_type.shape.dim
        return [each.dim_param or each.dim_value for each in dims]

    assert {each.name: shape(each) for each in [*proto.graph.input, *proto.graph.output]} == {
        "tracks.b-Jet": ["n_b-Jet", 3],
        "counts.b-Jet": ["n_event"],
        "tracks.Track": ["n_Track", 1],
        "counts.Track": ["n_event"],
        "event": ["n_event", 2],
        "scores": ["n_event", 1],
    }
    assert {(each.domain, each.version) for each in proto.opset_import} == {("", 18)}
    assert {node.domain for node in proto.graph.node} == {""}


def test_no_event_features():
    scorer = of_inputs(ts.Inputs(collections={"Track": {"features": ["pt"]}}))
    proto = onnx.load_from_string(onnx_bytes(scorer, ""))
    assert [each.name for each in proto.graph.input] == ["tracks.Track", "counts.Track"]


# Real events


def test_on_the_sample_data(tmp_path, sample_data):
    collections = {"Track": {"features": ["log(pt)", "eta", "d0/d0_err"], "select": "pt > 0.5"}}
    source = f"{sample_data}/events.root:Events"
    trained_on_events(
        tmp_path, source, ts.Inputs(collections=collections, event=["PV_z"]), "nTrack"
    )


@pytest.mark.parametrize(
    ("file", "collections", "event", "multiplicity"),
    [
        ("alice_v0.root:fTreeV0", {"V0s": ["log(fV0pt)", "fV0eta", "fInvMass[0]"]}, [], "V0s"),
        (
            "single_top.root",
            {"Jet": ["log(pt)", "eta", "btag"], "Muon": ["log(pt)"]},
            ["MET_px"],
            "NJet",
        ),
        (
            "nano_tt_v15.root:Events",
            {"Jet": ["log(pt)", "eta", "mass"], "Muon": ["log(pt)", "charge"]},
            ["PuppiMET_pt"],
            "nJet",
        ),
    ],
)
@pytest.mark.slow
def test_on_real_files(tmp_path, shared_data, file, collections, event, multiplicity):
    name, colon, tree = file.partition(":")
    source = f"{shared_data(name)}{colon}{tree}"
    inputs = ts.Inputs(
        collections={key: {"features": each} for key, each in collections.items()}, event=event
    )
    trained_on_events(tmp_path, source, inputs, multiplicity)


def trained_on_events(tmp_path, source, inputs, multiplicity):
    """Train for an epoch to tell events apart by multiplicity, and export with real events."""
    from tracksets.fields import Columns
    from tracksets.inputs import paths_of
    from tracksets.reading import open_tree

    with open_tree(source) as tree:
        paths = paths_of(inputs, tree.fields)
        events = tree.read(paths, 0, min(tree.n_event, 3000))
        jagged = jagged_inputs(Columns(events, tree.fields), inputs)
    counts = next(iter(jagged.counts.values()))
    targets = counts > np.median(counts)
    training = ts.Training(epochs=1, block_tracks=1024)
    model = ts.Model(phi=[32, 32], rho=[32], pool=["sum", "max"])
    scorer = ts.fit(events, targets, inputs, model=model, training=training, progress=False)
    exact = scorer.task.link(deep_set(scorer.architecture, scorer.arrays, jagged))
    rounding = largest_difference(scorer.score_inputs(jagged), exact, scorer)
    for suffix in OPEN:
        done = export(scorer, tmp_path / f"model.{suffix}", source)
        assert done.difference < max(1e-5, 3 * rounding)
        assert done.events >= len(events)
        assert done.source == source


# Programs without tracksets


STRANGER = """
import sys

class Nothing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {"tracksets", "flax", "awkward", "uproot", "onnx", "optax"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Nothing())
for name in ("tracksets", "flax"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} can be imported")

import jax
import numpy as np

with open("model.stablehlo", "rb") as file:
    model = jax.export.deserialize(bytearray(file.read()))
arrays = np.load("inputs.npz")
tracks = {name: arrays[f"tracks.{name}"] for name in ("Track", "Jet")}
counts = {name: arrays[f"counts.{name}"] for name in ("Track", "Jet")}
np.save("scores.npy", model.call(tracks, counts, arrays["event"]))

# Room for more: surplus tracks are ignored, surplus events get scores that mean nothing.
tracks = {name: np.pad(each, ((0, 99), (0, 0)), constant_values=7) for name, each in tracks.items()}
counts = {name: np.pad(each, (0, 9)) for name, each in counts.items()}
padded = model.call(tracks, counts, np.pad(arrays["event"], ((0, 9), (0, 0))))
np.save("padded.npy", padded)
"""


@pytest.mark.parametrize("task", [BINARY, CLASSES], ids=lambda task: task.kind)
def test_stablehlo_runs_with_jax_alone(tmp_path, task):
    scorer = make_scorer(task)
    export(scorer, tmp_path / "model.stablehlo")
    inputs = flat_inputs(random_counts(60, 5), WIDTHS)
    arrays = {"event": inputs.event}
    for name in inputs.tracks:
        arrays[f"tracks.{name}"] = inputs.tracks[name]
        arrays[f"counts.{name}"] = inputs.counts[name].astype(np.int32)
    np.savez(tmp_path / "inputs.npz", **arrays)
    command = [sys.executable, "-W", "error", "-c", "import jax.export\n" + STRANGER]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = scorer.score_inputs(inputs)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), expected, rtol=1e-5)
    np.testing.assert_allclose(np.load(tmp_path / "padded.npy")[:60], expected, rtol=1e-5)


@pytest.mark.parametrize("task", [BINARY, CLASSES, REGRESSION], ids=lambda task: task.kind)
def test_openvino_reads_the_same_file(tmp_path, task):
    openvino = need_openvino()
    scorer = scorer_of(task, "gelu")
    export(scorer, tmp_path / "model.onnx")
    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(tmp_path / "model.onnx", "CPU", precision)
    for n in (50, 1, 0):
        inputs = flat_inputs(random_counts(n, 12), WIDTHS)
        feeds = {"event": inputs.event}
        for name in inputs.tracks:
            feeds[f"tracks.{name}"] = inputs.tracks[name]
            feeds[f"counts.{name}"] = inputs.counts[name]
        found = model(feeds)["scores"]
        assert found.shape == (n, task.outputs)
        if n:
            assert largest_difference(found, scorer.score_inputs(inputs), scorer) < 1e-4


# What is refused


def test_unknown_suffix(tmp_path):
    with pytest.raises(ConfigError, match=r"model.pt: expected .*onnx or .stablehlo"):
        export(make_scorer(), tmp_path / "model.pt")


@pytest.mark.parametrize("name", ["model.onnx", "model.stablehlo", "model.stablehlo.json"])
def test_existing_files_stay(tmp_path, name):
    (tmp_path / name).write_text("precious")
    output = tmp_path / name.removesuffix(".json")
    with pytest.raises(FileError, match="exists already"):
        export(make_scorer(), output)
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"
    export(make_scorer(), output, force=True)
    assert b"precious" not in (tmp_path / name).read_bytes()


def test_other_scores_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        onnx_export, "POOLINGS", {"sum": onnx_export.Events.sum, "max": onnx_export.Events.sum}
    )
    with pytest.raises(ModelError, match=r"other scores than the model.*on 256 events"):
        export(make_scorer(), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", OPEN)
def test_what_neither_format_knows_is_refused_by_name(tmp_path, suffix):
    @dataclass(frozen=True, eq=False)
    class CalibratedScorer(Scorer):
        pass

    class Deeper(ts.Model):
        gated: bool = False

    scorer = make_scorer()
    fields = {name: getattr(scorer, name) for name in scorer.__dataclass_fields__}
    with pytest.raises(ModelError, match="CalibratedScorer"):
        export(CalibratedScorer(**fields), tmp_path / f"model.{suffix}")
    deeper = replace(scorer, model=Deeper(**MODEL.model_dump(), gated=True))
    with pytest.raises(ModelError, match="gated = True"):
        export(deeper, tmp_path / f"model.{suffix}")
    plain = replace(scorer, model=Deeper(**MODEL.model_dump()))
    assert export_module._check_exportable(plain) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", OPEN)
def test_several_models_are_exported_one_by_one(tmp_path, suffix):
    scorer = make_folds()
    with pytest.raises(ModelError, match=r"a model with folds, of 6 models.*scorer.members\[0\]"):
        export(scorer, tmp_path / f"model.{suffix}")
    with pytest.raises(ModelError, match="a model that is an ensemble, of 6 models"):
        export(scorer.without_folds(), tmp_path / f"model.{suffix}")
    assert list(tmp_path.iterdir()) == []
    assert export(scorer.members[4], tmp_path / f"model.{suffix}").difference < 1e-4


def test_what_onnx_does_not_know_is_refused_by_name(tmp_path):
    scorer = make_scorer()
    more = replace(scorer, arrays={**scorer.arrays, "gate.kernel": np.ones(3, np.float32)})
    with pytest.raises(ModelError, match="arrays gate.kernel"):
        onnx_bytes(more, "")
    for change, message in (
        ({"pool": ("sum", "median")}, "pooling 'median'; did you mean 'mean'"),
        ({"activation": "relu6"}, "activation 'relu6'; did you mean 'relu'"),
    ):
        model = MODEL.model_copy(update=change)
        with pytest.raises(ModelError, match=message):
            onnx_bytes(replace(scorer, model=model), "")


def test_no_events_to_check_with(tmp_path):
    ak.to_parquet(make_events(5)[:0], tmp_path / "empty.parquet")
    with pytest.raises(DataError, match=r"empty.parquet.*no events to check with"):
        export(make_scorer(), tmp_path / "model.onnx", tmp_path / "empty.parquet")
    with pytest.raises(TracksetsError, match="no file"):
        export(make_scorer(), tmp_path / "model.onnx", tmp_path / "none.root")


def test_no_more_events_than_needed(tmp_path, monkeypatch):
    ak.to_parquet(make_events(40), tmp_path / "events.parquet")
    monkeypatch.setattr(export_module, "MOST_EVENTS", 30)
    assert export(make_scorer(), tmp_path / "m.onnx", tmp_path / "events.parquet").events == 30


def test_a_model_file_is_as_good_as_a_scorer(tmp_path):
    make_scorer().save(tmp_path / "model.safetensors")
    export(tmp_path / "model.safetensors", tmp_path / "one.onnx")
    export(make_scorer(), tmp_path / "two.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    assert INPUTS.collections.keys() == {"Track", "Jet"}


@pytest.mark.parametrize("suffix", OPEN)
@pytest.mark.parametrize("task", [BINARY, CLASSES], ids=lambda task: task.kind)
@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_calibrated_scores(tmp_path, suffix, task, method):
    curves = [((0, 0), (0.01, 0.02), (0.3, 0.1 * k), (0.8, 0.9), (1, 1)) for k in (3, 4, 5)]
    kept = {"temperature": 2.5} if method == "temperature" else {"knots": curves[: task.outputs]}
    scorer = replace(make_scorer(task), calibration=Calibration(method=method, **kept))
    path = tmp_path / f"model.{suffix}"
    assert export(scorer, path).difference < 2e-5
    inputs = flat_inputs(random_counts(200, 5), WIDTHS)
    found = OPEN[suffix](path)(inputs)
    assert largest_difference(found, scorer.score_inputs(inputs), scorer) < 2e-5
    assert largest_difference(found, make_scorer(task).score_inputs(inputs), scorer) > 0.1
    assert metadata(scorer)["calibration"] == method
