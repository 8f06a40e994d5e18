"""The suite's inputs for the kernels of some files, with what each of them launches.

Contract: `Plan(wing)` runs a wing's kernels, unchanged, over the inputs of tests/reach, of a group
until no block is missed, and keeps the first of each group and those that reach a block that no
earlier one did; and it keeps the ops' hostile recipes. A mutant meets these first. Every case knows
the compiled kernels that it launches, so that a mutant runs only those whose PTX it changed. `more`
yields the rest of the suite's inputs.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import emulator
from bench.counters import measure
from quantassay.calling import Calling
from quantassay.cases import cases, dtypes_of, options_of
from quantassay.mutation.build import Key, entry, watched
from quantassay.running import outcome
from reference.op import Kernel, get_op, kernels

COMPOSED = ("unfused", "fused")  # variants of int8.linear without kernels of their own
PER_GROUP = 24  # inputs of one group of tests/reach, at most
RANDOM, SEED = 8, 2026
Figures = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One input of one kernel and what it gives. keys: the compiled kernels that it launches."""

    kernel: tuple[str, str, str]  # op, wing, variant
    dialect: str
    dtype: str
    options: tuple[tuple[str, str], ...]
    inputs: Mapping[str, Any]
    expected: Sequence[Any]
    keys: frozenset[Key]
    seconds: float
    shift: Mapping[str, int] = field(default_factory=dict)
    order: int = 0  # seed of the order of threads


@dataclass
class Plan:
    """The cases of one wing's kernels, made op by op as they are asked for."""

    wing: str
    made: dict[tuple[str, str, str], list[Case]] = field(default_factory=dict)
    kernels: dict[Key, Any] = field(default_factory=dict)  # emulator.Kernel
    digests: dict[Key, str] = field(default_factory=dict)
    lines: dict[Key, frozenset[tuple[str, int]]] = field(default_factory=dict)
    figures: dict[tuple[str, str, str], Figures] = field(default_factory=dict)

    def cases_of(self, kernel: Kernel, dialects: Sequence[str]) -> list[Case]:
        """All cases of one kernel in the dialects, from memory if it was asked for before."""
        name = (kernel.op, kernel.wing, kernel.variant)
        if name not in self.made:
            spoken = [one for one in kernel.dialects if one in dialects] or kernel.dialects[:1]
            self.made[name] = [case for one in spoken for case in self._in_dialect(kernel, one)]
        return self.made[name]

    def figures_of(self, kernel: Kernel) -> Figures:
        """bench/counters.py's figures of the unchanged kernel."""
        name = (kernel.op, kernel.wing, kernel.variant)
        if name not in self.figures:
            self.figures[name] = counted(kernel)
        return self.figures[name]

    def _in_dialect(self, kernel: Kernel, dialect: str) -> Iterator[Case]:
        op = get_op(kernel.op)
        calling = Calling(kernel, op, dialect)
        for dtype in dtypes_of(op, dialect):
            for options in options_of(op, dialect, calling.allowed):
                seen = Seen()
                for group in _groups(kernel, dialect, dtype):
                    for number, inputs in enumerate(islice(group, PER_GROUP)):
                        made = self._run(calling, dtype, options, inputs, offsets_of(inputs))
                        if seen.take() or number == 0:
                            yield made
                        if not seen.missed:
                            break
                for recipe in op.hostile:
                    if recipe.dtype == dtype and recipe.kind in op.kinds_in(dialect):
                        yield self._run(calling, dtype, options, op.build(recipe), {})

    def _run(
        self,
        calling: Calling,
        dtype: str,
        options: tuple[tuple[str, str], ...],
        inputs: Mapping[str, Any],
        shift: Mapping[str, int],
    ) -> Case:
        keys: set[Key] = set()

        def tell(key: Key, kernel: Any) -> None:
            keys.add(key)
            if key not in self.digests:
                self.kernels[key] = kernel
                self.digests[key], self.lines[key] = entry(kernel.module.text, kernel.name)

        expected = calling.op.expected(dict(inputs), **dict(options))
        emulator.coverage_reset()
        started = time.process_time()
        with watched(tell):
            found = outcome(calling, inputs, dict(options), "emulator", expected, shift=shift)
        seconds = time.process_time() - started
        if found.failed:
            raise RuntimeError(
                f"{calling.op.name} fails unchanged: {found.error or found.mismatch}"
            )
        function = calling.function
        kernel = next(one for one in kernels(op=calling.op.name) if one.function is function)
        return Case(
            (kernel.op, kernel.wing, kernel.variant), calling.dialect, dtype, options, inputs,
            expected, frozenset(keys), seconds, shift,
        )  # fmt: skip


def _groups(kernel: Kernel, dialect: str, dtype: str) -> Iterator[Iterator[dict[str, Any]]]:
    """The groups of tests/reach for a kernel."""
    op = get_op(kernel.op)
    reach = importlib.import_module(f"tests.reach.{op.scheme}")
    return iter(()) if kernel.variant in COMPOSED else reach.inputs(op, dtype, dialect)


def offsets_of(inputs: Mapping[str, Any]) -> dict[str, int]:
    """How far arrays are off an aligned address: tests/reach moves some on purpose."""
    from tests.displaced import offsets

    return offsets(inputs)


@dataclass
class Seen:
    """Blocks of kernels by (module, kernel): those there are, and those that ran."""

    blocks: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    executed: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    missed: bool = True  # by the kernels of the last run

    def take(self) -> bool:
        """Adds the last run. Whether it reached a block that none had."""
        more = self.missed = False
        for key, one in emulator.coverage().items():
            lines = self.blocks.setdefault(key, set(one.lines))
            ran = {line for line, hit in zip(one.lines, one.executed, strict=True) if hit}
            old = self.executed.setdefault(key, set())
            more = more or not ran <= old
            old |= ran
            self.missed = self.missed or bool(lines - old)
        return more


def more(kernel: Kernel, dialect: str) -> Iterator[Case]:
    """Further cases of one kernel: the sizes of quantassay/cases.py, random ones; keys unknown."""
    op = get_op(kernel.op)
    calling = Calling(kernel, op, dialect)
    told = {"examples": RANDOM, "seed": SEED, "sweep": True, "allowed": calling.allowed}
    for one in cases(op, dialect, **told):  # type: ignore[arg-type]
        inputs = op.build(one.recipe)
        shift = dict.fromkeys(inputs, one.shift)
        yield Case(
            (kernel.op, kernel.wing, kernel.variant), dialect, one.recipe.dtype, one.options,
            inputs, (), frozenset(), 0.0, shift, one.order,
        )  # fmt: skip


def counted(kernel: Kernel) -> Figures:
    """What bench/counters.py says of a kernel as it now is, without the lines that waste."""
    found = measure(kernel)
    return {name: getattr(found, name) for name in found.__dataclass_fields__ if name != "waste"}
