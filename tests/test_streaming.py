"""Events in temporary files, against the same events in memory."""

import tempfile
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import flat_inputs
from hypothesis import given, settings
from hypothesis import strategies as st

from tracksets.blocks import Shape
from tracksets.errors import FileError, MixingWarning
from tracksets.features import JaggedInputs
from tracksets.mixing import Segment, make_runs
from tracksets.samples import Sample
from tracksets.spool import EVENT, Spool
from tracksets.stores import InMemory, event_bytes
from tracksets.streaming import Collector, Spooled

SHAPE = Shape({"Track": 60, "Jet": 40}, 16)


def make_inputs(n, seed=0):
    random = np.random.default_rng(seed)
    counts = {"Track": random.poisson(3, n), "Jet": random.poisson(1, n)}
    return flat_inputs(counts, {"Track": 3, "Jet": 2}, event=2, seed=seed)


def spooled(inputs, memory, chunks=((0, 0, None),), readers=3):
    """Make a store in files; chunks are (class, file, end)."""
    spool = Spool({**inputs.widths[0], EVENT: inputs.widths[1]})
    segments, start = [], 0
    for group, file, stop in chunks:
        part = inputs.slice(start, stop if stop is not None else inputs.n_event)
        spool.append(part)
        sizes = event_bytes(part.counts, part.widths).astype(np.int32)
        segments.append(Segment(group, file, sizes))
        start = stop
    counts = {name: each.astype(np.int32) for name, each in inputs.counts.items()}
    return Spooled(spool, counts, make_runs(segments, memory // 2), memory, readers)


def equal(one, two):
    np.testing.assert_array_equal(one.event, two.event, strict=True)
    for name in two.counts:
        np.testing.assert_array_equal(one.counts[name], two.counts[name], strict=True)
        np.testing.assert_array_equal(one.tracks[name], two.tracks[name], strict=True)


def batches_equal(one, two):
    one, two = list(one), list(two)
    assert len(one) == len(two)
    for mine, theirs in zip(one, two, strict=True):
        np.testing.assert_array_equal(mine.targets, theirs.targets)
        np.testing.assert_array_equal(mine.weights, theirs.weights)
        np.testing.assert_array_equal(mine.block.event, theirs.block.event)
        for name in ("Track", "Jet"):
            np.testing.assert_array_equal(mine.block.tracks[name], theirs.block.tracks[name])
            np.testing.assert_array_equal(mine.block.rows[name], theirs.block.rows[name])


def sample_of(store, n):
    return Sample(
        store, np.arange(n, dtype=np.float32)[:, None], np.arange(1, n + 1, dtype=np.float32)
    )


def numbers(batches):
    return np.concatenate([batch.targets[batch.block.mask, 0] for batch in batches]).astype(int)


INPUTS = make_inputs(3000)
CHOSEN = np.sort(np.random.default_rng(1).permutation(3000)[:2400])
SIZE = int(InMemory(INPUTS).sizes(slice(None)).sum())


@given(st.integers(1, 60), st.integers(0, 3), st.integers(1, 4))
@settings(max_examples=30)
def test_any_events_come_back_as_they_were(n, seed, readers):
    """Sparse or dense, with empty events at either end."""
    random = np.random.default_rng(seed)
    inputs = make_inputs(n, seed)
    with spooled(inputs, 10_000, [(0, 0, n // 2), (0, 1, n)], readers) as store:
        chosen = np.flatnonzero(random.random(n) < 0.5)
        portions = [each for each in np.array_split(chosen, 3) if len(each)]
        found = list(store.load(portions))
        for events, each in zip(portions, found, strict=True):
            equal(each, inputs.take(events))


def test_the_same_batches_as_from_memory_where_all_events_fit():
    with spooled(INPUTS, SIZE) as store:
        mine, theirs = (
            sample_of(store, 3000).part(CHOSEN),
            sample_of(InMemory(INPUTS), 3000).part(CHOSEN),
        )
        assert mine.n_block(SHAPE) == theirs.n_block(SHAPE)
        for seed in range(2):
            batches_equal(
                mine.shuffled(SHAPE, np.random.default_rng(seed)),
                theirs.shuffled(SHAPE, np.random.default_rng(seed)),
            )


@pytest.mark.parametrize("limit", [2000, 10**9])
def test_the_same_parts_as_from_memory(monkeypatch, limit):
    """To the bit, so that scaling and validation are the same, too."""
    monkeypatch.setattr("tracksets.stores._PART_BYTES", limit)
    monkeypatch.setattr("tracksets.stores._PART", 500)
    with spooled(INPUTS, 20_000) as store:
        mine, theirs = list(store.parts(CHOSEN)), list(InMemory(INPUTS).parts(CHOSEN))
    for (one, events), (two, expected) in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(events, expected)
        equal(one, two)
        sizes = event_bytes(one.counts, one.widths)
        assert sizes.sum() <= limit + sizes.max()
        assert len(events) <= 500
    np.testing.assert_array_equal(np.concatenate([events for _, events in mine]), CHOSEN)


@pytest.mark.parametrize("memory", [8000, 40_000, SIZE // 2])
def test_each_event_comes_once_in_pools_of_bounded_memory(memory):
    with spooled(INPUTS, memory) as store:
        orders = list(store.orders(CHOSEN, np.random.default_rng(3)))
        sizes = [int(store.sizes(order).sum()) for order in orders]
        assert max(sizes) <= memory / 2
        assert min(sizes) > max(sizes) / 2
        np.testing.assert_array_equal(np.sort(np.concatenate(orders)), CHOSEN)
        for order, pool in zip(orders, store.pools(orders), strict=True):
            np.testing.assert_array_equal(pool.events, order)
            equal(pool.inputs.take(pool.order), INPUTS.take(order))
            held = [pool.inputs.event, pool.order, pool.events]
            held += [*pool.inputs.tracks.values(), *pool.inputs.counts.values()]
            held += [axis.offsets[:-1] for axis in pool.inputs.axes.values()]
            assert sum(each.nbytes for each in held) == store.sizes(order).sum()


def test_two_pools_are_in_memory_at_most(monkeypatch):
    """That in use and the next one; counted when the reading of another one begins."""
    alive, most = weakref.WeakSet(), []
    original = Spooled._read

    def read(self, events):
        filled = original(self, events)
        [inputs] = [
            cell.cell_contents
            for cell in filled.__closure__
            if isinstance(cell.cell_contents, JaggedInputs)
        ]
        alive.add(Held(inputs))
        most.append(sum(1 for _ in alive))
        return filled

    class Held:
        """Lives as long as the matrix of the inputs."""

        def __init__(self, inputs):
            self.n = len(inputs.event)
            weakref.finalize(inputs.event, kept.discard, self)
            kept.add(self)

    kept = set()
    monkeypatch.setattr(Spooled, "_read", read)
    with spooled(INPUTS, SIZE // 5) as store:
        for _ in sample_of(store, 3000).part(CHOSEN).shuffled(SHAPE, np.random.default_rng(0)):
            pass
    assert len(most) > 8
    assert max(most) == 2


@pytest.mark.parametrize("memory", [8000, 60_000])
def test_the_order_does_not_depend_on_the_threads(memory, monkeypatch):
    original = Spool.read
    random = np.random.default_rng(0)

    def slow(self, *arguments):
        time.sleep(random.uniform(0, 1e-4))
        original(self, *arguments)

    monkeypatch.setattr(Spool, "read", slow)
    found = []
    for readers in (1, 2, 7):
        with spooled(INPUTS, memory, readers=readers) as store:
            part = sample_of(store, 3000).part(CHOSEN)
            found.append(list(part.shuffled(SHAPE, np.random.default_rng(4))))
    batches_equal(found[0], found[1])
    batches_equal(found[0], found[2])
    with spooled(INPUTS, memory) as store:
        other = sample_of(store, 3000).part(CHOSEN).shuffled(SHAPE, np.random.default_rng(5))
        assert not np.array_equal(numbers(other), numbers(found[0]))


def test_one_class_per_file_is_mixed():
    """Each step has the classes in their proportions, as in a random order: chi-square."""
    n, share = 30_000, np.asarray([0.6, 0.3, 0.1])
    inputs = make_inputs(n)
    ends = (n * np.cumsum([0.6, 0.2, 0.1, 0.1])).astype(int)
    chunks = list(zip([0, 1, 1, 2], [0, 0, 1, 0], ends, strict=True))
    classes = np.repeat([0, 1, 1, 2], np.diff(ends, prepend=0))
    memory = int(InMemory(inputs).sizes(slice(None)).sum()) // 5
    with spooled(inputs, memory, chunks) as store:
        part = sample_of(store, n).all
        batches = list(part.shuffled(SHAPE, np.random.default_rng(0)))
        assert len(list(store.orders(part.events, np.random.default_rng(0)))) >= 10
    steps = [numbers([batch]) for batch in batches]
    seen = np.stack([np.bincount(classes[step], minlength=3) for step in steps])
    expected = seen.sum(axis=1, keepdims=True) * share
    chi2 = ((seen - expected) ** 2 / expected).sum()
    freedom = 2 * len(steps)
    assert abs(chi2 - freedom) < 5 * np.sqrt(2 * freedom)
    # And neighbours in a step are not neighbours in a file.
    near = np.concatenate([np.abs(np.diff(step)) for step in steps])
    assert (near < 30).mean() < 0.02


@pytest.mark.parametrize("memory", [30_000, 10**9])
def test_skipped_batches_are_neither_packed_nor_read(memory, monkeypatch):
    with spooled(INPUTS, memory) as store:
        part = sample_of(store, 3000).part(CHOSEN)
        expected = list(part.shuffled(SHAPE, np.random.default_rng(6)))
        read = []
        original = Spooled._read
        monkeypatch.setattr(
            Spooled,
            "_read",
            lambda self, events: read.append(len(events)) or original(self, events),
        )
        for skip in (0, 1, 7, len(expected) // 2, len(expected) - 1, len(expected), 10**6):
            read.clear()
            batches_equal(part.shuffled(SHAPE, np.random.default_rng(6), skip), expected[skip:])
            assert sum(read) == len(numbers(expected[skip:])) if skip < len(expected) else not read


def collected(memory, *parts):
    collector = Collector(memory)
    with collector:
        for group, inputs in enumerate(parts):
            for start in range(0, inputs.n_event, 400):
                stop = min(start + 400, inputs.n_event)
                collector.add(inputs.slice(start, stop), group, 0)
        return collector.store([f"class {i}" for i in range(len(parts))])


@pytest.mark.parametrize("memory", [None, SIZE, SIZE - 1])
def test_what_fits_stays_in_memory(memory):
    with collected(memory, INPUTS.slice(0, 1000), INPUTS.slice(1000, 3000)) as store:
        assert isinstance(store, Spooled if memory == SIZE - 1 else InMemory)
        [inputs] = store.load([np.arange(3000)])
        equal(inputs, INPUTS)
        for name, counts in INPUTS.counts.items():
            np.testing.assert_array_equal(store.counts[name], counts)


def test_a_buffer_too_small_to_mix():
    """What the warning asks for is enough, and half of it is not."""
    few = make_inputs(60, seed=1)
    memory = SIZE // 20
    with pytest.warns(MixingWarning, match="too small to mix.*class 1 comes in 60 pieces") as said:
        collected(memory, INPUTS, few).close()
    wanted = float(str(said[0].message).split("memory_gb to ")[1].split()[0]) * 1e9
    with collected(wanted, INPUTS, few) as store:
        orders = list(store.orders(np.arange(3060), np.random.default_rng(0)))
    shares = [(order >= 3000).mean() for order in orders]
    np.testing.assert_allclose(shares, 60 / 3060, rtol=0.35)
    with pytest.warns(MixingWarning):
        collected(wanted / 2, INPUTS, few).close()


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before, threads = open_files(), threading.active_count()
    store = collected(8000, INPUTS)
    assert open_files() == before + 3
    assert not list(tmp_path.iterdir())  # even while it is in use
    pools = store.pools(store.orders(CHOSEN, np.random.default_rng(0)))
    next(pools)
    store.close()
    pools.close()
    assert (open_files(), threading.active_count()) == (before, threads)
    with Collector(8000) as collector:
        collector.add(INPUTS, 0, 0)
        assert open_files() == before + 3
    assert open_files() == before


def test_a_disk_that_is_full(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=500_000_000))
    before = open_files()
    with pytest.raises(FileError, match=r"only 0.5 GB are left.*TMPDIR.*or raise memory_gb"):
        collected(100_000, INPUTS)
    assert open_files() == before


def test_a_disk_that_becomes_full(monkeypatch):
    class Full:
        def write(self, view):
            raise OSError(28, "No space left on device")

    with spooled(INPUTS, 8000) as store:
        monkeypatch.setitem(store.spool._files, "Jet", Full())
        with pytest.raises(FileError, match="No space left on device"):
            store.spool.append(INPUTS)


def test_writes_and_reads_that_take_a_part_only(monkeypatch):
    from tracksets import spool

    original = spool.preadv
    monkeypatch.setattr(spool, "preadv", lambda fd, views, at: original(fd, [views[0][:7]], at))

    class Reluctant:
        def __init__(self, file):
            self.file, self.fileno = file, file.fileno

        def write(self, view):
            return self.file.write(view[:11])

    files = Spool({"Track": 3, "Jet": 2, EVENT: 2})
    with spooled(INPUTS, 8000) as store:
        for name, file in files._files.items():
            monkeypatch.setitem(files._files, name, Reluctant(file))
        files.append(INPUTS)
        mine = np.empty((100, 3), np.float32)
        files.read("Track", 50, mine)
        np.testing.assert_array_equal(mine, INPUTS.tracks["Track"][50:150])
        with pytest.raises(FileError, match="ends too early"):
            files.read("Track", len(INPUTS.tracks["Track"]), mine)
        assert store.spool.n_byte == files.n_byte
    files.close()
