"""How many tracks events have in; the units in out that the weights behind a sum are learned in.

A sum over m tracks is m times as large as the numbers that a layer expects, and so is the effect
of a step on the weights behind it: the first epochs would be lost, and later ones noisy. Measured
in units of 1/m, these weights are as easy to learn as all others. Nothing of this is left in the
trained network.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float
from numpy.typing import NDArray

from tracksets.models import Architecture

__all__ = ("multiplicities", "units")


def multiplicities(
    architecture: Architecture, counts: Mapping[str, NDArray[np.integer]]
) -> dict[str, float]:
    """Return, by collection, how large a sum over the tracks of an event typically is.

    Parameters
    ----------
    architecture
        Whose collections may be weighted: the weights are taken for shares, with a sum of 1.
    counts
        Tracks of each event, by collection.
    """
    weighted = dict(architecture.weights)
    return {
        name: float(each[each > 0].mean()) if name not in weighted and each.any() else 1.0
        for name, each in counts.items()
    }


def units(params: Any, architecture: Architecture, multiplicity: Mapping[str, float]) -> Any:
    """Return a tree like `params`: 1 for most arrays, a column for those that see sums.

    Parameters
    ----------
    params
        Parameters of a `DeepSet`.
    architecture
        Of the network.
    multiplicity
        By collection; see `multiplicities`.
    """
    columns = dict(_columns(architecture, multiplicity))
    leaves = []
    for path, leaf in nnx.to_flat_state(params):
        column = columns.get(".".join(map(str, path)))
        value = jnp.ones(()) if column is None else jnp.asarray(column)[:, None]
        leaves.append((path, leaf.replace(value)))
    return nnx.from_flat_state(leaves)


def _columns(
    architecture: Architecture, multiplicity: Mapping[str, float]
) -> Iterator[tuple[str, Float[np.ndarray, " known"]]]:
    """Yield the kernels that see pooled latents, with the unit of each of their rows."""
    model = architecture.model
    width = model.phi[-1]
    pooled = np.concatenate(
        [
            np.full(width, 1 / multiplicity.get(name, 1.0) if how == "sum" else 1.0, np.float32)
            for name, _ in architecture.tracks
            for how in model.pool
        ]
    )
    known = np.concatenate([pooled, np.ones(architecture.event, np.float32)])
    for i in range(model.rounds):
        yield f"rounds.{i}.context.layers.0.kernel", known
        known = np.concatenate([pooled, known])
    yield "rho.layers.0.kernel" if model.rho else "out.kernel", known
