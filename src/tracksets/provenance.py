"""What a labelled file says of itself: which model gave the scores, and to which file."""

import os
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from tracksets._version import __version__
from tracksets.configuration import Configuration
from tracksets.engines import JAX

__all__ = ("PREFIX", "Provenance", "place_of")

PREFIX = "tracksets_"
"""Where it stands, before the name of the branch: an object of a ROOT file, a key of a Parquet
file's metadata."""


class Provenance(Configuration):
    """Where the scores of one branch come from.

    Attributes
    ----------
    field
        Name of the branch, without the name of a class.
    model
        Hash of the scorer.
    config
        Its inputs, network and task, and how it was trained.
    input, tree
        The file that was labelled, as an absolute path or a URL, and its tree.
    uuid, size
        The identity of that file, and its bytes.
    mode, format, select, spread
        How it was labelled; which events, if not all; whether each score has its spread.
    engine, precision
        What computed the scores.
    tracksets
        Version of the program.
    """

    field: str
    model: str
    config: dict[str, Any]
    input: str
    tree: str
    uuid: str
    size: int
    mode: str
    format: str
    select: str | None = None
    spread: bool = False
    engine: str = JAX.name
    precision: str = JAX.precision
    tracksets: str = __version__

    @property
    def key(self) -> str:
        """Where it stands in a file."""
        return f"{PREFIX}{self.field}"

    def is_same_work(self, other: Self) -> bool:
        """Whether labelling again would give what is there already."""
        # A copy of the input in another place is the same input.
        free = {"input", "config", "tracksets"}
        return self.model_dump(exclude=free) == other.model_dump(exclude=free)

    def is_same_input(self, other: Self) -> bool:
        """Whether both label one file: by its identity or, if it was made anew, by its place."""
        return self.uuid == other.uuid or self.input == other.input

    @classmethod
    def parse(cls, text: str | bytes) -> Self | None:
        """Read JSON; None if it is not what `tracksets` writes."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None

    def describe(self) -> str:
        """Say it in one line."""
        chosen = f", only where {self.select}" if self.select else ""
        engine = f" with {self.engine} in {self.precision}" if self.engine != JAX.name else ""
        return (
            f"{self.field}: model {self.model[:12]} on {self.input}, tree {self.tree}{chosen} "
            f"(uuid {self.uuid}){engine}, by tracksets {self.tracksets}"
        )


def place_of(path: str) -> str:
    """Name a file so that it means the same in every folder."""
    return path if "://" in path else os.fspath(Path(path).resolve())
