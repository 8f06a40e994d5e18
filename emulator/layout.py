"""Memory layouts and numbers that compiled kernels (LLVM IR) and the scheduler (Numba) share.

Contract: a kernel is compiled to `void step(ptr THREAD, ptr FRAME, ptr CONTEXT)`. `step` runs one
thread from its resume point until it must wait or stop: it stores why in `THREAD.yop`, the site
(index into the kernel's instruction table) in `THREAD.site`, its operands in `THREAD.args`, the
place to go on in `THREAD.resume`, and returns. The scheduler answers in `THREAD.results`.

Every record is a NumPy structured dtype; the IR takes field offsets from it, so that no offset is
written twice.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

WARP = 32
MAX_ARGS = 40
MAX_RESULTS = 16


class Yield(IntEnum):
    """Why `step` returned."""

    EXIT = 0
    FAULT = 1  # args: Fault kind, address low, address high, size in bytes, is_store
    BARRIER = 2  # args: barrier id, thread count (0 = all), aligned, Reduction (-1 = none), value
    # `value` is the thread's predicate (0 or 1); a reduction's answer comes back in results[0]
    SHUFFLE = 3  # args: member mask, mode (up, down, bfly, idx), value, b, c
    VOTE = 4  # args: member mask, mode (all, any, uni, ballot), predicate
    REDUX = 5  # args: member mask, mode (add, min, max, and, or, xor) | 8 if signed, value
    MATCH = 6  # args: member mask, mode (any, all), value low, value high
    WARPSYNC = 7  # args: member mask
    ACTIVEMASK = 8  # args: none
    MMA_INT8 = 9  # m16n8k32: args: a0-a3, b0-b1, c0-c3, 1 if A is u8 | 2 if B is | 4 to
    # clamp (.satfinite); results: d0-d3
    LDMATRIX = 10  # args: count | 8 if transposed, shared offset of this lane's row; results: 1-4
    COPY_ISSUE = 11  # cp.async: args: dst offset, src low, src high, size, source size
    COPY_COMMIT = 12
    COPY_WAIT = 13  # args: groups that may stay pending (-1 = wait_all)
    PAUSE = 14  # nanosleep and the like: let others run
    TRAP = 15
    MMA_FLOAT = 16  # m16n8k16: args: a0-a7, b0-b3, c0-c3 as f32; results: d0-d3 as f32
    STMATRIX = 17  # args: count | 8 if transposed, shared offset of this lane's row, words 1-4
    WGMMA = 18  # args: see wgmma.py; results: in the threads' frames


# The modes in `args`, in the order in which the comments of Yield name them.
class ShuffleMode(IntEnum):
    UP = 0
    DOWN = 1
    BFLY = 2
    IDX = 3


class VoteMode(IntEnum):
    ALL = 0
    ANY = 1
    UNI = 2
    BALLOT = 3


class ReduxMode(IntEnum):
    ADD = 0
    MIN = 1
    MAX = 2
    AND = 3
    OR = 4
    XOR = 5


class MatchMode(IntEnum):
    ANY = 0
    ALL = 1


class Reduction(IntEnum):
    """What bar.red computes over all participating threads' predicates."""

    POPC = 0
    AND = 1
    OR = 2


# Who does what, where Yield's comments leave it open:
# - addresses in FAULT are what the instruction dereferenced: host addresses (shared ones included:
#   CONTEXT.shared + offset). A RACE fault leaves the shadow words that it met as they were: the
#   scheduler reads the other thread from them. A FUEL fault may set `resume` to the loop's head; it
#   still stops.
# - the scheduler answers SHUFFLE in results[0] value, [1] predicate; VOTE, REDUX in [0]; MATCH in
#   [0] mask, [1] predicate (all); ACTIVEMASK in [0].
# - LDMATRIX, STMATRIX: `step` checks (and traces) the 16-byte row of each lane < 8 * count before
#   it yields; the other lanes' addresses are ignored, as in hardware.
# - COPY_ISSUE: the scheduler does every check; `step` only traces.
# - shared memory orders between threads of one warp only at WARPSYNC (shfl, vote, mma and the like
#   promise no memory order in PTX), between warps at BARRIER.
class Fault(IntEnum):
    """What a check found. The scheduler turns it into words."""

    OUT_OF_BOUNDS = 0
    MISALIGNED = 1
    UNINITIALISED = 2
    RACE = 3
    PENDING_COPY = 4  # a cp.async destination touched before its wait
    DEADLOCK = 5
    DIVERGENT_BARRIER = 6
    EARLY_EXIT = 7  # a barrier or collective names threads that have exited
    BAD_MASK = 8  # a lane outside its own member mask, or lanes that disagree
    SHUFFLE_SOURCE = 9  # shfl reads a lane that is not a member
    FUEL = 10  # a thread ran longer than allowed
    TRAP = 11
    SHARED_LIMIT = 12
    COPY_IN_FLIGHT = 13  # more asynchronous copies than shared memory has room for
    GLOBAL_RACE = 14  # two threads, one byte of global memory, nothing between (global_races.py)


