"""Rows and the threads that share one: a matrix of (rows, length), be they tokens, output channels
or groups along K.

Contract: blockDim = (lanes of a row, rows of a block). A row of little work has a power of two of
lanes below 32 and shares its warp, else a row has whole warps, alone in its block where they are
several. Threads of rows beyond the last have no work, but take part in what their warp does.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import types

from kernels_numba.device import (
    ALL_LANES,
    Device,
    DeviceFunction,
    cuda,
    device,
    int32,
    intrinsic,
    uint32,
)

KEPT = 4  # accesses that a thread keeps in registers
THREADS, BLOCK = 1024, 128  # of a row that has a block to itself, at most; of rows that share one


def geometry(rows: int, length: int, per: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(grid, block) for rows of `length` elements, `per` to an access: up to KEPT accesses a lane,
    and as many lanes as it takes to store 32 bytes of codes at once, a sector.
    """
    items = length // per
    if items > 32 * KEPT:
        return (rows,), (min(THREADS, 32 * -(-items // (32 * KEPT))), 1)
    lanes = max(_power_of_two(-(-items // KEPT)), min(32 // per, _power_of_two(items), 32))
    of_warp = 32 // lanes
    together = min(BLOCK // lanes, of_warp * -(-rows // of_warp))
    return (-(-rows // together),), (lanes, together)


def _power_of_two(count: int) -> int:
    """The smallest one that is not less."""
    return 1 << (count - 1).bit_length()


@device
def row_of_thread() -> Any:
    """As uint32; the last block's may lie beyond the last row."""
    return uint32(uint32(cuda.blockIdx.x) * uint32(cuda.blockDim.y) + uint32(cuda.threadIdx.y))


@cache
def for_row(kind: Any) -> DeviceFunction:
    """Device function: (first, second, place in first, in second) -> two numbers that hold for the
    thread's row, loaded by the row's first lane alone, so that their bytes move once.

    `kind`: type of the first array's, int32 or float32; the second holds int32. All threads of the
    block must call it, once per kernel.
    """

    @device
    def both(first: Device, second: Device, at_first: Any, at_second: Any) -> Any:
        firsts, seconds = cuda.shared.array(1, kind), cuda.shared.array(1, int32)
        leads = cuda.threadIdx.x == 0
        a = first[at_first] if leads else kind(0)
        b = second[at_second] if leads else int32(0)
        if cuda.blockDim.x > 32:  # one row
            if leads:
                firsts[0] = a
                seconds[0] = b
            cuda.syncthreads()
            a = firsts[0]
            b = seconds[0]
        else:
            origin = int32(int32(cuda.laneid) & int32(-int32(cuda.blockDim.x)))
            a = cuda.shfl_sync(uint32(ALL_LANES), a, origin)
            b = cuda.shfl_sync(uint32(ALL_LANES), b, origin)
        return (a, b)

    return both


def _remainder(typingctx: Any, a: Any, b: Any) -> Any:
    """Intrinsic (uint32, uint32) -> uint32: a % b for b > 0 (Numba's own asks for b == 0)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.urem(*args)

    return types.uint32(types.uint32, types.uint32), generate


remainder: Any = intrinsic(_remainder)
