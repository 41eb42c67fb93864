import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracksets.errors import DataError
from tracksets.functions import (
    FUNCTIONS,
    REDUCTIONS,
    common_axis,
    element,
    elementwise,
    holding,
    onehot,
    reduce,
)
from tracksets.jagged import Axis, Column

COUNTS = np.array([2, 0, 3, 1, 0])
AXIS = Axis(COUNTS)
TRACKS = Column(np.array([1.5, -2, 0.25, 4, -0.5, 3], np.float32), AXIS)
EVENTS = Column(np.array([10, 20, 30, 40, 50]))
PAIRS = Column(np.arange(12.0).reshape(6, 2), AXIS)
X = np.linspace(-1.5, 3, 9)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        *((name, getattr(math, name)) for name in ["exp", "expm1", "sin", "cos", "tan", "sinh", "cosh", "tanh"]),
        *((name, getattr(math, name)) for name in ["atan", "asinh", "fabs", "floor", "ceil", "cbrt"]
          if hasattr(math, name)),
        ("abs", abs), ("round", round), ("sign", lambda x: (x > 0) - (x < 0)),
        ("log", lambda x: math.log(x) if x > 0 else math.nan),
        ("log1p", lambda x: math.log1p(x) if x > -1 else math.nan),
        ("log10", lambda x: math.log10(x) if x > 0 else math.nan),
        ("log2", lambda x: math.log2(x) if x > 0 else math.nan),
        ("sqrt", lambda x: math.sqrt(x) if x >= 0 else math.nan),
        ("asin", lambda x: math.asin(x) if abs(x) <= 1 else math.nan),
        ("acos", lambda x: math.acos(x) if abs(x) <= 1 else math.nan),
        ("acosh", lambda x: math.acosh(x) if x >= 1 else math.nan),
        ("atanh", lambda x: math.atanh(x) if abs(x) < 1 else math.nan),
        ("isnan", math.isnan), ("isfinite", math.isfinite),
    ],
)  # fmt: skip
def test_functions_of_one_number(name, oracle):
    x = X[X != 0] if name.startswith("log") else X
    function, fewest, most = FUNCTIONS[name]
    assert (fewest, most) == (1, 1)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(function(x), [oracle(each) for each in x.tolist()])
    for other in (f"arc{name[1:]}", name):  # NumPy's name of asin, acos ... does the same
        assert FUNCTIONS.get(other, FUNCTIONS[name])[0] is function


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("atan2", (1, -1), math.atan2(1, -1)),
        ("arctan2", (1, -1), math.atan2(1, -1)),
        ("hypot", (3, 4), 5),
        ("pow", (2, -1), 0.5),
        ("pow", (2, 10), 1024),
        ("min", (3, 1, 2), 1),
        ("max", (3, 1, 5, 2), 5),
        ("clip", (7, 0, 5), 5),
        ("clip", (-7, 0, 5), 0),
        ("where", (0, 1, 2), 2),
        ("where", (0.5, 1, 2), 1),
        ("deltaphi", (3, -3), 6 - 2 * math.pi),
        ("deltaphi", (1, 0.5), 0.5),
        ("deltaphi", (0, math.pi), -math.pi),
        ("deltaR", (1, 3, 2, -3), math.hypot(1, 6 - 2 * math.pi)),
    ],
)
def test_functions_of_several_numbers(name, arguments, expected):
    result = elementwise(FUNCTIONS[name][0], *arguments)
    assert isinstance(result, (int, float))
    assert result == pytest.approx(expected)


def test_an_events_number_meets_each_of_its_tracks():
    result = elementwise(np.add, EVENTS, TRACKS)
    assert result.axis is AXIS
    assert result.values.tolist() == [11.5, 8, 30.25, 34, 29.5, 43]


def test_events_meet_events():
    result = elementwise(np.multiply, EVENTS, EVENTS)
    assert result.axis is None
    assert result.values.tolist() == [100, 400, 900, 1600, 2500]


def test_a_number_per_track_meets_each_element_of_a_vector():
    both = Column(TRACKS.values[:2], Axis(np.array([2])))  # 2 tracks of 2 elements: no mix-up
    pairs = Column(np.array([[1, 10], [100, 1000]]), both.axis)
    assert elementwise(np.multiply, pairs, both).values.tolist() == [[1.5, 15], [-200, -2000]]
    assert elementwise(np.add, PAIRS, EVENTS).values[2].tolist() == [34, 35]


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (np.add, 2, [0, 2]),
        (np.negative, 1, [0, -1]),
        (np.subtract, 2, [0, 0]),
        (np.exp, 1, [1.0, math.e]),
        (np.sign, 1, [0, 1]),
        (np.hypot, 2, [0, math.sqrt(2)]),
    ],
)
def test_true_and_false_count_as_1_and_0(function, arguments, expected):
    flags = Column(np.array([False, True]))
    result = elementwise(function, *[flags] * arguments).values
    np.testing.assert_allclose(result, expected, rtol=1e-14)
    assert elementwise(function, *[True] * arguments) == pytest.approx(expected[1], rel=1e-14)


