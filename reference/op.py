"""Ops, kernels and the registry: the one thing that every other room reads.

An `Op` is declared once, beside its oracle: what goes in and out (shapes by symbol), the options
that every implementation takes, the work per pipe, how to build inputs from a recipe, and which
hostile recipes always run. A kernel joins with `@implements`. Differential tests, benchmarks, NVTX
names, roofline rows and report rows follow from these two, with no further code.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from reference.arguments import check_kind, check_names, check_text
from reference.dialects import dialect as get_dialect
from reference.numerics import DTYPES

Arrays = dict[str, Any]
F = TypeVar("F", bound=Callable[..., Any])


SCALARS = ("int", "float")  # dtypes of an Arg that is a Python number


@dataclass(frozen=True)
class Arg:
    """One argument of an op: its name, its shape in symbols, formulas or numbers, its dtypes.

    An optional one may be None. One with `broadcast` may have a single element where its shape says
    more. One of shape () and dtype "int" or "float" is a Python number, not an array; it moves no
    bytes, and `symbol` is the size that it states, if any ("G" of a group size).
    """

    name: str
    shape: tuple[str | int, ...]
    dtypes: tuple[str, ...]
    optional: bool = False
    broadcast: bool = False
    symbol: str = ""

    @property
    def scalar(self) -> bool:
        return self.dtypes[0] in SCALARS

    def extent(self, dims: Mapping[str, int]) -> int:
        """Number of elements at the given sizes."""
        count = 1
        for side in self.shape:
            count *= side if isinstance(side, int) else evaluate(side, dims)
        return count


@dataclass(frozen=True)
class Recipe:
    """A few numbers from which an op builds its inputs: small to draw, to shrink and to print."""

    kind: str
    dims: tuple[tuple[str, int], ...]
    seed: int = 0
    dtype: str = "fp32"

    def dim(self, symbol: str) -> int:
        return dict(self.dims)[symbol]

    def rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, *(size for _, size in self.dims)])

    def __str__(self) -> str:
        sizes = ", ".join(f"{symbol}={size}" for symbol, size in self.dims)
        return f"{self.kind}({sizes}, {self.dtype}, seed={self.seed})"


def recipe(kind: str, *, seed: int = 0, dtype: str = "fp32", **dims: int) -> Recipe:
    """`recipe("ties", M=3, K=17)`: a Recipe with its sizes in alphabetical order."""
    return Recipe(kind, tuple(sorted(dims.items())), seed, dtype)


@dataclass(frozen=True)
class Op:
    """The declaration of an op. `oracle(*inputs, **options)` gives one array or a tuple.

    only: kind -> the dialects whose contract allows its inputs; a kind that is not there is for
    all. takes, gives: what of a linear layer feeds its inputs and what its outputs are to later
    ops, one name per input and per output (quantassay/report/inputs.py lists a layer's own); an op
    without `takes` does not run on layers.
    """

    name: str
    oracle: Callable[..., Any]
    contract: str
    inputs: tuple[Arg, ...]
    outputs: tuple[Arg, ...]
    options: Mapping[str, tuple[str, ...]]
    work: Mapping[str, str]
    build: Callable[[Recipe], Arrays]
    kinds: tuple[str, ...]
    hostile: tuple[Recipe, ...] = ()
    dims: tuple[str, ...] = ("M", "K")
    dtypes: tuple[str, ...] = ("fp32",)
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    takes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()

    @property
    def scheme(self) -> str:
        """Name of the file that declares it, the same in every room: "int8_quantize"."""
        return self.oracle.__module__.rpartition(".")[2]

    def arrays(self) -> tuple[Arg, ...]:
        """The inputs that are arrays."""
        return tuple(arg for arg in self.inputs if not arg.scalar)

    def output_names(self) -> tuple[str, ...]:
        return tuple(arg.name for arg in self.outputs)

    def expected(self, inputs: Arrays, **options: str) -> tuple[Any, ...]:
        """The oracle's outputs, always as a tuple."""
        return as_tuple(self.oracle(*(inputs[arg.name] for arg in self.inputs), **options))

    def allows(self, dtype: str, dialect: str) -> bool:
        """Whether a dialect accepts recipes of this dtype for this op."""
        return len(self.dtypes) == 1 or dtype in get_dialect(dialect).inputs

    def kinds_in(self, dialect: str) -> tuple[str, ...]:
        """The kinds whose inputs are valid in a dialect."""
        return tuple(kind for kind in self.kinds if dialect in self.only.get(kind, (dialect,)))

    def operations(self, **dims: int) -> dict[str, int]:
        """Operations per pipe at the given sizes."""
        return {pipe: evaluate(formula, dims) for pipe, formula in self.work.items()}

    def traffic(self, dims: Mapping[str, int], dtypes: Mapping[str, str] | None = None) -> Traffic:
        """Bytes of every argument at the given sizes; `dtypes` chooses where several are allowed.

        Optional inputs count only if `dtypes` names them; those that may be broadcast in full.
        """
        chosen = dict(dtypes or {})
        sizes: dict[str, int] = {}
        for arg in (*self.arrays(), *self.outputs):
            if arg.optional and arg.name not in chosen:
                continue
            name = chosen.get(arg.name, arg.dtypes[0])
            if name not in arg.dtypes:
                raise ValueError(f"{self.name}: {arg.name} is {name}; allowed: {arg.dtypes}")
            sizes[arg.name] = arg.extent(dims) * DTYPES[name].itemsize
        written = {arg.name: sizes[arg.name] for arg in self.outputs}
        return Traffic({k: v for k, v in sizes.items() if k not in written}, written)


@dataclass(frozen=True)
class Traffic:
    """Bytes that an ideal kernel moves: every input read once, every output written once."""

    read: Mapping[str, int]
    written: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.read.values()) + sum(self.written.values())


