import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracksets.growing import Growing


@given(st.lists(st.integers(0, 20), min_size=1), st.sampled_from([(), (3,)]))
def test_parts_are_joined(lengths, width):
    random = np.random.default_rng(0)
    parts = [random.integers(0, 100, (n, *width)).astype(np.int32) for n in lengths]
    growing = Growing()
    for part in parts:
        growing.append(part)
    np.testing.assert_array_equal(growing.array, np.concatenate(parts), strict=True)


def test_few_copies_are_made():
    growing, arrays = Growing(), set()
    for _ in range(1000):
        growing.append(np.zeros(1))
        arrays.add(id(growing._array))
    assert len(arrays) <= 12


def test_nothing():
    with pytest.raises(ValueError, match="nothing was appended"):
        _ = Growing().array
