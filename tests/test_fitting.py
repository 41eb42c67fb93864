from dataclasses import replace

import numpy as np
import pytest
from flax import nnx
from helpers import BINARY, CLASSES, flat_inputs

from tracksets.blocks import Shape
from tracksets.compiling import compiled
from tracksets.errors import DataError, NonFiniteError
from tracksets.fitting import fit_network
from tracksets.metrics import roc_auc
from tracksets.network import Architecture, Model
from tracksets.problems import Problem
from tracksets.samples import InMemory, Sample
from tracksets.scaling import Scaling
from tracksets.settings import Training
from tracksets.steps import compiled_steps
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
    targets = (sums > 0).astype(np.float32)[:, None]
    return Sample(InMemory(inputs), targets, np.ones(n_event, np.float32))


SAMPLE, VALIDATION = make_sample(), make_sample(100, seed=1)
NO_TIMES = {"seconds": 0, "events_per_second": 0}
ONE_BLOCK = Shape({"Track": 2048, "Jet": 1024}, 512)


def shape_of(sample, training=TRAINING):
    return Shape.for_multiplicities(
        sample.store.counts, training.block_tracks, training.block_events
    )


def fit(
    sample=SAMPLE,
    validation=VALIDATION,
    task=BINARY,
    on_epoch=lambda entry: None,
    architecture=ARCHITECTURE,
    shape=None,
    features=None,
    **options,
):
    training = TRAINING.model_copy(update=options)
    problem = Problem(
        architecture,
        task,
        SCALING,
        sample.all,
        validation and validation.all,
        shape or shape_of(sample, training),
        features or {},
    )
    return fit_network(problem, training, on_epoch)


def assert_same(one, other):
    assert one.history[0].keys() == other.history[0].keys()
    for mine, theirs in zip(one.history, other.history, strict=True):
        assert {**mine, **NO_TIMES} == {**theirs, **NO_TIMES}
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])


def assert_similar(one, other, rtol=1e-3):
    for mine, theirs in zip(one.history, other.history, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=rtol)
    for name, array in one.arrays.items():
        np.testing.assert_allclose(array, other.arrays[name], rtol=rtol, atol=rtol)


def test_seed():
    one, same, other = fit(epochs=2), fit(epochs=2), fit(epochs=2, seed=2)
    assert_same(one, same)
    assert not np.array_equal(one.arrays["out.kernel"], other.arrays["out.kernel"])


def validation_loss(fitted):
    state = compiled(ARCHITECTURE).to_state(fitted.arrays)
    params, rest = nnx.split_state(state, nnx.Param, ...)
    steps = compiled_steps(ARCHITECTURE, BINARY, TRAINING)
    [batch] = VALIDATION.all.ordered(ONE_BLOCK)
    return float(steps.weighted_loss(params, rest, batch)) / 100


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
    params, rest = nnx.state(compiled(ARCHITECTURE).new(3), nnx.Param, ...)
    [batch] = sample.all.ordered(ONE_BLOCK)
    steps = compiled_steps(ARCHITECTURE, BINARY, TRAINING)
    expected = float(steps.weighted_loss(params, rest, batch)) / weights.sum(dtype=np.float64)
    assert fitted.history[0]["loss"] == pytest.approx(expected, rel=1e-4)
    assert fitted.history[0]["validation_loss"] == pytest.approx(expected, rel=1e-4)


def test_the_scale_of_weights_does_not_matter():
    fitted = [
        fit(replace(SAMPLE, weights=np.full(300, scale, np.float32)), epochs=2)
        for scale in (1, 1024)
    ]
    for name, array in fitted[0].arrays.items():
        np.testing.assert_allclose(array, fitted[1].arrays[name], rtol=1e-5, atol=1e-6)


def broken(sample, events=slice(None)):
    """Return a sample in which a feature of some events is infinite."""
    inputs = sample.store.inputs
    event = inputs.event.copy()
    event[events] = np.inf
    return replace(sample, store=InMemory(replace(inputs, event=event)))


