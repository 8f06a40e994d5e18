"""x @ w.T + bias with w in INT8 and x in floats, for few rows of x, in Numba CUDA.

    w[n, k] = round(code[n, k] * scale of its group)
    out[m, n] = round(dot(x[m], w[n]) + bias[n])

Contract: reference/int8_weight_only.py: sums in "lanes of 8" with 32 lanes, one fma per product,
joined by a butterfly. A warp has one row of w and 1 or 8 rows of x, so that each weight is read and
dequantized once for these rows; lane l has chunks l, l + 32, ... of 8 neighbours. Beyond the last
row of x the last one is computed again and not stored.

A chunk is 8 bytes of codes and 16 or 32 of x where pointers and K allow and no group ends inside
(`wide`), else it goes element by element. `wide` and the output's dtype are run-time arguments.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from kernels_numba import launch
from kernels_numba.compile import Kernel
from kernels_numba.device import (
    SIZE,
    Device,
    DeviceFunction,
    cuda,
    device,
    fused_multiply_add,
    int8,
    int32,
    libdevice,
    load_words2,
    load_words4,
    narrow,
    uint32,
    uint64,
    widen,
)
from kernels_numba.dialect import NO_BIAS
from kernels_numba.reductions import warp_sum
from kernels_numba.tile import divide
from reference.int8_weight_only import check_weight_only
from reference.numerics import dtype_name
from reference.op import implements
from reference.validate import FLOATS

CHUNK, WARP = 8, 32
WARPS = 4  # of a block
MOST_ROWS = 8  # of x that a warp has


@cache
def _weight(kept: str) -> DeviceFunction:
    """Device function: (code, scale) -> float32 rounded to `kept`."""
    to_bits, to_float = narrow(kept), widen(kept)

    @device
    def weight(code: Any, scale: Any) -> Any:
        product = libdevice.fmul_rn(libdevice.int2float_rn(int32(code)), scale)
        return to_float(to_bits(product))

    return weight


@cache
def _eight_weights(kept: str) -> DeviceFunction:
    """Device function: (two words of codes, scale) -> eight weights."""
    weight = _weight(kept)

    @device
    def four(word: Any, scale: Any) -> Any:
        return (
            weight(int8(word), scale),
            weight(int8(word >> uint32(8)), scale),
            weight(int8(word >> uint32(16)), scale),
            weight(int8(word >> uint32(24)), scale),
        )

    @device
    def eight(words: Any, scale: Any) -> Any:
        return four(words[0], scale) + four(words[1], scale)

    return eight


@cache
def _eight_elements(dtype: str) -> DeviceFunction:
    """Device function: (bits of x, element) -> eight elements from there, as float32."""
    to_float = widen(dtype)

    @device
    def whole(x: Device, at: Any) -> Any:
        low, high = load_words4(x, at), load_words4(x, at + uint64(4))
        return (
            to_float(low[0]), to_float(low[1]), to_float(low[2]), to_float(low[3]),
            to_float(high[0]), to_float(high[1]), to_float(high[2]), to_float(high[3]),
        )  # fmt: skip

    @device
    def pair(word: Any) -> Any:
        return to_float(word & uint32(0xFFFF)), to_float(word >> uint32(16))

    @device
    def halves(x: Device, at: Any) -> Any:
        words = load_words4(x, at)
        return pair(words[0]) + pair(words[1]) + pair(words[2]) + pair(words[3])

    return {4: whole, 2: halves}[SIZE[dtype]]


@device
def _chain(x: Any, w: Any, total: Any) -> Any:
    """total + the products of eight, one rounding each, in order."""
    total = fused_multiply_add(x[0], w[0], total)
    total = fused_multiply_add(x[1], w[1], total)
    total = fused_multiply_add(x[2], w[2], total)
    total = fused_multiply_add(x[3], w[3], total)
    total = fused_multiply_add(x[4], w[4], total)
    total = fused_multiply_add(x[5], w[5], total)
    total = fused_multiply_add(x[6], w[6], total)
    return fused_multiply_add(x[7], w[7], total)


@cache
def _add_chunk(dtype: str, rows: int) -> DeviceFunction:
    """Device function: (x, m, k, eight weights, sums of `rows` rows from m on) -> sums."""
    eight = _eight_elements(dtype)
    others: Any = _add_chunk(dtype, rows - 1) if rows > 1 else None

    @device
    def one(x: Device, m: Any, k: Any, w: Any, sums: Any) -> Any:
        row = min(m, uint64(x.shape[0]) - uint64(1))
        return (_chain(eight(x, row * uint64(x.shape[1]) + k), w, sums[0]),)

    @device
    def several(x: Device, m: Any, k: Any, w: Any, sums: Any) -> Any:
        return one(x, m, k, w, sums) + others(x, m + uint64(1), k, w, sums[1:])

    return one if others is None else several


@cache
def _add_element(dtype: str, rows: int) -> DeviceFunction:
    """As `_add_chunk`, for one element and its weight."""
    to_float = widen(dtype)
    others: Any = _add_element(dtype, rows - 1) if rows > 1 else None

    @device
    def one(x: Device, m: Any, k: Any, w: Any, sums: Any) -> Any:
        row = min(m, uint64(x.shape[0]) - uint64(1))
        return (fused_multiply_add(to_float(x[row, k]), w, sums[0]),)

    @device
    def several(x: Device, m: Any, k: Any, w: Any, sums: Any) -> Any:
        return one(x, m, k, w, sums) + others(x, m + uint64(1), k, w, sums[1:])

    return one if others is None else several


def _stored() -> DeviceFunction:
    """Device function: (value, m, n, format, out as words, out as halves): lane 0 stores it."""
    to_fp32, to_fp16, to_bf16 = narrow("fp32"), narrow("fp16"), narrow("bf16")

    @device
    def store(value: Any, m: Any, n: Any, form: Any, words: Device, halves: Device) -> None:
        if form == 0:
            words[m, n] = to_fp32(value)
        elif form == 1:
            halves[m, n] = to_fp16(value)
        else:
            halves[m, n] = to_bf16(value)

    return store


@cache
def _finish(rows: int) -> DeviceFunction:
    """Device function: joins the lanes' sums of `rows` rows, adds the bias and stores."""
    store = _stored()
    others: Any = _finish(rows - 1) if rows > 1 else None

    @device
    def one(
        sums: Any, m: Any, M: Any, n: Any, shift: Any, form: Any, words: Device, halves: Device
    ) -> None:
        value = libdevice.fadd_rn(warp_sum(sums[0]), shift)
        if cuda.laneid == 0 and m < M:
            store(value, m, n, form, words, halves)

    @device
    def several(
        sums: Any, m: Any, M: Any, n: Any, shift: Any, form: Any, words: Device, halves: Device
    ) -> None:
        one(sums, m, M, n, shift, form, words, halves)
        others(sums[1:], m + uint64(1), M, n, shift, form, words, halves)

    return one if others is None else several


