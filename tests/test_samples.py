from dataclasses import replace

import numpy as np
import pytest
from helpers import flat_inputs
from hypothesis import given
from hypothesis import strategies as st

from tracksets.blocks import Shape
from tracksets.samples import InMemory, Sample, stacked

RANDOM = np.random.default_rng(0)
COUNTS = {"Track": RANDOM.poisson(3, 300), "Jet": RANDOM.poisson(1, 300)}
SAMPLE = Sample(
    InMemory(flat_inputs(COUNTS)),
    np.arange(300, dtype=np.float32)[:, None],
    np.arange(1, 301, dtype=np.float32),
)
SHAPE = Shape({"Track": 50, "Jet": 40}, 16)
CHOSEN = np.sort(RANDOM.permutation(300)[:250])


def order_of(batches):
    return np.concatenate([batch.targets[batch.block.mask, 0] for batch in batches]).astype(int)


def test_shuffled():
    batches = list(SAMPLE.part(CHOSEN).shuffled(SHAPE, np.random.default_rng(5)))
    order = order_of(batches)
    np.testing.assert_array_equal(np.sort(order), CHOSEN)
    assert not np.array_equal(order, CHOSEN)
    again = list(SAMPLE.part(CHOSEN).shuffled(SHAPE, np.random.default_rng(5)))
    np.testing.assert_array_equal(order_of(again), order)


@pytest.mark.parametrize("how", ["shuffled", "ordered"])
def test_targets_and_weights_follow_the_events(how, monkeypatch):
    monkeypatch.setattr("tracksets.stores._PART", 60)
    part = SAMPLE.part(CHOSEN)
    random = np.random.default_rng(0)
    batches = list(part.ordered(SHAPE) if how == "ordered" else part.shuffled(SHAPE, random))
    assert len(batches) > 10
    order = order_of(batches)
    if how == "ordered":
        np.testing.assert_array_equal(order, CHOSEN)
    weights = np.concatenate([batch.weights[batch.block.mask] for batch in batches])
    np.testing.assert_array_equal(weights, order + 1)
    events = np.concatenate([batch.block.event[batch.block.mask] for batch in batches])
    np.testing.assert_array_equal(events, SAMPLE.store.inputs.event[order])
    for batch in batches:
        assert not batch.weights[~batch.block.mask].any()


def test_parts_are_the_chosen_events_in_bounded_portions(monkeypatch):
    monkeypatch.setattr("tracksets.stores._PART", 64)
    parts = list(SAMPLE.store.parts(CHOSEN))
    assert [inputs.n_event for inputs, _ in parts] == [64, 64, 64, 58]
    np.testing.assert_array_equal(np.concatenate([events for _, events in parts]), CHOSEN)
    tracks = np.concatenate([inputs.tracks["Track"] for inputs, _ in parts])
    np.testing.assert_array_equal(tracks, SAMPLE.store.inputs.take(CHOSEN).tracks["Track"])


def test_the_number_of_blocks_is_known_about():
    part = SAMPLE.part(CHOSEN)
    found = len(list(part.ordered(SHAPE)))
    assert part.n_block(SHAPE) == pytest.approx(found, rel=0.15)
    assert part.total == pytest.approx((CHOSEN + 1).sum())


@given(st.integers(1, 9), st.integers(0, 4), st.booleans())
def test_stacks(n, further, large):
    """Every event is in one stack, once, and what fills a stack up has no events."""
    slots = n + further
    shape = replace(SHAPE, tracks={"Track": 5, "Jet": 5}) if large else SHAPE
    batches = list(SAMPLE.part(CHOSEN).ordered(shape))
    stacks = list(stacked(iter(batches), n, slots))
    assert len(stacks) == -(-len(batches) // n)
    order = np.concatenate([stack.targets[stack.block.mask][:, 0] for stack in stacks])
    np.testing.assert_array_equal(order, CHOSEN)
    for stack in stacks:
        assert len(stack.weights) == slots
        assert stack.block.mask[n:].sum() == 0
        for name, rows in stack.block.rows.items():
            assert rows.shape == stack.block.tracks[name].shape[:2]
            used = rows < stack.block.mask.shape[1]
            np.testing.assert_array_equal(used.sum(axis=1), stack.block.n_track[name])
            assert not stack.block.tracks[name][~used].any()
