"""Text in, a checked expression out, that names what it needs and evaluates on columns.

The language is the one of `TTree::Draw`, in Python's or in ROOT's spelling. Python's own parser
makes the syntax tree; only the nodes listed here are walked, and nothing is ever executed.
"""

import ast
from collections.abc import Callable
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

from tracksets.errors import DataError, ExpressionError, near_misses
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
from tracksets.spelling import Spelled, respell

__all__ = ("Expression", "parse")

_LONGEST = 4000
_DEEPEST = 60

_OPERATORS: MappingProxyType[type, Callable[..., Any]] = MappingProxyType(
    {
        ast.Add: np.add,
        ast.Sub: np.subtract,
        ast.Mult: np.multiply,
        ast.Div: np.divide,
        ast.FloorDiv: np.floor_divide,
        ast.Mod: np.mod,
        ast.Pow: FUNCTIONS["pow"][0],
        ast.UAdd: np.positive,
        ast.USub: np.negative,
        ast.Eq: np.equal,
        ast.NotEq: np.not_equal,
        ast.Lt: np.less,
        ast.LtE: np.less_equal,
        ast.Gt: np.greater,
        ast.GtE: np.greater_equal,
        ast.And: np.logical_and,
        ast.Or: np.logical_or,
        ast.Not: np.logical_not,
        ast.BitAnd: np.bitwise_and,
        ast.BitOr: np.bitwise_or,
        ast.LShift: np.left_shift,
        ast.RShift: np.right_shift,
        ast.Invert: np.logical_not,
    }
)


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
        if not text.strip():
            raise ExpressionError("an expression is empty")
        if len(text) > _LONGEST:
            raise ExpressionError(f"an expression is longer than {_LONGEST} characters")
        try:
            self._spelled: Spelled = respell(text)
            self._tree = ast.parse(self._spelled.text, mode="eval").body
        except ExpressionError:
            raise
        except SyntaxError as error:
            # Python counts from 1, and the end of the text as 0
            at = (error.offset or len(self._spelled.text) + 1) - 1
            raise self._error(error.msg, at) from None
        except (ValueError, MemoryError, RecursionError, OverflowError):
            raise ExpressionError(
                f"is nested too deep, or holds characters that no name has\n    {text!r}"
            ) from None
        names: dict[str, None] = {}
        self.width = self._check(self._tree, names, top=True)
        self.names = tuple(names)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    @cached_property
    def is_flag(self) -> bool:
        """Whether it only gives 0 and 1: one-hot, comparisons, logic. Scaling leaves it alone."""
        return _is_flag(self._tree)

    @cached_property
    def is_onehot(self) -> bool:
        """Whether it gives one number per code, even for a single code."""
        return _called(self._tree) == "onehot"

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
            return self._evaluate(self._tree, columns)
        except DataError as error:
            raise type(error)(f"in '{self.text}': {error}") from None
        except (TypeError, ValueError, OverflowError, MemoryError, IndexError) as error:
            raise DataError(f"'{self.text}' cannot be evaluated: {error}") from None

    # -- checking ------------------------------------------------------------------------------

    def _error(self, message: str, column: int | ast.AST) -> ExpressionError:
        if isinstance(column, ast.AST):
            column = self._span(column)[0]
        return ExpressionError.at(message, self.text, self._spelled.original(column))

    def _span(self, node: ast.AST) -> tuple[int, int]:
        """Where a node starts and ends in Python's spelling; ast counts bytes of UTF-8."""
        text = self._spelled.text.encode()
        start, end = getattr(node, "col_offset", 0), getattr(node, "end_col_offset", 0)
        return len(text[:start].decode()), len(text[:end].decode())

    def _in_parentheses(self, node: ast.AST) -> bool:
        start, end = self._span(node)
        before, after = self._spelled.text[:start].rstrip(), self._spelled.text[end:].lstrip()
        return before.endswith("(") and after.startswith(")")

    def _check(
        self, node: ast.AST, names: dict[str, None], top: bool = False, deep: int = 0
    ) -> int:
        """Refuse every node that is not allowed, collect the names, return the width."""
        if deep > _DEEPEST:
            raise self._error("is nested too deep", node)
        children: list[ast.expr] = []
        match node:
            case ast.Constant(value=bool() | int() | float()):
                if isinstance(node.value, int) and abs(node.value) >= 2**63:
                    raise self._error("the integer is too large", node)
            case ast.Constant():
                raise self._error(f"{type(node.value).__name__} constants are not allowed", node)
            case ast.Name() | ast.Attribute():
                name = self._dotted(node)
                if name not in CONSTANTS:
                    names.setdefault(name)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
                children = [operand]
            case ast.BinOp(left=left, op=op, right=right):
                if isinstance(op, ast.BitXor):
                    raise self._error("'^' is ambiguous: write pow(x, y) or x**y", node)
                if type(op) not in _OPERATORS:
                    raise self._error("this operator is not allowed", node)
                children = [left, right]
            case ast.BoolOp(values=values):
                children = values
            case ast.Compare(left=left, ops=ops, comparators=others):
                if not all(type(op) in _OPERATORS for op in ops):
                    raise self._error("'in' and 'is' are not allowed", node)
                children = [left, *others]
                for each in children:
                    if _is_bitwise(each) and not self._in_parentheses(each):
                        raise self._error(
                            "'&' and '|' bind tighter than comparisons in Python and looser in "
                            "C++: put parentheses, or write '&&' and '||'",
                            each,
                        )
            case ast.IfExp(test=test, body=body, orelse=orelse):
                children = [test, body, orelse]
            case ast.Subscript(value=value, slice=index):
                self._whole_number(index)
                children = [value]
            case ast.Call():
                return self._check_call(node, names, top, deep)
            case _:
                raise self._error(f"{type(node).__name__} is not allowed in an expression", node)
        for child in children:
            self._check(child, names, deep=deep + 1)
        return 1

    def _check_call(self, node: ast.Call, names: dict[str, None], top: bool, deep: int) -> int:
        if not isinstance(node.func, ast.Name):
            raise self._error("only functions of the list can be called", node)
        name, arguments = node.func.id, node.args
        if node.keywords or any(isinstance(each, ast.Starred) for each in arguments):
            raise self._error("functions take plain arguments only", node)
        if name == "onehot":
            if not top:
                raise self._error("onehot gives several features: use it alone", node)
            if len(arguments) < 2:
                raise self._error("onehot(x, code, ...) needs at least one code", node)
            for code in arguments[1:]:
                self._number(code)
            self._check(arguments[0], names, deep=deep + 1)
            return len(arguments) - 1
        fewest, most = self._arity(node.func)
        if not fewest <= len(arguments) <= most:
            wanted = f"{fewest}" if fewest == most else f"{fewest} or more"
            raise self._error(f"{name} takes {wanted} argument(s), not {len(arguments)}", node)
        if name == "at":
            self._whole_number(arguments[1])
            self._number(arguments[2])
            arguments = arguments[:1]
        for each in arguments:
            self._check(each, names, deep=deep + 1)
        return 1

    def _arity(self, function: ast.Name) -> tuple[int, int]:
        name = function.id
        if name == "at":
            return 3, 3
        if name in FUNCTIONS:
            _, fewest, most = FUNCTIONS[name]
            return (1 if name in REDUCTIONS else fewest), most
        if name in REDUCTIONS:
            return 1, 1
        known = sorted({*FUNCTIONS, *REDUCTIONS, "onehot", "at"})
        raise self._error(f"unknown function '{name}': {near_misses(name, known)}", function)

    def _dotted(self, node: ast.AST) -> str:
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            raise self._error("only names can have a dot", node)
        return ".".join((node.id, *reversed(parts)))

    def _number(self, node: ast.AST) -> int | float:
        sign = 1
        while isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            sign = -sign if isinstance(node.op, ast.USub) else sign
            node = node.operand
        if isinstance(node, ast.Name) and node.id in CONSTANTS:
            return sign * CONSTANTS[node.id]
        match node:
            case ast.Constant(value=float() as value):
                return sign * value
            case ast.Constant(value=int() as value) if abs(value) < 2**63:
                return sign * value
        raise self._error("expected a plain number here", node)

    def _whole_number(self, node: ast.AST) -> int:
        number = self._number(node)
        if not isinstance(number, int):
            raise self._error("expected a whole number here", node)
        return number

    # -- evaluating ----------------------------------------------------------------------------

    def _evaluate(self, node: ast.AST, columns: Callable[[str], Column]) -> Value:
        def walk(child: ast.AST) -> Value:
            return self._evaluate(child, columns)

        match node:
            case ast.Constant(value=value):
                return value  # type: ignore[return-value]  # checked when parsed
            case ast.Name() | ast.Attribute():
                name = self._dotted(node)
                return CONSTANTS[name] if name in CONSTANTS else columns(name)
            case ast.UnaryOp(op=op, operand=operand):
                return elementwise(_OPERATORS[type(op)], walk(operand))
            case ast.BinOp(left=left, op=op, right=right):
                return elementwise(_OPERATORS[type(op)], walk(left), walk(right))
            case ast.BoolOp(op=op, values=values):
                result = walk(values[0])
                for each in values[1:]:
                    result = elementwise(_OPERATORS[type(op)], result, walk(each))
                return result
            case ast.Compare(left=left, ops=ops, comparators=others):
                sides = [walk(left), *map(walk, others)]
                pairs = [
                    elementwise(_OPERATORS[type(op)], *sides[i : i + 2]) for i, op in enumerate(ops)
                ]
                result = pairs[0]
                for pair in pairs[1:]:
                    result = elementwise(np.logical_and, result, pair)
                return result
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return elementwise(np.where, walk(test), walk(body), walk(orelse))
            case ast.Subscript(value=value, slice=index):
                return element(walk(value), self._whole_number(index), np.nan)
            case ast.Call(func=ast.Name(id=name), args=arguments):
                if name == "onehot":
                    return onehot(walk(arguments[0]), [self._number(a) for a in arguments[1:]])
                if name == "at":
                    which, default = self._whole_number(arguments[1]), self._number(arguments[2])
                    return element(walk(arguments[0]), which, default)
                if name in REDUCTIONS and len(arguments) == 1:
                    return reduce(name, walk(arguments[0]))
                return elementwise(FUNCTIONS[name][0], *map(walk, arguments))
        raise self._error("is not allowed", node)  # pragma: no cover  # refused when parsed


@lru_cache(4096)
def parse(text: str) -> Expression:
    """Return the `Expression` of a text, parsed once.

    Raises
    ------
    ExpressionError
        If it cannot be parsed.
    """
    return Expression(text)


def _called(node: ast.AST) -> str | None:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None


def _is_bitwise(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr))


def _is_flag(node: ast.AST) -> bool:
    match node:
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not() | ast.Invert()):
            return True
        case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr(), right=right):
            return _is_flag(left) and _is_flag(right)
    return _called(node) in ("onehot", "any", "all", "isnan", "isfinite")
