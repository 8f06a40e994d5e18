"""Warp collectives: shfl, vote, redux, match, bar.warp.sync, activemask, mma, ldmatrix, stmatrix.

Contract: a collective is performed when every lane of its member mask waits at the same operation
with the same mode and mask (PTX ISA, "shfl.sync" and the like: the sites may differ). mma,
ldmatrix and stmatrix are warp-wide and aligned: all 32 lanes, at one site. Bits of a mask beyond
the block's last thread are ignored. Findings:
  BAD_MASK         a lane is not in its own mask; mma, ldmatrix or stmatrix in a warp of fewer than
                   32 threads
  EARLY_EXIT       the mask names a lane that has exited. PTX lets the others go on; the result of
                   reading such a lane is undefined, the mask a likely mistake: it is reported,
                   but for bar.warp.sync, which has no result (CUDA C++ Programming Guide,
                   "Synchronization Functions": "all non-exited threads named in mask")
  SHUFFLE_SOURCE   shfl reads a lane outside the mask
Lanes that wait for each other with different masks end in a deadlock, which barriers.py explains.

activemask is what hardware makes of it, opportunistic: when nothing else in the warp can go on, it
answers the lanes that wait at one site.
"""

from __future__ import annotations

from emulator import global_races, tensor, tensor_float, wgmma
from emulator.layout import Fault, MatchMode, ReduxMode, ShuffleMode, VoteMode, Yield
from emulator.native import jit, load16, load32, load32s, lowest_bit, store16, store32
from emulator.shadow import next_warp_epoch
from emulator.state import (
    ARGS,
    EXITED,
    FAULT_COUNT,
    LANES,
    RACES,
    READY,
    RESULTS,
    SCRATCH,
    SHARED_AT,
    SITE,
    THREAD_SIZE,
    VALUES,
    WAITING,
    YOP,
    Run,
    fault,
    thread_at,
)

FULL = 0xFFFFFFFF
REDUX_SIGNED = 8
LDMATRIX_TRANSPOSED = 8
MMA_MODE = ARGS + 4 * 10  # which operands are unsigned


@jit
def complete(run: Run, warp: int) -> bool:
    """Perform every collective of this warp whose members have all arrived; True if any was.

    After a finding nothing is performed any more.
    """
    if run[FAULT_COUNT]:
        return False
    progress = False
    pending = run[WAITING + warp]
    while pending:
        lane = lowest_bit(pending)
        thread = thread_at(run, warp, lane)
        op = load32(thread + YOP)
        if op == Yield.ACTIVEMASK:
            pending &= pending - 1
            continue
        aligned = op == Yield.MMA_INT8 or op == Yield.LDMATRIX or op >= Yield.MMA_FLOAT
        members = (FULL if aligned else load32(thread + ARGS)) & run[LANES + warp]
        if op == Yield.WARPSYNC:
            members &= ~run[EXITED + warp]
        if _malformed(run, warp, lane, members, aligned):
            return False
        if members & ~run[WAITING + warp] or not _agree(run, warp, thread, members, aligned):
            pending &= pending - 1
            continue
        if not _perform(run, warp, thread, members):
            return False
        run[WAITING + warp] &= ~members
        run[READY + warp] |= members
        pending &= ~members
        progress = True
    return progress or _answer_activemask(run, warp)


@jit
def _malformed(run: Run, warp: int, lane: int, members: int, aligned: bool) -> bool:
    """Record what can never be right about this lane's mask."""
    thread = thread_at(run, warp, lane)
    if not members >> lane & 1 or (aligned and run[LANES + warp] != FULL):
        fault(run, Fault.BAD_MASK, thread, 0, 0, 0, members)
        return True
    gone = members & run[EXITED + warp]
    if gone:
        fault(run, Fault.EARLY_EXIT, thread, 0, 0, 0, gone)
        return True
    return False


