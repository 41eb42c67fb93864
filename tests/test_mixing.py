"""An order of runs in which every stretch looks like the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracksets.mixing import LEAST, Runs, Segment, make_runs


def segments(*sizes):
    """Make one segment per class and file: sizes[class][file] events of 100 bytes."""
    return [
        Segment(group, file, np.full(n, 100, np.int32))
        for group, files in enumerate(sizes)
        for file, n in enumerate(files)
    ]


@given(
    st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=4), min_size=1, max_size=3),
    st.integers(1, 200_000),
    st.integers(0, 2),
)
def test_every_event_is_in_one_run_of_its_class_and_file(sizes, pool, seed):
    random = np.random.default_rng(seed)
    parts = [
        Segment(each.group, each.file, random.integers(1, 5000, len(each.sizes)).astype(np.int32))
        for each in segments(*sizes)
    ]
    if not sum(len(each.sizes) for each in parts):
        return
    runs = make_runs(parts, pool)
    assert runs.edges[0] == 0
    assert (np.diff(runs.edges) > 0).all()
    groups = np.concatenate([np.full(len(each.sizes), each.group) for each in parts])
    files = np.concatenate([np.full(len(each.sizes), each.file) for each in parts])
    assert runs.edges[-1] == len(groups)
    run = runs.of(np.arange(len(groups)))
    np.testing.assert_array_equal(run, np.repeat(np.arange(len(runs.groups)), np.diff(runs.edges)))
    np.testing.assert_array_equal(runs.groups[run], groups)
    np.testing.assert_array_equal(runs.files[run], files)
    np.testing.assert_array_equal(np.sort(runs.mixed(random)), np.arange(len(runs.groups)))


def test_runs_are_long_but_many():
    """As long as reading wants them, unless a pool or a class would have too few of them."""
    n = 1_000_000
    [long] = {len(make_runs(segments([n]), pool).groups) for pool in (10**8, 10**9)}
    assert long == n * 100 // 262_144 + 1
    pool = 1_000_000
    runs = make_runs(segments([n], [n // 1000]), pool)
    n_pool = -(-n * 100 * 1001 // 1000 // pool)
    usual, rare = np.bincount(runs.groups)
    assert usual == n * 100 // 4096 + 1  # not shorter than that
    assert LEAST * n_pool / 2 < rare <= 2 * LEAST * n_pool


@pytest.mark.parametrize("seed", range(3))
def test_classes_and_files_are_spread_evenly(seed):
    """Any stretch has as many runs of a class or file as its length says, to within two."""
    random = np.random.default_rng(seed)
    groups = np.repeat([0, 1, 2], [400, 100, 20])
    files = np.concatenate([np.arange(400) // 100, np.arange(100) // 50, np.zeros(20, int)])
    order = Runs(np.arange(521), groups, files).mixed(random)
    for chosen in (
        [groups == i for i in range(3)],
        [(groups == 0) & (files == i) for i in range(4)],
    ):
        for mask in chosen:
            seen = np.cumsum(mask[order])
            expected = np.arange(1, 521) * mask.sum() / 520
            assert np.abs(seen - expected).max() < 2
    assert not np.array_equal(order, np.sort(order))


def test_every_place_is_equally_likely():
    groups = np.repeat([0, 1], [12, 4])
    runs = Runs(np.arange(17), groups, np.zeros(16, int))
    places = np.stack([np.argsort(runs.mixed(np.random.default_rng(i))) for i in range(2000)])
    # Means of uniform places: their standard deviation is 16/sqrt(12)/sqrt(2000) = 0.10.
    np.testing.assert_allclose(places.mean(axis=0), 7.5, atol=0.5)
    np.testing.assert_allclose(places.std(axis=0), np.sqrt((16**2 - 1) / 12), rtol=0.07)
