"""What the network sees in, its distributions by class out, as pictures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracksets.features import JaggedInputs
from tracksets.plots import _pyplot, _save
from tracksets.training_plots import Weighted

__all__ = ("plot_feature", "values_by_class")

_BINS = 40


def values_by_class(
    inputs: JaggedInputs,
    features: Mapping[str, Sequence[str]],
    classes: NDArray[np.int64],
    weights: NDArray[np.float64],
    names: Sequence[str],
) -> Iterator[tuple[str, dict[str, Weighted]]]:
    """Go through the features of tracks and events; a track has the weight of its event.

    Parameters
    ----------
    inputs
        Flat inputs.
    features
        By collection, and of `event`: names of the features.
    classes, weights
        Of the events, shape (n_event,).
    names
        Of the classes.
    """
    matrices = {name: (matrix, inputs.axes[name].event) for name, matrix in inputs.tracks.items()}
    matrices["event"] = (inputs.event, np.arange(inputs.n_event))
    for collection, (matrix, event) in matrices.items():
        for column, feature in enumerate(features[collection]):
            found = {
                name: Weighted(matrix[chosen, column], weights[event[chosen]])
                for i, name in enumerate(names)
                if (chosen := classes[event] == i).any()
            }
            yield f"{collection}: {feature}", found


def plot_feature(label: str, samples: Mapping[str, Weighted], path: Path) -> Path:
    """Draw the distribution of a feature for each class, of unit area.

    Classes whose weights sum to zero or less are left out. The axis has the values but for half a percent at either end, which counts to the outer bins.
    """
    known = {name: each for name, each in samples.items() if each.weights.sum() > 0}
    values = [each.values for each in known.values()]
    low, high = np.quantile(np.concatenate(values), (0.005, 0.995)) if known else (0.0, 1.0)
    margin = 0.02 * (high - low) or 0.5
    edges = np.linspace(low - margin, high + margin, _BINS + 1)
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(6, 4.5))
    for i, (name, each) in enumerate(known.items()):
        density, errors = each.density(edges)
        axes.stairs(density, edges, color=f"C{i}", label=name)
        band = {"color": f"C{i}", "alpha": 0.25, "linewidth": 0}
        axes.stairs(density + errors, edges, baseline=density - errors, fill=True, **band)
    axes.set_xlabel(label)
    axes.set_ylabel("normalised")
    if known:
        axes.legend()
    return _save(plt, figure, path)
