"""The public way in: compile PTX, launch kernels, get statistics or an EmulatorError.

Contract:
    module = compile(ptx)                       once per text
    stats = module.kernel("name").launch(grid, block, args, shared_bytes=0, seed=0)
A launch runs all blocks, one after another or (cooperative=True) together, writes into the arrays
of `args` and returns Stats; on the first finding it raises EmulatorError and leaves ordinary arrays
as they were (memory from `emulator.empty` is written as the kernel goes). Machine code is made at a
kernel's first launch, or read from disk (kernel_cache.py) together with all that a launch needs of
the PTX, which is then not parsed at all. Compilation and launches run one at a time; other threads
wait. Races on global memory are looked for with `races=True`, or inside `watch_races()`.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from emulator import (
    arguments,
    block_coverage,
    cooperative,
    faults,
    global_races,
    kernel_cache,
    lower,
    memory,
    ptx,
    race_records,
    scheduler,
    state,
    trace,
)
from emulator.arena import Arena
from emulator.arguments import Dims
from emulator.layout import BUFFER, Fault
from emulator.stats import Stats
from reference.arguments import check_int, check_kind, check_list, check_names, check_text

FUEL = 50_000_000  # loop iterations of one thread
SLICE_SECONDS = 0.05  # between two looks at the keyboard

_lock = threading.Lock()
_watching = False  # what races=None stands for
_arena = Arena()


@contextmanager
def watch_races(on: bool = True) -> Iterator[None]:
    """Inside, launches look for races on global memory unless they say otherwise."""
    global _watching
    before, _watching = _watching, on
    try:
        yield
    finally:
        _watching = before


class SharedLimitError(faults.EmulatorError, ValueError):
    """More shared memory than a block can have."""


class Module:
    """A PTX module; `kernels` are the names of its entries."""

    def __init__(self, text: str, name: str, approximate: frozenset[str]) -> None:
        self.name = name or hashlib.sha256(text.encode()).hexdigest()[:12]
        self.text, self.approximate = text, approximate
        self.key = kernel_cache.module_key(text, approximate)
        self._kernels: dict[str, Kernel] = {}
        known = kernel_cache.load_module(self.key, text)
        if known is None:
            self.variables = self.parsed = ptx.parse(text)
            self.kernels = tuple(self.parsed.entries)
            kernel_cache.store_module(self.key, self.parsed)
        else:
            self.kernels, self.variables = known

    @cached_property
    def parsed(self) -> ptx.Module:
        """The whole module, parsed now if it was not; its variables lie where `variables` says."""
        parsed = ptx.parse(self.text)
        parsed.globals = self.variables.globals
        parsed.globals_address = self.variables.globals_address
        parsed.keepalive = self.variables.keepalive
        return parsed

    def kernel(self, name: str) -> Kernel:
        """A kernel by its name in the PTX. Raises ValueError, listing the names there are."""
        check_text("kernel", name)
        if name not in self.kernels:
            known = ", ".join(self.kernels) or "none"
            raise ValueError(f"kernel: got {name!r}; allowed in this module: {known}")
        return self._kernels.setdefault(name, Kernel(self, name))


@lru_cache(maxsize=256)
def _module(text: str, name: str, approximate: frozenset[str]) -> Module:
    return Module(text, name, approximate)


def compile(text: str, *, name: str = "", approximate: Iterable[str] = ()) -> Module:  # noqa: A001
    """Parse PTX. `name` is what coverage() calls the module (else a hash of the text).

    approximate: opcodes whose last bits PTX leaves open ("ex2.approx.f32") and that may run all the
    same. Raises emulator.UnsupportedPTX with the PTX line for what the emulator does not know.
    """
    check_text("text", text)
    check_text("name", name)
    return _module(text, name, frozenset(check_names("approximate", approximate)))


class Kernel:
    """One entry of a module."""

    def __init__(self, module: Module, name: str) -> None:
        self.module, self.name = module, name
        self._compiled: dict[tuple[bool, bool, bool], lower.CompiledKernel] = {}

    def compiled(
        self, *, checks: bool = True, traced: bool = False, races: bool = False
    ) -> lower.CompiledKernel:
        """Machine code of one variant, made when first asked for."""
        with _lock:
            found = self._compiled.get((checks, traced, races))
            if found is None:
                found = self._load_or_compile(checks=checks, trace=traced, races=races)
                self._compiled[checks, traced, races] = found
            return found

    def _load_or_compile(self, **options: bool) -> lower.CompiledKernel:
        module = self.module
        known = kernel_cache.load_kernel(module.key, self.name, module.variables, **options)
        if known:
            return known
        made = lower.compile_kernel(
            module.parsed, self.name, approximate=module.approximate, **options
        )
        kernel_cache.store_kernel(module.key, made, **options)
        return made

    def launch(
        self,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        args: Sequence[Any],
        *,
        shared_bytes: int = 0,
        seed: int = 0,
        trace: bool | int = False,
        checks: bool = True,
        fuel: int = FUEL,
        buffers: Sequence[np.ndarray] = (),
        cooperative: bool = False,
        races: bool | None = None,
    ) -> Stats:
        """Run the kernel.

        args: one per parameter: an array (its pointer), a NumPy scalar of the parameter's size, an
        int, None (a null pointer) or bytes (a struct by value). seed: 0 runs blocks, warps and
        lanes in natural order, any other number permutes them. trace: True, or how many thread
        blocks to trace. checks: False skips bounds, initialisation and race checks (wild accesses
        then crash the process). fuel: loop iterations that one thread may take. buffers: arrays
        from `emulator.empty` that the kernel reaches through pointers inside structs. cooperative:
        the blocks run in turns and may wait for each other; their number is limited. races: look
        for races on global memory (global_races.py), unless checks are off; None: as `watch_races`
        says.

        Raises ValueError or TypeError for bad arguments, EmulatorError for a finding.
        """
        for word, flag in (("checks", checks), ("cooperative", cooperative)):
            check_kind(word, flag, (bool, np.bool_), "True or False")
        if not isinstance(trace, (bool, np.bool_)):
            check_int("trace", trace, 0)
        check_int("seed", seed, 0)
        check_int("shared_bytes", shared_bytes, 0)
        check_int("fuel", fuel, 1, (1 << 63) - 1)
        check_list("buffers", buffers, np.ndarray, "a NumPy array")
        check_kind("args", args, (list, tuple), "a list or tuple")
        watched = _watching if races is None else races
        check_kind("races", watched, bool, "True, False or None")
        watched = watched and checks
        code = self.compiled(checks=checks, traced=bool(trace), races=watched)
        grid3 = arguments.dims("grid", grid, arguments.MAX_GRID)
        block3 = arguments.dims("block", block, arguments.MAX_BLOCK)
        arguments.check_block(code, block3)
        shared = arguments.shared_size(code, shared_bytes)
        if shared > arguments.SHARED_LIMIT:
            raise _too_much_shared(code, shared)
        if cooperative:
            threads = block3[0] * block3[1] * block3[2]
            arguments.check_cooperative(grid3, Arena.size(threads, code.frame_size, shared))
        blocks = grid3[0] * grid3[1] * grid3[2]
        everything = bool(trace) and isinstance(trace, (bool, np.bool_))
        traced = blocks if everything else min(int(trace), blocks)
        job = _Job(
            self, code, grid3, block3, shared, seed, traced, checks, fuel, cooperative, watched
        )
        extra = [(f"buffers[{i}] ({a.dtype} {a.shape})", a) for i, a in enumerate(buffers)]
        with _lock:
            return job.run(args, extra)


def _too_much_shared(code: lower.CompiledKernel, size: int) -> SharedLimitError:
    return SharedLimitError(
        code.name,
        Fault.SHARED_LIMIT,
        code.sites[0],
        (0, 0, 0),
        (0, 0, 0),
        f"shared memory: {size} bytes ({code.shared_static_size} static) for one block; allowed: "
        f"up to {arguments.SHARED_LIMIT}",
        1,
    )


@dataclass(frozen=True)
class _Job:
    """One launch, its geometry checked."""

    kernel: Kernel
    code: lower.CompiledKernel
    grid: Dims
    block: Dims
    shared: int
    seed: int
    traced: int  # thread blocks
    checks: bool
    fuel: int
    cooperative: bool
    races: bool

    @property
    def blocks(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]

    def run(self, args: Sequence[Any], extra: list[tuple[str, np.ndarray]]) -> Stats:
        """Execute all blocks. Raises EmulatorError."""
        code = self.code
        parameters = arguments.Parameters(code, args)
        staging = memory.Staging([*parameters.arrays, *extra])
        parameters.point(staging.addresses[: len(parameters.arrays)])
        variables = self.kernel.module.variables.globals.values()
        ranges = staging.ranges() + [
            memory.Range(v.address, v.size, 0, f"variable {v.name}") for v in variables
        ]
        table = memory.buffer_table(ranges)
        cache = np.zeros(len(code.sites), BUFFER)
        counts = np.zeros(len(code.blocks), np.uint64)
        threads = self.block[0] * self.block[1] * self.block[2]
        traffic = trace.Accountant(len(code.sites), threads, self.traced)

        watch = race_records.Watch(ranges, self.blocks, self.cooperative) if self.races else None
        arenas = [Arena() for _ in range(self.blocks)] if self.cooperative else [_arena]
        for number, arena in enumerate(arenas):
            self._equip(arena, number)
            arena.run[state.BUFFERS] = arena.context["buffers"] = table.ctypes.data
            arena.run[state.BUFFER_COUNT] = arena.context["buffer_count"] = len(ranges)
            arena.context["params"] = parameters.address
            arena.context["site_cache"] = cache.ctypes.data
            arena.context["coverage"] = counts.ctypes.data
            arena.run[state.RACES] = arena.context["races"] = watch.address if watch else 0
            arena.context["race_check"] = global_races.check().address if watch else 0
        if self.cooperative:
            found = cooperative.run(arenas, traffic, self.traced, self.seed, self.fuel)
            self._raise(found, ranges)
        else:
            self._run_blocks(ranges, traffic)

        staging.copy_back()
        block_coverage.add(self.kernel.module.name, self.kernel.name, code.blocks, counts)
        return Stats(code.blocks, counts, self.traced, trace.lines(traffic.totals, code.sites))

    def _equip(self, arena: Arena, number: int) -> None:
        """The arena's geometry and kernel; arenas of a cooperative launch differ in their seed."""
        code, seed = self.code, self.seed and self.seed + number
        arena.prepare(self.grid, self.block, code.frame_size, self.shared, self.checks, seed)
        arena.run[state.STEP] = code.step_address
        arena.run[state.FUEL] = self.fuel
        arena.context["dynamic_shared_size"] = max(0, self.shared - code.dynamic_offset)
        arena.context["trace_capacity"] = 0

    def _run_blocks(self, ranges: list[memory.Range], traffic: trace.Accountant) -> None:
        run, total = _arena.run, self.blocks
        order = np.random.default_rng(self.seed).permutation(total) if self.seed else None
        run[state.BLOCK_ORDER] = 0 if order is None else order.ctypes.data
        self._run_traced(ranges, traffic)
        first, length = self.traced, 1
        while first < total:  # in slices of growing length, so that an interrupt is heard
            last = min(total, first + length)
            started = time.perf_counter()
            self._run_slice(ranges, first, last)
            if time.perf_counter() - started < SLICE_SECONDS:
                length *= 2
            first = last

    def _run_traced(self, ranges: list[memory.Range], traffic: trace.Accountant) -> None:
        context = _arena.context[0]
        context["trace"] = traffic.records.ctypes.data
        context["trace_capacity"] = len(traffic.records)
        for position in range(self.traced):
            context["trace_count"] = 0
            self._run_slice(ranges, position, position + 1)
            traffic.add_block(int(context["trace_count"]))
        context["trace_capacity"] = 0

    def _run_slice(self, ranges: list[memory.Range], first: int, last: int) -> None:
        found = scheduler.run_blocks(_arena.run, first, last)
        self._raise(_arena if found else None, ranges)

    def _raise(self, found: Arena | None, ranges: list[memory.Range]) -> None:
        """Raises EmulatorError for the finding in an arena."""
        if found is None:
            return
        run = found.run
        raise faults.error(
            faults.Scene(
                self.kernel.name,
                self.code.sites,
                run,
                found.threads[: int(run[state.THREAD_COUNT])],
                self.grid,
                self.block,
                ranges,
                int(run[state.SHARED_AT]),
                self.shared,
                min(self.shared, self.code.shared_static_size),
                self.fuel,
            )
        )
