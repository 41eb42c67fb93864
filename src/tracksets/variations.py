"""Assignments in, `Track_pt *= 1.02`; the columns of events with these shifts out.

For systematic uncertainties: what would the scores be if the momenta were 2 % larger? Everything
that is computed from a shifted column shifts with it: features, cuts on tracks, masses.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from tracksets.errors import ConfigError, DataError
from tracksets.expressions import Expression, parse
from tracksets.fields import Columns, Fields, Path
from tracksets.functions import elementwise
from tracksets.jagged import Column

__all__ = (
    "Variation",
    "named_variations",
    "parse_variations",
    "paths_of_variations",
    "right_sides",
    "varied",
)

_ASSIGNMENT = re.compile(r"\s*([A-Za-z_][\w.]*)\s*([*/+-]?)=(?!=)(.*)", re.DOTALL)
_NAMED = re.compile(r"\s*(\w+)\s*:(?!:)(.*)", re.DOTALL)
_OPERATORS = MappingProxyType(
    {"*": np.multiply, "/": np.divide, "+": np.add, "-": np.subtract, "": None}
)


@dataclass(frozen=True)
class Variation:
    """One assignment.

    Attributes
    ----------
    text
        As it was written.
    name
        Of the branch that changes, as in expressions for an event: `Track_pt`.
    operator
        `*`, `/`, `+`, `-`, or nothing for a plain `=`.
    expression
        What stands on the right; it sees what the assignments before have changed.
    """

    text: str
    name: str
    operator: str
    expression: Expression


@lru_cache(1024)
def parse_variations(text: str) -> tuple[Variation, ...]:
    """Read assignments, separated by semicolons.

    Raises
    ------
    ConfigError
        If it is something else, or an expression is wrong.

    Examples
    --------
    >>> [each.name for each in parse_variations("Track_pt *= 1.02; MET_pt += 5")]
    ['Track_pt', 'MET_pt']
    """
    found = []
    for part in text.split(";"):
        match = _ASSIGNMENT.fullmatch(part)
        if not match:
            raise ConfigError(
                f"'{part.strip()}' is no variation: expected an assignment to a branch with =, *=, "
                "/=, += or -=, as in Track_pt *= 1.02"
            )
        name, operator, right = match.groups()
        expression = parse(right.strip())
        if expression.is_onehot:
            raise ConfigError(f"'{part.strip()}': onehot gives several numbers")
        found.append(Variation(part.strip(), name, operator, expression))
    return tuple(found)


def named_variations(texts: Sequence[str]) -> dict[str, str]:
    """Give names to variations: `up: Track_pt *= 1.02` has one, others are `vary1` and so on.

    Raises
    ------
    ConfigError
        If two have the same name, or one cannot be read.
    """
    named: dict[str, str] = {}
    for i, text in enumerate(texts):
        match = _NAMED.fullmatch(text)
        name, rest = match.groups() if match else (f"vary{i + 1}", text)
        parse_variations(rest)
        if name in named:
            raise ConfigError(f"two variations are called {name!r}")
        named[name] = rest.strip()
    return named


def right_sides(texts: Sequence[str]) -> list[Expression]:
    """List the expressions on the right of assignments."""
    return [each.expression for text in texts for each in parse_variations(text)]


def paths_of_variations(texts: Sequence[str], fields: Fields, seen: set[Path]) -> list[Path]:
    """List the columns that variations need, and change; nothing is read.

    Parameters
    ----------
    texts
        As `parse_variations` reads them.
    fields
        The columns that there are.
    seen
        Those that inputs need.

    Raises
    ------
    DataError
        If a name is not there.
    ConfigError
        If what changes is nothing that is needed.
    """
    paths: list[Path] = []
    for each in (variation for text in texts for variation in parse_variations(text)):
        try:
            changed = fields.find(each.name).paths.values()
            needed = [
                path for name in each.expression.names for path in fields.find(name).paths.values()
            ]
        except DataError as error:
            raise DataError(f"variation '{each.text}': {error}") from None
        if not seen & set(changed):
            raise ConfigError(
                f"variation '{each.text}' changes nothing: the inputs do not see {each.name}"
            )
        paths += [*changed, *needed]
    return paths


def varied(columns: Columns, texts: Sequence[str]) -> Columns:
    """Apply assignments to columns, in order.

    Parameters
    ----------
    columns
        Of the events; they stay as they are.
    texts
        As `parse_variations` reads them.

    Raises
    ------
    DataError
        If a name is not that of a stored branch, or the right side has numbers of another shape.
    """
    for each in (variation for text in texts for variation in parse_variations(text)):
        try:
            columns = _assigned(columns, each)
        except DataError as error:
            raise DataError(f"variation '{each.text}': {error}") from None
    return columns


def _assigned(columns: Columns, variation: Variation) -> Columns:
    found = columns.fields.find(variation.name)
    if found.quantity is not None:
        parts = ", ".join(".".join(path) for path in found.paths.values())
        raise DataError(f"{variation.name} is computed from {parts}; change what is stored")
    [path] = found.paths.values()
    old, value = columns.read(path), variation.expression(columns.of())
    operator = _OPERATORS[variation.operator]
    if operator is None:
        new = elementwise(np.where, True, value, old)  # which spreads a number over all tracks
    else:
        new = elementwise(operator, old, value)
    if not isinstance(new, Column) or new.values.shape != old.values.shape:
        raise DataError("the right side is not one number per event or track of this branch")
    return columns.replaced(path, new)
