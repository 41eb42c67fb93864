import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracksets import scaling
from tracksets.features import JaggedInputs
from tracksets.inputs import Collection, Inputs
from tracksets.scaling import Scaling, scalings

RANDOM = np.random.default_rng(3)
COUNTS = RANDOM.poisson(4, 60)
N = COUNTS.sum()
TRACKS = np.column_stack(
    [RANDOM.normal(100, 5, N), RANDOM.exponential(0.01, N), RANDOM.integers(0, 2, (N, 3))]
).astype(np.float32)
EVENT = np.column_stack([RANDOM.normal(-3, 0.1, 60), RANDOM.integers(0, 2, 60)]).astype(np.float32)
JAGGED = JaggedInputs({"T": COUNTS}, {"T": TRACKS}, EVENT)
WEIGHTS = RANDOM.normal(1, 1, 60)  # some negative


def compute(scale, weights=None, jagged=JAGGED):
    features = ["pt", "d0", "onehot(q, 0, 1)", "eta > 0 && pt > 1"]
    collections = {"T": Collection(features=features, scale=scale)}
    inputs = Inputs(collections=collections, event=["z", "n == 1"], scale=scale)
    tracks, event = scalings(inputs, [(jagged, weights)])
    return tracks["T"], event


def quantile(values, share, weights):
    """Return the smallest value below or at which lies at least this share of the weight."""
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return values[order][np.argmax(below >= share * below[-1])]


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
def test_standard_is_like_numpy_by_hand(weights):
    of_event = np.ones(60) if weights is None else np.abs(weights)
    of_track = np.repeat(of_event, COUNTS)
    for found, matrix, w in zip(
        compute("standard", weights), (TRACKS, EVENT), (of_track, of_event), strict=True
    ):
        for i in range(2 if matrix is TRACKS else 1):
            x = matrix[:, i].astype(np.float64)
            mean = np.sum(w * x) / np.sum(w)
            width = np.sqrt(np.sum(w * (x - mean) ** 2) / np.sum(w))
            assert found.shift[i] == pytest.approx(mean, rel=1e-6)
            assert found.scale[i] == pytest.approx(1 / width, rel=1e-6)


