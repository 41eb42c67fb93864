"""An open tree in; its branches in groups out: event-level ones, and collections."""

from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np

from tracksets.fields import column_of
from tracksets.jagged import per_event
from tracksets.trees import Tree, required_type

__all__ = ("SAMPLE_EVENTS", "Branches", "collections_of")

SAMPLE_EVENTS = 10_000
"""Events that are looked at to say what is in a branch."""


@dataclass(frozen=True)
class Branches:
    """Branches that belong together.

    Attributes
    ----------
    name
        Of the collection; empty for event-level branches.
    types
        By branch, as awkward says it.
    mean, largest
        Tracks per event in the first events; 1 for event-level branches.
    usable
        Whether they hold one number per track or event.
    """

    name: str
    types: dict[str, str]
    mean: float = 1.0
    largest: int = 1
    usable: bool = True


def collections_of(tree: Tree) -> list[Branches]:
    """Group the branches of a tree: event-level ones, collections, and those that don't fit.

    Parameters
    ----------
    tree
        An open tree; multiplicities are those of its first 10,000 events.
    """
    kinds = tree.types()
    groups: dict[str, dict[str, str]] = {"": {}}
    odd: dict[str, str] = {}
    for path in tree.fields.paths:
        kind = required_type(kinds.get(path))
        name = ".".join(path)
        shown = "unreadable" if kind is None else str(kinds[path])
        if _is_number(kind):
            groups[""][name] = shown
        elif isinstance(kind, ak.types.ListType) and _is_number(kind.content):
            groups.setdefault(_group(path), {})[name] = shown
        else:
            odd[name] = shown
    found = [Branches("", groups.pop(""))]
    for group, types in groups.items():
        path = next(each for each in tree.fields.paths if ".".join(each) in types)
        sample = tree.read([path], 0, min(tree.n_event, SAMPLE_EVENTS))
        column = column_of(sample, path)
        counts = per_event(column) if len(column) else np.zeros(1)
        found.append(Branches(group, types, float(counts.mean()), int(counts.max(initial=0))))
    if odd:
        found.append(Branches("other", odd, usable=False))
    return found


def _is_number(kind: Any) -> bool:
    kind = required_type(kind)
    while isinstance(kind, ak.types.RegularType) and not kind.parameters:
        kind = required_type(kind.content)
    return isinstance(kind, ak.types.NumpyType) and not kind.parameters


def _group(path: tuple[str, ...]) -> str:
    """Name the collection: the part of the name that its branches share."""
    if len(path) > 1:
        return path[0]
    for separator in (".", "_"):
        head, found, _ = path[0].partition(separator)
        if found and head:
            return head
    return path[0]
