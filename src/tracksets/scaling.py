"""`JaggedInputs` of the training events in, shift and scale of each feature out.

Constants, computed once from real tracks only and stored in the scorer: unlike batch
normalisation they never see padding, and an event's score never depends on its neighbours.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
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
    inputs: Inputs, parts: Iterable[tuple[JaggedInputs, NDArray[np.floating] | None]]
) -> tuple[dict[str, Scaling], Scaling]:
    """Compute the constants of each collection and of the event-level features.

    Parameters
    ----------
    inputs
        What the features are; flags and one-hots are left alone.
    parts
        Training events, in one part or several, with the weight of each event, shape (n_event,).
        Their absolute value is used, as a standard deviation with negative weights need not exist.
        Without weights, every event counts 1.

    Returns
    -------
    tuple
        Constants by collection, and of the event-level features. A constant feature gets scale 1.
    """
    tracks = {
        name: _statistics(each.features, each.scale) for name, each in inputs.collections.items()
    }
    event = _statistics(inputs.event, inputs.scale)
    for part, weights in parts:
        absolute = None if weights is None else np.abs(np.asarray(weights, np.float64))
        for name, each in tracks.items():
            per_track = None if absolute is None else np.repeat(absolute, part.counts[name])
            each.add(part.tracks[name], per_track)
        event.add(part.event, absolute)
    return {name: each.scaling() for name, each in tracks.items()}, event.scaling()


def _statistics(features: Sequence[str], how: Scale) -> "_Statistics":
    flags = [parse(text).is_flag for text in features for _ in range(parse(text).width)]
    scaled = [i for i, flag in enumerate(flags) if not flag and how != "none"]
    return (_Quantiles if how == "quantile" else _Moments)(len(flags), scaled)


class _Statistics(ABC):
    """Centre and spread of columns whose rows come in parts.

    Parameters
    ----------
    width
        Number of columns.
    columns
        Those that are looked at; the others are left as they are.
    """

    def __init__(self, width: int, columns: Sequence[int]) -> None:
        self.width = width
        self.columns = list(columns)

    def add(self, matrix: NDArray[np.float32], weights: NDArray[np.float64] | None) -> None:
        """Take in further rows, a bounded number at a time."""
        for start in range(0, len(matrix) if self.columns else 0, _CHUNK):
            rows = matrix[start : start + _CHUNK, self.columns].astype(np.float64)
            self._add(rows, None if weights is None else weights[start : start + _CHUNK])

    @abstractmethod
    def _add(self, rows: NDArray[np.float64], weights: NDArray[np.float64] | None) -> None: ...

    @abstractmethod
    def _result(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return centre and spread of each column; None if no row had weight."""

    def scaling(self) -> Scaling:
        """Return the constants that centre and spread give."""
        scaling = Scaling.identity(self.width)
        result = self._result()
        if result is None:
            return scaling
        centre, spread = result
        scaling.shift[self.columns] = centre
        # A feature that never changes keeps scale 1, so that another value stays finite.
        changes = (spread > 1e-6 * np.abs(centre)) & (spread > 1e-30)
        scaling.scale[self.columns] = 1 / np.where(changes, spread, 1.0)
        return scaling


class _Moments(_Statistics):
    """Mean and standard deviation in one pass.

    Parts are merged as Chan, Golub and LeVeque do (The American Statistician 37, 1983, 242), which
    loses no digits where the mean is much larger than the spread.
    """

    def __init__(self, width: int, columns: Sequence[int]) -> None:
        super().__init__(width, columns)
        self.total = 0.0
        self.mean = np.zeros(len(columns))
        self.squares = np.zeros(len(columns))

    def _add(self, rows: NDArray[np.float64], weights: NDArray[np.float64] | None) -> None:
        w = np.ones(len(rows)) if weights is None else weights
        weight = float(w.sum())
        if weight == 0:
            return
        centre = (w @ rows) / weight
        shift = centre - self.mean
        total = self.total + weight
        self.squares += w @ (rows - centre) ** 2 + shift**2 * self.total * weight / total
        self.total = total
        self.mean += shift * weight / total

    def _result(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        return (self.mean, np.sqrt(self.squares / self.total)) if self.total > 0 else None


class _Quantiles(_Statistics):
    """Median, and half the range from the 16th to the 84th percentile.

    Of very many rows, every n-th is enough: n doubles whenever too many are held.
    """

    def __init__(self, width: int, columns: Sequence[int]) -> None:
        super().__init__(width, columns)
        self.rows = np.empty((0, len(columns)))
        self.weights: NDArray[np.float64] | None = np.empty(0)
        self.step, self.next = 1, 0

    def _add(self, rows: NDArray[np.float64], weights: NDArray[np.float64] | None) -> None:
        self.rows = np.concatenate([self.rows, rows[self.next :: self.step]])
        if weights is None or self.weights is None:
            self.weights = None
        else:
            self.weights = np.concatenate([self.weights, weights[self.next :: self.step]])
        self.next = (self.next - len(rows)) % self.step
        while len(self.rows) > _SAMPLE:
            # The next row to take is an even number of steps away from the first, or one more.
            self.next += self.step * (len(self.rows) % 2)
            self.rows = self.rows[::2].copy()
            self.weights = None if self.weights is None else self.weights[::2].copy()
            self.step *= 2

    def _result(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        if not len(self.rows) or (self.weights is not None and not self.weights.sum() > 0):
            return None
        if self.weights is None:
            low, centre, high = np.quantile(self.rows, _QUANTILES, axis=0)
        else:  # NumPy has one method with weights
            low, centre, high = np.quantile(
                self.rows, _QUANTILES, axis=0, weights=self.weights, method="inverted_cdf"
            )
        return centre, (high - low) / 2
