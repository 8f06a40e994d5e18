"""Wrong asymmetric kernels in NumPy: the textbook formula with one mistake each.

Contract: as planted.py. RIGHT is the formula without a mistake.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from reference import int8_asymmetric as oracle
from reference.numerics import DTYPES, INT32_MAX, RANGES, canonical_nan, to_float32
from tests.wrong.planted import Planted

TOKEN, STATIC, DEQUANTIZE = (
    f"int8.asymmetric_{name}" for name in ("per_token", "static", "dequantize")
)


def _quantized(
    x: Any,
    code_dtype: str,
    *,
    widened: bool = True,
    levels: int = 255,
    late: bool = False,
    inverse: bool = False,
    shift: int = 0,
) -> tuple[Any, Any, Any]:
    """Each keyword but the first two makes one mistake. In float64 behind the quotient: no sum of a
    quotient and a zero point can round there.
    """
    low, high = RANGES[code_dtype]
    wide = to_float32(x)
    smallest, largest = wide.min(axis=1), wide.max(axis=1)
    if widened:
        smallest, largest = np.minimum(smallest, 0), np.maximum(largest, 0)
    with np.errstate(all="ignore"):
        scale = canonical_nan((largest - smallest) / np.float32(levels))
        zero = np.clip(np.rint(np.float32(low) - smallest / scale), low, high)
        divisor = scale[:, None]
        quotient = wide * (np.float32(1) / divisor) if inverse else wide / divisor
    zero = np.nan_to_num(np.where(scale == 0, 0, zero)).astype(np.float64)[:, None]
    quotient = np.nan_to_num(np.where(divisor == 0, 0, quotient)).astype(np.float64)
    code = np.rint(quotient + zero) if late else np.rint(quotient) + zero
    codes = np.clip(code + shift, low, high).astype(DTYPES[code_dtype])
    return codes, scale, zero[:, 0].astype(np.int32)


def formula(x: Any, *, code_dtype: str) -> Any:
    return _quantized(x, code_dtype)


def zero_point_before_rounding(x: Any, *, code_dtype: str) -> Any:
    return _quantized(x, code_dtype, late=True)


def range_not_widened(x: Any, *, code_dtype: str) -> Any:
    return _quantized(x, code_dtype, widened=False)


def levels_256(x: Any, *, code_dtype: str) -> Any:
    return _quantized(x, code_dtype, levels=256)


def reciprocal(x: Any, *, code_dtype: str) -> Any:
    return _quantized(x, code_dtype, inverse=True)


def offset_127(x: Any, *, code_dtype: str) -> Any:
    """s8 made from u8 by subtracting 127 from codes and zero points, not 128."""
    codes, scale, zero = _quantized(x, "u8")
    if code_dtype == "u8":
        return codes, scale, zero
    return (codes.astype(np.int16) - 127).clip(-128, 127).astype(np.int8), scale, zero - 127


def codes_one_off(x: Any, *, code_dtype: str) -> Any:
    """s8 codes one too high, the zero point right."""
    return _quantized(x, code_dtype, shift=int(code_dtype == "s8"))


def wrapping_sum(x: Any, scales: Any, zero_points: Any, *, code_dtype: str) -> Any:
    """int32 throughout: a large quotient and the zero point pass 2**31."""
    with np.errstate(all="ignore"):
        quotient = np.rint(to_float32(x) / scales[:, None]).astype(np.float64)
    steps = np.clip(np.nan_to_num(quotient), -INT32_MAX - 1, INT32_MAX).astype(np.int64)
    total = (steps + zero_points[:, None]).astype(np.int32)
    return np.clip(total, *RANGES[code_dtype]).astype(DTYPES[code_dtype])


def zero_point_of_one_byte(x: Any, scales: Any, zero_points: Any, *, code_dtype: str) -> Any:
    narrow = zero_points.astype(DTYPES[code_dtype]).astype(np.int32)
    return oracle.asymmetric_static(x, scales, narrow, code_dtype=code_dtype)


def float_difference(codes: Any, scales: Any, zero_points: Any) -> Any:
    """float(code) - float(zero point), which rounds where int32 does not."""
    steps = codes.astype(np.float32) - zero_points.astype(np.float32)[:, None]
    with np.errstate(all="ignore"):
        return canonical_nan(steps * scales[:, None])


def signed_as_unsigned(codes: Any, scales: Any, zero_points: Any) -> Any:
    return oracle.asymmetric_dequantize(codes.view(np.uint8), scales, zero_points)


def _planted(op: str, function: Callable[..., Any]) -> Planted:
    return Planted(function.__name__, op, function, wing="numpy")


RIGHT = _planted(TOKEN, formula)
WRONG = (
    _planted(TOKEN, zero_point_before_rounding),
    _planted(TOKEN, range_not_widened),
    _planted(TOKEN, levels_256),
    _planted(TOKEN, reciprocal),
    _planted(TOKEN, offset_127),
    _planted(TOKEN, codes_one_off),
    _planted(STATIC, wrapping_sum),
    _planted(STATIC, zero_point_of_one_byte),
    _planted(DEQUANTIZE, float_difference),
    _planted(DEQUANTIZE, signed_as_unsigned),
)
