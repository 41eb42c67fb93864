"""What can go wrong, as one family of exceptions, and the near misses that their messages list.

Every message says what was asked, what was found, what was expected and what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Self

__all__ = (
    "ConfigError",
    "DataError",
    "ExpressionError",
    "FileError",
    "MissingExtraError",
    "MixingWarning",
    "ModelError",
    "NonFiniteError",
    "ProcessError",
    "StoppedError",
    "TracksetsError",
    "near_misses",
)


class TracksetsError(Exception):
    """Base of every error that tracksets raises on purpose."""


class ConfigError(TracksetsError, ValueError):
    """A configuration says something that cannot be meant."""


class ExpressionError(ConfigError):
    """An expression cannot be parsed or evaluated."""

    @classmethod
    def at(cls, message: str, text: str, position: int) -> "ExpressionError":
        """Make the error that points at one character of an expression."""
        return cls(f"{message}\n    {text}\n    {' ' * position}^")


class DataError(TracksetsError, ValueError):
    """An array holds what cannot be represented as one number per track or per event."""


class NonFiniteError(DataError):
    """A feature or a loss is NaN or infinite."""


class FileError(TracksetsError, OSError):
    """A file, a tree or a branch is missing, unreadable or in the way."""


class ModelError(TracksetsError, ValueError):
    """A model file is not what it should be."""


class ProcessError(TracksetsError, RuntimeError):
    """A process cannot compute, or not in the way that was asked."""


class StoppedError(TracksetsError):
    """What was asked to stop has nothing to return yet."""


class MissingExtraError(TracksetsError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed: "
            f"pip install 'tracksets[{extra}]'"
        )
        self._said = (package, extra, purpose)

    def __reduce__(self) -> tuple[type[Self], tuple[str, str, str]]:
        # An exception is pickled with its message, which is not what this one is made from.
        return type(self), self._said


class MixingWarning(UserWarning):
    """A training goes through its events in an order that is less random than it should be."""


def near_misses(name: str, known: Iterable[str], most: int = 5) -> str:
    """Say which known names resemble `name`, as the end of an error message.

    >>> near_misses("Track_ptt", ["Track_pt", "Track_eta", "MET_pt"])
    "did you mean 'Track_pt' or 'Track_eta'?"
    """
    known = list(dict.fromkeys(known))
    folded: dict[str, list[str]] = {}
    for each in known:
        folded.setdefault(each.lower(), []).append(each)
    close = [
        each
        for match in get_close_matches(name.lower(), folded, most, 0.7)
        for each in folded[match]
    ]
    if close:
        return "did you mean " + " or ".join(repr(each) for each in close[:most]) + "?"
    if not known:
        return "there are none"
    listed = ", ".join(known[:20])
    return f"there are: {listed}" + (f" and {len(known) - 20} more" if len(known) > 20 else "")
