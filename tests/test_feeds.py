"""Feeds and digests: however chunks and portions are cut, the same columns and the same hash."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracksets.errors import DataError
from tracksets.feeds import Digest, Feed

TYPES = {"event": np.dtype("u8"), "score": np.dtype("f4")}


def columns(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Make columns with numbers that no other type holds, and with values that are not equal."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=n).astype(np.float32)
    scores[::5] = np.nan
    return {"event": random.integers(2**63, 2**64, n, np.uint64), "score": scores}


def cut(whole: dict[str, np.ndarray], sizes: list[int]) -> list[dict[str, np.ndarray]]:
    edges = np.cumsum([0, *sizes])
    return [{name: values[a:b] for name, values in whole.items()} for a, b in pairwise(edges)]


def joined(chunks: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {
        name: np.concatenate([np.empty(0, kind), *(chunk[name] for chunk in chunks)])
        for name, kind in TYPES.items()
    }


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return set(a) == set(b) and all(
        a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes() for name in a
    )


SIZES = st.lists(st.integers(0, 9), max_size=8)


@given(sizes=SIZES, takes=SIZES, seed=st.integers(0, 9))
def test_any_chunks_and_any_portions(sizes, takes, seed):
    whole = columns(sum(sizes), seed)
    feed = Feed(TYPES, cut(whole, sizes))
    taken, left = [], sum(sizes)
    for n in takes:
        if n > left:
            break
        taken.append(feed.take(n))
        assert {len(values) for values in taken[-1].values()} == {n}
        left -= n
    assert feed.digest.n_event == sum(sizes) - left
    taken += list(feed)
    assert same(joined(taken), whole)
    assert list(feed) == []
    expected = Digest(TYPES)
    expected.update(whole)
    assert feed.digest.n_event == expected.n_event
    assert feed.digest.different(expected) == []


@given(sizes=SIZES, other=SIZES)
def test_a_digest_does_not_depend_on_chunks(sizes, other):
    n = min(sum(sizes), sum(other))
    whole = columns(n)
    digests = []
    for each in (sizes, other):
        digest = Digest(TYPES)
        for chunk in cut(whole, each):
            digest.update(chunk)
        assert digest.n_event == n  # slices end with the array
        digests.append(digest)
    assert digests[0].different(digests[1]) == []


@given(at=st.integers(0, 19), name=st.sampled_from(sorted(TYPES)))
def test_a_digest_finds_any_value_that_differs(at, name):
    a, b = columns(20), columns(20)
    bits = b[name].view(np.uint8)
    bits[at * b[name].itemsize] ^= 1  # also the last bit of a NaN
    digests = []
    for each in (a, b):
        digest = Digest(TYPES)
        digest.update(each)
        digests.append(digest)
    assert digests[0].different(digests[1]) == [name]


def test_a_digest_finds_another_type():
    a, b = Digest({"x": "i4"}), Digest({"x": "i4"})
    a.update({"x": np.arange(3, dtype=np.int32)})
    b.update({"x": np.arange(3, dtype=np.uint32)})
    assert a.different(b) == ["x"]


def test_strided_columns_are_hashed_as_their_values():
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    a, b = Digest({"x": "f4"}), Digest({"x": "f4"})
    a.update({"x": table[:, 1]})
    b.update({"x": table[:, 1].copy()})
    assert a.different(b) == []


def test_values_are_brought_to_their_types():
    feed = Feed({"x": "f4"}, [{"x": [1, 2]}, {"x": np.ones(1, np.float64)}])
    [x] = feed.take(3).values()
    assert x.dtype == np.float32
    assert x.tolist() == [1, 2, 1]


def test_too_few():
    feed = Feed(TYPES, [columns(3)])
    feed.take(2)
    with pytest.raises(DataError, match="3 scores are too few"):
        feed.take(2)


def test_unequal_columns():
    for wrong in ({"a": np.ones(2), "b": np.ones(3)}, {"a": np.ones((2, 2)), "b": np.ones((2, 2))}):
        with pytest.raises(DataError, match="unequal shapes"):
            Feed({"a": "f4", "b": "f4"}, [wrong]).take(1)


def test_chunks_are_asked_for_when_they_are_needed():
    made = []

    def chunks():
        for i in range(5):
            made.append(i)
            yield columns(2)

    feed = Feed(TYPES, chunks())
    feed.take(0)
    assert made == []
    feed.take(3)
    assert made == [0, 1]
