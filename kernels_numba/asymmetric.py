"""A dialect's asymmetric arithmetic as device functions: range, scale, zero point and codes.

Contract: that of reference/int8_asymmetric.py, word by word as in dialect.py. What is this wing's
own: a range is two int32 whose maxima are the joint range's, whatever the order of joining. The
bits of a float, with all but the sign turned where it is negative, order as the numbers do, -NaN
below and +NaN above everything; `low` is kept inverted. A NaN so ends up in one of the two, and
their difference is NaN: propagation needs no test.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from kernels_numba.device import (
    ALL_LANES,
    SIZE,
    Device,
    DeviceFunction,
    cuda,
    device,
    float32,
    int32,
    libdevice,
    load_words1,
    load_words2,
    load_words4,
    narrow,
    pack4,
    store_words1,
    store_words2,
    store_words4,
    uint8,
    uint16,
    uint32,
    uint64,
    widen,
)
from reference.asymmetric import LEVELS
from reference.dialects import Dialect

STEPS = int(LEVELS)  # between the lowest and the highest code
WIDE = 16  # bytes of x per access
_INFINITY = 0x7F800000


def no_range(dialect: Dialect) -> tuple[int, int]:
    """The range of no element, as numbers to take maxima with: it holds 0, or is empty."""
    inverted = ~int(np.finfo(np.float32).max.view(np.int32))  # both of FLT_MAX and for -FLT_MAX
    return {"with 0": (~0, 0), "as is": (inverted, inverted)}[dialect.azp_range]


@device
def _ordered(value: Any) -> Any:
    bits = int32(libdevice.float_as_int(value))
    return int32(bits ^ (int32(bits >> int32(31)) & int32(0x7FFFFFFF)))


@device
def _from_ordered(key: Any) -> Any:
    bits = int32(key ^ (int32(key >> int32(31)) & int32(0x7FFFFFFF)))
    return libdevice.int_as_float(bits)


@cache
def widening_by(dtype: str, dialect: Dialect) -> DeviceFunction:
    """Device function: (range, bits of x) -> the range that holds x, too."""
    to_float = widen(dtype)
    start_low, start_high = no_range(dialect)
    skips = {"propagate": False, "skip": True}[dialect.nan]

    @device
    def widened(keys: Any, bits: Any) -> Any:
        value = to_float(bits)
        key = _ordered(value)
        magnitude = int32(int32(libdevice.float_as_int(value)) & int32(0x7FFFFFFF))
        absent = skips and magnitude > int32(_INFINITY)
        low = int32(start_low) if absent else int32(~key)
        high = int32(start_high) if absent else key
        return (max(keys[0], low), max(keys[1], high))

    return widened


@device
def join_lanes(keys: Any) -> Any:
    """The joint range of the lanes of a row in one warp, in each of them: blockDim.x lanes, a power
    of two, or the whole warp. All lanes of the warp take part."""
    low, high = keys
    apart = int32(min(int32(cuda.blockDim.x), int32(32)) >> 1)
    while apart > 0:
        low = max(low, cuda.shfl_xor_sync(uint32(ALL_LANES), low, apart))
        high = max(high, cuda.shfl_xor_sync(uint32(ALL_LANES), high, apart))
        apart = int32(apart >> 1)
    return (low, high)


@device
def join_row(keys: Any, start: Any) -> Any:
    """The joint range of the threads of one row: as `join_lanes`, or where a row has several warps
    and its block to itself of all of them. One barrier: call it once per kernel."""
    lows = cuda.shared.array(32, int32)
    highs = cuda.shared.array(32, int32)
    joint = join_lanes(keys)
    if cuda.blockDim.x > 32:
        warp, lane = uint64(cuda.threadIdx.x) >> uint64(5), uint64(cuda.laneid)
        if lane == uint64(0):
            lows[warp] = joint[0]
            highs[warp] = joint[1]
        cuda.syncthreads()
        there = lane < (uint64(cuda.blockDim.x) >> uint64(5))
        joint = join_lanes((lows[lane] if there else start[0], highs[lane] if there else start[1]))
    return joint


@cache
def scale_function(dialect: Dialect) -> DeviceFunction:
    """Device function: (range, lowest code) -> (scale, how x becomes a code): `code_function`."""
    clamps = {"clamp(rne(qmin-min/s))": True, "rne(qmin-min/s)": False}[dialect.zero_point]
    guards = {"code0": True, "unguarded": False}[dialect.zero]
    inverts = {"x/s": False, "x*(1/s)": True}[dialect.multiplier]

    @device
    def scale_and_zero_point(keys: Any, lowest: Any) -> Any:
        smallest, largest = _from_ordered(int32(~keys[0])), _from_ordered(keys[1])
        scale = libdevice.fdiv_rn(libdevice.fsub_rn(largest, smallest), float32(STEPS))
        zero = guards and scale == float32(0)
        below = libdevice.fdiv_rn(smallest, scale)
        nearest = libdevice.float2int_rn(libdevice.fsub_rn(libdevice.int2float_rn(lowest), below))
        if clamps:
            nearest = int32(min(max(nearest, lowest), int32(lowest + int32(STEPS))))
        if inverts:
            factor = float32(0) if zero else libdevice.fdiv_rn(float32(1), scale)
        else:
            factor = float32(np.inf) if zero else scale  # x/inf = 0
        return (scale, (factor, int32(0) if zero else int32(nearest), lowest))

    return scale_and_zero_point


@cache
def given_function(dialect: Dialect) -> DeviceFunction:
    """Device function: a given scale -> what x is divided or multiplied by."""
    inverts = {"x/s": False, "x*(1/s)": True}[dialect.static_multiplier]

    @device
    def factor(scale: Any) -> Any:
        return libdevice.fdiv_rn(float32(1), scale) if inverts else scale

    return factor


@cache
def code_function(dtype: str, dialect: Dialect, multiplier: str) -> DeviceFunction:
    """Device function: (bits of x, how) -> code, its low byte to be stored. An exact sum is one of
    int64.

    how: (what x is divided or multiplied by, zero point, lowest code), one value for kernels: NVVM
    cannot compile some of them where the factor is a variable with line information.
    """
    to_float = widen(dtype)
    to_int = {"rne": libdevice.float2int_rn}[dialect.rounding]
    divides = {"x/s": True, "x*(1/s)": False}[multiplier]
    wraps = {"exact": False, "wrap": True}[dialect.azp_sum]

    @device
    def code(bits: Any, how: Any) -> Any:
        x, lowest = to_float(bits), how[2]
        quotient = libdevice.fdiv_rn(x, how[0]) if divides else libdevice.fmul_rn(x, how[0])
        total = to_int(quotient) + how[1]
        if wraps:
            total = int32(total)
        return int32(min(max(total, lowest), lowest + STEPS))

    return code


# -- a thread's accesses: 16 bytes of x if wide, else an element; `at` counts elements of the array


@cache
def widening(dtype: str, dialect: Dialect, wide: bool) -> DeviceFunction:
    """Device function: (range, access) -> the range that holds the access's elements, too."""
    widened = widening_by(dtype, dialect)

    @device
    def one(keys: Any, bits: Any) -> Any:
        return widened(keys, bits)

    @device
    def four(keys: Any, w: Any) -> Any:
        return widened(widened(widened(widened(keys, w[0]), w[1]), w[2]), w[3])

    @device
    def pair(keys: Any, word: Any) -> Any:
        return widened(widened(keys, word & uint32(0xFFFF)), word >> uint32(16))

    @device
    def eight(keys: Any, w: Any) -> Any:
        return pair(pair(pair(pair(keys, w[0]), w[1]), w[2]), w[3])

    return {4: four, 2: eight}[SIZE[dtype]] if wide else one


