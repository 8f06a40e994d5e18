"""Races on global memory: two threads, one byte, one of them writing plainly, nothing between.

Contract: every byte of a launch's buffers has a record of its last writer and of its last readers
(one of the latest block, one of another). An access races with one of those if nothing orders the
two and they are not both strong (atomic, volatile, relaxed, acquire, release):
  threads of one block   ordered by a block barrier, within a warp by `bar.warp.sync`, or where the
                         first released (below) after its access and the second acquired after it
  threads of two blocks  ordered where the first block released the access on some location and the
                         second has acquired from that location since
A *release* is an atomic or strong write behind a fence of gpu scope (`__threadfence`), or one that
is .release itself. It publishes what the block did before its last barrier, and what the releasing
warp did, as far as fences cover it: a fence covers its own warp's accesses, and everybody's before
the last barrier. An *acquire* is an atomic or strong read of a location that was released; it holds
for the whole block, and orders are passed on.

What this does not see: the acquiring side's own fence and the barrier behind it are not asked for;
a warp's lanes release together; of several warps of one block that release on one location without
a barrier the latest counts for itself, for the others only what all had fenced; of all readers of a
byte two are known; a plain write after a strong read. Times have 30 bits, blocks 21.

An atomic whose result is used has seen all atomics before it on that address; one whose result is
not (`red`) has not: who then reads the sum plainly must be ordered with the others who added.
Time is one counter, which barriers, fences and atomics advance; accesses bear its value.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from emulator.layout import THREAD, offset
from emulator.native import c_entry, jit, load32, load64, store64
from emulator.race_records import (
    ACQUIRED,
    ALL,
    ATOMIC,
    BARRIER,
    BLOCK,
    BLOCK_AT,
    BLOCK_STATES,
    BLOCK_WORDS,
    BLOCKS,
    BUFFERS,
    COUNT,
    ENTRY,
    FENCES,
    KEYS,
    KNOWN,
    LANE_AT,
    LATEST,
    LIVE,
    NOW,
    OTHER,
    OTHER_READ,
    OWN,
    OWN_WARP,
    READ,
    READER,
    REDUCE,
    RELEASED,
    ROW_COUNT,
    ROWS,
    SEVERAL,
    SEVERAL_LANES,
    SEVERAL_WARPS,
    SINCE,
    STAMP,
    STRONG,
    STRONG_READ,
    STRONG_WRITE,
    SYNCED,
    TIME,
    TOUCHED,
    UNFENCED,
    WARP_AT,
    WHO,
    WORDS,
)

_LANE, _WARP = offset(THREAD, "lane"), offset(THREAD, "warp")


@jit
def _get(state: int, word: int) -> int:
    return load64(state + 8 * word)


@jit
def _mine(state: int) -> int:
    """Address of the running block's state."""
    live = _get(state, BLOCK) if _get(state, LIVE) > 1 else 0
    return _get(state, BLOCK_STATES) + 8 * BLOCK_WORDS * live


@jit
def _known(state: int, other: int) -> int:
    """Address of what the running block knows of another."""
    live = _get(state, BLOCK) if _get(state, LIVE) > 1 else 0
    return _get(state, KNOWN) + 8 * ENTRY * (live * _get(state, BLOCKS) + other)


@jit
def _tick(state: int) -> int:
    """The time until now; later accesses bear a later one."""
    now = _get(state, NOW)
    store64(state + 8 * NOW, min(now + 1, TIME))
    return now


@jit
def start_block(state: int, block: int) -> None:
    """A block begins. What the one before it did in this state is forgotten."""
    store64(state + 8 * BLOCK, block)
    _tick(state)
    mine = _mine(state)
    for word in range(BLOCK_WORDS):
        store64(mine + 8 * word, 0)


@jit
def go_on(state: int, block: int) -> None:
    """A block of a cooperative launch has its turn."""
    store64(state + 8 * BLOCK, block)


@jit
def other(state: int) -> int:
    """The word of the access that the latest one races with.

    READER is set if it read, SEVERAL if others of its block did so as well.
    """
    word = _get(state, OTHER)
    who = word & (SEVERAL_LANES - 1)
    if _get(state, OTHER_READ) == 0:
        return who
    return who | READER | (SEVERAL if word & (SEVERAL_LANES | SEVERAL_WARPS) else 0)


@jit
def barrier(state: int) -> None:
    """A barrier of the running block was released."""
    mine = _mine(state)
    store64(mine + 8 * BARRIER, _tick(state))
    for warp in range(32):
        store64(mine + 8 * (SINCE + warp), 0)


@jit
def warp_sync(state: int, warp: int) -> None:
    """Lanes of a warp were synchronised."""
    store64(_mine(state) + 8 * (SYNCED + warp), _tick(state))


