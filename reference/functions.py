"""exp, erf and the activations made of them, in fp32 steps that every machine rounds alike.

Contract: each function is the sequence of steps below and nothing else. A step is one correctly
rounded fp32 operation (fma, +, *, /; subnormals kept) or integer arithmetic on the bits; no
hardware approximation and no table. kernels_cupy/functions.cuh and kernels_numba/functions.py
hold the same steps; all three give the same bits. NaN gives the canonical NaN.

    exp(x)     b = min(max(x, -104), 89)           t = fma(b, 1/ln 2, 1.5 * 2**23)
               k = t - 1.5 * 2**23                 (an integer, nearest to b / ln 2)
               r = fma(-k, LN2_LOW, fma(-k, LN2_HIGH, b))
               p = EXP's polynomial in r, by Horner's fma
               p * 2**(k >> 1) * 2**(k - (k >> 1)) (only the last product rounds)
    erf(x)     |x| < 1:    fma(p, x, x), p = ERF_NEAR's polynomial in RN(x * x)
               |x| < 3.92: ERF_FAR's polynomial in RN(|x| - 2.46875), with the sign of x
               otherwise:  1 with the sign of x    (erf is nearer to 1 than to 1 - 2**-24)
    silu(x)    x / (1 + exp(-x))
    gelu(x), "erf":   (0.5 * x) * (1 + erf(x * 0.70710678))
    gelu(x), "tanh":  x / (1 + exp(-(x * fma(x * x, GELU_CUBE, GELU_LINE))))

What that gives:
- exp: at most 0.90 ulp from the exact value, subnormal results included; exp(-inf) = 0, and
  overflow, from 88.72284 on, is inf. erf: at most 1.35 ulp; erf(-x) = -erf(x), erf(-0) = -0,
  erf(+-inf) = +-1. Both over all 2**32 inputs: bench/prove_functions.py.
- "tanh" is 0.5 x (1 + tanh(y)), y = sqrt(2/pi) (x + 0.044715 x**3), by the identity
  0.5 (1 + tanh(y)) = 1 / (1 + exp(-2 y)), which has no cancellation for negative y.
- silu(inf) = gelu(inf) = inf. silu(-inf) = -inf / (1 + inf) and, likewise, both forms of
  gelu(-inf) are NaN: what these formulas give in IEEE arithmetic, and in PyTorch and vLLM.
  silu(-0) = gelu(-0) = -0.
- With u = 2**-24: silu is within 4 u of its exact value, relatively, down to x = -88.72283, and
  -0 below, where the exact value is above -2.7e-37. gelu "erf" is within 4 u |x|. gelu "tanh" is
  within ((4 |t| + 2) / (1 + exp(t)) + 2) u, relatively, t = 2 y, down to t = -88.72, and -0 below.

Sources: the formulas of silu and gelu are those of vLLM csrc/activation_kernels.cu (silu_kernel,
gelu_kernel, gelu_tanh_kernel), which follow PyTorch's ActivationGeluKernel.cu. The reduction is
Cody and Waite's ("Software Manual for the Elementary Functions", 1980); the coefficients are our
own minimax fits, rounded to fp32 one after the other, the rest fitted anew each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.numerics import DTYPES, Float32, canonical_nan, fma32, to_float32

FORMS = ("erf", "tanh")  # of gelu
_ENTRIES = 1 << 16  # bit patterns of a 16-bit format


def _floats(*values: str) -> tuple[Any, ...]:
    """fp32 constants, np.float32, from their exact hexadecimal form."""
    return tuple(np.float32(float.fromhex(value)) for value in values)


# -104, 89; a float whose low bits are an integer's, so that adding it rounds to one.
EXP_LOWEST, EXP_HIGHEST, TO_INTEGER = _floats("-0x1.a0p+6", "0x1.64p+6", "0x1.8p+23")
(INVERSE_LN2,) = _floats("0x1.715476p+0")
LN2_HIGH, LN2_LOW = _floats("0x1.62e430p-1", "-0x1.05c610p-29")
# exp(r) for |r| <= ln(2) / 2, lowest power first; off by 3.1e-9 of it before rounding.
EXP = _floats(
    *("0x1p+0", "0x1p+0", "0x1.fffffcp-2", "0x1.555492p-3", "0x1.5558aap-5"),
    *("0x1.12396ep-7", "0x1.6a5250p-10"),
)
# erf(x) / x - 1 in x**2, for |x| < 1; off by 1.5e-9 of erf.
ERF_NEAR = _floats(
    *("0x1.06eba8p-3", "-0x1.81273ep-2", "0x1.ce2ce6p-4", "-0x1.b7f71ap-6"),
    *("0x1.53f224p-8", "-0x1.a3515ep-11", "0x1.4771fcp-14"),
)
ERF_EDGE, ERF_CENTRE, ERF_SATURATED = _floats("0x1p+0", "0x1.3cp+1", "0x1.f5c290p+1")
# erf(x) in x - ERF_CENTRE, for ERF_EDGE <= x < ERF_SATURATED; off by 3.1e-8.
ERF_FAR = _floats(
    *("0x1.ffc102p-1", "0x1.4d74bap-9", "-0x1.9bb1f2p-8", "0x1.37035ap-7", "-0x1.3af370p-7"),
    *("0x1.b35d08p-8", "-0x1.80753cp-9", "0x1.001368p-11", "0x1.806438p-12", "-0x1.3756a2p-12"),
    *("0x1.c8b566p-15", "0x1.9a0868p-16", "-0x1.340e70p-17"),
)
# sqrt(1/2); 2 sqrt(2/pi); 0.044715 times that.
ROOT_HALF, GELU_LINE, GELU_CUBE = _floats("0x1.6a09e6p-1", "0x1.988454p+0", "0x1.2444f2p-4")


def exp(x: Float32) -> Float32:
    """e**x. x: fp32, any shape; returns the same shape."""
    with np.errstate(all="ignore"):
        bounded = np.minimum(np.maximum(x, EXP_LOWEST), EXP_HIGHEST)
        shifted = fma32(bounded, INVERSE_LN2, TO_INTEGER)
        k = shifted - TO_INTEGER
        r = fma32(-k, LN2_LOW, fma32(-k, LN2_HIGH, bounded))
        steps = shifted.view(np.int32) - TO_INTEGER.view(np.int32)
        half = steps >> 1
        return canonical_nan(_horner(EXP, r) * _power(half) * _power(steps - half))


def erf(x: Float32) -> Float32:
    """The error function. x: fp32, any shape; returns the same shape."""
    with np.errstate(all="ignore"):
        size = np.abs(x)
        near = fma32(_horner(ERF_NEAR, x * x), x, x)
        far = _horner(ERF_FAR, size - ERF_CENTRE)
        far = np.copysign(np.where(size >= ERF_SATURATED, np.float32(1), far), x)
        return canonical_nan(np.where(size >= ERF_EDGE, far, near))


def silu(x: Float32) -> Float32:
    """x / (1 + exp(-x)). x: fp32, any shape; returns the same shape."""
    with np.errstate(all="ignore"):
        return canonical_nan(x / (np.float32(1) + exp(-x)))


def gelu(x: Float32, form: str) -> Float32:
    """x times the normal distribution's integral up to x, "erf", or its approximation, "tanh".

    x: fp32, any shape; returns the same shape.
    """
    with np.errstate(all="ignore"):
        if form == "erf":
            half, whole = np.float32(0.5) * x, np.float32(1) + erf(x * ROOT_HALF)
            return canonical_nan(half * whole)
        twice = x * fma32(x * x, GELU_CUBE, GELU_LINE)
        return canonical_nan(x / (np.float32(1) + exp(-twice)))


def each(function: Callable[[Float32], Float32], x: NDArray[Any]) -> Float32:
    """function(x as fp32), by a table of all values where a 16-bit x has more elements than those.

    x: fp32, fp16 or bf16, any shape; returns fp32 of the same shape.
    """
    if x.dtype == DTYPES["fp32"] or x.size <= _ENTRIES:
        return function(to_float32(x))
    every = np.arange(_ENTRIES, dtype=np.uint16).view(x.dtype)
    return np.asarray(function(to_float32(every))[x.view(np.uint16)])


def _horner(coefficients: tuple[Any, ...], x: Float32) -> Float32:
    """The polynomial with these coefficients, lowest power first."""
    *rest, highest = coefficients
    total: Any = highest
    for coefficient in reversed(rest):
        total = fma32(total, x, coefficient)
    return np.asarray(total, np.float32)


def _power(k: NDArray[np.int32]) -> Float32:
    """2**k for -126 <= k <= 127."""
    return ((k + 127) << 23).astype(np.int32).view(np.float32)
