"""Steps under way in, their losses out; what is not finite stops the training and is explained."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from flax import nnx
from jaxtyping import Array
from numpy.typing import NDArray

from tracksets.callbacks import Entry, Step
from tracksets.compiling import compiled
from tracksets.errors import NonFiniteError
from tracksets.network import Architecture
from tracksets.samples import Batch
from tracksets.scaling import Scaling

__all__ = ("IN_FLIGHT", "REMEDY", "Progress", "Watch")

IN_FLIGHT = 4
"""Steps that may wait in JAX's queue; more only hold memory."""
REMEDY = "lower the learning rate, clip_gradient, or clip extreme features"


@dataclass
class Progress:
    """How far a training has come; with the arrays, all there is to know to go on.

    Attributes
    ----------
    epoch
        The present one, counted from 1.
    losses
        Of its steps so far.
    step
        Steps of all epochs.
    history
        Of the epochs that are complete.
    best_epoch, best_metric
        The best one of them; the smaller the metric, the better.
    finished
        Whether there is nothing left to do.
    """

    epoch: int = 1
    losses: list[float] = field(default_factory=list)
    step: int = 0
    history: list[Entry] = field(default_factory=list)
    best_epoch: int = 0
    best_metric: float = np.inf
    finished: bool = False


class Watch:
    """Collects the losses of steps as they are computed, and stops at one that is not finite.

    Parameters
    ----------
    architecture, scaling, features
        Of the network, to say what is largest where something is not finite.
    progress
        Where the losses go.
    on_step
        Called with each step when its loss is known.

    Attributes
    ----------
    events
        In the steps that are known.

    Raises
    ------
    NonFiniteError
        From `add` and `finish`, if a loss or a gradient is NaN or infinite.
    """

    def __init__(
        self,
        architecture: Architecture,
        scaling: tuple[Mapping[str, Scaling], Scaling],
        features: Mapping[str, Sequence[str]],
        progress: Progress,
        on_step: Callable[[Step], None] = lambda _step: None,
    ) -> None:
        self.architecture, self.scaling = architecture, scaling
        self.features, self.progress = features, progress
        self.on_step = on_step
        self.events = 0
        self.waiting: deque[tuple[Batch, Array, Array, float]] = deque()

    def add(self, stack: Batch, loss: Array, largest: Array, rate: float = 0.0) -> None:
        """Take a step whose result is yet to come."""
        self.waiting.append((stack, loss, largest, rate))
        if len(self.waiting) > IN_FLIGHT:
            self._fetch()

    def finish(self) -> None:
        """Wait for all steps."""
        while self.waiting:
            self._fetch()

    def _fetch(self) -> None:
        stack, loss, largest, rate = self.waiting.popleft()
        value, gradients = float(loss), np.asarray(largest)
        if not (np.isfinite(value) and np.isfinite(gradients).all()):
            self._stop(stack, value, gradients)
        progress = self.progress
        progress.losses.append(value)
        n_event = int(np.count_nonzero(stack.block.mask))
        self.events += n_event
        step = progress.step - len(self.waiting)
        self.on_step(Step(step, progress.epoch, n_event, value, rate))

    def _stop(self, stack: Batch, loss: float, largest: NDArray[np.float32]) -> None:
        progress = self.progress
        what = f"loss is {loss}" if not np.isfinite(loss) else "gradient is not finite"
        # Blocks are counted in steps: those of one step add up before anything is known of them.
        place = f"block {len(progress.losses)} of epoch {progress.epoch}"
        step = progress.step - len(self.waiting)
        raise NonFiniteError(
            f"the training {what} in {place} (step {step}): {REMEDY}.\n"
            f"  largest features: {', '.join(self._largest_features(stack))}\n"
            f"  largest gradients: {', '.join(self._largest_gradients(largest))}"
        )

    def _largest_features(self, stack: Batch) -> list[str]:
        """Name the features that are farthest from their centre, in units of their spread."""
        block = stack.block
        n_slot = block.mask.shape[-1]
        matrices = {name: (block.tracks[name], block.rows[name] < n_slot) for name in block.tracks}
        constants = {**self.scaling[0], "event": self.scaling[1]}
        found: list[tuple[float, str]] = []
        for name, (matrix, used) in {**matrices, "event": (block.event, block.mask)}.items():
            values = np.asarray(matrix)[np.asarray(used)]
            if not values.size:
                continue
            scaling = constants[name]
            size = np.abs((values - scaling.shift) * scaling.scale)
            size[np.isnan(size)] = np.inf
            rows = np.argmax(size, axis=0)
            for i, feature in enumerate(self.features.get(name) or range(len(rows))):
                largest = size[rows[i], i]
                text = f"{name} '{feature}' = {values[rows[i], i]:.4g} ({largest:.3g} σ)"
                found.append((float(largest), text))
        return [text for _, text in sorted(found, key=lambda each: -each[0])[:3]]

    def _largest_gradients(self, largest: NDArray[np.float32]) -> list[str]:
        params = nnx.state(compiled(self.architecture).new(0), nnx.Param)
        names = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(params)]
        order = np.argsort(-np.nan_to_num(largest, nan=np.inf), kind="stable")
        return [f"{names[i]} {largest[i]:.3g}" for i in order[:3]]
