"""Steps and epochs of a training in, events for TensorBoard out; by tensorboardX."""

import os
from pathlib import Path
from typing import Any, Self

from tracksets.callbacks import Callback, Entry, Step
from tracksets.errors import FileError, MissingExtraError

__all__ = ("TensorBoard",)


class TensorBoard(Callback):
    """Writes loss and learning rate of every step, and all that is known of every epoch.

    A training that goes on writes the epochs before once more, with the same values.

    Parameters
    ----------
    folder
        Of this run; `tensorboard --logdir` shows the folder above it, with all runs beside it.

    Raises
    ------
    MissingExtraError
        If tensorboardX is not installed.
    FileError
        When the training begins, if the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise MissingExtraError(str(error.name), "tensorboard", "TensorBoard") from error
        self.folder = Path(folder)
        self._new = SummaryWriter
        self._writer: Any = None

    def for_member(self, name: str) -> Callback:
        """Return one that writes into a folder of this name below."""
        return TensorBoard(self.folder / name)

    def __enter__(self) -> Self:
        try:
            self._writer = self._new(str(self.folder), flush_secs=10)
        except OSError as error:
            raise FileError(f"cannot write to the folder {self.folder}: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def on_step(self, step: Step) -> None:
        """Write what is known of a step, by its number."""
        self._writer.add_scalar("step/loss", step.loss, step.step)
        self._writer.add_scalar("step/learning_rate", step.learning_rate, step.step)

    def on_epoch(self, entry: Entry) -> None:
        """Write what is known of an epoch, by its number."""
        epoch = int(entry["epoch"])
        for name, value in entry.items():
            if name != "epoch":
                self._writer.add_scalar(f"epoch/{name}", value, epoch)