@jit
def _agree(run: Run, warp: int, thread: int, members: int, aligned: bool) -> bool:
    """Whether all members wait at the same operation, mode and mask as `thread`."""
    op = load32(thread + YOP)
    mask = load32(thread + ARGS)
    mode = load32(thread + ARGS + 4)
    site = load32(thread + SITE)
    has_mode = op != Yield.WARPSYNC
    rest = members
    while rest:
        other = thread_at(run, warp, lowest_bit(rest))
        rest &= rest - 1
        if load32(other + YOP) != op:
            return False
        if aligned:
            if load32(other + SITE) != site:
                return False
        elif load32(other + ARGS) != mask or (has_mode and load32(other + ARGS + 4) != mode):
            return False
    return True


@jit
def _perform(run: Run, warp: int, thread: int, members: int) -> bool:
    """Compute the results; False after a finding."""
    op = load32(thread + YOP)
    base = thread_at(run, warp, 0)
    if op == Yield.SHUFFLE:
        return _shuffle(run, base, members, load32(thread + ARGS + 4))
    if op == Yield.MMA_INT8:
        tensor.mma_int8(base, run[SCRATCH], load32(thread + MMA_MODE))
    elif op == Yield.LDMATRIX:
        _ldmatrix(base, run[SHARED_AT], load32(thread + ARGS))
    elif op == Yield.MMA_FLOAT:
        tensor_float.mma_float(base, run[SCRATCH])
    elif op == Yield.WGMMA:
        return wgmma.perform(run, warp, base)
    elif op == Yield.STMATRIX:
        _stmatrix(base, run[SHARED_AT], load32(thread + ARGS))
    elif op == Yield.VOTE:
        _vote(base, members, load32(thread + ARGS + 4))
    elif op == Yield.REDUX:
        _redux(base, members, load32(thread + ARGS + 4))
    elif op == Yield.MATCH:
        _match(base, members, load32(thread + ARGS + 4))
    else:
        next_warp_epoch(run, warp)
        if run[RACES]:
            global_races.warp_sync(run[RACES], warp)
    return True


@jit
def _shuffle(run: Run, base: int, members: int, mode: int) -> bool:
    rest = members
    while rest:
        lane = lowest_bit(rest)
        rest &= rest - 1
        run[VALUES + lane] = load32(base + lane * THREAD_SIZE + ARGS + 8)
    rest = members
    while rest:
        lane = lowest_bit(rest)
        rest &= rest - 1
        thread = base + lane * THREAD_SIZE
        source, inside = shuffle_source(
            lane, mode, load32(thread + ARGS + 12), load32(thread + ARGS + 16)
        )
        if not members >> source & 1:
            fault(run, Fault.SHUFFLE_SOURCE, thread, 0, 0, 0, source)
            return False
        store32(thread + RESULTS, run[VALUES + source])
        store32(thread + RESULTS + 4, inside)
    return True


@jit
def shuffle_source(lane: int, mode: int, b: int, c: int) -> tuple[int, int]:
    """The lane that shfl.sync reads, and whether it lies inside the segment (PTX ISA, shfl)."""
    b &= 31
    segment = c >> 8 & 31
    low = lane & segment
    high = low | (c & 31 & ~segment)
    if mode == ShuffleMode.UP:
        source = lane - b
        inside = source >= high
    elif mode == ShuffleMode.DOWN:
        source = lane + b
        inside = source <= high
    elif mode == ShuffleMode.BFLY:
        source = lane ^ b
        inside = source <= high
    else:
        source = low | (b & ~segment)
        inside = source <= high
    return (source, 1) if inside else (lane, 0)


@jit
def _vote(base: int, members: int, mode: int) -> None:
    ballot = 0
    for lane in range(32):
        if members >> lane & 1 and load32(base + lane * THREAD_SIZE + ARGS + 8):
            ballot |= 1 << lane
    if mode == VoteMode.ALL:
        answer = 1 if ballot == members else 0
    elif mode == VoteMode.ANY:
        answer = 1 if ballot else 0
    elif mode == VoteMode.UNI:
        answer = 1 if ballot == members or ballot == 0 else 0
    else:
        answer = ballot
    _answer_all(base, members, answer)


