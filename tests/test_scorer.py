import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import awkward as ak
import numpy as np
import pytest
import uproot
from helpers import (
    BINARY,
    CLASSES,
    INPUTS,
    MODEL,
    as_records,
    deep_set,
    flat_inputs,
    make_events,
    make_scorer,
    random_arrays,
)
from layouts import LAYOUTS

from tracksets import scorer as scorer_module
from tracksets.blocks import Shape
from tracksets.compiling import compiled
from tracksets.errors import DataError, NonFiniteError
from tracksets.features import jagged_inputs
from tracksets.inputs import Collection, Inputs
from tracksets.models import Model
from tracksets.scorer import load
from tracksets.targets import Task

REGRESSION = Task(kind="regression", names=("x", "y"), shift=(10.0, -1.0), scale=(2.0, 0.5))
EVENTS = make_events(60)
SCORER = make_scorer()
SCORES = ak.to_numpy(SCORER(EVENTS))


def test_like_a_loop_over_events():
    outputs = deep_set(SCORER.architecture, SCORER.arrays, jagged_inputs(EVENTS, INPUTS))
    np.testing.assert_allclose(SCORES, 1 / (1 + np.exp(-outputs[:, 0])), rtol=1e-4)
    assert SCORES.dtype == np.float32
    assert len(np.unique(SCORES)) == len(SCORES)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    columns = {
        name: ak.Array(LAYOUTS[layout](EVENTS[name])) if EVENTS[name].ndim > 1 else EVENTS[name]
        for name in EVENTS.fields
    }
    assert columns["Jet_pt"].to_list() == EVENTS.Jet_pt.to_list()
    exact = layout != "float64"  # a logarithm in double precision is rounded once
    events = ak.Array(columns)
    np.testing.assert_allclose(SCORER(events), SCORES, rtol=0 if exact else 1e-5)
    np.testing.assert_allclose(SCORER(as_records(events)), SCORES, rtol=0 if exact else 1e-5)


PERMUTATION = np.random.default_rng(1).permutation(60)


@pytest.mark.parametrize("events", [EVENTS, as_records(EVENTS)], ids=["plain", "records"])
@pytest.mark.parametrize(
    "where",
    [
        slice(None), slice(10, 40), slice(3, None, 7), slice(None, None, -1), PERMUTATION,
        PERMUTATION[:5], np.arange(60) % 3 == 0, [0], [1], [], slice(5, 5), [4, 4, 4],
    ],
)  # fmt: skip
def test_selected_events(events, where):
    scores = SCORER(events[where])
    assert str(scores.type) == f"{len(SCORES[where])} * float32"
    np.testing.assert_array_equal(scores, SCORES[where])


def test_concatenated_events():
    parts = [EVENTS[:1], EVENTS[1:1], EVENTS[1:33], EVENTS[33:]]
    np.testing.assert_array_equal(SCORER(ak.concatenate(parts)), SCORES)
    np.testing.assert_array_equal(np.concatenate([SCORER(part) for part in parts]), SCORES)


@pytest.mark.parametrize("slots", [128, 437])
@pytest.mark.parametrize(
    "model",
    [
        Model(phi=[64, 64], rho=[64]),
        Model(phi=[8, 30], rho=[128, 128]),
        Model(phi=[33], rho=[], pool=["mean", "softmax", "std"]),
        Model(phi=[32, 100], rho=[8], pool=["max"], rounds=1, residual=True),
    ],
    ids=lambda model: "-".join(map(str, [*model.phi, *model.pool])),
)
def test_the_place_in_a_block_changes_no_bit(model, slots):
    """Kernels of a CPU compute the last rows of a product in another order."""
    blank = replace(SCORER, model=model, arrays={}, shape=Shape({"Track": 1500, "Jet": 777}, slots))
    scorer = replace(blank, arrays=random_arrays(blank.architecture))
    events = make_events(3000, mean=2)
    scores = scorer(events)
    for start in (1, 2, 3, 5, 150, 1431):
        np.testing.assert_array_equal(scorer(events[start:]), scores[start:])


def python_copy(events):
    """The same events, each track picked out one by one."""

    def jagged(name):
        lists = events[name].to_list()
        flat = np.array([x for each in lists for x in each], np.float32)
        return ak.unflatten(flat, [len(each) for each in lists])

    return ak.Array(
        {name: jagged(name) if events[name].ndim > 1 else events[name] for name in events.fields}
    )


