"""How many bytes of which class and file in; runs of events, and an order that mixes them, out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ("LEAST", "Runs", "Segment", "make_runs")

LEAST = 16
"""Runs of each class that a pool should hold; with fewer, its share fluctuates."""

_RUN = 262_144
_SMALLEST_RUN = 4096
_RUNS = 256
"""Runs of a pool, at least, before they become smaller than `_RUN` bytes."""


@dataclass(frozen=True)
class Segment:
    """Consecutive events of one class and one file.

    Attributes
    ----------
    group
        Number of the class.
    file
        Number of the file.
    sizes
        Bytes of each event, shape (n_event,).
    """

    group: int
    file: int
    sizes: NDArray[np.int32]


@dataclass(frozen=True)
class Runs:
    """Consecutive events that are read together.

    Attributes
    ----------
    edges
        First event of each run and, last, the number of events; shape (n_run + 1,).
    groups, files
        Class and file of each run, shape (n_run,).
    """

    edges: NDArray[np.int64]
    groups: NDArray[np.int64]
    files: NDArray[np.int64]

    def mixed(self, random: np.random.Generator) -> NDArray[np.int64]:
        """Return the runs in a random order, of which every stretch has about the same share.

        Each class is spread evenly over the whole, and so is, within it, each file.
        """
        order = random.permutation(len(self.groups))
        files = (
            self.groups * (self.files.max() + 1) + self.files
        )  # those of each class by themselves
        return _spread(_spread(order, files, random), self.groups, random)

    def of(self, events: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the run of each event."""
        return np.searchsorted(self.edges, events, "right") - 1


def _spread(
    order: NDArray[np.int64], groups: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Spread each group evenly, keeping the order within it.

    Of n members, the i-th comes at a random place between i/n and (i+1)/n of the whole.
    """
    _, group, sizes = np.unique(groups[order], return_inverse=True, return_counts=True)
    by_group = np.argsort(group, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[by_group] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return order[np.argsort((rank + random.random(len(order))) / sizes[group], kind="stable")]


def make_runs(segments: Sequence[Segment], pool: int) -> Runs:
    """Cut segments into runs: short enough to mix in a pool, long enough to be read fast.

    Parameters
    ----------
    segments
        In the order of events.
    pool
        Bytes of a pool.
    """
    totals: dict[int, int] = {}
    for each in segments:
        n_byte = int(each.sizes.sum(dtype=np.int64))
        totals[each.group] = totals.get(each.group, 0) + n_byte
    n_pool = -(-sum(totals.values()) // pool)
    usual = min(_RUN, max(pool // _RUNS, _SMALLEST_RUN))
    # A rare class comes in smaller runs, so that each pool has some.
    sizes = {group: max(min(usual, n // (LEAST * n_pool)), 1) for group, n in totals.items()}
    edges = [np.zeros(1, np.int64)]
    groups: list[int] = []
    files: list[int] = []
    at = 0
    for each in segments:
        ends = np.cumsum(each.sizes, dtype=np.int64)
        last = np.flatnonzero(np.diff(ends // sizes[each.group], append=-1))
        edges.append(at + last + 1)
        groups += [each.group] * len(last)
        files += [each.file] * len(last)
        at += len(each.sizes)
    return Runs(np.concatenate(edges), np.asarray(groups, np.int64), np.asarray(files, np.int64))
