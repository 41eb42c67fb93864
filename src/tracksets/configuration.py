"""What pydantic says of a wrong configuration in, one error of ours out: `Configuration`."""

from typing import TYPE_CHECKING, Any, ClassVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from tracksets.errors import ConfigError, near_misses

__all__ = ("Configuration", "as_config_error")


class _OwnErrors(type(BaseModel)):  # type: ignore[misc] # pydantic gives it no public name
    """Reports mistakes in what users construct as those of a file; what is nested goes past it."""

    def __call__(cls, *values: Any, **keys: Any) -> Any:
        try:
            return super().__call__(*values, **keys)
        except ValidationError as error:
            raise as_config_error(error, f"{cls.__name__}(...)", cls) from None


if TYPE_CHECKING:  # mypy wants to know the metaclass, and would lose the signatures
    _Base = BaseModel
else:

    class _Base(BaseModel, metaclass=_OwnErrors):
        """What pydantic offers, with our errors."""


class Configuration(_Base):
    """Base of every configuration: immutable, and a wrong key is an error.

    Attributes
    ----------
    shorthands
        Keys that are allowed and stand for others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    shorthands: ClassVar[tuple[str, ...]] = ()


def as_config_error(
    error: ValidationError, where: str, root: type[Configuration] | None = None
) -> ConfigError:
    """Turn pydantic's report into one message: every mistake with its path, and near misses.

    Parameters
    ----------
    error
        What pydantic raised.
    where
        What to call the configuration.
    root
        What it should have been; without it, no keys are suggested.
    """
    lines = []
    for each in error.errors():
        place = ".".join(str(part) for part in each["loc"]) or "(top level)"
        message = each["msg"].removeprefix("Value error, ")
        if each["type"] == "extra_forbidden":
            message = "unknown key"
            if root:
                message += f"; {near_misses(str(each['loc'][-1]), _keys(root, each['loc']))}"
        elif each["type"] != "value_error" and not isinstance(each["input"], dict):
            message += f", not {each['input']!r}"
        lines.append(f"  {place}: {message}")
    return ConfigError(f"{where} has {len(lines)} mistake(s)\n" + "\n".join(lines))


def _keys(root: type[Configuration], location: tuple[int | str, ...]) -> list[str]:
    """List the keys that are allowed where an unknown one stands."""
    known: Any = root
    for part in location[:-1]:
        if get_origin(known) is dict:
            known = get_args(known)[1]
        else:
            known = _unwrapped(known).model_fields[str(part)].annotation
    known = _unwrapped(known)
    return [name for name in (*known.model_fields, *known.shorthands) if name != "folder"]


def _unwrapped(annotation: Any) -> Any:
    """Return the configuration in `Inputs | None`."""
    return next((each for each in get_args(annotation) if each is not type(None)), annotation)
