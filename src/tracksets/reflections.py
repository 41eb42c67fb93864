"""Features that change sign together in; blocks out whose events are reflected at random.

Where a reflection changes nothing of what is learned, as that of the beam axis or of an angle
around a jet's axis, each event stands for all its mirror images. A network that is trained on
another one in each epoch needs fewer events to find that out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, Int

from tracksets.blocks import Block
from tracksets.errors import ConfigError, near_misses
from tracksets.inputs import Inputs, feature_names

__all__ = ("Mirrors", "Reflections")


@dataclass(frozen=True)
class Reflections:
    """What changes sign in each of some reflections.

    Attributes
    ----------
    tracks
        By collection: whether a feature does, shape (n_reflection, n_feature).
    event
        The same of the event-level features.
    """

    tracks: Mapping[str, Bool[np.ndarray, "reflection feature"]]
    event: Bool[np.ndarray, "reflection feature"]

    @classmethod
    def of(cls, reflections: Sequence[Sequence[str]], inputs: Inputs) -> Self:
        """Find the features that are named, wherever the inputs have them.

        Raises
        ------
        ConfigError
            If one of them is nowhere.
        """
        names = {name: feature_names(each.features) for name, each in inputs.collections.items()}
        names[""] = feature_names(inputs.event)
        every = [name for each in names.values() for name in each]
        for name in chain.from_iterable(reflections):
            if name not in every:
                raise ConfigError(f"reflections: no feature {name!r}; {near_misses(name, every)}")
        signs = {
            where: np.array([[name in each for name in known] for each in reflections], bool)
            for where, known in names.items()
        }
        return cls(signs, signs.pop(""))

    def mirrors(self, seed: Sequence[int], n_event: int) -> "Mirrors":
        """Draw which of `n_event` events are reflected how."""
        n = len(self.event)
        return Mirrors(self, np.random.default_rng(seed).integers(0, 2, (n_event, n), bool))


@dataclass(frozen=True)
class Mirrors:
    """The reflections of some events.

    Attributes
    ----------
    reflections
        Those that there are.
    chosen
        Which of them are applied to each event, shape (n_event, n_reflection).
    """

    reflections: Reflections
    chosen: Bool[np.ndarray, "event reflection"]

    def __call__(self, block: Block, events: Int[np.ndarray, " event"]) -> Block:
        """Reflect the events of a block, given their numbers; padding stays as it is."""
        # One row more, for the tracks of padding.
        chosen = np.zeros((len(block.mask) + 1, self.chosen.shape[1]), bool)
        chosen[: len(events)] = self.chosen[events]
        tracks = {
            name: each * _signs(chosen, self.reflections.tracks[name])[block.rows[name]]
            for name, each in block.tracks.items()
        }
        event = block.event * _signs(chosen[:-1], self.reflections.event)
        return replace(block, tracks=tracks, event=event)


def _signs(
    chosen: Bool[np.ndarray, "event reflection"],
    changing: Bool[np.ndarray, "reflection feature"],
) -> Float[np.ndarray, "event feature"]:
    """Return -1 where an odd number of the chosen reflections change a feature, else 1."""
    odd = chosen.astype(np.float32) @ changing.astype(np.float32) % 2
    return 1 - 2 * odd
