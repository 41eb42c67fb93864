"""Say what two cores gain over one, and what keeps them from twice as much.

The same work is done by one process on a core; by two at the same time, with a core each, which
share nothing but the machine; and by one on both cores. What two processes do not gain is lost to
the machine; what one process gains less than they do is lost to sharing out the work.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import harness, report
from bench.contest import Field, Peer
from bench.scoring import NETWORKS

NETWORK = "100-100-256 | 100-100-100"
WORK = {
    "score": {"limit|2048": "products of 2048³", "limit|shapes": "own products",
              "tracksets|network": "scoring"},
    "train": {"tracksets": "training"},
}  # fmt: skip
APART = "--xla_cpu_multi_thread_eigen=false"
"""Lets XLA share out no product among its threads."""


def seconds(peers: Iterable[Peer], name: str, pool: ThreadPoolExecutor) -> float:
    """Let some do the same work at the same time; return how long it takes them."""
    begin = time.perf_counter()
    for _ in pool.map(lambda peer: peer.ask(run=name), peers):
        pass
    return time.perf_counter() - begin


def gains(task: str, folder: str, rounds: int) -> list[dict[str, str]]:
    """Measure what the work of one task gains."""
    alone, other = (
        Peer(sys.executable, "jax_forms.py", [0]),
        Peer(sys.executable, "jax_forms.py", [1]),
    )
    both = Peer(sys.executable, "jax_forms.py", [0, 1])
    apart = Peer(sys.executable, "jax_forms.py", [0, 1], XLA_FLAGS=APART)
    forms: dict[str, tuple[list[Peer], int]] = {
        "one core": ([alone], 1),
        "two processes": ([alone, other], 2),
        "one process": ([both], 1),
        "one process, products not shared out": ([apart], 1),
    }
    for peer in (alone, other, both, apart):
        peer.ask(load=folder, task=task)
    rows = []
    with ThreadPoolExecutor(2) as pool:
        for name, title in WORK[task].items():
            times: dict[str, list[float]] = {form: [] for form in forms}
            for _ in range(rounds):
                for form, (peers, _) in forms.items():
                    times[form].append(seconds(peers, name, pool))
            row = {"work": title}
            medians = {form: statistics.median(each) for form, each in times.items()}
            for form, (_, n) in forms.items():
                # There, each core of a process does all of the work.
                more = 2 if name == "limit|shapes" and form.startswith("one process") else 1
                row[form] = f"{n * more * medians['one core'] / medians[form]:.2f}"
            rows.append(row)
    for peer in (alone, other, both, apart):
        peer.end()
    return rows


def main(rounds: int = 3 * harness.ROUNDS, n_event: int = 8_000) -> None:
    """Measure, print and keep."""
    if not hasattr(os, "sched_getaffinity") or not {0, 1} <= os.sched_getaffinity(0):
        print("cores are left out: this needs two of them, and Linux")
        return
    rows = []
    for task in WORK:
        with tempfile.TemporaryDirectory() as folder:
            Field(NETWORK, NETWORKS[NETWORK], "jets", n_event).write(Path(folder))
            rows += gains(task, folder, rounds)
    report.keep_tables("cores", {"": rows}, rounds)
