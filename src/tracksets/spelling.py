"""ROOT's spelling of an expression in, Python's out, with the way back to each character.

`&&`, `||`, `!`, `? :`, `TMath::` and `std::` are C++; Python's parser reads the rest.
"""

import re
from dataclasses import dataclass
from types import MappingProxyType

from tracksets.errors import ExpressionError

__all__ = ("Spelled", "respell")

_TOKEN = re.compile(
    r"""(?P<library>(?:TMath|std)::\w+(?:\(\))?)
    | (?P<number>0[xX][0-9a-fA-F]+ | 0[bB][01]+ | 0[oO][0-7]+
        | (?:[0-9]+\.?[0-9]* | \.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | && | \|\| | != | ! | [<>=]= | [?:()\[\],] | \w+ | \s+ | .""",
    re.DOTALL | re.VERBOSE,
)
_WORD_CHARACTER = re.compile(r"\w")
_FORBIDDEN = frozenset("{}\n\r;\\#\"'`@\0")

_PYTHON = MappingProxyType(
    {
        "&&": " and ",
        "||": " or ",
        "!": "~",  # binds as tightly as in C++; `not` would not
        "true": "True",
        "false": "False",
    }
)
# The others are called like ours, but for the case.
_TMATH = MappingProxyType(
    {
        "pi()": "pi",
        "e()": "2.718281828459045",
        "degtorad()": "(pi/180)",
        "radtodeg()": "(180/pi)",
        "power": "pow",
        "finite": "isfinite",
        "nint": "round",
    }
)


@dataclass(frozen=True)
class Spelled:
    """Python's spelling, and the position in the original text of each of its characters."""

    text: str
    positions: tuple[int, ...]

    def original(self, column: int) -> int:
        """Return the column of the original text for a column of Python's spelling."""
        if column < len(self.positions):
            return self.positions[max(column, 0)]
        return self.positions[-1] + 1 if self.positions else 0


_Pieces = list[tuple[str, int]]


def respell(text: str) -> Spelled:
    """Translate.

    Raises
    ------
    ExpressionError
        If a `?` has no `:`, a bracket is not closed, or a character or a number is not allowed.
    """
    pieces: _Pieces = []
    for match in _TOKEN.finditer(text):
        token, at = match.group(), match.start()
        if token in _FORBIDDEN:
            raise ExpressionError.at(f"{token!r} is not allowed", text, at)
        if match["number"] and _WORD_CHARACTER.match(text, match.end()):
            # Python's parser reads `1and 2` as `1 and 2`, with a warning that nobody sees.
            raise ExpressionError.at("a number runs into a name", text, match.end())
        pieces.append((_word(token), at))
    if any(token == "?" for token, _ in pieces):
        pieces = _conditionals(pieces, text)
    spelled = "".join(token for token, _ in pieces)
    positions = tuple(
        at + i if text.startswith(token, at) else at
        for token, at in pieces
        for i in range(len(token))
    )
    # Python reads leading blanks as an indent
    blanks = len(spelled) - len(spelled.lstrip())
    return Spelled(spelled[blanks:], positions[blanks:])


def _word(token: str) -> str:
    if token.startswith("TMath::"):
        name = token.removeprefix("TMath::").lower()
        return _TMATH.get(name, name)
    return _PYTHON.get(token, token.removeprefix("std::"))


def _conditionals(pieces: _Pieces, text: str) -> _Pieces:
    """Rewrite `a ? b : c` as `where(a, b, c)` in every bracket and argument."""
    done, rest = _clause(pieces, 0, text)
    if rest < len(pieces):
        raise _alone(pieces[rest], text)
    return done


def _clause(pieces: _Pieces, start: int, text: str) -> tuple[_Pieces, int]:
    """Read up to a `,`, a `:` or a closing bracket of this level; return it and where it ended."""
    test: _Pieces = []
    i = start
    while i < len(pieces):
        token, at = pieces[i]
        if token in ("(", "["):
            inner, i = _arguments(pieces, i, text)
            test += inner
        elif token in (")", "]", ",", ":"):
            break
        elif token == "?":
            chosen, i = _clause(pieces, i + 1, text)
            if i >= len(pieces) or pieces[i][0] != ":":
                raise ExpressionError.at("'?' without ':'", text, at)
            colon = pieces[i][1]
            other, i = _clause(pieces, i + 1, text)
            comma = [(",", at)]
            return [
                *[("where(", at), *test, *comma, *chosen],
                *[(",", colon), *other, (")", colon)],
            ], i
        else:
            test.append((token, at))
            i += 1
    return test, i


def _arguments(pieces: _Pieces, start: int, text: str) -> tuple[_Pieces, int]:
    opening, at = pieces[start]
    closing = {"(": ")", "[": "]"}[opening]
    done, i = [pieces[start]], start + 1
    while True:
        clause, i = _clause(pieces, i, text)
        done += clause
        if i >= len(pieces):
            raise ExpressionError.at(f"{opening!r} is not closed", text, at)
        done.append(pieces[i])
        if pieces[i][0] == closing:
            return done, i + 1
        if pieces[i][0] != ",":
            raise _alone(pieces[i], text)
        i += 1


def _alone(piece: tuple[str, int], text: str) -> ExpressionError:
    return ExpressionError.at(f"{piece[0]!r} without its partner", text, piece[1])
