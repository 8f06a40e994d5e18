"""Runs a kernel's blocks on one core: one after another, or in turns.

Contract: `run_blocks(run, first, last)` executes the blocks first .. last-1 of the launch described
by `run` (state.py), in natural order or in the order at BLOCK_ORDER, and stops at the first block
with a finding. `take_turn(run, block, sweeps)` lets one block of a cooperative launch, which has a
`run` of its own, go on for a while (cooperative.py). Within a block a warp runs until all of its
lanes wait or have exited, then the next one does; RANDOM permutes warps and lanes anew for every
sweep, which must not change the results of a kernel without races. After a first finding every
other ready thread of the block runs once more, to count how many are concerned; nothing is released
any more.

Blocks that wait for each other run out of fuel in `run_blocks`.
"""

from __future__ import annotations

from emulator import barriers, collectives, copies, global_races, shadow
from emulator.layout import WARP, Fault, Yield
from emulator.native import (
    call_step,
    entry,
    fill,
    jit,
    load32,
    load32s,
    load64,
    lowest_bit,
    store32,
    store64,
)
from emulator.state import (
    ARGS,
    ARRIVED,
    AT_BARRIER,
    BARRIERS,
    BLOCK,
    BLOCK_ORDER,
    CONTEXT_AT,
    COPY_COUNT,
    COPY_GROUP,
    CTAID,
    EXITED,
    EXITED_COUNT,
    FAULT_COUNT,
    FRAME_SIZE,
    FRAMES,
    FUEL,
    GRID_X,
    GRID_Y,
    LANE_ORDER,
    LANES,
    PAUSED,
    RACES,
    RANDOM,
    READY,
    RESUME,
    SHARED_AT,
    SHARED_SIZE,
    STEP,
    STOP,
    THREAD_COUNT,
    THREAD_FUEL,
    THREAD_SIZE,
    THREADS,
    TOUCHED,
    WAITING,
    WARP_COUNT,
    WARP_ORDER,
    YOP,
    Run,
    fault,
    thread_at,
)

POISON = 0xA5
FUEL_AFTER_A_FAULT = 1 << 16
PAUSE_FUEL = 100  # a thread that polls memory gives way every time, which takes longer

PATIENCE = 4  # sweeps in a row in which a block only polls, before its turn ends

# What a sweep came to.
STUCK = 0  # no thread could run
POLLED = 1  # threads ran, and did nothing that a thread of their block waits for
MOVED = 2  # a barrier or collective was performed, or a thread exited
# What a turn came to, besides MOVED.
FINISHED = 4
FOUND = 8


@entry
def run_blocks(run: Run, first: int, last: int) -> int:
    """Execute blocks; returns how many threads of the last one executed stopped at a finding."""
    for position in range(first, last):
        block = load64(run[BLOCK_ORDER] + 8 * position) if run[BLOCK_ORDER] else position
        _start_block(run, block)
        while run[FAULT_COUNT] == 0 and _sweep(run) != STUCK:
            pass
        if run[FAULT_COUNT] == 0 and run[EXITED_COUNT] < run[THREAD_COUNT]:
            _report_stall(run)
        if run[FAULT_COUNT]:
            break
    return run[FAULT_COUNT]


@entry
def take_turn(run: Run, block: int, sweeps: int) -> int:
    """Let a block go on until all it does is poll memory, or for so many sweeps.

    Its first turn starts it. Returns FINISHED and MOVED as bits, or FOUND after a finding.
    """
    if run[BLOCK] != block:
        _start_block(run, block)
    if run[RACES]:
        global_races.go_on(run[RACES], block)
    moved = 0
    idle = 0
    last = POLLED
    while sweeps > 0 and idle < PATIENCE and last != STUCK and run[FAULT_COUNT] == 0:
        last = _sweep(run)
        moved |= last & MOVED
        idle = idle + 1 if last == POLLED else 0
        sweeps -= 1
    if run[FAULT_COUNT]:
        return FOUND
    if run[EXITED_COUNT] == run[THREAD_COUNT]:
        return FINISHED | moved
    if last == STUCK:
        _report_stall(run)
        return FOUND
    return moved


@jit
def _sweep(run: Run) -> int:
    """Run each warp of the block until all of its lanes wait: STUCK, POLLED or MOVED."""
    exited = run[EXITED_COUNT]
    ran = False
    moved = False
    if run[RANDOM]:
        _permute(run, WARP_ORDER, run[WARP_COUNT])
        _permute(run, LANE_ORDER, WARP)
    for turn in range(run[WARP_COUNT]):
        warp = run[WARP_ORDER + turn]
        run[READY + warp] |= run[PAUSED + warp]
        run[PAUSED + warp] = 0
        while True:
            if _run_lanes(run, warp):
                ran = True
            elif collectives.complete(run, warp):
                moved = True
            else:
                break
        if run[TOUCHED] and run[FAULT_COUNT] == 0 and barriers.release(run):
            moved = True
    if moved or run[EXITED_COUNT] != exited:
        return MOVED
    return POLLED if ran else STUCK


