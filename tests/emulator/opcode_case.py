"""What an opcode test case is: a tiny PTX kernel, its inputs, and a model of the instruction.

The models (opcode_integer.py, opcode_float.py, opcode_convert.py) are written from the PTX ISA's
text with Python integers and fractions. They import nothing from the emulator, so that the same
cases can be recorded on a GPU.

Every kernel has one signature: `k(out, in0, in1, ...)`, each a pointer to an array of unsigned
integers with one element per thread; thread i of a one-dimensional grid handles element i.
Predicate results are stored as 0 or 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

THREADS = 128
WARP = 32
BITS = {"pred": 8, "u8": 8, "u16": 16, "u32": 32, "u64": 64}
REGISTER = {"pred": "pred", "u8": "b16", "u16": "b16", "u32": "b32", "u64": "b64"}
CROSSED, RANDOM = 1600, 800
SAME, MIXED = 32, 8 * THREADS  # warps of one value, elements of mixed warps
LETTERS = "abcefghijkl"  # what a body calls its sources
PREFIX = {"pred": "p", "u8": "q", "u16": "h", "u32": "r", "u64": "w"}


@dataclass(frozen=True)
class Case:
    """One instruction. `model(*elements) -> int` takes and gives unsigned bit patterns.

    sources, target: unsigned types of the arrays. pools: per source, the adversarial values.
    body: PTX with {d} and {a}, {b}, ... of LETTERS for the registers. is_open(*elements) says that
    PTX leaves the result open there: the emulator's choice is pinned, a GPU's may differ.
    """

    name: str
    target: str
    sources: tuple[str, ...]
    pools: tuple[tuple[int, ...], ...]
    body: str
    model: Callable[..., int]
    is_open: Callable[..., bool] | None = None
    arch: str = "sm_80"

    @cached_property
    def inputs(self) -> list[np.ndarray]:
        """Adversarial values crossed (thinned to CROSSED), then random patterns."""
        generator = np.random.default_rng(abs(hash_name(self.name)))
        columns: list[list[int]] = [[] for _ in self.sources]
        crossed = list(itertools.product(*self.pools))
        if len(crossed) > CROSSED:
            chosen = generator.choice(len(crossed), CROSSED, replace=False)
            crossed = [crossed[i] for i in sorted(chosen)]
        for row in crossed:
            for column, value in zip(columns, row, strict=True):
                column.append(value)
        for column, source, pool in zip(columns, self.sources, self.pools, strict=True):
            column.extend(_random(generator, BITS[source], pool))
        length = -(-len(columns[0]) // THREADS) * THREADS
        arrays = []
        for column, source in zip(columns, self.sources, strict=True):
            padded = (column * (length // len(column) + 1))[:length]
            arrays.append(np.array(padded, dtype=f"uint{BITS[source]}"))
        return arrays

    @property
    def count(self) -> int:
        return len(self.inputs[0])

    @property
    def output_dtype(self) -> np.dtype:
        return np.dtype(f"uint{BITS[self.target]}")

    def expected(self) -> np.ndarray:
        """The model on every element."""
        rows = zip(*(array.tolist() for array in self.inputs), strict=True)
        return np.array([self.model(*row) for row in rows], dtype=self.output_dtype)

    def open_mask(self) -> np.ndarray:
        """Where PTX leaves the result open."""
        if self.is_open is None:
            return np.zeros(self.count, bool)
        rows = zip(*(array.tolist() for array in self.inputs), strict=True)
        return np.array([self.is_open(*row) for row in rows])

    @cached_property
    def ptx(self) -> str:
        """The kernel's text."""
        names = ["out", *(f"in{i}" for i in range(len(self.sources)))]
        lines = [
            ".version 8.8", f".target {self.arch}", ".address_size 64", ".visible .entry k(",
            ",\n".join(f".param .u64 {name}" for name in names), ")", "{",
            ".reg .pred p<8>; .reg .b16 q<8>; .reg .b16 h<16>; .reg .b32 r<32>; .reg .b64 w<32>;",
            ".reg .f32 f<8>; .reg .f64 g<8>;",
            "mov.u32 r31, %ctaid.x;", "mov.u32 r30, %ntid.x;", "mov.u32 r29, %tid.x;",
            "mad.lo.u32 r28, r31, r30, r29;", "cvt.u64.u32 w31, r28;",
        ]  # fmt: skip
        registers = {}
        for position, source in enumerate(self.sources):
            register = f"{PREFIX[source]}{position + 1}"
            registers[LETTERS[position]] = register
            lines += _address(f"in{position}", BITS[source] // 8)
            lines.append(f"ld.global.{source} {register}, [w30];")
        target = f"{PREFIX[self.target]}0"
        lines.append(self.body.format(d=target, **registers))
        lines += _address("out", BITS[self.target] // 8)
        if self.target == "pred":
            lines += [f"selp.u16 q7, 1, 0, {target};", "st.global.u8 [w30], q7;"]
        else:
            lines.append(f"st.global.{self.target} [w30], {target};")
        return "\n".join([*lines, "ret;", "}"]) + "\n"


@dataclass(frozen=True)
class WarpCase(Case):
    """An instruction of whole warps: `model` takes 32 elements per source and gives 32 results."""

    @cached_property
    def inputs(self) -> list[np.ndarray]:
        """Warps in which every lane has the same value of the pools, then mixed ones."""
        generator = np.random.default_rng(abs(hash_name(self.name)))
        arrays = []
        for source, pool in zip(self.sources, self.pools, strict=True):
            same = np.repeat(generator.choice(pool, SAME), WARP)
            mixed = generator.choice(pool, MIXED)
            uniform = generator.integers(0, 1 << BITS[source], MIXED, dtype=np.uint64)
            values = np.concatenate([same.astype(np.uint64), mixed.astype(np.uint64), uniform])
            arrays.append(values.astype(f"uint{BITS[source]}"))
        return arrays

    def expected(self) -> np.ndarray:
        """The model on every warp."""
        found: list[int] = []
        for first in range(0, self.count, WARP):
            found += self.model(*(array[first : first + WARP].tolist() for array in self.inputs))
        return np.array(found, dtype=self.output_dtype)


def _address(name: str, size: int) -> list[str]:
    return [
        f"ld.param.u64 w30, [{name}];",
        "cvta.to.global.u64 w30, w30;",
        f"mad.lo.u64 w30, w31, {size}, w30;",
    ]


def hash_name(name: str) -> int:
    """A stable number for a name (Python's hash changes between runs)."""
    value = 0
    for char in name.encode():
        value = (value * 131 + char) % (1 << 61)
    return value


def _random(generator: np.random.Generator, bits: int, pool: Sequence[int]) -> list[int]:
    """Random patterns: uniform ones, short ones, and neighbours of the pool."""
    uniform = [int.from_bytes(generator.bytes(8), "little") for _ in range(RANDOM)]
    mask = (1 << bits) - 1
    third = RANDOM // 3
    lengths = generator.integers(1, bits + 1, third)
    for i in range(third):
        uniform[i] = (uniform[i] & mask) >> int(bits - lengths[i])
    picks = generator.integers(0, len(pool), third)
    moves = generator.integers(-3, 4, third)
    for i in range(third):
        uniform[third + i] = pool[int(picks[i])] + int(moves[i])
    return [value & mask for value in uniform]