def test_standardised_features_have_mean_0_and_width_1():
    found, _ = compute("standard")
    seen = (TRACKS.astype(np.float64) - found.shift) * found.scale
    np.testing.assert_allclose(seen[:, :2].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(seen[:, :2].std(axis=0), 1, rtol=1e-5)


def test_quantile_is_like_numpy_by_hand():
    found, event = compute("quantile")
    for each, values in ((found, TRACKS[:, 1]), (event, EVENT[:, 0])):
        i = 1 if each is found else 0
        low, median, high = np.percentile(values, [16, 50, 84])
        assert each.shift[i] == pytest.approx(median, rel=1e-6)
        assert each.scale[i] == pytest.approx(2 / (high - low), rel=1e-5)


def test_quantile_with_weights():
    found, _ = compute("quantile", WEIGHTS)
    weights = np.repeat(np.abs(WEIGHTS), COUNTS)
    low, median, high = (quantile(TRACKS[:, 1], share, weights) for share in (0.16, 0.5, 0.84))
    assert found.shift[1] == pytest.approx(median, rel=1e-6)
    assert found.scale[1] == pytest.approx(2 / (high - low), rel=1e-5)


def test_quantiles_of_very_many_tracks_use_every_nth(monkeypatch):
    monkeypatch.setattr(scaling, "_SAMPLE", N // 3)
    for weights in (None, np.ones(60)):
        found, _ = compute("quantile", weights)
        assert found.shift[0] == pytest.approx(np.median(TRACKS[::4, 0]), rel=1e-2)


@pytest.mark.parametrize("scale", ["standard", "quantile", "none"])
def test_flags_and_onehots_are_left_alone(scale):
    found, event = compute(scale, WEIGHTS)
    assert found.shift[2:].tolist() == [0] * 3
    assert found.scale[2:].tolist() == [1] * 3
    assert (event.shift[1], event.scale[1]) == (0, 1)
    assert all(each.dtype == np.float32 for each in (found.shift, found.scale))


def is_identity(found):
    expected = Scaling.identity(len(found.shift))
    return (found.shift == expected.shift).all() and (found.scale == expected.scale).all()


def test_none_changes_nothing():
    assert all(map(is_identity, compute("none")))


@pytest.mark.parametrize("scale", ["standard", "quantile"])
@pytest.mark.parametrize("value", [0.0, 5.0, 1e8, -3e-20])
def test_a_constant_feature_is_only_shifted(scale, value):
    tracks = TRACKS.copy()
    tracks[:, 0] = value
    found, _ = compute(scale, None, JaggedInputs({"T": COUNTS}, {"T": tracks}, EVENT))
    assert found.shift[0] == np.float32(value)
    assert found.scale[0] == 1


@pytest.mark.parametrize("scale", ["standard", "quantile"])
def test_the_rounding_of_a_constant_is_not_blown_up(scale):
    tracks = TRACKS.copy()
    tracks[:, 0] = 1e8 + 8 * (np.arange(N) % 2)  # neighbours in float32
    found, _ = compute(scale, None, JaggedInputs({"T": COUNTS}, {"T": tracks}, EVENT))
    assert found.scale[0] == 1


@pytest.mark.parametrize("scale", ["standard", "quantile"])
def test_no_tracks_no_events_and_no_weight(scale):
    empty = np.zeros((0, 5), np.float32)
    tracks, event = compute(scale, None, JaggedInputs({"T": 0 * COUNTS}, {"T": empty}, EVENT))
    assert is_identity(tracks)
    assert not is_identity(event)
    nothing = JaggedInputs({"T": COUNTS[:0]}, {"T": empty}, EVENT[:0])
    assert all(map(is_identity, compute(scale, None, nothing)))
    assert all(map(is_identity, compute(scale, np.zeros(60))))


@given(st.floats(0.001, 1000), st.sampled_from(["standard", "quantile"]))
def test_only_relative_weights_matter_and_not_their_sign(factor, scale):
    for one, other in zip(
        compute(scale, WEIGHTS), compute(scale, np.abs(WEIGHTS) * -factor), strict=True
    ):
        np.testing.assert_allclose(one.shift, other.shift, rtol=1e-2)
        np.testing.assert_allclose(one.scale, other.scale, rtol=1e-2)


def test_events_without_weight_do_not_count():
    weights = np.r_[np.ones(30), np.zeros(30)]
    for scale in ("standard", "quantile"):
        half = compute(scale, np.ones(30), JAGGED.slice(0, 30))
        for one, other in zip(compute(scale, weights), half, strict=True):
            np.testing.assert_allclose(one.shift, other.shift, rtol=1e-6)
            np.testing.assert_allclose(one.scale, other.scale, rtol=1e-6)


def parts_of(n_part):
    edges = np.linspace(0, 60, n_part + 1).astype(int)
    return [(JAGGED.slice(a, b), WEIGHTS[a:b]) for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("n_part", [2, 7, 60])
def test_parts_are_like_one(n_part):
    for scale in ("standard", "quantile"):
        inputs = Inputs(collections={"T": Collection(features=list("abcde"), scale=scale)})
        jagged = [(replace(each, event=each.event[:, :0]), w) for each, w in parts_of(n_part)]
        found, _ = scalings(inputs, jagged)
        expected, _ = scalings(inputs, [(replace(JAGGED, event=EVENT[:, :0]), WEIGHTS)])
        exact = 1e-6 if scale == "standard" else 0
        np.testing.assert_allclose(found["T"].shift, expected["T"].shift, rtol=exact)
        np.testing.assert_allclose(found["T"].scale, expected["T"].scale, rtol=exact)


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 30))
def test_every_nth_row_whatever_the_parts(lengths, most):
    values = np.arange(sum(lengths), dtype=np.float64)[:, None]
    edges = np.cumsum([0, *lengths])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling, "_SAMPLE", most)
        quantiles = scaling._Quantiles(1, [0])
        for a, b in itertools.pairwise(edges):
            quantiles.add(values[a:b].astype(np.float32), values[a:b, 0])
    np.testing.assert_array_equal(quantiles.rows, values[:: quantiles.step])
    np.testing.assert_array_equal(quantiles.weights, values[:: quantiles.step, 0])
    assert len(quantiles.rows) <= most
    assert quantiles.step == 1 or 2 * len(quantiles.rows) >= most


@pytest.mark.parametrize("chunk", [1, 7, 1000, 5000])
@pytest.mark.parametrize("weighted", [False, True])
def test_moments_do_not_depend_on_the_chunks_of_the_pass(monkeypatch, chunk, weighted):
    random = np.random.default_rng(5)
    values = random.normal(1e4, 0.5, 3000).astype(np.float32)  # a mean far above the spread
    weights = random.integers(0, 3, 3000).astype(np.float64) if weighted else None
    monkeypatch.setattr(scaling, "_CHUNK", chunk)
    wide = values.astype(np.float64)
    mean = np.average(wide, weights=weights)
    spread = np.sqrt(np.average((wide - mean) ** 2, weights=weights))
    moments = scaling._Moments(1, [0])
    moments.add(values[:, None], weights)
    found = [float(each[0]) for each in moments._result()]
    np.testing.assert_allclose(found, (mean, spread), rtol=1e-9)
