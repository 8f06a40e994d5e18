"""exp, erf and the activations made of them: the steps of reference/functions.py, bit for bit.

Contract: every operation is one correctly rounded fp32 operation (libdevice's `_rn` functions, or
the fused multiply-add of device.py) or integer arithmetic on bits; no approximate instruction, no
table. Subnormals are kept, NaN is canonical. What the functions give, and how far they are from
exact, stands at the head of reference/functions.py, which also holds the constants.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from kernels_numba.device import (
    DeviceFunction,
    device,
    float32,
    fused_multiply_add,
    int32,
    libdevice,
)
from reference import functions as steps

CANONICAL_NAN = 0x7FFFFFFF


@cache
def polynomial(coefficients: tuple[Any, ...]) -> DeviceFunction:
    """Device function: x -> the polynomial with these coefficients, lowest power first, by
    Horner's fma.
    """
    lowest, rest = coefficients[0], coefficients[1:]
    if not rest:

        @device
        def constant(x: Any) -> Any:
            return float32(lowest)

        return constant
    higher = polynomial(rest)

    @device
    def horner(x: Any) -> Any:
        return fused_multiply_add(higher(x), x, float32(lowest))

    return horner


EXP, ERF_NEAR, ERF_FAR = (
    polynomial(steps.EXP),
    polynomial(steps.ERF_NEAR),
    polynomial(steps.ERF_FAR),
)
INVERSE_LN2, LN2_HIGH, LN2_LOW = steps.INVERSE_LN2, steps.LN2_HIGH, steps.LN2_LOW
TO_INTEGER, EXP_LOWEST, EXP_HIGHEST = steps.TO_INTEGER, steps.EXP_LOWEST, steps.EXP_HIGHEST
TO_INTEGER_BITS = int(TO_INTEGER.view("int32"))
ERF_EDGE, ERF_CENTRE, ERF_SATURATED = steps.ERF_EDGE, steps.ERF_CENTRE, steps.ERF_SATURATED
ROOT_HALF, GELU_LINE, GELU_CUBE = steps.ROOT_HALF, steps.GELU_LINE, steps.GELU_CUBE
NOTHING_TO_ONE = -80.0  # exp of this and below adds nothing to 1


@device
def _exponential(bounded: Any) -> Any:
    """(mantissa, k): e**bounded = mantissa * 2**k where -104 <= bounded <= 89."""
    shifted = fused_multiply_add(bounded, float32(INVERSE_LN2), float32(TO_INTEGER))
    minus_k = libdevice.fsub_rn(float32(TO_INTEGER), shifted)
    r = fused_multiply_add(minus_k, float32(LN2_HIGH), bounded)
    r = fused_multiply_add(minus_k, float32(LN2_LOW), r)
    return EXP(r), int32(libdevice.float_as_int(shifted) - int32(TO_INTEGER_BITS))


@device
def _power_of_two(k: Any) -> Any:
    return libdevice.int_as_float(int32(int32(k + int32(127)) << int32(23)))


@device
def exp(x: Any) -> Any:
    """e**x."""
    bounded = libdevice.fminf(libdevice.fmaxf(x, float32(EXP_LOWEST)), float32(EXP_HIGHEST))
    mantissa, k = _exponential(bounded)
    half = int32(k >> int32(1))
    value = libdevice.fmul_rn(mantissa, _power_of_two(half))
    value = libdevice.fmul_rn(value, _power_of_two(int32(k - half)))
    return value if x == x else libdevice.int_as_float(int32(CANONICAL_NAN))


@device
def one_plus_exp(x: Any) -> Any:
    """1 + exp(x), to the bit, where x is no NaN: from -80 downwards the sum is 1, above it 2**(k-1)
    is a normal number, and doubling in the addition rounds nothing that the product would not.
    """
    bounded = libdevice.fminf(libdevice.fmaxf(x, float32(NOTHING_TO_ONE)), float32(EXP_HIGHEST))
    mantissa, k = _exponential(bounded)
    bits = int32(libdevice.float_as_int(mantissa) + int32(int32(k - int32(1)) << int32(23)))
    return fused_multiply_add(libdevice.int_as_float(bits), float32(2), float32(1))


@device
def erf(x: Any) -> Any:
    """The error function."""
    size = libdevice.fabsf(x)
    near = fused_multiply_add(ERF_NEAR(libdevice.fmul_rn(x, x)), x, x)
    far = ERF_FAR(libdevice.fsub_rn(size, float32(ERF_CENTRE)))
    far = float32(1) if size >= float32(ERF_SATURATED) else far
    return libdevice.copysignf(far, x) if size >= float32(ERF_EDGE) else near


@device
def silu(x: Any) -> Any:
    """x / (1 + exp(-x))."""
    return libdevice.fdiv_rn(x, one_plus_exp(-x))


@device
def gelu_erf(x: Any) -> Any:
    """(x / 2) * (1 + erf(x / sqrt(2)))."""
    whole = libdevice.fadd_rn(float32(1), erf(libdevice.fmul_rn(x, float32(ROOT_HALF))))
    return libdevice.fmul_rn(libdevice.fmul_rn(float32(0.5), x), whole)


@device
def gelu_tanh(x: Any) -> Any:
    """x / (1 + exp(-2 y)), y = sqrt(2/pi) (x + 0.044715 x**3)."""
    square = libdevice.fmul_rn(x, x)
    factor = fused_multiply_add(square, float32(GELU_CUBE), float32(GELU_LINE))
    return libdevice.fdiv_rn(x, one_plus_exp(-libdevice.fmul_rn(x, factor)))