def _kernel(dtype: str, kept: str, rows: int) -> Kernel:
    weight, eight_weights = _weight(kept), _eight_weights(kept)
    add_chunk, add_element, finish = (
        _add_chunk(dtype, rows),
        _add_element(dtype, rows),
        _finish(rows),
    )
    nothing = (np.float32(0),) * rows

    def weight_only(
        x: Device,
        w_codes: Device,
        w_scales: Device,
        size: Any,
        wide: Any,
        bias: Device,
        has_bias: Any,
        form: Any,
        words: Device,
        halves: Device,
    ) -> None:
        """x: bits (M, K); w_codes: s8 (N, K); w_scales: fp32 (N, Q); size: K / Q; bias: fp32 (N,),
        read only if has_bias; form: of out, index in FLOATS; out: words or halves, bits (M, N)."""
        M, K, N = uint64(x.shape[0]), uint64(x.shape[1]), uint64(w_codes.shape[0])
        row_tiles = divide(uint32(M) + uint32(rows - 1), uint32(rows))
        block = uint32(cuda.blockIdx.x)
        rest = divide(block, row_tiles)
        m = uint64(uint32(block - rest * row_tiles)) * uint64(rows)
        n = uint64(rest) * uint64(WARPS) + (uint64(cuda.threadIdx.x) >> uint64(5))
        if n < N:
            sums = nothing
            k = uint64(cuda.laneid) * uint64(CHUNK)
            if wide:
                while k < K:
                    scale = w_scales[n, uint64(divide(uint32(k), size))]
                    w = eight_weights(load_words2(w_codes, n * K + k), scale)
                    sums = add_chunk(x, m, k, w, sums)
                    k += uint64(WARP * CHUNK)
            else:
                while k < K:
                    end = min(k + uint64(CHUNK), K)
                    while k < end:
                        scale = w_scales[n, uint64(divide(uint32(k), size))]
                        one = weight(w_codes[n, k], scale)
                        sums = add_element(x, m, k, one, sums)
                        k += uint64(1)
                    k += uint64((WARP - 1) * CHUNK)
            shift = bias[n] if has_bias else NO_BIAS
            finish(sums, m, M, n, shift, form, words, halves)

    return weight_only


@implements("int8.weight_only_linear", wing="numba")
@launch.entry("int8.weight_only_linear")
def weight_only_linear(
    x: Any,
    w_codes: Any,
    w_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """x @ dequantize(w).T + bias in float, in one launch.

    x: fp32, fp16 or bf16 (M, K); w_codes: s8 (N, K); w_scales: fp32 (N, Q), Q a divisor of K;
    bias: fp32 (N,) or None. Returns out_dtype (M, N). Raises TypeError or ValueError naming the
    argument.
    """
    spoken = check_weight_only(x, w_codes, w_scales, bias, dialect, out_dtype)
    (M, K), (N, Q) = x.shape, w_scales.shape
    dtype, size = str(dtype_name(x.dtype)), K // Q
    out = launch.empty(x, (M, N), out_dtype)
    wide = size % CHUNK == 0 and launch.aligned(w_codes, K, CHUNK)
    wide = wide and launch.aligned(x, K * SIZE[dtype], 2 * CHUNK)
    rows = 1 if M == 1 else MOST_ROWS
    kept = dtype if spoken.intermediate == "input" else "fp32"
    # Where there is no bias, another vector stands in its place and is not read.
    given = (w_scales.reshape(-1), np.int32(0)) if bias is None else (bias, np.int32(1))
    form = np.int32(FLOATS.index(out_dtype))
    # So does out itself, or the scales, where out is not made of words, or of halves.
    words = launch.bits(out if out_dtype == "fp32" else w_scales)
    halves = out.view(np.uint16)
    grid = (-(-M // rows) * -(-N // WARPS),)
    told = np.uint32(size), np.int32(wide), *given, form, words, halves
    constants = dtype, kept, rows
    launch.run(_kernel, constants, grid, (WARPS * WARP,), launch.bits(x), w_codes, w_scales, *told)
    return out
