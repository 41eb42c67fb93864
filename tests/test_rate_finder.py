"""The loss at rising learning rates."""

import numpy as np
import pytest
from flax import nnx
from helpers import BINARY, INPUTS, flat_inputs, make_events

import tracksets as ts
from tracksets.blocks import Shape
from tracksets.compiling import compiled
from tracksets.errors import ConfigError, DataError, NonFiniteError
from tracksets.fitting import fit_network
from tracksets.network import Architecture, Model
from tracksets.problems import Problem
from tracksets.rate_finder import (
    RateScan,
    _smooth,
    find_learning_rate,
    find_learning_rate_for,
    scan,
)
from tracksets.samples import InMemory, Sample
from tracksets.scaling import Scaling
from tracksets.settings import Training
from tracksets.steps import compiled_steps

ARCHITECTURE = Architecture(
    model=Model(phi=[6], rho=[5]), tracks=(("Track", 2),), event=1, outputs=1
)
SCALING = ({"Track": Scaling.identity(2)}, Scaling.identity(1))
TRAINING = Training(epochs=1, weight_decay=0.03)  # a step that no other test has compiled


def make_problem(shape=None, weights=None, broken=False):
    random = np.random.default_rng(3)
    inputs = flat_inputs({"Track": random.poisson(3, 300)})
    if broken:
        inputs.event[:] = np.inf
    targets = (inputs.event[:, :1] > 0).astype(np.float32)
    weights = np.ones(300, np.float32) if weights is None else weights
    sample = Sample(InMemory(inputs), targets, weights)
    return Problem(
        ARCHITECTURE, BINARY, SCALING, sample.all, None, shape or Shape({"Track": 128}, 40)
    )


def test_loss_of_a_network_that_does_not_learn():
    """At rates of almost nothing it is that of the initial parameters, at every step.

    Also where the last step of an epoch has few events, and with negative weights.
    """
    weights = np.linspace(-0.5, 2, 300).astype(np.float32)
    problem = make_problem(Shape({"Track": 2048}, 290), weights)
    found = scan(problem, TRAINING, 1e-12, 1e-11, 20)
    params, rest = nnx.state(compiled(ARCHITECTURE).new(TRAINING.seed), nnx.Param, ...)
    [batch] = problem.sample.ordered(Shape({"Track": 2048}, 512))
    steps = compiled_steps(ARCHITECTURE, BINARY, TRAINING)
    expected = float(steps.weighted_loss(params, rest, batch)) / problem.sample.total
    assert found.losses == pytest.approx(expected, rel=0.02)
    assert not found.diverged


def test_rates_rise_until_the_loss_diverges():
    found = scan(make_problem(), TRAINING, 1e-4, 1e4, 120)
    assert found.diverged
    assert 20 < len(found.rates) == len(found.losses) < 120
    np.testing.assert_allclose(found.rates, np.geomspace(1e-4, 1e4, 120)[: len(found.rates)], 1e-5)
    assert found.losses[-1] > 4 * found.losses.min()
    assert found.losses.min() < 0.8 * found.losses[0]
    assert 1e-3 < found.suggestion < found.lowest < found.rates[-1]
    assert found.steepest < found.lowest


def test_a_loss_that_becomes_infinite_is_divergence():
    found = scan(make_problem(), TRAINING, 1e-3, 1e30, 30)
    assert found.diverged
    assert np.isfinite(found.losses).all()


def test_a_loss_that_is_never_finite():
    with pytest.raises(NonFiniteError, match="not finite at a learning rate of 0.001"):
        scan(make_problem(broken=True), TRAINING, 1e-3, 1, 30)


def test_the_same_again():
    one, same = (scan(make_problem(), TRAINING, 1e-4, 1, 40) for _ in range(2))
    np.testing.assert_array_equal(one.losses, same.losses)


def test_nothing_is_compiled_for_another_rate_nor_for_the_training():
    problem = make_problem()
    settings = TRAINING.model_copy(update={"weight_decay": 0.031})
    scan(problem, settings, 1e-4, 1, 30)
    steps = compiled_steps(ARCHITECTURE, BINARY, settings)
    assert steps.traces == 1
    fit_network(problem, settings.model_copy(update={"schedule": "one-cycle"}))
    assert steps.traces == 1


def test_what_is_read_off():
    rates = np.geomspace(1e-4, 10, 6)
    found = RateScan(rates, np.asarray([9.0, 8.5, 6.0, 5.0, 4.5, 12.0]), True)
    assert found.lowest == pytest.approx(1.0)
    assert found.suggestion == pytest.approx(0.1)
    assert found.steepest == pytest.approx(1e-3)
    rising = RateScan(rates, np.arange(6.0), False)
    assert rising.lowest == rising.steepest == pytest.approx(1e-4)


def test_smoothing():
    """Of a gaussian width, in steps; sums and weights apart, so that few events count as such."""
    n, width = 60, 3.0
    random = np.random.default_rng(0)
    weights, means = random.uniform(0.1, 1, n), random.uniform(1, 2, n)
    kernel = np.exp(-0.5 * ((np.arange(n) - 30) / width) ** 2)
    expected = (kernel * means * weights).sum() / (kernel * weights).sum()
    assert _smooth(means * weights, weights, width)[30] == pytest.approx(expected, rel=1e-3)
    np.testing.assert_allclose(_smooth(3 * weights, weights, width), 3)


def test_from_events_and_as_a_picture(tmp_path):
    events = make_events(200, seed=1)
    targets = np.asarray(events.PV_z) > 0
    settings = {"model": Model(phi=[4], rho=[4]), "training": Training(block_tracks=150)}
    found = ts.find_learning_rate(
        events, targets, INPUTS, **settings, start=1e-3, steps=25, progress=False
    )
    assert len(found.rates) <= 25
    assert found.rates[0] == pytest.approx(1e-3)
    path = found.plot(tmp_path / "rates.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "rates.pdf").is_file()
    # A loss may be negative where weights are.
    RateScan(found.rates, found.losses - 1, False).plot(tmp_path / "negative.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 0.0}, "rates from 0.0 to 1.0: expected two that rise, above 0"),
        ({"start": 1.0, "stop": 0.1}, "expected two that rise"),
        ({"steps": 19}, "19 steps are too few"),
    ],
)
def test_mistakes(options, message):
    events = make_events(50)
    with pytest.raises(ConfigError, match=message):
        find_learning_rate(events, np.arange(50) % 2, INPUTS, **options, progress=False)


def test_what_is_no_training(sample_data):
    with pytest.raises(DataError, match="must be an awkward array"):
        find_learning_rate([1], [1], INPUTS)
    with pytest.raises(ConfigError, match=r"no \[inputs\]"):
        find_learning_rate_for(sample_data / "evaluate.toml")
