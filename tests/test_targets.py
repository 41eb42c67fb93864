import awkward as ak
import numpy as np
import pytest
from helpers import BINARY, CLASSES
from scipy.special import expit, log_expit, log_softmax, softmax

from tracksets.errors import DataError
from tracksets.targets import Task, task_of

REGRESSION = Task(kind="regression", names=("x", "y"), shift=(10.0, -1.0), scale=(2.0, 0.5))
EXTREME = np.array([-1e4, -200, -88, -20, -1e-8, 0, 1e-8, 3, 20, 88, 1e4], np.float32)


@pytest.mark.parametrize(
    ("targets", "kind", "names", "outputs"),
    [
        ([0, 1, 1], "binary", ("background", "signal"), 1),
        ([False, True, True], "binary", ("background", "signal"), 1),
        ([0.0, 1.0, 1.0], "binary", ("background", "signal"), 1),
        ([[0], [1], [1]], "binary", ("background", "signal"), 1),
        ([2, 0, 1], "classes", ("0", "1", "2"), 3),
        (np.array([2, 0, 1], np.uint8), "classes", ("0", "1", "2"), 3),
        ([0.5, 1.0, 2.0], "regression", ("target",), 1),
        ([[0.5], [1.0], [2.0]], "regression", ("target",), 1),
        ([[0, 5], [1, 6], [1, 9]], "regression", ("target_0", "target_1"), 2),
        (ak.Array({"pt": [1.5, 2, 3], "n": [1, 2, 3]}), "regression", ("pt", "n"), 2),
        (ak.Array([0, 1, 1])[[2, 1, 0]], "binary", ("background", "signal"), 1),
    ],
)
def test_task(targets, kind, names, outputs):
    task, values = task_of(targets, 3)
    assert (task.kind, task.names, task.outputs) == (kind, names, outputs)
    assert task.score_names == (names if outputs > 1 else ())
    assert task.learnable(values).dtype == np.float32
    assert task.learnable(values).shape == (3, 2 if outputs == 2 else 1)
    assert Task.model_validate_json(task.model_dump_json()) == task


def test_names():
    assert task_of([0, 1], 2, ["light", "b"])[0].names == ("light", "b")
    assert task_of([0, 1, 2], 3, ["light", "c", "b"])[0].score_names == ("light", "c", "b")
    assert task_of([0.1, 1.5], 2, ["pt"])[0].names == ("pt",)


@pytest.mark.parametrize(
    ("targets", "names", "message"),
    [
        ([0, 1], (), "2 targets for 3 events"),
        ([], (), "0 targets for 3"),
        ([0, 1, None], (), "must be numbers"),
        (ak.Array([0, 1, None]), (), "one number per event"),
        (ak.Array({"x": [0, 1, None]}), (), "one number per event"),
        (ak.Array({"x": [[0.1], [], [1]]}), (), "one number per event"),
        (ak.Array([0, 1, "a"]), (), "one number per event"),
        (np.ma.array([0, 1, 0], mask=[0, 0, 1]), (), "missing"),
        ([[1.5], [], [1.0, 2.0]], (), "one number per event"),
        (["s", "b", "s"], (), "must be numbers"),
        (np.zeros((3, 2, 2)), (), "must be numbers of shape"),
        (np.zeros((3, 0)), (), "must be numbers of shape"),
        (1, (), "must be numbers of shape"),
        ([1j, 0, 1], (), "must be numbers"),
        ([0.5, np.nan, 1], (), "NaN"),
        ([0, 1, np.inf], (), "infinite"),
        ([-1, 0, 1], (), "start from 0, but -1"),
        ([0, 0, 0], (), r"\[1\] are missing"),
        ([1, 1, 1], (), r"\[0\] are missing"),
        ([0, 3, 1], (), r"\[2\] are missing"),
        ([0, 1, 1], ("a", "b", "c"), r"\[2\] are missing"),
        ([0, 1, 10**12], (), "meant for a regression"),
        ([0, 1, 2], ("a", "b"), "2 class names for 3 classes"),
        ([0, 1, 1], ("a", "a"), "names must differ"),
        ([0.5, 1, 2], ("a", "b"), "2 names for 1 targets"),
    ],
)
def test_refused(targets, names, message):
    with pytest.raises(DataError, match=message):
        task_of(targets, 3, names)


def test_no_events():
    with pytest.raises(DataError, match="no events"):
        task_of([], 0)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "binary", "names": ["a"]},
        {"kind": "binary", "names": ["a", "b", "c"]},
        {"kind": "classes", "names": ["a", "b"]},
        {"kind": "classes", "names": ["a", "b", "b"]},
        {"kind": "regression", "names": ["a"]},
        {"kind": "regression", "names": ["a"], "shift": [0], "scale": [0]},
        {"kind": "regression", "names": ["a"], "shift": [0, 1], "scale": [1]},
        {"kind": "binary", "names": ["a", "b"], "shift": [0], "scale": [1]},
    ],
)
def test_inconsistent_task(options):
    with pytest.raises(ValueError, match=options["kind"]):
        Task(**options)


def test_binary_link_and_loss():
    outputs = EXTREME[:, None]
    scores = BINARY.link(outputs)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expit(outputs.astype(np.float64)), rtol=1e-6, atol=1e-40)
    for truth, sign in ((0, -1), (1, 1)):
        losses = BINARY.losses(outputs, np.full_like(outputs, truth))
        expected = -log_expit(sign * EXTREME.astype(np.float64))
        np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-30)


def test_classes_link_and_loss():
    outputs = np.stack([EXTREME, np.zeros_like(EXTREME), EXTREME[::-1]], axis=1)
    scores = CLASSES.link(outputs)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(
        scores, softmax(outputs.astype(np.float64), axis=1), rtol=1e-6, atol=1e-40
    )
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-6)
    assert CLASSES.link(outputs[:0]).shape == (0, 3)
    for truth in range(3):
        losses = CLASSES.losses(outputs, np.full((len(outputs), 1), truth, np.float32))
        expected = -log_softmax(outputs.astype(np.float64), axis=1)[:, truth]
        np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_is_a_mixture_of_the_classes(smoothing):
    outputs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    for task, n in ((BINARY, 2), (CLASSES, 3)):
        columns = outputs[:, : task.outputs]

        def losses(truth, smoothing=0.0, task=task, columns=columns):
            targets = np.full((len(columns), 1), truth, np.float32)
            return np.asarray(task.losses(columns, targets, smoothing))

        even = sum(losses(i) for i in range(n)) / n
        for truth in range(n):
            expected = (1 - smoothing) * losses(truth) + smoothing * even
            np.testing.assert_allclose(losses(truth, smoothing), expected, rtol=1e-5)


def test_regression_link_and_loss():
    targets = np.array([[12.0, -1.0], [4.0, 0.0]])
    learnable = REGRESSION.learnable(targets)
    np.testing.assert_allclose(learnable, [[1, 0], [-3, 2]], rtol=1e-6)
    np.testing.assert_allclose(REGRESSION.link(learnable), targets, rtol=1e-6)
    np.testing.assert_allclose(REGRESSION.losses(learnable, learnable + np.float32([1, 2])), 2.5)


def test_regression_is_standardised():
    targets = np.random.default_rng(0).normal(1e5, 7, (500, 1))
    task, values = task_of(targets, 500)
    learnable = task.learnable(values)
    np.testing.assert_allclose([learnable.mean(), learnable.std()], [0, 1], atol=1e-5)
    assert task_of([3.5, 3.5], 2)[0].scale == (1.0,)  # nothing to learn, but nothing to divide by
