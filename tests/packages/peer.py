"""A peer: one function of a real package that computes an op in one dialect, run on the CPU.

Contract: `run(inputs)` takes the op's inputs by name and gives one array per output of the op, in
our dtypes and shapes, or None for an output that the package does not have. `agree` compares on
millions of elements, byte by byte (NaN: any bits); every difference must lie under exactly one
`Known`, whose words say why it is no error of the oracle; what lies under none is unexplained.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from quantassay.compare import both_nan, differing
from reference import get_op, recipe
from reference.op import Recipe

ELEMENTS = 10_000_000  # outputs compared per peer, at least
PORTION = 1 << 20  # of one input
ROWS = {"M": 1024, "N": 1024}  # of per-row ops; a tensor is one long matrix


@dataclass(frozen=True)
class Difference:
    """What a `Known` is asked about: the arrays of one output, equal in shape."""

    inputs: Mapping[str, Any]
    ours: np.ndarray
    theirs: np.ndarray


@dataclass(frozen=True)
class Known:
    """A class of differences that is understood. where: mask of the elements that it explains."""

    words: str
    where: Callable[[Difference], Any]


@dataclass(frozen=True)
class Peer:
    """package: distribution. call: what is called, as the table says it. known: by output name.

    takes: which recipes lie in the function's domain; prepare: brings inputs into it.
    """

    package: str
    call: str
    op: str
    dialect: str
    dtypes: tuple[str, ...]
    run: Callable[[Mapping[str, Any]], Sequence[np.ndarray | None]]
    options: Mapping[str, str] = field(default_factory=dict)
    group: int = 0
    takes: Callable[[Recipe], bool] = lambda made: True
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = lambda inputs: inputs
    known: Mapping[str, tuple[Known, ...]] = field(default_factory=dict)
    version: str = ""  # of a package that is installed, its own

    def __post_init__(self) -> None:
        if not self.version:
            object.__setattr__(self, "version", importlib.metadata.version(self.package))

    def recipes(self) -> Iterator[Recipe]:
        """The op's hostile recipes in this peer's dtypes, then every kind at full size."""
        op = get_op(self.op)
        kinds = op.kinds_in(self.dialect)
        for made in op.hostile:
            fits = not self.group or made.dim("G") == self.group
            if made.kind in kinds and made.dtype in self.dtypes and fits and self.takes(made):
                yield made
        for seed in range(ELEMENTS):
            for kind in kinds:
                for dtype in self.dtypes:
                    yield recipe(kind, seed=seed, dtype=dtype, **self._sizes(op.dims, seed))

    def _sizes(self, dims: Sequence[str], seed: int) -> dict[str, int]:
        rows = 1024 if seed % 2 == 0 else 7001  # long rows and many short ones
        sizes = {}
        for symbol in dims:
            if symbol in ("M", "N"):
                sizes[symbol] = rows
        if "G" in dims:
            sizes["G"] = self.group or (64 if seed % 2 == 0 else 7)
            sizes["Q"] = max(1, PORTION // rows // sizes["G"])
        else:
            sizes["K"] = PORTION // rows
        return sizes


@dataclass
class Agreement:
    """What comparing one peer gave. known: words -> elements; examples: of the unexplained."""

    elements: int = 0
    differences: int = 0
    known: Counter[str] = field(default_factory=Counter)
    unexplained: int = 0
    examples: list[str] = field(default_factory=list)


def agree(peer: Peer, elements: int = ELEMENTS) -> Agreement:
    """Runs recipes until so many outputs are compared, every kind and dtype at least once."""
    op, found, counted = get_op(peer.op), Agreement(), set()
    kinds = {*op.kinds_in(peer.dialect)}
    for made in peer.recipes():
        if found.elements >= elements and kinds <= counted:
            return found
        inputs = peer.prepare(op.build(made))
        expected = op.expected(inputs, dialect=peer.dialect, **peer.options)
        with np.errstate(all="ignore"):
            got = peer.run(inputs)
        for name, ours, theirs in zip(op.output_names(), expected, got, strict=True):
            if theirs is not None:
                _count(peer, made, name, Difference(inputs, ours, theirs), found)
        if made.dim(op.dims[0]) > 1000:
            counted.add(made.kind)
    return found


def _count(peer: Peer, made: Recipe, name: str, one: Difference, found: Agreement) -> None:
    if one.ours.dtype != one.theirs.dtype or one.ours.shape != one.theirs.shape:
        raise ValueError(
            f"{peer.call}: {name} is {one.theirs.dtype} {one.theirs.shape}; "
            f"expected {one.ours.dtype} {one.ours.shape}"
        )
    wrong = differing(one.theirs, one.ours) & ~both_nan(one.theirs, one.ours)
    found.elements += wrong.size
    found.differences += int(wrong.sum())
    for known in peer.known.get(name, ()):
        if not wrong.any():
            return
        here = wrong & np.broadcast_to(known.where(one), wrong.shape)
        if here.any():
            found.known[known.words] += int(here.sum())
            wrong &= ~here
    found.unexplained += int(wrong.sum())
    for index in np.argwhere(wrong)[:2]:
        at = tuple(int(i) for i in index)
        if len(found.examples) < 8:
            text = f"{made} {name}{list(at)}: theirs {one.theirs[at]!r}, ours {one.ours[at]!r}"
            x = next(v for v in one.inputs.values() if isinstance(v, np.ndarray))
            if x.shape[:1] == one.ours.shape[:1]:
                text += f", x {x[at]!r}" if x.shape == one.ours.shape else f", row {x[at[0]]!r}"
            found.examples.append(text)
