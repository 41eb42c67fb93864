"""Settings in; the direction of a step and the learning rate of every step out."""

import jax
import numpy as np
import optax
from jaxtyping import Float

from tracksets.settings import Training

__all__ = ("direction", "learning_rates")


def direction(training: Training) -> optax.GradientTransformation:
    """Return what turns a gradient into a step that is yet to be scaled by `-learning_rate`.

    The rate stays outside so that one compiled step serves every rate and schedule.
    """
    parts = []
    if training.clip_gradient is not None:
        parts.append(optax.clip_by_global_norm(training.clip_gradient))
    parts.append(optax.scale_by_adam())
    if training.weight_decay:
        parts.append(optax.add_decayed_weights(training.weight_decay))
    return optax.chain(*parts)


def learning_rates(training: Training, steps_per_epoch: float) -> Float[np.ndarray, " step"]:
    """Compute the learning rate of every step, float32; the last one is for any that follow.

    Parameters
    ----------
    training
        Rate, schedule, warm-up and number of epochs.
    steps_per_epoch
        As estimated: how many blocks the events fill depends on their order.
    """
    n_step = max(1, round(training.epochs * steps_per_epoch))
    warmup = round(training.warmup * steps_per_epoch)
    peak = training.learning_rate
    schedule = {
        "constant": lambda: optax.constant_schedule(peak),
        "cosine": lambda: optax.cosine_decay_schedule(peak, max(1, n_step - warmup)),
        "one-cycle": lambda: optax.cosine_onecycle_schedule(n_step, peak),
    }[training.schedule]()
    if warmup:
        rise = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
        schedule = optax.join_schedules([rise, schedule], [warmup])
    rates = jax.vmap(schedule)(np.arange(n_step))
    return np.broadcast_to(np.asarray(rates, np.float32), n_step)