@jit
def _answer_all(base: int, members: int, answer: int) -> None:
    for lane in range(32):
        if members >> lane & 1:
            store32(base + lane * THREAD_SIZE + RESULTS, answer)


@jit
def _redux(base: int, members: int, mode: int) -> None:
    signed = mode & REDUX_SIGNED
    kind = mode & 7
    first = base + lowest_bit(members) * THREAD_SIZE + ARGS + 8
    total = load32s(first) if signed else load32(first)
    rest = members & (members - 1)
    while rest:
        address = base + lowest_bit(rest) * THREAD_SIZE + ARGS + 8
        rest &= rest - 1
        value = load32s(address) if signed else load32(address)
        if kind == ReduxMode.ADD:
            total += value
        elif kind == ReduxMode.MIN:
            total = min(total, value)
        elif kind == ReduxMode.MAX:
            total = max(total, value)
        elif kind == ReduxMode.AND:
            total &= value
        elif kind == ReduxMode.OR:
            total |= value
        else:
            total ^= value
    _answer_all(base, members, total)


@jit
def _match(base: int, members: int, mode: int) -> None:
    for lane in range(32):
        if not members >> lane & 1:
            continue
        thread = base + lane * THREAD_SIZE
        same = 0
        for other in range(32):
            peer = base + other * THREAD_SIZE
            if (
                members >> other & 1
                and load32(peer + ARGS + 8) == load32(thread + ARGS + 8)
                and load32(peer + ARGS + 12) == load32(thread + ARGS + 12)
            ):
                same |= 1 << other
        if mode == MatchMode.ALL:
            everyone = same == members
            store32(thread + RESULTS, members if everyone else 0)
            store32(thread + RESULTS + 4, 1 if everyone else 0)
        else:
            store32(thread + RESULTS, same)


@jit
def _ldmatrix(base: int, shared: int, mode: int) -> None:
    """8x8 matrices of 16-bit elements; matrix j's rows are named by lanes 8j .. 8j+7."""
    for matrix in range(mode & 7):
        rows = base + 8 * matrix * THREAD_SIZE + ARGS + 4
        for lane in range(32):
            first, second = _fragment(rows, lane, mode & LDMATRIX_TRANSPOSED)
            low = load16(shared + first)
            high = load16(shared + second)
            store32(base + lane * THREAD_SIZE + RESULTS + 4 * matrix, low | high << 16)


@jit
def _stmatrix(base: int, shared: int, mode: int) -> None:
    """The same fragments as _ldmatrix, written."""
    for matrix in range(mode & 7):
        rows = base + 8 * matrix * THREAD_SIZE + ARGS + 4
        for lane in range(32):
            first, second = _fragment(rows, lane, mode & LDMATRIX_TRANSPOSED)
            word = load32(base + lane * THREAD_SIZE + ARGS + 8 + 4 * matrix)
            store16(shared + first, word)
            store16(shared + second, word >> 16)


@jit
def _fragment(rows: int, lane: int, transposed: int) -> tuple[int, int]:
    """Shared offsets of the two elements that a lane receives of one 8x8 matrix."""
    major = lane >> 2
    minor = 2 * (lane & 3)
    if transposed:
        row = rows + minor * THREAD_SIZE
        return load32(row) + 2 * major, load32(row + THREAD_SIZE) + 2 * major
    row_start = load32(rows + major * THREAD_SIZE)
    return row_start + 2 * minor, row_start + 2 * minor + 2


@jit
def _answer_activemask(run: Run, warp: int) -> bool:
    """Let the lanes at one activemask go on, the group of the lowest waiting lane first."""
    rest = run[WAITING + warp]
    site = -1
    group = 0
    while rest:
        lane = lowest_bit(rest)
        rest &= rest - 1
        thread = thread_at(run, warp, lane)
        if load32(thread + YOP) == Yield.ACTIVEMASK:
            if site == -1:
                site = load32(thread + SITE)
            if load32(thread + SITE) == site:
                group |= 1 << lane
    if group == 0:
        return False
    _answer_all(thread_at(run, warp, 0), group, group)
    run[WAITING + warp] &= ~group
    run[READY + warp] |= group
    return True
