"""Memory traffic from access records: sectors of global memory, wavefronts of shared memory.

Contract: lanes of one warp that execute one instruction for the n-th time belong to one request,
as they do in hardware where the warp is converged. Per request:
  global  transactions = distinct 32-byte sectors touched; ideal = ceil(distinct bytes / 32)
  shared  transactions = wavefronts: 32 banks of 4 bytes; each wavefront serves one word per bank,
          the same word for everybody who wants it. Accesses of 8 and 16 bytes are served in halves
          and quarters of the warp. ideal = one wavefront per half, quarter or warp with an access;
          bank conflicts = transactions - ideal
  bytes   what the lanes asked for, together
A cp.async counts twice: it reads global and writes shared memory. An atomic counts as a store.

Only whole blocks are traced, one at a time, so memory stays bounded; a block (or the blocks of a
cooperative launch together) with more records than CAPACITY raises MemoryError rather than count
too little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emulator.layout import TRACE, WARP, offset
from emulator.lower import Site
from emulator.native import entry, jit, load16, load32, load64

CAPACITY = 1 << 22  # records per block
SECTOR = 32
BANKS = 32
DEEPEST = 2 * WARP  # distinct words of one bank that a warp can ask for at once
KINDS = 4  # bit 0 store, bit 1 shared
COLUMNS = 4  # requests, transactions, ideal, bytes

_RECORD = TRACE.itemsize
_ADDRESS = offset(TRACE, "address")
_SITE = offset(TRACE, "site")
_THREAD = offset(TRACE, "thread")
_BYTES = offset(TRACE, "size")
_KIND = offset(TRACE, "kind")


@dataclass(frozen=True)
class Line:
    """Traffic of one PTX instruction in one memory and direction, over all traced blocks."""

    ptx_line: int
    text: str
    source: str
    shared: bool
    store: bool
    requests: int
    transactions: int
    ideal: int
    bytes: int


def lines(totals: np.ndarray, sites: Sequence[Site]) -> tuple[Line, ...]:
    """The rows of `totals` (sites, KINDS, COLUMNS) that saw traffic, in program order.

    Loads from constant memory are left out: they have a cache of their own.
    """
    found = []
    for index, kind in zip(*np.nonzero(totals[:, :, 0]), strict=True):
        site = sites[index]
        if site.opcode.startswith("ld.const"):
            continue
        counts = [int(n) for n in totals[index, kind]]
        shared, store = bool(kind & 2), bool(kind & 1)
        found.append(Line(site.ptx_line, site.text, site.source, shared, store, *counts))
    return tuple(found)


class Accountant:
    """Adds up the traffic of one launch, block by block."""

    def __init__(self, sites: int, threads: int, traced: int) -> None:
        """`records` (TRACE) is where a block's accesses go, in the order of execution."""
        size = CAPACITY if traced else 0
        keys = sites * KINDS
        self.totals = np.zeros((sites, KINDS, COLUMNS), np.int64)
        self.records = np.empty(size, TRACE)
        self._threads = threads
        self._order = np.empty(size, np.int64)
        self._ends = np.empty(threads * keys + 1 if traced else 0, np.int64)
        self._keys = np.empty((2, keys), np.int64)
        self._scratch = np.empty((4, WARP), np.int64)
        self._words = np.empty((BANKS, DEEPEST), np.int64)

    def check(self, count: int) -> None:
        """Raises MemoryError if so many records do not fit."""
        if count > len(self.records):
            raise MemoryError(
                f"trace: {count} accesses of one block, or of one cooperative launch; "
                f"allowed: {len(self.records)}"
            )

    def add_block(self, count: int) -> None:
        """Account for the first `count` records. Raises as `check`."""
        self.check(count)
        account_block(
            self.records.ctypes.data,
            count,
            self._threads,
            self._keys,
            self._ends,
            self._order,
            self._scratch,
            self._words,
            self.totals.reshape(-1, COLUMNS),
        )


@entry
def account_block(
    records: int,
    count: int,
    threads: int,
    keys: np.ndarray,
    ends: np.ndarray,
    order: np.ndarray,
    scratch: np.ndarray,
    words: np.ndarray,
    totals: np.ndarray,
) -> None:
    """A thread's n-th record of one key (site and kind) meets the other lanes' n-th."""
    rank, seen = keys[0], keys[1]
    used = _rank_keys(records, count, rank, seen)
    _sort_by_thread_and_key(records, count, threads, rank, used, ends, order)
    addresses, sizes, numbers = scratch[0], scratch[1], scratch[2]
    depths = scratch[3]
    for first in range(0, threads, WARP):
        last = min(first + WARP, threads)
        for index in range(used):
            key = seen[index]
            turn = 0
            more = True
            while more:
                more = False
                lanes = 0
                for thread in range(first, last):
                    cell = thread * used + index
                    slot = (ends[cell - 1] if cell else 0) + turn
                    if slot < ends[cell]:
                        more = True
                        record = records + order[slot] * _RECORD
                        addresses[lanes] = load64(record + _ADDRESS)
                        sizes[lanes] = load16(record + _BYTES)
                        numbers[lanes] = thread - first
                        lanes += 1 if sizes[lanes] else 0
                if lanes and key & 2:
                    found = wavefronts(addresses, sizes, numbers, lanes, words, depths)
                    _add_request(totals[key], sizes, lanes, found[0], found[1])
                elif lanes:
                    found = sectors(addresses, sizes, lanes)
                    _add_request(totals[key], sizes, lanes, found[0], found[1])
                turn += 1


