"""Who touched each byte of shared memory last, and when: the scheduler's side of race detection.

Contract: every byte of a block's shared memory has a writer word and a reader word, its own or that
of its granule (layout.py).
Two accesses of different threads, at least one a write, race unless a barrier lies between them
(another epoch), or, within one warp, a `bar.warp.sync` (another warp epoch). `step` checks loads
and stores; copies.py checks asynchronous copies with the functions here.

Epochs have few bits. When one runs out, older words are rewritten so that they read as ordered
before everything to come: a race across that moment may be missed, none is invented, and a written
byte stays written.
"""

from __future__ import annotations

from emulator.layout import (
    FIRST_EPOCH,
    OLD_EPOCH,
    SHADOW_EPOCH_BITS,
    SHADOW_MIXED,
    SHADOW_PENDING,
    SHADOW_WARP_EPOCH_BITS,
)
from emulator.native import fill, jit, load32, store32
from emulator.state import (
    BYTE_READERS,
    BYTE_WRITERS,
    CONTEXT_AT,
    EPOCH,
    LANE,
    READERS,
    SHARED_SIZE,
    WARP_COUNT,
    WARP_EPOCH,
    WARP_ID,
    WRITERS,
    Run,
)

EPOCH_LIMIT = 1 << SHADOW_EPOCH_BITS
WARP_EPOCH_LIMIT = 1 << SHADOW_WARP_EPOCH_BITS
EPOCH_MASK = EPOCH_LIMIT - 1
LANE_SHIFT = SHADOW_EPOCH_BITS + SHADOW_WARP_EPOCH_BITS
WARP_SHIFT = LANE_SHIFT + 5
SEVERAL_LANES = 1 << 30  # reader words
SEVERAL_WARPS = 1 << 31
WRITER_MASK = SEVERAL_LANES - 1  # bit 30 of a writer word marks an atomic write
WHO_MASK = 0x3FF << LANE_SHIFT  # lane and warp
WARP_MASK = 0x1F << WARP_SHIFT
WARP_EPOCH_MASK = (WARP_EPOCH_LIMIT - 1) << SHADOW_EPOCH_BITS


@jit
def reset(run: Run) -> None:
    """A new block: nothing was touched yet."""
    store32(run[CONTEXT_AT] + EPOCH, FIRST_EPOCH)
    fill(run[CONTEXT_AT] + WARP_EPOCH, 0, 4 * run[WARP_COUNT])
    if run[WRITERS]:
        fill(run[WRITERS], 0, (run[SHARED_SIZE] + 3) & ~3)
        fill(run[READERS], 0, (run[SHARED_SIZE] + 3) & ~3)


@jit
def writer_word(run: Run, byte: int) -> int:
    """Who wrote this byte of shared memory last."""
    word = load32(run[WRITERS] + (byte & ~3))
    return load32(run[BYTE_WRITERS] + 4 * byte) if word == SHADOW_MIXED else word


@jit
def reader_word(run: Run, byte: int) -> int:
    """Who read this byte of shared memory last."""
    if load32(run[WRITERS] + (byte & ~3)) == SHADOW_MIXED:
        return load32(run[BYTE_READERS] + 4 * byte)
    return load32(run[READERS] + (byte & ~3))


@jit
def my_word(run: Run, thread: int) -> int:
    """The word that an access by this thread leaves now."""
    context = run[CONTEXT_AT]
    warp = load32(thread + WARP_ID)
    epoch = load32(context + EPOCH)
    warp_epoch = load32(context + WARP_EPOCH + 4 * warp)
    return (
        epoch
        | warp_epoch << SHADOW_EPOCH_BITS
        | load32(thread + LANE) << LANE_SHIFT
        | warp << WARP_SHIFT
    )


@jit
def conflicts(word: int, mine: int) -> bool:
    """Whether the access that left `word` is unordered with one that would leave `mine`."""
    if word & EPOCH_MASK != mine & EPOCH_MASK or word & EPOCH_MASK == 0:
        return False
    if word & SEVERAL_WARPS:
        return True
    if word & WARP_MASK != mine & WARP_MASK:
        return True
    if word & WARP_EPOCH_MASK != mine & WARP_EPOCH_MASK:
        return False
    return (word & SEVERAL_LANES) != 0 or word & WHO_MASK != mine & WHO_MASK


@jit
def find_conflict(run: Run, thread: int, start: int, size: int, store: int) -> int:
    """The word that an access of shared bytes start .. start+size races with, 0 if none does.

    Bit 32 is set if it is a reader word.
    """
    mine = my_word(run, thread)
    for byte in range(start, start + size):
        writer = writer_word(run, byte)
        if writer != SHADOW_PENDING and conflicts(writer & WRITER_MASK, mine):
            return writer & WRITER_MASK
        reader = reader_word(run, byte)
        if store and conflicts(reader, mine):
            return reader | 1 << 32
    return 0


@jit
def next_epoch(run: Run) -> None:
    """A block barrier was released."""
    context = run[CONTEXT_AT]
    epoch = load32(context + EPOCH) + 1
    if epoch == EPOCH_LIMIT:
        epoch = FIRST_EPOCH
        if run[WRITERS]:
            _forget_epochs(run[WRITERS], run[READERS], run[SHARED_SIZE])
            _forget_epochs(run[BYTE_WRITERS], run[BYTE_READERS], 4 * run[SHARED_SIZE])
    store32(context + EPOCH, epoch)
    fill(context + WARP_EPOCH, 0, 4 * run[WARP_COUNT])


@jit
def _forget_epochs(writers: int, readers: int, size: int) -> None:
    """What was written stays written; nothing else is known of these `size` bytes of words."""
    for offset in range(0, size, 4):
        word = load32(writers + offset)
        if word != 0 and word != SHADOW_PENDING and word != SHADOW_MIXED:
            store32(writers + offset, OLD_EPOCH)
        store32(readers + offset, 0)


@jit
def next_warp_epoch(run: Run, warp: int) -> None:
    """Threads of one warp were synchronised by `bar.warp.sync`."""
    address = run[CONTEXT_AT] + WARP_EPOCH + 4 * warp
    warp_epoch = load32(address) + 1
    if warp_epoch == WARP_EPOCH_LIMIT:
        warp_epoch = 1
        if run[WRITERS]:
            for shadow in (run[WRITERS], run[READERS]):
                _forget_warp_epochs(run, shadow, run[SHARED_SIZE], warp)
            for shadow in (run[BYTE_WRITERS], run[BYTE_READERS]):
                _forget_warp_epochs(run, shadow, 4 * run[SHARED_SIZE], warp)
    store32(address, warp_epoch)


@jit
def _forget_warp_epochs(run: Run, shadow: int, size: int, warp: int) -> None:
    """This warp's words of the current epoch get warp epoch 0: before all of its later ones."""
    epoch = load32(run[CONTEXT_AT] + EPOCH)
    for offset in range(0, size, 4):
        word = load32(shadow + offset)
        mine = word & EPOCH_MASK == epoch and word & WARP_MASK == warp << WARP_SHIFT
        if mine and word != SHADOW_PENDING and word != SHADOW_MIXED:
            store32(shadow + offset, word & ~WARP_EPOCH_MASK)