def test_training_loss_that_is_not_finite():
    message = (
        r"(?s)training loss is \S+ in block \d+ of epoch 1 \(step \d+\): lower the learning rate"
        r".*largest features: event 'PV_z' = inf"
        r".*largest gradients: \S+ (nan|inf)"
    )
    with pytest.raises(NonFiniteError, match=message):
        fit(broken(SAMPLE, 250), features={"event": ["PV_z"]})


def test_the_block_that_is_not_finite_is_named():
    """With one event per block, it is the place of the event in the order of the epoch."""
    order = np.random.default_rng([TRAINING.seed, 1, 1]).permutation(300)
    sample = broken(SAMPLE, order[17])
    shape = Shape({"Track": 32, "Jet": 16}, 1)
    with pytest.raises(NonFiniteError, match=r"in block 17 of epoch 1 \(step 18\)"):
        fit(sample, shape=shape)


def test_validation_loss_that_is_not_finite():
    with pytest.raises(NonFiniteError, match=r"validation loss is \S+ in block 0 of epoch 1"):
        fit(validation=broken(VALIDATION))


def test_weight_decay_shrinks_weights():
    plain, decayed = fit(epochs=2), fit(epochs=2, weight_decay=5.0)
    size = [np.abs(each.arrays["phi.Track.layers.0.kernel"]).sum() for each in (plain, decayed)]
    assert size[1] < 0.9 * size[0]


def test_a_step_of_several_blocks_is_like_one_of_a_large_block():
    large = fit(epochs=2, shape=Shape({"Track": 4096, "Jet": 4096}, 60))
    blocks = fit(epochs=2, shape=Shape({"Track": 4096, "Jet": 4096}, 15), blocks_per_step=4)
    assert_similar(large, blocks)
    single = fit(epochs=2, shape=Shape({"Track": 4096, "Jet": 4096}, 15))
    assert single.history[1]["loss"] != pytest.approx(blocks.history[1]["loss"], rel=1e-3)


def test_blocks_of_different_sizes_in_one_step():
    """Larger events have larger blocks, and the last step of an epoch has fewer."""
    shape = Shape({"Track": 4, "Jet": 4}, 3)
    n_block = len(list(SAMPLE.all.ordered(shape)))
    fitted = fit(epochs=1, shape=shape, blocks_per_step=n_block + 1, learning_rate=1e-12, seed=3)
    assert fitted.history[0]["loss"] == pytest.approx(
        fit(epochs=1, shape=ONE_BLOCK, learning_rate=1e-12, seed=3).history[0]["loss"], rel=1e-4
    )


def test_moving_average_of_the_parameters():
    """What is kept is the average, with its decay, of what the steps gave."""
    decay, shape = 0.6, ONE_BLOCK  # one step per epoch
    steps = [fit(epochs=n, shape=shape, validation=None).arrays["out.kernel"] for n in (1, 2, 3)]
    shares = (1 - decay) * decay ** np.arange(3)[::-1] / (1 - decay**3)
    expected = sum(share * each for share, each in zip(shares, steps, strict=True))
    averaged = fit(epochs=3, shape=shape, validation=None, average=decay)
    np.testing.assert_allclose(averaged.arrays["out.kernel"], expected, rtol=1e-4, atol=1e-6)


def test_the_average_is_what_is_validated():
    fitted = fit(epochs=4, average=0.9)
    best = fitted.history[fitted.best_epoch - 1]["validation_loss"]
    assert validation_loss(fitted) == pytest.approx(best, rel=1e-4)


def test_dropout():
    one, same, plain = fit(dropout=0.5), fit(dropout=0.5), fit()
    assert_same(one, same)
    assert one.history[-1]["loss"] > plain.history[-1]["loss"]
    best = one.history[one.best_epoch - 1]["validation_loss"]
    assert validation_loss(one) == pytest.approx(best, rel=1e-4)  # nothing is dropped there


