"""A dialect's asymmetric arithmetic as device functions: range, scale, zero point and codes.

Contract: that of reference/int8_asymmetric.py and asymmetric.py, word by word as in dialect.py.
What is this wing's own: a range is two int32 whose maxima are the joint range's, whatever the order
of joining. The bits of a float, with all but the sign turned where it is negative, order as the
numbers do, -NaN below and +NaN above everything; `low` is kept inverted. A NaN so ends up in one of
the two, and their difference is NaN: propagation needs no test.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from kernels_numba.device import (
    ALL_LANES,
    DeviceFunction,
    cuda,
    device,
    float32,
    fused_multiply_add,
    int32,
    libdevice,
    narrow,
    uint32,
    uint64,
    widen,
)
from reference.asymmetric import LEVELS
from reference.dialects import Dialect
from reference.numerics import EPSILON

STEPS = int(LEVELS)  # between the lowest and the highest code
_INFINITY = 0x7F800000


def no_range(azp_range: str) -> tuple[int, int]:
    """The range of no element, as numbers to take maxima with: it holds 0, or is empty."""
    inverted = ~int(np.finfo(np.float32).max.view(np.int32))  # both of FLT_MAX and for -FLT_MAX
    return {"with 0": (~0, 0), "as is": (inverted, inverted)}[azp_range]


@device
def _ordered(value: Any) -> Any:
    bits = int32(libdevice.float_as_int(value))
    return int32(bits ^ (int32(bits >> int32(31)) & int32(0x7FFFFFFF)))


@device
def _from_ordered(key: Any) -> Any:
    bits = int32(key ^ (int32(key >> int32(31)) & int32(0x7FFFFFFF)))
    return libdevice.int_as_float(bits)


@cache
def widening_by(dtype: str, azp_range: str, nan: str) -> DeviceFunction:
    """Device function: (range, bits of x) -> the range that holds x, too."""
    to_float = widen(dtype)
    start_low, start_high = no_range(azp_range)
    skips = {"propagate": False, "skip": True}[nan]

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


def kept(dtype: str, keeps: bool) -> DeviceFunction:
    """Device function: float32 -> the float32 that x's dtype keeps of it, or itself."""
    to_float, to_bits = widen(dtype), narrow(dtype)

    @device
    def through_dtype(value: Any) -> Any:
        return to_float(to_bits(value))

    @device
    def as_is(value: Any) -> Any:
        return value

    return through_dtype if keeps and dtype != "fp32" else as_is


def _keeps(dialect: Dialect) -> tuple[bool, bool]:
    """Whether scale and zero point, and codes, are made in x's dtype."""
    by_word = {"fp32": (False, False), "input": (True, True), "input scale": (True, False)}
    return by_word[dialect.arithmetic]


def _least_function(dtype: str, dialect: Dialect) -> DeviceFunction:
    """Device function: (scale, whether the range is empty) -> the scale that is used."""
    eps = EPSILON[dtype]

    @device
    def as_is(scale: Any, empty: Any) -> Any:
        return scale

    @device
    def raised(scale: Any, empty: Any) -> Any:
        return float32(2.0**-23) if scale < float32(2.0**-23) else scale

    @device
    def eps_where_0(scale: Any, empty: Any) -> Any:
        return float32(eps) if scale == float32(0) else scale

    @device
    def one_where_empty(scale: Any, empty: Any) -> Any:
        return float32(1) if empty else scale

    return {
        "none": as_is,
        "2^-23": raised,
        "eps where 0": eps_where_0,
        "1 where empty": one_where_empty,
    }[dialect.least_scale]


def _zero_point_function(dtype: str, dialect: Dialect, tensor: bool) -> DeviceFunction:
    """Device function: (min / scale, lowest code) -> the zero point."""
    clamps, ratio_rounded, in_fp32 = {
        "clamp(rne(qmin-min/s))": (True, False, False),
        "rne(qmin-min/s)": (False, False, False),
        "clamp(qmin-rne(min/s))": (True, True, False),
        "clamp(rne(qmin-min/s)), fp32 per tensor": (True, False, tensor),
    }[dialect.zero_point]
    to_dtype = kept(dtype, _keeps(dialect)[0] and not in_fp32)
    of_nan = {"0": 0, "qmax": 1, "clamp(qmin+2**31)": 2}[dialect.azp_nan_zero_point]

    @device
    def zero_point(ratio: Any, lowest: Any) -> Any:
        if ratio_rounded:
            nearest = int32(lowest - libdevice.float2int_rn(ratio))
        else:
            low = libdevice.int2float_rn(lowest)
            nearest = libdevice.float2int_rn(to_dtype(libdevice.fsub_rn(low, ratio)))
        if clamps:
            nearest = int32(min(max(nearest, lowest), int32(lowest + int32(STEPS))))
        if of_nan == 1:
            nearest = int32(lowest + int32(STEPS)) if ratio != ratio else int32(nearest)
        elif of_nan == 2:
            wrapped = int32(127) if lowest < int32(0) else int32(0)
            nearest = wrapped if ratio != ratio else int32(nearest)
        elif ratio_rounded:  # elsewhere NaN is 0 as an integer
            nearest = int32(0) if ratio != ratio else int32(nearest)
        return int32(nearest)

    return zero_point


