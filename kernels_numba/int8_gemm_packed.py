"""INT8 GEMM with packed weights in Numba CUDA, for few tokens: memory straight to registers.

Contract: reference/int8_gemm_packed.py. A block has 16 rows of a and 16 columns; its 4 warps take
the 64-code chunks of K in turn and add up at the end, in int32, so exactly. How lanes hold their
fragments: kernels_cupy/int8_gemm_packed.cu, whose design this is; here the loads of one chunk, not
of four, are under way while the one before is multiplied.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import types

from kernels_numba import launch
from kernels_numba.compile import Kernel, bounded
from kernels_numba.device import (
    Device,
    DeviceFunction,
    cuda,
    device,
    int32,
    intrinsic,
    load_words1,
    load_words4,
    narrow,
    uint32,
    uint64,
)
from kernels_numba.intrinsics import assembly, data_of, slot
from kernels_numba.tile import copy_width, divide, fetch_chunk
from kernels_numba.tile_mma import zeroed
from kernels_numba.tile_results import four_scaled, results, scaling, store_four_of
from reference.int8_gemm_packed import check_gemm_packed
from reference.int8_pack import PIECE
from reference.op import implements

ROWS, PANEL, PANELS, WARPS = 16, 8, 2, 4
COLUMNS, THREADS = PANEL * PANELS, 32 * WARPS
SUMS = 4 * PANELS  # of a lane
PANEL_WORDS = ROWS * PANEL + 16  # of a panel's sums: panels begin in other banks
STRIDE = PANELS * PANEL_WORDS  # of a warp's
SHARED_WORDS = WARPS * STRIDE
MMA = (
    "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
    "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};"
)


@cache
def _multiply(panel: int) -> DeviceFunction:
    """Intrinsic (sums, a: four words, b: two words): adds 32 codes of K to a panel's sums."""

    @intrinsic
    def multiply(typingctx: Any, sums: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = data_of(context, builder, signature.args[0], args[0])
            slots = [slot(builder, data, 4 * panel + place) for place in range(4)]
            operands = [builder.extract_value(args[1], i) for i in range(4)]
            operands += [builder.extract_value(args[2], i) for i in range(2)]
            operands += [builder.load(one) for one in slots]
            for one, value in zip(
                slots, assembly(builder, MMA, 4, operands, together=True), strict=True
            ):
                builder.store(value, one)
            return context.get_dummy_value()

        words = types.UniTuple(types.uint32, 4), types.UniTuple(types.uint32, 2)
        return types.void(sums, *words), generate

    return multiply


@device
def _weights(packed: Device, panel: Any, chunk: Any, copy: Any) -> Any:
    """A lane's 16 bytes of a piece; zeros for one that is not there."""
    words = (uint32(0), uint32(0), uint32(0), uint32(0))
    if panel < uint64(packed.shape[0]) and chunk < uint64(packed.shape[1]):
        piece = panel * uint64(packed.shape[1]) + chunk
        at = piece * uint64(PIECE) + uint64(cuda.laneid) * uint64(16)
        if copy == 16:
            words = load_words4(packed, at)
        elif copy == 4:
            words = (
                load_words1(packed, at)[0],
                load_words1(packed, at + uint64(4))[0],
                load_words1(packed, at + uint64(8))[0],
                load_words1(packed, at + uint64(12))[0],
            )
        else:
            words = (
                _word_at(packed, panel, chunk, uint64(0)),
                _word_at(packed, panel, chunk, uint64(4)),
                _word_at(packed, panel, chunk, uint64(8)),
                _word_at(packed, panel, chunk, uint64(12)),
            )
    return words


@device
def _word_at(packed: Device, panel: Any, chunk: Any, at: Any) -> Any:
    """Bytes at .. at + 3 of the lane's 16, one by one."""
    first = uint64(cuda.laneid) * uint64(16) + at
    word = uint32(0)
    for byte in range(4):
        one = uint32(packed[panel, chunk, first + uint64(byte)]) & uint32(0xFF)
        word = uint32(word | uint32(one << uint32(8 * byte)))
    return word


def _kernel(out_dtype: str) -> Kernel:
    clear, (columns, _) = zeroed(SUMS), results(("dequant", out_dtype))
    to_bits, store_four = narrow(out_dtype), store_four_of(out_dtype)
    first, second = _multiply(0), _multiply(1)

    @device
    def accumulate(a: Device, packed: Device, m: Any, panel: Any, copy: Any, sums: Any) -> None:
        """This warp's share of rows m, m + 8 and of two panels."""
        rows, K = uint64(a.shape[0]), uint64(a.shape[1])
        chunks = uint64(packed.shape[1])
        offset = (uint64(cuda.laneid) & uint64(3)) * uint64(16)
        c = uint64(cuda.threadIdx.x) >> uint64(5)
        k = c * uint64(64) + offset
        x = fetch_chunk(a, m, rows, k, K, copy)
        y = fetch_chunk(a, m + uint64(8), rows, k, K, copy)
        left = _weights(packed, panel, c, copy)
        right = _weights(packed, panel + uint64(1), c, copy)
        while c < chunks:
            c += uint64(WARPS)
            k = c * uint64(64) + offset
            next_x = fetch_chunk(a, m, rows, k, K, copy)
            next_y = fetch_chunk(a, m + uint64(8), rows, k, K, copy)
            next_left = _weights(packed, panel, c, copy)
            next_right = _weights(packed, panel + uint64(1), c, copy)
            low, high = (x[0], y[0], x[1], y[1]), (x[2], y[2], x[3], y[3])
            first(sums, low, (left[0], left[1]))
            second(sums, low, (right[0], right[1]))
            first(sums, high, (left[2], left[3]))
            second(sums, high, (right[2], right[3]))
            x, y, left, right = next_x, next_y, next_left, next_right

    @bounded(THREADS, 4)
    def gemm_packed(
        a: Device, packed: Device, copy: Any, blocks_down: Any, given: Any, out: Device
    ) -> None:
        """a: s8 (M, K); packed: s8 (P, chunks, 512); copy: see tile.py; blocks_down: row tiles;
        given: see tile_results.py; out: bits (M, 8 P)."""
        shared = cuda.shared.array(SHARED_WORDS, int32)
        sums = cuda.local.array(SUMS, int32)
        clear(sums)
        block, lane = uint64(cuda.blockIdx.x), uint64(cuda.laneid)
        column = uint64(divide(uint32(cuda.blockIdx.x), blocks_down))
        m0 = (block - column * uint64(blocks_down)) * uint64(ROWS)
        accumulate(a, packed, m0 + (lane >> uint64(2)), column * uint64(PANELS), copy, sums)
        warp = (uint64(cuda.threadIdx.x) >> uint64(5)) * uint64(STRIDE)
        at = warp + (lane >> uint64(2)) * uint64(PANEL) + (lane & uint64(3)) * uint64(2)
        shared[at], shared[at + uint64(1)] = sums[0], sums[1]
        below = at + uint64(8 * PANEL)
        shared[below], shared[below + uint64(1)] = sums[2], sums[3]
        other, under = at + uint64(PANEL_WORDS), below + uint64(PANEL_WORDS)
        shared[other], shared[other + uint64(1)] = sums[4], sums[5]
        shared[under], shared[under + uint64(1)] = sums[6], sums[7]
        cuda.syncthreads()
        thread = uint64(cuda.threadIdx.x)
        row, four = thread >> uint64(2), (thread & uint64(3)) * uint64(4)
        m, n = m0 + row, column * uint64(COLUMNS) + four
        there = m < uint64(a.shape[0]) and n < uint64(out.shape[1])
        if thread < uint64(4 * ROWS) and there:
            place = (four >> uint64(3)) * uint64(PANEL_WORDS) + row * uint64(PANEL)
            place += four & uint64(7)
            totals = (int32(0), int32(0), int32(0), int32(0))
            for w in range(WARPS):
                part = place + uint64(w * STRIDE)
                totals = (
                    int32(totals[0] + shared[part]),
                    int32(totals[1] + shared[part + uint64(1)]),
                    int32(totals[2] + shared[part + uint64(2)]),
                    int32(totals[3] + shared[part + uint64(3)]),
                )
            values = four_scaled(given, columns(given, n, out), m, totals)
            bits = (to_bits(values[0]), to_bits(values[1]), to_bits(values[2]), to_bits(values[3]))
            store_four(out, m * uint64(out.shape[1]) + n, bits)  # N is a multiple of 8

    return gemm_packed


@implements("int8.gemm_packed", wing="numba")
@launch.entry("int8.gemm_packed")
def gemm_packed(
    a: Any,
    packed: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """a: s8 (M, K); packed: s8 (P, ceil(K / 64), 512); a_scales: fp32 (M,) or (1,); b_scales: fp32
    (8 P,) or (1,); bias: fp32 (8 P,) or None. Returns out_dtype (M, 8 P).
    """
    spoken = check_gemm_packed(a, packed, a_scales, b_scales, bias, dialect, out_dtype)
    M, P = a.shape[0], packed.shape[0]
    out = launch.empty(a, (M, PANEL * P), out_dtype)
    down, across = -(-M // ROWS), -(-P // PANELS)
    copy = np.int32(min(copy_width(a), copy_width(packed)))
    given = scaling(a_scales, b_scales, bias, spoken)
    arrays = a, packed, copy, np.uint32(down), given, launch.bits(out)
    launch.run(_kernel, (out_dtype,), (down * across,), (THREADS,), *arrays)
    return out
