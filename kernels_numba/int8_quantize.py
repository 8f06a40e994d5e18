"""INT8 symmetric quantization in Numba CUDA.

    amax = max |x|              scale = amax / 127        (a row, or the whole tensor)
    code = clamp(round(x over scale or times multiplier))  out = round(float32(code) * scale)

Contract: reference/int8_quantize.py, whose bytes these kernels give in every dialect. What that
means here:
- amax is a maximum of the bits of |x| as integers: order and NaN rule need no float comparison;
- fp32 arithmetic through `_rn` functions; where the dialect computes in x's dtype, scale and
  quotient are rounded to it after each operation;
- the code comes from `cvt.rni.s32.f32`: to nearest even, NaN gives 0, infinity saturates and is
  then clamped;
- subnormals are kept; -0 and zero rows need no case of their own but the dialect's zero rule.

Rows are read and written 16 bytes of x at a time where pointers and row length allow (`wide`), else
element by element. Two passes over a row; the second one hits the cache. One block per row, or a
grid over the flat array where one scale serves all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float32, int8, int32, uint32, uint64
from numba.cuda import libdevice

from kernels_numba import launch
from kernels_numba.device import (
    SIZE,
    Device,
    DeviceFunction,
    block_max,
    device,
    load_words1,
    load_words4,
    magnitude,
    narrow,
    pack4,
    store_words1,
    store_words2,
    store_words4,
    widen,
)
from reference.dialects import Dialect
from reference.numerics import dtype_name
from reference.op import implements
from reference.validate import check_dequantize, check_quantize, check_static

THREADS = 256
WIDE = 16  # bytes of x per access

# -- arithmetic of a dialect -----------------------------------------------------------------------


def _rounding(dtype: str, dialect: Dialect) -> DeviceFunction:
    """Device function: float32 -> the float32 that the dialect's arithmetic keeps."""
    to_float, to_bits = widen(dtype), narrow(dtype)

    @device
    def through_dtype(value: Any) -> Any:
        return to_float(to_bits(value))

    @device
    def as_is(value: Any) -> Any:
        return value

    return {"fp32": as_is, "input": through_dtype}[dialect.arithmetic]


def _scale(dtype: str, dialect: Dialect) -> DeviceFunction:
    """Device function: amax -> scale."""
    kept = _rounding(dtype, dialect)

    @device
    def scale(amax: Any) -> Any:
        return kept(libdevice.fdiv_rn(amax, float32(127)))

    return scale


def _factor(dialect: Dialect) -> DeviceFunction:
    """Device function: (amax, scale) -> what each element is divided or multiplied by."""
    guarded = {"code0": True, "unguarded": False}[dialect.zero]

    @device
    def the_scale(amax: Any, scale: Any) -> Any:
        zero = guarded and scale == float32(0)
        return float32(np.inf) if zero else scale  # x/inf = 0

    @device
    def reciprocal(amax: Any, scale: Any) -> Any:
        zero = guarded and scale == float32(0)
        return float32(0) if zero else libdevice.fdiv_rn(float32(1), scale)

    @device
    def range_over_amax(amax: Any, scale: Any) -> Any:
        zero = guarded and amax == float32(0)
        return float32(0) if zero else libdevice.fdiv_rn(float32(127), amax)

    by_word = {"x/s": the_scale, "x*(1/s)": reciprocal, "x*(127/amax)": range_over_amax}
    return by_word[dialect.multiplier]


def _code(dtype: str, dialect: Dialect, multiplier: str) -> DeviceFunction:
    """Device function: (bits of x, factor) -> code, int32 within the clamp."""
    low, high = dialect.clamp_range
    to_float, kept = widen(dtype), _rounding(dtype, dialect)
    divides = {"x/s": True, "x*(1/s)": False, "x*(127/amax)": False}[multiplier]
    to_int = {"rne": libdevice.float2int_rn}[dialect.rounding]

    @device
    def divided(bits: Any, factor: Any) -> Any:
        quotient = kept(libdevice.fdiv_rn(to_float(bits), factor))
        return int32(min(max(to_int(quotient), int32(low)), int32(high)))

    @device
    def multiplied(bits: Any, factor: Any) -> Any:
        product = kept(libdevice.fmul_rn(to_float(bits), factor))
        return int32(min(max(to_int(product), int32(low)), int32(high)))

    return divided if divides else multiplied


# -- a thread's share of a row ---------------------------------------------------------------------


def _amax(dtype: str, dialect: Dialect, wide: bool) -> DeviceFunction:
    """Device function: (x, row, first, step) -> bits of the largest |x[row, i]| of this thread.

    i = first, first + step, ... counts elements, or groups of 16 bytes if wide.
    """
    size_of = magnitude(dtype, {"propagate": False, "skip": True}[dialect.nan])
    per_word, per_group = 4 // SIZE[dtype], WIDE // SIZE[dtype]

    @device
    def scalar(x: Device, row: Any, first: Any, step: Any) -> Any:
        largest = int32(0)
        i = first
        while i < uint64(x.shape[1]):
            largest = max(largest, size_of(x[row, i]))
            i += step
        return largest

    @device
    def grouped(x: Device, row: Any, first: Any, step: Any) -> Any:
        largest = int32(0)
        base = row * uint64(x.shape[1])
        i = first
        while i < uint64(x.shape[1]) // uint64(per_group):
            words = load_words4(x, base + i * uint64(per_group))
            for word in words:
                if per_word == 1:
                    largest = max(largest, size_of(word))
                else:
                    largest = max(largest, size_of(word & uint32(0xFFFF)))
                    largest = max(largest, size_of(word >> uint32(16)))
            i += step
        return largest

    return grouped if wide else scalar


def _encode(dtype: str, dialect: Dialect, wide: bool, multiplier: str) -> DeviceFunction:
    """Device function: (x, codes, row, first, step, factor): writes this thread's codes."""
    code = _code(dtype, dialect, multiplier)

    @device
    def scalar(x: Device, codes: Device, row: Any, first: Any, step: Any, factor: Any) -> None:
        i = first
        while i < uint64(x.shape[1]):
            codes[row, i] = int8(code(x[row, i], factor))
            i += step

    @device
    def four(x: Device, codes: Device, row: Any, first: Any, step: Any, factor: Any) -> None:
        base = row * uint64(x.shape[1])
        i = first
        while i < uint64(x.shape[1]) // uint64(4):
            w = load_words4(x, base + i * uint64(4))
            packed = pack4(code(w[0], factor), code(w[1], factor),
                           code(w[2], factor), code(w[3], factor))  # fmt: skip
            store_words1(codes, base + i * uint64(4), (packed,))
            i += step

    @device
    def pair(first: Any, second: Any, factor: Any) -> Any:
        low, top = uint32(0xFFFF), uint32(16)
        return pack4(code(first & low, factor), code(first >> top, factor),
                     code(second & low, factor), code(second >> top, factor))  # fmt: skip

    @device
    def eight(x: Device, codes: Device, row: Any, first: Any, step: Any, factor: Any) -> None:
        base = row * uint64(x.shape[1])
        i = first
        while i < uint64(x.shape[1]) // uint64(8):
            w = load_words4(x, base + i * uint64(8))
            packed = (pair(w[0], w[1], factor), pair(w[2], w[3], factor))
            store_words2(codes, base + i * uint64(8), packed)
            i += step

    grouped = {4: four, 2: eight}[SIZE[dtype]]
    return grouped if wide else scalar
