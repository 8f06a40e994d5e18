"""Integer formulas over an op's sizes: "M", "(N + 127) // 128", "cdiv(K, BLOCK)", "K * 4".

Contract: a `Formula` is checked when it is made, so that a bad one is a UsageError that quotes the
option before anything runs. Allowed are integers, names, + - * // % and parentheses, min, max and
cdiv (division rounded up); `/` is integer division, as in C. `names` are those it uses.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from quantassay.errors import UsageError

ALLOWED = "integers, names, + - * / // %, parentheses, min(), max() and cdiv()"


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)


_OPERATORS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a // b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
}
_FUNCTIONS: Mapping[str, Callable[..., int]] = {"min": min, "max": max, "cdiv": _cdiv}


@dataclass(frozen=True)
class Formula:
    """One formula. `option` is where it was written ("--grid"), for messages."""

    text: str
    option: str

    def __post_init__(self) -> None:
        try:
            self._check(self._tree())
        except RecursionError:
            raise self._refused() from None

    @property
    def names(self) -> tuple[str, ...]:
        """The names used, in the order of their appearance."""
        found = [node for node in ast.walk(self._tree()) if isinstance(node, ast.Name)]
        return tuple(dict.fromkeys(node.id for node in found if node.id not in _FUNCTIONS))

    def check_names(self, known: Iterable[str]) -> None:
        """Raises UsageError for a name that is not known."""
        listed = sorted(known)
        for name in self.names:
            if name not in listed:
                raise UsageError(
                    f"{self.option}: {self.text!r} names {name}; known: {', '.join(listed)}"
                )

    def value(self, names: Mapping[str, int]) -> int:
        """Raises ZeroDivisionError where it divides by 0 at these sizes."""
        return self._value(self._tree(), names)

    def _tree(self) -> ast.expr:
        try:
            return ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise self._refused() from None

    def _refused(self) -> UsageError:
        return UsageError(f"{self.option}: got {self.text!r}; allowed: {ALLOWED}")

    def _check(self, node: ast.expr) -> None:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return
        if isinstance(node, ast.Name):
            return
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            self._check(node.operand)
        elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            self._check(node.left)
            self._check(node.right)
        elif _is_call(node):
            assert isinstance(node, ast.Call)
            for argument in node.args:
                self._check(argument)
        else:
            raise self._refused()

    def _value(self, node: ast.expr, names: Mapping[str, int]) -> int:
        if isinstance(node, ast.Constant):
            assert isinstance(node.value, int)
            return node.value
        if isinstance(node, ast.Name):
            return names[node.id]
        if isinstance(node, ast.UnaryOp):
            operand = self._value(node.operand, names)
            return -operand if isinstance(node.op, ast.USub) else operand
        if isinstance(node, ast.BinOp):
            left, right = self._value(node.left, names), self._value(node.right, names)
            return _OPERATORS[type(node.op)](left, right)
        assert isinstance(node, ast.Call)
        assert isinstance(node.func, ast.Name)
        return _FUNCTIONS[node.func.id](*(self._value(one, names) for one in node.args))


def _is_call(node: ast.expr) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.keywords:
        return False
    counts = {"cdiv": (2,), "min": range(2, 9), "max": range(2, 9)}
    return len(node.args) in counts.get(node.func.id, ())


def formulas(text: str, option: str, most: int) -> tuple[Formula, ...]:
    """One to `most` formulas separated by commas that are outside of parentheses."""
    parts = split(text)
    if not 1 <= len(parts) <= most or not all(part.strip() for part in parts):
        raise UsageError(f"{option}: got {text!r}; allowed: 1 to {most} formulas, by commas")
    return tuple(Formula(part.strip(), option) for part in parts)


def split(text: str) -> list[str]:
    """Parts of a text at the commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for place, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]
