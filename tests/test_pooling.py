import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tracksets.pooling import SMOOTH, pool, pool_chunks, pooling_matrix

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


def logits_of(x):
    """What the tests take as logits: a function of the latent, so that its gradient counts."""
    return x[:, 0] - 2 * x[:, 1] * x[:, 1]


def slopes_of(x):
    """Return the derivative of `logits_of`."""
    return np.stack([np.ones(len(x)), -4 * x[:, 1], np.zeros(len(x))], axis=1)


def oracle(latent, weights, cotangent, how):
    """Pooled vectors and the gradient of sum(cotangent * pooled), event by event in float64."""
    x, w, c = (each.astype(np.float64) for each in (latent, weights, cotangent))
    pooled, gradient = np.zeros((N_EVENT, N_LATENT)), np.zeros_like(x)
    if how == "softmax":
        w = w * np.exp(logits_of(x))
    for event in range(N_EVENT):
        tracks = np.flatnonzero(event == ROWS)
        if not len(tracks):
            continue
        if how == "max":
            hardest = tracks[x[tracks].argmax(axis=0)]
            pooled[event] = x[tracks].max(axis=0)
            gradient[hardest, np.arange(N_LATENT)] = c[event]
            continue
        norm = w[tracks].sum() if how != "sum" else 1
        pooled[event] = mean = w[tracks] @ x[tracks] / norm
        gradient[tracks] = np.outer(w[tracks], c[event]) / norm
        if how == "std":
            variance = w[tracks] @ (x[tracks] - mean) ** 2 / norm
            pooled[event] = np.sqrt(variance + SMOOTH) - np.sqrt(SMOOTH)
            gradient[tracks] *= (x[tracks] - mean) / np.sqrt(variance + SMOOTH)
        if how == "softmax":
            steeper = (w[tracks] / norm) * ((x[tracks] - mean) @ c[event])
            gradient[tracks] += steeper[:, None] * slopes_of(x[tracks])
    return pooled, gradient


def logits(how, x):
    clean = jnp.where((ROWS < N_EVENT)[:, None], x, jnp.zeros_like(x))
    return logits_of(clean) if how == "softmax" else None


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
@pytest.mark.parametrize("how", ["matmul", "sum", "mean", "max", "std", "softmax"])
def test_pool(how, weighted, padding, strict_dtypes):
    latent, weights, cotangent = random_case()
    if not weighted:
        weights[:] = 1
    expected = oracle(latent, weights, cotangent, "sum" if how == "matmul" else how)
    latent[USED:] = padding
    matrix = pooling_matrix(ROWS, N_EVENT, jnp.asarray(weights) if weighted else None)
    pooled = value_and_gradient(
        lambda x: matrix @ x if how == "matmul" else pool(matrix, x, how, logits(how, x)),
        latent,
        cotangent,
    )
    for found, wanted in zip(pooled, expected, strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_softmax_is_the_matrix_with_other_entries():
    latent, _, _ = random_case()
    likely = np.exp(logits_of(latent))
    likely /= np.bincount(ROWS, likely)[ROWS]
    np.testing.assert_allclose(
        pool(pooling_matrix(ROWS, N_EVENT), jnp.asarray(latent), "softmax", logits_of(latent)),
        pooling_matrix(ROWS, N_EVENT, jnp.asarray(likely)) @ latent,
        rtol=1e-5,
        atol=1e-6,
    )
    with pytest.raises(ValueError, match="'softmax' needs logits"):
        pool(pooling_matrix(ROWS, N_EVENT), jnp.asarray(latent), "softmax")
    with pytest.raises(ValueError, match="'softmax' needs logits"):
        pool_chunks(jnp.positive, latent, jnp.asarray(ROWS), N_EVENT, ("softmax",), 4)


@pytest.mark.parametrize("how", ["sum", "mean", "max", "std"])
def test_the_pooled_latent_has_the_type_of_the_latent(how):
    latent = jnp.ones((len(ROWS), 2), jnp.bfloat16)
    assert pool(pooling_matrix(ROWS, N_EVENT), latent, how).dtype == jnp.bfloat16


def test_logits_of_padding_do_not_matter_to_a_gradient():
    latent, _, cotangent = random_case()
    logits = np.where(np.arange(len(ROWS)) < USED, logits_of(latent), np.float32(np.nan))
    matrix = pooling_matrix(ROWS, N_EVENT)
    gradient = jax.grad(lambda x: (pool(matrix, latent, "softmax", x) * cotangent).sum())(logits)
    assert np.isfinite(gradient[:USED]).all()
    assert not gradient[USED:].any()


@pytest.mark.parametrize("how", ["mean", "std", "softmax"])
def test_equal_tracks_have_no_spread_and_their_own_mean(how):
    """Also large ones, whose squares lose digits; and there is a gradient."""
    latent = jnp.full((N_TRACK, N_LATENT), 30, jnp.float32)
    matrix = pooling_matrix(ROWS, N_EVENT)
    pooled, gradient = value_and_gradient(
        lambda x: pool(matrix, x, how, logits(how, x)), latent, np.ones((N_EVENT, N_LATENT), "f4")
    )
    some = np.isin(np.arange(N_EVENT), ROWS)[:, None]
    wanted = np.where(some, 0 if how == "std" else 30, 0)
    np.testing.assert_allclose(pooled, np.broadcast_to(wanted, pooled.shape), rtol=1e-6, atol=0.01)
    assert np.isfinite(gradient).all()


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
    ("how", "chunk", "padding", "weighted"),
    [
        (("sum",), 3, np.nan, False),
        (("sum",), 3, np.nan, True),
        (("mean",), 3, np.inf, False),
        (("max",), 3, np.nan, False),
        (("std",), 3, np.nan, False),
        (("softmax",), 3, np.inf, False),
        *((("max", "mean", "sum"), chunk, -np.inf, False) for chunk in (1, 7, 10, 17, 20, 64)),
        *((("softmax", "max", "mean", "std"), chunk, np.nan, True) for chunk in (1, 7, 64)),
    ],
)
def test_pool_chunks(how, chunk, padding, weighted, strict_dtypes):
    latent, weights, cotangent = random_case()
    if not weighted:
        weights[:] = 1
    direction = random_case(seed=1)[0]
    expected = [oracle(latent, weights, cotangent, each) for each in how]
    latent[USED:] = padding

    def chunked(x, used=None):
        return pool_chunks(
            jnp.positive,
            x,
            jnp.asarray(ROWS),
            N_EVENT,
            how,
            chunk,
            used,
            weights=jnp.asarray(weights) if weighted else None,
            attend=logits_of if "softmax" in how else None,
        )

    @jax.jit
    def both(x, cotangent, direction, used):
        pooled, gradient = value_and_gradient(chunked, x, cotangent)
        # The loop that leaves out padding has a forward-mode derivative only.
        dynamic, change = jax.jvp(lambda x: chunked(x, used), (x,), (direction,))
        return pooled, gradient, dynamic, change

    cotangents = np.tile(cotangent, len(how))
    direction[USED:] = 0  # NaN has no derivative
    pooled, gradient, dynamic, change = both(latent, cotangents, direction, jnp.int32(USED))
    wanted = np.concatenate([value for value, _ in expected], axis=1)
    rounding = 1e-5 if "std" in how else 1e-6  # mean squares and squared means cancel
    np.testing.assert_allclose(pooled, wanted, rtol=1e-5, atol=rounding)
    np.testing.assert_allclose(dynamic, pooled, rtol=1e-6, atol=1e-7)
    if not {"std", "softmax"} & set(how):  # roots and exponentials depend on what else is compiled
        np.testing.assert_array_equal(dynamic, pooled)
    wanted = sum(each for _, each in expected)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=rounding)
    # <cotangent, J direction> is the same as <gradient, direction>
    np.testing.assert_allclose((cotangents * change).sum(), (wanted * direction).sum(), rtol=1e-4)


