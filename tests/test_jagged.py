import datetime as dt

import awkward as ak
import hypothesis_awkward.strategies as st_ak
import numpy as np
import pytest
from awkward.contents import (
    BitMaskedArray,
    ByteMaskedArray,
    EmptyArray,
    IndexedArray,
    IndexedOptionArray,
    ListArray,
    ListOffsetArray,
    NumpyArray,
    RecordArray,
    RegularArray,
    UnmaskedArray,
)
from awkward.index import Index8, Index32, Index64, IndexU8, IndexU32
from hypothesis import given
from hypothesis import strategies as st

from tracksets.errors import DataError
from tracksets.jagged import LARGEST_EXACT, Axis, column, float32, per_event

LISTS = [[1.0, 2.0], [], [3.0, 4.0, 5.0], [6.0], [], [7.0, 8.0]]
PLAIN = ak.Array(LISTS)
FLAT = np.arange(1.0, 9.0)
OFFSETS = np.array([0, 2, 2, 5, 6, 6, 8])
RANDOM = np.random.default_rng(1)


def lists(content, offsets=OFFSETS, index=Index64):
    return ak.Array(ListOffsetArray(index(np.asarray(offsets)), content))


def same(array, expected):
    """Whether a column has the counts and values of the plain lists `expected`."""
    found = column(array)
    assert found.axis is not None
    assert found.axis.counts.dtype == np.int64
    assert found.axis.counts.tolist() == [len(each) for each in expected]
    assert found.values.tolist() == [x for each in expected for x in each]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda a: a, id="as is"),
        pytest.param(lambda a: a[2:5], id="slice"),
        pytest.param(lambda a: a[1::2], id="step"),
        pytest.param(lambda a: a[::-1], id="reversed"),
        pytest.param(lambda a: a[[3, 0, 5, 2, 2]], id="permuted"),
        pytest.param(lambda a: a[ak.num(a) > 1], id="masked events"),
        pytest.param(lambda a: a[a > 2.5], id="masked tracks"),
        pytest.param(lambda a: a[ak.argsort(a, ascending=False)], id="argsort"),
        pytest.param(lambda a: a[:, :1], id="first track"),
        pytest.param(lambda a: a[:, ::-1], id="tracks reversed"),
        pytest.param(lambda a: a[:0], id="no events"),
        pytest.param(lambda a: a[[1, 4]], id="all empty"),
        pytest.param(lambda a: ak.concatenate([a, a[::-1]]), id="more events"),
        pytest.param(lambda a: ak.concatenate([a, a], axis=1), id="more tracks"),
        pytest.param(lambda a: ak.mask(a, ak.num(a) < 9), id="option, nothing missing"),
        pytest.param(ak.to_packed, id="packed"),
        pytest.param(lambda a: ak.zip({"x": a, "y": -a})[2:].x, id="field"),
        pytest.param(lambda a: ak.drop_none(ak.mask(a, a > 2)), id="none dropped"),
        pytest.param(lambda a: ak.fill_none(ak.pad_none(a, 2), 0.0), id="padded"),
    ],
)
def test_every_slice_is_like_its_plain_copy(change):
    changed = change(PLAIN)
    same(changed, ak.to_list(changed))


