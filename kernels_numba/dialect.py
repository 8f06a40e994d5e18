"""A dialect's arithmetic as device functions: what differs between dialects, chosen by its words.

Contract: each function here takes words or a `Dialect` and returns a device function; a word that
this wing does not know is a KeyError, never another dialect's arithmetic. Every operation is one
`_rn` function, so one rounding, in the order that reference/ computes in.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels_numba.device import (
    DeviceFunction,
    device,
    float32,
    fused_multiply_add,
    int32,
    libdevice,
    narrow,
    widen,
)
from reference.dialects import Dialect

NO_BIAS = np.float32(-0.0)


def _kept(dtype: str, dialect: Dialect) -> DeviceFunction:
    """Device function: float32 -> the float32 that the dialect's arithmetic keeps."""
    to_float, to_bits = widen(dtype), narrow(dtype)

    @device
    def through_dtype(value: Any) -> Any:
        return to_float(to_bits(value))

    @device
    def as_is(value: Any) -> Any:
        return value

    return {"fp32": as_is, "input": through_dtype}[dialect.arithmetic]


def floor_function(dialect: Dialect) -> DeviceFunction:
    """Device function: a group's amax -> the same, raised to the dialect's floor.

    On the bits of a float >= 0, which order as the numbers do, NaN above every floor.
    """
    least = int({"none": np.float32(0), "1e-10": np.float32(1e-10)}[dialect.floor].view(np.int32))

    @device
    def raised(amax: Any) -> Any:
        bits = int32(libdevice.float_as_int(amax))
        return libdevice.int_as_float(max(bits, int32(least)))

    @device
    def as_is(amax: Any) -> Any:
        return amax

    return raised if least else as_is


def scale_function(dtype: str, dialect: Dialect) -> DeviceFunction:
    """Device function: amax -> scale."""
    kept = _kept(dtype, dialect)

    @device
    def scale(amax: Any) -> Any:
        return kept(libdevice.fdiv_rn(amax, float32(127)))

    return scale


def factor_function(dialect: Dialect) -> DeviceFunction:
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


def code_function(dtype: str, dialect: Dialect, multiplier: str) -> DeviceFunction:
    """Device function: (bits of x, factor) -> code, int32 within the clamp."""
    to_float, kept, rounded = widen(dtype), _kept(dtype, dialect), _rounded(dialect)
    divides = {"x/s": True, "x*(1/s)": False, "x*(127/amax)": False}[multiplier]

    @device
    def divided(bits: Any, factor: Any) -> Any:
        return rounded(kept(libdevice.fdiv_rn(to_float(bits), factor)))

    @device
    def multiplied(bits: Any, factor: Any) -> Any:
        return rounded(kept(libdevice.fmul_rn(to_float(bits), factor)))

    return divided if divides else multiplied


def _rounded(dialect: Dialect) -> DeviceFunction:
    """Device function: quotient -> code, int32 within the clamp."""
    low, high = dialect.clamp_range
    to_int = {"rne": libdevice.float2int_rn, "truncate": libdevice.float2int_rz}[dialect.rounding]

    @device
    def nan_is_zero(quotient: Any) -> Any:
        return int32(min(max(to_int(quotient), int32(low)), int32(high)))

    @device
    def nan_is_low(quotient: Any) -> Any:
        return int32(min(to_int(libdevice.fmaxf(quotient, float32(low))), int32(high)))

    return {"zero": nan_is_zero, "low": nan_is_low}[dialect.nan_code]


def epilogue_function(order: str, out_dtype: str) -> DeviceFunction:
    """Device function: (acc, scale of the row, of the column, bias) -> bits of the output.

    `order` is the dialect's word. For no bias give NO_BIAS: x + -0 is x for every x, -0 and NaN
    too, fused or not, so that one kernel serves both.
    """
    to_bits = narrow(out_dtype)
    row_first, fused = {
        "acc*sB*sA+bias": (False, False),
        "sA*(sB*acc) fma bias": (False, True),
        "acc*sA*sB+bias": (True, False),
    }[order]

    @device
    def multiply_and_add(a: Any, b: Any, c: Any) -> Any:
        return libdevice.fadd_rn(libdevice.fmul_rn(a, b), c)

    finish = fused_multiply_add if fused else multiply_and_add

    @device
    def epilogue(acc: Any, row_scale: Any, column_scale: Any, bias: Any) -> Any:
        first = row_scale if row_first else column_scale
        second = column_scale if row_first else row_scale
        product = libdevice.fmul_rn(libdevice.int2float_rn(acc), first)
        return to_bits(finish(product, second, bias))

    return epilogue
