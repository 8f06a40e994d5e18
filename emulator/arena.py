"""The memory in which blocks run, kept between launches and grown on demand.

Contract: one Arena serves one launch at a time (launch.py holds a lock), or one block of a
cooperative launch. `prepare` lays out a
launch's geometry in `run` (state.py); addresses stay valid until the next `prepare`.
"""

from __future__ import annotations

import numpy as np

from emulator import state
from emulator.copies import COPY, SMALLEST_COPY
from emulator.layout import CONTEXT, GRANULE, THREAD, WARP
from emulator.memory import aligned_bytes
from emulator.tensor_float import SCRATCH_BYTES

FRAME_ALIGNMENT = 64
SHARED_ALIGNMENT = 1024
MAX_THREADS = 1024

Dims = tuple[int, int, int]


class _Bytes:
    """An aligned stretch of memory that only grows."""

    def __init__(self, alignment: int) -> None:
        self._alignment = alignment
        self._owner, self.address = aligned_bytes(0, alignment)
        self._size = 0

    def at_least(self, size: int) -> int:
        """Its address, after making sure of its size."""
        if size > self._size:
            self._owner, self.address = aligned_bytes(size, self._alignment)
            self._size = size
        return self.address


class Arena:
    """Threads, frames, shared memory, shadows and the scheduler's state."""

    def __init__(self) -> None:
        self.run = np.zeros(state.RUN_WORDS, np.int64)
        self.threads = np.zeros(MAX_THREADS, THREAD)
        self.context = np.zeros(1, CONTEXT)
        self._copy_ends = np.zeros((MAX_THREADS, 2), np.int32)
        self._frames = _Bytes(FRAME_ALIGNMENT)
        self._shared = _Bytes(SHARED_ALIGNMENT)
        self._shadows = _Bytes(64)
        self._copies = _Bytes(64)
        self._scratch = _Bytes(64)
        self._block: Dims = (0, 0, 0)
        run = self.run
        run[state.THREADS] = self.threads.ctypes.data
        run[state.CONTEXT_AT] = self.context.ctypes.data
        run[state.COPY_ENDS] = self._copy_ends.ctypes.data
        run[state.SCRATCH] = self._scratch.at_least(SCRATCH_BYTES)

    @staticmethod
    def size(threads: int, frame_size: int, shared_size: int) -> int:
        """About how many bytes `prepare` takes, checks on."""
        copies = shared_size // SMALLEST_COPY * COPY.itemsize
        per_thread = THREAD.itemsize + 8 + frame_size + FRAME_ALIGNMENT
        return threads * per_thread + 11 * shared_size + copies

    def prepare(
        self, grid: Dims, block: Dims, frame_size: int, shared_size: int, checks: bool, seed: int
    ) -> None:
        """Set everything about a launch but its kernel and its buffers."""
        run, context = self.run, self.context[0]
        self._lay_out_threads(block)
        count = block[0] * block[1] * block[2]
        stride = -(-max(frame_size, 1) // FRAME_ALIGNMENT) * FRAME_ALIGNMENT
        run[state.FRAMES] = self._frames.at_least(count * stride)
        run[state.FRAME_SIZE] = stride
        run[state.SHARED_AT] = self._shared.at_least(shared_size)
        run[state.SHARED_SIZE] = shared_size
        self._lay_out_shadows(shared_size, checks)
        run[state.COPY_CAPACITY] = shared_size // SMALLEST_COPY
        run[state.COPIES] = self._copies.at_least(int(run[state.COPY_CAPACITY]) * COPY.itemsize)
        run[state.GRID_X], run[state.GRID_Y] = grid[:2]
        # A different start for every seed, never 0, below 2**63.
        run[state.RANDOM] = seed * 0x9E3779B97F4A7C15 % ((1 << 63) - 1) or 1 if seed else 0
        run[state.WARP_ORDER : state.WARP_ORDER + state.WARPS] = np.arange(state.WARPS)
        run[state.LANE_ORDER : state.LANE_ORDER + WARP] = np.arange(WARP)
        run[state.STOP] = run[state.FAULT_COUNT] = 0
        run[state.BLOCK] = -1
        context["nctaid"] = grid
        context["shared"] = run[state.SHARED_AT]
        context["shared_size"] = shared_size
        context["writer_shadow"] = run[state.WRITERS]
        context["reader_shadow"] = run[state.READERS]
        context["byte_writers"] = run[state.BYTE_WRITERS]
        context["byte_readers"] = run[state.BYTE_READERS]

    def _lay_out_shadows(self, shared_size: int, checks: bool) -> None:
        """Two words per granule, then two per byte; all 0 without checks."""
        words = -(-shared_size // 64) * 64  # bytes of words, one per granule
        start = self._shadows.at_least(10 * words) if checks else 0
        for place, at in (
            (state.WRITERS, 0),
            (state.READERS, words),
            (state.BYTE_WRITERS, 2 * words),
            (state.BYTE_READERS, 2 * words + GRANULE * words),
        ):
            self.run[place] = start + at if checks else 0

    def _lay_out_threads(self, block: Dims) -> None:
        if block == self._block:
            return
        self._block = block
        x, y, z = block
        count = x * y * z
        linear = np.arange(count)
        records = self.threads[:count]
        records["linear"] = linear
        records["tid"] = np.stack([linear % x, linear // x % y, linear // (x * y)], axis=1)
        records["lane"] = linear % WARP
        records["warp"] = linear // WARP
        warps = -(-count // WARP)
        self.run[state.THREAD_COUNT] = count
        self.run[state.WARP_COUNT] = warps
        lanes = np.minimum(WARP, count - WARP * np.arange(warps))
        self.run[state.LANES : state.LANES + warps] = (1 << lanes) - 1
        self.context[0]["ntid"] = block
