"""The functions that expressions may call: columns in, a column out.

Values are plain numbers, or `Column`s with one value per event or per track. Where both meet, the
event's value is repeated for its tracks.
"""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracksets.errors import DataError
from tracksets.jagged import Axis, Column

__all__ = (
    "CONSTANTS",
    "FUNCTIONS",
    "REDUCTIONS",
    "Value",
    "common_axis",
    "element",
    "elementwise",
    "holding",
    "onehot",
    "reduce",
)

Value = Column | bool | int | float
"""What an expression can evaluate to."""

CONSTANTS = MappingProxyType({"pi": np.pi, "inf": np.inf, "nan": np.nan})


_LOGIC = (np.logical_and, np.logical_or, np.logical_not, np.bitwise_and, np.bitwise_or)


def elementwise(function: Callable[..., Any], *arguments: Value) -> Value:
    """Apply a NumPy function to numbers and columns, repeating events' values for their tracks.

    A number per track meets every element of a short vector per track. Everywhere but in logic,
    true and false count as 1 and 0, as in ROOT: NumPy's sum of two bools is a bool, and its
    exponential of one is in half precision.

    Raises
    ------
    DataError
        If two columns have different numbers of tracks in an event.
    """
    axis = None
    for each in arguments:
        if isinstance(each, Column) and each.axis is not None:
            axis = common_axis(axis, each.axis)
    plain: list[Any] = [
        _repeated(each, axis) if isinstance(each, Column) else each for each in arguments
    ]
    if function not in _LOGIC:
        plain = [_number(each) for each in plain]
    if any(np.ndim(each) > 1 for each in plain):
        plain = [each[:, None] if np.ndim(each) == 1 else each for each in plain]
    with np.errstate(all="ignore"):  # NaN and infinity are reported later, with their event
        result = np.asarray(function(*plain))
    if any(isinstance(each, Column) for each in arguments):
        return Column(result, axis)
    number: bool | int | float = result.item()
    return number


def _number(value: Any) -> Any:
    """Turn true and false into 1 and 0."""
    if isinstance(value, np.ndarray):
        return value.astype(np.int64) if value.dtype == bool else value
    return int(value) if isinstance(value, bool) else value


def common_axis(one: Axis | None, other: Axis) -> Axis:
    """Return the axis that two columns share.

    Raises
    ------
    DataError
        If they have different numbers of tracks in an event.
    """
    if one is None or one.same_as(other):
        return other
    if len(one.counts) != len(other.counts):
        raise DataError(f"{len(one.counts)} and {len(other.counts)} events in one expression")
    first = int(np.flatnonzero(one.counts != other.counts)[0])
    raise DataError(
        "unequal counts: two branches of one expression or collection have different numbers of "
        f"tracks, {one.counts[first]} and {other.counts[first]} in event {first}"
    )


def _repeated(each: Column, axis: Axis | None) -> NDArray[Any]:
    if axis is None or each.axis is not None:
        return each.values
    if len(each.values) != len(axis.counts):
        raise DataError(f"{len(each.values)} and {len(axis.counts)} events in one expression")
    return np.repeat(each.values, axis.counts, axis=0)


def reduce(name: str, each: Value) -> Value:
    """Reduce a jagged column to one value per event; events without tracks give NaN, or 0.

    `sum`, `count`, `any` and `all` of no tracks are 0, 0, false and true; `mean`, `min` and `max`
    are NaN.

    Raises
    ------
    DataError
        If there are no tracks to reduce over: the value is one number per event already.
    """
    if not isinstance(each, Column) or each.axis is None:
        raise DataError(f"{name}(x) of one value reduces over tracks, but x has one per event")
    with np.errstate(all="ignore"):  # as above
        return Column(REDUCTIONS[name](each.values, each.axis))


def holding(values: NDArray[Any], other: float) -> np.dtype[Any]:
    """Return the dtype that holds `values` and the number `other`; float32 stays float32."""
    return values.dtype if values.dtype.kind == "f" else np.result_type(values, type(other))


def _segments(ufunc: np.ufunc, values: NDArray[Any], axis: Axis, empty: Any) -> NDArray[Any]:
    # reduceat gives the wrong answer for empty segments, so it only sees the others.
    shape = (len(axis.counts), *values.shape[1:])
    result = np.full(shape, empty, holding(values, empty))
    filled = axis.counts > 0
    if filled.any():
        result[filled] = ufunc.reduceat(values, axis.offsets[:-1][filled], axis=0)
    return result


def _sum(values: NDArray[Any], axis: Axis) -> NDArray[Any]:
    if values.dtype.kind in "bi":
        return _segments(np.add, values.astype(np.int64), axis, 0)
    # Accumulated in double precision, as rounding errors grow with the number of tracks.
    return _segments(np.add, values.astype(np.float64), axis, 0).astype(values.dtype)


