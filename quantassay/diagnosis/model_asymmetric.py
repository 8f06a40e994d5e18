"""Asymmetric quantization by row, tensor or group, and its inverse, with knobs.

Contract: as model_rows.py, with a zero point s32 beside every scale; unturned knobs give the
contract of reference/int8_asymmetric.py. `qmin` is the lowest code of the op's `code_dtype`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantassay.diagnosis.knobs import FORMATS, ROUNDINGS, Settings, narrow
from quantassay.diagnosis.model_rows import (
    Array,
    Inputs,
    Outputs,
    grouped,
    out_rounding,
    placed,
    signed,
    spread,
    stored_scales,
)
from reference.numerics import Float32, canonical_nan, dtype_name, fma32, to_float32

F32 = np.float32
Integers = NDArray[np.int64]
ENDS = {"u8": (0, 255), "s8": (-128, 127)}
OTHER = {"u8": "s8", "s8": "u8"}
TYPES = {"u8": np.dtype(np.uint8), "s8": np.dtype(np.int8)}


def quantize(x: Array, groups: int, knobs: Settings) -> Outputs:
    """x: float (M, K). Returns codes (M, K), scales fp32 (M, Q), zero points s32 (M, Q)."""
    wide = FORMATS[knobs.get("input_format", "fp32")](to_float32(x))
    low, high = _range(wide, groups, knobs)
    scale = canonical_nan((high - low) / F32(knobs.get("levels", 255)))
    if "zero_scale" in knobs:
        scale = np.where(scale == 0, F32(knobs["zero_scale"]), scale)
    if "least_scale" in knobs:
        scale = np.maximum(scale, F32(knobs["least_scale"]))
    scale = FORMATS[knobs.get("scale_format", "fp32")](scale)
    zero_point = _zero_point(low, high, scale, knobs)
    if knobs["zero"] == "code0":
        zero_point = np.where(scale == 0, 0, zero_point)
    used = FORMATS[knobs.get("used_format", "fp32")](scale)
    codes = _codes(wide, used, zero_point, knobs["multiplier"], knobs, high - low)
    return codes, stored_scales(scale, knobs), placed(zero_point, knobs).astype(np.int32)


def _range(wide: Float32, groups: int, knobs: Settings) -> tuple[Float32, Float32]:
    """(min, max) of every group, each (M, Q)."""
    parts = grouped(wide, groups, knobs)
    if knobs.get("amax_over") == "row":
        whole = parts.reshape(parts.shape[0], 1, -1)
        parts = np.broadcast_to(whole, (parts.shape[0], groups, whole.shape[2]))
    if knobs.get("amax_over") == "tensor":
        parts = np.broadcast_to(parts.reshape(1, 1, -1), (*parts.shape[:2], parts.size))
    least, most = (np.fmin, np.fmax) if knobs["nan"] == "skip" else (np.minimum, np.maximum)
    first = np.finfo(np.float32).max if knobs["azp_range"] == "as is" else 0
    low = least.reduce(parts, axis=2, initial=F32(first))
    high = most.reduce(parts, axis=2, initial=F32(-first))
    if knobs["azp_range"] == "symmetric":
        high = most(np.abs(low), np.abs(high))
        low = -high
    if knobs["azp_range"] == "min with 0":
        high = most.reduce(parts, axis=2, initial=F32(-np.inf))
    if knobs["azp_range"] == "max with 0":
        low = least.reduce(parts, axis=2, initial=F32(np.inf))
    return low, high


def _zero_point(low: Float32, high: Float32, scale: Float32, knobs: Settings) -> Integers:
    dtype = str(knobs["code_dtype"])
    qmin, qmax = ENDS[OTHER[dtype] if knobs.get("qmin_of") == "other" else dtype]
    formula = str(knobs["zero_point"])
    rounding = str(knobs.get("zero_point_rounding", "rne"))
    ratio: Array = low * (F32(1) / scale) if knobs.get("zero_point_inverse") else low / scale
    if "qmax" in formula:
        found = _int32(np.asarray(F32(qmax) - high / scale), rounding)
    elif "qmin-rne" in formula:
        found = qmin - _int32(ratio, rounding)
    else:
        found = _int32(np.asarray(F32(qmin) - ratio), rounding)
    return np.clip(found, qmin, qmax) if formula.startswith("clamp") else found


def _int32(values: Array, rounding: str = "rne") -> Integers:
    """To the nearest integer (or as told) that int32 holds; NaN is 0."""
    whole = ROUNDINGS[rounding](values).astype(np.float64)
    return np.where(np.isnan(whole), 0, np.clip(whole, -(2.0**31), 2.0**31 - 1)).astype(np.int64)


def _codes(
    wide: Float32,
    scale: Float32,
    zero_point: Array,
    multiplier: str,
    knobs: Settings,
    width: Float32 | None = None,
) -> Array:
    """scale, zero_point, width (max - min, where dynamic): (M, Q) or (1, Q)."""
    M, K = wide.shape
    per_element = spread(scale, M, K, knobs)
    quotient: Array
    if multiplier == "x/s":
        quotient = wide / per_element
    elif multiplier == "x*s":
        quotient = wide * per_element
    elif multiplier == "x*(255/range)" and width is not None:
        quotient = wide * (F32(255) / spread(width, M, K, knobs))
    else:
        quotient = wide * (F32(1) / per_element)
    if width is not None and knobs["zero"] == "code0":
        quotient = np.where(per_element == 0, F32(0), quotient)
    shift = spread(zero_point.astype(np.int64), M, K, knobs, "zero_point")
    return _integer(quotient, shift, knobs)


def _integer(quotient: Array, shift: Integers, knobs: Settings) -> Array:
    dtype, rounding = str(knobs["code_dtype"]), str(knobs["rounding"])
    added = knobs.get("zero_point_added", "after rounding")
    if added == "before rounding":
        total = _int32(quotient + shift.astype(F32), rounding)
    else:
        sign = {"after rounding": 1, "subtracted": -1, "not at all": 0}[added]
        total = _int32(quotient, rounding) + sign * shift
        if knobs["azp_sum"] == "wrap":
            total = total.astype(np.int32).astype(np.int64)
        elif knobs["azp_sum"] == "saturate":
            total = np.clip(total, -(2**31), 2**31 - 1)
    clamp = str(knobs.get("code_clamp", ""))
    if clamp == "none":
        return total.astype(TYPES[dtype])
    low, high = ENDS[dtype]
    if clamp == "127 levels":
        low, high = low // 2, high // 2
    return np.clip(total, low + (clamp == "symmetric"), high).astype(TYPES[dtype])


def quantize_static(x: Array, scales: Float32, zero_points: Array, knobs: Settings) -> Array:
    """x: float (M, K); scales fp32, zero_points s32: (S, Q). Returns codes (M, K)."""
    wide = FORMATS[knobs.get("input_format", "fp32")](to_float32(x))
    used = FORMATS[knobs.get("used_format", "fp32")](scales)
    return _codes(wide, used, zero_points, knobs["static_multiplier"], knobs)


def dequantize(codes: Array, scales: Float32, zero_points: Array, knobs: Settings) -> Array:
    """codes: u8 or s8 (M, K); scales fp32, zero_points s32: (S, Q). Returns out_dtype (M, K)."""
    M, K = codes.shape
    kind = knobs.get("a_type")
    if kind == "other":
        kind = OTHER[str(dtype_name(codes.dtype))]
    whole = signed(codes, kind)
    scale = spread(FORMATS[knobs.get("scale_format", "fp32")](scales), M, K, knobs)
    shift = spread(zero_points.astype(np.int64), M, K, knobs, "zero_point")
    how = knobs.get("difference", "int32")
    wide, shift_wide = whole.astype(F32), shift.astype(F32)
    if how == "code*s-zp*s":
        out = wide * scale - shift_wide * scale
    elif how == "code*s-zp*s fma":
        out = fma32(wide, scale, -(shift_wide * scale))
    else:
        out = DIFFERENCES[how](whole, shift) * scale
    name = str(knobs["out_dtype"])
    return narrow(canonical_nan(out), name, out_rounding(name, knobs))


DIFFERENCES: dict[str, Callable[[Integers, Integers], Float32]] = {
    "int32": lambda code, shift: (code - shift).astype(np.int32).astype(F32),
    "int64": lambda code, shift: (code - shift).astype(F32),
    "fp32": lambda code, shift: code.astype(F32) - shift.astype(F32),
    "int16": lambda code, shift: (code - shift).astype(np.int16).astype(F32),
    "int8": lambda code, shift: (code - shift).astype(np.int8).astype(F32),
    "added": lambda code, shift: (code + shift).astype(np.int32).astype(F32),
    "without": lambda code, shift: code.astype(F32),
    "reversed": lambda code, shift: (shift - code).astype(np.int32).astype(F32),
}


def _rows(name: str) -> Callable[[Inputs, Settings], Outputs]:
    def model(inputs: Inputs, knobs: Settings) -> Outputs:
        codes, scales, zero_points = quantize(inputs[name], 1, knobs)
        return codes, scales[:, 0], zero_points[:, 0]

    return model


def _tensor(inputs: Inputs, knobs: Settings) -> Outputs:
    x = inputs["x"]
    if knobs.get("amax_over") == "row":
        codes, scales, zero_points = quantize(x, 1, {**knobs, "amax_over": ""})
        return codes, scales[:1, 0], zero_points[:1, 0]
    codes, scales, zero_points = quantize(x.reshape(1, -1), 1, knobs)
    return codes.reshape(x.shape), scales[:, 0], zero_points[:, 0]


def _groups(inputs: Inputs, knobs: Settings) -> Outputs:
    x = inputs["x"]
    return quantize(x, x.shape[1] // inputs["group_size"], knobs)


def _given(inputs: Inputs) -> tuple[Any, Any]:
    """Scales and zero points as (S, Q)."""
    scales, zero_points = inputs["scales"], inputs["zero_points"]
    return (scales, zero_points) if scales.ndim == 2 else (scales[:, None], zero_points[:, None])


def _static(inputs: Inputs, knobs: Settings) -> Outputs:
    return (quantize_static(inputs["x"], *_given(inputs), knobs),)


def _dequantize(inputs: Inputs, knobs: Settings) -> Outputs:
    return (dequantize(inputs["codes"], *_given(inputs), knobs),)


MODELS: dict[str, Callable[[Inputs, Settings], Outputs]] = {
    "int8.asymmetric_per_token": _rows("x"),
    "int8.asymmetric_per_channel": _rows("w"),
    "int8.asymmetric_per_tensor": _tensor,
    "int8.asymmetric_per_group": _groups,
    "int8.asymmetric_static": _static,
    "int8.asymmetric_static_per_group": _static,
    "int8.asymmetric_dequantize": _dequantize,
    "int8.asymmetric_dequantize_per_group": _dequantize,
}
