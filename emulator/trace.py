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

Only whole blocks are traced, one at a time, so memory stays bounded; a block with more records than
CAPACITY raises MemoryError rather than count too little.
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
    """The rows of `totals` (sites, KINDS, COLUMNS) that saw traffic, in program order."""
    found = []
    for index, kind in zip(*np.nonzero(totals[:, :, 0]), strict=True):
        site = sites[index]
        counts = [int(n) for n in totals[index, kind]]
        shared, store = bool(kind & 2), bool(kind & 1)
        found.append(Line(site.ptx_line, site.text, site.source, shared, store, *counts))
    return tuple(found)


def account(records: np.ndarray, count: int, threads: int, totals: np.ndarray) -> None:
    """Add one block's records (TRACE, in the order of execution) to `totals`, in place."""
    keys = totals.shape[0] * KINDS
    ends = np.zeros(threads * keys + 1, np.int64)
    order = np.empty(count, np.int64)
    scratch = np.empty((5, 4 * WARP), np.int64)
    address = records.ctypes.data
    account_block(address, count, threads, ends, order, totals.reshape(keys, COLUMNS), scratch)


@entry
def account_block(
    records: int,
    count: int,
    threads: int,
    ends: np.ndarray,
    order: np.ndarray,
    totals: np.ndarray,
    scratch: np.ndarray,
) -> None:
    """`account` on plain arrays. A thread's n-th record of one key meets the other lanes' n-th."""
    keys = totals.shape[0]
    _sort_by_thread_and_key(records, count, keys, ends, order)
    addresses, sizes, numbers = scratch[0], scratch[1], scratch[2]
    words, banks = scratch[3], scratch[4]
    for first in range(0, threads, WARP):
        last = min(first + WARP, threads)
        for key in range(keys):
            turn = 0
            lanes = 1
            while lanes:
                lanes = 0
                for thread in range(first, last):
                    cell = thread * keys + key
                    slot = (ends[cell - 1] if cell else 0) + turn
                    if slot < ends[cell]:
                        record = records + order[slot] * _RECORD
                        addresses[lanes] = load64(record + _ADDRESS)
                        sizes[lanes] = load16(record + _BYTES)
                        numbers[lanes] = thread - first
                        lanes += 1 if sizes[lanes] else 0
                if lanes and key & 2:
                    found = wavefronts(addresses, sizes, numbers, lanes, words, banks)
                    _add_request(totals[key], sizes, lanes, found[0], found[1])
                elif lanes:
                    found = sectors(addresses, sizes, lanes)
                    _add_request(totals[key], sizes, lanes, found[0], found[1])
                turn += 1


@jit
def _sort_by_thread_and_key(
    records: int, count: int, keys: int, ends: np.ndarray, order: np.ndarray
) -> None:
    """Counting sort: thread t's records of key k, in order, end at order[ends[t * keys + k]]."""
    for index in range(count):
        ends[_slot(records + index * _RECORD, keys) + 1] += 1
    for slot in range(1, ends.shape[0]):
        ends[slot] += ends[slot - 1]
    for index in range(count):  # turns each start into an end
        slot = _slot(records + index * _RECORD, keys)
        order[ends[slot]] = index
        ends[slot] += 1


@jit
def _slot(record: int, keys: int) -> int:
    key = load32(record + _SITE) * KINDS + load16(record + _KIND)
    return load32(record + _THREAD) * keys + key


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
    banks: np.ndarray,
) -> tuple[int, int]:
    """(wavefronts, parts of the warp that had an access). Overwrites words and banks."""
    together = WARP * 4 // max(4, sizes[0])  # lanes served at once
    total = 0
    parts = 0
    lane = 0
    while lane < lanes:
        part = numbers[lane] // together
        count = 0
        while lane < lanes and numbers[lane] // together == part:
            last = (addresses[lane] + sizes[lane] - 1) // 4
            for word in range(addresses[lane] // 4, last + 1):
                known = False
                for seen in range(count):
                    known = known or words[seen] == word
                if not known:
                    words[count] = word
                    count += 1
            lane += 1
        total += _fullest_bank(words, count, banks)
        parts += 1
    return total, parts


@jit
def _fullest_bank(words: np.ndarray, count: int, banks: np.ndarray) -> int:
    banks[:BANKS] = 0
    fullest = 0
    for index in range(count):
        bank = words[index] % BANKS
        banks[bank] += 1
        fullest = max(fullest, banks[bank])
    return fullest