THREAD = np.dtype(
    [
        ("tid", np.uint32, 3),
        ("lane", np.uint32),
        ("warp", np.uint32),
        ("linear", np.uint32),
        ("resume", np.uint32),
        ("yop", np.uint32),
        ("site", np.uint32),
        ("state", np.uint32),  # scheduler's own: READY, WAITING, DONE
        ("fuel", np.int64),  # loop iterations left
        ("args", np.uint32, MAX_ARGS),
        ("results", np.uint32, MAX_RESULTS),
        ("copy_group", np.uint32),
        ("copy_count", np.uint32),
    ],
    align=True,
)

BUFFER = np.dtype(  # one per allowed address range
    [
        ("start", np.uint64),
        ("size", np.uint64),
        ("shadow", np.uint64),  # address of one byte per byte, 1 = written; 0 = all is initialised
    ],
    align=True,
)

CONTEXT = np.dtype(
    [
        ("ntid", np.uint32, 3),
        ("nctaid", np.uint32, 3),
        ("ctaid", np.uint32, 3),
        ("buffer_count", np.uint32),
        ("params", np.uint64),  # address of the kernel's parameter bytes
        ("shared", np.uint64),  # address of this block's shared memory, 1024-aligned
        ("shared_size", np.uint32),  # static + dynamic bytes
        ("dynamic_shared_size", np.uint32),
        ("buffers", np.uint64),  # BUFFER[buffer_count]
        ("site_cache", np.uint64),  # BUFFER[sites]: step's own (prelude_global.py); zeros at first
        ("coverage", np.uint64),  # uint64[basic blocks]: times each was entered, by any thread
        ("writer_shadow", np.uint64),  # uint32[granules]: see shadow word below; 0 = checks off
        ("reader_shadow", np.uint64),
        ("byte_writers", np.uint64),  # uint32[4 * granules]: the bytes of mixed granules
        ("byte_readers", np.uint64),
        ("trace", np.uint64),  # TRACE[trace_capacity]; 0 = off
        ("trace_count", np.uint64),
        ("trace_capacity", np.uint64),
        ("epoch", np.uint32),  # FIRST_EPOCH + barriers released so far in this block
        ("races", np.uint64),  # address of the state of global_races.py; 0 = off
        ("race_check", np.uint64),  # address of its `access`
        ("warp_epoch", np.uint32, WARP),  # per warp: warp-level synchronisations since then
    ],
    align=True,
)

TRACE = np.dtype(  # one memory access of one thread
    [
        ("address", np.uint64),
        ("site", np.uint32),
        ("thread", np.uint32),
        ("size", np.uint16),
        ("kind", np.uint16),  # bit 0 store, bit 1 shared
        ("block", np.uint32),
    ],
    align=True,
)

# A shadow word says who touched a byte of shared memory last, and when:
#   bits 0-10 epoch (0 = never), 11-19 warp epoch, 20-24 lane, 25-29 warp,
#   bit 30: several lanes of one warp, bit 31: several warps (reader words).
# A writer word of all ones marks a cp.async destination that has not landed yet.
#
# Shared memory is watched in granules of four bytes, each with one writer and one reader word that
# hold for all four of its bytes. Where they differ the granule is mixed: its writer word is
# SHADOW_MIXED, its reader word 0, and the words of its bytes lie in the byte shadow (which means
# nothing elsewhere). A writer word has its highest bit set only if pending or mixed.
#
# A reader word of the running epoch with bit 31, or with bit 30 and the reader's own warp and warp
# epoch, says by itself that one more read there is right and leaves no new trace: any write after
# the reads that made it, a copy's too, would have been a race.
GRANULE = 4
SHADOW_EPOCH_BITS = 11
SHADOW_WARP_EPOCH_BITS = 9
# Epoch 1 is "long ago": written, and ordered before everything that runs now.
SHADOW_PENDING = 0xFFFFFFFF
SHADOW_MIXED = 0xFFFFFFFE
OLD_EPOCH = 1
FIRST_EPOCH = 2


def offset(record: np.dtype, field: str) -> int:
    """Byte offset of a field in one of the records above."""
    fields = record.fields
    assert fields is not None
    return int(fields[field][1])
