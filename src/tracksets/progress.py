"""Progress for people, in a terminal or a notebook: one line per running job.

It goes to the standard error stream, so that what a command prints can be piped.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ("epochs_bar", "files_bar")


@contextmanager
def epochs_bar(
    epochs: int, show: bool = True, name: str = ""
) -> Iterator[Callable[[dict[str, float]], None]]:
    """Show a bar over the epochs; yields the function to call with each history entry.

    The name of what is trained, if it has one, goes first.
    """
    if not show:
        yield lambda _entry: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(f"{name}, epoch" if name else "epoch"),
        MofNCompleteColumn(),
        BarColumn(20),
        TextColumn("{task.fields[losses]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=epochs, losses="compiling")

        def on_epoch(entry: dict[str, float]) -> None:
            losses = f"loss {entry['loss']:.4f}"
            if "validation_loss" in entry:
                losses += f"  validation {entry['validation_loss']:.4f}"
            progress.update(bar, advance=1, losses=losses)

        yield on_epoch
        progress.refresh()  # in a notebook, the last state would not be shown


@contextmanager
def files_bar(what: str, files: int, show: bool = True) -> Iterator[Callable[[int], None]]:
    """Show a bar over files; yields the function to call with the events of each one."""
    if not show:
        yield lambda _n: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        TextColumn("files"),
        BarColumn(20),
        TextColumn("{task.fields[events]:,} events"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(what, total=files, events=0)

        def advance(n: int) -> None:
            progress.update(bar, advance=1, events=progress.tasks[0].fields["events"] + n)

        yield advance
        progress.refresh()  # in a notebook, the last state would not be shown
