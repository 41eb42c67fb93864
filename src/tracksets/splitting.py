"""Training events in; which of them each model is trained on, and which decide when it stops, out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Self

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from tracksets.errors import ConfigError, DataError
from tracksets.folds import Folds
from tracksets.settings import Training

__all__ = ("Member", "Splitting", "split")

Indices = Int[np.ndarray, " event"]


@dataclass(frozen=True)
class Member:
    """One model to train, of one or several.

    Attributes
    ----------
    name
        What to call it: `fold 2 of 5`; empty if it is the only one.
    folder
        Of its checkpoints, below that of the training.
    training
        How to train it, with its own seed.
    fold
        The fold that it is trained without.
    chosen, held_out
        The events that it is trained on, and those that decide when to stop; each in rising order.
    """

    name: str
    folder: str
    training: Training
    fold: int | None
    chosen: Indices
    held_out: Indices

    @property
    def where(self) -> str:
        """The name, as the start of a message."""
        return f"{self.name}: " if self.name else ""


@dataclass(frozen=True)
class Splitting:
    """Which models there are to train, and on what.

    Attributes
    ----------
    n_event
        Number of events.
    training
        How to train; `folds` and `ensemble` say how many models.
    folds, numbers
        If there are any: the folds, and that of each event, shape (n_event,).
    validation
        If an expression says it: which events are held out, shape (n_event,).
    """

    n_event: int
    training: Training
    folds: Folds | None = None
    numbers: Indices | None = None
    validation: NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls, n_event: int, training: Training, columns: Mapping[str, NDArray[np.generic]]
    ) -> Self:
        """Make that of a training; `columns` has the values of its expressions.

        Raises
        ------
        DataError
            If the folds cannot be meant.
        """
        folds = numbers = validation = None
        if training.folds is not None:
            folds, numbers = Folds.of(training.folds, columns[training.folds])
        if isinstance(training.validation, str):
            values = columns[training.validation]
            validation = (values != 0) & ~np.isnan(values)
        return cls(n_event, training, folds, numbers, validation)

    @property
    def n_member(self) -> int:
        """Number of models."""
        return self.training.ensemble * (len(self.folds.values) if self.folds else 1)

    def members(self) -> Iterator[Member]:
        """Go through the models: by fold, and by seed within a fold.

        The events of a fold are nothing to its models: they neither are trained on nor decide when
        to stop.

        Raises
        ------
        DataError
            If the validation expression chooses all events of a model, or none.
        """
        values = self.folds.values if self.folds else (None,)
        n_seed = self.training.ensemble
        for (i, value), j in product(enumerate(values), range(n_seed)):
            names = [f"fold {i + 1} of {len(values)}"] if value is not None else []
            names += [f"model {j + 1} of {n_seed}"] if n_seed > 1 else []
            seed = (self.training.seed + j) % 2**32
            training = self.training.model_copy(update={"seed": seed})
            events = np.arange(self.n_event)
            if value is not None:
                events = np.flatnonzero(self.numbers != value)
            name = ", ".join(names)
            folder = f"model_{i * n_seed + j}" if name else ""
            yield Member(name, folder, training, value, *self._split(events, training, name))

    def unseen(self) -> Indices:
        """Return the events whose score is by models that were not trained on them.

        Raises
        ------
        ConfigError
            If each of several models holds out others.
        """
        if self.folds is not None:
            return np.arange(self.n_event)
        if self.n_member > 1 and self.validation is None:
            raise ConfigError(
                "each model of an ensemble holds out other events, which leaves none to calibrate "
                "on: state an expression as validation, or folds; or calibrate on other files"
            )
        return next(self.members()).held_out

    def _split(self, events: Indices, training: Training, name: str) -> tuple[Indices, Indices]:
        if self.validation is None:
            chosen, held_out = split(len(events), training)
            return events[chosen], events[held_out]
        mask = self.validation[events]
        if mask.all() or not mask.any():
            raise DataError(
                f"{name}{': ' if name else ''}the validation expression '{training.validation}' "
                f"holds out {int(mask.sum())} of {len(events)} events; expected some, and not all"
            )
        return events[~mask], events[mask]


def split(n_event: int, training: Training) -> tuple[Indices, Indices]:
    """Draw a fraction of the events that is held out; each in rising order."""
    order = np.random.default_rng([training.seed, 0]).permutation(n_event)
    n = round(float(training.validation) * n_event)
    return np.sort(order[n:]), np.sort(order[:n])