@jit
def _fence(state: int, warp: int) -> None:
    mine = _mine(state)
    _tick(state)
    store64(mine + 8 * FENCES, 1)
    last = load64(mine + 8 * BARRIER)
    store64(mine + 8 * (UNFENCED + warp), 0)
    for other in range(32):
        first = load64(mine + 8 * (UNFENCED + other))
        if first and first <= last:
            later = load64(mine + 8 * (TOUCHED + other)) > last
            store64(mine + 8 * (UNFENCED + other), last + 1 if later else 0)


@jit
def _row(state: int, address: int, make: bool) -> int:
    """Address of a location's entries, 0 if it has none. Where there is no room, the last row."""
    rows, keys = _get(state, ROW_COUNT), _get(state, KEYS)
    size, first = 8 * ENTRY * _get(state, BLOCKS), (address >> 2) % rows
    for step in range(rows):
        place = (first + step) % rows
        key = load64(keys + 16 * place)
        if key == address:
            return _get(state, ROWS) + size * place
        if key == 0:
            if not make:
                return 0
            store64(keys + 16 * place, address)
            return _get(state, ROWS) + size * place
    return _get(state, ROWS) + size * first


@jit
def _learn(entry: int, stamp: int, until: int, warp: int, own: int) -> None:
    """Add to an entry: all until a time, and one warp until another."""
    if load64(entry + 8 * STAMP) != stamp:
        store64(entry + 8 * STAMP, stamp)
        store64(entry + 8 * ALL, 0)
        store64(entry + 8 * OWN, 0)
    store64(entry + 8 * ALL, max(until, load64(entry + 8 * ALL)))
    if own > load64(entry + 8 * OWN):
        store64(entry + 8 * OWN, own)
        store64(entry + 8 * OWN_WARP, warp)


@jit
def _release(state: int, warp: int, address: int) -> None:
    """An atomic or strong write: it tells the location what fences cover."""
    mine, now = _mine(state), _get(state, NOW)
    if load64(mine + 8 * FENCES) == 0:
        return
    first = load64(mine + 8 * (UNFENCED + warp))
    own = now if first == 0 else first - 1
    until = own
    for other in range(32):
        if other != warp:
            loose = load64(mine + 8 * (SINCE + other))
            if loose:
                until = min(until, loose - 1)
            loose = load64(mine + 8 * (UNFENCED + other))
            if loose:
                until = min(until, loose - 1)
    if first == 0:
        store64(mine + 8 * (SINCE + warp), 0)
        store64(mine + 8 * (RELEASED + warp), now)
    row = _row(state, address, True)
    blocks, me = _get(state, BLOCKS), _get(state, BLOCK)
    for other in range(blocks):  # pass on what is known of others
        entry = _known(state, other)
        if load64(entry + 8 * STAMP) == me + 1:
            warp_known, own_known = load64(entry + 8 * OWN_WARP), load64(entry + 8 * OWN)
            _learn(row + 8 * ENTRY * other, 1, load64(entry + 8 * ALL), warp_known, own_known)
    _learn(row + 8 * ENTRY * me, 1, until, warp, own)
    _tick(state)


@jit
def _acquire(state: int, warp: int, address: int) -> None:
    """An atomic or strong read: the block learns what the location was told."""
    store64(_mine(state) + 8 * (ACQUIRED + warp), _get(state, NOW))
    row = _row(state, address, False)
    if row == 0:
        return
    me = _get(state, BLOCK)
    for other in range(_get(state, BLOCKS)):
        entry = row + 8 * ENTRY * other
        if other != me and load64(entry + 8 * STAMP):
            told_warp, told = load64(entry + 8 * OWN_WARP), load64(entry + 8 * OWN)
            _learn(_known(state, other), me + 1, load64(entry + 8 * ALL), told_warp, told)


@jit
def _ordered(state: int, word: int, me: int, reader: bool) -> bool:
    """Whether the access that left `word` comes before one by `me` for certain."""
    when, block, warp = word & TIME, (word >> BLOCK_AT & (1 << 21) - 1) - 1, word >> WARP_AT & 31
    my_warp = me >> WARP_AT & 31
    warps = reader and word & SEVERAL_WARPS != 0
    if block != _get(state, BLOCK):
        entry = _known(state, block)
        told = load64(entry + 8 * STAMP) == _get(state, BLOCK) + 1
        own = load64(entry + 8 * OWN_WARP) == warp and when <= load64(entry + 8 * OWN)
        return told and (when <= load64(entry + 8 * ALL) or (own and not warps))
    mine = _mine(state)
    if when <= load64(mine + 8 * BARRIER):
        return True
    if not warps and warp == my_warp:
        alone = not (reader and word & SEVERAL_LANES)
        if alone and word & WHO == me & WHO:
            return True
        if when <= load64(mine + 8 * (SYNCED + warp)):
            return True
    released = load64(mine + 8 * (RELEASED + warp)) >= when and not warps
    return released and load64(mine + 8 * (ACQUIRED + my_warp)) >= when


