"""Items made ahead: the same ones, errors where they belong, and no thread left behind."""

import threading

import pytest

from tracksets.prefetch import ahead


def running():
    return [each for each in threading.enumerate() if each.name == "tracksets-ahead"]


@pytest.mark.parametrize("n", [0, 1, 5, 100])
def test_the_same_items_in_order(n):
    assert list(ahead(range(n))) == list(range(n))
    assert list(ahead([None] * n)) == [None] * n
    assert not running()


def test_no_more_than_depth_items_wait():
    made = []
    reached = threading.Event()

    def items():
        for i in range(10):
            made.append(i)
            if i == 3:  # one is taken, two wait, one is in hand
                reached.set()
            yield i

    taken = ahead(items(), depth=2)
    assert next(taken) == 0
    assert reached.wait(60)
    assert made == [0, 1, 2, 3]
    assert list(taken) == list(range(1, 10))


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        raise ZeroDivisionError("here")

    taken = ahead(items())
    assert next(taken) == 1
    with pytest.raises(ZeroDivisionError, match="here"):
        next(taken)
    assert not running()


def test_who_stops_early_leaves_no_thread():
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    taken = ahead(items())
    assert next(taken) == 0
    taken.close()
    assert not running()
    assert closed.wait(60)
