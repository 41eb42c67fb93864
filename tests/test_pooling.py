import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tracksets.pooling import pool, pool_chunks, pooling_matrix

N_EVENT, N_TRACK, N_LATENT = 6, 20, 3
# Events 1 and 5 are empty; the last three slots are padding.
ROWS = np.repeat([0, 2, 3, 4, N_EVENT], [4, 1, 10, 2, 3]).astype(np.int32)
USED = 17


def random_case(seed=0):
    random = np.random.default_rng(seed)
    latent = random.normal(size=(N_TRACK, N_LATENT)).astype(np.float32)
    weights = random.uniform(0.5, 2, N_TRACK).astype(np.float32)
    cotangent = random.normal(size=(N_EVENT, N_LATENT)).astype(np.float32)
    return latent, weights, cotangent


def oracle(latent, weights, cotangent, how):
    """Pooled vectors and the gradient of sum(cotangent * pooled), event by event in float64."""
    x, w, c = (each.astype(np.float64) for each in (latent, weights, cotangent))
    pooled, gradient = np.zeros((N_EVENT, N_LATENT)), np.zeros_like(x)
    for event in range(N_EVENT):
        tracks = np.flatnonzero(event == ROWS)
        if not len(tracks):
            continue
        if how == "max":
            hardest = tracks[x[tracks].argmax(axis=0)]
            pooled[event] = x[tracks].max(axis=0)
            gradient[hardest, np.arange(N_LATENT)] = c[event]
        else:
            norm = w[tracks].sum() if how == "mean" else 1
            pooled[event] = w[tracks] @ x[tracks] / norm
            gradient[tracks] = np.outer(w[tracks], c[event]) / norm
    return pooled, gradient


def value_and_gradient(function, latent, cotangent):
    pooled, backward = jax.vjp(function, jnp.asarray(latent))
    [gradient] = backward(jnp.asarray(cotangent))
    return pooled, gradient


def by_matrix(latent, weights=None):
    return pooling_matrix(ROWS, N_EVENT, weights) @ latent


@pytest.fixture(params=[np.nan, np.inf, -np.inf], ids=["nan", "inf", "-inf"])
def padding(request):
    """What the latent of padding is."""
    return request.param


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("how", ["matmul", "sum", "mean", "max"])
def test_pool(how, weighted, padding, strict_dtypes):
    latent, weights, cotangent = random_case()
    if not weighted:
        weights[:] = 1
    expected = oracle(latent, weights, cotangent, "sum" if how == "matmul" else how)
    latent[USED:] = padding
    matrix = pooling_matrix(ROWS, N_EVENT, jnp.asarray(weights) if weighted else None)
    pooled = value_and_gradient(
        lambda x: matrix @ x if how == "matmul" else pool(matrix, x, how), latent, cotangent
    )
    for found, wanted in zip(pooled, expected, strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", ["matmul", "sum", "mean"])
def test_gradient_of_weights(how, padding, strict_dtypes):
    """For attention: the weights are trained, and those of padding stay what they are."""
    latent, weights, cotangent = random_case()
    wide = latent.astype(np.float64), weights.astype(np.float64)
    expected = np.zeros(N_TRACK)
    for track, event in enumerate(ROWS[:USED]):
        x, c, here = wide[0][track], cotangent[event].astype(np.float64), event == ROWS
        norm = wide[1][here].sum() if how == "mean" else 1
        mean = wide[1][here] @ wide[0][here] / norm if how == "mean" else 0
        expected[track] = c @ (x - mean) / norm
    latent[USED:] = padding

    def pooled(w):
        matrix = pooling_matrix(ROWS, N_EVENT, w)
        return matrix @ latent if how == "matmul" else pool(matrix, jnp.asarray(latent), how)

    gradient = value_and_gradient(pooled, weights, cotangent)[1]
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("how", "chunk", "padding"),
    [
        (("sum",), 3, np.nan),
        (("mean",), 3, np.inf),
        (("max",), 3, np.nan),
        *((("max", "mean", "sum"), chunk, -np.inf) for chunk in (1, 7, 10, 17, 20, 64)),
    ],
)
def test_pool_chunks(how, chunk, padding, strict_dtypes):
    latent, _, cotangent = random_case()
    direction, ones = random_case(seed=1)[0], np.ones(N_TRACK, np.float32)
    expected = [oracle(latent, ones, cotangent, each) for each in how]
    latent[USED:] = padding

    def chunked(x, used=None):
        return pool_chunks(jnp.positive, x, jnp.asarray(ROWS), N_EVENT, how, chunk, used)

    @jax.jit
    def both(x, cotangent, direction, used):
        pooled, gradient = value_and_gradient(chunked, x, cotangent)
        # The loop that leaves out padding has a forward-mode derivative only.
        dynamic, change = jax.jvp(lambda x: chunked(x, used), (x,), (direction,))
        return pooled, gradient, dynamic, change

    cotangents = np.tile(cotangent, len(how))
    pooled, gradient, dynamic, change = both(latent, cotangents, direction, jnp.int32(USED))
    wanted = np.concatenate([value for value, _ in expected], axis=1)
    np.testing.assert_allclose(pooled, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(dynamic, pooled)
    wanted = sum(each for _, each in expected)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-6)
    # <cotangent, J direction> is the same as <gradient, direction>
    np.testing.assert_allclose((cotangents * change).sum(), (wanted * direction).sum(), rtol=1e-4)


def test_chunks_of_padding_are_not_computed():
    calls = []

    def phi(x):
        jax.debug.callback(lambda: calls.append(1))
        return x

    pool_chunks(phi, random_case()[0], ROWS, N_EVENT, ("sum",), 5, jnp.int32(11))
    jax.effects_barrier()
    assert len(calls) == 3


@pytest.mark.parametrize("rows", [[], [0, 0, 0, 0], [2, 2, 2, 2], [0, 1, 1, 2]])
def test_stored_entries_are_fixed(rows):
    rows = np.asarray(rows, np.int32)
    matrix = pooling_matrix(rows, 2)
    assert matrix.shape == (2, len(rows))
    assert matrix.nse == len(rows)
    np.testing.assert_array_equal(matrix.todense(), rows[None, :] == np.arange(2)[:, None])


def test_no_tracks():
    latent, rows = jnp.zeros((0, N_LATENT)), np.zeros(0, np.int32)
    assert not pool(pooling_matrix(rows, 2), latent).any()
    assert pool_chunks(jnp.tanh, latent, rows, 2, ("max", "sum"), 8).shape == (2, 2 * N_LATENT)
    assert not pool_chunks(jnp.tanh, latent, rows, 2, ("max", "sum"), 8).any()


def test_one_trace_for_all_data():
    traces = []

    @jax.jit
    def pooled(rows, latent):
        traces.append(1)
        return pooling_matrix(rows, N_EVENT) @ latent

    latent = random_case()[0]
    for rows in (ROWS, np.zeros_like(ROWS), np.full_like(ROWS, N_EVENT)):
        pooled(rows, latent)
    assert len(traces) == 1