@jit
def _clash(state: int, word: int, me: int, reader: bool) -> bool:
    """Remember the other access if nothing orders the two."""
    if word == 0 or _ordered(state, word, me, reader):
        return False
    store64(state + 8 * OTHER, word)
    store64(state + 8 * OTHER_READ, 1 if reader else 0)
    return True


@jit
def _merged(state: int, word: int, me: int) -> int:
    """The reader word of the running block after one more read."""
    mine = _mine(state)
    if word & TIME <= load64(mine + 8 * BARRIER):
        return me
    if word & SEVERAL_WARPS or word >> WARP_AT & 31 != me >> WARP_AT & 31:
        return me | SEVERAL_WARPS
    if word & TIME <= load64(mine + 8 * (SYNCED + (me >> WARP_AT & 31))):
        return me
    several = word & SEVERAL_LANES != 0 or word & WHO != me & WHO
    return me | SEVERAL_LANES if several else me


@jit
def _shadow(state: int, address: int) -> int:
    """Address of a byte's record, 0 if no buffer holds it."""
    table, latest, count = _get(state, BUFFERS), _get(state, LATEST), _get(state, COUNT)
    for step in range(count + 1 if count else 0):
        index = latest if step == 0 else step - 1
        entry = table + 24 * index
        place = address - load64(entry)
        if 0 <= place < load64(entry + 8):
            store64(state + 8 * LATEST, index)
            return load64(entry + 16) + 8 * WORDS * place
    return 0


@jit
def _write(state: int, record: int, size: int, me: int, strong: bool, sees: bool) -> bool:
    last_word, last_read, last_far, last_added = 0, 0, 0, 0
    for place in range(size):
        at = record + 8 * WORDS * place
        word, read, far = load64(at), load64(at + 8), load64(at + 16)
        if word != last_word and not (strong and word & STRONG) and _clash(state, word, me, False):
            return False
        clash = read != last_read and _clash(state, read, me, True)
        if clash or (far != last_far and _clash(state, far, me, True)):
            return False
        added = load64(at + 24)
        if not strong and added != last_added and _clash(state, added, me, False):
            return False
        last_word, last_read, last_far, last_added = word, read, far, added
        store64(at, me | STRONG if strong else me)
        if sees:
            added = 0
        elif word & STRONG and (word ^ me) >> BLOCK_AT & (1 << 21) - 1:
            added = word
        store64(at + 24, added)
        if read | far:
            store64(at + 8, 0)
            store64(at + 16, 0)
    return True


@jit
def _read(state: int, record: int, size: int, me: int, strong: bool) -> bool:
    last_word, last_read, merged, block = 0, -1, me, me >> BLOCK_AT
    for place in range(size):
        at = record + 8 * WORDS * place
        word = load64(at)
        if word != last_word and not (strong and word & STRONG) and _clash(state, word, me, False):
            return False
        last_word = word
        if strong:
            continue
        added = load64(at + 24)
        if added and _clash(state, added, me, False):
            return False
        read = load64(at + 8)
        if read != last_read:
            same = read >> BLOCK_AT & (1 << 21) - 1 == block
            merged = _merged(state, read, me) if same else me
            last_read = read
        if read and read >> BLOCK_AT & (1 << 21) - 1 != block:
            store64(at + 16, read)
        store64(at + 8, merged)
    return True


@jit
def access(state: int, thread: int, address: int, size: int, action: int, fences: int) -> int:
    """One access, or with size 0 a fence. Returns 1 for a race, which OTHER then describes.

    fences: 1 if the access is a release by itself.
    """
    warp = load32(thread + _WARP)
    if size == 0 or fences:
        _fence(state, warp)
        if size == 0:
            return 0
    record = _shadow(state, address)
    if record == 0:
        return 0
    if action in (STRONG_READ, ATOMIC, REDUCE):
        _acquire(state, warp, address)
    now = _get(state, NOW)
    who = load32(thread + _LANE) << LANE_AT | warp << WARP_AT
    me = now | who | (_get(state, BLOCK) + 1) << BLOCK_AT
    strong = action >= STRONG_READ
    if action in (READ, STRONG_READ):
        fine = _read(state, record, size, me, strong)
    else:
        fine = _write(state, record, size, me, strong, action != REDUCE)
    if not fine:
        return 1
    if action >= STRONG_WRITE:
        _release(state, warp, address)
        return 0
    if not strong:
        mine = _mine(state)
        store64(mine + 8 * (TOUCHED + warp), now)
        for first in (SINCE, UNFENCED):
            if load64(mine + 8 * (first + warp)) == 0:
                store64(mine + 8 * (first + warp), now)
    return 0


@lru_cache(maxsize=1)
def check() -> Any:
    """`access` as a C function of int64s, with its `address`; compiled at first use."""
    return c_entry(access.py_func, 6)
