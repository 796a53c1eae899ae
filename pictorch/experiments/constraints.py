"""Constraints of a grid: comparisons over the dotted keys of a cell's whole configuration.

    optim.lr <= train.batch_size / 64 and schedule.name in ["cosine", "linear"]

Python's syntax, of which there are comparisons, and/or/not, + - * /, numbers, texts, lists, true, false and null, and
dotted keys; a key that a configuration does not have is null there. Nothing is executed: the tree is walked.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pictorch.config import ConfigError
from pictorch.config.explain import known_blocks, known_keys, near_key
from pictorch.config.keywords import show

LONGEST = 1000  # characters
WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
ARITHMETIC: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
ORDER: dict[type[ast.AST], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
OTHERS: dict[type[ast.AST], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
TRUTH = (ast.Compare, ast.BoolOp)
EXAMPLE = "for example optim.lr <= train.batch_size / 64"


class Unfit(Exception):
    """What a constraint cannot be answered for, in words."""


@dataclass(frozen=True)
class Constraint:
    """A comparison as it is written, where it stands, and its tree."""

    text: str
    place: str
    tree: ast.expr

    @classmethod
    def read(cls, text: str, place: str) -> "Constraint":
        """Return the constraint of a text. Raises ConfigError for what is none, and for an unknown key."""
        try:
            if len(text) > LONGEST:
                raise Unfit(f"expected at most {LONGEST} characters, got {len(text)}")
            tree = ast.parse(text.strip(), mode="eval").body
            if not is_truth(tree):
                raise Unfit(f"expected a comparison, {EXAMPLE}")
            check(tree)
        except Unfit as problem:
            raise ConfigError(f"{place}: {show(text)}: {problem}") from None
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ConfigError(f"{place}: {show(text)}: this is no comparison, {EXAMPLE}") from None
        return cls(text, place, tree)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Return whether a configuration, {dotted key: value}, keeps it. Raises ConfigError where none can say."""
        try:
            return bool(value_of(self.tree, values))
        except Unfit as problem:
            raise ConfigError(f"{self.place}: {show(self.text)}: {problem}") from None


def is_truth(node: ast.expr) -> bool:
    """Return whether an expression is true or false, and no number or text."""
    return isinstance(node, TRUTH) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))


def check(node: ast.expr) -> None:
    """Raise Unfit for anything in a tree that is not of the language, or no key of a configuration."""
    wrong: ast.AST | None = None
    inner: list[ast.expr] = []
    if isinstance(node, ast.Compare):
        wrong = next((op for op in node.ops if type(op) not in ORDER | OTHERS), None)
        inner = [node.left, *node.comparators]
    elif isinstance(node, ast.BinOp):
        wrong, inner = None if type(node.op) in ARITHMETIC else node.op, [node.left, node.right]
    elif isinstance(node, ast.UnaryOp):
        wrong, inner = None if isinstance(node.op, ast.Not | ast.USub) else node.op, [node.operand]
    elif isinstance(node, ast.BoolOp):
        inner = node.values
    elif isinstance(node, ast.List | ast.Tuple):
        inner = node.elts
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float, str, bool, type(None)):
        return
    elif (key := key_of(node)) is not None:
        check_key(key)
        return
    else:
        wrong = node
    if wrong is not None:
        what = ast.unparse(wrong) if isinstance(wrong, ast.expr) else type(wrong).__name__
        raise Unfit(f"{what}: only comparisons, and/or/not, + - * /, numbers, texts, lists and keys can stand here")
    for part in inner:
        check(part)


def key_of(node: ast.expr) -> str | None:
    """Return the dotted key that a node is, else None."""
    if isinstance(node, ast.Name):
        return node.id
    inner = key_of(node.value) if isinstance(node, ast.Attribute) else None
    return f"{inner}.{node.attr}" if inner and isinstance(node, ast.Attribute) else None


def check_key(key: str) -> None:
    known = key in WORDS or key in known_keys() or key in known_blocks() or re.fullmatch(r"model\.\w+", key)
    if not known:
        raise Unfit(f"{key} is no key of a configuration{near_key(key, {})}")


def value_of(node: ast.expr, values: Mapping[str, Any]) -> Any:
    """Return what a checked tree says of a configuration. Raises Unfit where it has no answer."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [value_of(item, values) for item in node.elts]
    if isinstance(node, ast.BoolOp):
        answers = (value_of(part, values) for part in node.values)
        return all(answers) if isinstance(node.op, ast.And) else any(answers)
    if isinstance(node, ast.UnaryOp):
        value = value_of(node.operand, values)
        return not value if isinstance(node.op, ast.Not) else -number(value, node.operand)
    if isinstance(node, ast.BinOp):
        left, right = (number(value_of(side, values), side) for side in (node.left, node.right))
        try:
            return ARITHMETIC[type(node.op)](left, right)
        except (ZeroDivisionError, OverflowError) as error:
            raise Unfit(f"{ast.unparse(node)}: {error}") from None
    if isinstance(node, ast.Compare):
        return comparison(node, values)
    key = key_of(node)
    assert key is not None
    return WORDS[key] if key in WORDS else values.get(key)


def comparison(node: ast.Compare, values: Mapping[str, Any]) -> bool:
    """Return the answer of a comparison, or a chain of them."""
    operands = [node.left, *node.comparators]
    for left, op, right in zip(operands, node.ops, operands[1:], strict=False):
        a, b = value_of(left, values), value_of(right, values)
        if type(op) in ORDER and not ordered(a, b):
            raise Unfit(
                f"{ast.unparse(left)} is {show(a)} and {ast.unparse(right)} is {show(b)}: neither is the larger"
            )
        if isinstance(op, ast.In | ast.NotIn) and not isinstance(b, list):
            raise Unfit(f"{ast.unparse(right)} is {show(b)}, expected a list")
        if not (ORDER | OTHERS)[type(op)](a, b):
            return False
    return True


def ordered(a: Any, b: Any) -> bool:
    """Return whether one of two values can be the larger: numbers, or texts."""
    return (is_number(a) and is_number(b)) or (isinstance(a, str) and isinstance(b, str))


def is_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def number(value: Any, node: ast.expr) -> Any:
    if not is_number(value):
        raise Unfit(f"{ast.unparse(node)} is {show(value)}, expected a number")
    return value
