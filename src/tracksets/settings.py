"""How to train, as configuration: `Training`. Nothing here touches data."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from tracksets.configuration import Configuration
from tracksets.folds import checked_per_event
from tracksets.slots import DEFAULT_TRACKS

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
    reflections
        Symmetries of what is learned, each as the features that change sign in it, wherever the
        inputs have them: `[["eta"], ["sin(phi)"]]`. In every epoch, each of them is applied to
        each training event, or not, at random.
    average
        Decay per step of an exponential moving average of the parameters, which is then what is
        validated and kept: 0.999 averages over the last thousand steps.
    precision
        What the layers compute in: `float32`, or `bfloat16`, which accelerators do faster. Sums
        over tracks, losses and parameters are float32 in either case.
    validation
        What is not trained on and decides when to stop: a fraction of the events, or those where
        an expression is not 0.
    metric
        What decides which epoch is best: the `loss` or the `auc` of the validation events.
    patience
        Epochs without a better metric before training stops. The best parameters are kept.
    folds
        An expression that gives each event a whole number: `event % 5`. For each number there is,
        a model is trained without these events; see `Folds`.
    ensemble
        Models that are trained on the same events, with the seeds `seed`, `seed + 1`, ...; for each
        fold, if there are folds. A score is the mean of theirs.
    calibration
        Whether probabilities are calibrated on the validation events afterwards, and how:
        `temperature` or `isotonic`.
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
    reflections: tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...] = ()
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    validation: float | str = 0.2
    metric: Literal["loss", "auc"] = "loss"
    patience: Annotated[int, Field(gt=0)] = 5
    folds: str | None = None
    ensemble: Annotated[int, Field(gt=0, le=100)] = 1
    calibration: Literal["temperature", "isotonic"] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    memory_gb: _Positive = 0.5
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 5.0

    @field_validator("validation", "folds")
    @classmethod
    def _per_event(cls, value: float | str | None) -> float | str | None:
        if isinstance(value, str):
            return checked_per_event(value)
        if value is not None and not 0 <= value < 1:
            raise ValueError(
                f"expected a fraction from 0 to below 1, or an expression, not {value:g}"
            )
        return value

    @property
    def expressions(self) -> list[str]:
        """What is evaluated for each event, beside its inputs."""
        return [text for text in (self.validation, self.folds) if isinstance(text, str)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.warmup and self.schedule == "one-cycle":
            raise ValueError("one-cycle rises by itself: leave warmup out")
        if self.warmup >= self.epochs:
            raise ValueError(f"warmup takes {self.warmup:g} of {self.epochs} epochs")
        if self.calibration and not self.validation:
            raise ValueError(f"calibration = '{self.calibration}' needs validation events")
        if self.metric != "loss" and not self.validation:
            raise ValueError(f"metric = '{self.metric}' needs validation events")
        return self
