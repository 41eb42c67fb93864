"""An expression per event in, the fold of each event out, and which folds a training has.

For each fold there is a model that was trained on all others. The fold of an event is a function of
the event alone, so that it gets a model that has not seen it wherever it turns up.
"""

from itertools import pairwise
from typing import Annotated, Any, Self

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from tracksets.configuration import Configuration
from tracksets.errors import DataError
from tracksets.expressions import parse

__all__ = ("Folds", "checked_per_event", "whole_numbers")

_MOST = 100


def checked_per_event(text: str) -> str:
    """Return an expression that gives one number per event, of what is in the event."""
    parsed = parse(text)
    if parsed.width != 1:
        raise ValueError(f"'{text}' gives several numbers per event")
    if not parsed.names:
        raise ValueError(f"'{text}' names no branch and is the same for all events")
    return text


class Folds(Configuration):
    """The folds of a training.

    Parameters
    ----------
    expression
        Gives the fold of an event: `event % 5`.
    values
        The folds of the training events, rising. For each of them, in this order, there is a model
        that was trained without it, or several such models, and it scores the events of this fold.
        Events of other folds were not in the training, and get the mean of all.
    """

    expression: str
    values: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=2, max_length=_MOST)
    ]

    _expression = field_validator("expression")(checked_per_event)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(right <= left for left, right in pairwise(self.values)):
            raise ValueError(f"the folds {list(self.values)} are not rising")
        return self

    @classmethod
    def of(cls, expression: str, values: NDArray[Any]) -> tuple[Self, Int[np.ndarray, " event"]]:
        """Find the folds of training events.

        Parameters
        ----------
        expression
            That of the folds.
        values
            What it gives for each event.

        Returns
        -------
        tuple
            The folds, and that of each event.

        Raises
        ------
        DataError
            If there is only one fold, or more than a hundred, or a negative one.
        """
        numbers = whole_numbers(values, expression)
        there = np.unique(numbers)
        if len(there) and there[0] < 0:
            raise DataError(
                f"the fold expression '{expression}' gives {there[0]} for a training event; "
                "expected 0 and above, since a negative fold says that an event is not trained on"
            )
        if not 2 <= len(there) <= _MOST:
            raise DataError(
                f"the fold expression '{expression}' gives {len(there)} different number(s) for "
                f"the training events; expected 2 to {_MOST}, as event % 5 gives"
            )
        return cls(expression=expression, values=tuple(there.tolist())), numbers


def whole_numbers(values: NDArray[Any], expression: str) -> Int[np.ndarray, " event"]:
    """Check that what an expression gives are whole numbers; int64, shape (n_event,).

    Raises
    ------
    DataError
        If one is not.
    """
    if values.dtype.kind == "f":
        bad = ~(np.abs(values) < 2**53) | (values != np.floor(values))
        if bad.any():
            raise DataError(
                f"the fold expression '{expression}' gives {values[bad][0]:g} where a whole number "
                "is needed, as event % 5 gives"
            )
    return values.astype(np.int64)
