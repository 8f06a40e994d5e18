"""What becomes of a tile's sums: stored as they are, added, dequantized, requantized.

Contract: a tiled kernel ends with every thread handing over four sums of neighbouring columns at a
time. `results(words)` gives the two device functions that do this for a kernel:

    columns(given, n, out)               what columns n .. n + 3 need, once per thread
    put(given, columns, m, n, sums, out) the four results of row m; nothing beyond out's columns

words: ("sums",) | ("add",) | ("dequant", out_dtype) | ("azp", out_dtype)
     | ("requantize", dialect). `given` is the tuple of the kernel's vectors (`scaling` makes it); a
vector of one element serves every row or column. Zero points leave in int32, modulo 2**32; the
rest is reference/int8_gemm.py's epilogue, one rounding per operation. The order of its operations,
the dialect's, is a run-time number: three compilations less of every kernel for one selection.

Four results leave in one access where N % 4 == 0 (out is a fresh array, so aligned), else one by
one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from kernels_numba.device import (
    Device,
    DeviceFunction,
    cuda,
    device,
    float32,
    fused_multiply_add,
    int8,
    int32,
    libdevice,
    narrow,
    pack4,
    store_words1,
    store_words2,
    store_words4,
    uint32,
    uint64,
)
from kernels_numba.dialect import NO_BIAS, code_function
from kernels_numba.intrinsics import load_constant
from reference.dialects import Dialect

Words = tuple[Any, ...]
FUSED, ROW_FIRST = 1, 2
ORDERS = {  # the dialect's word -> the kernels' number
    "acc*sB*sA+bias": 0,
    "sA*(sB*acc) fma bias": FUSED,
    "acc*sA*sB+bias": ROW_FIRST,
}


def scaling(a_scales: Any, b_scales: Any, bias: Any, spoken: Dialect) -> tuple[Any, ...]:
    """What the epilogue reads: scales, bias and whether there is one, the order of operations.

    Where there is no bias, b_scales is passed in its place and not read.
    """
    given = (b_scales, np.int32(0)) if bias is None else (bias, np.int32(1))
    return a_scales, b_scales, *given, np.int32(ORDERS[spoken.epilogue])


@cache
def results(words: Words) -> tuple[DeviceFunction, DeviceFunction]:
    """(columns, put) for these words; see the contract."""
    kind, *rest = words
    makers: dict[str, Any] = {
        "sums": _plain,
        "add": _added,
        "dequant": _dequantized,
        "azp": _without_zero_point,
        "requantize": _requantized,
    }
    functions: tuple[DeviceFunction, DeviceFunction] = makers[kind](*rest)
    return functions


# -- vectors ---------------------------------------------------------------------------------------


@device
def entry(vector: Device, place: Any) -> Any:
    """An element of a vector, or its only one."""
    return load_constant(vector, place if uint64(vector.shape[0]) > uint64(1) else uint64(0))


@device
def four_scales(vector: Device, n: Any, N: Any) -> Any:
    """Elements n .. n + 3 of a vector of N or 1; 0 beyond."""
    return (
        entry(vector, n) if n < N else float32(0),
        entry(vector, n + uint64(1)) if n + uint64(1) < N else float32(0),
        entry(vector, n + uint64(2)) if n + uint64(2) < N else float32(0),
        entry(vector, n + uint64(3)) if n + uint64(3) < N else float32(0),
    )


@device
def four_biases(bias: Device, has_bias: Any, n: Any, N: Any) -> Any:
    """Elements n .. n + 3 of the bias; NO_BIAS beyond, and where there is none."""
    return (
        load_constant(bias, n) if has_bias and n < N else NO_BIAS,
        load_constant(bias, n + uint64(1)) if has_bias and n + uint64(1) < N else NO_BIAS,
        load_constant(bias, n + uint64(2)) if has_bias and n + uint64(2) < N else NO_BIAS,
        load_constant(bias, n + uint64(3)) if has_bias and n + uint64(3) < N else NO_BIAS,
    )


@device
def four_sums(vector: Device, n: Any, N: Any) -> Any:
    """Elements n .. n + 3 of an s32 vector; 0 beyond."""
    return (
        load_constant(vector, n) if n < N else int32(0),
        load_constant(vector, n + uint64(1)) if n + uint64(1) < N else int32(0),
        load_constant(vector, n + uint64(2)) if n + uint64(2) < N else int32(0),
        load_constant(vector, n + uint64(3)) if n + uint64(3) < N else int32(0),
    )


# -- stores ----------------------------------------------------------------------------------------


@cache
def store_four_of(out_dtype: str) -> DeviceFunction:
    """Device function (out, element, four results' bits): one access."""

    @device
    def words(out: Device, at: Any, bits: Any) -> None:
        store_words4(out, at, (uint32(bits[0]), uint32(bits[1]), uint32(bits[2]), uint32(bits[3])))

    @device
    def halves(out: Device, at: Any, bits: Any) -> None:
        low = uint32(uint32(bits[0]) | (uint32(bits[1]) << uint32(16)))
        high = uint32(uint32(bits[2]) | (uint32(bits[3]) << uint32(16)))
        store_words2(out, at, (low, high))

    @device
    def bytes_(out: Device, at: Any, bits: Any) -> None:
        store_words1(out, at, (pack4(bits[0], bits[1], bits[2], bits[3]),))

    return {"s32": words, "fp32": words, "fp16": halves, "bf16": halves, "s8": bytes_}[out_dtype]


@device
def put_each(out: Device, m: Any, n: Any, bits: Any) -> None:
    """Four results one by one; nothing beyond out's columns."""
    N = uint64(out.shape[1])
    if n < N:
        out[m, n] = bits[0]
    if n + uint64(1) < N:
        out[m, n + uint64(1)] = bits[1]
    if n + uint64(2) < N:
        out[m, n + uint64(2)] = bits[2]
    if n + uint64(3) < N:
        out[m, n + uint64(3)] = bits[3]


@cache
def put_four_of(out_dtype: str) -> DeviceFunction:
    """Device function (out, m, n, four results): one store, or up to four."""
    store_four = store_four_of(out_dtype)

    @device
    def put(out: Device, m: Any, n: Any, bits: Any) -> None:
        N = uint64(out.shape[1])
        if N & uint64(3) == uint64(0):
            if n < N:
                store_four(out, m * N + n, bits)
        else:
            put_each(out, m, n, bits)

    return put


# -- the kinds -------------------------------------------------------------------------------------


@device
def _nothing(given: Any, n: Any, out: Device) -> Any:
    return int32(0)


def _plain() -> tuple[DeviceFunction, DeviceFunction]:
    """given: not read; out: s32."""
    put_four = put_four_of("s32")

    @device
    def put(given: Any, columns: Any, m: Any, n: Any, sums: Any, out: Device) -> None:
        put_four(out, m, n, (int32(sums[0]), int32(sums[1]), int32(sums[2]), int32(sums[3])))

    return _nothing, put


def _added() -> tuple[DeviceFunction, DeviceFunction]:
    """given: not read; out: s32, added to: several blocks share a tile."""

    @device
    def put(given: Any, columns: Any, m: Any, n: Any, sums: Any, out: Device) -> None:
        N = uint64(out.shape[1])
        for j in range(4):
            if n + uint64(j) < N:
                cuda.atomic.add(out, (m, n + uint64(j)), int32(sums[j]))

    return _nothing, put


@device
def scaled(acc: Any, row_scale: Any, column_scale: Any, bias: Any, order: Any) -> Any:
    """The epilogue's float32: three operations, one rounding each, or two where the last is fma."""
    first = row_scale if order == ROW_FIRST else column_scale
    second = column_scale if order == ROW_FIRST else row_scale
    product = libdevice.fmul_rn(libdevice.int2float_rn(acc), first)
    apart = libdevice.fadd_rn(libdevice.fmul_rn(product, second), bias)
    fused = fused_multiply_add(product, second, bias)
    return fused if order == FUSED else apart


@device
def four_scaled(given: Any, columns: Any, m: Any, sums: Any) -> Any:
    """The epilogue of four neighbouring sums of row m."""
    scale, order = entry(given[0], m), given[4]
    scales, biases = columns
    return (
        scaled(int32(sums[0]), scale, scales[0], biases[0], order),
        scaled(int32(sums[1]), scale, scales[1], biases[1], order),
        scaled(int32(sums[2]), scale, scales[2], biases[2], order),
        scaled(int32(sums[3]), scale, scales[3], biases[3], order),
    )


@device
def scaled_columns(given: Any, n: Any, out: Device) -> Any:
    N = uint64(out.shape[1])
    return four_scales(given[1], n, N), four_biases(given[2], given[3], n, N)


def _dequantized(out_dtype: str) -> tuple[DeviceFunction, DeviceFunction]:
    """given: `scaling`; out: bits of out_dtype."""
    bits, put_four = narrow(out_dtype), put_four_of(out_dtype)

    @device
    def put(given: Any, columns: Any, m: Any, n: Any, sums: Any, out: Device) -> None:
        values = four_scaled(given, columns, m, sums)
        put_four(out, m, n, (bits(values[0]), bits(values[1]), bits(values[2]), bits(values[3])))

    return scaled_columns, put


def _without_zero_point(out_dtype: str) -> tuple[DeviceFunction, DeviceFunction]:
    """given: `scaling`, zero_points, column_sums; out: bits of out_dtype."""
    _, put_scaled = _dequantized(out_dtype)

    @device
    def columns(given: Any, n: Any, out: Device) -> Any:
        return four_sums(given[6], n, uint64(out.shape[1])), scaled_columns(given, n, out)

    @device
    def put(given: Any, columns: Any, m: Any, n: Any, sums: Any, out: Device) -> None:
        zero = entry(given[5], m)
        shares, rest = columns
        exact = (
            int32(int32(sums[0]) - zero * shares[0]),
            int32(int32(sums[1]) - zero * shares[1]),
            int32(int32(sums[2]) - zero * shares[2]),
            int32(int32(sums[3]) - zero * shares[3]),
        )
        put_scaled(given, rest, m, n, exact, out)

    return columns, put


def _requantized(spoken: Dialect) -> tuple[DeviceFunction, DeviceFunction]:
    """given: `scaling`, out_scale (1,); out: s8."""
    multiplier = spoken.static_multiplier
    bits, code = narrow("fp32"), code_function("fp32", spoken, multiplier)
    inverts, put_four = {"x/s": False, "x*(1/s)": True}[multiplier], put_four_of("s8")

    @device
    def columns(given: Any, n: Any, out: Device) -> Any:
        scale = entry(given[5], uint64(0))
        factor = libdevice.fdiv_rn(float32(1), scale) if inverts else scale
        return factor, scaled_columns(given, n, out)

    @device
    def put(given: Any, columns: Any, m: Any, n: Any, sums: Any, out: Device) -> None:
        factor, rest = columns
        values = four_scaled(given, rest, m, sums)
        codes = (
            int8(code(bits(values[0]), factor)),
            int8(code(bits(values[1]), factor)),
            int8(code(bits(values[2]), factor)),
            int8(code(bits(values[3]), factor)),
        )
        put_four(out, m, n, codes)

    return columns, put
