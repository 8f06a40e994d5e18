"""Every PTX basic block of every kernel of both wings runs, on inputs whose outputs are right.

Contract: the inputs of tests/reach, one file per scheme, are run here and nothing else is relied
on; every output is compared with the oracle, bit for bit. Each compilation (dialect, dtypes, access
width) counts by itself. Blocks that no valid input can reach are named in UNREACHABLE with the
reason. Dialects beyond CORE run in one dtype each, all dtypes in turn over the dialects: how an
element of another dtype is read, CORE shows, and what it gives, tests/test_differential.py. `make
coverage` runs them in every dtype.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pytest

import emulator
from kernels_cupy import catalogue
from quantassay import workers
from quantassay.calling import Calling
from quantassay.cases import dtypes_of, options_of
from quantassay.loading import load_wings
from quantassay.running import outcome
from reference import OPS, get_op
from reference.dialects import CORE, DIALECTS
from reference.op import Op, kernels
from tests.displaced import offsets

WINGS = ("cupy", "numba")
EVERY_DTYPE = "QUANTASSAY_EVERY_DTYPE" in os.environ
# (wing, kernel, first lines of the blocks) -> why no valid input reaches them.
UNREACHABLE: Mapping[tuple[str, str], str] = {}
# Variants that launch other ops' kernels and none of their own: those ops' inputs reach them.
COMPOSED = {("int8.linear", "unfused"), ("int8.linear", "fused")}

load_wings()


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

    def add(self, other: Seen) -> None:
        """Takes in what another process saw."""
        for key, lines in other.blocks.items():
            self.blocks.setdefault(key, set()).update(lines)
            self.executed.setdefault(key, set()).update(other.executed[key])

    def missed(self, key: tuple[str, str]) -> set[int]:
        return self.blocks[key] - self.executed[key]


def dtypes_here(op: Op, spoken: str) -> tuple[str, ...]:
    """The recipe dtypes that a dialect is run in."""
    found = dtypes_of(op, spoken)
    if spoken in CORE or EVERY_DTYPE:
        return found
    turn = list(DIALECTS).index(spoken) % len(found)
    return found[turn : turn + 1]


def run_wing(wing: str, op_name: str | None = None) -> Seen:
    """Every kernel of one op or of all, every dialect, dtype and option; each group of inputs until
    nothing is missed.
    """
    seen = Seen()
    emulator.coverage_reset()
    for kernel in kernels(op=op_name, wing=wing):
        op = get_op(kernel.op)
        reach = importlib.import_module(f"tests.reach.{op.scheme}")
        for spoken in kernel.dialects:
            calling = Calling(kernel, op, spoken)
            for dtype in dtypes_of(op, spoken):
                for options in options_of(op, spoken, calling.allowed):
                    groups = reach.inputs(op, dtype, spoken)
                    if (kernel.op, kernel.variant) in COMPOSED:
                        groups = iter([islice(next(groups), 1)])
                    for group in groups:
                        _run_group(calling, dict(options), group, seen)
    return seen


def _run_group(
    calling: Calling, options: dict[str, str], group: Iterator[dict[str, Any]], seen: Seen
) -> None:
    for inputs in group:
        found = outcome(calling, inputs, options, "emulator", shift=offsets(inputs))
        words = found.error or (found.mismatch and found.mismatch.words)
        assert not found.failed, f"{calling.op.name} {options}: {words}"
        if not any(seen.missed(key) for key in seen.take()):
            return


@pytest.fixture(scope="module")
def coverage() -> dict[str, Seen]:
    """By wing, found on all cores."""
    tasks = [(wing, name) for name in OPS for wing in WINGS if kernels(op=name, wing=wing)]
    tasks.sort(key=lambda task: -len(get_op(task[1]).inputs))  # the longest, the fused ones, first
    calls = [(run_wing, task) for task in tasks]
    found = {wing: Seen() for wing in WINGS}
    results = workers.spread(calls, workers.cores(), None, lambda *news: None)
    for (wing, _), seen in zip(tasks, results, strict=True):
        found[wing].add(seen)
    return found


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
        if one.dialect and not EVERY_DTYPE and one.dialect not in CORE:
            dtypes = dtypes_here(get_op(one.op), one.dialect)
            if not one.path.startswith(dtypes):
                continue
        defines = " ".join(f"{name}={value}" for name, value in sorted(one.defines.items()))
        assert (f"{one.source} {defines}".strip(), one.kernel) in ran, one
