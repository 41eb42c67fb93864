"""Time contestants in turn, so that a machine whose speed drifts is the same for all."""

import statistics
import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.table import Table

ROUNDS = 7


def alternate(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the median seconds of each contestant, after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        run()
    for _ in range(rounds):
        for name, run in contestants.items():
            begin = clock()
            run()
            times[name].append(clock() - begin)
    return {name: statistics.median(each) for name, each in times.items()}


def show(title: str, rows: list[dict[str, str]]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row.values())
    Console(width=120).print(table)
