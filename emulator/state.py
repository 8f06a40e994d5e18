"""The scheduler's own state: one int64 array `run`, indexed by the names below.

Contract: `launch.py` fills the first group before a launch and keeps the arrays behind the
addresses alive; the scheduler owns the rest. Lane sets are bit masks, one word per warp.
A lane of a running block is in exactly one set: READY, WAITING (at a warp collective), AT_BARRIER,
PAUSED or EXITED (faulted threads included).
"""

from __future__ import annotations

import numpy as np

from emulator.layout import CONTEXT, THREAD, WARP, Fault, offset
from emulator.native import jit, load32

Run = np.ndarray
WARPS = 32  # 1024 threads at most
BARRIERS = 16

# Set before a launch.
(
    STEP,  # address of the kernel's step function
    THREADS,  # address of THREAD[thread_count]
    THREAD_COUNT,
    WARP_COUNT,
    FRAMES,
    FRAME_SIZE,
    CONTEXT_AT,  # address of CONTEXT
    SHARED_AT,
    SHARED_SIZE,
    WRITERS,  # address of the writer words of granules, 0 = checks off
    READERS,
    BYTE_WRITERS,  # of bytes
    BYTE_READERS,
    BUFFERS,  # address of BUFFER[buffer_count]
    BUFFER_COUNT,
    COPIES,  # address of COPY[copy_capacity]
    COPY_CAPACITY,
    COPY_ENDS,  # address of int32 (thread_count, 2): first and last copy in flight of each thread
    SCRATCH,  # address of tensor.SCRATCH_BYTES, 64-byte aligned
    BLOCK_ORDER,  # address of int64[blocks], 0 = natural order
    GRID_X,
    GRID_Y,
    FUEL,
    RANDOM,  # 0 = natural order of warps and lanes, else the generator's state
    # The scheduler's.
    BLOCK,  # linear index of the running block, -1 = none yet
    EXITED_COUNT,
    TOUCHED,  # some thread arrived at a barrier since barriers were last looked at
    COPY_FREE,  # head of the list of COPY records given back, -1 = none
    COPY_USED,  # records handed out so far, from the first
    COPY_BUFFER,  # index of the buffer that the latest copy read
    STOP,  # no thread may run any more
    FAULT_COUNT,  # how many threads stopped at a finding
    FAULT_KIND,  # the first finding, in the order of execution
    FAULT_THREAD,
    FAULT_SITE,
    FAULT_ADDRESS,
    FAULT_SIZE,
    FAULT_STORE,
    RACES,  # address of the state of global_races.py, 0 = off
    FAULT_OTHER,  # RACE: the shadow word; collectives and barriers: a mask of lanes, or a lane
) = range(40)

READY = 64
WAITING = READY + WARPS
AT_BARRIER = WAITING + WARPS
PAUSED = AT_BARRIER + WARPS
EXITED = PAUSED + WARPS
LANES = EXITED + WARPS  # the lanes that exist
WARP_ORDER = LANES + WARPS
LANE_ORDER = WARP_ORDER + WARPS
VALUES = LANE_ORDER + WARP  # operands of the collective being performed
ARRIVED = VALUES + WARP  # per barrier: threads waiting there
EXPECTED = ARRIVED + BARRIERS  # per barrier: how many threads it counts, a multiple of 32
RUN_WORDS = EXPECTED + BARRIERS

THREAD_SIZE = THREAD.itemsize
ARGS = offset(THREAD, "args")
RESULTS = offset(THREAD, "results")
SITE = offset(THREAD, "site")
YOP = offset(THREAD, "yop")
LINEAR = offset(THREAD, "linear")
LANE = offset(THREAD, "lane")
WARP_ID = offset(THREAD, "warp")
EPOCH = offset(CONTEXT, "epoch")
WARP_EPOCH = offset(CONTEXT, "warp_epoch")
RESUME = offset(THREAD, "resume")
THREAD_FUEL = offset(THREAD, "fuel")
COPY_GROUP = offset(THREAD, "copy_group")
COPY_COUNT = offset(THREAD, "copy_count")
CTAID = offset(CONTEXT, "ctaid")


@jit
def thread_at(run: Run, warp: int, lane: int) -> int:
    """Address of a thread's record."""
    return run[THREADS] + (warp * WARP + lane) * THREAD_SIZE


@jit
def fault(
    run: Run, kind: int, thread: int, address: int, size: int, store: int, other: int
) -> None:
    """Count a finding and keep the first; only the first finding's own kind can be FUEL."""
    if run[FAULT_COUNT] == 0:
        run[FAULT_KIND] = kind
        run[FAULT_THREAD] = load32(thread + LINEAR)
        run[FAULT_SITE] = load32(thread + SITE)
        run[FAULT_ADDRESS] = address
        run[FAULT_SIZE] = size
        run[FAULT_STORE] = store
        run[FAULT_OTHER] = other
    if kind == Fault.FUEL:
        run[STOP] = 1
        if run[FAULT_COUNT] > 0:
            return
    run[FAULT_COUNT] += 1
