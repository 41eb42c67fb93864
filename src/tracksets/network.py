"""A `Block` in, one output per event slot out: the Deep Set `rho(pool(phi(x)))`.

Zaheer et al., Deep Sets, NeurIPS 2017 (arXiv:1703.06114); with particles as elements it is the
Particle Flow Network of Komiske, Metodiev, Thaler, JHEP 01 (2019) 121 (arXiv:1810.05165).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from tracksets.blocks import Block
from tracksets.layers import Dense, Phi, Precision, Standardise, affine, dropping
from tracksets.models import Architecture, Model
from tracksets.pooling import pool_chunks

__all__ = ("Architecture", "DeepSet", "Model")


class Round(nnx.Module):
    """What is known of an event → one vector; and the phis that see it beside each track.

    Parameters
    ----------
    n_in
        Size of what is known.
    model
        Layers and poolings.
    seen
        Features per track that phi sees, by collection.
    rngs
        Random state for the initial weights.
    """

    def __init__(self, n_in: int, model: Model, seen: Mapping[str, int], rngs: nnx.Rngs) -> None:
        width = model.phi[0]
        self.context = Dense(n_in, (width,), model.activation, rngs=rngs)
        self.phi = phis(model, seen, width, rngs)


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
    weights
        By collection: which feature weighs the tracks; it is not standardised, and phi does not
        see it. None by default.
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
        weights: Mapping[str, int] | None = None,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.model = model
        # An nnx.Dict that was split and merged comes back in alphabetical order, but the layers of
        # rho know where the latent of each collection stands.
        self.collections = tuple(tracks)
        self.weights = tuple((weights or {}).items())
        self.scaling = nnx.Dict({name: Standardise(width) for name, width in tracks.items()})
        self.event_scaling = Standardise(event)
        seen = {name: width - (name in dict(self.weights)) for name, width in tracks.items()}
        self.phi = phis(model, seen, 0, rngs)
        pooled = len(tracks) * len(model.pool) * model.phi[-1]
        known = pooled + event
        rounds = []
        for _ in range(model.rounds):
            rounds.append(Round(known, model, seen, rngs))
            known += pooled
        if rounds:
            self.rounds = nnx.List(rounds)
        self.rho = Dense(known, model.rho, model.activation, model.residual, rngs=rngs)
        last = model.rho[-1] if model.rho else known
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
        scoring: bool = False,
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
        scoring
            Don't compute chunks of padding, which is faster, but has no reverse-mode derivative;
            and let no bit of an event's outputs depend on where it stands in the block.
        dtype
            What the layers compute in. Features are standardised, tracks added up and outputs
            returned in float32 in either case.
        dropout, key
            Probability that a number behind the pooling is dropped, for training only, and the
            random state that decides which.
        """
        n_event = block.mask.shape[0]
        more = (_whole_tiles(n_event) if scoring else n_event) - n_event

        def pool(phis: Mapping[str, Phi], context: Array | None = None) -> list[Array]:
            found = self._pool(block, chunk or default_chunk(), scoring, dtype, phis, context)
            return [jnp.pad(each, ((0, more), (0, 0))) for each in found]

        event = self.event_scaling(jnp.pad(jnp.asarray(block.event), ((0, more), (0, 0))))
        parts = [*pool(self.phi), event]
        for each in self.rounds if self.model.rounds else ():
            context = each.context(jnp.concatenate(parts, axis=1), dtype)
            parts = [*pool(each.phi, context), *parts]
        return self.readout(parts, dtype, dropping(dropout, key))[:n_event]

    def readout(
        self,
        known: Sequence[Float[Array, "event known"]],
        dtype: Precision = "float32",
        drop: Callable[[Array], Array] = lambda x: x,
    ) -> Float[Array, "event output"]:
        """Run rho on the pooled latents and the standardised event-level features."""
        latent = self.rho(drop(jnp.concatenate(known, axis=1)), dtype, drop)
        return affine(self.out, latent, dtype).astype(jnp.float32)

    def latent(
        self, name: str, tracks: Float[Array, "track feature"]
    ) -> Float[Array, "track latent"]:
        """Run phi: what the tracks of a collection are before they are pooled at first."""
        return self._latent(name, self.phi[name], "float32", tracks)

    def _pool(
        self,
        block: Block,
        chunk: int,
        scoring: bool,
        dtype: Precision,
        phis: Mapping[str, Phi],
        context: Float[Array, "event context"] | None = None,
    ) -> list[Float[Array, "event pooled"]]:
        """Return the pooled latents of each collection."""
        pooled = []
        for name in self.collections:
            phi, tracks = phis[name], jnp.asarray(block.tracks[name])
            column = dict(self.weights).get(name)
            n = max(min(chunk, tracks.shape[0]), 1)
            pooled.append(
                pool_chunks(
                    partial(self._latent, name, phi, dtype),
                    tracks,
                    jnp.asarray(block.rows[name]),
                    block.mask.shape[0],
                    self.model.pool,
                    _whole_tiles(n) if scoring else n,
                    block.n_track[name] if scoring else None,
                    weights=None if column is None else tracks[:, column],
                    attend=phi.logits if "softmax" in self.model.pool else None,
                    context=None if context is None else phi.shift(context, dtype),
                )
            )
        return pooled

    def _latent(
        self,
        name: str,
        phi: Phi,
        dtype: Precision,
        tracks: Float[Array, "track feature"],
        shift: Float[Array, "track width"] | None = None,
    ) -> Float[Array, "track latent"]:
        seen = self.scaling[name](tracks)
        column = dict(self.weights).get(name)
        if column is not None:
            seen = jnp.delete(seen, column, axis=1)
        return phi(seen, dtype, shift=shift).astype(jnp.float32)


def phis(model: Model, seen: Mapping[str, int], context: int, rngs: nnx.Rngs) -> nnx.Dict[Phi]:
    """Make a phi for each collection, which sees so many features of a track and of its event."""
    attends = "softmax" in model.pool
    return nnx.Dict(
        {
            name: Phi(
                width, model.phi, model.activation, model.residual, context, attends, rngs=rngs
            )
            for name, width in seen.items()
        }
    )


def default_chunk() -> int:
    """Tracks per chunk: what fits the second-level cache of a CPU; on accelerators, all."""
    return 1024 if jax.default_backend() == "cpu" else 2**30


def _whole_tiles(n: int) -> int:
    """Round a number of rows up to what the products of matrices take whole, on a CPU.

    Their kernels compute 6 or 8 rows at a time, and add up those that are left over in another
    order. Without any left over, bits do not depend on which row it is.
    """
    return -(-n // _TILE) * _TILE


_TILE = 24
