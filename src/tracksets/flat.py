"""The carrier between events and blocks: `JaggedInputs`, flat and in order."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from tracksets.jagged import Axis

__all__ = ("JaggedInputs",)


@dataclass(frozen=True)
class JaggedInputs:
    """What the network sees of a number of events, flat.

    Attributes
    ----------
    counts
        By collection: tracks of each event, int64, shape (n_event,).
    tracks
        By collection: float32, shape (n_track, n_feature), the tracks of event 0 first.
    event
        Event-level features, float32, shape (n_event, n_event_feature).
    fold
        For models with folds: that of each event, int64, shape (n_event,).
    """

    counts: dict[str, Int[np.ndarray, " event"]]
    tracks: dict[str, Float[np.ndarray, "track feature"]]
    event: Float[np.ndarray, "event feature"]
    fold: Int[np.ndarray, " event"] | None = None

    @cached_property
    def axes(self) -> dict[str, Axis]:
        """By collection: how the tracks are shared out."""
        return {name: Axis(counts) for name, counts in self.counts.items()}

    @property
    def n_event(self) -> int:
        """Number of events."""
        return len(self.event)

    @property
    def n_track(self) -> int:
        """Number of tracks of all collections."""
        return sum(len(each) for each in self.tracks.values())

    @property
    def widths(self) -> tuple[dict[str, int], int]:
        """Features by collection, and event-level features."""
        return {name: each.shape[1] for name, each in self.tracks.items()}, self.event.shape[1]

    def take(self, events: Int[np.ndarray, " chosen"]) -> "JaggedInputs":
        """Return the chosen events, in the order of `events` (indices)."""
        counts, tracks = {}, {}
        for name, axis in self.axes.items():
            chosen = Axis(axis.counts[events])
            shift = axis.offsets[:-1][events] - chosen.offsets[:-1]
            where = np.repeat(shift, chosen.counts) + np.arange(chosen.n_track)
            counts[name], tracks[name] = chosen.counts, self.tracks[name][where]
        fold = None if self.fold is None else self.fold[events]
        return JaggedInputs(counts, tracks, self.event[events], fold)

    def slice(self, start: int, stop: int) -> "JaggedInputs":
        """Return the events from `start` to before `stop`; tracks are not copied."""
        counts, tracks = {}, {}
        for name, axis in self.axes.items():
            counts[name] = axis.counts[start:stop]
            tracks[name] = self.tracks[name][axis.offsets[start] : axis.offsets[stop]]
        fold = None if self.fold is None else self.fold[start:stop]
        return JaggedInputs(counts, tracks, self.event[start:stop], fold)

    @staticmethod
    def concatenate(parts: "list[JaggedInputs]") -> "JaggedInputs":
        """Join events of several sources, in order."""
        names = parts[0].counts
        folds = [part.fold for part in parts if part.fold is not None]
        return JaggedInputs(
            {name: np.concatenate([part.counts[name] for part in parts]) for name in names},
            {name: np.concatenate([part.tracks[name] for part in parts]) for name in names},
            np.concatenate([part.event for part in parts]),
            np.concatenate(folds) if len(folds) == len(parts) else None,
        )