def option(content):
    index = np.arange(len(content))
    return IndexedOptionArray(Index64(index), content)


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(lists(NumpyArray(FLAT), OFFSETS, lambda x: Index32(x.astype("i4"))), id="i32"),
        pytest.param(lists(NumpyArray(FLAT), OFFSETS, lambda x: IndexU32(x.astype("u4"))), id="u"),
        pytest.param(lists(NumpyArray(np.r_[-1, -2, FLAT, -3]), OFFSETS + 2), id="offset 2"),
        pytest.param(
            ak.Array(
                ListArray(
                    Index64(np.array([6, 0, 1, 5, 9, 9])),
                    Index64(np.array([8, 0, 4, 6, 9, 11])),
                    NumpyArray(np.array([-1, 3, 4, 5, -2, 6, 1, 2, -3, 7, 8.0])),
                )
            ),
            id="gaps",
        ),
        pytest.param(
            ak.Array(
                IndexedArray(
                    Index64(np.array([5, 1, 3, 0, 1, 2])),
                    ListOffsetArray(
                        Index64(np.array([0, 1, 1, 3, 6, 6, 8])),
                        NumpyArray(np.array([6, 7, 8, 3, 4, 5, 1, 2.0])),
                    ),
                )
            ),
            id="indexed outside",
        ),
        pytest.param(
            lists(IndexedArray(Index64(np.arange(8)[::-1]), NumpyArray(FLAT[::-1]))),
            id="indexed inside",
        ),
        pytest.param(lists(NumpyArray(np.column_stack([FLAT, -FLAT]).ravel()[::2])), id="strided"),
        pytest.param(lists(NumpyArray(FLAT[::-1].copy()[::-1])), id="backwards"),
        pytest.param(lists(UnmaskedArray(NumpyArray(FLAT))), id="unmasked"),
        pytest.param(lists(option(NumpyArray(FLAT))), id="indexed option"),
        pytest.param(
            lists(ByteMaskedArray(Index8(np.zeros(8, "i1")), NumpyArray(FLAT), False)), id="bytes"
        ),
        pytest.param(
            lists(
                BitMaskedArray(
                    IndexU8(np.array([255], "u1")), NumpyArray(FLAT), True, length=8, lsb_order=True
                )
            ),
            id="bits",
        ),
        pytest.param(ak.Array(option(PLAIN.layout)), id="option outside"),
        pytest.param(ak.Array(UnmaskedArray(PLAIN.layout)), id="unmasked outside"),
        pytest.param(
            lists(RecordArray([NumpyArray(FLAT), NumpyArray(-FLAT)], ["a", "b"]))["a"], id="record"
        ),
        pytest.param(lists(option(NumpyArray(np.r_[FLAT, -1]))), id="option trailing"),
    ],
)
def test_every_layout_is_like_its_plain_copy(array):
    same(array, LISTS)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (ak.from_numpy(np.arange(6.0).reshape(3, 2)), [[0, 1], [2, 3], [4, 5]]),
        (ak.to_regular(ak.Array([[1, 2], [3, 4]])), [[1, 2], [3, 4]]),
        (ak.Array(RegularArray(NumpyArray(np.arange(7)), 3)), [[0, 1, 2], [3, 4, 5]]),
        (ak.Array(RegularArray(NumpyArray(np.empty(0)), 0, zeros_length=3)), [[], [], []]),
        (ak.Array(RegularArray(EmptyArray(), 0, zeros_length=2)), [[], []]),
        (ak.Array([[], []]), [[], []]),
        (ak.Array([[1.0]])[:0], []),
    ],
)
def test_regular_and_empty(array, expected):
    same(array, expected)


def test_the_largest_integer_is_kept():
    [value] = column(ak.Array(np.array([2**63 - 1], np.uint64))).values
    assert int(value) == 2**63 - 1


def test_no_events_of_unknown_type():
    assert column(ak.Array([])).values.shape == (0,)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (PLAIN, [2, 0, 3, 1, 0, 2]),
        (ak.Array([[1.0], None, [2.0, 3.0], None]), [1, 0, 2, 0]),
        (ak.Array(np.zeros((2, 3))), [3, 3]),
        (lists(NumpyArray(np.arange(3.0)), [0, 2, 2, 3], Index32), [2, 0, 1]),
    ],
)
def test_counts_without_values(array, expected):
    counts = per_event(array)
    assert counts.tolist() == expected
    assert counts.dtype == np.int64


def test_counts_of_virtual_events_read_no_values():
    form, length, buffers = ak.to_buffers(PLAIN)
    read = []

    def reader(key: str):
        return lambda: read.append(key) or buffers[key]

    virtual = ak.from_buffers(form, length, {key: reader(key) for key in buffers})
    assert per_event(virtual).tolist() == [2, 0, 3, 1, 0, 2]
    assert read == ["node0-offsets"]


