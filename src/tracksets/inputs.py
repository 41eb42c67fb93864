"""What the network sees, as configuration: collections, their features and cuts.

Nothing here touches data. `features.py` applies it to events.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    field_validator,
    model_serializer,
    model_validator,
)

from tracksets.configuration import Configuration
from tracksets.errors import ConfigError, DataError
from tracksets.expressions import parse
from tracksets.fields import Fields, Naming, Path
from tracksets.variations import parse_variations, paths_of_variations, right_sides

__all__ = (
    "Collection",
    "Inputs",
    "Scale",
    "feature_names",
    "paths_of",
)

Scale = Literal["standard", "quantile", "none"]


def _checked(text: str, read: Callable[[str], Any] = parse) -> str:
    try:
        read(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return text


class _Features(Configuration):
    fill: dict[str, float] = Field(default_factory=dict)
    clip: dict[str, tuple[float, float]] = Field(default_factory=dict)

    def _feature_list(self) -> Sequence[str]:
        raise NotImplementedError

    @model_validator(mode="after")
    def _names_known(self) -> Self:
        for option in ("fill", "clip"):
            for name in getattr(self, option):
                if name not in self._feature_list():
                    raise ValueError(
                        f"{option}: {name!r} is not one of the features {list(self._feature_list())}"
                    )
        for name, (low, high) in self.clip.items():
            if low >= high:
                raise ValueError(f"clip: {name!r} has the bounds {low} and {high} the wrong way")
        return self


class Collection(_Features):
    """One jagged collection of tracks, and what the network sees of each track.

    Parameters
    ----------
    features
        Expressions, one number per track each: `log(pt)`, `d0/d0_err`.
    select
        Tracks to keep, as an expression: `pt > 0.5`.
    sort, first
        Keep only the `first` tracks of each event, by falling `sort`. All are kept by default.
    prefix
        How the branches start, if not with the collection's name: `part_` or `V0s`.
    rename
        From names in expressions to names of branches.
    fill, clip
        By feature: the number that replaces NaN and infinity; the bounds to clip to.
    scale
        `standard` subtracts the mean and divides by the standard deviation of the training
        tracks; `quantile` uses the median and half the range from the 16th to the 84th
        percentile; `none` leaves the features as they are. Flags and one-hots always are.

    Examples
    --------
    >>> Collection(features=["log(pt)", "d0/d0_err"], select="pt > 0.5").features
    ('log(pt)', 'd0/d0_err')
    """

    features: Annotated[tuple[str, ...], Field(min_length=1)]
    select: str | None = None
    sort: str | None = None
    first: Annotated[int, Field(gt=0)] | None = None
    prefix: str | None = None
    rename: dict[str, str] = Field(default_factory=dict)
    scale: Scale = "standard"

    _expressions = field_validator("features")(lambda texts: tuple(map(_checked, texts)))
    _cuts = field_validator("select", "sort")(lambda text: text if text is None else _checked(text))

    def _feature_list(self) -> Sequence[str]:
        return self.features

    @model_validator(mode="after")
    def _sort_and_first(self) -> Self:
        if (self.sort is None) != (self.first is None):
            raise ValueError("sort and first go together: sort by what, keep how many")
        if any(parse(text).is_onehot for text in (self.select, self.sort) if text is not None):
            raise ValueError("onehot gives several numbers and can only be a feature")
        return self

    def naming(self, name: str) -> Naming:
        """Return how the branches of this collection, called `name`, are spelled."""
        prefix = name if self.prefix is None else self.prefix
        return Naming(prefix.rstrip("_."), self.prefix is not None, self.rename)

    def expressions(self) -> list[str]:
        """List every expression that has to be evaluated."""
        return [*self.features, *(text for text in (self.select, self.sort) if text is not None)]


class Inputs(_Features):
    """What the network sees of an event.

    Parameters
    ----------
    collections
        By name, in the order of the network.
    event
        Event-level features, expressions that give one number per event; they join before rho.
    fill, clip
        As in `Collection`, for the event-level features.
    scale
        As in `Collection`, for the event-level features.
    vary
        Assignments to branches, `Track_pt *= 1.02`, before anything is evaluated; see
        `Scorer.varied`.

    Examples
    --------
    >>> inputs = Inputs(collections={"Track": Collection(features=["log(pt)", "eta"])})
    >>> Inputs.model_validate_json(inputs.model_dump_json()) == inputs
    True
    """

    collections: Annotated[dict[str, Collection], Field(min_length=1)]
    event: tuple[str, ...] = ()
    scale: Scale = "standard"
    vary: tuple[str, ...] = ()

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialise: Any) -> Any:
        """Leave `vary` out where there is none, so that hashes are what they were before it."""
        content = serialise(self)
        if not self.vary:
            content.pop("vary", None)
        return content

    _variations = field_validator("vary")(
        lambda texts: tuple(_checked(text, parse_variations) for text in texts)
    )
    _expressions = field_validator("event")(lambda texts: tuple(map(_checked, texts)))

    def _feature_list(self) -> Sequence[str]:
        return self.event

    @field_validator("collections")
    @classmethod
    def _plain_names(cls, collections: dict[str, Collection]) -> dict[str, Collection]:
        for name in collections:
            if not name.replace("_", "a").replace("-", "a").isalnum():
                raise ValueError(f"collection {name!r}: use letters, digits, '_' and '-'")
        return collections

    @cached_property
    def widths(self) -> dict[str, int]:
        """Features per track of each collection, one-hots counted by code."""
        return {name: _width(each.features) for name, each in self.collections.items()}

    @cached_property
    def event_width(self) -> int:
        """Event-level features."""
        return _width(self.event)

    def plain_branches(self, *event_level: str) -> list[str]:
        """List the names that plain branches of a tree would have: `Track_pt`, `PV_z`.

        Those of further event-level expressions come last.
        """
        names: dict[str, None] = {}
        for collection, config in self.collections.items():
            naming = config.naming(collection)
            for text in config.expressions():
                for name in parse(text).names:
                    spellings = list(naming.candidates(name))
                    names[spellings[1] if len(spellings) > 1 else spellings[0]] = None
        texts = [*map(parse, (*self.event, *event_level)), *right_sides(self.vary)]
        names.update(dict.fromkeys(name for each in texts for name in each.names))
        return list(names)


def _width(features: Sequence[str]) -> int:
    return sum(parse(text).width for text in features)


def feature_names(features: Sequence[str]) -> list[str]:
    """Name each number that the network sees: an expression, and for a one-hot its position.

    >>> feature_names(["log(pt)", "onehot(charge, -1, 1)"])
    ['log(pt)', 'onehot(charge, -1, 1)[0]', 'onehot(charge, -1, 1)[1]']
    """
    names: list[str] = []
    for text in features:
        width = parse(text).width
        names += [f"{text}[{i}]" for i in range(width)] if parse(text).is_onehot else [text]
    return names


def paths_of(inputs: Inputs, fields: Fields, *event_level: str) -> list[Path]:
    """List the columns that inputs need, and further event-level expressions; nothing is read.

    Raises
    ------
    DataError
        If a name is not there, naming the collection and near misses.
    """
    paths: dict[Path, None] = {}

    def need(text: str, naming: Naming | None, what: str) -> None:
        for name in parse(text).names:
            try:
                found = fields.find(name, naming)
            except DataError as error:
                raise DataError(f"{what} '{text}': {error}") from None
            paths.update(dict.fromkeys(found.paths.values()))

    for name, collection in inputs.collections.items():
        for text in collection.expressions():
            need(text, collection.naming(name), f"collection {name},")
        if not any(parse(text).names for text in collection.features):
            raise ConfigError(f"collection {name}: no feature uses a branch")
    for text in inputs.event:
        need(text, None, "event-level")
    paths.update(dict.fromkeys(paths_of_variations(inputs.vary, fields, set(paths))))
    for text in event_level:
        need(text, None, "event-level")
    return list(paths)
