"""Multiplicities in; the slots of a block that typical events fill evenly out."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracksets.errors import ConfigError

__all__ = ("DEFAULT_TRACKS", "LADDER", "Shape")

DEFAULT_TRACKS = 16384
LADDER = 4
"""Each larger block has this many times the slots of the one before."""


@dataclass(frozen=True)
class Shape:
    """The slots of a block.

    Attributes
    ----------
    tracks
        Track slots by collection.
    events
        Event slots.
    """

    tracks: Mapping[str, int]
    events: int

    @staticmethod
    def for_multiplicities(
        counts: Mapping[str, NDArray[np.int64]],
        block_tracks: int = DEFAULT_TRACKS,
        block_events: int | None = None,
    ) -> "Shape":
        """Choose slots that typical events fill evenly.

        Parameters
        ----------
        counts
            Tracks per event of each collection.
        block_tracks
            Track slots of the collection with most tracks; the others get slots in proportion.
        block_events
            Event slots; by default as many as a block of such events holds, two standard
            deviations above the mean.

        Raises
        ------
        ConfigError
            If a size is not positive.
        """
        if block_tracks < 1 or (block_events is not None and block_events < 1):
            raise ConfigError("a block needs at least one track slot and one event slot")
        n_event = max(len(next(iter(counts.values()))), 1)
        means = {name: max(float(each.sum()) / n_event, 1e-3) for name, each in counts.items()}
        largest = max(means, key=lambda name: means[name])
        tracks = {}
        for name, mean in means.items():
            slots = block_tracks * mean / means[largest]
            if name != largest:  # room for fluctuations, so that the largest one fills up
                spread = float(counts[name].std()) if len(counts[name]) else 0.0
                slots += 3 * spread * np.sqrt(block_tracks / means[largest]) + 8
            tracks[name] = int(np.ceil(slots))
        if block_events is None:
            mean = means[largest]
            spread = float(counts[largest].std()) if len(counts[largest]) else 0.0
            expected = block_tracks / max(mean, 1.0)
            fluctuation = np.sqrt(expected) * spread / max(mean, 1.0)
            block_events = int(np.ceil(expected + 2 * fluctuation + 1))
        return Shape(tracks, block_events)

    def rung(self, k: int) -> "Shape":
        """Return the shape with `LADDER**k` times the track slots."""
        return Shape({name: n * LADDER**k for name, n in self.tracks.items()}, self.events)
