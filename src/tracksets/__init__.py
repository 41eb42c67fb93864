"""Score every event of a ROOT file from its variable-size set of tracks.

Names are loaded on first use, so that `import tracksets` stays fast and JAX does not start before
it is needed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tracksets._version import __version__

if TYPE_CHECKING:
    from tracksets.blocks import Block, pack, unpack
    from tracksets.config import Config
    from tracksets.devices import limit_threads
    from tracksets.errors import TracksetsError
    from tracksets.inputs import Collection, Inputs
    from tracksets.labelling import label
    from tracksets.network import DeepSet, Model
    from tracksets.pooling import pool, pooling_matrix
    from tracksets.rate_finder import find_learning_rate
    from tracksets.scorer import Scorer, load
    from tracksets.settings import Training
    from tracksets.training import fit, train

_HOMES = {
    "Block": "blocks",
    "Collection": "inputs",
    "Config": "config",
    "DeepSet": "network",
    "Inputs": "inputs",
    "Model": "network",
    "Scorer": "scorer",
    "TracksetsError": "errors",
    "Training": "settings",
    "find_learning_rate": "rate_finder",
    "fit": "training",
    "label": "labelling",
    "limit_threads": "devices",
    "load": "scorer",
    "pack": "blocks",
    "pool": "pooling",
    "pooling_matrix": "pooling",
    "train": "training",
    "unpack": "blocks",
}

__all__ = (
    "Block",
    "Collection",
    "Config",
    "DeepSet",
    "Inputs",
    "Model",
    "Scorer",
    "TracksetsError",
    "Training",
    "__version__",
    "find_learning_rate",
    "fit",
    "label",
    "limit_threads",
    "load",
    "pack",
    "pool",
    "pooling_matrix",
    "train",
    "unpack",
)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tracksets' has no attribute {name!r}")
    value = getattr(import_module(f"tracksets.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
