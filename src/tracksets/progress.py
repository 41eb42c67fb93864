"""Progress for people, in a terminal or a notebook: one line per running job.

It goes to the standard error stream, so that what a command prints can be piped. Where that is a
file, an epoch is a line.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from tracksets.callbacks import Callback, Entry, Step

__all__ = ("Pace", "counted", "epochs_bar", "files_bar")

T = TypeVar("T")
_BETWEEN = 0.1
"""Seconds between two changes of a bar."""
_WIDE = 100
"""Characters of a terminal that has room for a long bar; 80 are enough for all the rest."""


class Pace:
    """How fast a training is, and how long it will take.

    Parameters
    ----------
    epochs
        Most epochs there will be.
    n_event
        Training events of each one.
    """

    def __init__(self, epochs: int, n_event: int) -> None:
        self.epochs, self.n_event = epochs, n_event
        self.finished = 0
        self.events = 0
        self.per_second = 0.0
        self._start: tuple[int, float] | None = None
        self._seconds: list[float] = []

    def on_step(self, step: Step, now: float) -> None:
        """Count the events of a step.

        The clock starts when an epoch's first step is done: that one may have been compiled.
        """
        self.events += step.events
        if self._start is None:
            self._start = self.events, now
        elif now > self._start[1]:
            self.per_second = (self.events - self._start[0]) / (now - self._start[1])

    def on_epoch(self, entry: Entry) -> None:
        """Count an epoch."""
        self.finished += 1
        self.events, self._start = 0, None
        self.per_second = entry["events_per_second"]
        self._seconds.append(entry["seconds"])

    @property
    def done(self) -> float:
        """Epochs so far, with the part of the present one."""
        return self.finished + min(1.0, self.events / max(1, self.n_event))

    @property
    def left(self) -> float | None:
        """Seconds until the last epoch; None before anything is known."""
        if self._seconds:  # the first epoch compiles
            later = self._seconds[1:] or self._seconds
            return (self.epochs - self.done) * sum(later) / len(later)
        if self.per_second:
            return (self.epochs - self.done) * self.n_event / self.per_second
        return None

    def __str__(self) -> str:
        left = self.left
        speed = f"{self.per_second:,.0f} events/s" if self.per_second else "compiling"
        return speed if left is None else f"{speed} {_clock(left)} left"


def _clock(seconds: float) -> str:
    """Write a time as hours, minutes and seconds, without hours where there are none.

    >>> [_clock(each) for each in (0, 61.2, 754, 7200)]
    ['0:00', '1:01', '12:34', '2:00:00']
    """
    text = str(timedelta(seconds=round(seconds)))
    return text[3:] if text.startswith("0:0") else text.removeprefix("0:")


def _figures(entry: Entry) -> str:
    """Say losses and metrics in a few words."""
    names = {"loss": "loss", "validation_loss": "val", "validation_auc": "AUC"}
    return " ".join(f"{names[key]} {entry[key]:.4g}" for key in names if key in entry)


class _Lines(Callback):
    """One line per epoch."""

    def __init__(self, pace: Pace, what: str) -> None:
        self._pace, self._what = pace, what

    def on_epoch(self, entry: Entry) -> None:
        self._pace.on_epoch(entry)
        text = (
            f"{self._what} {entry['epoch']:.0f}/{self._pace.epochs} {_figures(entry)} "
            f"rate {entry['learning_rate']:.3g} {self._pace}\n"
        )
        sys.stderr.write(text)
        sys.stderr.flush()


class _Bar(Callback):
    """One line that changes."""

    def __init__(self, pace: Pace, show: Callable[[float, str], None]) -> None:
        self._pace, self._show = pace, show
        self._last = -_BETWEEN
        self._loss = 0.0
        self._entry: Entry = {}

    def on_step(self, step: Step) -> None:
        now = time.monotonic()
        self._loss += step.loss * step.events
        self._pace.on_step(step, now)
        if now - self._last >= _BETWEEN:
            self._last = now
            self._draw({**self._entry, "loss": self._loss / self._pace.events})

    def on_epoch(self, entry: Entry) -> None:
        self._pace.on_epoch(entry)
        self._loss, self._entry = 0.0, entry
        self._draw(entry)

    def _draw(self, entry: Entry) -> None:
        self._show(self._pace.done, f"{_figures(entry)} {self._pace}")


@contextmanager
def epochs_bar(epochs: int, n_event: int, show: bool = True, name: str = "") -> Iterator[Callback]:
    """Show the progress of a training; yields the callback to tell of it.

    Parameters
    ----------
    epochs
        Most epochs there will be.
    n_event
        Training events of each one.
    show
        Whether to show anything.
    name
        Of what is trained, if it has one; it goes first.
    """
    if not show:
        yield Callback()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    pace = Pace(epochs, n_event)
    what = f"{name}, epoch" if name else "epoch"
    console = Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        yield _Lines(pace, what)
        return
    columns = (
        TextColumn("{task.description} {task.fields[epoch]}/{task.total:.0f}"),
        BarColumn(20 if console.width >= _WIDE else 5),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(what, total=epochs, epoch=1, figures="compiling")

        def draw(done: float, figures: str) -> None:
            epoch = min(epochs, int(done) + 1)
            progress.update(bar, completed=done, epoch=epoch, figures=figures)

        yield _Bar(pace, draw)
        progress.refresh()  # in a notebook, the last state would not be shown


def counted(each: Iterable[T], total: int, what: str, show: bool = True) -> Iterator[T]:
    """Show a bar over what is gone through."""
    from rich.console import Console
    from rich.progress import track

    yield from track(each, what, total, console=Console(stderr=True), disable=not show)


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
