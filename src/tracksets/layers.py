"""Arrays in, arrays out: the layers that a Deep Set is made of."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from tracksets.models import Activation
from tracksets.scaling import Scaling

__all__ = ("STEEPEST", "Dense", "Phi", "Precision", "Standardise", "affine", "dropping")

Precision = Literal["float32", "bfloat16"]
_ACTIVATIONS: Mapping[Activation, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    # Their gradients are made of several arrays, which take longer to store than to compute again.
    "gelu": jax.checkpoint(jax.nn.gelu),
    "silu": jax.checkpoint(jax.nn.silu),
    "tanh": jnp.tanh,
}
STEEPEST = 8.0
"""Bound of the logarithm of a track's weight in the pooling `softmax`."""


class Constant(nnx.Variable):  # type: ignore[type-arg]
    """An array of the network that training leaves alone."""


class Standardise(nnx.Module):
    """`(x - shift) * scale`, with constants from the training data."""

    def __init__(self, width: int) -> None:
        self.shift = Constant(jnp.zeros(width))
        self.scale = Constant(jnp.ones(width))

    def __call__(self, x: Float[Array, "n feature"]) -> Float[Array, "n feature"]:
        """Standardise; the same for every row."""
        return (x - self.shift[None, :]) * self.scale[None, :]

    def set(self, scaling: Scaling) -> None:
        """Take over constants."""
        self.shift[...] = jnp.asarray(scaling.shift)
        self.scale[...] = jnp.asarray(scaling.scale)


class Dense(nnx.Module):
    """Feed-forward layers, each followed by the activation.

    Weights are drawn as He et al. (arXiv:1502.01852) propose for rectified activations. Residual
    layers see their input normalised, row by row, and add to it where the widths allow it; not
    the first one, as features have no common scale and sums over tracks mean something.
    """

    def __init__(
        self,
        n_in: int,
        widths: tuple[int, ...],
        activation: Activation,
        residual: bool = False,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.layers: nnx.List[nnx.Linear] = nnx.List([])
        for width in widths:
            self.layers.append(
                nnx.Linear(n_in, width, kernel_init=nnx.initializers.he_uniform(), rngs=rngs)
            )
            n_in = width
        if residual:
            self.norms: nnx.List[nnx.LayerNorm] = nnx.List(
                [nnx.LayerNorm(n, use_fast_variance=False, rngs=rngs) for n in widths[:-1]]
            )
        self.activation = activation
        self.residual = residual

    def __call__(
        self,
        x: Float[Array, "n feature"],
        dtype: Precision = "float32",
        drop: Callable[[Array], Array] = lambda x: x,
        shift: Float[Array, "n width"] | None = None,
    ) -> Float[Array, "n latent"]:
        """Run the layers.

        Parameters
        ----------
        x
            One row per track or event.
        dtype
            What to compute in.
        drop
            What to do with the result of each layer.
        shift
            What the first layer makes of numbers behind those of `x`; see `Phi.shift`.
        """
        activation = _ACTIVATIONS[self.activation]
        for i, layer in enumerate(self.layers):
            norm = self.norms[i - 1] if self.residual and i else None
            seen = x if norm is None else norm(x.astype(jnp.float32))
            y = affine(layer, seen, dtype)
            if shift is not None and i == 0:
                y = y + shift.astype(dtype)
            y = drop(activation(y))
            x = x + y if norm is not None and x.shape == y.shape else y
        return x


class Phi(Dense):
    """The layers that every track passes.

    Parameters
    ----------
    n_in
        Features per track.
    n_context
        What is known of its event.
    attends
        Whether the latent gets a logit, for the pooling `softmax`.
    """

    def __init__(
        self,
        n_in: int,
        widths: tuple[int, ...],
        activation: Activation,
        residual: bool,
        n_context: int = 0,
        attends: bool = False,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(n_in + n_context, widths, activation, residual, rngs=rngs)
        self.n_in = n_in
        if attends:
            self.attention = nnx.Linear(widths[-1], 1, rngs=rngs)

    def shift(
        self, context: Float[Array, "event context"], dtype: Precision
    ) -> Float[Array, "event width"]:
        """Compute what the context adds in the first layer: once per event, not per track."""
        shift: Array = context.astype(dtype) @ self.layers[0].kernel[self.n_in :].astype(dtype)
        return shift

    def logits(self, latent: Float[Array, "track latent"]) -> Float[Array, " track"]:
        """Compute the logarithm of each track's weight, between -`STEEPEST` and `STEEPEST`.

        Within these bounds sums of exponentials need no largest logit, which would take a pass of
        its own over the tracks.
        """
        return STEEPEST * jnp.tanh(affine(self.attention, latent, "float32")[:, 0] / STEEPEST)


def affine(layer: Any, x: Float[Array, "n feature"], dtype: Precision) -> Float[Array, "n output"]:
    """Multiply by the kernel, as many rows of it as there are features, and add the bias."""
    kernel, bias = layer.kernel[...].astype(dtype), layer.bias[...].astype(dtype)
    y: Array = x.astype(dtype) @ kernel[: x.shape[1]] + bias[None, :]
    return y


def dropping(rate: float, key: Array | None) -> Callable[[Array], Array]:
    """Return what drops numbers at random and scales up the others, another choice each time."""
    if not rate or key is None:
        return lambda x: x
    calls = itertools.count()

    def drop(x: Array) -> Array:
        kept = jax.random.bernoulli(jax.random.fold_in(key, next(calls)), 1 - rate, x.shape)
        return jnp.where(kept, x / (1 - rate), jnp.zeros_like(x))

    return drop
