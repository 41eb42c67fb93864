"""How to train, as configuration: `Training`. Nothing here touches data."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tracksets.blocks import DEFAULT_TRACKS
from tracksets.inputs import Configuration

__all__ = ("Training",)

_Positive = Annotated[float, Field(gt=0)]
_Fraction = Annotated[float, Field(ge=0, lt=1)]


class Training(Configuration):
    """How to train.

    Parameters
    ----------
    epochs
        Most passes over the training events.
    block_tracks
        Track slots of a block: the batch size, counted in tracks.
    block_events
        Event slots of a block; by default what typical events fill.
    blocks_per_step
        Blocks whose gradients are added up for one step, shared out among the devices. At least
        one for each device.
    learning_rate
        Of Adam (Kingma, Ba, arXiv:1412.6980); the largest one where it has a schedule.
    schedule
        `constant`; `cosine`, which falls to zero along half a cosine (Loshchilov, Hutter,
        arXiv:1608.03983); `one-cycle`, which rises from 1/25 for the first 30 % of the steps and
        falls to almost zero (Smith, Topin, arXiv:1708.07120).
    warmup
        Epochs, also parts of one, in which the learning rate rises from almost zero.
    weight_decay
        Decoupled, as in AdamW (Loshchilov, Hutter, arXiv:1711.05101).
    clip_gradient
        Largest norm of the gradient of a step; a longer one is shortened to it.
    label_smoothing
        Share of the target that is spread over all classes (Szegedy et al., arXiv:1512.00567).
    dropout
        Probability that a number behind the pooling is dropped in a step: of the pooled latent,
        the event-level features and each hidden layer of rho.
    average
        Decay per step of an exponential moving average of the parameters, which is then what is
        validated and kept: 0.999 averages over the last thousand steps.
    precision
        What the layers compute in: `float32`, or `bfloat16`, which accelerators do faster. Sums
        over tracks, losses and parameters are float32 in either case.
    validation
        Fraction of the events that is not trained on and decides when to stop.
    metric
        What decides which epoch is best: the `loss` or the `auc` of the validation events.
    patience
        Epochs without a better metric before training stops. The best parameters are kept.
    seed
        Of the split, the initial weights and the order of events.
    memory_gb
        Gigabytes of inputs from files that are held in memory. More than that are kept in a
        temporary file, and go through a shuffle buffer of this size.
    checkpoint_minutes
        Time between two checkpoints, where there is a folder for them.
    """

    epochs: Annotated[int, Field(gt=0)] = 30
    block_tracks: Annotated[int, Field(gt=0)] = DEFAULT_TRACKS
    block_events: Annotated[int, Field(gt=0)] | None = None
    blocks_per_step: Annotated[int, Field(gt=0)] = 1
    learning_rate: _Positive = 1e-3
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    warmup: Annotated[float, Field(ge=0)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_gradient: _Positive | None = None
    label_smoothing: _Fraction = 0.0
    dropout: _Fraction = 0.0
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    validation: _Fraction = 0.2
    metric: Literal["loss", "auc"] = "loss"
    patience: Annotated[int, Field(gt=0)] = 5
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    memory_gb: _Positive = 0.5
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 5.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.warmup and self.schedule == "one-cycle":
            raise ValueError("one-cycle rises by itself: leave warmup out")
        if self.warmup >= self.epochs:
            raise ValueError(f"warmup takes {self.warmup:g} of {self.epochs} epochs")
        if self.metric != "loss" and not self.validation:
            raise ValueError(f"metric = '{self.metric}' needs validation events")
        return self
