"""A dialect's asymmetric arithmetic as device functions: range, scale, zero point and codes.

Contract: that of reference/int8_asymmetric.py, word by word as in dialect.py. What is this wing's
own: a range is two int32 whose maxima are the joint range's, whatever the order of joining. The
bits of a float, with all but the sign turned where it is negative, order as the numbers do, -NaN
below and +NaN above everything; `low` is kept inverted. A NaN so ends up in one of the two, and
their difference is NaN: propagation needs no test.
"""

from __future__ import annotations

import numpy as np

from kernels_numba.device import (
    ALL_LANES,
    Any,
    Device,
    DeviceFunction,
    cuda,
    device,
    float32,
    int32,
    libdevice,
    uint32,
    uint64,
    widen,
)
from reference.asymmetric import LEVELS
from reference.dialects import Dialect

STEPS = int(LEVELS)  # between the lowest and the highest code
_INFINITY = 0x7F800000


def no_range(dialect: Dialect) -> tuple[int, int]:
    """The range of no element, as numbers to take maxima with: it holds 0, or is empty."""
    largest = int(np.finfo(np.float32).max.view(np.int32))
    return {"with 0": (-1, 0), "as is": (largest, -1 - largest)}[dialect.azp_range]


@device
def _ordered(value: Any) -> Any:
    bits = int32(libdevice.float_as_int(value))
    return int32(bits ^ (int32(bits >> int32(31)) & int32(0x7FFFFFFF)))


@device
def _from_ordered(key: Any) -> Any:
    bits = int32(key ^ (int32(key >> int32(31)) & int32(0x7FFFFFFF)))
    return libdevice.int_as_float(bits)


def widening(dtype: str, dialect: Dialect) -> DeviceFunction:
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


@device
def for_row(numbers: Device, at: Any) -> Any:
    """numbers[at], which holds for the thread's row: loaded by the first lane of the row in each
    warp, so that its bytes move once. All lanes of the warp take part."""
    value = numbers[0]
    lanes = min(int32(cuda.blockDim.x), int32(32))
    if int32(cuda.threadIdx.x) % int32(32) == 0:
        value = numbers[at]
    first = int32(int32(cuda.laneid) & int32(-lanes))
    return cuda.shfl_sync(uint32(ALL_LANES), value, first)


def scale_function(dialect: Dialect) -> DeviceFunction:
    """Device function: (range, lowest code) -> (scale, what x is divided or multiplied by, zero
    point)."""
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
        return (scale, factor, int32(0) if zero else int32(nearest))

    return scale_and_zero_point


def given_function(dialect: Dialect) -> DeviceFunction:
    """Device function: a given scale -> what x is divided or multiplied by."""
    inverts = {"x/s": False, "x*(1/s)": True}[dialect.static_multiplier]

    @device
    def factor(scale: Any) -> Any:
        return libdevice.fdiv_rn(float32(1), scale) if inverts else scale

    return factor


def code_function(dtype: str, dialect: Dialect, multiplier: str) -> DeviceFunction:
    """Device function: (bits of x, factor, zero point, lowest code) -> code, its low byte to be
    stored. An exact sum is one of int64."""
    to_float = widen(dtype)
    to_int = {"rne": libdevice.float2int_rn}[dialect.rounding]
    divides = {"x/s": True, "x*(1/s)": False}[multiplier]
    wraps = {"exact": False, "wrap": True}[dialect.azp_sum]

    @device
    def code(bits: Any, factor: Any, zero_point: Any, lowest: Any) -> Any:
        x = to_float(bits)
        quotient = libdevice.fdiv_rn(x, factor) if divides else libdevice.fmul_rn(x, factor)
        total = to_int(quotient) + zero_point
        if wraps:
            total = int32(total)
        return int32(min(max(total, lowest), lowest + STEPS))

    return code
