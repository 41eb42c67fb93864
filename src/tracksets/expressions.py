"""Text in, an expression out, that names what it needs and evaluates on columns.

Only the nodes that `syntax.py` lets pass are walked, and nothing is ever executed.
"""

import ast
from collections.abc import Callable
from functools import cached_property, lru_cache

import numpy as np

from tracksets.errors import DataError
from tracksets.functions import (
    CONSTANTS,
    FUNCTIONS,
    REDUCTIONS,
    Value,
    element,
    elementwise,
    onehot,
    reduce,
)
from tracksets.jagged import Column
from tracksets.syntax import OPERATORS, Syntax, called

__all__ = ("Expression", "parse")


class Expression:
    """A parsed expression.

    Parameters
    ----------
    text
        What the user wrote: `log(pt)`, `d0/d0_err`, `Track_pt > 0.5 && abs(eta) < 2`.

    Attributes
    ----------
    names
        The names of branches that it needs, in the order of their first use.
    width
        How many features it gives: 1, or the number of codes of a `onehot`.

    Raises
    ------
    ExpressionError
        If it cannot be parsed; the message points at the character.

    Examples
    --------
    >>> Expression("log(pt) + (abs(eta) < 2.5 && charge > 0 ? 1 : 0)").names
    ('pt', 'eta', 'charge')
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._syntax = Syntax(text)
        self.names, self.width = self._syntax.names, self._syntax.width

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    @cached_property
    def is_flag(self) -> bool:
        """Whether it only gives 0 and 1: one-hot, comparisons, logic. Scaling leaves it alone."""
        return _is_flag(self._syntax.tree)

    @cached_property
    def is_onehot(self) -> bool:
        """Whether it gives one number per code, even for a single code."""
        return called(self._syntax.tree) == "onehot"

    def __call__(self, columns: Callable[[str], Column]) -> Value:
        """Evaluate.

        Parameters
        ----------
        columns
            Gives the column of a name.

        Raises
        ------
        DataError
            If columns with unequal counts meet, or a reduction has nothing to reduce.
        """
        try:
            return self._evaluate(self._syntax.tree, columns)
        except DataError as error:
            raise type(error)(f"in '{self.text}': {error}") from None
        except (TypeError, ValueError, OverflowError, MemoryError, IndexError) as error:
            raise DataError(f"'{self.text}' cannot be evaluated: {error}") from None

    def _evaluate(self, node: ast.AST, columns: Callable[[str], Column]) -> Value:
        def walk(child: ast.AST) -> Value:
            return self._evaluate(child, columns)

        match node:
            case ast.Constant(value=value):
                return value  # type: ignore[return-value]  # checked when parsed
            case ast.Name() | ast.Attribute():
                name = self._syntax.dotted(node)
                return CONSTANTS[name] if name in CONSTANTS else columns(name)
            case ast.UnaryOp(op=op, operand=operand):
                return elementwise(OPERATORS[type(op)], walk(operand))
            case ast.BinOp(left=left, op=op, right=right):
                return elementwise(OPERATORS[type(op)], walk(left), walk(right))
            case ast.BoolOp(op=op, values=values):
                result = walk(values[0])
                for each in values[1:]:
                    result = elementwise(OPERATORS[type(op)], result, walk(each))
                return result
            case ast.Compare(left=left, ops=ops, comparators=others):
                sides = [walk(left), *map(walk, others)]
                pairs = [
                    elementwise(OPERATORS[type(op)], *sides[i : i + 2]) for i, op in enumerate(ops)
                ]
                result = pairs[0]
                for pair in pairs[1:]:
                    result = elementwise(np.logical_and, result, pair)
                return result
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return elementwise(np.where, walk(test), walk(body), walk(orelse))
            case ast.Subscript(value=value, slice=index):
                return element(walk(value), self._syntax.whole_number(index), np.nan)
            case ast.Call(func=ast.Name(id=name), args=arguments):
                if name == "onehot":
                    return onehot(
                        walk(arguments[0]), [self._syntax.number(a) for a in arguments[1:]]
                    )
                if name == "at":
                    which, default = (
                        self._syntax.whole_number(arguments[1]),
                        self._syntax.number(arguments[2]),
                    )
                    return element(walk(arguments[0]), which, default)
                if name in REDUCTIONS and len(arguments) == 1:
                    return reduce(name, walk(arguments[0]))
                return elementwise(FUNCTIONS[name][0], *map(walk, arguments))
        raise self._syntax.error("is not allowed", node)  # pragma: no cover  # refused when parsed


@lru_cache(4096)
def parse(text: str) -> Expression:
    """Return the `Expression` of a text, parsed once.

    Raises
    ------
    ExpressionError
        If it cannot be parsed.
    """
    return Expression(text)


def _is_flag(node: ast.AST) -> bool:
    match node:
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not() | ast.Invert()):
            return True
        case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr(), right=right):
            return _is_flag(left) and _is_flag(right)
    return called(node) in ("onehot", "any", "all", "isnan", "isfinite")