@jit
def _rank_keys(records: int, count: int, rank: np.ndarray, seen: np.ndarray) -> int:
    """How many keys occur; rank[key] and seen[rank] number them in the order of occurrence."""
    rank[:] = -1
    used = 0
    for index in range(count):
        key = _key(records + index * _RECORD)
        if rank[key] < 0:
            rank[key] = used
            seen[used] = key
            used += 1
    return used


@jit
def _sort_by_thread_and_key(
    records: int,
    count: int,
    threads: int,
    rank: np.ndarray,
    used: int,
    ends: np.ndarray,
    order: np.ndarray,
) -> None:
    """Counting sort: the records of a thread t and key k, in order, end at
    order[ends[t * used + rank[k]]]."""
    ends[: threads * used + 1] = 0
    for index in range(count):
        record = records + index * _RECORD
        ends[load32(record + _THREAD) * used + rank[_key(record)] + 1] += 1
    for cell in range(1, threads * used + 1):
        ends[cell] += ends[cell - 1]
    for index in range(count):  # turns each start into an end
        record = records + index * _RECORD
        cell = load32(record + _THREAD) * used + rank[_key(record)]
        order[ends[cell]] = index
        ends[cell] += 1


@jit
def _key(record: int) -> int:
    return load32(record + _SITE) * KINDS + load16(record + _KIND)


@jit
def _add_request(
    total: np.ndarray, sizes: np.ndarray, lanes: int, transactions: int, ideal: int
) -> None:
    total[0] += 1
    total[1] += transactions
    total[2] += ideal
    for lane in range(lanes):
        total[3] += sizes[lane]


@jit
def sectors(addresses: np.ndarray, sizes: np.ndarray, lanes: int) -> tuple[int, int]:
    """(distinct sectors, sectors that the distinct bytes would fill). Sorts its arguments."""
    for i in range(1, lanes):
        address = addresses[i]
        size = sizes[i]
        j = i
        while j > 0 and addresses[j - 1] > address:
            addresses[j] = addresses[j - 1]
            sizes[j] = sizes[j - 1]
            j -= 1
        addresses[j] = address
        sizes[j] = size
    touched = 0
    distinct = 0
    end = -1  # of the bytes seen so far
    sector = -1  # the last one counted
    for i in range(lanes):
        first = addresses[i] // SECTOR
        last = (addresses[i] + sizes[i] - 1) // SECTOR
        touched += max(0, last - max(first, sector + 1) + 1)
        sector = max(sector, last)
        distinct += max(0, addresses[i] + sizes[i] - max(addresses[i], end))
        end = max(end, addresses[i] + sizes[i])
    return touched, (distinct + SECTOR - 1) // SECTOR


@jit
def wavefronts(
    addresses: np.ndarray,
    sizes: np.ndarray,
    numbers: np.ndarray,
    lanes: int,
    words: np.ndarray,
    depths: np.ndarray,
) -> tuple[int, int]:
    """(wavefronts, parts of the warp that had an access).

    words (BANKS, DEEPEST) and depths (>= BANKS) are scratch: the distinct words of each bank.
    """
    together = WARP * 4 // max(4, sizes[0])  # lanes served at once
    total = 0
    parts = 0
    lane = 0
    while lane < lanes:
        part = numbers[lane] // together
        depths[:BANKS] = 0
        deepest = 0
        while lane < lanes and numbers[lane] // together == part:
            last = (addresses[lane] + sizes[lane] - 1) // 4
            for word in range(addresses[lane] // 4, last + 1):
                deepest = max(deepest, _add_word(words[word % BANKS], depths, word))
            lane += 1
        total += deepest
        parts += 1
    return total, parts


@jit
def _add_word(known: np.ndarray, depths: np.ndarray, word: int) -> int:
    """Note a word in its bank; returns how many distinct words the bank has now."""
    bank = word % BANKS
    depth = depths[bank]
    for index in range(depth):
        if known[index] == word:
            return depth
    known[depth] = word
    depths[bank] = depth + 1
    return depth + 1
