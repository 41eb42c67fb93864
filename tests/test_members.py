"""Several models against a loop over events, each scored by the models meant for it, one by one."""

import pickle
from dataclasses import replace
from itertools import pairwise

import awkward as ak
import numpy as np
import pytest
from helpers import (
    BINARY,
    CLASSES,
    INPUTS,
    as_records,
    make_events,
    make_folds,
    make_scorer,
    with_numbers,
)
from hypothesis import given
from hypothesis import strategies as st

from tracksets import members as members_module
from tracksets.errors import DataError, ModelError
from tracksets.features import jagged_inputs
from tracksets.fields import Columns
from tracksets.folds import Folds
from tracksets.scorer import load

EVENTS = with_numbers(make_events(60, seed=3))
NOT_SEEN = ak.with_field(EVENTS, np.where(EVENTS.PV_z > 0.5, 1, 0), "other")
UNSEEN = "other > 0 ? -1 : event % 3"


def matrix(scores):
    """Columns of an awkward array of scores."""
    names = ak.fields(scores)
    if names:
        return np.concatenate([matrix(scores[name]) for name in names], axis=1)
    return ak.to_numpy(scores)[:, None]


def expected(scorer, events, numbers):
    """Mean and spread, event by event, from models that each score all events alone."""
    every = np.stack([matrix(member(events)) for member in scorer.members]).astype(np.float64)
    n = scorer.n_member // len(scorer.folds.values) if scorer.folds else scorer.n_member
    means, spreads = [], []
    for event in range(len(events)):
        meant = every[:, event]
        if scorer.folds and numbers[event] in scorer.folds.values:
            i = scorer.folds.values.index(numbers[event])
            meant = meant[i * n : (i + 1) * n]
        mean = sum(meant) / len(meant)
        means.append(mean)
        squares = sum((each - mean) ** 2 for each in meant)
        spreads.append(np.sqrt(squares / (len(meant) - 1)) if len(meant) > 1 else mean + np.nan)
    return np.asarray(means), np.asarray(spreads)


@pytest.mark.parametrize("task", [BINARY, CLASSES])
@pytest.mark.parametrize(("n_fold", "n_seed"), [(3, 1), (3, 2), (1, 3)])
@pytest.mark.parametrize("text", ["event % 3", UNSEEN])
def test_each_event_gets_its_models(task, n_fold, n_seed, text):
    scorer = make_folds(task, n_fold, n_seed)
    numbers = ak.to_numpy(NOT_SEEN.event) % 3
    if scorer.folds:
        scorer = replace(scorer, folds=Folds(expression=text, values=(0, 1, 2)))
        if text == UNSEEN:
            numbers[ak.to_numpy(NOT_SEEN.other) > 0] = -1
            assert set(numbers) == {-1, 0, 1, 2}
    means, spreads = expected(scorer, NOT_SEEN, numbers)
    scores = scorer(NOT_SEEN)
    np.testing.assert_allclose(matrix(scores), means, rtol=2e-7)
    both = scorer(NOT_SEEN, spread=True)
    assert both.fields == ["score", "spread"]
    assert ak.array_equal(both.score, scores)
    assert both.spread.type == scores.type
    np.testing.assert_allclose(matrix(both.spread), spreads, rtol=2e-6, atol=1e-9)


def test_one_model_of_a_fold_gives_its_scores_bit_by_bit():
    scorer = make_folds(n_seed=1)
    numbers = ak.to_numpy(EVENTS.event) % 3
    for i, member in enumerate(scorer.members):
        chosen = numbers == i
        assert scorer(EVENTS)[chosen].to_list() == member(EVENTS)[chosen].to_list()
        assert member == make_scorer(seed=i)