TRACKS = ("Track_pt", "Track_eta", "Track_charge")
SELECTIONS = {
    "mask": lambda x, pt: x[pt > 2],
    "first": lambda x, pt: x[:, :1],
    "none": lambda x, pt: x[:, :0],
    "reversed": lambda x, pt: x[:, ::-1],
    "sorted": lambda x, pt: x[ak.argsort(pt, ascending=False)],
    "twice": lambda x, pt: ak.concatenate([x, x], axis=1),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_selected_tracks(name):
    select = SELECTIONS[name]
    tracks = {each: select(EVENTS[each], EVENTS.Track_pt) for each in TRACKS}
    events = ak.Array({**tracks, "Jet_pt": EVENTS.Jet_pt, "PV_z": EVENTS.PV_z})
    np.testing.assert_array_equal(SCORER(events), SCORER(python_copy(events)))
    records = as_records(EVENTS)
    selected = ak.with_field(records, select(records.Track, records.Track.pt), "Track")
    np.testing.assert_array_equal(SCORER(selected), SCORER(events))
    if name in ("reversed", "sorted"):
        np.testing.assert_allclose(SCORER(events), SCORES, rtol=1e-5)


@pytest.mark.parametrize("size", [0, 3])
def test_regular_arrays(size):
    values = np.random.default_rng(0).exponential(size=(4, size)).astype(np.float32) + 1
    names = (*TRACKS, "Jet_pt")
    regular = ak.Array(
        {
            **{name: ak.from_numpy(values, regulararray=True) for name in names},
            "PV_z": EVENTS.PV_z[:4],
        }
    )
    jagged = ak.Array(
        {**{name: ak.from_regular(regular[name]) for name in names}, "PV_z": regular.PV_z}
    )
    np.testing.assert_array_equal(SCORER(regular), SCORER(jagged))


@pytest.mark.parametrize("task", [BINARY, CLASSES, REGRESSION], ids=lambda task: task.kind)
def test_no_events(task):
    scorer = make_scorer(task)
    for events in (EVENTS[:0], as_records(EVENTS)[:0], ak.Array([])):
        scores = scorer(events)
        assert len(scores) == 0
        assert tuple(scores.fields) == task.score_names


def test_no_tracks_at_all():
    empty = ak.Array(
        {**{name: EVENTS[name][:, :0] for name in (*TRACKS, "Jet_pt")}, "PV_z": EVENTS.PV_z}
    )
    assert len(np.unique(SCORER(empty))) == len(EVENTS)  # PV_z decides


@pytest.mark.parametrize("task", [CLASSES, REGRESSION], ids=lambda task: task.kind)
def test_several_scores_are_a_record(task):
    scores = make_scorer(task)(EVENTS)
    assert scores.fields == list(task.names)
    assert {str(scores[name].type) for name in scores.fields} == {"60 * float32"}
    outputs = deep_set(
        make_scorer(task).architecture, make_scorer(task).arrays, jagged_inputs(EVENTS, INPUTS)
    )
    table = np.stack([ak.to_numpy(scores[name]) for name in scores.fields], axis=1)
    np.testing.assert_allclose(table, task.link(outputs.astype(np.float32)), rtol=2e-4, atol=1e-5)


def test_assignment_and_input_unchanged():
    for layout in (ak.copy, as_records):
        events = layout(EVENTS)
        before = ak.to_json(events)
        scores = SCORER(events)
        assert ak.to_json(events) == before
        events["score"] = scores
        np.testing.assert_array_equal(events.score, SCORES)
        np.testing.assert_array_equal(SCORER(events), SCORES)


def test_at_most_three_compilations():
    """For arrays of any lengths one; two more for events of up to 4 and 16 times a block."""
    blank = replace(SCORER, model=MODEL.model_copy(update={"rho": (7,)}), arrays={})
    scorer = replace(blank, arrays=random_arrays(blank.architecture))
    functions = compiled(scorer.architecture)
    random = np.random.default_rng(0)

    def score(tracks, jets):
        inputs = flat_inputs({"Track": tracks, "Jet": jets}, scorer.inputs.widths)
        assert len(scorer.score_inputs(inputs)) == len(tracks)

    for n in (0, 1, 2, 15, 16, 17, 64, 3, 0, 100, 7):
        score(random.integers(0, 65, n), random.integers(0, 33, n))
        assert functions.traces <= 1
    assert functions.traces == 1
    for largest, expected in ((65, 2), (256, 2), (257, 3), (1024, 3), (64, 3), (100, 3)):
        score([3, largest, 0], [0, 1, 33])
        assert functions.traces == expected


def test_memory_does_not_grow_with_the_array(monkeypatch):
    """But for the scores and a few integers per event; flat inputs would be 500 bytes each."""
    monkeypatch.setattr("tracksets.scorer._WINDOW_TRACKS", 4096)
    scorer = replace(SCORER, shape=Shape({"Track": 2048, "Jet": 512}, 128))

    def peak(n_event):
        events = make_events(n_event, mean=40)
        scorer(events)
        tracemalloc.start()
        scorer(events)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(8000) - peak(2000) < 100 * 6000


def test_nothing_is_compiled_again():
    functions = compiled(SCORER.architecture)
    before = functions.traces
    assert before >= 1
    copy = pickle.loads(pickle.dumps(SCORER))
    for n in (1, 7, 0, 60, 33):
        SCORER(EVENTS[:n])
        np.testing.assert_array_equal(copy(EVENTS[:n]), SCORES[:n])
    assert functions.traces == before
    assert compiled(copy.architecture) is functions


def test_pickle_holds_arrays_and_configuration_only():
    size = sum(array.nbytes for array in SCORER.arrays.values())
    assert len(pickle.dumps(SCORER)) < size + 8_000
    copy = pickle.loads(pickle.dumps(SCORER))
    assert copy == SCORER
    assert hash(copy) == hash(SCORER)
    assert copy.summary == SCORER.summary


def test_virtual_arrays_read_what_is_needed():
    form, length, buffers = ak.to_buffers(ak.with_field(EVENTS, EVENTS.PV_z, "unused"))
    read = []

    def reader(key):
        return lambda: (read.append(key), buffers[key])[1]

    virtual = ak.from_buffers(form, length, {key: reader(key) for key in buffers})
    assert not read
    np.testing.assert_array_equal(SCORER(virtual), SCORES)
    unused = form.content("unused").form_key
    assert set(read) == {key for key in buffers if not key.startswith(f"{unused}-")}


@pytest.mark.parametrize("task", [BINARY, CLASSES], ids=lambda task: task.kind)
def test_typetracers(task):
    scorer = make_scorer(task)
    form = ak.to_layout(ak.with_field(EVENTS, EVENTS.PV_z, "unused")).form_with_key("node{id}")
    layout, report = ak.typetracer.typetracer_with_report(form)
    events = ak.Array(layout)
    events["score"] = scorer(events)
    assert str(events.score.type) == str(scorer(EVENTS).type).replace("60", "##")
    assert form.content("unused").form_key not in report.data_touched
    assert len(report.data_touched) == len(form.contents) - 1 + 4  # and of what is in the lists


def test_oversize_event():
    many = ak.Array(
        {name: ak.concatenate([EVENTS[name][5:6]] * 90, axis=1) for name in (*TRACKS, "Jet_pt")}
    )
    many["PV_z"] = EVENTS.PV_z[5:6]
    events = ak.concatenate([EVENTS[:3], many, EVENTS[3:]])
    assert ak.num(events.Track_pt)[3] > 4 * 64
    np.testing.assert_array_equal(np.delete(ak.to_numpy(SCORER(events)), 3), SCORES)


@pytest.mark.parametrize("window", [1, 10, 37])
def test_windows(window, monkeypatch):
    monkeypatch.setattr(scorer_module, "_WINDOW_TRACKS", window)
    np.testing.assert_array_equal(SCORER(EVENTS), SCORES)
    np.testing.assert_array_equal(SCORER(as_records(EVENTS)[::-1]), SCORES[::-1])
    broken = ak.with_field(EVENTS, ak.where(np.arange(60) == 41, np.inf, EVENTS.PV_z), "PV_z")
    with pytest.raises(NonFiniteError, match=r"PV_z.*in event 41"):
        SCORER(broken)


def test_threads():
    fresh = make_scorer(seed=77)
    expected = [make_scorer(seed=77)(EVENTS[:n]).to_list() for n in range(60)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: fresh(EVENTS[:n]).to_list(), range(60)))
    assert found == expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite(value):
    events = ak.with_field(
        EVENTS,
        ak.where(EVENTS.Track_eta == EVENTS.Track_eta[7, 0], value, EVENTS.Track_eta),
        "Track_eta",
    )
    with pytest.raises(NonFiniteError, match=r"Track.*'eta'.*1 time.*in event 7"):
        SCORER(events)
    filled = Collection(features=["log(pt)", "eta", "charge"], fill={"eta": 0.5}, select="pt > 0.5")
    inputs = Inputs(collections={**INPUTS.collections, "Track": filled}, event=["PV_z"])
    other = ak.with_field(
        EVENTS, ak.where(np.isfinite(events.Track_eta), EVENTS.Track_eta, 0.5), "Track_eta"
    )
    np.testing.assert_array_equal(replace(SCORER, inputs=inputs)(events), SCORER(other))


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("PV_z", ak.Array([1.0, None] * 30), "PV_z.*missing"),
        ("PV_z", EVENTS.Jet_pt, "PV_z"),
        ("PV_z", ak.Array(["a"] * 60), "strings"),
        ("Jet_pt", ak.mask(EVENTS.Jet_pt, np.arange(60) != 4), "missing"),
        ("Jet_pt", ak.mask(EVENTS.Jet_pt, EVENTS.Jet_pt > 20), "missing"),
        ("Jet_pt", EVENTS.Jet_pt[:, np.newaxis], "Jet"),
        ("Jet_pt", EVENTS.PV_z, "jagged"),
        ("Jet_pt", ak.Array([["a"], []] * 30), "strings"),
        ("Jet_pt", ak.Array([[1.0, "a"], []] * 30), "several types"),
        ("Jet_pt", ak.Array([1.0, [1.0]] * 30), "several types"),
        ("Jet_pt", ak.Array([[2**24 + 1], []] * 30), "exact only up to"),
        ("Jet_pt", ak.Array([[1e300], []] * 30), "float32 cannot hold"),
        ("Track_eta", EVENTS.Track_eta[:, 1:], "Track"),
    ],
)  # fmt: skip
def test_refused_columns(name, column, message):
    events = ak.zip(
        {**dict(zip(EVENTS.fields, ak.unzip(EVENTS), strict=True)), name: column}, depth_limit=1
    )
    with pytest.raises(DataError, match=message):
        SCORER(events)


