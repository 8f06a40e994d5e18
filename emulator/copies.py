"""Asynchronous copies (cp.async): checked when issued, landed when waited for.

Contract: an issue checks source and destination (bounds, alignment, initialised source, races
with everybody's accesses to the destination) and marks the destination pending; whoever touches a
pending byte is stopped (PENDING_COPY). The bytes move at the wait that covers the copy's group, and
from then on count as written by the issuing thread: other threads still need a barrier. Bytes past
the source size become zero. Groups follow PTX: wait_group N leaves the N latest committed groups
in flight, and uncommitted copies; wait_all waits for everything this thread issued.

A copy that its thread never waits for never lands: no other thread could rely on it, and what it
would have written stays pending. A block may end with such copies (hardware completes them into
memory that nobody reads any more), so that alone is no finding. COPY_IN_FLIGHT is reported where
more copies are in flight than can have destinations of their own.
"""

from __future__ import annotations

import numpy as np

from emulator import global_races
from emulator.layout import BUFFER, SHADOW_MIXED, SHADOW_PENDING, Fault, offset
from emulator.native import jit, load8, load32, load32s, load64, store8, store32, store64
from emulator.race_records import READ
from emulator.shadow import find_conflict, my_word, writer_word
from emulator.state import (
    ARGS,
    BUFFER_COUNT,
    BUFFERS,
    COPIES,
    COPY_BUFFER,
    COPY_CAPACITY,
    COPY_COUNT,
    COPY_ENDS,
    COPY_FREE,
    COPY_GROUP,
    COPY_USED,
    LINEAR,
    RACES,
    READERS,
    SHARED_AT,
    SHARED_SIZE,
    WRITERS,
    Run,
    fault,
)

COPY = np.dtype(  # one copy in flight
    [
        ("source", np.uint64),
        ("destination", np.uint32),  # shared offset
        ("size", np.uint32),
        ("source_size", np.uint32),
        ("group", np.uint32),
        ("next", np.int32),  # the thread's next copy, or the next free record; -1 = none
    ],
    align=True,
)
SMALLEST_COPY = 4  # bytes

_SIZE = COPY.itemsize
_SOURCE = offset(COPY, "source")
_DESTINATION = offset(COPY, "destination")
_BYTES = offset(COPY, "size")
_SOURCE_BYTES = offset(COPY, "source_size")
_GROUP = offset(COPY, "group")
_NEXT = offset(COPY, "next")
_BUFFER_START = offset(BUFFER, "start")
_BUFFER_SIZE = offset(BUFFER, "size")
_BUFFER_SHADOW = offset(BUFFER, "shadow")
_BUFFER_BYTES = BUFFER.itemsize


@jit
def reset(run: Run) -> None:
    """A new block: every record is free."""
    run[COPY_FREE] = -1
    run[COPY_USED] = 0
    run[COPY_BUFFER] = 0


@jit
def _take_record(run: Run) -> int:
    """Index of a free record, -1 if there is none."""
    index = run[COPY_FREE]
    if index != -1:
        run[COPY_FREE] = load32s(run[COPIES] + index * _SIZE + _NEXT)
    elif run[COPY_USED] < run[COPY_CAPACITY]:
        index = run[COPY_USED]
        run[COPY_USED] += 1
    return index


@jit
def issue(run: Run, thread: int) -> bool:
    """Queue this thread's copy; False after a finding."""
    args = thread + ARGS
    destination = load32(args)
    source = load32(args + 4) | load32(args + 8) << 32
    size = load32(args + 12)
    source_size = min(size, load32(args + 16))
    if run[WRITERS]:
        if not _source_allowed(run, thread, source, size, source_size):
            return False
        if not _destination_allowed(run, thread, destination, size):
            return False
    if run[RACES] and not _unraced(run, thread, source, source_size):
        return False
    index = _take_record(run)
    if index == -1:
        fault(run, Fault.COPY_IN_FLIGHT, thread, run[SHARED_AT] + destination, size, 1, 0)
        return False
    record = run[COPIES] + index * _SIZE
    store64(record + _SOURCE, source)
    store32(record + _DESTINATION, destination)
    store32(record + _BYTES, size)
    store32(record + _SOURCE_BYTES, source_size)
    store32(record + _GROUP, load32(thread + COPY_GROUP))
    store32(record + _NEXT, -1)
    _append(run, thread, index)
    return True


@jit
def _unraced(run: Run, thread: int, source: int, size: int) -> bool:
    """Whether nobody writes the source without order; notes the read."""
    state = run[RACES]
    if size == 0 or not global_races.access(state, thread, source, size, READ, 0):
        return True
    fault(run, Fault.GLOBAL_RACE, thread, source, size, 0, global_races.other(state))
    return False


