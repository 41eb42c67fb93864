from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest
from flax import nnx
from helpers import BINARY, CLASSES, flat_inputs

from tracksets import fitting
from tracksets.blocks import Block, Shape
from tracksets.errors import NonFiniteError
from tracksets.features import JaggedInputs
from tracksets.fitting import Sample, Training, fit_network
from tracksets.network import Architecture, Model, compiled
from tracksets.scaling import Scaling
from tracksets.targets import Task

ARCHITECTURE = Architecture(
    model=Model(phi=[6], rho=[5]), tracks=(("Track", 2), ("Jet", 2)), event=1, outputs=1
)
SCALING = ({name: Scaling.identity(2) for name in ("Track", "Jet")}, Scaling.identity(1))
TRAINING = Training(epochs=6, block_tracks=200, learning_rate=0.03)


def make_sample(n_event=300, seed=0):
    """Signal events are those where the first features of the tracks sum to more than zero."""
    random = np.random.default_rng(seed)
    counts = {"Track": random.poisson(3, n_event), "Jet": random.poisson(1, n_event)}
    inputs = flat_inputs(counts, seed=seed)
    event = inputs.axes["Track"].event
    sums = np.bincount(event, inputs.tracks["Track"][:, 0], minlength=n_event)
    return Sample(inputs, (sums > 0).astype(np.float32)[:, None], np.ones(n_event, np.float32))


SAMPLE, VALIDATION = make_sample(), make_sample(100, seed=1)


def shape_of(sample, training=TRAINING):
    return Shape.for_multiplicities(
        sample.inputs.counts, training.block_tracks, training.block_events
    )


def fit(sample=SAMPLE, validation=VALIDATION, task=BINARY, on_epoch=lambda entry: None, **options):
    training = TRAINING.model_copy(update=options)
    return fit_network(
        ARCHITECTURE,
        task,
        SCALING,
        sample,
        validation,
        training,
        shape_of(sample, training),
        on_epoch,
    )


def steps():
    return fitting._steps(ARCHITECTURE, BINARY, TRAINING.learning_rate, 0.0)


def random_state(seed=3):
    params, rest = nnx.state(compiled(ARCHITECTURE).new(seed), nnx.Param, ...)
    return params, rest


@cache
def differentiated():
    return jax.jit(jax.value_and_grad(steps().weighted_loss))


def loss_and_gradient(sample, shape, order=None):
    """Sum over all blocks, which the packing must not change."""
    params, rest = random_state()
    order = np.arange(sample.inputs.n_event) if order is None else order
    parts = [differentiated()(params, rest, *batch) for batch in sample.batches(shape, order)]
    return jax.tree.map(lambda *each: np.sum(np.float64(each), axis=0), *parts)


def assert_close(one, other, rtol=1e-4):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-4), one, other)


ONE_BLOCK = Shape({"Track": 2048, "Jet": 1024}, 512)


def test_targets_and_weights_follow_the_events():
    order = np.random.default_rng(0).permutation(300)[:250]
    sample = replace(SAMPLE, weights=np.arange(1, 301, dtype=np.float32))
    batches = list(sample.batches(Shape({"Track": 50, "Jet": 40}, 16), order))
    assert len(batches) > 10
    weights = np.concatenate([w[block.mask] for block, _, w in batches])
    np.testing.assert_array_equal(weights, order + 1)
    events = np.concatenate([block.event[block.mask] for block, _, _ in batches])
    np.testing.assert_array_equal(events, SAMPLE.inputs.event[order])
    targets = np.concatenate([targets[block.mask] for block, targets, _ in batches])
    np.testing.assert_array_equal(targets, SAMPLE.targets[order])
    for block, _, w in batches:
        assert not w[~block.mask].any()


@pytest.mark.parametrize("shape", [ONE_BLOCK.rung(1), Shape({"Track": 90, "Jet": 70}, 40)])
def test_loss_does_not_depend_on_the_packing(shape):
    order = np.random.default_rng(0).permutation(300)
    assert_close(loss_and_gradient(SAMPLE, ONE_BLOCK), loss_and_gradient(SAMPLE, shape, order))


def test_loss_is_masked():
    params, rest = random_state()
    [(block, targets, weights)] = SAMPLE.batches(ONE_BLOCK, np.arange(300))
    expected = differentiated()(params, rest, block, targets, weights)
    event = np.where(block.mask[:, None], block.event, 1e30).astype(np.float32)
    garbage = Block(block.tracks, block.rows, event, block.mask, block.n_track)
    weights = np.where(block.mask, weights, 7).astype(np.float32)
    found = differentiated()(params, rest, garbage, targets, weights)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_cancelling_weights_change_nothing():
    """Negative weights as generators give them: pairs of the same event that cancel."""
    pairs = make_sample(40, seed=9)
    both = Sample(
        JaggedInputs.concatenate([SAMPLE.inputs, pairs.inputs, pairs.inputs]),
        np.concatenate([SAMPLE.targets, pairs.targets, pairs.targets]),
        np.concatenate([SAMPLE.weights, 3 * pairs.weights, -3 * pairs.weights]),
    )
    assert_close(loss_and_gradient(SAMPLE, ONE_BLOCK), loss_and_gradient(both, ONE_BLOCK))


