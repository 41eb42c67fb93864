from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest
from flax import nnx
from helpers import BINARY, flat_inputs

from tracksets.blocks import Block, Shape
from tracksets.compiling import compiled
from tracksets.features import JaggedInputs
from tracksets.network import Architecture, Model
from tracksets.samples import InMemory, Sample, stacked
from tracksets.settings import Training
from tracksets.steps import compiled_steps

ARCHITECTURE = Architecture(
    model=Model(phi=[6], rho=[5]), tracks=(("Track", 2), ("Jet", 2)), event=1, outputs=1
)
ONE_BLOCK = Shape({"Track": 2048, "Jet": 1024}, 512)


def make_sample(n_event=300, seed=0):
    random = np.random.default_rng(seed)
    counts = {"Track": random.poisson(3, n_event), "Jet": random.poisson(1, n_event)}
    targets = random.integers(0, 2, (n_event, 1)).astype(np.float32)
    inputs = flat_inputs(counts, seed=seed)
    return Sample(InMemory(inputs), targets, np.ones(n_event, np.float32))


SAMPLE = make_sample()


def steps(**options):
    return compiled_steps(ARCHITECTURE, BINARY, Training(**options))


def random_state(seed=3):
    params, rest = nnx.state(compiled(ARCHITECTURE).new(seed), nnx.Param, ...)
    return params, rest


@cache
def differentiated():
    return jax.jit(jax.value_and_grad(steps().weighted_loss))


def loss_and_gradient(sample, shape):
    """Sum over all blocks."""
    return summed(sample.all.ordered(shape))


def summed(batches):
    params, rest = random_state()
    parts = [differentiated()(params, rest, batch) for batch in batches]
    return jax.tree.map(lambda *each: np.sum(np.float64(each), axis=0), *parts)


def assert_close(one, other, rtol=1e-4):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-4), one, other)


@pytest.mark.parametrize("shape", [ONE_BLOCK.rung(1), Shape({"Track": 90, "Jet": 70}, 40)])
def test_loss_does_not_depend_on_the_packing(shape):
    shuffled = SAMPLE.all.shuffled(shape, np.random.default_rng(0))
    assert_close(loss_and_gradient(SAMPLE, ONE_BLOCK), summed(shuffled))


def test_loss_is_masked():
    params, rest = random_state()
    [batch] = SAMPLE.all.ordered(ONE_BLOCK)
    block = batch.block
    expected = differentiated()(params, rest, batch)
    event = np.where(block.mask[:, None], block.event, 1e30).astype(np.float32)
    garbage = Block(block.tracks, block.rows, event, block.mask, block.n_track)
    weights = np.where(block.mask, batch.weights, 7).astype(np.float32)
    found = differentiated()(params, rest, batch._replace(block=garbage, weights=weights))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_cancelling_weights_change_nothing():
    """Negative weights as generators give them: pairs of the same event that cancel."""
    pairs = make_sample(40, seed=9)
    inputs = [SAMPLE.store.inputs, pairs.store.inputs, pairs.store.inputs]
    both = Sample(
        InMemory(JaggedInputs.concatenate(inputs)),
        np.concatenate([SAMPLE.targets, pairs.targets, pairs.targets]),
        np.concatenate([SAMPLE.weights, 3 * pairs.weights, -3 * pairs.weights]),
    )
    assert_close(loss_and_gradient(SAMPLE, ONE_BLOCK), loss_and_gradient(both, ONE_BLOCK))


def test_weight_counts_like_copies():
    doubled = replace(SAMPLE, weights=np.where(np.arange(300) < 100, 2, 1).astype(np.float32))
    twice = np.concatenate([np.arange(300), np.arange(100)])
    copies = Sample(
        InMemory(SAMPLE.store.inputs.take(twice)), SAMPLE.targets[twice], SAMPLE.weights[twice]
    )
    assert_close(loss_and_gradient(doubled, ONE_BLOCK), loss_and_gradient(copies, ONE_BLOCK))


SEED = np.uint32([1, 0])


def test_one_step_decreases_the_loss():
    params, rest = random_state()
    [stack] = stacked(SAMPLE.all.ordered(ONE_BLOCK), 1)
    [before], outputs = steps().losses(params, rest, stack)
    assert outputs.shape == (1, 512, 1)
    state, loss, largest = steps().step(steps().start(params), rest, stack, np.float32(1e-3), SEED)
    assert loss == pytest.approx(float(before), rel=1e-5)
    assert steps().losses(state.params, rest, stack)[0] < before
    params, rest = random_state()  # those of before went into the step
    [batch] = SAMPLE.all.ordered(ONE_BLOCK)
    _, gradient = differentiated()(params, rest, batch)
    expected = [np.abs(each).max() for each in jax.tree.leaves(gradient)]
    np.testing.assert_allclose(largest, expected, rtol=1e-4)


@pytest.mark.parametrize("n", [2, 5])
def test_a_stack_is_the_sum_of_its_blocks(n):
    shape = Shape({"Track": 500, "Jet": 300}, 120)
    batches = list(SAMPLE.all.ordered(shape))
    [stack] = stacked(iter(batches), max(n, len(batches)))
    params, rest = random_state()
    expected = loss_and_gradient(SAMPLE, shape)
    _, loss, largest = steps().step(steps().start(params), rest, stack, np.float32(1), SEED)
    assert loss == pytest.approx(expected[0], rel=1e-5)
    gradients = [np.abs(each).max() for each in jax.tree.leaves(expected[1])]
    np.testing.assert_allclose(largest, gradients, rtol=1e-4)


def test_dropout_differs_by_step_and_block():
    dropping = steps(dropout=0.3)
    [stack] = stacked(SAMPLE.all.ordered(ONE_BLOCK), 1)
    twice = jax.tree.map(lambda x: np.concatenate([x, x]), stack)

    def loss(stack, seed):
        params, rest = random_state()
        state = dropping.start(params)
        return float(dropping.step(state, rest, stack, np.float32(0), np.uint32(seed))[1])

    losses = [loss(stack, seed) for seed in ([1, 0], [1, 1], [2, 0], [1, 0])]
    assert losses[0] == losses[3]
    assert len(set(losses)) == 3
    assert loss(twice, [1, 0]) != pytest.approx(2 * losses[0], rel=1e-4)


def test_same_settings_share_what_is_compiled():
    assert steps(learning_rate=0.1, epochs=3, seed=4) is steps()
    assert steps(dropout=0.1) is not steps()