def test_refused_events():
    with pytest.raises(DataError, match="must be an awkward array, not ndarray"):
        SCORER(np.zeros(3))
    with pytest.raises(DataError, match=r"Jet_pt.*did you mean 'Jet_p'"):
        SCORER(
            ak.Array(
                {"Jet_p" if name == "Jet_pt" else name: EVENTS[name] for name in EVENTS.fields}
            )
        )
    with pytest.raises(DataError, match="there are none"):
        SCORER(ak.Array([[], []]))


def test_branches(sample_data):
    assert SCORER.branches() == ["Track_pt", "Track_eta", "Track_charge", "Jet_pt", "PV_z"]
    assert SCORER.branches("Events") == SCORER.branches()
    assert SCORER.branches(EVENTS) == SCORER.branches()
    assert SCORER.branches(as_records(EVENTS)) == [
        "Track.pt",
        "Track.eta",
        "Track.charge",
        "Jet.pt",
        "PV_z",
    ]
    assert SCORER.branches(["n", "PV_z", *reversed(EVENTS.fields)]) == SCORER.branches()
    with pytest.raises(DataError, match="Jet"):
        SCORER.branches(["Track_pt", "Track_eta", "Track_charge", "PV_z"])


def test_branches_of_a_tree(sample_data):
    collections = {
        "Track": Collection(features=["pt", "eta", "d0/d0_err"]),
        "Jet": Collection(features=["pt"], prefix="Track"),  # the sample has no jets
    }
    scorer = replace(SCORER, inputs=Inputs(collections=collections, event=["PV_z"]))
    names = ["Track_pt", "Track_eta", "Track_d0", "Track_d0_err", "PV_z"]
    with uproot.open(sample_data / "events.root") as file:
        assert scorer.branches(file["Events"]) == names
        events = file["Events"].arrays(names, entry_stop=50)
    assert len(scorer(events)) == 50