def test_logic_keeps_bools():
    flags = Column(np.array([False, True]))
    for function in (np.logical_and, np.logical_or, np.bitwise_and, np.bitwise_or):
        assert elementwise(function, flags, flags).values.dtype == bool


def test_float32_stays_float32_and_nothing_is_warned_about():
    for function, other in ((np.multiply, 2.5), (np.divide, 0), (np.multiply, 1e300)):
        assert elementwise(function, TRACKS, other).values.dtype == np.float32


def test_unequal_counts_name_the_event():
    other = Axis(np.array([2, 0, 2, 2, 0]))
    with pytest.raises(DataError, match=r"unequal counts.* 3 and 2 in event 2"):
        elementwise(np.add, TRACKS, Column(np.zeros(6), other))
    with pytest.raises(DataError, match="5 and 1 events"):
        common_axis(AXIS, Axis(np.array([6])))
    with pytest.raises(DataError, match="2 and 5 events"):
        elementwise(np.add, TRACKS, Column(np.zeros(2)))


ORACLES = {
    "sum": sum,
    "count": len,
    "any": any,
    "all": all,
    "mean": lambda x: sum(x) / len(x) if x else math.nan,
    "min": lambda x: min(x, default=math.nan),
    "max": lambda x: max(x, default=math.nan),
}


def test_every_reduction_has_an_oracle():
    assert set(ORACLES) == set(REDUCTIONS)


@pytest.mark.parametrize("name", REDUCTIONS)
@given(events=st.lists(st.lists(st.integers(-3, 3), max_size=4), max_size=5), data=st.data())
def test_reductions_are_like_a_loop_over_events(name, events, data):
    dtype = data.draw(st.sampled_from(["?", "i8", "f4", "f8"]))
    axis = Axis(np.array([len(each) for each in events], np.int64))
    flat = np.array([x for each in events for x in each]).astype(dtype)
    loop = np.split(flat, axis.offsets[1:-1]) if events else []
    result = reduce(name, Column(flat, axis))
    assert result.axis is None
    expected = [ORACLES[name](each.astype("f8").tolist()) for each in loop]
    np.testing.assert_allclose(result.values, expected, rtol=1e-6)
    if name in ("any", "all"):
        assert result.values.dtype == bool
    if name != "count":
        vectors = reduce(name, Column(np.column_stack([flat, flat]), axis)).values
        np.testing.assert_array_equal(vectors, np.column_stack([result.values] * 2))


def test_sums_are_accumulated_in_double_precision():
    values = np.array([1e8, 1, -1e8], np.float32)
    assert reduce("sum", Column(values, Axis(np.array([3])))).values == [1]


@pytest.mark.parametrize("value", [EVENTS, 1, True])
def test_nothing_to_reduce(value):
    with pytest.raises(DataError, match=r"sum\(x\) of one value"):
        reduce("sum", value)


@pytest.mark.parametrize("index", [0, 1, 2, 3, -1, -3, -4, 2**62, -(2**62)])
def test_element_is_like_a_loop_over_events(index):
    for default in (math.nan, -1):
        result = element(TRACKS, index, default)
        lists = [each.tolist() for each in np.split(TRACKS.values, AXIS.offsets[1:-1])]
        expected = [x[index] if -len(x) <= index < len(x) else default for x in lists]
        np.testing.assert_array_equal(result.values, expected)
        assert result.axis is None
        assert result.values.dtype == np.float32


def test_element_of_a_vector_is_one_number_per_track():
    for index in (0, 1, -1, -2):
        result = element(PAIRS, index, math.nan)
        assert result.axis is AXIS
        assert result.values.tolist() == PAIRS.values[:, index].tolist()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3.0, "a constant has no elements"),
        (EVENTS, r"element \[2\] of a branch with one number per event"),
        (PAIRS, r"element \[2\] of a branch with 2 elements"),
    ],
)
def test_no_such_element(value, message):
    with pytest.raises(DataError, match=message):
        element(value, 2, math.nan)


@pytest.mark.parametrize(
    ("kind", "number", "expected"),
    [("f4", math.nan, "f4"), ("i8", 1, "i8"), ("i8", math.nan, "f8"), ("?", -1, "i8")],
)
def test_holding(kind, number, expected):
    assert holding(np.zeros(1, kind), number) == expected


def test_onehot():
    result = onehot(Column(np.array([-1, 1, 0, 2, 1, -1]), AXIS), [-1, 1, 2.0])
    assert result.axis is AXIS
    assert result.values.dtype == np.float32
    assert result.values.astype(int).tolist() == [
        [1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]
    ]  # fmt: skip
    with pytest.raises(DataError, match="not a constant"):
        onehot(1, [1])
    with pytest.raises(DataError, match="2 numbers at once"):
        onehot(PAIRS, [1])
