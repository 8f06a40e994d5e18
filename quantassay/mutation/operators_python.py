"""What can be changed in a source of the Numba wing.

Contract: `edits(source)` yields the edits of code that runs on the device: of functions decorated
`device`, and of functions inside functions, kernels among them, but not of those that generate
LLVM's IR by hand (`intrinsic`). Decorators, annotations and docstrings stay as they are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from quantassay.mutation.mutant import Edit

ARITHMETIC: dict[type, tuple[str, str]] = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "+"), ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"), ast.LShift: ("<<", ">>"), ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"), ast.BitXor: ("^", "|"),
}  # fmt: skip
COMPARISON: dict[type, tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">=")), ast.LtE: ("<=", ("<", ">")), ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")), ast.Eq: ("==", ("!=",)), ast.NotEq: ("!=", ("==",)),
}  # fmt: skip
EXTREMES = {"min": "max", "max": "min"}
AXES = {"x": "y", "y": "x"}
INDICES = ("threadIdx", "blockIdx", "blockDim", "gridDim")
BARRIERS = ("syncthreads", "syncwarp", "threadfence", "commit", "wait", "await", "sync")
NO_INDEX = (ast.Tuple, ast.Slice, ast.Constant)  # constants have an operator of their own
_ROUNDED = re.compile(r"_rn(?=$|_)")


class _Places:
    """Offsets in a source of the nodes of its tree."""

    def __init__(self, source: str) -> None:
        self.source = source
        lines = source.splitlines(keepends=True)
        self.starts = [0]
        for line in lines:
            self.starts.append(self.starts[-1] + len(line))
        self.ascii = source.isascii()
        self.lines = lines

    def _at(self, line: int, column: int) -> int:
        if not self.ascii:  # ast counts bytes
            column = len(self.lines[line - 1].encode()[:column].decode())
        return self.starts[line - 1] + column

    def start(self, node: ast.AST) -> int:
        return self._at(node.lineno, node.col_offset)  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> int:
        return self._at(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def text(self, node: ast.AST) -> str:
        return self.source[self.start(node) : self.end(node)]


def edits(source: str) -> Iterator[Edit]:
    """Every edit of a source text."""
    places = _Places(source)
    for function in device_functions(ast.parse(source)):
        for statement in function.body:
            if not _docstring(statement):
                yield from _walk(statement, places)


def device_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """The outermost functions that run on the device."""

    def search(body: list[ast.stmt], inside: bool) -> Iterator[ast.FunctionDef]:
        for node in body:
            if isinstance(node, ast.FunctionDef):
                names = {ast.unparse(one) for one in node.decorator_list}
                if "intrinsic" in names:
                    continue
                if "device" in names or inside:
                    yield node
                else:
                    yield from search(node.body, True)
            elif isinstance(node, (ast.If, ast.For, ast.With)):
                yield from search(node.body + getattr(node, "orelse", []), inside)

    return search(tree.body, False)


def _docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _walk(node: ast.AST, places: _Places) -> Iterator[Edit]:
    if isinstance(node, ast.FunctionDef):
        for statement in node.body:
            if not _docstring(statement):
                yield from _walk(statement, places)
        return
    yield from _node(node, places)
    for child in ast.iter_child_nodes(node):
        if isinstance(node, ast.AnnAssign) and child is node.annotation:
            continue
        yield from _walk(child, places)


def _node(node: ast.AST, places: _Places) -> Iterator[Edit]:
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        before, after = ARITHMETIC[type(node.op)]
        yield _operator(places, node.left, node.right, before, after, "arithmetic")
    elif isinstance(node, ast.Compare):
        yield from _comparison(node, places)
    elif isinstance(node, ast.BoolOp):
        before, after = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        yield _operator(places, node.values[0], node.values[1], before, after, "comparison")
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not, ast.Invert)):
        yield Edit(places.start(node), places.start(node.operand), "negation", "")
    elif isinstance(node, ast.Constant):
        yield from _constant(node, places)
    elif isinstance(node, ast.Attribute):
        yield from _attribute(node, places)
    elif isinstance(node, ast.Name) and node.id in EXTREMES:
        yield Edit(places.start(node), places.end(node), "min/max", EXTREMES[node.id])
    elif isinstance(node, ast.Subscript) and not isinstance(node.slice, NO_INDEX):
        inner = places.text(node.slice)
        start, end = places.start(node.slice), places.end(node.slice)
        yield Edit(start, end, "index", f"{inner} + 1")
        yield Edit(start, end, "index", f"({inner}) + uint64(1)")
    elif isinstance(node, (ast.If, ast.While, ast.IfExp)):
        test = node.test
        yield Edit(places.start(test), places.end(test), "condition", f"not ({places.text(test)})")
    if isinstance(node, ast.Call) and "fused_multiply_add" in ast.unparse(node.func):
        a, b, c = (places.text(one) for one in node.args)
        whole = f"libdevice.fadd_rn(libdevice.fmul_rn({a}, {b}), {c})"
        yield Edit(places.start(node), places.end(node), "rounding", whole)
    if isinstance(node, ast.stmt):
        yield from _removed(node, places)


def _operator(
    places: _Places, left: ast.AST, right: ast.AST, before: str, after: str, operator: str
) -> Edit:
    between = places.source[places.end(left) : places.start(right)]
    at = places.end(left) + between.index(before)
    return Edit(at, at + len(before), operator, after)


def _comparison(node: ast.Compare, places: _Places) -> Iterator[Edit]:
    left = node.left
    for one, right in zip(node.ops, node.comparators, strict=True):
        before, others = COMPARISON.get(type(one), ("", ()))
        for after in others:
            yield _operator(places, left, right, before, after, "comparison")
        left = right


def _constant(node: ast.Constant, places: _Places) -> Iterator[Edit]:
    value, span = node.value, (places.start(node), places.end(node))
    if isinstance(value, bool):
        yield Edit(*span, "constant", str(not value))
    elif isinstance(value, int):
        for other in sorted({value + 1, max(value - 1, 0), 0} - {value}):
            yield Edit(*span, "constant", str(other))
    elif isinstance(value, float):
        for number in sorted({value + 1.0, 0.0} - {value}):
            yield Edit(*span, "constant", repr(number))


def _attribute(node: ast.Attribute, places: _Places) -> Iterator[Edit]:
    end = places.end(node)
    start = end - len(node.attr)
    owner = node.value
    if isinstance(owner, ast.Name) and owner.id == "libdevice" and _ROUNDED.search(node.attr):
        for mode in ("_rz", "_ru"):
            yield Edit(start, end, "rounding", _ROUNDED.sub(mode, node.attr))
    if isinstance(owner, ast.Attribute) and owner.attr in INDICES and node.attr in AXES:
        yield Edit(start, end, "axis", AXES[node.attr])


def _removed(node: ast.stmt, places: _Places) -> Iterator[Edit]:
    span = (places.start(node), places.end(node))
    leaves = isinstance(node, ast.Return) and node.value is None
    stores = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)
    if leaves or stores or isinstance(node, (ast.Break, ast.Continue, ast.AugAssign)):
        yield Edit(*span, "statement removed", "pass")
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = ast.unparse(node.value.func)
        barrier = any(word in called for word in BARRIERS)
        yield Edit(*span, "barrier removed" if barrier else "statement removed", "pass")
    if isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
        before, after = ARITHMETIC[type(node.op)]
        yield _operator(places, node.target, node.value, f"{before}=", f"{after}=", "arithmetic")
