"""The arithmetic of asymmetric quantization, and its argument checks: what the oracle of
int8_asymmetric.py and both wings share. The contract stands at the head of that file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.dialects import Dialect
from reference.dialects import dialect as get_dialect
from reference.numerics import (
    DTYPES,
    INT32_MAX,
    RANGES,
    Float32,
    canonical_nan,
    round_to,
    to_float32,
)
from reference.validate import (
    check_array,
    check_group_scales,
    check_group_size,
    check_out_dtype,
    check_positive,
    check_quantize,
    check_vector,
)

Codes = NDArray[Any]
ZeroPoints = NDArray[np.int32]
SPOKEN = ("ieee", "vllm")
CODES = ("u8", "s8")
FAMILY = "asymmetric"
LEVELS = np.float32(255)
ZERO_POINTS = (RANGES["s8"][0], RANGES["u8"][1])  # what a clamped zero point may be
_LARGEST = np.finfo(np.float32).max

# -- arithmetic ------------------------------------------------------------------------------------


def quantize_rows(
    x: NDArray[Any], spoken: Dialect, code_dtype: str
) -> tuple[Codes, Float32, ZeroPoints]:
    """Codes, scale and zero point of every row of x (rows, columns), unchecked."""
    wide, qmin = to_float32(x), np.float32(RANGES[code_dtype][0])
    with np.errstate(all="ignore"):
        smallest, largest = _range(wide, spoken)
        scale = canonical_nan((largest - smallest) / LEVELS)
        zero_point = _to_int32(qmin - smallest / scale)
        if spoken.zero_point.startswith("clamp"):
            zero_point = np.clip(zero_point, *RANGES[code_dtype])
        quotient = _quotient(wide, scale, spoken.multiplier)
        if spoken.zero == "code0":
            zero_point = np.where(scale == 0, 0, zero_point)
            quotient = np.where(scale == 0, np.float32(0), quotient)
    codes = _codes(quotient, zero_point, spoken, code_dtype)
    return codes, scale[:, 0].copy(), zero_point[:, 0].astype(np.int32)


def _range(wide: Float32, spoken: Dialect) -> tuple[Float32, Float32]:
    """(min, max) of every row, each (rows, 1)."""
    start = np.float32(0 if spoken.azp_range == "with 0" else _LARGEST)
    low, high = (np.minimum, np.maximum) if spoken.nan == "propagate" else (np.fmin, np.fmax)
    smallest: Float32 = low.reduce(wide, axis=1, keepdims=True, initial=start)
    largest: Float32 = high.reduce(wide, axis=1, keepdims=True, initial=-start)
    return smallest, largest


def _quotient(wide: Float32, scale: Float32, multiplier: str) -> Float32:
    return {
        "x/s": lambda: wide / scale,
        "x*(1/s)": lambda: wide * (np.float32(1) / scale),
    }[multiplier]()


def _to_int32(values: Float32) -> NDArray[np.int64]:
    """RNE; saturates at int32's ends; NaN is 0."""
    rounded = np.clip(np.rint(values.astype(np.float64)), -INT32_MAX - 1, INT32_MAX)
    return np.where(np.isnan(rounded), 0.0, rounded).astype(np.int64)


def _codes(
    quotient: Float32, zero_point: NDArray[np.int64], spoken: Dialect, code_dtype: str
) -> Codes:
    total = _to_int32(quotient) + zero_point
    if spoken.azp_sum == "wrap":
        total = total.astype(np.int32)
    return np.clip(total, *RANGES[code_dtype]).astype(DTYPES[code_dtype])


def quantize_given(
    x: NDArray[Any], scale: Float32, zero_point: ZeroPoints, spoken: Dialect, code_dtype: str
) -> Codes:
    with np.errstate(all="ignore"):
        quotient = _quotient(to_float32(x), scale, spoken.static_multiplier)
        return _codes(quotient, zero_point.astype(np.int64), spoken, code_dtype)


def dequantized(
    codes: Codes, scale: Float32, zero_point: ZeroPoints, out_dtype: str
) -> NDArray[Any]:
    steps = (codes.astype(np.int64) - zero_point).astype(np.int32)
    with np.errstate(all="ignore"):
        return round_to(canonical_nan(steps.astype(np.float32) * scale), out_dtype)


# -- checks ----------------------------------------------------------------------------------------


def _spoken(dialect: Any) -> Dialect:
    if dialect not in SPOKEN:
        raise ValueError(f"dialect: got {dialect!r}; allowed: {', '.join(SPOKEN)}")
    return get_dialect(dialect).under(FAMILY)


