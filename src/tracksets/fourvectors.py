"""Stored coordinates in, properties of four-vectors out, whichever coordinates there are."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from tracksets.functions import elementwise
from tracksets.jagged import Column

__all__ = ("Path", "coordinates_for", "four_vector", "long_name")

Path = tuple[str, ...]
"""The fields to take, one after the other, from the events to a column."""

_AZIMUTHAL = (("pt", "phi"), ("px", "py"))
_LONGITUDINAL = ("eta", "pz", "theta")
_TEMPORAL = ("mass", "m", "energy", "e")
_GENERIC = {"pt": "rho", "px": "x", "py": "y", "pz": "z", "mass": "tau", "energy": "t"}
_SHORT = {"m": "mass", "e": "energy", "y": "rapidity"}
# What is needed to compute a property: so many of the azimuthal, longitudinal and temporal
# coordinates. A particle without a stored mass counts as massless, but has no mass to show.
_VECTOR = {
    **dict.fromkeys(("px", "py", "pt", "phi"), 1),
    **dict.fromkeys(("pz", "eta", "theta", "p"), 2),
    **dict.fromkeys(("energy", "rapidity", "et", "mt"), 3),
    **dict.fromkeys(("mass", "beta", "gamma"), 4),
}


def long_name(quantity: str) -> str:
    """Spell out what is often abbreviated: `e` is the energy."""
    return _SHORT.get(quantity, quantity)


def coordinates_for(quantity: str, stored: Callable[[str], Path | None]) -> dict[str, Path]:
    """Find the coordinates that a property needs, by name; nothing if they are not all there.

    Parameters
    ----------
    quantity
        A property of four-vectors, or any other name.
    stored
        Says where a coordinate is.
    """
    needed = _VECTOR.get(quantity, 0)
    if not needed:
        return {}

    def first(*names: str) -> dict[str, Path]:
        for name in names:
            path = stored(name)
            if path is not None:
                return {name: path}
        return {}

    longitudinal = first(*_LONGITUDINAL) if needed >= 2 else {}
    temporal = first(*_TEMPORAL) if needed >= 3 else {}
    if (needed >= 2 and not longitudinal) or (needed >= 4 and not temporal):
        return {}
    for one, other in _AZIMUTHAL:
        azimuthal = {**first(one), **first(other)}
        if len(azimuthal) == 2:
            return {**azimuthal, **longitudinal, **temporal}
    return {}


def four_vector(quantity: str, coordinates: Mapping[str, Column]) -> Column:
    """Compute a property of four-vectors in double precision; massless where there is no mass."""
    import vector

    def compute(*values: Any) -> Any:
        arrays = np.broadcast_arrays(*(np.asarray(each, np.float64) for each in values))
        parts = {_SHORT.get(k, k): v for k, v in zip(coordinates, arrays, strict=True)}
        if len(parts) == 3:
            parts["mass"] = np.zeros_like(arrays[0])
        # Under vector's own names for them, as renaming is deprecated in newer NumPy versions.
        parts = {_GENERIC.get(k, k): v for k, v in parts.items()}
        momenta = np.empty(arrays[0].shape, [(name, np.float64) for name in parts])
        for name, each in parts.items():
            momenta[name] = each
        kind = vector.MomentumNumpy2D if len(parts) == 2 else vector.MomentumNumpy4D
        return np.asarray(getattr(momenta.view(kind), quantity))

    return cast("Column", elementwise(compute, *coordinates.values()))
