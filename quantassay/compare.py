"""Bitwise comparison of a kernel's outputs with the oracle's, and what it says of a difference.

Contract: outputs are equal when there are as many as declared, each of the declared dtype and
shape, written in full, with the same bytes. NaN equals NaN only with the same bits, and +0 is not
-0. Where the dialect's own code divides approximately, a result inside the allowed set
(reference/approximate.py) is no mismatch either; `deviating` counts those that differ from the
oracle's bits. A `Mismatch` holds how many elements differ, the first indices, both values with
their bits, and the input elements that made them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantassay.provenance import provenance
from quantassay.values import bits, place, show
from reference.approximate import Bounds, inside
from reference.numerics import dtype_name
from reference.op import Op

Array = NDArray[Any]
Allowed = Sequence[Bounds | None]  # per output; () = only the oracle's bits
SHOWN = 6  # differing elements that a mismatch lists


@dataclass(frozen=True)
class Difference:
    """One differing element: where, both values as "value (0xbits)", the inputs behind it, and the
    range of allowed results where there is one."""

    index: tuple[int, ...]
    got: str
    expected: str
    source: tuple[str, ...]
    allowed: str = ""


@dataclass(frozen=True)
class Mismatch:
    """What differs in one output. `differences[0]` is the first in C order.

    `problem` is set where the output as a whole is wrong (count, dtype, shape, never written);
    `differing` gives (differing, all) elements of every output. Over all outputs, `unwritten`
    elements were never written and `nan_bits` are NaN on both sides, with different bits.
    """

    output: str
    count: int
    total: int
    differences: tuple[Difference, ...]
    differing: Mapping[str, tuple[int, int]]
    problem: str = ""
    unwritten: int = 0
    nan_bits: int = 0

    @property
    def all_counts(self) -> int:
        """Differing elements over all outputs."""
        return sum(count for count, _ in self.differing.values())

    @property
    def first_index(self) -> tuple[int, ...] | None:
        return self.differences[0].index if self.differences else None

    @property
    def words(self) -> str:
        """One sentence, and one line per shown element."""
        lines = [self.headline()]
        for one in self.differences:
            where = place(self.output, one.index)
            also = f", allowed {one.allowed}" if one.allowed else ""
            lines.append(f"  {where}: got {one.got}, expected {one.expected}{also}")
        if self.differences:
            lines += [f"    from {line}" for line in self.differences[0].source]
        return "\n".join(lines)

    def headline(self) -> str:
        if self.problem:
            return f"{self.output}: {self.problem}"
        others = [
            f"{name}: {count} of {total}"
            for name, (count, total) in self.differing.items()
            if name != self.output
        ]
        rest = f" ({'; '.join(others)})" if others else ""
        return f"{self.output}: {self.count} of {self.total} elements differ{rest}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "output": self.output,
            "count": self.count,
            "total": self.total,
            "problem": self.problem,
            "differing": {name: list(pair) for name, pair in self.differing.items()},
            "differences": [
                {
                    "index": list(one.index),
                    "got": one.got,
                    "expected": one.expected,
                    "source": list(one.source),
                    "allowed": one.allowed,
                }
                for one in self.differences
            ],
        }


def compare(
    op: Op,
    inputs: Mapping[str, Any],
    options: Mapping[str, str],
    got: Sequence[Any],
    expected: Sequence[Array],
    bounds: Allowed = (),
) -> Mismatch | None:
    """None where every output equals the oracle's byte for byte, or lies in its bounds.

    inputs: the op's arrays by name; got, expected: one NumPy array per declared output; bounds:
    (lowest, highest) allowed per output, or None. An array of the emulator's memory must be written
    in full even where its bytes happen to be right.
    """
    names = op.output_names()
    sizes = {name: want.size for name, want in zip(names, expected, strict=True)}
    if len(got) != len(expected):
        problem = f"the kernel returns {len(got)} outputs; expected {len(expected)}: {_list(names)}"
        return _whole(names[0], sizes, problem)
    for name, have, want in zip(names, got, expected, strict=True):
        problem = _form(have, want)
        if problem:
            return _whole(name, sizes, problem)
    ranges = dict(zip(names, bounds or (None,) * len(names), strict=True))
    masks = {
        name: differing(have, want) & ~_inside(have, ranges[name])
        for name, have, want in zip(names, got, expected, strict=True)
    }
    unwritten = {name: _unwritten(have) for name, have in zip(names, got, strict=True)}
    wrong = {name: masks[name] | unwritten[name] for name in names}
    counts = {name: (int(wrong[name].sum()), sizes[name]) for name in names}
    for name, have, want in zip(names, got, expected, strict=True):
        if counts[name][0]:
            shown = _differences(op, inputs, name, wrong[name], have, expected, ranges[name])
            missing = int(unwritten[name].sum())
            problem = ""
            if missing:
                first = tuple(int(i) for i in np.argwhere(unwritten[name])[0])
                problem = (
                    f"{missing} of {want.size} elements were never written by the kernel, "
                    f"the first at {place(name, first)}"
                )
            lost = sum(int(mask.sum()) for mask in unwritten.values())
            nan = sum(
                int((masks[other] & both_nan(a, b)).sum())
                for other, a, b in zip(names, got, expected, strict=True)
            )
            return Mismatch(name, *counts[name], shown, counts, problem, lost, nan)
    return None


def differing(got: Array, expected: Array) -> NDArray[np.bool_]:
    """True where the bytes differ. Both arrays have one dtype and shape."""
    return np.asarray(bits(got) != bits(expected))


def deviating(got: Sequence[Array], expected: Sequence[Array], bounds: Allowed) -> int:
    """Elements that lie in their bounds with other bits than the oracle's."""
    return sum(
        int((differing(have, want) & _inside(have, one)).sum())
        for have, want, one in zip(got, expected, bounds, strict=True)
        if one is not None
    )


