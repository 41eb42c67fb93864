"""What a training tells those who watch it: its steps and epochs; the history as a CSV file."""

import csv
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

from tracksets.atomic import appearing, refuse_existing

__all__ = ("Callback", "Callbacks", "Entry", "HistoryFile", "Saving", "Step", "write_history")

Entry = dict[str, float]
"""Of the history: an epoch, with what is known of it."""


class Step(NamedTuple):
    """A step that has been made.

    Attributes
    ----------
    step
        Counted from 1, over all epochs.
    epoch
        Counted from 1.
    events
        How many it has seen.
    loss
        Sum over its events, divided by the mean sum of weights of a step.
    learning_rate
        Of this step.
    """

    step: int
    epoch: int
    events: int
    loss: float
    learning_rate: float


class Callback:
    """Watches a training; what it does not override, it ignores.

    It is entered as a context before the training and left at its end, whatever the end is. An
    exception from it ends the training.
    """

    def on_step(self, step: Step) -> None:
        """Take note of a step; called some steps later, when its loss is computed."""

    def on_epoch(self, entry: Entry) -> None:
        """Take note of an epoch; a training that goes on first repeats those before."""

    def on_end(self, scorer: Any, problem: Any) -> None:
        """Take note of the result, a `Scorer`, and of the `Problem` with its events.

        Called last, when the context is left.
        """

    def for_member(self, name: str) -> "Callback":  # noqa: ARG002
        """Return what watches one of several models, called `model_0` and so on.

        By default this one watches them all, one after another.
        """
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Callbacks(Callback):
    """Several callbacks as one, called in their order.

    Parameters
    ----------
    callbacks
        All of them.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = callbacks
        self._entered = ExitStack()

    def on_step(self, step: Step) -> None:
        """Tell each one."""
        for each in self._callbacks:
            each.on_step(step)

    def on_epoch(self, entry: Entry) -> None:
        """Tell each one."""
        for each in self._callbacks:
            each.on_epoch(entry)

    def on_end(self, scorer: Any, problem: Any) -> None:
        """Tell each one."""
        for each in self._callbacks:
            each.on_end(scorer, problem)

    def __enter__(self) -> Self:
        with ExitStack() as entered:  # leaves the first ones if a later one fails
            for each in self._callbacks:
                entered.enter_context(each)
            self._entered = entered.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._entered.close()


class HistoryFile(Callback):
    """Writes the history as CSV, anew after every epoch: at any time it is complete so far.

    Parameters
    ----------
    path
        Of the file.
    force
        Whether one that exists is replaced.

    Raises
    ------
    FileError
        When the training begins, if the file exists and `force` is false.
    """

    def __init__(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        self.path = Path(path)
        self._force = force
        self._history: list[Entry] = []

    def for_member(self, name: str) -> Callback:
        """Return one that writes `history_model_0.csv` instead of `history.csv`."""
        path = self.path.with_stem(f"{self.path.stem}_{name}")
        return HistoryFile(path, force=self._force)

    def __enter__(self) -> Self:
        refuse_existing(self.path, force=self._force)
        return self

    def on_epoch(self, entry: Entry) -> None:
        """Write one row more."""
        self._history.append(entry)
        write_history(self._history, self.path)


class Saving(Callback):
    """Saves the scorer, before those that come after this one look at it.

    Parameters
    ----------
    path
        Of the model file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def for_member(self, name: str) -> Callback:  # noqa: ARG002
        """Return one that does nothing: it is all models together that are to be saved."""
        return Callback()

    def on_end(self, scorer: Any, problem: Any) -> None:  # noqa: ARG002
        """Write the model file."""
        scorer.save(self.path)


def write_history(history: Sequence[Entry], path: Path) -> Path:
    """Write a history as CSV: a line of names, then one line per epoch."""
    names = list(dict.fromkeys(name for entry in history for name in entry))
    with appearing(path, force=True) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, names, lineterminator="\n")
        table.writeheader()
        for entry in history:
            table.writerow({name: f"{value:.8g}" for name, value in entry.items()})
    return path
