"""What a track contributes, against scoring the event that lacks it."""

from dataclasses import replace

import awkward as ak
import numpy as np
import pytest
from helpers import (
    BINARY,
    CLASSES,
    flat_inputs,
    make_events,
    make_folds,
    make_scorer,
    random_arrays,
    with_numbers,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tracksets.blocks import Shape
from tracksets.calibration import Calibration
from tracksets.errors import ConfigError, DataError
from tracksets.explanations import explain_inputs, leave_out_one_by_one
from tracksets.features import jagged_inputs
from tracksets.inputs import Inputs
from tracksets.leaving_out import can_leave_out, without_each
from tracksets.network import Model
from tracksets.scorer import Scorer
from tracksets.targets import Task

REGRESSION = Task(kind="regression", names=("a",), shift=(1.0,), scale=(3.0,))


def scorer_with(task=BINARY, model=None, widths=("Track", "Jet")):
    inputs = Inputs(collections={name: {"features": ["a", "b"]} for name in widths}, event=["c"])
    model = model or Model(phi=[8, 6], rho=[5], pool=["sum", "mean", "max"])
    blank = Scorer(inputs, model, task, {}, Shape(dict.fromkeys(widths, 32), 8))
    return replace(blank, arrays=random_arrays(blank.architecture))


def without(events, collection, event, track):
    """Remove one track of one event, the slow and obvious way."""
    [row] = ak.to_list(events[event : event + 1])
    for name in row:
        if name.startswith(f"{collection}_"):
            del row[name][track]
    return ak.Array([row])


@pytest.mark.parametrize("task", [BINARY, CLASSES, REGRESSION])
def test_the_change_is_that_of_the_event_without_the_track(task):
    scorer, events = make_scorer(task), make_events(12, seed=3)
    found = scorer.contributions(events)
    names = task.score_names or (None,)

    def scores(events):
        result = scorer(events)
        return np.array([ak.to_numpy(result[name] if name else result) for name in names])

    whole = scores(events)
    rounding = max(2e-6, 4 * np.spacing(np.abs(whole).max()))  # of a difference of float32
    for collection in ("Track", "Jet"):
        counts = ak.num(events[f"{collection}_pt"])
        assert ak.num(found[collection]).tolist() == counts.tolist()
        for event in range(len(events)):
            for track in range(counts[event]):
                expected = whole[:, event] - scores(without(events, collection, event, track))[:, 0]
                values = found[collection][event, track]
                got = [values[name] if name else values for name in names]
                np.testing.assert_allclose(got, expected, atol=rounding, rtol=1e-4)
    assert ak.to_list(found.Track[0]) == [] == ak.to_list(found.Jet[1])


@settings(max_examples=20)
@pytest.mark.parametrize("pool", [["sum"], ["mean"], ["max"], ["max", "sum", "mean"]])
@given(
    counts=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=12),
    seed=st.integers(0, 3),
)
def test_both_ways_to_leave_out_agree(pool, counts, seed):
    scorer = scorer_with(model=Model(phi=[8, 6], rho=[5], pool=pool))
    tracks, jets = zip(*counts, strict=True)
    jagged = flat_inputs({"Track": tracks, "Jet": jets}, seed=seed)
    fast, slow = explain_inputs(scorer, jagged), leave_out_one_by_one(scorer, jagged)
    for name in slow:
        np.testing.assert_allclose(fast[name], slow[name], atol=2e-6)


def test_the_largest_is_shared():
    """Of two equal tracks, neither is missed by the maximum."""
    scorer = scorer_with(model=Model(phi=[8], rho=[5], pool=["max"]), widths=["Track"])
    jagged = flat_inputs({"Track": [2]})
    jagged.tracks["Track"][1] = jagged.tracks["Track"][0]
    np.testing.assert_array_equal(explain_inputs(scorer, jagged)["Track"], 0)


def test_an_event_larger_than_a_block():
    scorer = scorer_with()
    jagged = flat_inputs({"Track": [3, 100, 2], "Jet": [1, 0, 40]})
    fast, slow = explain_inputs(scorer, jagged), leave_out_one_by_one(scorer, jagged)
    for name in slow:
        np.testing.assert_allclose(fast[name], slow[name], atol=2e-6)