@dataclass(frozen=True)
class Kernel:
    """One implementation of one op.

    dtypes, options: the input dtypes and the values of options that it takes, where it takes not
    all of the op's: ("fp32",), (("out_dtype", ("fp16",)),). multiples, aligned: its conditions,
    (("K", 16),) for a K that is a multiple of 16, and inputs that start at a 16-byte boundary.
    """

    op: str
    wing: str
    variant: str
    dialects: tuple[str, ...]
    function: Callable[..., Any] = field(compare=False)
    dtypes: tuple[str, ...] = ()
    options: tuple[tuple[str, tuple[str, ...]], ...] = ()
    multiples: tuple[tuple[str, int], ...] = ()
    aligned: bool = False

    @property
    def label(self) -> str:
        return f"{self.wing}/{self.variant}" if self.variant else self.wing


_OPS: dict[str, Op] = {}
_KERNELS: dict[tuple[str, str, str], Kernel] = {}

OPS: Mapping[str, Op] = MappingProxyType(_OPS)


def register(op: Op) -> Op:
    """Adds an op to the registry. Raises ValueError if the name is taken."""
    check_kind("op", op, Op, "an Op")
    if op.name in _OPS:
        raise ValueError(f"op: got {op.name!r}, registered already; allowed: a new name")
    _OPS[op.name] = op
    return op


def get_op(name: str) -> Op:
    """The op called `name`. Raises ValueError that lists the known ones."""
    if check_text("op", name) not in _OPS:
        raise ValueError(f"op: got {name!r}; known: {', '.join(sorted(_OPS))}")
    return _OPS[name]


def implements(
    op: str,
    *,
    wing: str,
    variant: str = "",
    dialects: Sequence[str] | None = None,
    dtypes: Sequence[str] = (),
) -> Callable[[F], F]:
    """Registers the decorated function as a kernel and returns it unchanged.

    The function takes the op's inputs in declared order and its options by keyword. `dialects`
    names those that it speaks (default: all of the op's), `dtypes` those of its input, where it
    takes not all of them. Raises ValueError for an unknown op, dialect or dtype, and where the same
    op, wing and variant are registered from two places.
    """
    declared = get_op(op)
    check_text("wing", wing)
    check_text("variant", variant)
    check_names("dtypes", dtypes)
    for name in dtypes:
        if name not in declared.dtypes:
            allowed = ", ".join(declared.dtypes)
            raise ValueError(f"dtypes: got {name!r}; allowed for {op}: {allowed}")
    known = declared.options.get("dialect", ())
    names = check_names("dialects", known if dialects is None else dialects)
    for name in names:
        if name not in known:
            raise ValueError(f"dialects: got {name!r}; allowed for {op}: {', '.join(known)}")

    def join(function: F) -> F:
        key = (op, wing, variant)
        old = _KERNELS.get(key)
        if old is not None and _origin(old.function) != _origin(function):
            raise ValueError(f"kernel {key} is already registered by {_origin(old.function)}")
        _KERNELS[key] = Kernel(op, wing, variant, names, function, tuple(dtypes))
        return function

    return join


def adopt(kernel: Kernel) -> Kernel:
    """Registers `kernel`, in place of the one of the same op, wing and variant if there is one."""
    _KERNELS[kernel.op, kernel.wing, kernel.variant] = kernel
    return kernel


def _origin(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def kernels(
    op: str | None = None, wing: str | None = None, dialect: str | None = None
) -> list[Kernel]:
    """The registered kernels, in order of registration, filtered by any of the three."""
    return [
        kernel
        for kernel in _KERNELS.values()
        if (op is None or kernel.op == op)
        and (wing is None or kernel.wing == wing)
        and (dialect is None or dialect in kernel.dialects)
    ]


def forget(wing: str) -> None:
    """Removes a wing's kernels: for tests and for a file that is loaded anew."""
    for key in [key for key in _KERNELS if key[1] == wing]:
        del _KERNELS[key]


def as_tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


_OPERATORS: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


def evaluate(formula: str, dims: Mapping[str, int]) -> int:
    """Value of an integer formula such as "2*M*N*K" or "M*(K//G)" at the given sizes.

    Raises ValueError for a symbol that `dims` lacks or anything but + - * //.
    """

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.Name):
            if node.id not in dims:
                raise ValueError(f"formula {formula!r} needs {node.id}; got {dict(dims)}")
            return dims[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        raise ValueError(f"formula {formula!r}: only integers, symbols and + - * // are allowed")

    return value(ast.parse(formula, mode="eval").body)


def solve(formulas: Sequence[tuple[str, int]], dims: dict[str, int]) -> None:
    """Adds to `dims` what sides of arrays tell: ("M", 5) M itself, ("Q*G", 12) one factor of two
    once the other is known, ("2*K", 12) K.
    """
    for formula, side in sorted(formulas, key=lambda pair: "*" in pair[0]):
        factors = [name for name in formula.split("*") if not name.isdecimal()]
        unknown = [name for name in factors if name not in dims]
        if len(unknown) == 1 and unknown[0].isidentifier():
            known = [int(name) for name in formula.split("*") if name.isdecimal()]
            known += [dims[name] for name in factors if name in dims]
            if side % prod(known) == 0:
                dims[unknown[0]] = side // prod(known)
