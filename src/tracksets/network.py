"""A `Block` in, one output per event slot out: the Deep Set `rho(pool(phi(x)))`.

Zaheer et al., Deep Sets, NeurIPS 2017 (arXiv:1703.06114); with particles as elements it is the
Particle Flow Network of Komiske, Metodiev, Thaler, JHEP 01 (2019) 121 (arXiv:1810.05165).
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Self

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from pydantic import Field

from tracksets.blocks import Block
from tracksets.inputs import Configuration, Inputs
from tracksets.pooling import Pooling, pool_chunks
from tracksets.scaling import Scaling

__all__ = ("Architecture", "DeepSet", "Model")

_ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}
Width = Annotated[int, Field(gt=0, le=65536)]
Precision = Literal["float32", "bfloat16"]


class Model(Configuration):
    """Configuration of a Deep Set.

    Parameters
    ----------
    phi
        Widths of the layers that every track passes, each followed by the activation. The last
        one is the size of the latent.
    rho
        Widths of the hidden layers behind the pooling. A linear layer to the outputs follows.
    pool
        Poolings over the tracks of an event; their results are concatenated.
    activation
        `relu`, `gelu`, `silu` or `tanh`.
    """

    phi: Annotated[tuple[Width, ...], Field(min_length=1)] = (128, 128, 128)
    rho: tuple[Width, ...] = (128, 128)
    pool: Annotated[tuple[Pooling, ...], Field(min_length=1)] = ("sum",)
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"


class Architecture(Configuration):
    """Everything that decides the shapes of a network's arrays, and nothing else.

    Parameters
    ----------
    model
        The configuration of the network.
    tracks
        Features per track, by collection.
    event
        Event-level features.
    outputs
        Numbers that come out per event.
    """

    model: Model
    tracks: tuple[tuple[str, int], ...]
    event: int
    outputs: int

    @classmethod
    def of(cls, model: Model, inputs: Inputs, outputs: int) -> Self:
        """Return that of a network that sees these inputs."""
        tracks = tuple(inputs.widths.items())
        return cls(model=model, tracks=tracks, event=inputs.event_width, outputs=outputs)


class Constant(nnx.Variable):  # type: ignore[type-arg]
    """An array of the network that training leaves alone."""


class Standardise(nnx.Module):
    """`(x - shift) * scale`, with constants from the training data."""

    def __init__(self, width: int) -> None:
        self.shift = Constant(jnp.zeros(width))
        self.scale = Constant(jnp.ones(width))

    def __call__(self, x: Float[Array, "n feature"]) -> Float[Array, "n feature"]:
        return (x - self.shift[None, :]) * self.scale[None, :]

    def set(self, scaling: Scaling) -> None:
        """Take over constants."""
        self.shift[...] = jnp.asarray(scaling.shift)
        self.scale[...] = jnp.asarray(scaling.scale)


class Dense(nnx.Module):
    """Feed-forward layers, each followed by the activation.

    Weights are drawn as He et al. (arXiv:1502.01852) propose for rectified activations.
    """

    def __init__(
        self, n_in: int, widths: tuple[int, ...], activation: str, *, rngs: nnx.Rngs
    ) -> None:
        self.layers: nnx.List[nnx.Linear] = nnx.List([])
        for width in widths:
            self.layers.append(
                nnx.Linear(n_in, width, kernel_init=nnx.initializers.he_uniform(), rngs=rngs)
            )
            n_in = width
        self.activation = activation

    def __call__(
        self,
        x: Float[Array, "n feature"],
        dtype: Precision = "float32",
        drop: Callable[[Array], Array] = lambda x: x,
    ) -> Float[Array, "n latent"]:
        for layer in self.layers:
            x = drop(_ACTIVATIONS[self.activation](_affine(layer, x, dtype)))
        return x


class DeepSet(nnx.Module):
    """`rho(concatenate(pool(phi_c(tracks_c)) for each collection c, event features))`.

    Invariant under the order of the tracks of an event. The outputs are logits, or standardised
    targets; the scorer's link function makes scores of them.

    Parameters
    ----------
    model
        Layers and poolings.
    tracks
        Features per track, by collection.
    event
        Event-level features.
    outputs
        Numbers per event.
    rngs
        Random state for the initial weights.

    Examples
    --------
    >>> from flax import nnx
    >>> network = DeepSet(Model(phi=[8], rho=[8]), {"Track": 2}, rngs=nnx.Rngs(0))
    >>> network.phi["Track"].layers[0].kernel.shape
    (2, 8)
    """

    def __init__(
        self,
        model: Model,
        tracks: Mapping[str, int],
        event: int = 0,
        outputs: int = 1,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.model = model
        # An nnx.Dict that was split and merged comes back in alphabetical order, but the layers of
        # rho know where the latent of each collection stands.
        self.collections = tuple(tracks)
        self.scaling = nnx.Dict({name: Standardise(width) for name, width in tracks.items()})
        self.event_scaling = Standardise(event)
        self.phi = nnx.Dict(
            {
                name: Dense(width, model.phi, model.activation, rngs=rngs)
                for name, width in tracks.items()
            }
        )
        pooled = len(tracks) * len(model.pool) * model.phi[-1]
        self.rho = Dense(pooled + event, model.rho, model.activation, rngs=rngs)
        last = model.rho[-1] if model.rho else pooled + event
        # Small initial outputs: the first steps would otherwise be spent on shrinking them, as
        # sums over many tracks are large.
        self.out = nnx.Linear(
            last,
            outputs,
            kernel_init=nnx.initializers.variance_scaling(0.1, "fan_in", "normal"),
            rngs=rngs,
        )

    def __call__(
        self,
        block: Block,
        *,
        chunk: int | None = None,
        skip_padding: bool = False,
        dtype: Precision = "float32",
        dropout: float = 0.0,
        key: Array | None = None,
    ) -> Float[Array, "event output"]:
        """Compute the outputs of all event slots; those of padding mean nothing.

        Parameters
        ----------
        block
            Packed events.
        chunk
            Tracks to compute at a time; by default what suits the back end.
        skip_padding
            Don't compute chunks of padding. Faster, but without a reverse-mode derivative.
        dtype
            What the layers compute in. Features are standardised, tracks added up and outputs
            returned in float32 in either case.
        dropout, key
            Probability that a number behind the pooling is dropped, for training only, and the
            random state that decides which.
        """
        n_event = block.mask.shape[0]
        chunk = chunk or default_chunk()
        parts = [
            pool_chunks(
                partial(self.latent, name, dtype=dtype),
                jnp.asarray(block.tracks[name]),
                jnp.asarray(block.rows[name]),
                n_event,
                self.model.pool,
                chunk,
                block.n_track[name] if skip_padding else None,
            )
            for name in self.collections
        ]
        return self.readout(parts, jnp.asarray(block.event), dtype, _dropping(dropout, key))

    def latent(
        self, name: str, tracks: Float[Array, "track feature"], dtype: Precision = "float32"
    ) -> Float[Array, "track latent"]:
        """Run phi: what the tracks of a collection are before they are pooled."""
        latent: Array = self.phi[name](self.scaling[name](tracks), dtype)
        return latent.astype(jnp.float32)

    def readout(
        self,
        pooled: Sequence[Float[Array, "event pooled"]],
        event: Float[Array, "event feature"],
        dtype: Precision = "float32",
        drop: Callable[[Array], Array] = lambda x: x,
    ) -> Float[Array, "event output"]:
        """Run rho on the pooled latent of each collection and the event-level features."""
        x = jnp.concatenate([*pooled, self.event_scaling(event)], axis=1)
        return _affine(self.out, self.rho(drop(x), dtype, drop), dtype).astype(jnp.float32)


def _affine(layer: Any, x: Float[Array, "n feature"], dtype: Precision) -> Float[Array, "n output"]:
    kernel, bias = layer.kernel[...].astype(dtype), layer.bias[...].astype(dtype)
    y: Array = x.astype(dtype) @ kernel + bias[None, :]
    return y


def _dropping(rate: float, key: Array | None) -> Callable[[Array], Array]:
    """Return what drops numbers at random and scales up the others, another choice each time."""
    if not rate or key is None:
        return lambda x: x
    calls = itertools.count()

    def drop(x: Array) -> Array:
        kept = jax.random.bernoulli(jax.random.fold_in(key, next(calls)), 1 - rate, x.shape)
        return jnp.where(kept, x / (1 - rate), jnp.zeros_like(x))

    return drop


def default_chunk() -> int:
    """Tracks per chunk: what fits the second-level cache of a CPU; on accelerators, all."""
    return 1024 if jax.default_backend() == "cpu" else 2**30