@jit
def _start_block(run: Run, block: int) -> None:
    run[BLOCK] = block
    context = run[CONTEXT_AT]
    store32(context + CTAID, block % run[GRID_X])
    store32(context + CTAID + 4, block // run[GRID_X] % run[GRID_Y])
    store32(context + CTAID + 8, block // run[GRID_X] // run[GRID_Y])
    fill(run[SHARED_AT], POISON, run[SHARED_SIZE])
    shadow.reset(run)
    copies.reset(run)
    if run[RACES]:
        global_races.start_block(run[RACES], block)
    for index in range(run[THREAD_COUNT]):
        thread = run[THREADS] + index * THREAD_SIZE
        store32(thread + RESUME, 0)
        store64(thread + THREAD_FUEL, run[FUEL])
        store32(thread + COPY_GROUP, 0)
        store32(thread + COPY_COUNT, 0)
    for warp in range(run[WARP_COUNT]):
        run[READY + warp] = run[LANES + warp]
        run[WAITING + warp] = 0
        run[AT_BARRIER + warp] = 0
        run[PAUSED + warp] = 0
        run[EXITED + warp] = 0
    for barrier in range(BARRIERS):
        run[ARRIVED + barrier] = 0
    run[EXITED_COUNT] = 0
    run[TOUCHED] = 0


@jit
def _run_lanes(run: Run, warp: int) -> bool:
    """Run each ready lane of a warp until it leaves the READY set; True if there was one."""
    ready = run[READY + warp]
    for position in range(WARP if ready else 0):
        lane = run[LANE_ORDER + position]
        if not ready >> lane & 1 or run[STOP]:
            continue
        index = warp * WARP + lane
        thread = run[THREADS] + index * THREAD_SIZE
        frame = run[FRAMES] + index * run[FRAME_SIZE]
        if run[FAULT_COUNT]:
            store64(thread + THREAD_FUEL, min(load64(thread + THREAD_FUEL), FUEL_AFTER_A_FAULT))
        while True:
            call_step(run[STEP], thread, frame, run[CONTEXT_AT])
            if not _settle(run, warp, lane, thread):
                break
    return ready != 0 and run[STOP] == 0


@jit
def _settle(run: Run, warp: int, lane: int, thread: int) -> bool:
    """Act on why `step` returned; True if the thread may go on at once."""
    op = load32(thread + YOP)
    bit = 1 << lane
    if Yield.SHUFFLE <= op <= Yield.LDMATRIX or op >= Yield.MMA_FLOAT:
        run[WAITING + warp] |= bit
    elif op == Yield.BARRIER:
        if not barriers.arrive(run, warp, lane):
            run[EXITED + warp] |= bit
    elif op == Yield.COPY_ISSUE:
        if copies.issue(run, thread):
            return True
        run[EXITED + warp] |= bit
    elif op == Yield.COPY_COMMIT:
        copies.commit(thread)
        return True
    elif op == Yield.COPY_WAIT:
        copies.wait(run, thread, load32s(thread + ARGS))
        return True
    elif op == Yield.PAUSE:
        run[PAUSED + warp] |= bit
        store64(thread + THREAD_FUEL, load64(thread + THREAD_FUEL) - PAUSE_FUEL)
    else:
        if op == Yield.FAULT:
            _record(run, thread)
        elif op == Yield.TRAP:
            fault(run, Fault.TRAP, thread, 0, 0, 0, 0)
        run[EXITED + warp] |= bit
        run[EXITED_COUNT] += 1
    run[READY + warp] &= ~bit
    return False


@jit
def _record(run: Run, thread: int) -> None:
    """A check inside `step` failed."""
    args = thread + ARGS
    kind = load32(args)
    address = load32(args + 4) | load32(args + 8) << 32
    size = load32(args + 12)
    store = load32(args + 16)
    other = 0
    if kind == Fault.RACE:
        other = shadow.find_conflict(run, thread, address - run[SHARED_AT], size, store)
    elif kind == Fault.GLOBAL_RACE:
        other = global_races.other(run[RACES])
    fault(run, kind, thread, address, size, store, other)


@jit
def _report_stall(run: Run) -> None:
    """Nothing can run: name the first waiting thread; stall.py finds out why."""
    for warp in range(run[WARP_COUNT]):
        if run[EXITED + warp] != run[LANES + warp]:
            stuck = run[LANES + warp] & ~run[EXITED + warp]
            fault(run, Fault.DEADLOCK, thread_at(run, warp, lowest_bit(stuck)), 0, 0, 0, 0)
            return


@jit
def _permute(run: Run, start: int, count: int) -> None:
    """Shuffle run[start : start + count] (Fisher-Yates, xorshift64)."""
    state = run[RANDOM]
    for last in range(count - 1, 0, -1):
        state ^= state << 13
        state ^= (state >> 7) & 0x1FFFFFFFFFFFFFF
        state ^= state << 17
        other = (state & 0x7FFFFFFF) % (last + 1)
        run[start + last], run[start + other] = run[start + other], run[start + last]
    run[RANDOM] = state
