"""Progress for people, in a terminal or a notebook: one line per running job."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ("epochs_bar", "events_bar")


@contextmanager
def epochs_bar(epochs: int, show: bool = True) -> Iterator[Callable[[dict[str, float]], None]]:
    """Show a bar over the epochs; yields the function to call with each history entry."""
    if not show:
        yield lambda _entry: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(20),
        TextColumn("{task.fields[losses]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task("", total=epochs, losses="compiling")

        def on_epoch(entry: dict[str, float]) -> None:
            losses = f"loss {entry['loss']:.4f}"
            if "validation_loss" in entry:
                losses += f"  validation {entry['validation_loss']:.4f}"
            progress.update(bar, advance=1, losses=losses)

        yield on_epoch


@contextmanager
def events_bar(what: str, total: int | None, show: bool = True) -> Iterator[Callable[[int], None]]:
    """Show a bar over events; yields the function to call with a number of further events."""
    if not show:
        yield lambda _n: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        TextColumn("{task.completed:,.0f} events, {task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task(what, total=total, rate="...")

        def advance(n: int) -> None:
            speed = progress.tasks[0].speed
            rate = f"{speed:,.0f} events/s" if speed else "..."
            progress.update(bar, advance=n, rate=rate)

        yield advance