@cache
def load(wide: bool) -> DeviceFunction:
    """Device function: (x, at) -> one access."""

    @device
    def sixteen_bytes(x: Device, at: Any) -> Any:
        return load_words4(x, at)

    @device
    def element(x: Device, at: Any) -> Any:
        return x[at]

    return sixteen_bytes if wide else element


@cache
def nothing(dtype: str, wide: bool) -> DeviceFunction:
    """Device function: () -> an access of nothing but zeros."""

    @device
    def sixteen_bytes() -> Any:
        return (uint32(0), uint32(0), uint32(0), uint32(0))

    @device
    def four_bytes() -> Any:
        return uint32(0)

    @device
    def two_bytes() -> Any:
        return uint16(0)

    return sixteen_bytes if wide else {4: four_bytes, 2: two_bytes}[SIZE[dtype]]


@cache
def store(dtype: str, dialect: Dialect, wide: bool, multiplier: str) -> DeviceFunction:
    """Device function: (codes, at, access, how): stores its codes."""
    code = code_function(dtype, dialect, multiplier)

    @device
    def one(codes: Device, at: Any, bits: Any, how: Any) -> None:
        codes[at] = uint8(code(bits, how))

    @device
    def four(codes: Device, at: Any, w: Any, how: Any) -> None:
        packed = pack4(code(w[0], how), code(w[1], how), code(w[2], how), code(w[3], how))
        store_words1(codes, at, (packed,))

    @device
    def pair(v: Any, w: Any, how: Any) -> Any:
        low, top = uint32(0xFFFF), uint32(16)
        a, b = code(v & low, how), code(v >> top, how)
        return pack4(a, b, code(w & low, how), code(w >> top, how))

    @device
    def eight(codes: Device, at: Any, w: Any, how: Any) -> None:
        store_words2(codes, at, (pair(w[0], w[1], how), pair(w[2], w[3], how)))

    return {4: four, 2: eight}[SIZE[dtype]] if wide else one


