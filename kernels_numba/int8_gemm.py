"""INT8 GEMM with int32 accumulators, and its epilogue, in Numba CUDA.

    acc[m, n] = sum over k of a[m, k] * b[n, k]         exact in int32; weights are K-major
    out[m, n] = round(epilogue(acc, a_scales[m], b_scales[n], bias[n]))

Contract: reference/int8_gemm.py. Sums wrap as int32 does (K beyond 131,071 reaches the kernels only
in dialects that wrap); order of summation cannot matter. The epilogue's order is the dialect's,
one `_rn` operation each, one fma where it says fma (dialect.py).

The ladder:
    gemm_naive          a thread per output, one product per step: 2 byte loads for each
    gemm_tiled          64 x 64 outputs per block, operands in shared memory 64 codes of K at a
                        time, 4 x 4 outputs per thread in registers, four products per `dp4a`
    gemm_dequant_tiled  the same, with the epilogue before the only store

Operands go to shared memory 16 bytes at a time where pointers and K allow (`wide`), else byte by
byte; what lies outside the matrix is 0 there, so that any M, N, K >= 1 is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels_numba import launch
from kernels_numba.compile import Kernel
from kernels_numba.device import (
    Device,
    DeviceFunction,
    cuda,
    device,
    dp4a,
    int32,
    load_words4,
    uint8,
    uint32,
    uint64,
)
from kernels_numba.dialect import NO_BIAS, epilogue_function
from reference.op import implements
from reference.validate import check_epilogue, check_gemm, check_gemm_dequant

THREADS = 16  # a side of the block, in both dimensions
TILE = 64  # a side of the block's outputs
DEPTH = 16  # words of four codes, of K, in shared memory at a time
STRIDE = TILE + 2  # words between two k in shared memory: a warp's stores hit 32 banks
WORDS = DEPTH * STRIDE
OUTPUTS = 16  # of a thread: rows ty + 16 i, columns tx + 16 j, for i and j in 0..3


def _naive_kernel() -> Kernel:
    def gemm_naive(a: Device, b: Device, acc: Device) -> None:
        """a: s8 (M, K); b: s8 (N, K); acc: s32 (M, N)."""
        m = uint64(cuda.blockIdx.x) * uint64(THREADS) + uint64(cuda.threadIdx.y)
        n = uint64(cuda.blockIdx.y) * uint64(THREADS) + uint64(cuda.threadIdx.x)
        if m < uint64(a.shape[0]) and n < uint64(b.shape[0]):
            total = int32(0)
            k = uint64(0)
            while k < uint64(a.shape[1]):
                total = int32(total + int32(a[m, k]) * int32(b[n, k]))
                k += uint64(1)
            acc[m, n] = total

    return gemm_naive


# -- the tiled GEMM's inner part, shared by gemm_tiled and gemm_dequant_tiled ----------------------


def _fetch(wide: bool) -> DeviceFunction:
    """Device function (codes, first_row, k, tile): this thread's share of a tile.

    Thread t brings row t / 4 of the tile, 16 codes from k + 16 * (t % 4), as four words.
    """

    @device
    def bytewise(codes: Device, first_row: Any, k: Any, tile: Device) -> None:
        thread = uint64(cuda.threadIdx.y) * uint64(THREADS) + uint64(cuda.threadIdx.x)
        place, quarter = thread >> uint64(2), thread & uint64(3)
        row, at = first_row + place, k + quarter * uint64(16)
        target = quarter * uint64(4) * uint64(STRIDE) + place
        for i in range(4):
            word = uint32(0)
            for byte in range(4):
                if row < uint64(codes.shape[0]) and at < uint64(codes.shape[1]):
                    word = uint32(word | (uint32(uint8(codes[row, at])) << uint32(8 * byte)))
                at += uint64(1)
            tile[target + uint64(i * STRIDE)] = int32(word)

    @device
    def sixteen_bytes(codes: Device, first_row: Any, k: Any, tile: Device) -> None:
        thread = uint64(cuda.threadIdx.y) * uint64(THREADS) + uint64(cuda.threadIdx.x)
        place, quarter = thread >> uint64(2), thread & uint64(3)
        row, at = first_row + place, k + quarter * uint64(16)
        target = quarter * uint64(4) * uint64(STRIDE) + place
        if row < uint64(codes.shape[0]) and at < uint64(codes.shape[1]):
            words = load_words4(codes, row * uint64(codes.shape[1]) + at)
            for i in range(4):
                tile[target + uint64(i * STRIDE)] = int32(words[i])
        else:
            for i in range(4):
                tile[target + uint64(i * STRIDE)] = int32(0)

    return sixteen_bytes if wide else bytewise


def _sums(wide: bool) -> DeviceFunction:
    """Device function (a, b, first_m, first_n, a_tile, b_tile, sums): 4 x 4 sums of this thread.

    a_tile, b_tile: shared s32 (WORDS,), word w of row r at [STRIDE * w + r]; sums: local s32 (16,),
    [4 * i + j] = acc[first_m + ty + 16 i, first_n + tx + 16 j].
    """
    fetch = _fetch(wide)

    @device
    def accumulate(
        a: Device, b: Device, first_m: Any, first_n: Any, a_tile: Device, b_tile: Device, sums: Any
    ) -> None:
        tx, ty = uint64(cuda.threadIdx.x), uint64(cuda.threadIdx.y)
        for i in range(OUTPUTS):
            sums[i] = int32(0)
        k = uint64(0)
        while k < uint64(a.shape[1]):
            fetch(a, first_m, k, a_tile)
            fetch(b, first_n, k, b_tile)
            cuda.syncthreads()
            at = uint64(0)
            while at < uint64(WORDS):
                a0, a1 = a_tile[at + ty], a_tile[at + ty + uint64(16)]
                a2, a3 = a_tile[at + ty + uint64(32)], a_tile[at + ty + uint64(48)]
                for j in range(4):
                    b_word = b_tile[at + tx + uint64(j * THREADS)]
                    sums[j] = dp4a(a0, b_word, sums[j])
                    sums[4 + j] = dp4a(a1, b_word, sums[4 + j])
                    sums[8 + j] = dp4a(a2, b_word, sums[8 + j])
                    sums[12 + j] = dp4a(a3, b_word, sums[12 + j])
                at += uint64(STRIDE)
            cuda.syncthreads()
            k += uint64(4 * DEPTH)

    return accumulate


def _tiled_kernel(wide: bool) -> Kernel:
    accumulate = _sums(wide)

    def gemm_tiled(a: Device, b: Device, acc: Device) -> None:
        """a: s8 (M, K); b: s8 (N, K); acc: s32 (M, N)."""
        a_tile = cuda.shared.array(WORDS, int32)
        b_tile = cuda.shared.array(WORDS, int32)
        sums = cuda.local.array(OUTPUTS, int32)
        first_m = uint64(cuda.blockIdx.x) * uint64(TILE)
        first_n = uint64(cuda.blockIdx.y) * uint64(TILE)
        accumulate(a, b, first_m, first_n, a_tile, b_tile, sums)
        for i in range(4):
            m = first_m + uint64(cuda.threadIdx.y) + uint64(i * THREADS)
            for j in range(4):
                n = first_n + uint64(cuda.threadIdx.x) + uint64(j * THREADS)
                if m < uint64(acc.shape[0]) and n < uint64(acc.shape[1]):
                    acc[m, n] = sums[4 * i + j]

    return gemm_tiled


def _dequant_kernel(wide: bool, order: str, out_dtype: str) -> Kernel:
    accumulate = _sums(wide)
    epilogue_of = epilogue_function(order, out_dtype)

    def gemm_dequant_tiled(
        a: Device,
        b: Device,
        a_scales: Device,
        b_scales: Device,
        bias: Device,
        has_bias: Any,
        out: Device,
    ) -> None:
        """a: s8 (M, K); b: s8 (N, K); a_scales: fp32 (M,); b_scales: fp32 (N,); bias: fp32 (N,),
        read only if has_bias; out: bits (M, N)."""
        a_tile = cuda.shared.array(WORDS, int32)
        b_tile = cuda.shared.array(WORDS, int32)
        sums = cuda.local.array(OUTPUTS, int32)
        first_m = uint64(cuda.blockIdx.x) * uint64(TILE)
        first_n = uint64(cuda.blockIdx.y) * uint64(TILE)
        accumulate(a, b, first_m, first_n, a_tile, b_tile, sums)
        for j in range(4):
            n = first_n + uint64(cuda.threadIdx.x) + uint64(j * THREADS)
            if n < uint64(out.shape[1]):
                b_scale = b_scales[n]
                shift = bias[n] if has_bias else NO_BIAS
                for i in range(4):
                    m = first_m + uint64(cuda.threadIdx.y) + uint64(i * THREADS)
                    if m < uint64(out.shape[0]):
                        out[m, n] = epilogue_of(sums[4 * i + j], a_scales[m], b_scale, shift)

    return gemm_dequant_tiled


def _epilogue_kernel(order: str, out_dtype: str) -> Kernel:
    epilogue_of = epilogue_function(order, out_dtype)

    def dequantize_sums(
        acc: Device, a_scales: Device, b_scales: Device, bias: Device, has_bias: Any, out: Device
    ) -> None:
        """acc: s32 (M, N); a_scales: fp32 (M,); b_scales: fp32 (N,); bias: fp32 (N,), read only if
        has_bias; out: bits (M, N)."""
        m = uint64(cuda.blockIdx.x)
        n = uint64(cuda.blockIdx.y) * uint64(cuda.blockDim.x) + uint64(cuda.threadIdx.x)
        while n < uint64(acc.shape[1]):
            shift = bias[n] if has_bias else NO_BIAS
            out[m, n] = epilogue_of(acc[m, n], a_scales[m], b_scales[n], shift)
            n += uint64(cuda.gridDim.y) * uint64(cuda.blockDim.x)

    return dequantize_sums


# -- public functions ------------------------------------------------------------------------------


@implements("int8.gemm", wing="numba", variant="naive")
@launch.entry("int8.gemm", "naive")
def gemm_naive(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a @ b.T in int32, a thread per output.

    a: s8 (M, K); b: s8 (N, K). Returns s32 (M, N).
    Raises TypeError or ValueError naming the argument (see reference/validate.py).
    """
    check_gemm(a, b, dialect)
    acc = launch.empty(a, (a.shape[0], b.shape[0]), "s32")
    launch.run(_naive_kernel, (), _tiles(a, b, THREADS), (THREADS, THREADS), a, b, acc)
    return acc