def test_weight_counts_like_copies():
    doubled = replace(SAMPLE, weights=np.where(np.arange(300) < 100, 2, 1).astype(np.float32))
    copies = SAMPLE.take(np.concatenate([np.arange(300), np.arange(100)]))
    assert_close(loss_and_gradient(doubled, ONE_BLOCK), loss_and_gradient(copies, ONE_BLOCK))


def test_one_step_decreases_the_loss():
    params, rest = random_state()
    [batch] = SAMPLE.batches(ONE_BLOCK, np.arange(300))
    before = steps().weighted_loss(params, rest, *batch)
    params, _, loss = steps().step(params, steps().optimiser.init(params), rest, *batch)
    assert loss == pytest.approx(float(before), rel=1e-5)
    assert steps().weighted_loss(params, rest, *batch) < before


def test_seed():
    one, same, other = fit(epochs=2), fit(epochs=2), fit(epochs=2, seed=2)
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, same.arrays[name])
    assert not np.array_equal(one.arrays["out.kernel"], other.arrays["out.kernel"])
    losses = [[entry["validation_loss"] for entry in each.history] for each in (one, same)]
    assert losses[0] == losses[1]


def validation_loss(fitted):
    state = compiled(ARCHITECTURE).to_state(fitted.arrays)
    params, rest = nnx.split_state(state, nnx.Param, ...)
    batches = VALIDATION.batches(ONE_BLOCK, np.arange(100))
    return float(sum(steps().weighted_loss(params, rest, *batch) for batch in batches)) / 100


def test_best_parameters_are_kept():
    entries = []
    fitted = fit(epochs=40, patience=3, on_epoch=entries.append)
    losses = [entry["validation_loss"] for entry in fitted.history]
    assert entries == fitted.history
    assert [entry["epoch"] for entry in entries] == list(range(1, len(losses) + 1))
    assert fitted.best_epoch == np.argmin(losses) + 1
    assert len(losses) == fitted.best_epoch + 3 < 40
    assert validation_loss(fitted) == pytest.approx(min(losses), rel=1e-4)


def test_without_validation_the_last_parameters_are_kept():
    fitted = fit(validation=None, epochs=3, patience=1)
    assert fitted.best_epoch == len(fitted.history) == 3
    assert "validation_loss" not in fitted.history[0]


def test_reported_loss_is_the_weighted_mean():
    """With a learning rate of almost nothing, it is the loss of the initial parameters."""
    weights = np.linspace(-0.5, 2, 300).astype(np.float32)
    sample = replace(SAMPLE, weights=weights)
    fitted = fit(sample, epochs=1, learning_rate=1e-12, validation=sample, seed=3)
    expected = loss_and_gradient(sample, ONE_BLOCK)[0] / weights.sum(dtype=np.float64)
    assert fitted.history[0]["loss"] == pytest.approx(expected, rel=1e-4)
    assert fitted.history[0]["validation_loss"] == pytest.approx(expected, rel=1e-4)


def test_the_scale_of_weights_does_not_matter():
    fitted = [
        fit(replace(SAMPLE, weights=np.full(300, scale, np.float32)), epochs=2)
        for scale in (1, 1024)
    ]
    for name, array in fitted[0].arrays.items():
        np.testing.assert_allclose(array, fitted[1].arrays[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("what", ["training", "validation"])
def test_loss_that_is_not_finite(what):
    broken = VALIDATION.take(np.arange(100))
    broken.inputs.event[:] = np.inf
    samples = {"training": SAMPLE, "validation": VALIDATION, what: broken}
    with pytest.raises(NonFiniteError, match=rf"{what} loss is \S+ in block 0 of epoch 1"):
        fit(samples["training"], samples["validation"])


def test_weight_decay_shrinks_weights():
    plain, decayed = fit(epochs=2), fit(epochs=2, weight_decay=5.0)
    size = [np.abs(each.arrays["phi.Track.layers.0.kernel"]).sum() for each in (plain, decayed)]
    assert size[1] < 0.9 * size[0]


@pytest.mark.parametrize(
    "task", [CLASSES, Task(kind="regression", names=("x",), shift=(0.0,), scale=(1.0,))]
)
def test_other_tasks_learn(task):
    inputs = SAMPLE.inputs
    targets = inputs.event if task.kind == "regression" else np.digitize(inputs.event, [-0.5, 0.5])
    sample = Sample(inputs, targets.astype(np.float32), SAMPLE.weights)
    architecture = ARCHITECTURE.model_copy(update={"outputs": task.outputs})
    fitted = fit_network(architecture, task, SCALING, sample, None, TRAINING, shape_of(sample))
    assert fitted.history[-1]["loss"] < 0.8 * fitted.history[0]["loss"]


@pytest.mark.parametrize(
    "option",
    [
        {"epochs": 0},
        {"learning_rate": 0},
        {"validation": 1},
        {"seed": -1},
        {"patience": 0},
        {"block_tracks": 0},
        {"weight_decay": -1},
        {"momentum": 0.9},
    ],
)
def test_bad_options(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        Training(**option)