def per_access(dtype: str, wide: bool) -> int:
    return WIDE // SIZE[dtype] if wide else 1


@cache
def dequantizing(out_dtype: str, wide: bool) -> DeviceFunction:
    """Device function: (codes, out, at, bits that turn a code's sign, scale, zero point less the
    lowest code): 16 bytes of out if wide, else an element. Codes less the lowest are 0..255.
    """
    to_bits = narrow(out_dtype)

    @device
    def product(word: Any, place: Any, scale: Any, zero: Any) -> Any:
        code = uint32(word >> uint32(8 * place)) & uint32(0xFF)
        steps = int32(uint32(code) - zero)
        return to_bits(libdevice.fmul_rn(libdevice.int2float_rn(steps), scale))

    @device
    def pair(word: Any, place: Any, scale: Any, zero: Any) -> Any:
        low, high = product(word, place, scale, zero), product(word, place + 1, scale, zero)
        return uint32(uint32(low) | (uint32(high) << uint32(16)))

    @device
    def one(codes: Device, out: Device, at: Any, turned: Any, scale: Any, zero: Any) -> None:
        out[at] = product(uint32(codes[at]) ^ turned, 0, scale, zero)

    @device
    def four(codes: Device, out: Device, at: Any, turned: Any, scale: Any, zero: Any) -> None:
        w = uint32(load_words1(codes, at)[0] ^ turned)
        a, b = product(w, 0, scale, zero), product(w, 1, scale, zero)
        c, d = product(w, 2, scale, zero), product(w, 3, scale, zero)
        store_words4(out, at, (uint32(a), uint32(b), uint32(c), uint32(d)))

    @device
    def eight(codes: Device, out: Device, at: Any, turned: Any, scale: Any, zero: Any) -> None:
        words = load_words2(codes, at)
        v, w = uint32(words[0] ^ turned), uint32(words[1] ^ turned)
        a, b = pair(v, 0, scale, zero), pair(v, 2, scale, zero)
        store_words4(out, at, (a, b, pair(w, 0, scale, zero), pair(w, 2, scale, zero)))

    return {4: four, 2: eight}[SIZE[out_dtype]] if wide else one
