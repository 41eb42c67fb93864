import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import BINARY, flat_inputs
from hypothesis import given, settings
from hypothesis import strategies as st

from tracksets import parts, steps
from tracksets.blocks import Shape
from tracksets.compiling import compiled
from tracksets.network import Architecture, Model
from tracksets.parts import Parts, parts_of
from tracksets.samples import InMemory, Sample, stacked
from tracksets.settings import Training
from tracksets.steps import Steps

SHAPE = Shape({"Track": 256, "Jet": 96}, 128)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of 32 tracks and a few more, so that blocks of 256 have 8."""
    monkeypatch.setattr(parts, "default_chunk", lambda: 32)


def make_stack(n_track, n_jet, n=1, shape=SHAPE):
    counts = {"Track": np.asarray(n_track), "Jet": np.asarray(n_jet)}
    n_event = len(counts["Track"])
    random = np.random.default_rng(n_event)
    targets = random.integers(0, 2, (n_event, 1)).astype(np.float32)
    weights = random.normal(1, 1, n_event).astype(np.float32)
    sample = Sample(InMemory(flat_inputs(counts)), targets, weights)
    return next(stacked(sample.all.ordered(shape), n))


def typical_stack(n=1, seed=0):
    random = np.random.default_rng(seed)
    return make_stack(random.poisson(3, 400), random.poisson(1, 400), n)


def of_events(batch, first=None):
    """Something of each event that needs all of its tracks: weight * (sum of tracks)**2 ..."""
    n_event = len(batch.block.mask)
    result = jnp.where(batch.block.mask, batch.weights * (1 + batch.targets[:, 0]), 0.0)
    for name, tracks in batch.block.tracks.items():
        sums = jnp.zeros((n_event, 2)).at[batch.block.rows[name]].add(tracks, mode="drop")
        result = result * (1 + jnp.sum(sums**2, axis=1))
    used = batch.block.n_track["Track"]
    return jnp.sum(result * (1 + batch.block.event[:, 0] ** 2)), jnp.sum(batch.block.mask), used


def in_shares(cut, batch):
    run = jax.jit(lambda share: cut.add_up(of_events, batch, share))
    return [run(share) for share in range(cut.shares)]


multiplicities = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 8)), min_size=1, max_size=140
)


@given(multiplicities, st.sampled_from([1, 2, 4]))
@settings(deadline=None, max_examples=25)
def test_every_event_is_in_one_part(counts, shares):
    stack = make_stack(*np.transpose(counts))
    batch = jax.tree.map(lambda x: x[0], stack)
    cut = Parts((("Track", 40), ("Jet", 16)), 20, shares)
    found = np.sum(in_shares(cut, batch), axis=0, dtype=np.float64)
    np.testing.assert_allclose(found, np.float64(of_events(batch)), rtol=1e-4, atol=1e-3)


def test_shares_are_alike():
    stack = typical_stack()
    shares = in_shares(
        Parts((("Track", 16), ("Jet", 8)), 8, 3), jax.tree.map(lambda x: x[0], stack)
    )
    n_event = [int(n) for _, n, _ in shares]
    assert sum(n_event) == stack.block.mask.sum()
    assert max(n_event) < 1.5 * min(n_event)


def test_blocks_are_cut_where_it_pays(monkeypatch):
    monkeypatch.setattr(parts, "threads", lambda: 3)
    assert parts_of(typical_stack()) == Parts((("Jet", 13), ("Track", 35)), 21, 3)
    few = Shape({"Track": 60, "Jet": 60}, 64)
    assert parts_of(make_stack([3] * 9, [1] * 9, shape=few)) is None
    assert parts_of(make_stack([3, 36, 3], [1, 1, 1])) is None  # larger than a part
    assert parts_of(make_stack([3, 35, 3], [1, 1, 1])) is not None
    assert parts_of(make_stack([3, 3, 3], [1, 14, 1])) is None
    monkeypatch.setattr(parts, "default_chunk", lambda: 2**30)  # as on accelerators
    assert parts_of(typical_stack()) is None


ARCHITECTURE = Architecture(
    model=Model(phi=[6], rho=[5], pool=["sum", "max", "mean"]),
    tracks=(("Track", 2), ("Jet", 2)),
    event=1,
    outputs=1,
)


def step(stack, n_thread, monkeypatch, **options):
    """Return parameters after a step, loss, and largest gradients."""
    monkeypatch.setattr(parts, "threads", lambda: n_thread)
    network = Steps(ARCHITECTURE, BINARY, Training(**options))
    params, rest = nnx.state(compiled(ARCHITECTURE).new(3), nnx.Param, ...)
    state, *rest = network.step(
        network.start(params), rest, stack, np.float32(1e-3), np.uint32([1, 0])
    )
    return jax.tree.map(np.asarray, (state.params, *rest))


@pytest.mark.parametrize("n", [1, 3])
def test_gradient_of_parts_is_that_of_the_block(monkeypatch, n):
    stack = typical_stack(n)
    found = step(stack, 1, monkeypatch)
    monkeypatch.setattr(steps, "parts_of", lambda _stack: None)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        found,
        step(stack, 1, monkeypatch),
    )


@pytest.mark.parametrize("options", [{}, {"dropout": 0.2, "clip_gradient": 1.0, "average": 0.9}])
def test_threads_add_up_the_same(monkeypatch, options):
    stack = typical_stack(2)
    one = step(stack, 1, monkeypatch, **options)
    for n_thread in (2, 8):
        many = step(stack, n_thread, monkeypatch, **options)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), many, one)
        again = step(stack, n_thread, monkeypatch, **options)
        jax.tree.map(np.testing.assert_array_equal, again, many)


def test_threads_trace_once(monkeypatch):
    monkeypatch.setattr(parts, "threads", lambda: 2)
    network = Steps(ARCHITECTURE, BINARY, Training())
    params, rest = nnx.state(compiled(ARCHITECTURE).new(3), nnx.Param, ...)
    state = network.start(params)
    for seed in range(4):
        stack = typical_stack(seed=seed)
        state, _, _ = network.step(state, rest, stack, np.float32(1e-3), np.uint32([1, seed]))
    assert network.traces == 1
