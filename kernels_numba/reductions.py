"""Float sums over a row in "lanes of 8", the order that reference/reductions.py fixes.

Contract: chunk c of a row, its elements 8c .. 8c+7, belongs to lane c % T of its T = blockDim.x
lanes (whole warps, at most 32 of them; one row per block). Each lane adds its elements in ascending
order to one float32 that starts at +0; `row_sum` joins the lanes: a butterfly over distances 16, 8,
4, 2, 1 within each warp, then, with T > 32, the same over the warps' values, padded with +0. Every
addition is one rounding; addition commutes, so that every lane ends with the same bits.
"""

from __future__ import annotations

from typing import Any

from kernels_numba.device import (
    ALL_LANES,
    Device,
    cuda,
    device,
    float32,
    int32,
    libdevice,
    uint32,
    uint64,
)


@device
def warp_sum(value: Any) -> Any:
    """Sum of float32 over the 32 lanes of a warp, in every lane. All lanes take part."""
    apart = int32(16)
    while apart > 0:
        value = libdevice.fadd_rn(value, cuda.shfl_xor_sync(uint32(ALL_LANES), value, apart))
        apart = int32(apart >> 1)
    return value


@device
def row_sum(value: Any, partial: Device) -> Any:
    """Sum over the block's threads, in each of them. partial: shared float32 (32,), of one call
    alone. All threads of the block take part.
    """
    total = warp_sum(value)
    if uint32(cuda.blockDim.x) > uint32(32):
        lane = uint64(cuda.laneid)
        if lane == uint64(0):
            partial[uint64(cuda.threadIdx.x) >> uint64(5)] = total
        cuda.syncthreads()
        warps = uint64(cuda.blockDim.x) >> uint64(5)
        total = warp_sum(partial[lane] if lane < warps else float32(0))
    return total