def _mean(values: NDArray[Any], axis: Axis) -> NDArray[Any]:
    counts = axis.counts.reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray(_sum(values, axis) / counts)


REDUCTIONS: MappingProxyType[str, Callable[[NDArray[Any], Axis], NDArray[Any]]] = MappingProxyType(
    {
        "sum": _sum,
        "mean": _mean,
        "count": lambda _, axis: axis.counts,
        "min": lambda values, axis: _segments(np.minimum, values, axis, np.nan),
        "max": lambda values, axis: _segments(np.maximum, values, axis, np.nan),
        "any": lambda values, axis: _segments(np.logical_or, values.astype(bool), axis, False),
        "all": lambda values, axis: _segments(np.logical_and, values.astype(bool), axis, True),
    }
)


def _deltaphi(a: Any, b: Any) -> Any:
    """Difference of two azimuths [rad], in [-pi, pi)."""
    return (np.subtract(a, b) + np.pi) % (2 * np.pi) - np.pi


def _delta_r(eta1: Any, phi1: Any, eta2: Any, phi2: Any) -> Any:
    return np.hypot(np.subtract(eta1, eta2), _deltaphi(phi1, phi2))


def _clip(x: Any, low: Any, high: Any) -> Any:
    return np.minimum(np.maximum(x, low), high)


def _power(x: Any, y: Any) -> Any:
    # Integers to a negative integer power are an error in NumPy.
    return np.power(np.multiply(x, 1.0), y)


def _extremum(ufunc: np.ufunc) -> Callable[..., Any]:
    def function(first: Any, *others: Any) -> Any:
        for each in others:
            first = ufunc(first, each)
        return first

    return function


# name → (function, fewest arguments, most arguments)
FUNCTIONS: MappingProxyType[str, tuple[Callable[..., Any], int, int]] = MappingProxyType(
    {
        **{
            name: (getattr(np, name), 1, 1)
            for name in (
                *("log", "log1p", "log10", "log2", "exp", "expm1", "sqrt", "cbrt", "abs", "sign"),
                *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"),
                *("arcsinh", "arccosh", "arctanh", "floor", "ceil", "isnan", "isfinite"),
            )
        },
        "fabs": (np.abs, 1, 1),
        "asin": (np.arcsin, 1, 1),
        "acos": (np.arccos, 1, 1),
        "atan": (np.arctan, 1, 1),
        "asinh": (np.arcsinh, 1, 1),
        "acosh": (np.arccosh, 1, 1),
        "atanh": (np.arctanh, 1, 1),
        "round": (np.rint, 1, 1),
        "atan2": (np.arctan2, 2, 2),
        "arctan2": (np.arctan2, 2, 2),
        "hypot": (np.hypot, 2, 2),
        "pow": (_power, 2, 2),
        "min": (_extremum(np.minimum), 2, 99),
        "max": (_extremum(np.maximum), 2, 99),
        "clip": (_clip, 3, 3),
        "where": (np.where, 3, 3),
        "deltaphi": (_deltaphi, 2, 2),
        "deltaR": (_delta_r, 4, 4),
    }
)


def onehot(x: Value, codes: Sequence[int | float]) -> Value:
    """One feature per code: 1 where x equals the code, else 0; shape (n, n_code)."""
    if not isinstance(x, Column):
        raise DataError("onehot(x, ...) needs a branch, not a constant")
    if x.values.ndim > 1:
        raise DataError(f"onehot(x, ...) of {x.values.shape[1]} numbers at once: choose x[0] ...")
    return Column((x.values[:, None] == np.asarray(codes)).astype(np.float32), x.axis)


def element(value: Value, index: int, default: float) -> Value:
    """Element `index` of a short vector per track or, for one number per track, that track.

    Events with fewer tracks give the default; a negative index counts from the end.

    Raises
    ------
    DataError
        If there is nothing to choose from: a constant, one number per event, a vector too short.
    """
    if not isinstance(value, Column):
        raise DataError("a constant has no elements")
    values, axis = value.values, value.axis
    if values.ndim > 1:
        n = values.shape[1]
        if not -n <= index < n:
            raise DataError(f"element [{index}] of a branch with {n} elements")
        return Column(values[:, index], axis)
    if axis is None:
        raise DataError(f"element [{index}] of a branch with one number per event")
    there = (axis.counts > index) if index >= 0 else (axis.counts >= -index)
    first = axis.offsets[:-1] if index >= 0 else axis.offsets[1:]
    result = np.full(len(axis.counts), default, holding(values, default))
    result[there] = values[first[there] + index]
    return Column(result)