def test_hash_changes_with_everything_that_decides_a_score():
    hashes = {SCORER.hash, make_scorer(CLASSES).hash, make_scorer(seed=1).hash}
    for name, array in SCORER.arrays.items():
        changed = array.copy()
        changed.flat[-1] = np.nextafter(changed.flat[-1], np.float32(9))
        hashes.add(replace(SCORER, arrays={**SCORER.arrays, name: changed}).hash)
    track = INPUTS.collections["Track"].model_copy(update={"select": "pt > 0.6"})
    for change in (
        {"task": Task(kind="binary", names=("light", "b"))},
        {"model": SCORER.model.model_copy(update={"activation": "tanh"})},
        {
            "inputs": INPUTS.model_copy(
                update={"collections": {**INPUTS.collections, "Track": track}}
            )
        },
        {
            "inputs": INPUTS.model_copy(
                update={"collections": dict(reversed(INPUTS.collections.items()))}
            )
        },
    ):
        hashes.add(replace(SCORER, **change).hash)
    assert len(hashes) == 3 + len(SCORER.arrays) + 4
    assert replace(SCORER, summary={"other": 1}).hash == SCORER.hash
    assert SCORER != "scorer"


@pytest.mark.parametrize("task", [BINARY, CLASSES, REGRESSION], ids=lambda task: task.kind)
def test_save_and_load(task, tmp_path):
    scorer = make_scorer(task)
    scorer.save(tmp_path / "model.safetensors")
    before = compiled(scorer.architecture).traces
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.hash == scorer.hash
    assert loaded(EVENTS).to_list() == scorer(EVENTS).to_list()
    assert compiled(scorer.architecture).traces <= max(before, 1)