def check_asymmetric(x: Any, dialect: str, code_dtype: str, name: str = "x") -> Dialect:
    """x: fp32, fp16 or bf16 (rows, columns). Returns the dialect under "asymmetric"."""
    spoken = _spoken(dialect)
    check_quantize(x, dialect, name)
    _check_count(name, "rows", int(x.shape[0]))
    if code_dtype not in CODES:
        raise ValueError(f"code_dtype: got {code_dtype!r}; allowed: {', '.join(CODES)}")
    return spoken


def _check_count(name: str, what: str, count: int) -> None:
    """Kernels count rows and groups in 32 bits."""
    if count > INT32_MAX:
        raise ValueError(f"{name}: got {count} {what}; allowed: at most {INT32_MAX}")


def check_asymmetric_group(x: Any, group_size: Any, dialect: str, code_dtype: str) -> Dialect:
    """As `check_asymmetric`; group_size: an int >= 1 that divides K."""
    spoken = check_asymmetric(x, dialect, code_dtype)
    groups = check_group_size(group_size, int(x.shape[1]))
    _check_count("x", "groups", int(x.shape[0]) * groups)
    return spoken


def check_asymmetric_static(
    x: Any, scales: Any, zero_points: Any, dialect: str, code_dtype: str
) -> Dialect:
    """scales: fp32, one for all or one per row, finite and > 0; zero_points: s32 of that shape."""
    spoken = check_asymmetric(x, dialect, code_dtype)
    check_vector("scales", scales, {1: "per-tensor", int(x.shape[0]): "one per row"})
    _check_given(scales, zero_points, spoken)
    return spoken


def check_asymmetric_static_group(
    x: Any, scales: Any, zero_points: Any, dialect: str, code_dtype: str
) -> Dialect:
    """scales: fp32 (1, Q) or (M, Q), finite and > 0, Q divides K; zero_points: s32, as they."""
    spoken = check_asymmetric(x, dialect, code_dtype)
    rows, depth = (int(side) for side in x.shape)
    check_group_scales("scales", scales, rows, depth, "x")
    _check_count("x", "groups", rows * int(scales.shape[1]))
    _check_given(scales, zero_points, spoken)
    return spoken


def _check_given(scales: Any, zero_points: Any, spoken: Dialect) -> None:
    _check_zero_points(zero_points, scales)
    check_positive("scales", scales)
    if not spoken.zero_point.startswith("clamp"):
        return
    low, high = ZERO_POINTS
    values = zero_points.get() if hasattr(zero_points, "get") else zero_points
    bad = np.argwhere((values < low) | (values > high))
    if bad.size:
        where = tuple(int(i) for i in bad[0])
        index = where[0] if len(where) == 1 else where
        raise ValueError(
            f"zero_points: got {values[where]} at index {index}; "
            f"allowed in dialect {spoken.name}: {low} to {high}"
        )


def _check_zero_points(zero_points: Any, scales: Any) -> None:
    shape = tuple(int(side) for side in scales.shape)
    got = check_array("zero_points", zero_points, ("s32",), len(shape))
    if got != shape:
        raise ValueError(f"zero_points: got shape {got}; allowed: {shape}, the shape of scales")


def check_asymmetric_dequantize(
    codes: Any, scales: Any, zero_points: Any, dialect: str, out_dtype: str
) -> Dialect:
    """codes: u8 or s8 (M, K); scales: fp32 (1,) or (M,); zero_points: s32 of that shape."""
    spoken = _spoken(dialect)
    rows, _ = check_array("codes", codes, CODES, 2)
    check_vector("scales", scales, {1: "per-tensor", rows: "one per row"})
    _check_count("codes", "rows", rows)
    _check_zero_points(zero_points, scales)
    check_out_dtype(out_dtype)
    return spoken


def check_asymmetric_dequantize_group(
    codes: Any, scales: Any, zero_points: Any, dialect: str, out_dtype: str
) -> Dialect:
    """codes: u8 or s8 (M, K); scales: fp32 (1, Q) or (M, Q), Q divides K; zero_points: s32."""
    spoken = _spoken(dialect)
    rows, depth = check_array("codes", codes, CODES, 2)
    check_group_scales("scales", scales, rows, depth, "codes")
    _check_count("codes", "groups", rows * int(scales.shape[1]))
    _check_zero_points(zero_points, scales)
    check_out_dtype(out_dtype)
    return spoken
