"""`JaggedInputs` of the training events in, shift and scale of each feature out.

Constants, computed once from real tracks only and stored in the scorer: unlike batch
normalisation they never see padding, and an event's score never depends on its neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from tracksets.expressions import parse
from tracksets.features import JaggedInputs
from tracksets.inputs import Inputs, Scale

__all__ = ("Scaling", "scalings")

EVENT = "event"
"""Key of the event-level features beside the collections' names."""

_SAMPLE = 1_000_000
_CHUNK = 65_536
_QUANTILES = (0.16, 0.5, 0.84)


@dataclass(frozen=True)
class Scaling:
    """The network sees `(x - shift) * scale`.

    Attributes
    ----------
    shift, scale
        float32, shape (n_feature,), in units of the feature and of its inverse.
    """

    shift: Float[np.ndarray, " feature"]
    scale: Float[np.ndarray, " feature"]

    @staticmethod
    def identity(width: int) -> "Scaling":
        """Leave `width` features as they are."""
        return Scaling(np.zeros(width, np.float32), np.ones(width, np.float32))


def scalings(
    inputs: Inputs, events: JaggedInputs, weights: NDArray[np.floating] | None = None
) -> tuple[dict[str, Scaling], Scaling]:
    """Compute the constants of each collection and of the event-level features.

    Parameters
    ----------
    inputs
        What the features are; flags and one-hots are left alone.
    events
        Training events.
    weights
        Weight of each event, shape (n_event,). Their absolute value is used, as a standard
        deviation with negative weights need not exist.

    Returns
    -------
    tuple
        Constants by collection, and of the event-level features. A constant feature gets scale 1.
    """
    absolute = None if weights is None else np.abs(np.asarray(weights, np.float64))
    tracks = {}
    for name, collection in inputs.collections.items():
        per_track = None if absolute is None else np.repeat(absolute, events.counts[name])
        tracks[name] = _scaling(
            events.tracks[name], collection.features, collection.scale, per_track
        )
    return tracks, _scaling(events.event, inputs.event, inputs.scale, absolute)


def _scaling(
    matrix: NDArray[np.float32],
    features: Sequence[str],
    how: Scale,
    weights: NDArray[np.float64] | None,
) -> Scaling:
    result = Scaling.identity(matrix.shape[1])
    if how == "none" or not len(matrix) or (weights is not None and not weights.sum() > 0):
        return result
    flags = [parse(text).is_flag for text in features for _ in range(parse(text).width)]
    for i, flag in enumerate(flags):
        if flag:
            continue
        centre, spread = (_moments if how == "standard" else _quantiles)(matrix[:, i], weights)
        result.shift[i] = centre
        # A feature that never changes keeps scale 1, so that another value stays finite.
        if spread > 1e-6 * abs(centre) and spread > 1e-30:
            result.scale[i] = 1 / spread
    return result


def _moments(
    values: NDArray[np.float32], weights: NDArray[np.float64] | None
) -> tuple[float, float]:
    """Mean and standard deviation in one pass, a chunk at a time.

    Chunks are merged as Chan, Golub and LeVeque do (The American Statistician 37, 1983, 242), which
    loses no digits where the mean is much larger than the spread.
    """
    total = mean = squares = 0.0
    for start in range(0, len(values), _CHUNK):
        part = values[start : start + _CHUNK].astype(np.float64)
        w = np.ones(len(part)) if weights is None else weights[start : start + _CHUNK]
        weight = float(w.sum())
        if weight == 0:
            continue
        centre = float(w @ part) / weight
        shift = centre - mean
        squares += float(w @ (part - centre) ** 2) + shift**2 * total * weight / (total + weight)
        total += weight
        mean += shift * weight / total
    return mean, float(np.sqrt(squares / total))


def _quantiles(
    values: NDArray[np.float32], weights: NDArray[np.float64] | None
) -> tuple[float, float]:
    step = -(-len(values) // _SAMPLE)  # every step-th track is enough, and is deterministic
    wide = values[::step].astype(np.float64)
    if weights is None:
        low, centre, high = np.quantile(wide, _QUANTILES)
    else:  # NumPy has one method with weights
        low, centre, high = np.quantile(
            wide, _QUANTILES, weights=weights[::step], method="inverted_cdf"
        )
    return float(centre), float(high - low) / 2
