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
    uint32,
    widen,
)
from reference.dialects import Dialect
from reference.int8_quantize import FLOORS
from reference.numerics import EPSILON, SMALLEST_NORMAL, round_to

NO_BIAS = np.float32(-0.0)
INVERSE = float(np.float32(1) / np.float32(127))
NEARLY_HALF = float(np.nextafter(np.float32(0.5), np.float32(0)))


def _through(dtype: str, rounds: bool) -> DeviceFunction:
    """Device function: float32 -> the same, rounded to `dtype` if it `rounds`."""
    to_float, to_bits = widen(dtype), narrow(dtype)

    @device
    def through_dtype(value: Any) -> Any:
        return to_float(to_bits(value))

    @device
    def as_is(value: Any) -> Any:
        return value

    return through_dtype if rounds else as_is


def _kept(dtype: str, dialect: Dialect) -> DeviceFunction:
    """Device function: float32 -> the float32 that the dialect's arithmetic keeps."""
    return _through(dtype, {"fp32": False, "input": True, "input scale": False}[dialect.arithmetic])


def _raised(least: np.float32) -> DeviceFunction:
    """Device function: a float >= 0 or NaN -> the same, at least this.

    On its bits, which order as the numbers do, NaN above all.
    """
    lowest = int(least.view(np.int32))

    @device
    def raised(value: Any) -> Any:
        bits = int32(libdevice.float_as_int(value))
        return libdevice.int_as_float(max(bits, int32(lowest)))

    @device
    def as_is(value: Any) -> Any:
        return value

    return raised if lowest else as_is


def floor_function(dtype: str, dialect: Dialect) -> DeviceFunction:
    """Device function: a group's amax -> the same, raised to the dialect's floor."""
    floor = np.array(FLOORS[dialect.floor], np.float32)
    kept = "fp32" if dialect.arithmetic != "input" else dtype
    return _raised(np.float32(round_to(floor, kept)))


def amax_function(dtype: str, dialect: Dialect) -> DeviceFunction:
    """Device function: the maximum of accesses.largest_of -> amax, or the maximum of scale_key."""
    return widen("fp32" if both_ends(dialect) else dtype)


def both_ends(dialect: Dialect) -> bool:
    """Whether each end of a group has its own scale: then `scale_key` stands for |x|."""
    return dialect.scale == "max(-min/128,max/127)"


@device
def scale_key(x: Any) -> Any:
    """float32 -> bits, as int32, of the scale that it alone would have: -x / 128 or x / 127.

    The latter by its inverse r in three operations, q + (x - 127 q) r, which are right wherever the
    quotient is normal (bench/prove_division.py).
    """
    inverse = float32(INVERSE)
    q = libdevice.fmul_rn(x, inverse)
    rest = fused_multiply_add(float32(-q), float32(127), x)
    exact = fused_multiply_add(rest, inverse, q)
    key = q if q == float32(np.inf) else exact
    if x < float32(0):
        key = libdevice.fmul_rn(x, float32(-0.0078125))
    return int32(uint32(libdevice.float_as_int(key)) & uint32(0x7FFFFFFF))


def scale_function(dtype: str, dialect: Dialect) -> DeviceFunction:
    """Device function: amax -> scale."""
    rounds = {"fp32": False, "input": True, "input scale": True}[dialect.arithmetic]
    kept, least = _through(dtype, rounds), _least_scale(dtype if rounds else "fp32", dialect)
    inexact_nan = rounds and dtype == "bf16"
    levels = {"amax/127": 127.0, "amax/127.5": 127.5}.get(dialect.scale, 1.0)

    @device
    def divided(amax: Any) -> Any:
        return libdevice.fdiv_rn(amax, float32(levels))

    @device
    def multiplied(amax: Any) -> Any:
        return libdevice.fmul_rn(amax, float32(INVERSE))

    @device
    def as_is(amax: Any) -> Any:
        return amax

    of_amax = {
        "amax/127": divided,
        "amax/127.5": divided,
        "max(-min/128,max/127)": as_is,
        "amax*(1/127)": multiplied,
    }[dialect.scale]

    @device
    def scale(amax: Any) -> Any:
        return least(kept(of_amax(amax)))

    @device
    def with_canonical_nan(amax: Any) -> Any:
        found = least(kept(of_amax(amax)))
        return libdevice.int_as_float(int32(0x7FFFFFFF)) if found != found else found

    return with_canonical_nan if inexact_nan else scale


