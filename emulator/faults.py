"""What a launch found, in words: EmulatorError and how its message is made.

Contract: `error(scene)` turns the scheduler's record of the first finding into an EmulatorError. A
message says what happened, to which memory, where in the PTX and in the source (if the PTX was
compiled with -lineinfo), and which thread of which block did it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from emulator import race_records, shadow, stall, state
from emulator.layout import Fault, Yield
from emulator.lower import Site
from emulator.memory import Range
from emulator.wording import dims_of, lanes, plural

Dims = tuple[int, int, int]
NULL_PAGE = 4096


class EmulatorError(RuntimeError):
    """A kernel did something that is wrong or undefined on a GPU.

    kernel: name. kind: layout.Fault. ptx_line, ptx_text: the instruction. source: "file:line" or
    "". thread, block: (x, y, z). message: what happened, without the place. count: how many threads
    of the block stopped at a finding (the first is described).
    """

    def __init__(
        self,
        kernel: str,
        kind: Fault,
        site: Site,
        thread: Dims,
        block: Dims,
        message: str,
        count: int,
    ) -> None:
        self.kernel, self.kind, self.message, self.count = kernel, kind, message, count
        self.ptx_line, self.ptx_text, self.source = site.ptx_line, site.text, site.source
        self.thread, self.block = thread, block
        others = f"; {plural(count - 1, 'more thread')} of this block stopped" if count > 1 else ""
        place = f"\n  source line: {self.source}" if self.source else ""
        super().__init__(
            f"{kernel}: {message}\n  PTX line {self.ptx_line}: {self.ptx_text}{place}"
            f"\n  thread {thread}, block {block}{others}"
        )


@dataclass(frozen=True)
class Scene:
    """Everything a message may need."""

    kernel: str
    sites: Sequence[Site]
    run: np.ndarray  # state.py
    threads: np.ndarray  # THREAD (thread_count,)
    grid: Dims
    block: Dims
    ranges: Sequence[Range]
    shared_start: int
    shared_size: int
    shared_static: int
    fuel: int

    @property
    def thread(self) -> np.void:
        """The record of the thread that the finding names."""
        return self.threads[int(self.run[state.FAULT_THREAD])]

    @property
    def access(self) -> str:
        """ "load of 4 bytes"."""
        if self.site.opcode.startswith(("atom.", "red.")):
            verb = "atomic operation on"
        else:
            verb = "store of" if self.run[state.FAULT_STORE] else "load of"
        return f"{verb} {plural(int(self.run[state.FAULT_SIZE]), 'byte')}"

    @property
    def address(self) -> int:
        return int(self.run[state.FAULT_ADDRESS])

    @property
    def other(self) -> int:
        return int(self.run[state.FAULT_OTHER])

    @property
    def site(self) -> Site:
        return self.sites[int(self.run[state.FAULT_SITE])]

    @property
    def shared_offset(self) -> int | None:
        """The address as an offset into shared memory, or None if it is not there."""
        offset = self.address - self.shared_start
        if self.site.opcode.startswith("cp."):
            return offset if self.run[state.FAULT_STORE] else None
        inside = 0 <= offset < self.shared_size
        return offset if inside or ".shared" in self.site.opcode else None


def error(scene: Scene) -> EmulatorError:
    """The first finding of a launch."""
    kind = Fault(int(scene.run[state.FAULT_KIND]))
    if kind == Fault.DEADLOCK:
        stuck = stall.explain(scene.threads, scene.run, scene.sites, scene.block)
        kind, message = stuck.kind, stuck.message
        scene.run[state.FAULT_THREAD] = stuck.thread
        scene.run[state.FAULT_SITE] = scene.threads[stuck.thread]["site"]
    else:
        message = _WORDS[kind](scene)
    return EmulatorError(
        scene.kernel,
        kind,
        scene.site,
        dims_of(int(scene.run[state.FAULT_THREAD]), scene.block),
        dims_of(int(scene.run[state.BLOCK]), scene.grid),
        message,
        int(scene.run[state.FAULT_COUNT]),
    )


def _out_of_bounds(scene: Scene) -> str:
    offset = scene.shared_offset
    if offset is not None:
        if 1 << 31 <= offset < 1 << 32:  # a 32-bit address below the start
            offset -= 1 << 32
        return (
            f"out-of-bounds {scene.access} at offset {offset} of shared memory, which has "
            f"{plural(scene.shared_size, 'byte')} ({scene.shared_static} static, "
            f"{scene.shared_size - scene.shared_static} dynamic)"
        )
    if scene.address < NULL_PAGE:
        return f"{scene.access} through a null pointer (address {scene.address:#x})"
    nearest = min(scene.ranges, key=lambda r: _distance(scene, r), default=None)
    if nearest is None:
        return f"out-of-bounds {scene.access} at {scene.address:#x}: the kernel was given no memory"
    return f"out-of-bounds {scene.access} {_relative(scene, nearest)}"


def _distance(scene: Scene, item: Range) -> int:
    end = scene.address + int(scene.run[state.FAULT_SIZE])
    return max(0, item.start - scene.address, end - (item.start + item.size))


def _relative(scene: Scene, item: Range) -> str:
    """ "4 bytes past the end of argument 1 (...)"."""
    size = int(scene.run[state.FAULT_SIZE])
    if scene.address < item.start:
        before = item.start - scene.address
        if before == size:
            return f"right before the start of {item.name}"
        return f"that starts {plural(before, 'byte')} before the start of {item.name}"
    beyond = scene.address - (item.start + item.size)
    if beyond < 0:
        return f"that starts inside and ends {plural(size + beyond, 'byte')} past {item.name}"
    if beyond == 0:
        return f"right behind the end of {item.name}"
    return f"that starts {plural(beyond, 'byte')} past the end of {item.name}"


def _misaligned(scene: Scene) -> str:
    size = int(scene.run[state.FAULT_SIZE])
    return (
        f"misaligned {scene.access} {_where(scene)}: the address must be a multiple of {size}, "
        f"it is {scene.address % size} more"
    )


def _where(scene: Scene) -> str:
    """ "at element 5 (byte 20) of argument 1 (...)" or "at offset 20 of shared memory"."""
    offset = scene.shared_offset
    if offset is not None:
        return f"at offset {offset} of shared memory"
    for item in scene.ranges:
        byte = scene.address - item.start
        if 0 <= byte < item.size:
            return f"at element {byte // item.itemsize} (byte {byte}) of {item.name}"
    return f"at {scene.address:#x}"


def _uninitialised(scene: Scene) -> str:
    late = ": never set, or a barrier is missing before this"
    cause = "" if scene.shared_offset is None else late
    return f"{scene.access} {_where(scene)}, which nobody has written{cause}"


def _race(scene: Scene) -> str:
    word = scene.other & 0xFFFFFFFF
    read = scene.other >> 32 == 1
    what = "read" if read else "written"
    several = read and word & (shadow.SEVERAL_LANES | shadow.SEVERAL_WARPS)
    lane = word >> shadow.LANE_SHIFT & 31
    warp = word >> shadow.WARP_SHIFT & 31
    who = f"thread {dims_of(warp * 32 + lane, scene.block)}"
    who = f"several threads, among them {who}" if several else who
    missing = (
        "__syncwarp() or __syncthreads()"
        if warp == scene.thread["warp"] and not word & shadow.SEVERAL_WARPS
        else "__syncthreads()"
    )
    return f"race: {scene.access} {_where(scene)}, {what} by {who} with no {missing} between"


def _global_race(scene: Scene) -> str:
    word, races = scene.other, race_records
    warp, lane = word >> races.WARP_AT & 31, word >> races.LANE_AT & 31
    block = (word >> races.BLOCK_AT & (1 << 21) - 1) - 1
    what = "read" if word & races.READER else "written"
    who = f"thread {dims_of(warp * 32 + lane, scene.block)}"
    who = f"several threads, among them {who}" if word & races.SEVERAL else who
    if block == int(scene.run[state.BLOCK]):
        near = warp == scene.thread["warp"] and not word & races.SEVERAL
        missing = "__syncwarp() or __syncthreads()" if near else "__syncthreads()"
        who = f"{who} of this block with no {missing} between"
    else:
        who = (
            f"{who} of block {dims_of(block, scene.grid)}, and nothing orders the blocks "
            "(__threadfence() and an atomic after that, an atomic on the same address before this)"
        )
    alike = "" if what == "read" or not scene.run[state.FAULT_STORE] else "; equal values race too"
    return f"race on global memory: {scene.access} {_where(scene)}, {what} by {who}{alike}"


def _pending_copy(scene: Scene) -> str:
    return (
        f"{scene.access} {_where(scene)}, where a cp.async is still in flight: "
        "its thread must wait for it (cp.async.wait_group), then a barrier must follow"
    )


def _early_exit(scene: Scene) -> str:
    return f"the member mask names {lanes(scene.other)} of this warp, exited already"


def _bad_mask(scene: Scene) -> str:
    lane = int(scene.thread["lane"])
    yop = int(scene.thread["yop"])
    if yop in (Yield.MMA_INT8, Yield.LDMATRIX) or yop >= Yield.MMA_FLOAT:
        return "a warp-wide matrix instruction in a warp of fewer than 32 threads"
    return f"lane {lane} is not in its own member mask {scene.other:#010x}"


def _shuffle_source(scene: Scene) -> str:
    mask = int(scene.thread["args"][0])
    return f"shfl reads lane {scene.other}, which is not in its member mask {mask:#010x}"


def _divergent(scene: Scene) -> str:
    barrier, count = (int(v) for v in scene.thread["args"][:2])
    if scene.other == 0:
        total = len(scene.threads)
        return (
            f"barrier {barrier} with a count of {count}: allowed are ids 0-15, and counts that are "
            f"multiples of 32, at most {total} threads rounded up, and the same for all threads"
        )
    return stall.divergence(scene.threads, scene.run, scene.sites, int(scene.thread["warp"]))


def _fuel(scene: Scene) -> str:
    several = scene.grid != (1, 1, 1)
    other = "; blocks that wait for each other need cooperative=True" if several else ""
    return (
        f"still running after {scene.fuel} loop iterations: an endless loop, or a wait for "
        f"something that cannot happen (raise fuel= for a longer kernel{other})"
    )


def _trap(scene: Scene) -> str:
    return "the kernel executed a trap (a failed assert or __trap())"


def _too_many_copies(scene: Scene) -> str:
    return "more cp.async in flight than can have destinations of their own in shared memory"


# DEADLOCK is worded by stall.py, SHARED_LIMIT by launch.py.
_WORDS: dict[Fault, Callable[[Scene], str]] = {
    Fault.OUT_OF_BOUNDS: _out_of_bounds,
    Fault.MISALIGNED: _misaligned,
    Fault.UNINITIALISED: _uninitialised,
    Fault.RACE: _race,
    Fault.PENDING_COPY: _pending_copy,
    Fault.DIVERGENT_BARRIER: _divergent,
    Fault.EARLY_EXIT: _early_exit,
    Fault.BAD_MASK: _bad_mask,
    Fault.SHUFFLE_SOURCE: _shuffle_source,
    Fault.FUEL: _fuel,
    Fault.TRAP: _trap,
    Fault.COPY_IN_FLIGHT: _too_many_copies,
    Fault.GLOBAL_RACE: _global_race,
}
