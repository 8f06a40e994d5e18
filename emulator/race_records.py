"""What the watch for races on global memory keeps: words, records and their memory.

Contract: `Watch` holds everything that global_races.py reads and writes during one launch, and its
`address` is that of the state: int64 words by the names below. A byte's record is WORDS words, each
0 or (time, lane, warp, block + 1) and two flags.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emulator.memory import Range

READ, WRITE, STRONG_READ, STRONG_WRITE, ATOMIC, REDUCE = range(6)
ACTIONS = ("read", "write", "strong_read", "strong_write", "atomic", "reduce")
MAX_BLOCKS = (1 << 21) - 2

TIME_BITS = 30
TIME = (1 << TIME_BITS) - 1
LANE_AT, WARP_AT, BLOCK_AT = 30, 35, 40
WHO = ((1 << 31) - 1) << LANE_AT  # lane, warp and block
STRONG = SEVERAL_LANES = 1 << 61  # of a writer; of a reader
SEVERAL_WARPS = 1 << 62
READER, SEVERAL = 1 << 61, 1 << 62  # in what `other` gives
# Per byte: last writer, last reader, last reader of another block, and the last other block whose
# atomics came before the last writer's without being seen by it.
WORDS = 4

# The state: int64 words, by index.
(
    NOW, BLOCK, BLOCKS, LIVE, BUFFERS, COUNT, LATEST, BLOCK_STATES, KNOWN, ROWS, ROW_COUNT, KEYS,
    OTHER, OTHER_READ,
) = range(14)  # fmt: skip
STATE_WORDS = 16
# One block's state.
BARRIER, FENCES = 0, 1
SINCE, UNFENCED, TOUCHED, SYNCED, RELEASED, ACQUIRED = (8 + 32 * i for i in range(6))  # per warp
BLOCK_WORDS = 8 + 6 * 32
# What a block knows of another, and what a location has been told of one: all until a time, and of
# one warp until another. `stamp` says whose knowledge it is: block + 1.
STAMP, ALL, OWN_WARP, OWN = range(4)
ENTRY = 4
MOST_BYTES = 1 << 30  # of all arguments together; 32 times as much is needed
ROOM = 1 << 26  # bytes for rows of locations
MOST_ROWS = 4096


class Watch:
    """The memory of one launch's watch; `address` is what CONTEXT.races holds."""

    def __init__(self, ranges: Sequence[Range], blocks: int, together: bool) -> None:
        """Raises ValueError for more blocks than a record can name, or too large arguments."""
        if blocks > MAX_BLOCKS:
            raise ValueError(f"grid: got {blocks} blocks; allowed with races: up to {MAX_BLOCKS}")
        live = blocks if together else 1
        rows = max(1, min(MOST_ROWS, ROOM // (8 * ENTRY * blocks)))
        self.state = np.zeros(STATE_WORDS, np.int64)
        places = _apart(ranges)
        watched = sum(size for _, size in places)
        if watched > MOST_BYTES:
            raise ValueError(f"args: got {watched} bytes; allowed with races: up to {MOST_BYTES}")
        self._records = [np.zeros(WORDS * size, np.int64) for _, size in places]
        table = [
            (start, size, record.ctypes.data)
            for (start, size), record in zip(places, self._records, strict=True)
        ]
        self._table = np.array(table or [(0, 0, 0)], np.int64)
        self._blocks = np.zeros(live * BLOCK_WORDS, np.int64)
        self._known = np.zeros(live * blocks * ENTRY, np.int64)
        self._rows = np.zeros(rows * blocks * ENTRY, np.int64)
        self._keys = np.zeros(2 * rows, np.int64)
        state = self.state
        state[NOW], state[BLOCKS], state[LIVE], state[COUNT] = 1, blocks, live, len(places)
        state[BUFFERS], state[BLOCK_STATES] = self._table.ctypes.data, self._blocks.ctypes.data
        state[KNOWN], state[ROWS] = self._known.ctypes.data, self._rows.ctypes.data
        state[KEYS], state[ROW_COUNT] = self._keys.ctypes.data, rows

    @property
    def address(self) -> int:
        return int(self.state.ctypes.data)


def _apart(ranges: Sequence[Range]) -> list[tuple[int, int]]:
    """(start, size) of what the ranges cover; those that overlap are one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted((item.start, item.start + item.size) for item in ranges):
        if found and start < sum(found[-1]):
            first, size = found.pop()
            found.append((first, max(size, end - first)))
        elif end > start:
            found.append((start, end - start))
    return found