@device
def canonical(value: Any) -> Any:
    return value if value == value else libdevice.int_as_float(int32(0x7FFFFFFF))


@cache
def scale_function(dtype: str, dialect: Dialect, tensor: bool) -> DeviceFunction:
    """Device function: (range, lowest code) -> (scale, how x becomes a code): `code_function`.
    tensor: the range is a whole tensor's.
    """
    guards = {"code0": True, "unguarded": False}[dialect.zero]
    inverts = {"x/s": False, "x*(1/s)": True}[dialect.multiplier]
    of_scale, of_code = (kept(dtype, keeps) for keeps in _keeps(dialect))
    least, to_zero_point = (
        _least_function(dtype, dialect),
        _zero_point_function(dtype, dialect, tensor),
    )
    keeps = _keeps(dialect)[0]  # rounding to bf16 and back loses a NaN's low bits
    exactly = dialect.least_scale == "eps where 0"  # the zero point is made of the scale before

    @device
    def scale_and_zero_point(keys: Any, lowest: Any) -> Any:
        smallest, largest = _from_ordered(int32(~keys[0])), _from_ordered(keys[1])
        width = of_scale(libdevice.fsub_rn(largest, smallest))
        found = of_scale(libdevice.fdiv_rn(width, float32(STEPS)))
        scale = least(found, smallest == largest)
        zero = guards and scale == float32(0)
        below = of_scale(libdevice.fdiv_rn(smallest, found if exactly else scale))
        nearest = to_zero_point(below, lowest)
        if inverts:
            factor = float32(0) if zero else of_code(libdevice.fdiv_rn(float32(1), scale))
        else:
            factor = float32(np.inf) if zero else scale  # x/inf = 0
        stored = canonical(scale) if keeps else scale
        return (stored, (factor, int32(0) if zero else int32(nearest), lowest))

    return scale_and_zero_point


@cache
def given_function(dtype: str, dialect: Dialect) -> DeviceFunction:
    """Device function: a given scale -> what x is divided or multiplied by."""
    inverts = {"x/s": False, "x*(1/s)": True}[dialect.static_multiplier]
    of_code = kept(dtype, _keeps(dialect)[1])

    @device
    def factor(scale: Any) -> Any:
        return of_code(libdevice.fdiv_rn(float32(1), scale)) if inverts else scale

    return factor


@cache
def code_function(dtype: str, dialect: Dialect, multiplier: str) -> DeviceFunction:
    """Device function: (bits of x, how) -> code, its low byte to be stored. An exact sum is one of
    int64.

    how: (what x is divided or multiplied by, zero point, lowest code), one value for kernels: NVVM
    cannot compile some of them where the factor is a variable with line information.
    """
    to_float, of_code = widen(dtype), kept(dtype, _keeps(dialect)[1])
    to_int = {"rne": libdevice.float2int_rn}[dialect.rounding]
    divides = {"x/s": True, "x*(1/s)": False}[multiplier]
    wraps, first, fused = {
        "exact": (False, False, False),
        "wrap": (True, False, False),
        "before rounding": (False, True, False),
        "fma before rounding": (False, True, True),
    }[dialect.azp_sum]
    of_nan = {"zero point": 0, "zero": 1, "low": 2, "high": 3}[dialect.azp_nan_code]

    @device
    def code(bits: Any, how: Any) -> Any:
        x, lowest = to_float(bits), how[2]
        quotient = libdevice.fdiv_rn(x, how[0]) if divides else libdevice.fmul_rn(x, how[0])
        quotient = of_code(quotient)
        if first:
            shift = libdevice.int2float_rn(how[1])
            if fused:
                total = to_int(fused_multiply_add(x, how[0], shift))
            else:
                total = to_int(of_code(libdevice.fadd_rn(quotient, shift)))
        else:
            total = to_int(quotient) + how[1]
        if wraps:
            total = int32(total)
        found = int32(min(max(total, lowest), lowest + STEPS))
        if of_nan == 1:
            found = int32(0) if quotient != quotient else found
        elif of_nan == 2:
            found = int32(lowest) if quotient != quotient else found
        elif of_nan == 3:
            found = int32(lowest + STEPS) if quotient != quotient else found
        return found

    return code