def test_one_number_per_event():
    found = column(ak.Array([1, 2, 3])[::-1])
    assert found.axis is None
    assert found.values.tolist() == [3, 2, 1]


@pytest.mark.parametrize(
    "array",
    [
        ak.from_regular(ak.Array(np.arange(12).reshape(3, 2, 2)), axis=1),
        ak.Array(np.arange(12).reshape(3, 2, 2)),
        lists(NumpyArray(np.arange(12).reshape(6, 2)), [0, 2, 4, 6]),
        lists(
            RegularArray(IndexedOptionArray(Index64(np.r_[:12, -1]), NumpyArray(np.arange(12))), 2),
            [0, 2, 4, 6],
        ),
    ],
)
def test_short_vectors_per_track(array):
    found = column(array)
    assert found.axis.counts.tolist() == [2, 2, 2]
    assert found.values.tolist() == np.arange(12).reshape(6, 2).tolist()


def test_no_tracks_of_short_vectors_of_unknown_type():
    found = column(lists(RegularArray(EmptyArray(), 2), [0, 0, 0]))
    assert found.axis.counts.tolist() == [0, 0]
    assert found.values.shape == (0, 2)


def test_contiguous_float32_is_not_copied():
    values = FLAT.astype(np.float32)
    for array in (lists(NumpyArray(values)), lists(NumpyArray(values))[2:], ak.Array(values)):
        found = column(array).values
        assert np.shares_memory(found, values)
        assert np.shares_memory(float32(found), values)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("u1", "i8"), ("i4", "i8"), ("u8", "i8"), ("?", "?"), ("f2", "f4"), ("f4", "f4")],
)
def test_dtypes(kind, expected):
    found = column(ak.unflatten(np.array([0, 1], kind), [2, 0])).values
    assert found.dtype == expected
    assert float32(found).tolist() == [0, 1]


