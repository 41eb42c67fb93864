"""Score arrays of 10⁴ to 10⁷ tracks in one call each: the rate should not depend on their size.

Rates are per second of processor time, which neither the number of cores nor what else the machine
does changes much, and per second on the clock. The adapter is the part of a call that makes blocks
of an array. The memory of a call is what the process takes beyond the array itself.
"""

import statistics
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import awkward as ak
import numpy as np

from bench import harness, report, samples
from bench.scoring import INPUTS, NETWORKS, scorer
from tracksets.blocks import Shape, pack_parts
from tracksets.compiling import compiled
from tracksets.fields import Columns
from tracksets.scorer import Scorer

SIZES = (10**4, 10**5, 10**6, 10**7)
KINDS = ("jets", "exponential", "zipf")


def array(kind: str, n_track: int) -> ak.Array:
    """Make events with about so many tracks in all."""
    mean = samples.counts(kind, 100_000).mean()
    n_per_event = samples.counts(kind, int(n_track / mean) + 1)
    return as_events(n_per_event)


def as_events(n_per_event: np.ndarray) -> ak.Array:
    """Make `n * {Track_a: var * float32, ...}`."""
    flat = samples.jagged(n_per_event).tracks["Track"]
    names = INPUTS.collections["Track"].features
    columns = {f"Track_{name}": np.ascontiguousarray(flat[:, i]) for i, name in enumerate(names)}
    return ak.Array({name: ak.unflatten(each, n_per_event) for name, each in columns.items()})


def measure(scorer: Scorer, events: ak.Array, n_track: int) -> tuple[float, float, float, float]:
    """Return the median processor and clock time of a call, that of making blocks, and MB taken."""
    repeat = max(1, 200_000 // n_track)  # a call of a few milliseconds is not timed well
    cpu, clock, adapter = [], [], []
    before = _forget_peak()
    for _ in range(harness.ROUNDS if n_track < SIZES[-1] else 3):
        begin = time.process_time(), time.perf_counter()
        for _ in range(repeat):
            scorer(events)
        middle = time.process_time()
        clock.append((time.perf_counter() - begin[1]) / repeat)
        for _ in range(repeat):
            blocks = pack_parts(scorer.flatten(Columns(events)), scorer.shape)
            deque(blocks, maxlen=0)
        cpu.append((middle - begin[0]) / repeat)
        adapter.append((time.process_time() - middle) / repeat)
    most = (_memory("VmHWM") - before) / 1024
    return statistics.median(cpu), statistics.median(clock), statistics.median(adapter), most


def _memory(what: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))


def _forget_peak() -> int:
    """Let the peak begin anew; return the present memory in kB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _memory("VmRSS")


def main(sizes: Sequence[int] = SIZES) -> None:
    """Measure, print and keep."""
    if sys.platform != "linux":
        sys.exit("needs /proc to know the memory of a call")
    tables = {}
    for title in ("64-64-64 | 64-64", "100-100-256 | 100-100-100"):
        rows: list[dict[str, str]] = []
        for kind in KINDS:
            shape = Shape.for_multiplicities({"Track": samples.counts(kind, 100_000)})
            ours = scorer(NETWORKS[title], shape=shape)
            traces = compiled(ours.architecture).traces
            for n_track in sizes:
                events = array(kind, n_track)
                n = int(ak.sum(ak.num(events.Track_a)))
                ours(events)
                cpu, clock, adapter, megabytes = measure(ours, events, n_track)
                rows.append(
                    {
                        "multiplicities": kind,
                        "tracks": f"{n:,}",
                        "tracks per core second": f"{n / cpu / 1e6:.2f} M",
                        "tracks/s": f"{n / clock / 1e6:.2f} M",
                        "events per core second": f"{len(events) / cpu:,.0f}",
                        "adapter": f"{adapter / cpu:.0%}",
                        "memory": f"{megabytes:.0f} MB",
                        "compiled": str(compiled(ours.architecture).traces - traces),
                    }
                )
        tables[title] = rows
    report.keep_tables("growth", tables, harness.ROUNDS)