@implements("int8.gemm", wing="numba", variant="tiled")
@launch.entry("int8.gemm", "tiled")
def gemm_tiled(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a @ b.T in int32 through shared memory and dp4a. Shapes and errors as `gemm_naive`."""
    check_gemm(a, b, dialect)
    acc = launch.empty(a, (a.shape[0], b.shape[0]), "s32")
    constants = (_wide(a, b),)
    launch.run(_tiled_kernel, constants, _tiles(a, b, TILE), (THREADS, THREADS), a, b, acc)
    return acc


@implements("int8.epilogue", wing="numba")
@launch.entry("int8.epilogue")
def epilogue(
    acc: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """Dequantizes accumulators per token and per channel.

    acc: s32 (M, N); a_scales: fp32 (M,); b_scales: fp32 (N,); bias: fp32 (N,) or None.
    Returns out_dtype (M, N).
    """
    spoken = check_epilogue(acc, a_scales, b_scales, bias, dialect, out_dtype)
    out = launch.empty(acc, acc.shape, out_dtype)
    constants = (spoken.epilogue, out_dtype)
    block = min(256, -(-acc.shape[1] // 32) * 32)
    grid = acc.shape[0], min(-(-acc.shape[1] // block), 1024)
    vectors = a_scales, b_scales, *_bias(bias, b_scales)
    launch.run(_epilogue_kernel, constants, grid, (block,), acc, *vectors, launch.bits(out))
    return out


@implements("int8.gemm_dequant", wing="numba", variant="tiled")
@launch.entry("int8.gemm_dequant", "tiled")
def gemm_dequant_tiled(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """`epilogue(gemm(a, b), ...)` in one launch.

    a: s8 (M, K); b: s8 (N, K); the rest as in `epilogue`. Returns out_dtype (M, N).
    """
    spoken = check_gemm_dequant(a, b, a_scales, b_scales, bias, dialect, out_dtype)
    out = launch.empty(a, (a.shape[0], b.shape[0]), out_dtype)
    constants = (_wide(a, b), spoken.epilogue, out_dtype)
    vectors = a_scales, b_scales, *_bias(bias, b_scales)
    launch.run(
        _dequant_kernel, constants, _tiles(a, b, TILE), (THREADS, THREADS),
        a, b, *vectors, launch.bits(out),
    )  # fmt: skip
    return out


def _bias(bias: Any, stand_in: Any) -> tuple[Any, np.int32]:
    """The kernels' bias and has_bias; `stand_in` is passed, not read, where there is none."""
    return (stand_in, np.int32(0)) if bias is None else (bias, np.int32(1))


def _tiles(a: Any, b: Any, side: int) -> tuple[int, int]:
    """Grid of blocks of side x side outputs, M along x, whose limit is the higher."""
    return -(-a.shape[0] // side), -(-b.shape[0] // side)


def _wide(a: Any, b: Any) -> bool:
    depth = a.shape[1]
    return launch.aligned(a, depth, 16) and launch.aligned(b, depth, 16)