@jit
def _append(run: Run, thread: int, index: int) -> None:
    """Make a record the last of its thread's queue."""
    ends = run[COPY_ENDS] + 8 * load32(thread + LINEAR)
    count = load32(thread + COPY_COUNT)
    if count == 0:
        store32(ends, index)
    else:
        store32(run[COPIES] + load32(ends + 4) * _SIZE + _NEXT, index)
    store32(ends + 4, index)
    store32(thread + COPY_COUNT, count + 1)


@jit
def commit(thread: int) -> None:
    store32(thread + COPY_GROUP, load32(thread + COPY_GROUP) + 1)


@jit
def wait(run: Run, thread: int, pending_groups: int) -> None:
    """Land this thread's copies, oldest first, but for its `pending_groups` latest groups."""
    count = load32(thread + COPY_COUNT)
    if count == 0:
        return
    first_kept = load32(thread + COPY_GROUP) - pending_groups  # wait_all: past the open group
    ends = run[COPY_ENDS] + 8 * load32(thread + LINEAR)
    index = load32s(ends)
    while count and load32(run[COPIES] + index * _SIZE + _GROUP) < first_kept:
        record = run[COPIES] + index * _SIZE
        _land(run, thread, record)
        following = load32s(record + _NEXT)
        store32(record + _NEXT, run[COPY_FREE])
        run[COPY_FREE] = index
        index = following
        count -= 1
    store32(ends, index)
    store32(thread + COPY_COUNT, count)


@jit
def _land(run: Run, thread: int, record: int) -> None:
    source = load64(record + _SOURCE)
    start = load32(record + _DESTINATION)
    size = load32(record + _BYTES)
    source_size = load32(record + _SOURCE_BYTES)
    shared = run[SHARED_AT] + start
    if source_size == size and size == 16:
        store64(shared, load64(source))
        store64(shared + 8, load64(source + 8))
    else:
        for at in range(size):
            store8(shared + at, load8(source + at) if at < source_size else 0)
    if run[WRITERS]:
        _fill_words(run[WRITERS] + start, my_word(run, thread), size)


@jit
def _source_allowed(run: Run, thread: int, source: int, size: int, source_size: int) -> bool:
    if source & (size - 1):
        fault(run, Fault.MISALIGNED, thread, source, size, 0, 0)
        return False
    if source_size == 0:
        return True
    index = run[COPY_BUFFER]  # most copies read where the last one did
    for turn in range(run[BUFFER_COUNT]):
        if turn:
            index = index + 1 if index + 1 < run[BUFFER_COUNT] else 0
        buffer = run[BUFFERS] + index * _BUFFER_BYTES
        at = source - load64(buffer + _BUFFER_START)
        if at < 0 or at + source_size > load64(buffer + _BUFFER_SIZE):
            continue
        run[COPY_BUFFER] = index
        shadow = load64(buffer + _BUFFER_SHADOW)
        if shadow:
            for byte in range(at, at + source_size):
                if not load8(shadow + byte):
                    fault(run, Fault.UNINITIALISED, thread, source, source_size, 0, 0)
                    return False
        return True
    fault(run, Fault.OUT_OF_BOUNDS, thread, source, source_size, 0, 0)
    return False


@jit
def _destination_allowed(run: Run, thread: int, start: int, size: int) -> bool:
    """Check the destination against everybody's accesses, then mark it pending.

    Mixed granules lose their readers. The check passed, so these are ordered before the copy, and
    whoever is not ordered behind them is not ordered behind what the copy leaves either.
    """
    address = run[SHARED_AT] + start
    if start & (size - 1):
        fault(run, Fault.MISALIGNED, thread, address, size, 1, 0)
        return False
    if start + size > run[SHARED_SIZE]:
        fault(run, Fault.OUT_OF_BOUNDS, thread, address, size, 1, 0)
        return False
    writers = run[WRITERS] + start
    alike = _alike(writers, size) and _alike(run[READERS] + start, size)
    alike = alike and load32(writers) != SHADOW_MIXED
    looked_at = 1 if alike else size
    for byte in range(start, start + looked_at):
        if writer_word(run, byte) == SHADOW_PENDING:
            fault(run, Fault.PENDING_COPY, thread, address, size, 1, 0)
            return False
    other = find_conflict(run, thread, start, looked_at, 1)
    if other:
        fault(run, Fault.RACE, thread, address, size, 1, other)
        return False
    _fill_words(writers, SHADOW_PENDING, size)
    return True


@jit
def _alike(words: int, size: int) -> bool:
    """Whether the words of `size` bytes' granules are all the same, as after an earlier copy."""
    first = load32(words)
    differences = 0
    for at in range(4, size, 4):
        differences |= load32(words + at) ^ first
    return differences == 0


@jit
def _fill_words(words: int, value: int, size: int) -> None:
    """Set the words of `size` bytes' granules."""
    for at in range(0, size, 4):
        store32(words + at, value)
