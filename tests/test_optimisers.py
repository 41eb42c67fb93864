import numpy as np
import optax
import pytest

from tracksets.optimisers import direction, learning_rates
from tracksets.settings import Training

BASE = Training(epochs=10, learning_rate=0.5)


def rates(per_epoch=20.0, **options):
    found = learning_rates(BASE.model_copy(update=options), per_epoch)
    assert found.dtype == np.float32
    assert (found > 0).all()
    return found


def test_constant():
    np.testing.assert_array_equal(rates(), np.full(200, np.float32(0.5)))


def test_cosine():
    expected = 0.25 * (1 + np.cos(np.pi * np.arange(200) / 200))
    np.testing.assert_allclose(rates(schedule="cosine"), expected, rtol=1e-3, atol=1e-6)


def test_warmup_comes_before_the_schedule():
    found = rates(schedule="cosine", warmup=1.5)
    np.testing.assert_allclose(found[:31], 0.5 * np.arange(1, 32) / 31, rtol=1e-5)
    expected = 0.25 * (1 + np.cos(np.pi * np.arange(170) / 170))
    np.testing.assert_allclose(found[30:], expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(rates(warmup=1.0)[20:], 0.5)


def test_one_cycle():
    found = rates(schedule="one-cycle")
    assert found[0] == pytest.approx(0.5 / 25)
    assert found.max() == pytest.approx(0.5)
    assert np.argmax(found) == 60
    assert found[-1] < 1e-3
    assert (np.diff(found[:61]) > 0).all()
    assert (np.diff(found[60:]) < 0).all()


def test_fewer_than_one_step():
    assert len(rates(0.01)) == 1
    assert len(rates(1.34)) == 13


def one_step(gradient, **options):
    params = {"x": np.float32([3.0, -4.0])}
    transformation = direction(BASE.model_copy(update=options))
    updates, state = transformation.update(gradient, transformation.init(params), params)
    return updates, state


def test_like_optax_adamw():
    gradient = {"x": np.float32([0.1, 200.0])}
    updates, _ = one_step(gradient, weight_decay=0.1)
    params = {"x": np.float32([3.0, -4.0])}
    reference = optax.adamw(0.5, weight_decay=0.1)
    expected, _ = reference.update(gradient, reference.init(params), params)
    np.testing.assert_allclose(-0.5 * updates["x"], expected["x"], rtol=1e-6)


def test_the_norm_of_the_gradient_is_clipped():
    _, plain = one_step({"x": np.float32([3.0, 4.0])})
    _, clipped = one_step({"x": np.float32([3.0, 4.0])}, clip_gradient=1.0)
    moments = [optax.tree_utils.tree_get(state, "mu")["x"] for state in (plain, clipped)]
    np.testing.assert_allclose(moments[1], moments[0] / 5, rtol=1e-6)
