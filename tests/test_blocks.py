import tracemalloc
from collections import deque
from itertools import pairwise

import jax
import numpy as np
import pytest
from helpers import as_records, flat_inputs, make_events
from hypothesis import example, given
from hypothesis import strategies as st

from tracksets.blocks import LADDER, Shape, pack, pack_inputs, pack_parts, unpack
from tracksets.errors import ConfigError, DataError
from tracksets.features import jagged_inputs
from tracksets.inputs import Inputs
from tracksets.pooling import pool
from tracksets.slots import DEFAULT_TRACKS

MULTIPLICITY = st.one_of(st.integers(0, 6), st.just(0), st.integers(0, 300))
COUNTS = st.lists(st.tuples(MULTIPLICITY, MULTIPLICITY), max_size=40).map(
    lambda rows: dict(zip(("Track", "Jet"), np.array(rows, int).reshape(-1, 2).T, strict=True))
)
SHAPES = st.builds(
    lambda tracks, jets, events: Shape({"Track": tracks, "Jet": jets}, events),
    *(st.integers(1, 30), st.integers(1, 30), st.integers(1, 8)),
)


def assert_same(blocks, others):
    for block, other in zip(blocks, others, strict=True):
        jax.tree.map(np.testing.assert_array_equal, block, other)


@given(COUNTS, SHAPES)
def test_round_trip(counts, shape):
    inputs = flat_inputs(counts)
    blocks = list(pack_inputs(inputs, shape))

    np.testing.assert_array_equal(
        unpack((block.event for block in blocks), blocks).reshape(-1, 1), inputs.event
    )
    for name in counts:
        in_use = [block.tracks[name][: block.n_track[name]] for block in blocks]
        np.testing.assert_array_equal(
            np.concatenate([inputs.tracks[name][:0], *in_use]), inputs.tracks[name]
        )
        found = [
            np.bincount(block.rows[name], minlength=len(block.mask) + 1)[:-1] for block in blocks
        ]
        np.testing.assert_array_equal(unpack(found, blocks), counts[name])


@given(COUNTS, SHAPES)
def test_shapes_and_padding(counts, shape):
    fullness = {
        max(n / shape.tracks[name] for name, n in zip(counts, event, strict=True))
        for event in zip(*counts.values(), strict=True)
    }
    ladder = [shape.rung(k) for k in range(10)]
    for block in pack_inputs(flat_inputs(counts, {"Track": 3, "Jet": 2}, event=4), shape):
        assert block.event.shape == (shape.events, 4)
        assert block.event.dtype == np.float32
        assert block.n_event >= 1
        np.testing.assert_array_equal(block.mask, np.arange(shape.events) < block.n_event)
        assert not block.event[~block.mask].any()
        slots = {name: len(rows) for name, rows in block.rows.items()}
        rung = next(k for k, each in enumerate(ladder) if each.tracks == slots)
        assert rung == 0 or (block.n_event == 1 and LADDER ** (rung - 1) < max(fullness))
        for name, width in (("Track", 3), ("Jet", 2)):
            used = block.n_track[name]
            assert block.tracks[name].shape == (slots[name], width)
            assert (block.tracks[name].dtype, block.rows[name].dtype) == (np.float32, np.int32)
            assert (np.diff(block.rows[name]) >= 0).all()
            assert (block.rows[name][used:] == shape.events).all()
            assert not block.tracks[name][used:].any()


@given(COUNTS, SHAPES, st.randoms(use_true_random=False))
def test_order(counts, shape, random):
    inputs = flat_inputs(counts)
    order = np.array([i for i in range(inputs.n_event) if random.random() < 0.8], int)
    random.shuffle(order)
    assert_same(pack_inputs(inputs, shape, order), pack_inputs(inputs.take(order), shape))


@given(COUNTS, SHAPES, st.lists(st.floats(0, 1), max_size=20))
@example({"Track": np.ones(6, int), "Jet": np.zeros(6, int)}, Shape({"Track": 9, "Jet": 1}, 8), [])
def test_parts_are_packed_as_one(counts, shape, edges):
    """Also those that leave room in a block for several that follow."""
    inputs = flat_inputs(counts)
    edges = edges or np.linspace(0, 1, inputs.n_event + 1)
    edges = sorted(round(edge * inputs.n_event) for edge in [0, *edges, 1])
    parts = [inputs.slice(start, stop) for start, stop in pairwise(edges)]
    assert_same(pack_parts(parts, shape), pack_inputs(inputs, shape))


def test_parts_are_not_copied():
    """But for the events that share a block with those of another part."""
    inputs = flat_inputs({"Track": np.full(4000, 40)}, seed=1)
    parts = [inputs.slice(start, start + 1000) for start in range(0, 4000, 1000)]
    shape = Shape({"Track": 800}, 20)
    deque(pack_parts(parts, shape), maxlen=0)
    tracemalloc.start()
    deque(pack_parts(parts, shape), maxlen=0)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    block = 800 * (inputs.tracks["Track"].shape[1] * 4 + 4)
    assert most < 5 * block + 8 * 4 * 1000  # and some integers per event of a part
    assert most < parts[0].tracks["Track"].nbytes / 2