def test_an_event_is_scored_with_the_arrays_of_its_models_only():
    """Other numbers in all other models change nothing, and all of their scores."""
    scorer = make_folds()
    for i in range(3):
        arrays = {name: each.copy() for name, each in scorer.arrays.items()}
        for array in arrays.values():
            array[[j for j in range(6) if j // 2 != i]] *= -1
        broken = replace(scorer, arrays=arrays)
        own = EVENTS[EVENTS.event % 3 == i]
        assert broken(own).to_list() == scorer(own).to_list()
        others = EVENTS[EVENTS.event % 3 != i]
        assert (broken(others) != scorer(others)).to_numpy().all()


def test_without_folds():
    scorer = make_folds()
    means, _ = expected(replace(scorer, folds=None), EVENTS, None)
    np.testing.assert_allclose(matrix(scorer.without_folds()(EVENTS)), means, rtol=2e-7)
    assert scorer.without_folds() != scorer
    assert "event" not in scorer.without_folds().branches()


@given(edges=st.lists(st.integers(0, 60), max_size=6), window=st.sampled_from([1, 50, 2**20]))
def test_neither_portions_nor_windows_change_a_bit(edges, window):
    scorer = make_folds(CLASSES)
    whole = jagged_inputs(EVENTS, INPUTS, fold="event % 3")
    assert whole.fold is not None
    bounds = [0, *sorted(edges), 60]
    parts = [whole.slice(start, stop) for start, stop in pairwise(bounds)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(members_module, "_WINDOW", window)
        found = scorer.score_parts(parts, spread=True)
    np.testing.assert_array_equal(found, scorer.score_parts([whole], spread=True))


def test_order_and_layout_do_not_matter():
    scorer = make_folds()
    order = np.random.default_rng(1).permutation(60)
    found = scorer(EVENTS[order], spread=True)
    assert ak.array_equal(found[np.argsort(order)], scorer(EVENTS, spread=True))
    records = ak.with_field(as_records(EVENTS), EVENTS.event, "event")
    assert ak.array_equal(scorer(records), scorer(EVENTS))


@pytest.mark.parametrize("task", [BINARY, CLASSES])
@pytest.mark.parametrize("spread", [False, True])
def test_no_events(task, spread):
    scorer = make_folds(task)
    full = scorer(EVENTS, spread)
    for events in (EVENTS[:0], ak.Array([])):
        found = scorer(events, spread)
        assert len(found) == 0
        assert found.type.content == full.type.content
    traced = scorer(ak.to_backend(EVENTS, "typetracer"), spread)
    assert ak.backend(traced) == "typetracer"
    assert traced.type.content == full.type.content


def test_flat_inputs_keep_their_folds():
    whole = jagged_inputs(EVENTS, INPUTS, fold="event % 3")
    numbers = ak.to_numpy(EVENTS.event) % 3
    np.testing.assert_array_equal(whole.fold, numbers)
    np.testing.assert_array_equal(whole.take(np.array([5, 0, 7])).fold, numbers[[5, 0, 7]])
    np.testing.assert_array_equal(whole.slice(3, 9).fold, numbers[3:9])
    joined = whole.concatenate([whole.slice(3, 9), whole.slice(0, 3)])
    np.testing.assert_array_equal(joined.fold, numbers[[3, 4, 5, 6, 7, 8, 0, 1, 2]])
    assert jagged_inputs(EVENTS, INPUTS).fold is None
    with pytest.raises(DataError, match="do not say that of each event"):
        make_folds().score_inputs(jagged_inputs(EVENTS, INPUTS))


def test_what_is_read():
    scorer = replace(make_folds(), folds=Folds(expression=UNSEEN, values=(0, 1, 2)))
    assert scorer.branches()[-2:] == ["other", "event"]
    assert scorer.branches(NOT_SEEN)[:-2] == make_scorer().branches(NOT_SEEN)
    assert set(scorer.branches(NOT_SEEN)[-2:]) == {"other", "event"}
    form = ak.to_layout(ak.with_field(NOT_SEEN, NOT_SEEN.PV_z, "unused")).form_with_key("node{id}")
    layout, report = ak.typetracer.typetracer_with_report(form)
    scorer(ak.Array(layout))
    for name in ("event", "other"):
        assert form.content(name).form_key in report.data_touched
    assert form.content("unused").form_key not in report.data_touched
    with pytest.raises(DataError, match=r"event-level 'event % 3'.*no branch or field 'event'"):
        make_folds()(make_events(3))


def test_folds_that_are_not_whole_numbers_refused():
    scorer = replace(make_folds(), folds=Folds(expression="PV_z", values=(0, 1, 2)))
    with pytest.raises(DataError, match="where a whole number is needed"):
        scorer(EVENTS)


def test_spread_of_a_single_model_refused():
    with pytest.raises(ModelError, match=r"this is a single one: train several with ensemble"):
        make_scorer()(EVENTS, spread=True)


def test_round_trips(tmp_path):
    for n_fold in (1, 3):
        scorer = make_folds(n_fold=n_fold)
        scorer.save(tmp_path / "model.safetensors")
        for again in (load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(scorer))):
            assert again == scorer
            assert (again.n_member, again.folds) == (scorer.n_member, scorer.folds)
            assert ak.array_equal(again(EVENTS, spread=True), scorer(EVENTS, spread=True))
    scorer(EVENTS)
    assert len(pickle.dumps(scorer)) < 1.1 * len(pickle.dumps(make_folds(n_fold=3, first=50)))


def test_hash_knows_folds_and_members():
    scorer = make_folds()
    hashes = {scorer.hash, make_scorer().hash, scorer.without_folds().hash}
    for folds in ({"expression": "event % 4"}, {"values": (0, 1, 3)}):
        hashes.add(replace(scorer, folds=scorer.folds.model_copy(update=folds)).hash)
    arrays = {name: each[::-1] for name, each in scorer.arrays.items()}
    hashes.add(replace(scorer, arrays=arrays).hash)
    assert len(hashes) == 6


def test_columns_with_missing_branches_name_the_fold():
    columns = Columns(make_events(5))
    with pytest.raises(DataError, match="event"):
        list(make_folds().flatten(columns))