def _least_scale(kept: str, dialect: Dialect) -> DeviceFunction:
    """Device function: scale, rounded to `kept` -> the same, if it is not too small."""
    word = dialect.least_scale
    epsilon = EPSILON[kept]

    @device
    def epsilon_for_zero(scale: Any) -> Any:
        return float32(epsilon) if scale == float32(0) else scale

    if word == "eps where 0":
        return epsilon_for_zero
    least = {"none": 0.0, "2^-23": 2.0**-23, "smallest normal": SMALLEST_NORMAL[kept]}[word]
    return _raised(np.float32(least))


def stored_function(dialect: Dialect) -> DeviceFunction:
    """Device function: (amax, scale) -> what is given out."""
    to_half, to_float = narrow("fp16"), widen("fp16")

    @device
    def the_scale(amax: Any, scale: Any) -> Any:
        return scale

    @device
    def the_amax(amax: Any, scale: Any) -> Any:
        return amax

    @device
    def in_fp16(amax: Any, scale: Any) -> Any:
        return to_float(to_half(scale))

    return {"scale": the_scale, "amax": the_amax, "fp16 scale": in_fp16}[dialect.stored]


def factor_function(dtype: str, dialect: Dialect) -> DeviceFunction:
    """Device function: (amax, scale) -> what each element is divided or multiplied by."""
    guarded = {"code0": True, "unguarded": False, "code0 below 2^-24": False}[dialect.zero]
    below = {"code0": 0.0, "unguarded": 0.0, "code0 below 2^-24": 2.0**-24}[dialect.zero]
    kept = _kept(dtype, dialect)

    @device
    def the_scale(amax: Any, scale: Any) -> Any:
        zero = guarded and scale == float32(0)
        return float32(np.inf) if zero else scale  # x/inf = 0

    @device
    def reciprocal(amax: Any, scale: Any) -> Any:
        zero = guarded and scale == float32(0)
        return float32(0) if zero else kept(libdevice.fdiv_rn(float32(1), scale))

    @device
    def range_over_amax(amax: Any, scale: Any) -> Any:
        zero = guarded and amax == float32(0)
        return float32(0) if zero else kept(libdevice.fdiv_rn(float32(127), amax))

    by_word = {"x/s": the_scale, "x*(1/s)": reciprocal, "x*(127/amax)": range_over_amax}
    factor = by_word[dialect.multiplier]
    at_zero = float("inf") if dialect.multiplier == "x/s" else 0.0

    @device
    def zero_below(amax: Any, scale: Any) -> Any:
        return float32(at_zero) if amax < float32(below) else factor(amax, scale)

    return zero_below if below else factor


def given_factor_function(dtype: str, dialect: Dialect) -> DeviceFunction:
    """Device function: a given scale -> what each element is divided or multiplied by."""
    kept = _kept(dtype, dialect)

    @device
    def the_scale(scale: Any) -> Any:
        return scale

    @device
    def reciprocal(scale: Any) -> Any:
        return kept(libdevice.fdiv_rn(float32(1), scale))

    return {"x/s": the_scale, "x*(1/s)": reciprocal}[dialect.static_multiplier]


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


@device
def _half_away(value: Any) -> Any:
    """To the nearest int32, ties away from zero.

    With the float below 1/2 added, the sum reaches the next integer from a half on, where it rounds
    up to it, and from nothing less.
    """
    nearly = libdevice.copysignf(float32(NEARLY_HALF), value)
    return libdevice.float2int_rz(libdevice.fadd_rn(value, nearly))


def _rounded(dialect: Dialect) -> DeviceFunction:
    """Device function: quotient -> code, int32 within the clamp."""
    low, high = dialect.clamp_range
    to_int = {
        "rne": libdevice.float2int_rn,
        "truncate": libdevice.float2int_rz,
        "half away": _half_away,
    }[dialect.rounding]

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
