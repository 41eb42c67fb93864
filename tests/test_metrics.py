import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from tracksets.errors import DataError
from tracksets.metrics import Roc, bootstrap, mean_auc, roc, roc_auc


def random_case(seed, negative=0.0, ties=True):
    random = np.random.default_rng(seed)
    n = int(random.integers(20, 200))
    truth = np.concatenate([[0, 1], random.integers(0, 2, n)])
    scores = random.normal(size=n + 2) + truth
    scores = scores.round(1) if ties else scores
    signs = np.where(random.random(n + 2) < negative, -1, 1)
    signs[:2] = 1
    return truth, scores.astype(np.float32), random.exponential(size=n + 2) * signs


def pair_sum(truth, scores, weights):
    """Weighted fraction of pairs in the right order, ties counted half; the definition."""
    total = right = 0.0
    for s, w in zip(scores[truth == 1], weights[truth == 1], strict=True):
        for b, v in zip(scores[truth == 0], weights[truth == 0], strict=True):
            total += w * v
            right += w * v * (1.0 if s > b else 0.5 if s == b else 0.0)
    return right / total


@pytest.mark.parametrize("ties", [False, True])
@given(seed=st.integers(0, 10**6))
def test_like_scikit_learn(ties, seed):
    truth, scores, weights = random_case(seed, ties=ties)
    assert roc_auc(truth, scores, weights) == pytest.approx(
        roc_auc_score(truth, scores, sample_weight=weights)
    )
    assert roc_auc(truth, scores) == pytest.approx(roc_auc_score(truth, scores))
    curve = roc(truth, scores, weights)
    background, signal, threshold = roc_curve(
        truth, scores, sample_weight=weights, drop_intermediate=False
    )
    np.testing.assert_allclose(curve.signal, signal, atol=1e-12)
    np.testing.assert_allclose(curve.background, background, atol=1e-12)
    np.testing.assert_array_equal(curve.threshold, threshold)


@given(st.integers(0, 10**6))
def test_weights_of_any_sign(seed):
    truth, scores, weights = random_case(seed, negative=0.2)
    sums = [abs(weights[truth == each].sum()) for each in (0, 1)]
    if min(sums) > 0.1:
        expected = pair_sum(truth, scores, weights)
        assert roc_auc(truth, scores, weights) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_cancelling_pairs_change_nothing():
    truth, scores, weights = random_case(3)
    extra = np.array([0.3, 0.3, 1.1, 1.1, 9, 9])
    signs = np.array([1, -1, 2, -2, 5, -5])
    with_pairs = roc_auc(
        np.concatenate([truth, [0, 0, 1, 1, 1, 1]]),
        np.concatenate([scores, extra]),
        np.concatenate([weights, signs]),
    )
    assert with_pairs == pytest.approx(roc_auc(truth, scores, weights))


def test_curve_by_hand():
    curve = roc([1, 0, 1, 0], [0.9, 0.5, 0.5, 0.1], [1, 1, 3, 1])
    np.testing.assert_allclose(curve.threshold, [np.inf, 0.9, 0.5, 0.1])
    np.testing.assert_allclose(curve.signal, [0, 0.25, 1, 1])
    np.testing.assert_allclose(curve.background, [0, 0, 0.5, 1])
    assert curve.auc == pytest.approx((0.25 + 1) / 2 * 0.5 + 0.5)


@pytest.mark.parametrize(
    ("truth", "scores", "weights", "message"),
    [
        ([0, 1], [0.1], None, "2,.*1,"),
        ([0, 1], [0.1, 0.2], [1], "1,"),
        ([[0, 1]], [[0.1, 0.2]], [[1, 1]], "truths"),
        ([0, 1], [0.1, np.nan], None, "finite"),
        ([0, 1], [0.1, 0.2], [1, np.inf], "finite"),
        ([0, 2], [0.1, 0.2], None, "0 or 1"),
        ([0, np.nan], [0.1, 0.2], None, "0 or 1"),
        ([0, 0], [0.1, 0.2], None, "signal events sum to zero"),
        ([1, 1], [0.1, 0.2], None, "background events sum to zero"),
        ([1, 1, 0], [0.1, 0.2, 0.3], [2, -2, 1], "signal events sum to zero"),
        ([], [], None, "or there are none"),
    ],
)
def test_refused(truth, scores, weights, message):
    with pytest.raises(DataError, match=message):
        roc(truth, scores, weights)


