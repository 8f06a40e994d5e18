"""Block barriers: bar.sync, barrier.sync and bar.red, ids 0-15, with or without a thread count.

Contract: a barrier is released when the threads it counts have arrived: all of the block's, or
`count` of them, where a last warp of fewer than 32 threads counts as 32 once all of it is there
(PTX ISA, "bar": arrival is counted in warps). Then the block's epoch advances and all of the
barrier's threads become READY; bar.red answers them popc, and, or of their predicates.
Findings at arrival and release:
  DIVERGENT_BARRIER  an aligned barrier that the lanes of one warp reached at different
                     instructions or without the warp's other lanes; threads that name different
                     counts; a count that is not a multiple of 32 or more than the block has
A barrier that can never be released is found when nothing else can run: see stall.py. A release of
some of the block's warps advances the epoch of all: races between it and the others may be missed.
"""

from __future__ import annotations

from emulator import global_races
from emulator.layout import WARP, Fault, Reduction
from emulator.native import jit, load32, load32s, lowest_bit, store32
from emulator.shadow import next_epoch
from emulator.state import (
    ARGS,
    ARRIVED,
    AT_BARRIER,
    BARRIERS,
    EXITED,
    EXPECTED,
    LANES,
    RACES,
    READY,
    RESULTS,
    SITE,
    THREAD_COUNT,
    TOUCHED,
    WARP_COUNT,
    Run,
    fault,
    thread_at,
)

NO_REDUCTION = -1


@jit
def arrive(run: Run, warp: int, lane: int) -> bool:
    """A thread waits at a barrier; False after a finding."""
    thread = thread_at(run, warp, lane)
    barrier = load32(thread + ARGS)
    count = load32(thread + ARGS + 4)
    room = WARP * run[WARP_COUNT]
    if count == 0:
        count = room
    if barrier >= BARRIERS or count % WARP or count > room:
        fault(run, Fault.DIVERGENT_BARRIER, thread, 0, 0, 0, 0)
        return False
    if run[ARRIVED + barrier] and run[EXPECTED + barrier] != count:
        fault(run, Fault.DIVERGENT_BARRIER, thread, 0, 0, 0, 0)
        return False
    run[ARRIVED + barrier] += 1
    run[EXPECTED + barrier] = count
    run[AT_BARRIER + warp] |= 1 << lane
    run[TOUCHED] |= 1 << barrier
    return True


@jit
def release(run: Run) -> bool:
    """Open every barrier that is complete; True if any was."""
    opened = False
    touched = run[TOUCHED]
    run[TOUCHED] = 0
    while touched:
        barrier = lowest_bit(touched)
        touched &= touched - 1
        if _complete(run, barrier):
            if not _aligned(run, barrier):
                return False
            _open(run, barrier)
            opened = True
    return opened


@jit
def _complete(run: Run, barrier: int) -> bool:
    arrived = run[ARRIVED + barrier]
    rest = run[THREAD_COUNT] % WARP
    last = run[WARP_COUNT] - 1
    if rest and members(run, last, barrier) == run[LANES + last]:
        arrived += WARP - rest
    return arrived >= run[EXPECTED + barrier]


@jit
def members(run: Run, warp: int, barrier: int) -> int:
    """The lanes of a warp that wait at this barrier."""
    found = 0
    rest = run[AT_BARRIER + warp]
    while rest:
        lane = lowest_bit(rest)
        rest &= rest - 1
        if load32(thread_at(run, warp, lane) + ARGS) == barrier:
            found |= 1 << lane
    return found


@jit
def _aligned(run: Run, barrier: int) -> bool:
    """Whether each warp came whole and to one instruction, where the barrier demands it."""
    for warp in range(run[WARP_COUNT]):
        lanes = members(run, warp, barrier)
        if lanes == 0:
            continue
        first = thread_at(run, warp, lowest_bit(lanes))
        whole = lanes == run[LANES + warp] & ~run[EXITED + warp]
        rest = lanes
        while rest:
            thread = thread_at(run, warp, lowest_bit(rest))
            rest &= rest - 1
            astray = not whole or load32(thread + SITE) != load32(first + SITE)
            if astray and load32(thread + ARGS + 8):
                fault(run, Fault.DIVERGENT_BARRIER, thread, 0, 0, 0, lanes)
                return False
    return True


@jit
def _open(run: Run, barrier: int) -> None:
    arrived = run[ARRIVED + barrier]
    true_count = 0
    reduces = False
    for warp in range(run[WARP_COUNT]):
        lanes = members(run, warp, barrier)
        rest = lanes
        while rest:
            thread = thread_at(run, warp, lowest_bit(rest))
            rest &= rest - 1
            if load32s(thread + ARGS + 12) != NO_REDUCTION:
                reduces = True
                true_count += 1 if load32(thread + ARGS + 16) else 0
    for warp in range(run[WARP_COUNT]):
        lanes = members(run, warp, barrier)
        run[AT_BARRIER + warp] &= ~lanes
        run[READY + warp] |= lanes
        while lanes and reduces:
            _answer(thread_at(run, warp, lowest_bit(lanes)), true_count, arrived)
            lanes &= lanes - 1
    run[ARRIVED + barrier] = 0
    next_epoch(run)
    if run[RACES]:
        global_races.barrier(run[RACES])


@jit
def _answer(thread: int, true_count: int, arrived: int) -> None:
    reduction = load32s(thread + ARGS + 12)
    if reduction == Reduction.POPC:
        store32(thread + RESULTS, true_count)
    elif reduction == Reduction.AND:
        store32(thread + RESULTS, 1 if true_count == arrived else 0)
    else:
        store32(thread + RESULTS, 1 if true_count else 0)
