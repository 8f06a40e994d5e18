"""Every PTX basic block of every kernel of both wings runs, on inputs whose outputs are right.

Contract: the cases below are run here and nowhere else is relied on; every output is compared with
the oracle, bit for bit. Each compilation (dialect, dtypes, access width) counts by itself. Blocks
that no valid input can reach are named in UNREACHABLE with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import emulator
from kernels_cupy import catalogue
from quantassay.calling import Calling
from quantassay.cases import dtypes_of, options_of
from quantassay.loading import load_wings
from quantassay.running import outcome
from reference import get_op, recipe
from reference.dialects import dialect as get_dialect
from reference.op import Op, kernels

WINGS = ("cupy", "numba")
# (wing, kernel, first lines of the blocks) -> why no valid input reaches them.
UNREACHABLE: Mapping[tuple[str, str], str] = {}

load_wings()


# --- inputs: (sizes, kinds) by what they reach. Access widths follow from K % 16, % 8, % 4, % 2;
# tiles are 16, 64 and 128 wide; a row in registers ends at 4 vectors a thread.

ROW_LENGTHS = (1, 3, 6, 12, 24, 40, 33, 257, 258, 260, 264, 1032, 4099, 4100, 4102, 4104)
LONG_ROWS = (16500, 17001, 17002, 33001, 33002, 33004, 33008, 35000)
DEPTHS = (  # by K % 16: a short sum, one for a pipeline, rows long enough for unrolled loops
    (67, 259, 1153),
    (70, 258, 1154),
    (68, 260, 1156),
    (72, 264, 1160),
    (80, 272, 1168, 1776),
)
SHAPES = ((65, 65), (57, 57), (130, 130), (63, 70))
EVEN_SHAPES = ((130, 132), (64, 64))  # N % 4 == 0
SCALES = (2.0**-80, 2.0**80, 1.0, 2.0**-149)


def inputs_of(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    if {"M", "N"} <= set(op.dims):
        for depths in DEPTHS:
            for shapes in (SHAPES, EVEN_SHAPES):
                yield _products(op, dtype, depths, shapes)
    else:
        for K in (*ROW_LENGTHS, *LONG_ROWS):
            yield _rows(op, dtype, K, spoken)


def _products(
    op: Op, dtype: str, depths: tuple[int, ...], shapes: tuple[tuple[int, int], ...]
) -> Iterator[dict[str, Any]]:
    def made(kind: str, shape: tuple[int, int], K: int, seed: int) -> dict[str, Any]:
        M, N = shape
        return op.build(recipe(kind, M=M, N=N, K=K, seed=seed, dtype=dtype))

    yield made("normal", shapes[0], depths[0], 1)  # seeds: with a bias and without
    for K in depths[2:]:
        yield made("normal", (9, 8), K, 0)
    for shape in shapes:
        for K in depths[:2]:
            for seed in (0, 1):
                yield made("normal", shape, K, seed)
    for kind in ("subnormal", "nan", "zeros"):
        if kind in op.kinds:
            yield made(kind, shapes[0], depths[0], 0)


def _rows(op: Op, dtype: str, K: int, spoken: str) -> Iterator[dict[str, Any]]:
    rows, side = op.dims[0], 1 if K in LONG_ROWS else 5
    for number, kind in enumerate(op.kinds):
        yield op.build(recipe(kind, K=K, seed=number, dtype=dtype, **{rows: side}))
    if op.name == "int8.quantize_static" and get_dialect(spoken).arithmetic == "fp32":
        made = op.build(recipe("normal", K=K, dtype=dtype, **{rows: side}))
        for scale in SCALES:
            yield {**made, "scales": np.array([scale], np.float32)}


# --- running them


@dataclass
class Seen:
    """Blocks by (module, kernel): all of them, and those that ran."""

    blocks: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    executed: dict[tuple[str, str], set[int]] = field(default_factory=dict)

    def take(self) -> set[tuple[str, str]]:
        """Adds what the emulator saw since the last time; returns the kernels that ran."""
        fresh = emulator.coverage()
        emulator.coverage_reset()
        for key, one in fresh.items():
            self.blocks.setdefault(key, set(one.lines))
            ran = {line for line, hit in zip(one.lines, one.executed, strict=True) if hit}
            self.executed.setdefault(key, set()).update(ran)
        return set(fresh)

    def missed(self, key: tuple[str, str]) -> set[int]:
        return self.blocks[key] - self.executed[key]


def run_wing(wing: str) -> Seen:
    """Every kernel, dialect, dtype and option; each group of inputs until nothing is missed."""
    seen = Seen()
    emulator.coverage_reset()
    for kernel in kernels(wing=wing):
        op = get_op(kernel.op)
        for spoken in kernel.dialects:
            calling = Calling(kernel, op, spoken)
            for dtype in dtypes_of(op, spoken):
                for options in options_of(op, spoken, calling.allowed):
                    for group in inputs_of(op, dtype, spoken):
                        _run_group(calling, dict(options), group, seen)
    return seen


def _run_group(
    calling: Calling, options: dict[str, str], group: Iterator[dict[str, Any]], seen: Seen
) -> None:
    for inputs in group:
        found = outcome(calling, inputs, options, "emulator")
        words = found.error or (found.mismatch and found.mismatch.words)
        assert not found.failed, f"{calling.op.name} {options}: {words}"
        if not any(seen.missed(key) for key in seen.take()):
            return


@pytest.fixture(scope="module")
def coverage() -> dict[str, Seen]:
    return {wing: run_wing(wing) for wing in WINGS}


@pytest.mark.parametrize("wing", WINGS)
def test_every_block_of_every_kernel_runs(coverage: dict[str, Seen], wing: str) -> None:
    seen = coverage[wing]
    missed = {
        f"{module} {kernel}": sorted(lines)
        for (module, kernel) in seen.blocks
        if (lines := seen.missed((module, kernel))) and (wing, kernel) not in UNREACHABLE
    }
    total = sum(map(len, seen.blocks.values()))
    assert not missed, f"PTX lines of blocks that never ran, {total} blocks in all: {missed}"
    assert total > 2000


def test_every_compilation_of_the_catalogue_was_run(coverage: dict[str, Seen]) -> None:
    ran = set(coverage["cupy"].blocks)
    for one in catalogue(full=True):
        defines = " ".join(f"{name}={value}" for name, value in sorted(one.defines.items()))
        assert (f"{one.source} {defines}".strip(), one.kernel) in ran, one