def test_mean_auc():
    random = np.random.default_rng(0)
    classes, weights = random.integers(0, 3, 200), random.exponential(size=200)
    scores = random.random((200, 3)) + np.eye(3)[classes]
    areas = [roc_auc(classes == i, scores[:, i], weights) for i in range(3)]
    assert mean_auc(classes, scores, weights) == pytest.approx(np.mean(areas))
    two = classes[classes < 2]
    one = scores[classes < 2, 1:2]
    w = weights[classes < 2]
    assert mean_auc(two, one, w) == roc_auc(two, one[:, 0], w)
    assert mean_auc(np.zeros(len(two)), one, w) is None
    assert mean_auc(np.ones(len(two)), one, w) is None


def negative_case(n=20_000, a=2.0, b=0.5, c=0.4):
    """Signal density a on [0, 1] minus b / c on [0, c]; background uniform on [0, 1]."""
    x = (np.arange(n) + 0.5) / n
    truth = np.repeat([1, 1, 0], n)
    return truth, np.concatenate([x, c * x, x]), np.repeat([a, -b, 1.0], n)


def test_negative_weights_in_closed_form():
    a, b, c = 2.0, 0.5, 0.4
    curve = roc(*negative_case())
    assert curve.auc == pytest.approx((a / 2 - b * c / 2) / (a - b), abs=1e-4)
    # Above c there are no negative weights: efficiency a (1 - t) / (a - b).
    efficiencies = [0.1, 0.3, 0.5]
    expected = np.array(efficiencies) * (a - b) / a
    np.testing.assert_allclose(curve.background_at(efficiencies), expected, atol=1e-4)
    np.testing.assert_allclose(curve.rejection(efficiencies), 1 / expected, rtol=1e-3)
    assert curve.rejection([1.0])[0] == pytest.approx(1, abs=0.3)  # reached before all are kept


@given(seed=st.integers(0, 10**6))
def test_rejection_like_an_interpolation(seed):
    truth, scores, weights = random_case(seed)
    background, signal, _ = roc_curve(truth, scores, sample_weight=weights)
    curve, wanted = roc(truth, scores, weights), [0.05, 0.3, 0.5, 0.7, 1.0]
    unique, first = np.unique(signal, return_index=True)
    expected = [background[first[np.searchsorted(unique, each - 1e-12)]] for each in wanted]
    found = curve.background_at(wanted)
    assert (found <= np.array(expected) + 1e-12).all()
    at = first[len(first) // 2]
    assert curve.background_at([signal[at]])[0] == pytest.approx(background[at])


def test_an_efficiency_that_is_reached_but_for_rounding():
    below = 0.3 - 2**-54
    curve = Roc(np.arange(4.0)[::-1], np.array([0, below, below, 1]), np.array([0, 0.1, 0.6, 1]))
    assert below < 0.3
    assert curve.background_at([0.3])[0] == pytest.approx(0.1)


def test_nothing_is_kept_of_the_background():
    curve = roc([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    np.testing.assert_array_equal(curve.rejection([0.5, 1.0]), np.inf)


def test_bootstrap_like_the_closed_form():
    """DeLong, DeLong, Clarke-Pearson, Biometrics 44 (1988) 837, the variance without weights."""
    random = np.random.default_rng(3)
    truth = np.repeat([0, 1], [700, 400])
    scores = random.normal(size=1100) + truth
    above = (scores[truth == 1][:, None] > scores[truth == 0][None, :]).astype(float)
    variance = above.mean(axis=1).var(ddof=1) / 400 + above.mean(axis=0).var(ddof=1) / 700
    areas = bootstrap(truth, scores, None, lambda curve: curve.auc, replicas=1000)[:, 0]
    assert areas.std() == pytest.approx(np.sqrt(variance), rel=0.1)
    assert areas.mean() == pytest.approx(roc_auc(truth, scores), abs=3 * np.sqrt(variance / 1000))
    again = bootstrap(truth, scores, None, lambda curve: curve.auc, replicas=1000)[:, 0]
    np.testing.assert_array_equal(areas, again)


def test_bootstrap_with_negative_weights_is_the_spread_of_samples():
    random = np.random.default_rng(5)

    def sample(n=1500):
        truth = random.integers(0, 2, n)
        scores = random.normal(size=n) + truth
        return truth, scores, random.choice([1.0, 1.0, 1.0, -1.0], n)

    spread = np.std([roc_auc(*sample()) for _ in range(400)])
    found = [bootstrap(*sample(), lambda curve: curve.auc, 100).std() for _ in range(10)]
    assert np.mean(found) == pytest.approx(spread, rel=0.15)


def test_what_rounding_leaves_is_zero():
    weights = [1.0, 0.1, 0.2, -0.3]
    assert sum(weights[1:]) != 0
    with pytest.raises(DataError, match="signal events sum to zero"):
        roc([0, 1, 1, 1], [0.1, 0.2, 0.3, 0.4], weights)
    assert mean_auc([0, 1, 1, 1], np.ones((4, 1)), weights) is None