def test_gradients_are_clipped():
    """A single step of Adam does not know the size of the gradient, several do."""
    plain, clipped = fit(epochs=2), fit(epochs=2, clip_gradient=1e-9)
    moved = [
        np.abs(each.arrays["out.kernel"] - start).max()
        for start in [np.asarray(compiled(ARCHITECTURE).new(TRAINING.seed).out.kernel[...])]
        for each in (plain, clipped)
    ]
    assert moved[1] < 0.5 * moved[0]
    assert_similar(fit(epochs=2, clip_gradient=1e9), plain, rtol=1e-5)


def test_bfloat16_learns_the_same():
    one, other = fit(epochs=6), fit(epochs=6, precision="bfloat16")
    assert other.history[-1]["loss"] == pytest.approx(one.history[-1]["loss"], rel=0.05)
    assert other.history[-1]["loss"] != one.history[-1]["loss"]
    assert other.arrays["out.kernel"].dtype == np.float32


def test_label_smoothing_is_for_the_training_loss_only():
    smooth = fit(epochs=1, label_smoothing=0.2, learning_rate=1e-12, validation=SAMPLE)
    plain = fit(epochs=1, learning_rate=1e-12, validation=SAMPLE)
    assert smooth.history[0]["validation_loss"] == plain.history[0]["validation_loss"]
    assert smooth.history[0]["loss"] != pytest.approx(plain.history[0]["loss"], rel=1e-4)


def test_patience_on_the_auc():
    fitted = fit(epochs=30, patience=3, metric="auc", learning_rate=0.1)
    areas = [entry["validation_auc"] for entry in fitted.history]
    assert fitted.best_epoch == np.argmax(areas) + 1
    assert len(areas) in (30, fitted.best_epoch + 3)
    inputs = VALIDATION.store.inputs
    outputs = compiled(ARCHITECTURE).outputs(
        compiled(ARCHITECTURE).to_state(fitted.arrays),
        next(VALIDATION.all.ordered(ONE_BLOCK)).block,
    )
    scores = np.asarray(outputs)[: inputs.n_event, 0]
    assert roc_auc(VALIDATION.targets[:, 0], scores) == pytest.approx(max(areas), abs=1e-3)


def test_no_auc_for_a_regression():
    task = Task(kind="regression", names=("x",), shift=(0.0,), scale=(1.0,))
    assert "validation_auc" not in fit(task=task, epochs=1).history[0]
    with pytest.raises(DataError, match="auc.*classes"):
        fit(task=task, epochs=1, metric="auc")


def test_the_learning_rate_is_in_the_history():
    fitted = fit(epochs=4, schedule="cosine", warmup=2.0)
    rates = [entry["learning_rate"] for entry in fitted.history]
    assert rates[0] == pytest.approx(0.015, rel=0.1)
    assert rates[0] < rates[1] <= 0.03
    assert rates[1] > rates[2] > rates[3]


def test_one_step_serves_all_rates_and_seeds():
    steps = compiled_steps(ARCHITECTURE, BINARY, TRAINING)
    fit(epochs=1)
    before = steps.traces
    for options in ({"learning_rate": 0.1}, {"schedule": "one-cycle"}, {"seed": 5}):
        fit(epochs=2, **options)
    assert steps.traces == before


@pytest.mark.parametrize(
    "task", [CLASSES, Task(kind="regression", names=("x",), shift=(0.0,), scale=(1.0,))]
)
def test_other_tasks_learn(task):
    event = SAMPLE.store.inputs.event
    targets = event if task.kind == "regression" else np.digitize(event, [-0.5, 0.5])
    sample = replace(SAMPLE, targets=targets.astype(np.float32))
    architecture = ARCHITECTURE.model_copy(update={"outputs": task.outputs})
    fitted = fit(sample, sample, task, architecture=architecture)
    assert fitted.history[-1]["loss"] < 0.8 * fitted.history[0]["loss"]
    assert ("validation_auc" in fitted.history[0]) == (task.kind == "classes")