two_d = np.zeros((4, 2, 2))
REFUSED = {
    "missing event": (ak.Array([[1.0], None, [2.0]]), r"1 event\(s\) missing.* event 1\. "),
    "missing number": (ak.Array([1.0, 2.0, None, None]), r"2 event\(s\) missing.* event 2\. "),
    "missing track": (ak.Array([[1.0], [], [2.0, None]]), r"1 track\(s\) missing.* event 2\. "),
    "missing value": (
        ak.to_regular(ak.Array([[[1, 2]], [[3, 4], [5, None]]]), axis=2),
        r"1 value\(s\) missing.* event 1\. ",
    ),
    "strings": (ak.Array([["a"]]), "holds strings"),
    "a string per event": (ak.Array(["ab", "c"]), "holds strings"),
    "bytes": (ak.Array([b"ab"]), "holds strings"),
    "categories": (ak.str.to_categorical(ak.Array(["a", "b"])), "holds categories"),
    "complex": (ak.Array([[1j]]), "holds complex128 values"),
    "dates": (ak.Array([dt.datetime(2020, 1, 1)]), "holds datetime64"),  # noqa: DTZ001
    "durations": (ak.Array([[np.timedelta64(1, "s")]]), "holds timedelta64"),
    "tuples": (ak.Array([[(1, 2)]]), "holds tuples"),
    "records": (ak.Array([[{"x": 1}]]), r"holds records with the fields \['x'\]"),
    "a record per event": (ak.Array([{"x": 1}]), r"holds records with the fields \['x'\]"),
    "union": (ak.Array([[1, "a"]]), "holds values of several types"),
    "lists or numbers": (ak.Array([1.0, [2.0]]), "holds values of several types"),
    "doubly jagged": (ak.Array([[[1.0], []]]), "holds lists of lists"),
    "regular twice": (lists(NumpyArray(two_d), [0, 4]), "holds lists of lists"),
    "vectors of strings": (ak.to_regular(ak.Array([[["a", "b"]]]), axis=2), "holds strings"),
    "uint64": (ak.Array(np.array([2**63], np.uint64)), "too large for a signed integer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    array, message = REFUSED[case]
    with pytest.raises(DataError, match="^Track_x.*" + message):
        column(array, "Track_x")


@pytest.mark.parametrize("mode", ["event", "track"])
def test_refused_in_every_mask(mode):
    bad = [True, False, True, False]
    for form in ("bytes", "bits", "index"):
        content = NumpyArray(np.arange(4.0)) if mode == "track" else PLAIN[:4].layout
        masked = {
            "bytes": lambda c: ByteMaskedArray(Index8(np.array(bad, "i1")), c, False),
            "bits": lambda c: BitMaskedArray(IndexU8(np.array([5], "u1")), c, False, 4, True),
            "index": lambda c: IndexedOptionArray(Index64(np.array([-1, 1, -1, 3])), c),
        }[form](content)
        array = lists(masked, [0, 1, 4]) if mode == "track" else ak.Array(masked)
        with pytest.raises(
            DataError, match=rf"2 {mode}\(s\) missing \(None\), the first in event 0"
        ):
            column(array)


@given(st_ak.constructors.arrays(max_size=20))
def test_any_array_is_like_its_plain_copy_or_refused(array):
    try:
        found = column(array)
    except DataError:
        return
    plain = ak.to_list(array)
    if found.axis is None:
        assert len(found.values) == len(plain)
    else:
        assert found.axis.counts.tolist() == [len(each) for each in plain]
        plain = [x for each in plain for x in each]
    expected = np.array(plain, found.values.dtype).reshape(found.values.shape)
    np.testing.assert_array_equal(found.values, expected)


@given(
    st_ak.constructors.arrays(
        dtypes=st.sampled_from([np.dtype(k) for k in ("?", "u1", "i4", "i8", "f2", "f4", "f8")]),
        allow_string=False,
        allow_bytestring=False,
        allow_record=False,
        allow_union=False,
        allow_indexed_option=False,
        allow_byte_masked=False,
        allow_bit_masked=False,
        max_depth=1,
    )
)
def test_numbers_one_list_deep_are_never_refused(array):
    column(array)


@pytest.mark.parametrize("number", [LARGEST_EXACT + 1, -LARGEST_EXACT - 1, 2**40 + 5, -(2**63)])
def test_integers_that_would_be_rounded(number):
    with pytest.raises(DataError, match=f"x holds the integer {abs(number)}"):
        float32(np.array([1, number]), "x")


def test_the_largest_exact_integers_pass():
    values = np.array([LARGEST_EXACT, -LARGEST_EXACT])
    assert float32(values).astype(np.int64).tolist() == values.tolist()


@pytest.mark.parametrize("number", [1e39, -4e38])
def test_floats_beyond_float32(number):
    with pytest.raises(DataError, match="which float32 cannot hold"):
        float32(np.array([1.0, number]))


def test_nan_and_infinity_are_for_the_inputs_to_judge():
    np.testing.assert_array_equal(float32(np.array([np.nan, -np.inf])), [np.nan, -np.inf])


@given(st.lists(st.integers(0, 4)), st.data())
def test_axis(counts, data):
    axis = Axis(np.array(counts, np.int64))
    event = [i for i, n in enumerate(counts) for _ in range(n)]
    assert axis.event.tolist() == event
    assert axis.n_track == len(event)
    mask = data.draw(st.lists(st.booleans(), min_size=len(event), max_size=len(event)))
    kept = [e for e, keep in zip(event, mask, strict=True) if keep]
    selected = axis.select(np.array(mask, bool))
    assert selected.counts.tolist() == [kept.count(i) for i in range(len(counts))]
    assert axis.same_as(Axis(axis.counts.copy()))
    assert axis.same_as(selected) == all(mask)
