"""What to train in, and on what events; the batches of each epoch out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tracksets.blocks import Shape
from tracksets.network import Architecture
from tracksets.reflections import Reflections
from tracksets.samples import Batch, Part
from tracksets.scaling import Scaling
from tracksets.targets import Task

__all__ = ("Problem",)


@dataclass(frozen=True)
class Problem:
    """What to train, and on what.

    Attributes
    ----------
    architecture, task, scaling
        Of the network.
    sample, validation
        What to train on, and what decides when to stop.
    shape
        Slots of the blocks.
    features
        By collection: names of the features, for messages.
    multiplicity
        By collection: how large a sum over the tracks of an event typically is; 1 where
        nothing is said.
    reflections
        What training events are reflected in at random, if in anything.
    """

    architecture: Architecture
    task: Task
    scaling: tuple[dict[str, Scaling], Scaling]
    sample: Part
    validation: Part | None
    shape: Shape
    features: Mapping[str, Sequence[str]] = field(default_factory=dict)
    multiplicity: Mapping[str, float] = field(default_factory=dict)
    reflections: Reflections | None = None

    def batches(self, seed: int, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Pack the training events of an epoch, in random order and reflected at random.

        All random numbers follow from the seed and from where the training stands; the first
        `skip` batches are left out.
        """
        random = np.random.default_rng([seed, 1, epoch])
        if self.reflections is None:
            return self.sample.shuffled(self.shape, random, skip)
        mirrors = self.reflections.mirrors([seed, 2, epoch], len(self.sample.sample.weights))
        return self.sample.shuffled(self.shape, random, skip, mirrors)