@pytest.mark.parametrize("chunk", [1, 5, 20])
def test_a_full_block_has_no_chunk_twice(chunk):
    rows = jnp.arange(20) // 3
    latent = jnp.asarray(np.random.default_rng(0).normal(size=(20, 2)), jnp.float32)
    found = pool_chunks(jnp.positive, latent, rows, 7, ("sum",), chunk, jnp.int32(20))
    expected = pool_chunks(jnp.positive, latent, rows, 7, ("sum",), chunk)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_phi_is_given_the_context_of_each_tracks_event(chunk, strict_dtypes):
    latent, _, cotangent = random_case()
    context = np.random.default_rng(2).normal(size=(N_EVENT, N_LATENT)).astype(np.float32)
    expected, slope = np.zeros((N_EVENT, N_LATENT)), np.zeros((N_EVENT, N_LATENT))
    for track, event in enumerate(ROWS[:USED]):
        expected[event] += latent[track] * context[event]
        slope[event] += latent[track] * cotangent[event]
    latent[USED:] = np.nan

    def chunked(c):
        clean = jnp.where(jnp.isnan(latent), jnp.zeros_like(latent), latent)
        return pool_chunks(jnp.multiply, clean, ROWS, N_EVENT, ("sum",), chunk, context=c)

    pooled, gradient = value_and_gradient(chunked, context, cotangent)
    np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-6)


def test_padding_without_an_event_gives_phi_no_gradient():
    latent, _, _ = random_case()
    context = np.random.default_rng(2).normal(size=(N_EVENT, N_LATENT)).astype(np.float32)

    def loss(scale):
        def phi(x, known):
            return scale[None, :] * x * known

        what = (jnp.asarray(latent), jnp.asarray(ROWS), N_EVENT, ("sum",), 7)
        return pool_chunks(phi, *what, context=jnp.asarray(context)).sum()

    expected = (latent[:USED] * context[ROWS[:USED]]).sum(axis=0)
    np.testing.assert_allclose(jax.grad(loss)(jnp.ones(N_LATENT)), expected, rtol=1e-4)


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
