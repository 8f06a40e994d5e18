"""Why a block cannot go on: the words for deadlocks, early exits and divergence.

Contract: called when no thread of a block can run and some have not exited, or when all blocks of a
cooperative launch do nothing but poll memory. `explain` names the cause that a programmer would
want to hear first:
  DIVERGENT_BARRIER  lanes of one warp wait at different aligned barrier instructions
  EARLY_EXIT         everybody who still lives waits at one barrier, the rest has exited
  BAD_MASK           lanes of one warp wait for each other at collectives with different masks
  DEADLOCK           blocks that wait for each other, or anything else: every group of waiting
                     threads with its operation and line
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emulator import state
from emulator.layout import Fault, Yield
from emulator.lower import Site
from emulator.wording import plural, threads

MASKED = (Yield.SHUFFLE, Yield.VOTE, Yield.REDUX, Yield.MATCH, Yield.WARPSYNC)
SHOWN_GROUPS = 6


@dataclass(frozen=True)
class Stall:
    kind: Fault
    thread: int  # linear index
    message: str


def explain(
    records: np.ndarray, run: np.ndarray, sites: Sequence[Site], block: tuple[int, int, int]
) -> Stall:
    """Find the cause from the threads' records (THREAD) and the lane sets in `run`."""
    exited = _members(run, state.EXITED, len(records))
    waiting = np.flatnonzero(~exited)
    polling = np.flatnonzero(_members(run, state.PAUSED, len(records)))
    if len(polling):
        return _polling(records, polling, waiting, sites, int(run[state.FAULT_OTHER]))
    barrier = waiting[records["yop"][waiting] == Yield.BARRIER]
    for warp in np.unique(records["warp"][barrier]):
        lanes = barrier[records["warp"][barrier] == warp]
        aligned = lanes[records["args"][lanes, 2] != 0]
        if len(np.unique(records["site"][aligned])) > 1:
            message = divergence(records, run, sites, int(warp))
            return Stall(Fault.DIVERGENT_BARRIER, int(aligned[0]), message)
    if exited.any() and len(barrier) == len(waiting):
        return _early_exit(records, barrier, np.flatnonzero(exited), sites)
    return _masks(records, waiting, sites) or _deadlock(records, waiting, exited, sites)


def _polling(
    records: np.ndarray,
    polling: np.ndarray,
    waiting: np.ndarray,
    sites: Sequence[Site],
    ended: int,
) -> Stall:
    """A grid barrier or the like; `ended` blocks have exited."""
    gone = f"{plural(ended, 'block')} ended, " if ended else ""
    groups = "; ".join(_groups(records, waiting, sites))
    return Stall(
        Fault.DEADLOCK,
        int(polling[0]),
        f"deadlock between blocks: {gone}all others only poll memory, which nobody changes any "
        f"more (raise fuel= if it is a long wait); in this block: {groups}",
    )


def _members(run: np.ndarray, start: int, count: int) -> np.ndarray:
    """A lane set as bool (count,), per thread."""
    words = run[start : start + state.WARPS].astype(np.uint32)
    bits = words[:, None] >> np.arange(32, dtype=np.uint32) & 1
    return bits.astype(bool).reshape(-1)[:count]


def divergence(records: np.ndarray, run: np.ndarray, sites: Sequence[Site], warp: int) -> str:
    """Words for a warp whose lanes are not together at an aligned barrier."""
    exited = _members(run, state.EXITED, len(records))
    members = np.flatnonzero((records["warp"] == warp) & ~exited)
    groups = _groups(records, members, sites)
    return f"the lanes of warp {warp} are not together at a barrier: " + "; ".join(groups)


def _early_exit(
    records: np.ndarray, barrier: np.ndarray, gone: np.ndarray, sites: Sequence[Site]
) -> Stall:
    first = int(barrier[0])
    count = int(records["args"][first, 1]) or len(records)
    return Stall(
        Fault.EARLY_EXIT,
        first,
        f"{plural(len(barrier), 'thread')} of the {count} that barrier "
        f"{int(records['args'][first, 0])} counts wait for {threads(gone.tolist())}, "
        "exited already",
    )


def _masks(records: np.ndarray, waiting: np.ndarray, sites: Sequence[Site]) -> Stall | None:
    """Lanes that name each other but not with the same mask."""
    masked = waiting[np.isin(records["yop"][waiting], MASKED)]
    for first in masked:
        mask = int(records["args"][first, 0])
        peers = masked[records["warp"][masked] == records["warp"][first]]
        for other in peers:
            differs = records["args"][other, 0] != mask
            if differs and mask >> int(records["lane"][other]) & 1:
                groups = _groups(records, peers, sites)
                message = "lanes of one warp wait for each other with different masks: "
                return Stall(Fault.BAD_MASK, int(first), message + "; ".join(groups))
    return None


def _deadlock(
    records: np.ndarray, waiting: np.ndarray, exited: np.ndarray, sites: Sequence[Site]
) -> Stall:
    groups = _groups(records, waiting, sites)
    if exited.any():
        groups.append(f"{threads(np.flatnonzero(exited).tolist())} exited")
    message = "deadlock, no thread of the block can go on: " + "; ".join(groups)
    return Stall(Fault.DEADLOCK, int(waiting[0]), message)


def _groups(records: np.ndarray, members: np.ndarray, sites: Sequence[Site]) -> list[str]:
    """One phrase per instruction (and mask) at which these threads wait."""
    found: dict[tuple[int, int], list[int]] = {}
    for index in members:
        record = records[index]
        mask = int(record["args"][0]) if record["yop"] in MASKED else -1
        found.setdefault((int(record["site"]), mask), []).append(int(index))
    phrases = []
    for (site, mask), linear in list(found.items())[:SHOWN_GROUPS]:
        where = sites[site]
        source = f", {where.source}" if where.source else ""
        named = f" with mask {mask:#010x}" if mask >= 0 else ""
        phrases.append(
            f"{threads(linear)} at {where.opcode}{named} (PTX line {where.ptx_line}{source})"
        )
    hidden = len(found) - SHOWN_GROUPS
    if hidden > 0:
        phrases.append(f"{plural(hidden, 'more group')}")
    return phrases
