"""Flat inputs of all events in; some at a time out, in order or shuffled, in bounded memory."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tracksets.features import JaggedInputs

__all__ = ("InMemory", "Indices", "Pool", "Store", "event_bytes")

Indices = NDArray[np.int64]
_PART = 65_536
_PART_BYTES = 32_000_000


class Pool(NamedTuple):
    """Events in memory, and in which order to take which of them.

    Attributes
    ----------
    inputs
        Flat inputs.
    order
        Indices into them.
    events
        The numbers of these events in the whole sample; as long as `order`.
    """

    inputs: JaggedInputs
    order: Indices
    events: Indices


class Store(ABC):
    """Flat inputs of events that are numbered from 0."""

    @property
    @abstractmethod
    def counts(self) -> Mapping[str, NDArray[Any]]:
        """Tracks of every event, by collection."""

    @property
    @abstractmethod
    def widths(self) -> tuple[Mapping[str, int], int]:
        """Features by collection, and event-level features."""

    @abstractmethod
    def orders(self, events: Indices, random: np.random.Generator) -> Iterator[Indices]:
        """Share these events out to pools of bounded memory; yield the events of each, in order.

        Nothing is read for that.
        """

    @abstractmethod
    def pools(self, orders: Iterable[Indices]) -> Iterator[Pool]:
        """Read the events of each pool, the next one while its predecessor is in use."""

    @abstractmethod
    def load(self, portions: Iterable[Indices]) -> Iterator[JaggedInputs]:
        """Copy events, in rising order, a portion at a time."""

    def parts(self, events: Indices) -> Iterator[tuple[JaggedInputs, Indices]]:
        """Go through these events, in rising order, with bounded memory; yield their numbers too.

        How they are shared out does not depend on where they are kept.
        """
        portions = list(self._portions(events))
        yield from zip(self.load(portions), portions, strict=True)

    def _portions(self, events: Indices) -> Iterator[Indices]:
        for start in range(0, len(events), _PART):
            some = events[start : start + _PART]
            cells = np.cumsum(self.sizes(some)) // _PART_BYTES
            yield from np.split(some, np.flatnonzero(np.diff(cells)) + 1)

    def sizes(self, events: Indices | slice) -> NDArray[np.int64]:
        """Return how many bytes each of these events takes in a pool."""
        return event_bytes({name: each[events] for name, each in self.counts.items()}, self.widths)

    def close(self) -> None:  # noqa: B027  # there may be nothing
        """Give back what the store holds; it is of no use afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def event_bytes(
    counts: Mapping[str, NDArray[Any]], widths: tuple[Mapping[str, int], int]
) -> NDArray[np.int64]:
    """Return how many bytes events with so many tracks take: of features, counts and order."""
    n_event = len(next(iter(counts.values())))
    size = np.full(n_event, 4 * widths[1] + 16 + 16 * len(counts), np.int64)
    for name, each in counts.items():
        size += 4 * widths[0][name] * each.astype(np.int64)
    return size


@dataclass(frozen=True)
class InMemory(Store):
    """Flat inputs in memory; all of them are one pool.

    Attributes
    ----------
    inputs
        Of all events.
    """

    inputs: JaggedInputs

    @property
    def counts(self) -> Mapping[str, NDArray[Any]]:
        """Tracks of every event, by collection."""
        return self.inputs.counts

    @property
    def widths(self) -> tuple[Mapping[str, int], int]:
        """Features by collection, and event-level features."""
        return self.inputs.widths

    def orders(self, events: Indices, random: np.random.Generator) -> Iterator[Indices]:
        """Put the events in random order."""
        yield random.permutation(events)

    def pools(self, orders: Iterable[Indices]) -> Iterator[Pool]:
        """Take the events from where they are."""
        for order in orders:
            yield Pool(self.inputs, order, order)

    def load(self, portions: Iterable[Indices]) -> Iterator[JaggedInputs]:
        """Copy events, in rising order, a portion at a time."""
        return map(self.inputs.take, portions)
