"""What becomes of a tile's sums: stored as they are, added, dequantized, requantized.

Contract: a tiled kernel ends with every thread handing over four sums of neighbouring columns at a
time. `results(words)` gives the two device functions that do this for a kernel:

    columns(given, n, out)               what columns n .. n + 3 need, once per thread
    put(given, columns, m, n, sums, out) the four results of row m; nothing beyond out's columns

words: ("sums",) | ("add",) | ("dequant", order, out_dtype) | ("azp", order, out_dtype)
     | ("requantize", order, dialect), order being the dialect's epilogue. `given` is the tuple of
the kernel's vectors; a vector of one element serves every row or column. Zero points leave in
int32, modulo 2**32; the rest is reference/int8_gemm.py's epilogue, one rounding per operation.

Four results leave in one access where N % 4 == 0 (out is a fresh array, so aligned), else one by
one.
"""

from __future__ import annotations

from typing import Any

from kernels_numba.device import (
    Device,
    DeviceFunction,
    cuda,
    device,
    float32,
    int8,
    int32,
    libdevice,
    pack4,
    store_words1,
    store_words2,
    store_words4,
    uint32,
    uint64,
)
from kernels_numba.dialect import NO_BIAS, code_function, epilogue_function

Words = tuple[Any, ...]


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
    return vector[place if uint64(vector.shape[0]) > uint64(1) else uint64(0)]


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
        bias[n] if has_bias and n < N else NO_BIAS,
        bias[n + uint64(1)] if has_bias and n + uint64(1) < N else NO_BIAS,
        bias[n + uint64(2)] if has_bias and n + uint64(2) < N else NO_BIAS,
        bias[n + uint64(3)] if has_bias and n + uint64(3) < N else NO_BIAS,
    )


@device
def four_sums(vector: Device, n: Any, N: Any) -> Any:
    """Elements n .. n + 3 of an s32 vector; 0 beyond."""
    return (
        vector[n] if n < N else int32(0),
        vector[n + uint64(1)] if n + uint64(1) < N else int32(0),
        vector[n + uint64(2)] if n + uint64(2) < N else int32(0),
        vector[n + uint64(3)] if n + uint64(3) < N else int32(0),
    )


# -- stores ----------------------------------------------------------------------------------------


def _store_four(out_dtype: str) -> DeviceFunction:
    """Device function (out, element, four results' bits): one access."""

    @device
    def words(out: Device, at: Any, bits: Any) -> None:
        store_words4(
            out, at, (uint32(bits[0]), uint32(bits[1]), uint32(bits[2]), uint32(bits[3]))
        )

    @device
    def halves(out: Device, at: Any, bits: Any) -> None:
        low = uint32(uint32(bits[0]) | (uint32(bits[1]) << uint32(16)))
        high = uint32(uint32(bits[2]) | (uint32(bits[3]) << uint32(16)))
        store_words2(out, at, (low, high))

    @device
    def bytes_(out: Device, at: Any, bits: Any) -> None:
        store_words1(out, at, (pack4(bits[0], bits[1], bits[2], bits[3]),))

    return {"s32": words, "fp32": words, "fp16": halves, "bf16": halves, "s8": bytes_}[out_dtype]


def _put_four(out_dtype: str) -> DeviceFunction:
    """Device function (out, m, n, four results): one store, or up to four."""
    store_four = _store_four(out_dtype)

    @device
    def put(out: Device, m: Any, n: Any, bits: Any) -> None:
        N = uint64(out.shape[1])
        if N & uint64(3) == uint64(0):
            if n < N:
                store_four(out, m * N + n, bits)
        else:
            if n < N:
                out[m, n] = bits[0]
            if n + uint64(1) < N:
                out[m, n + uint64(1)] = bits[1]
            if n + uint64(2) < N:
                out[m, n + uint64(2)] = bits[2]
            if n + uint64(3) < N:
                out[m, n + uint64(3)] = bits[3]

    return put


# -- the kinds -------------------------------------------------------------------------------------


@device
def _nothing(given: Any, n: Any, out: Device) -> Any:
    return int32(0)


def _plain() -> tuple[DeviceFunction, DeviceFunction]:
    """given: not read; out: s32."""
    put_four = _put_four("s32")

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


def _dequantized(order: str, out_dtype: str) -> tuple[DeviceFunction, DeviceFunction]:
    """given: a_scales, b_scales, bias, has_bias; out: bits of out_dtype."""
    value, put_four = epilogue_function(order, out_dtype), _put_four(out_dtype)

    @device
    def columns(given: Any, n: Any, out: Device) -> Any:
        N = uint64(out.shape[1])
        return four_scales(given[1], n, N), four_biases(given[2], given[3], n, N)

    @device
    def put(given: Any, columns: Any, m: Any, n: Any, sums: Any, out: Device) -> None:
        scale = entry(given[0], m)
        scales, biases = columns
        bits = (
            value(int32(sums[0]), scale, scales[0], biases[0]),
            value(int32(sums[1]), scale, scales[1], biases[1]),
            value(int32(sums[2]), scale, scales[2], biases[2]),
            value(int32(sums[3]), scale, scales[3], biases[3]),
        )
        put_four(out, m, n, bits)

    return columns, put


def _without_zero_point(order: str, out_dtype: str) -> tuple[DeviceFunction, DeviceFunction]:
    """given: a_scales, b_scales, bias, has_bias, zero_points, column_sums; out: bits."""
    scaled_columns, scaled_put = _dequantized(order, out_dtype)

    @device
    def columns(given: Any, n: Any, out: Device) -> Any:
        N = uint64(out.shape[1])
        return four_sums(given[5], n, N), scaled_columns(given, n, out)

    @device
    def put(given: Any, columns: Any, m: Any, n: Any, sums: Any, out: Device) -> None:
        zero = entry(given[4], m)
        shares, rest = columns
        exact = (
            int32(int32(sums[0]) - zero * shares[0]),
            int32(int32(sums[1]) - zero * shares[1]),
            int32(int32(sums[2]) - zero * shares[2]),
            int32(int32(sums[3]) - zero * shares[3]),
        )
        scaled_put(given, rest, m, n, exact, out)

    return columns, put


def _requantized(order: str, dialect: Any) -> tuple[DeviceFunction, DeviceFunction]:
    """given: a_scales, b_scales, bias, has_bias, out_scale (1,); out: s8."""
    value = epilogue_function(order, "fp32")
    code, put_four = code_function("fp32", dialect, dialect.static_multiplier), _put_four("s8")
    inverts = {"x/s": False, "x*(1/s)": True}[dialect.static_multiplier]
    scaled_columns, _ = _dequantized(order, "fp32")

    @device
    def columns(given: Any, n: Any, out: Device) -> Any:
        scale = given[4][0]
        factor = libdevice.fdiv_rn(float32(1), scale) if inverts else scale
        return factor, scaled_columns(given, n, out)

    @device
    def put(given: Any, columns: Any, m: Any, n: Any, sums: Any, out: Device) -> None:
        scale = entry(given[0], m)
        factor, (scales, biases) = columns
        codes = (
            int8(code(value(int32(sums[0]), scale, scales[0], biases[0]), factor)),
            int8(code(value(int32(sums[1]), scale, scales[1], biases[1]), factor)),
            int8(code(value(int32(sums[2]), scale, scales[2], biases[2]), factor)),
            int8(code(value(int32(sums[3]), scale, scales[3], biases[3]), factor)),
        )
        put_four(out, m, n, codes)

    return columns, put