def test_parts_of_bounded_size(monkeypatch):
    scorer = scorer_with()
    jagged = flat_inputs({"Track": [3, 20, 0, 2], "Jet": [1, 0, 2, 0]})
    expected = leave_out_one_by_one(scorer, jagged)
    monkeypatch.setattr("tracksets.explanations._WINDOW_TRACKS", 30)
    for name, each in leave_out_one_by_one(scorer, jagged).items():
        np.testing.assert_array_equal(each, expected[name])


def test_unselected_tracks_contribute_nothing():
    events = make_events(40)
    cut = events.Track_pt <= 0.5
    for kind in ("change", "gradient"):
        found = make_scorer().contributions(events, kind).Track
        assert ak.any(cut)
        assert ak.all(found[cut] == 0)
        assert ak.any(found[~cut] != 0)


@pytest.mark.parametrize(
    "calibration",
    [
        None,
        Calibration(method="temperature", temperature=2.5),
        Calibration(method="isotonic", knots=(((0, 0), (0.2, 0.5), (0.6, 0.7), (1, 1)),)),
    ],
)
def test_the_gradient_is_that_of_the_score(calibration):
    """Against finite differences: all features of a track, moved a little from their means."""
    scorer = replace(
        scorer_with(model=Model(phi=[6], rho=[5], activation="tanh")), calibration=calibration
    )
    jagged = flat_inputs({"Track": [3, 0, 5], "Jet": [0, 2, 4]})
    found, h = explain_inputs(scorer, jagged, "gradient"), 2e-3
    for name, axis in jagged.axes.items():
        mean = scorer.arrays[f"scaling.{name}.shift"]
        for track in range(axis.n_track):
            moved = []
            for factor in (1 + h, 1 - h):
                tracks = jagged.tracks[name].copy()
                tracks[track] = mean + (tracks[track] - mean) * factor
                other = replace(jagged, tracks={**jagged.tracks, name: tracks})
                moved.append(scorer.score_inputs(other)[axis.event[track], 0].astype(float))
            expected = (moved[0] - moved[1]) / (2 * h)
            np.testing.assert_allclose(found[name][track, 0], expected, atol=2e-4, rtol=5e-3)


def test_gradients_of_classes_cancel():
    scorer = scorer_with(CLASSES)
    found = explain_inputs(scorer, flat_inputs({"Track": [3, 0, 5], "Jet": [0, 2, 4]}), "gradient")
    for each in found.values():
        assert each.shape[1] == 3
        np.testing.assert_allclose(each.sum(axis=1), 0, atol=1e-6)
        assert np.abs(each).max() > 1e-3


def test_one_collection_is_not_wrapped():
    scorer = scorer_with(widths=["Track"])
    events = ak.Array({"Track_a": [[1.0, 2.0], []], "Track_b": [[0.5, 0.1], []], "c": [1.0, 2.0]})
    found = scorer.contributions(events)
    assert str(found.type) == "2 * var * float32"
    events["Track_change"] = found
    assert str(scorer_with(CLASSES, widths=["Track"]).contributions(events).type) == (
        "2 * var * {b: float32, c: float32, light: float32}"
    )


@pytest.mark.parametrize("kind", ["change", "gradient"])
def test_no_events(kind):
    scorer = make_scorer()
    for events in (make_events(3)[:0], ak.Array([])):
        found = scorer.contributions(events, kind)
        assert str(found.type) == "0 * {Track: var * float32, Jet: var * float32}"


def test_order_and_company_do_not_matter():
    scorer, events = make_scorer(), make_events(60, seed=5)
    for kind in ("change", "gradient"):
        whole = scorer.contributions(events, kind)
        part = scorer.contributions(events[::-2], kind)
        for name in ("Track", "Jet"):
            np.testing.assert_allclose(
                ak.flatten(part[name]), ak.flatten(whole[name][::-2]), atol=1e-6
            )


