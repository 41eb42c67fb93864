"""Event weights in, training weights out: balanced between classes, matched in a variable.

Negative weights stay negative, everywhere: in the loss a negative event pulls the network away
from what a positive one at the same place pulls it to, in sums and histograms it subtracts. So a
sample with cancelling pairs of +w and -w added trains to the same gradient as without. What must be
positive are sums: of each class, and of each bin that is matched.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from tracksets.errors import DataError

__all__ = ("balanced", "matched")

Weights = Float[np.ndarray, " event"]
Classes = Int[np.ndarray, " event"]


def balanced(weights: Weights, classes: Classes, names: Sequence[str]) -> Weights:
    """Scale the weights of each class so that all classes have the same sum.

    The sum over all events stays as it is, and so do the ratios within a class.

    Parameters
    ----------
    weights
        Shape (n_event,).
    classes
        Index of the class of each event.
    names
        Of the classes.

    Raises
    ------
    DataError
        If the weights of a class sum to zero or less.
    """
    result = weights.astype(np.float64)
    share = result.sum() / len(names)
    for i, name in enumerate(names):
        chosen = classes == i
        total = result[chosen].sum()
        if not total > 0:
            raise DataError(f"the weights of class {name} sum to {total:g}; expected more than 0")
        result[chosen] *= share / total
    return result


def matched(
    weights: Weights,
    classes: Classes,
    names: Sequence[str],
    variable: Float[np.ndarray, " event"],
    edges: Float[np.ndarray, " edge"],
    to: int | None = None,
) -> Weights:
    """Scale the weights so that a variable has one distribution in all classes.

    Each class keeps its sum of weights. A class without events in a bin has none there afterwards
    either. Values beyond the first and last edge count to the first and last bin.

    Parameters
    ----------
    weights, classes, names
        As in `balanced`.
    variable
        One number per event.
    edges
        Of the bins, rising.
    to
        The class whose distribution the others get; without it, all become flat.

    Raises
    ------
    DataError
        If the weights in a bin of a class sum to zero or less although there are events.
    """
    result = weights.astype(np.float64)
    n_bin = len(edges) - 1
    bins = np.clip(np.searchsorted(edges, variable, "right") - 1, 0, n_bin - 1)
    sums = np.zeros((len(names), n_bin))
    counts = np.zeros((len(names), n_bin), np.int64)
    for i in range(len(names)):
        chosen = classes == i
        sums[i] = np.bincount(bins[chosen], result[chosen], n_bin)
        counts[i] = np.bincount(bins[chosen], minlength=n_bin)
    for i, j in zip(*np.nonzero((counts > 0) & ~(sums > 0)), strict=True):
        raise DataError(
            f"class {names[i]}: the weights of the {counts[i, j]} event(s) between {edges[j]:g} and "
            f"{edges[j + 1]:g} sum to {sums[i, j]:g}; expected more than 0. Use wider bins"
        )
    shape = np.diff(edges) if to is None else sums[to]
    for i in range(len(names)):
        chosen = classes == i
        there = counts[i] > 0
        factor = np.zeros(n_bin)
        factor[there] = shape[there] / sums[i][there]
        total = result[chosen].sum()
        result[chosen] *= factor[bins[chosen]]
        rescaled = result[chosen].sum()
        if not rescaled > 0:
            raise DataError(f"class {names[i]} has no events where class {names[to or 0]} has some")
        result[chosen] *= total / rescaled
    return result
