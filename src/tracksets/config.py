"""A TOML file in, a checked configuration out, with every mistake reported at once."""

import os
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from tracksets.configuration import Configuration, as_config_error
from tracksets.errors import ConfigError, near_misses
from tracksets.expressions import parse
from tracksets.inputs import Inputs
from tracksets.models import Model, weight_columns
from tracksets.reflections import Reflections
from tracksets.settings import Training

__all__ = ("Config", "Data", "read_config")

Files = Annotated[tuple[str, ...], Field(min_length=1)]


class Class(Configuration):
    """Which events belong to a class.

    Parameters
    ----------
    files
        Files with events of this class; those of `[data]` by default.
    where
        The events of these files that do: `isSignal == 1`.
    value
        Or those where the `target` of `[data]` has this value.
    tree, weight
        If they differ from those of `[data]`.
    """

    files: Files | None = None
    where: str | None = None
    value: int | None = None
    tree: str | None = None
    weight: str | None = None


class Reweight(Configuration):
    """Make a variable's distribution the same in all classes, by weights.

    Parameters
    ----------
    variable
        An expression, one number per event: `jet_pt`.
    bins
        Edges, rising; values beyond count to the first and last bin.
    match
        The class whose distribution the others get; without it, all become flat.
    """

    variable: str
    bins: Annotated[tuple[float, ...], Field(min_length=2)]
    match: str | None = None

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(right <= left for left, right in pairwise(self.bins)):
            raise ValueError("bins must be rising")
        return self


class Regression(Configuration):
    """What to learn, if not classes.

    Parameters
    ----------
    targets
        Expressions, one number per event each.
    names
        What the scores are called; by default the expressions themselves.
    units
        Of the targets, kept in the model and shown in plots: `GeV`.
    """

    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        for option in ("names", "units"):
            n = len(getattr(self, option))
            if n not in (0, len(self.targets)):
                raise ValueError(f"{n} {option} for {len(self.targets)} target(s)")
        return self


class Data(Configuration):
    """Where the events are, and what is true of them.

    Parameters
    ----------
    tree
        Its name; not needed where a file has only one.
    files
        Names and patterns, relative to the folder of the configuration.
    weight
        An expression; may be negative. 1 by default.
    select
        Events to use, as an expression.
    target
        An integer branch that says the class of an event, with `value` in each class.
    classes
        By name, in order; the last one is the signal of a binary score.
    balance
        Whether the classes get equal sums of weights for the training.
    reweight
        A variable whose distribution is made the same in all classes, for the training.
    regression
        Or what to learn instead.
    """

    tree: str | None = None
    files: Files | None = None
    weight: str | None = None
    select: str | None = None
    target: str | None = None
    balance: bool = False
    reweight: Reweight | None = None
    classes: dict[str, Class] = Field(default_factory=dict)
    regression: Regression | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.classes) == (self.regression is not None):
            raise ValueError("say either [data.classes.NAME], two or more, or [data.regression]")
        if len(self.classes) == 1:
            raise ValueError(
                f"only one class, {list(self.classes)}: there is nothing to tell apart"
            )
        for name, each in self.classes.items():
            if each.files is None and (
                self.files is None or (each.where is None and each.value is None)
            ):
                raise ValueError(
                    f"classes.{name} needs files of its own, or `where` or `value`, and files "
                    "under [data]"
                )
            if each.value is not None and self.target is None:
                raise ValueError(f"classes.{name} has a value, but there is no target under [data]")
        if self.regression is not None:
            if self.files is None:
                raise ValueError("a regression needs files under [data]")
            if self.balance or self.reweight or self.target:
                raise ValueError("balance, reweight and target are for classes, not a regression")
        if self.reweight and self.reweight.match not in (None, *self.classes):
            listed = near_misses(str(self.reweight.match), self.classes)
            raise ValueError(f"reweight.match: no class {self.reweight.match!r}; {listed}")
        texts = [self.weight, self.select, self.target]
        texts += [self.reweight.variable if self.reweight else None]
        texts += [*(self.regression.targets if self.regression else ())]
        texts += [text for each in self.classes.values() for text in (each.where, each.weight)]
        for text in texts:
            if text is not None and parse(text).width != 1:
                raise ValueError(f"'{text}' gives several numbers per event")
        return self


class Config(Configuration):
    """A training, as `train.toml` says it.

    Parameters
    ----------
    data, inputs, model, training
        The tables of the file.
    folder
        What the names of files are relative to.
    """

    data: Data
    inputs: Inputs | None = None
    model: Model = Model()
    training: Training = Training()
    folder: str = "."

    @model_validator(mode="after")
    def _features_known(self) -> Self:
        if self.inputs is not None:
            weight_columns(self.model, self.inputs)
            Reflections.of(self.training.reflections, self.inputs)
        return self


def read_config(path: Config | str | os.PathLike[str]) -> Config:
    """Read a configuration.

    Parameters
    ----------
    path
        Of a TOML file; a configuration is returned as it is.

    Raises
    ------
    ConfigError
        If it is missing or wrong: every wrong key, type or value with its path and near misses.
    """
    if isinstance(path, Config):
        return path
    path = Path(path)
    if not path.is_file():
        there = sorted(each.name for each in path.parent.glob("*.toml"))
        raise ConfigError(f"no configuration file {path}: {near_misses(path.name, there)}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
        raise ConfigError(f"{path} is not a TOML file: {error}") from None
    content.setdefault("folder", str(path.parent))
    return check_config(content, str(path))


def check_config(content: dict[str, Any], where: str = "configuration") -> Config:
    """Check the content of a configuration; see `read_config`."""
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise as_config_error(error, where, Config) from None
