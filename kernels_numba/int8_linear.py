"""The W8A8 linear layer in Numba CUDA: per-token dynamic activations times per-channel weights.

    out = epilogue(gemm(codes(x), w_codes), scales(x), w_scales, bias)

Contract: reference/int8_linear.py. Three forms, equal in their results:
    linear_unfused    quantize | GEMM to int32 in memory | epilogue       three launches
    linear_fused      quantize | GEMM with the epilogue                   two: acc (M, N) s32 is
                                                                          neither written nor read
    linear_prologue   x is quantized on its way into the GEMM's tiles     one

In the prologue form four threads share a row of the tile: they find its amax, and quantize its
elements chunk by chunk, so that scale and factor stay in their registers. Every block of a row tile
reads x twice and derives the same scales: no block waits for another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels_numba import launch
from kernels_numba.compile import Kernel, bounded
from kernels_numba.device import (
    ALL_LANES,
    SIZE,
    Device,
    DeviceFunction,
    cuda,
    device,
    float32,
    int32,
    load_words2,
    load_words4,
    magnitude,
    narrow,
    pack4,
    uint8,
    uint32,
    uint64,
    widen,
)
from kernels_numba.dialect import code_function, factor_function, scale_function
from kernels_numba.int8_gemm import epilogue, gemm, gemm_dequant
from kernels_numba.int8_quantize import quantize_per_token
from kernels_numba.intrinsics import rolled, shared_address
from kernels_numba.tile import block_tile, copy_width, tiles
from kernels_numba.tile_dp4a import SHARED_BYTES, SUMS, THREADS, TILE, accumulator, take
from kernels_numba.tile_mma import zeroed
from kernels_numba.tile_results import four_biases, four_scales, put_four_of, scaled, scaling
from reference.dialects import Dialect
from reference.numerics import dtype_name
from reference.op import implements
from reference.validate import check_linear


def _four(dtype: str, wide: bool) -> DeviceFunction:
    """Device function (x, at, end): bits of four neighbours; zeros from `end` on."""
    two_bytes = SIZE[dtype] == 2

    @device
    def words(x: Device, at: Any, end: Any) -> Any:
        found = (uint32(0), uint32(0), uint32(0), uint32(0))
        if at < end:
            found = load_words4(x, at)
        return found

    @device
    def halves(x: Device, at: Any, end: Any) -> Any:
        first, second, low = uint32(0), uint32(0), uint32(0xFFFF)
        if at < end:
            first, second = load_words2(x, at)
        return first & low, first >> uint32(16), second & low, second >> uint32(16)

    @device
    def single(x: Device, at: Any, end: Any) -> Any:
        return (
            uint32(x[at]) if at < end else uint32(0),
            uint32(x[at + uint64(1)]) if at + uint64(1) < end else uint32(0),
            uint32(x[at + uint64(2)]) if at + uint64(2) < end else uint32(0),
            uint32(x[at + uint64(3)]) if at + uint64(3) < end else uint32(0),
        )

    return (halves if two_bytes else words) if wide else single


def _prologue_kernel(dtype: str, spoken: Dialect, wide: bool, out_dtype: str) -> Kernel:
    """dtype: of x. wide: rows of x begin at multiples of four elements' bytes."""
    four, size_of = _four(dtype, wide), magnitude(dtype, spoken.nan == "skip")
    code, to_float = code_function(dtype, spoken, spoken.multiplier), widen(dtype)
    scale_of, factor_of = scale_function(dtype, spoken), factor_function(dtype, spoken)
    to_bits, put = narrow(out_dtype), put_four_of(out_dtype)
    place = block_tile(TILE, TILE)

    @device
    def amax_of_row(x: Device, base: Any, end: Any, quarter: Any) -> Any:
        """Bits of the largest |x| of a row, in each of its four threads; none if base == end."""
        largest = int32(0)
        at = base + quarter * uint64(4)
        while at < end:
            bits = four(x, at, end)
            first = max(size_of(bits[0]), size_of(bits[1]))
            largest = max(largest, max(first, max(size_of(bits[2]), size_of(bits[3]))))
            at += uint64(16)
        largest = max(largest, cuda.shfl_xor_sync(uint32(ALL_LANES), largest, int32(1)))
        return max(largest, cuda.shfl_xor_sync(uint32(ALL_LANES), largest, int32(2)))

    @device
    def codes_of(x: Device, at: Any, end: Any, factor: Any) -> Any:
        word = uint32(0)
        if at < end:
            bits = four(x, at, end)
            word = pack4(
                code(bits[0], factor), code(bits[1], factor),
                code(bits[2], factor), code(bits[3], factor),
            )  # fmt: skip
        return word

    @device
    def fetch(told: Any, row: Any, last: Any, at: Any, K: Any, copy: Any) -> Any:
        """As tile.fetch_chunk. told: x, flat, and the factor of this thread's row. Codes that lie
        beyond K, of a word that begins before it, meet zeros of w_codes.
        """
        x, factor = told
        start, end = row * K + at, row * K + K if row < last else uint64(0)
        return (
            codes_of(x, start, end, factor),
            codes_of(x, start + uint64(4), end, factor),
            codes_of(x, start + uint64(8), end, factor),
            codes_of(x, start + uint64(12), end, factor),
        )

    accumulate = accumulator(True, zeroed(SUMS), fetch)

    @device
    def put_row(sums: Any, scale: Any, given: Any, columns: Any, m: Any, n: Any, out: Any) -> None:
        scales, biases = columns
        put(out, m, n, (
            to_bits(scaled(int32(sums[0]), scale, scales[0], biases[0], given[4])),
            to_bits(scaled(int32(sums[1]), scale, scales[1], biases[1], given[4])),
            to_bits(scaled(int32(sums[2]), scale, scales[2], biases[2], given[4])),
            to_bits(scaled(int32(sums[3]), scale, scales[3], biases[3], given[4])),
        ))  # fmt: skip

    @bounded(THREADS, 2)
    def linear_prologue(
        x: Device, M: Any, w_codes: Device, copy: Any, given: Any, out: Device
    ) -> None:
        """x: bits (M * K,); w_codes: s8 (N, K); copy: see tile.py; given: tile_results.scaling with
        w_scales for a_scales too; out: bits (M, N)."""
        memory = cuda.shared.array(SHARED_BYTES, uint8, 16)
        row_scales = cuda.shared.array(TILE, float32)
        sums = cuda.local.array(SUMS, int32)
        thread, K, N = uint32(cuda.threadIdx.x), uint64(w_codes.shape[1]), uint64(out.shape[1])
        tile = place(M, out.shape[1])
        m = tile[0] + uint64(thread >> uint32(2))
        base, quarter = m * K, uint64(thread & uint32(3))
        end = base + K if m < tile[1] else base
        amax = to_float(amax_of_row(x, base, end, quarter))
        scale = scale_of(amax)
        if quarter == uint64(0):
            row_scales[thread >> uint32(2)] = scale
        told = (x, factor_of(amax, scale))
        accumulate(told, w_codes, tile, uint64(0), K, copy, shared_address(memory), sums)
        n = tile[4] + uint64((thread & uint32(15)) * uint32(4))
        columns = four_scales(given[1], n, N), four_biases(given[2], given[3], n, N)
        of_tile = uint32((thread >> uint32(4)) * uint32(4))
        i = uint32(0)
        while i < rolled(uint32(4)):
            m = tile[0] + uint64(of_tile + i)
            if m < tile[1]:
                put_row(take(sums, i), row_scales[of_tile + i], given, columns, m, n, out)
            i = uint32(i + uint32(1))

    return linear_prologue


