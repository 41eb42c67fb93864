"""Flat inputs that arrive in parts in; a store of them out: in memory if they fit, else in files.

What does not fit is written to temporary files once, in the order in which it is read, and comes
back through a shuffle buffer of bounded memory, filled with short runs of events from everywhere.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from tracksets.errors import MixingWarning
from tracksets.features import JaggedInputs
from tracksets.growing import Growing
from tracksets.mixing import LEAST, Runs, Segment, make_runs
from tracksets.spool import EVENT, Spool
from tracksets.stores import Indices, InMemory, Pool, Store, event_bytes

__all__ = ("Collector", "Spooled")

READERS = 4
"""Threads that fill a pool."""
_FEW = LEAST / 2
"""Pieces of a class in a pool: below, its share is off by a quarter and more."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Spooled(Store):
    """Flat inputs in temporary files; some of them at a time in memory.

    The order of the events follows from the random numbers alone: each one has its place in a pool
    before it is read, whichever thread does so. Where all events fit into the buffer, the order is
    that of `InMemory`.

    Parameters
    ----------
    spool
        With all events; closed with the store.
    counts
        Tracks of every event, by collection.
    runs
        Which events are read together.
    memory
        Bytes of the shuffle buffer. While half of it is in use, the other half is filled.
    readers
        Threads that fill it.
    """

    def __init__(
        self,
        spool: Spool,
        counts: Mapping[str, NDArray[np.int32]],
        runs: Runs,
        memory: int,
        readers: int,
    ) -> None:
        self.spool, self.runs, self.memory = spool, runs, memory
        self._counts = counts
        self._rows = {
            name: np.cumsum([0, *np.add.reduceat(each, runs.edges[:-1], dtype=np.int64)])
            for name, each in counts.items()
        }
        self._threads = ThreadPoolExecutor(readers, "tracksets-reader")

    @property
    def counts(self) -> Mapping[str, NDArray[np.int32]]:
        """Tracks of every event, by collection."""
        return self._counts

    @property
    def widths(self) -> tuple[Mapping[str, int], int]:
        """Features by collection, and event-level features."""
        return {name: self.spool.widths[name] for name in self.counts}, self.spool.widths[EVENT]

    def close(self) -> None:
        """Stop the threads and remove the files."""
        self._threads.shutdown(cancel_futures=True)
        self.spool.close()

    def orders(self, events: Indices, random: np.random.Generator) -> Iterator[Indices]:
        """Fill pools with runs from everywhere, each class in its proportion; mix each pool."""
        n_run = len(self.runs.groups)
        sizes = np.zeros(n_run)
        for start in range(0, len(events), 1_000_000):
            some = events[start : start + 1_000_000]
            sizes += np.bincount(self.runs.of(some), self.sizes(some), n_run)
        if sizes.sum() <= self.memory:
            yield random.permutation(events)
            return
        runs = self.runs.mixed(random)
        ends = sizes[runs].cumsum()
        # Pools of one size: a small rest would be mixed badly. A pool may exceed it by one run.
        half, largest = self.memory / 2, sizes.max()
        n_pool = int(np.ceil(ends[-1] / max(half - largest, largest)))
        pool = np.minimum((ends - sizes[runs] / 2) * n_pool // ends[-1], n_pool - 1)
        bounds = np.searchsorted(events, self.runs.edges)
        for chosen in np.split(runs, np.flatnonzero(np.diff(pool)) + 1):
            parts = [events[bounds[run] : bounds[run + 1]] for run in chosen]
            order = random.permutation(np.concatenate(parts))
            if len(order):
                yield order

    def pools(self, orders: Iterable[Indices]) -> Iterator[Pool]:
        """Read the events of each pool, the next one while its predecessor is in use."""

        def begin(order: Indices) -> Callable[[], Pool]:
            events = np.sort(order)
            filled = self._read(events)
            return lambda: Pool(filled(), np.searchsorted(events, order), order)

        return _one_ahead(begin, orders)

    def load(self, portions: Iterable[Indices]) -> Iterator[JaggedInputs]:
        """Read events, in rising order, a portion at a time, the next one in the background."""
        return _one_ahead(self._read, portions)

    def _read(self, events: Indices) -> Callable[[], JaggedInputs]:
        """Begin to read events (rising); return a function that waits for them."""
        counts = {name: each[events].astype(np.int64) for name, each in self.counts.items()}
        widths, n_event_feature = self.widths
        tracks = {
            name: np.empty((int(each.sum()), widths[name]), np.float32)
            for name, each in counts.items()
        }
        event = np.empty((len(events), n_event_feature), np.float32)
        inputs = JaggedInputs(counts, tracks, event)
        offsets = {name: axis.offsets for name, axis in inputs.axes.items()}
        runs = self.runs.of(events)
        starts = np.flatnonzero(np.diff(runs, prepend=-1))
        reads: list[Future[None]] = []
        for start, stop in zip(starts, [*starts[1:], len(events)], strict=True):
            out = {EVENT: event[start:stop]}
            for name, each in tracks.items():
                out[name] = each[offsets[name][start] : offsets[name][stop]]
            reads.append(self._threads.submit(self._copy, runs[start], events[start:stop], out))

        def filled() -> JaggedInputs:
            for each in reads:
                each.result()
            return inputs

        return filled

    def _copy(self, run: int, events: Indices, out: Mapping[str, NDArray[np.float32]]) -> None:
        """Read events of one run to where they belong."""
        begin = int(self.runs.edges[run])
        first, last = int(events[0]), int(events[-1]) + 1
        wanted = np.zeros(last - first, bool)
        wanted[events - first] = True
        for name, matrix in out.items():
            if name == EVENT:
                row, rows = first, wanted
            else:
                before = self.counts[name][begin:first].sum(dtype=np.int64)
                row = int(self._rows[name][run] + before)
                rows = np.repeat(wanted, self.counts[name][first:last])
            if len(rows) == len(matrix):
                self.spool.read(name, row, matrix)
                continue
            some = np.empty((len(rows), matrix.shape[1]), np.float32)
            self.spool.read(name, row, some)
            np.compress(rows, some, axis=0, out=matrix)


def _one_ahead(
    begin: Callable[[_Item], Callable[[], _Result]], items: Iterable[_Item]
) -> Iterator[_Result]:
    """Yield what is begun for each item when it is complete, and begin the next one before."""
    waiting: Callable[[], _Result] | None = None
    for item in items:
        result = waiting() if waiting else None
        waiting = begin(item)
        if result is not None:
            yield result
        del result
    if waiting:
        yield waiting()


class Collector:
    """Takes flat inputs as they are read, into memory as long as they fit.

    Parameters
    ----------
    memory
        Bytes that may be held in memory; any number by default.
    """

    def __init__(self, memory: float | None = None) -> None:
        self.memory = memory
        self.n_byte = 0
        self._parts: list[JaggedInputs] = []
        self._counts: dict[str, Growing] = {}
        self._places: list[tuple[int, int, int]] = []
        self._n_event = 0
        self._spool: Spool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._spool is not None:
            self._spool.close()

    def add(self, part: JaggedInputs, group: int, file: int) -> None:
        """Take further events, all of one class and one file.

        Raises
        ------
        FileError
            If they neither fit into memory nor on the disk.
        """
        for name, counts in part.counts.items():
            self._counts.setdefault(name, Growing()).append(counts.astype(np.int32))
        self._n_event += part.n_event
        self._places.append((group, file, self._n_event))
        self._parts.append(part)
        self.n_byte += int(event_bytes(part.counts, part.widths).sum())
        if self.memory is None or self.n_byte <= self.memory:
            return
        if self._spool is None:
            tracks, event = part.widths
            self._spool = Spool({**tracks, EVENT: event})
        while self._parts:
            self._spool.append(self._parts.pop(0))

    def store(self, names: Sequence[str]) -> Store:
        """Return all of them; the classes have these names. To be closed by the caller."""
        if self._spool is None or self.memory is None:
            return InMemory(JaggedInputs.concatenate(self._parts))
        counts = {name: each.array for name, each in self._counts.items()}
        widths = {name: self._spool.widths[name] for name in counts}, self._spool.widths[EVENT]
        segments, start = [], 0
        for group, file, stop in self._places:
            some = {name: each[start:stop] for name, each in counts.items()}
            segments.append(Segment(group, file, event_bytes(some, widths).astype(np.int32)))
            start = stop
        runs = make_runs(segments, int(self.memory / 2))
        self._warn(runs, names, self.memory)
        store = Spooled(self._spool, counts, runs, int(self.memory), READERS)
        self._spool = None
        return store

    def _warn(self, runs: Runs, names: Sequence[str], memory: float) -> None:
        """Say it if a class has too few runs for each pool to get its share of them."""
        n_pool = int(np.ceil(2 * self.n_byte / memory))
        n_run = np.bincount(runs.groups)
        group = int(n_run.argmin())
        if n_run[group] >= _FEW * n_pool:
            return
        enough = self.n_byte / max(n_run[group] // _FEW / 2, 1)
        warnings.warn(
            f"memory_gb = {memory / 1e9:.3g} is too small to mix the events: "
            f"{self.n_byte / 1e9:.3g} GB of inputs pass the shuffle buffer in {n_pool} portions, "
            f"and {names[group]} comes in {n_run[group]} pieces, so that the steps will not see it "
            f"in its proportion. Set memory_gb to {1.1 * enough / 1e9:.2g} or more",
            MixingWarning,
            stacklevel=5,
        )
