"""Text in, a checked syntax tree out, that names what it needs.

The language is the one of `TTree::Draw`, in Python's or in ROOT's spelling. Python's own parser
makes the tree; only the nodes that are listed here pass.
"""

import ast
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np

from tracksets.errors import ExpressionError, near_misses
from tracksets.functions import CONSTANTS, FUNCTIONS, REDUCTIONS
from tracksets.spelling import Spelled, respell

__all__ = ("OPERATORS", "Syntax", "called")

_LONGEST = 4000
_DEEPEST = 60

OPERATORS: MappingProxyType[type, Callable[..., Any]] = MappingProxyType(
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


class Syntax:
    """The checked syntax tree of an expression.

    Parameters
    ----------
    text
        What the user wrote.

    Attributes
    ----------
    tree
        Of allowed nodes only.
    names
        The names of branches that it needs, in the order of their first use.
    width
        How many features it gives.

    Raises
    ------
    ExpressionError
        If it cannot be parsed; the message points at the character.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if not text.strip():
            raise ExpressionError("an expression is empty")
        if len(text) > _LONGEST:
            raise ExpressionError(f"an expression is longer than {_LONGEST} characters")
        try:
            self._spelled: Spelled = respell(text)
            self.tree = ast.parse(self._spelled.text, mode="eval").body
        except ExpressionError:
            raise
        except SyntaxError as error:
            # Python counts from 1, and the end of the text as 0
            at = (error.offset or len(self._spelled.text) + 1) - 1
            raise self.error(error.msg, at) from None
        except (ValueError, MemoryError, RecursionError, OverflowError):
            raise ExpressionError(
                f"is nested too deep, or holds characters that no name has\n    {text!r}"
            ) from None
        names: dict[str, None] = {}
        self.width = self._check(self.tree, names, top=True)
        self.names = tuple(names)

    def error(self, message: str, column: int | ast.AST) -> ExpressionError:
        """Point at a character, or at the first one of a node, in what the user wrote."""
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
            raise self.error("is nested too deep", node)
        children: list[ast.expr] = []
        match node:
            case ast.Constant(value=bool() | int() | float()):
                if isinstance(node.value, int) and abs(node.value) >= 2**63:
                    raise self.error("the integer is too large", node)
            case ast.Constant():
                raise self.error(f"{type(node.value).__name__} constants are not allowed", node)
            case ast.Name() | ast.Attribute():
                name = self.dotted(node)
                if name not in CONSTANTS:
                    names.setdefault(name)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
                children = [operand]
            case ast.BinOp(left=left, op=op, right=right):
                if isinstance(op, ast.BitXor):
                    raise self.error("'^' is ambiguous: write pow(x, y) or x**y", node)
                if type(op) not in OPERATORS:
                    raise self.error("this operator is not allowed", node)
                children = [left, right]
            case ast.BoolOp(values=values):
                children = values
            case ast.Compare(left=left, ops=ops, comparators=others):
                if not all(type(op) in OPERATORS for op in ops):
                    raise self.error("'in' and 'is' are not allowed", node)
                children = [left, *others]
                for each in children:
                    if _is_bitwise(each) and not self._in_parentheses(each):
                        raise self.error(
                            "'&' and '|' bind tighter than comparisons in Python and looser in "
                            "C++: put parentheses, or write '&&' and '||'",
                            each,
                        )
            case ast.IfExp(test=test, body=body, orelse=orelse):
                children = [test, body, orelse]
            case ast.Subscript(value=value, slice=index):
                self.whole_number(index)
                children = [value]
            case ast.Call():
                return self._check_call(node, names, top, deep)
            case _:
                raise self.error(f"{type(node).__name__} is not allowed in an expression", node)
        for child in children:
            self._check(child, names, deep=deep + 1)
        return 1

    def _check_call(self, node: ast.Call, names: dict[str, None], top: bool, deep: int) -> int:
        if not isinstance(node.func, ast.Name):
            raise self.error("only functions of the list can be called", node)
        name, arguments = node.func.id, node.args
        if node.keywords or any(isinstance(each, ast.Starred) for each in arguments):
            raise self.error("functions take plain arguments only", node)
        if name == "onehot":
            if not top:
                raise self.error("onehot gives several features: use it alone", node)
            if len(arguments) < 2:
                raise self.error("onehot(x, code, ...) needs at least one code", node)
            for code in arguments[1:]:
                self.number(code)
            self._check(arguments[0], names, deep=deep + 1)
            return len(arguments) - 1
        fewest, most = self._arity(node.func)
        if not fewest <= len(arguments) <= most:
            wanted = f"{fewest}" if fewest == most else f"{fewest} or more"
            raise self.error(f"{name} takes {wanted} argument(s), not {len(arguments)}", node)
        if name == "at":
            self.whole_number(arguments[1])
            self.number(arguments[2])
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
        raise self.error(f"unknown function '{name}': {near_misses(name, known)}", function)

    def dotted(self, node: ast.AST) -> str:
        """Join the parts of a name."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            raise self.error("only names can have a dot", node)
        return ".".join((node.id, *reversed(parts)))

    def number(self, node: ast.AST) -> int | float:
        """Read a plain number, which may have a sign or be a constant's name."""
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
        raise self.error("expected a plain number here", node)

    def whole_number(self, node: ast.AST) -> int:
        """Read a plain whole number."""
        number = self.number(node)
        if not isinstance(number, int):
            raise self.error("expected a whole number here", node)
        return number


def called(node: ast.AST) -> str | None:
    """Name the function that a node calls, if it does."""
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None


def _is_bitwise(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr))