@implements("int8.linear", wing="numba", variant="unfused")
@launch.entry("int8.linear", "unfused")
def linear_unfused(
    x: Any,
    w_codes: Any,
    w_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """x @ dequantize(w).T + bias through int8, in three launches.

    x: fp32, fp16 or bf16 (M, K); w_codes: s8 (N, K); w_scales: fp32 (N,); bias: fp32 (N,) or None.
    Returns out_dtype (M, N). Raises TypeError or ValueError naming the argument.
    """
    check_linear(x, w_codes, w_scales, bias, dialect, out_dtype)
    codes, scales = quantize_per_token(x, dialect=dialect)
    acc = gemm(codes, w_codes, dialect=dialect)
    return epilogue(acc, scales, w_scales, bias, dialect=dialect, out_dtype=out_dtype)


@implements("int8.linear", wing="numba", variant="fused")
@launch.entry("int8.linear", "fused")
def linear_fused(
    x: Any,
    w_codes: Any,
    w_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """As `linear_unfused`, in two launches."""
    check_linear(x, w_codes, w_scales, bias, dialect, out_dtype)
    codes, scales = quantize_per_token(x, dialect=dialect)
    return gemm_dequant(
        codes, w_codes, scales, w_scales, bias, dialect=dialect, out_dtype=out_dtype
    )


@implements("int8.linear", wing="numba", variant="prologue")
@launch.entry("int8.linear", "prologue")
def linear_prologue(
    x: Any,
    w_codes: Any,
    w_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """As `linear_unfused`, in one launch: x is quantized on its way into the GEMM's tiles."""
    spoken = check_linear(x, w_codes, w_scales, bias, dialect, out_dtype)
    (M, K), N = x.shape, w_codes.shape[0]
    out, item = launch.empty(x, (M, N), out_dtype), x.dtype.itemsize
    wide = launch.aligned(x, K * item, 4 * item)
    constants = dtype_name(x.dtype), spoken, wide, out_dtype
    given = scaling(w_scales, w_scales, bias, spoken)
    told = np.uint64(M), w_codes, np.int32(copy_width(w_codes)), given, launch.bits(out)
    grid, flat = (tiles(M, N, TILE, TILE),), launch.bits(x).reshape(-1)
    launch.run(_prologue_kernel, constants, grid, (THREADS,), flat, *told)
    return out
