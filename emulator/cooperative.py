"""Blocks that run together: the rotation of a cooperative launch.

Contract: `run` gives the blocks turns until all have ended, and returns the arena of the first
block with a finding, or None. Every block has an Arena of its own. With seed 0 a block goes on
until it has ended or does nothing but poll memory, then the next one does: whatever a block does
not wait for, it does not see. Any other seed permutes the blocks in every rotation and cuts turns
short after a number of sweeps that it draws.

A thread polls with a volatile, relaxed or acquire load, an atom instruction or nanosleep. Where in
`fuel / IDLE_FUEL` rotations in a row no barrier or collective is performed and no thread exits,
nobody will: DEADLOCK, at the first polling thread of the first block.

Accesses of one thread are seen by all others at once and in order, so a missing fence, acquire or
release between blocks goes unseen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emulator import scheduler, state
from emulator.arena import Arena
from emulator.layout import Fault
from emulator.trace import Accountant

IDLE_FUEL = 5000  # of a launch's fuel, for a rotation in which blocks only polled
UNLIMITED = 1 << 62
LONGEST_TURN = 8  # a permuted turn has 1, 2, 4 ... 2 ** (LONGEST_TURN - 1) sweeps


def run(
    arenas: Sequence[Arena], traffic: Accountant, traced: int, seed: int, fuel: int
) -> Arena | None:
    """Execute block i in arenas[i], tracing the first `traced`. Raises MemoryError as trace.py."""
    generator = np.random.default_rng(seed)
    records = _Records(arenas[:traced], traffic)
    live, idle = list(range(len(arenas))), 0
    while live:
        moved = False
        order = generator.permutation(live).tolist() if seed else list(live)
        for block in order:
            sweeps = 1 << int(generator.integers(LONGEST_TURN)) if seed else UNLIMITED
            came_to = scheduler.take_turn(arenas[block].run, block, sweeps)
            records.take(block)
            if came_to & scheduler.FOUND:
                return arenas[block]
            if came_to & scheduler.FINISHED:
                live.remove(block)
            moved = moved or bool(came_to & (scheduler.MOVED | scheduler.FINISHED))
        idle = 0 if moved else idle + 1
        if idle * IDLE_FUEL > fuel:
            return _deadlocked(arenas[live[0]], len(arenas) - len(live))
    records.account()
    return None


def _deadlocked(arena: Arena, ended: int) -> Arena:
    """Records the finding; stall.py says which thread it is and why."""
    arena.run[state.FAULT_COUNT] = 1
    arena.run[state.FAULT_KIND] = Fault.DEADLOCK
    arena.run[state.FAULT_OTHER] = ended
    return arena


class _Records:
    """The accesses of each traced block, turn by turn: all blocks write to one place."""

    def __init__(self, arenas: Sequence[Arena], traffic: Accountant) -> None:
        self._contexts = [arena.context[0] for arena in arenas]
        self._traffic = traffic
        self._turns: list[list[np.ndarray]] = [[] for _ in arenas]
        self._total = 0
        for context in self._contexts:
            context["trace"] = traffic.records.ctypes.data
            context["trace_capacity"] = len(traffic.records)
            context["trace_count"] = 0

    def take(self, block: int) -> None:
        """Keep what a block's latest turn added."""
        if block >= len(self._contexts):
            return
        context, kept = self._contexts[block], self._traffic.records
        count = int(context["trace_count"])
        context["trace_count"] = 0
        self._total += count
        self._traffic.check(self._total)
        if count:
            self._turns[block].append(kept[:count].copy())

    def account(self) -> None:
        """Add everything up."""
        for turns in self._turns:
            count = sum(map(len, turns))
            if count:
                self._traffic.records[:count] = np.concatenate(turns)
            self._traffic.add_block(count)