def _inside(got: Array, bounds: Bounds | None) -> NDArray[np.bool_]:
    return np.zeros(got.shape, dtype=bool) if bounds is None else inside(got, bounds)


def both_nan(got: Array, expected: Array) -> NDArray[np.bool_]:
    """True where both are NaN, whatever their bits."""
    if got.dtype.kind in "iub":
        return np.zeros(got.shape, dtype=bool)
    return np.asarray(np.isnan(got) & np.isnan(expected))


def written(array: Array) -> NDArray[np.bool_]:
    """Per element: whether a kernel wrote it, as the emulator saw; True for ordinary arrays."""
    emulator = sys.modules.get("emulator")  # not imported: none of its arrays exists
    mask = emulator.written(array) if emulator else None
    return np.ones(array.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)


def _unwritten(array: Array) -> NDArray[np.bool_]:
    return ~written(array)


def _form(got: Any, expected: Array) -> str:
    """What is wrong with the array as a whole, or nothing."""
    if not isinstance(got, np.ndarray):
        return f"the kernel returns {type(got).__name__}; expected an array of {expected.dtype}"
    if got.dtype != expected.dtype:
        have = dtype_name(got.dtype) or got.dtype
        return f"the kernel returns dtype {have}; expected {dtype_name(expected.dtype)}"
    if got.shape != expected.shape:
        return f"the kernel returns shape {got.shape}; expected {expected.shape}"
    return ""


def _whole(name: str, sizes: Mapping[str, int], problem: str) -> Mismatch:
    counts = {other: (size if other == name else 0, size) for other, size in sizes.items()}
    return Mismatch(name, sizes[name], sizes[name], (), counts, problem)


def _differences(
    op: Op,
    inputs: Mapping[str, Any],
    name: str,
    wrong: NDArray[np.bool_],
    got: Array,
    expected: Sequence[Array],
    bounds: Bounds | None,
) -> tuple[Difference, ...]:
    results = dict(zip(op.output_names(), expected, strict=True))
    shown: list[Difference] = []
    for found in np.argwhere(wrong)[:SHOWN]:
        index = tuple(int(i) for i in found)
        source = provenance(op, inputs, results, name, index) if not shown else ()
        values = show(got[index]), show(results[name][index])
        allowed = f"{show(bounds[0][index])} to {show(bounds[1][index])}" if bounds else ""
        shown.append(Difference(index, *values, tuple(source), allowed))
    return tuple(shown)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
