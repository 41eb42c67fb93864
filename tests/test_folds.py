import awkward as ak
import numpy as np
import pytest

from tracksets.errors import DataError
from tracksets.features import event_values
from tracksets.fields import Columns
from tracksets.folds import Folds, whole_numbers

BIG = 2**60 + np.arange(12)


@pytest.mark.parametrize(
    ("text", "event", "expected"),
    [
        ("event % 5", BIG, [int(each) % 5 for each in BIG]),
        ("event % 5", BIG.astype(np.uint64), [int(each) % 5 for each in BIG]),
        ("event & 3", BIG, [int(each) & 3 for each in BIG]),
        ("event < 4", np.arange(12), [1] * 4 + [0] * 8),
        ("run > 0 ? event % 2 : -1", np.arange(12), [-1, 1] * 6),
        ("event / 2 * 2", np.arange(12), list(range(12))),
    ],
)
def test_folds_of_events(text, event, expected):
    """Exact for numbers that neither float32 nor float64 can hold."""
    events = ak.Array({"event": event, "run": np.arange(12) % 2})
    found = whole_numbers(event_values(text, Columns(events)), text)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf, -np.inf, 2.0**60])
def test_not_a_whole_number(bad):
    with pytest.raises(DataError, match=r"'x' gives .* where a whole number is needed"):
        whole_numbers(np.array([1.0, bad, 2.0]), "x")


def test_folds_of_a_training():
    folds, numbers = Folds.of("x", np.array([7, 0, 3, 3], np.int8))
    assert (folds.expression, folds.values) == ("x", (0, 3, 7))
    assert numbers.tolist() == [7, 0, 3, 3]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 1, 1], r"gives 1 different number\(s\).*2 to 100"),
        (range(101), "gives 101 different"),
        ([], "gives 0 different"),
        ([0, 1, -1], "gives -1 for a training event"),
        ([0, 1, 0.5], "whole number"),
    ],
)
def test_folds_that_cannot_be_meant(values, message):
    with pytest.raises(DataError, match=message):
        Folds.of("event % 5", np.asarray(values))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("event %", "event %"),
        ("onehot(event, 0, 1)", "several numbers"),
        ("3", "names no branch"),
    ],
)
def test_expressions_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Folds(expression=text, values=(0, 1))