@given(COUNTS, SHAPES)
def test_blocks_are_filled(counts, shape):
    """An event starts a new block only if the one before has no room for it."""
    blocks = list(pack_inputs(flat_inputs(counts), shape))
    for block, following in pairwise(blocks):
        too_many = [
            block.n_track[name] + (following.rows[name] == 0).sum() > shape.tracks[name]
            for name in counts
        ]
        assert block.n_event == shape.events or any(too_many)


def test_padding_of_the_default_size_is_small():
    multiplicities = np.random.default_rng(1).exponential(40, 60_000).astype(int)
    inputs = flat_inputs({"Track": multiplicities}, {"Track": 1})
    *blocks, _ = pack_inputs(inputs, Shape.for_multiplicities(inputs.counts))
    tracks = 1 - np.mean([block.n_track["Track"] / len(block.rows["Track"]) for block in blocks])
    assert 0 < tracks <= 0.005
    assert 0 < 1 - np.mean([block.mask.mean() for block in blocks]) <= 0.15


def test_the_largest_collection_fills_up():
    random = np.random.default_rng(1)
    inputs = flat_inputs({"Jet": random.poisson(2, 20_000), "Track": random.poisson(40, 20_000)})
    *blocks, _ = pack_inputs(inputs, Shape.for_multiplicities(inputs.counts, 4096))
    assert np.mean([block.n_track["Track"] / 4096 for block in blocks]) > 0.98


@pytest.mark.parametrize("counts", [[], [0, 0, 0], [1], [0, 10**6]])
def test_unusual_multiplicities(counts):
    shape = Shape.for_multiplicities(
        {"Track": np.array(counts, int), "Jet": np.zeros(len(counts), int)}
    )
    assert all(0 < n <= 2 * 16384 for n in (*shape.tracks.values(), shape.events))


def test_explicit_sizes():
    counts = {"Track": np.array([3, 4])}
    assert Shape.for_multiplicities(counts, 10, 7) == Shape({"Track": 10}, 7)


@pytest.mark.parametrize("sizes", [(0, None), (-1, None), (10, 0), (10, -3)])
def test_bad_sizes(sizes):
    with pytest.raises(ConfigError, match="at least one"):
        Shape.for_multiplicities({"Track": np.array([1])}, *sizes)


@pytest.mark.parametrize("layout", [lambda events: events, as_records])
def test_pack_of_events(layout):
    events = make_events(50)
    inputs = Inputs(collections={"Track": {"features": ["pt", "eta"]}}, event=["PV_z"])
    blocks = list(pack(layout(events), inputs, block_tracks=40, block_events=9))
    assert {block.event.shape for block in blocks} == {(9, 1)}
    assert_same(blocks, pack_inputs(jagged_inputs(events, inputs), Shape({"Track": 40}, 9)))
    np.testing.assert_array_equal(
        unpack([block.event for block in blocks], blocks)[:, 0], events.PV_z
    )
    [block] = pack(events, inputs)
    assert len(block.rows["Track"]) == DEFAULT_TRACKS
    assert list(pack(events[:0], inputs)) == []


def test_pooling_inside_and_outside_of_jit():
    [block] = pack_inputs(flat_inputs({"Track": [2, 0, 3]}), Shape({"Track": 8}, 4))

    def pooled(block):
        matrix = block.pooling["Track"]
        return (
            matrix.todense(),
            matrix @ block.features["Track"],
            pool(matrix, block.tracks["Track"]),
        )

    dense, product, sums = pooled(block)
    expected = np.zeros((4, 8))
    expected[0, :2] = expected[2, 2:5] = 1
    np.testing.assert_array_equal(dense, expected)
    np.testing.assert_allclose(product, expected @ block.tracks["Track"], rtol=1e-6)
    np.testing.assert_allclose(sums, product, rtol=1e-6)
    for inside, outside in zip(jax.jit(pooled)(block), (dense, product, sums), strict=True):
        np.testing.assert_allclose(inside, outside, rtol=1e-6)
    assert block.pooling["Track"].nse == 8


def test_unpack_refuses_what_does_not_belong():
    blocks = list(pack_inputs(flat_inputs({"Track": [2, 0, 3]}), Shape({"Track": 8}, 2)))
    with pytest.raises(DataError, match="1 arrays of values for 2 blocks"):
        unpack([np.zeros(2)], blocks)
    with pytest.raises(DataError, match="3 values for a block of 2"):
        unpack([np.zeros(3), np.zeros(2)], blocks)
    assert (unpack([], []).shape, unpack([], []).dtype) == ((0,), np.float32)