def test_compiled_once():
    scorer = scorer_with(model=Model(phi=[7], rho=[3]))
    for seed in range(3):
        explain_inputs(scorer, flat_inputs({"Track": [3, 5], "Jet": [1, 2]}, seed=seed))
    assert without_each(scorer.architecture)._cache_size() == 1


def test_other_scorers_are_scored_one_by_one():
    """Whatever scores flat inputs is explained, in the way that needs to know nothing of it."""

    class Doubled(Scorer):
        def link(self, outputs):
            return 2 * super().link(outputs)

    plain = scorer_with()
    doubled = Doubled(**{name: getattr(plain, name) for name in plain.__dataclass_fields__})
    jagged = flat_inputs({"Track": [3, 0, 5], "Jet": [0, 2, 4]})
    found, expected = explain_inputs(doubled, jagged), explain_inputs(plain, jagged)
    for name in expected:
        np.testing.assert_allclose(found[name], 2 * expected[name], atol=4e-6)
    with pytest.raises(ConfigError, match="a Doubled has no gradient"):
        explain_inputs(doubled, jagged, "gradient")


def test_the_default_model_takes_the_fast_way():
    assert can_leave_out(scorer_with(model=Model()).architecture)


def test_what_is_refused():
    with pytest.raises(ConfigError, match=r"no contributions 'chagne': did you mean 'change'"):
        make_scorer().contributions(make_events(3), "chagne")
    with pytest.raises(DataError, match="not list"):
        make_scorer().contributions([1, 2])


def test_features_are_those_of_the_whole_event():
    """A feature that sums over the event stays what it was: only the network loses the track."""
    inputs = Inputs(collections={"Track": {"features": ["pt/sum(pt)", "eta"]}})
    blank = Scorer(inputs, Model(phi=[4], rho=[4]), BINARY, {}, Shape({"Track": 32}, 8))
    scorer = replace(blank, arrays=random_arrays(blank.architecture))
    events = make_events(10)
    jagged = jagged_inputs(events, inputs)
    expected = leave_out_one_by_one(scorer, jagged)["Track"][:, 0]
    found = scorer.contributions(events)
    np.testing.assert_allclose(ak.flatten(found), expected, atol=2e-6)


@pytest.mark.parametrize("task", [BINARY, CLASSES])
@pytest.mark.parametrize("n_fold", [1, 3])
def test_several_models(task, n_fold):
    """What explains a mean, is the mean of what explains each, by fold if there are folds."""
    scorer = make_folds(task, n_fold, 2)
    events = with_numbers(make_events(20, seed=3))
    jagged = jagged_inputs(events, scorer.inputs, fold=scorer.fold_expression)
    oracle = leave_out_one_by_one(scorer, jagged)
    for name, found in explain_inputs(scorer, jagged).items():
        np.testing.assert_allclose(found, oracle[name], atol=2e-6)
    gradients = explain_inputs(scorer, jagged, "gradient")
    each = [explain_inputs(member, jagged, "gradient") for member in scorer.members]
    for name, axis in jagged.axes.items():
        fold = ak.to_numpy(events.event)[axis.event] % n_fold
        for i in range(n_fold):
            expected = np.mean([one[name] for one in each[2 * i : 2 * i + 2]], axis=0)
            chosen = fold == i
            np.testing.assert_allclose(gradients[name][chosen], expected[chosen], atol=1e-6)
    assert (
        ak.num(scorer.contributions(events)["Track"]).tolist() == ak.num(events.Track_pt).tolist()
    )


def test_several_models_calibrated():
    scorer = replace(
        make_folds(BINARY, 3, 2), calibration=Calibration(method="temperature", temperature=2.0)
    )
    events = with_numbers(make_events(10, seed=3))
    found = scorer.contributions(events)["Track"]
    whole = scorer(events)
    for event, track in ((3, 0), (5, 1)):
        rest = scorer(without(events, "Track", event, track))[0]
        assert found[event, track] == pytest.approx(whole[event] - rest, abs=1e-6)
    with pytest.raises(ConfigError, match="has no gradient; use 'change'"):
        scorer.contributions(events, "gradient")
