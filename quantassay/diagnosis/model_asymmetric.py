"""Asymmetric quantization by row, tensor or group, and its inverse, with knobs.

Contract: as model_rows.py, with a zero point s32 beside every scale; unturned knobs give the
contract of reference/int8_asymmetric.py and asymmetric.py. `qmin` is the lowest code of the op's
`code_dtype`; "whole" tells that the only row is a tensor.
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
from reference.numerics import (
    EPSILON,
    SMALLEST_NORMAL,
    Float32,
    canonical_nan,
    dtype_name,
    fma32,
    to_float32,
)

F32 = np.float32
Rounder = Callable[[Array], Float32]
Integers = NDArray[np.int64]
ENDS = {"u8": (0, 255), "s8": (-128, 127)}
OTHER = {"u8": "s8", "s8": "u8"}
TYPES = {"u8": np.dtype(np.uint8), "s8": np.dtype(np.int8)}


def quantize(x: Array, groups: int, knobs: Settings) -> Outputs:
    """x: float (M, K). Returns codes (M, K), scales fp32 (M, Q), zero points s32 (M, Q)."""
    wide = FORMATS[knobs.get("input_format", "fp32")](to_float32(x))
    of_scale, of_code = _rounders(x, knobs)
    low, high = _range(wide, groups, knobs)
    width = of_scale(high - low)
    found = canonical_nan(of_scale(width / F32(knobs.get("levels", 255))))
    if "zero_scale" in knobs:
        found = np.where(found == 0, F32(knobs["zero_scale"]), found)
    scale = FORMATS[knobs.get("scale_format", "fp32")](_least(found, low == high, x, knobs))
    before = knobs["least_scale"] == "eps where 0"
    zero_point = _zero_point(low, high, found if before else scale, of_scale, knobs)
    if knobs["zero"] == "code0":
        zero_point = np.where(scale == 0, 0, zero_point)
    used = FORMATS[knobs.get("used_format", "fp32")](scale)
    codes = _codes(wide, used, zero_point, knobs["multiplier"], of_code, knobs, high - low)
    return codes, stored_scales(scale, knobs), placed(zero_point, knobs).astype(np.int32)


def _rounders(x: Array, knobs: Settings) -> tuple[Rounder, Rounder]:
    """Of scale and zero point, and of codes: to x's dtype or not at all."""
    own = FORMATS[str(dtype_name(x.dtype))]
    return {
        "fp32": (FORMATS["fp32"], FORMATS["fp32"]),
        "input": (own, own),
        "input scale": (own, FORMATS["fp32"]),
    }[knobs["arithmetic"]]


def _least(scale: Float32, empty: Array, x: Array, knobs: Settings) -> Float32:
    """least_scale: a dialect's word, or a number to floor the scale at."""
    least = knobs["least_scale"]
    if not isinstance(least, str):
        return np.maximum(scale, F32(least))
    if least == "2^-23":
        return np.where(scale < F32(2.0**-23), F32(2.0**-23), scale)
    own = str(dtype_name(x.dtype))
    if least == "smallest normal":
        return np.where(scale < F32(SMALLEST_NORMAL[own]), F32(SMALLEST_NORMAL[own]), scale)
    if least == "eps where 0":
        return np.where(scale == 0, F32(EPSILON[own]), scale)
    return np.where(empty, F32(1), scale) if least == "1 where empty" else scale


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


def _zero_point(
    low: Float32, high: Float32, scale: Float32, rounded: Rounder, knobs: Settings
) -> Integers:
    dtype = str(knobs["code_dtype"])
    qmin, qmax = ENDS[OTHER[dtype] if knobs.get("qmin_of") == "other" else dtype]
    formula = str(knobs["zero_point"])
    rounding = str(knobs.get("zero_point_rounding", "rne"))
    ratio: Array = low * (F32(1) / scale) if knobs.get("zero_point_inverse") else low / scale
    ratio = rounded(ratio)
    if "qmax" in formula:
        found = _int32(np.asarray(F32(qmax) - high / scale), rounding)
    elif "qmin-rne" in formula:
        found = qmin - _int32(ratio, rounding)
    elif formula.endswith("fp32 per tensor") and knobs.get("whole"):
        found = _int32(np.asarray(F32(qmin) - ratio), rounding)
    else:
        found = _int32(rounded(F32(qmin) - ratio), rounding)
    found = np.clip(found, qmin, qmax) if formula.startswith("clamp") else found
    wrapped = qmax if dtype == "s8" else qmin
    lost = {"0": 0, "qmin": qmin, "qmax": qmax, "clamp(qmin+2**31)": wrapped}
    instead = lost[str(knobs["azp_nan_zero_point"])]
    return np.where(np.isnan(ratio), instead, found)


def _int32(values: Array, rounding: str = "rne") -> Integers:
    """To the nearest integer (or as told) that int32 holds; NaN is 0."""
    whole = ROUNDINGS[rounding](values).astype(np.float64)
    return np.where(np.isnan(whole), 0, np.clip(whole, -(2.0**31), 2.0**31 - 1)).astype(np.int64)


def _codes(
    wide: Float32,
    scale: Float32,
    zero_point: Array,
    multiplier: str,
    rounded: Rounder,
    knobs: Settings,
    width: Float32 | None = None,
) -> Array:
    """scale, zero_point, width (max - min, where dynamic): (M, Q) or (1, Q)."""
    M, K = wide.shape
    per_element = spread(scale, M, K, knobs)
    shift = spread(zero_point.astype(np.int64), M, K, knobs, "zero_point")
    factor: Array = rounded(F32(1) / per_element)
    if multiplier == "x*s":
        factor = per_element
    elif multiplier == "x*(255/range)" and width is not None:
        factor = F32(255) / spread(width, M, K, knobs)
    quotient: Array = rounded(wide / per_element if multiplier == "x/s" else wide * factor)
    if width is not None and knobs["zero"] == "code0":
        quotient = np.where(per_element == 0, F32(0), quotient)
    first = rounded(quotient + shift.astype(F32))
    if knobs["azp_sum"] == "fma before rounding" and multiplier != "x/s":
        first = fma32(wide, factor, shift.astype(F32))
    return _integer(quotient, first, shift, knobs)


def _integer(quotient: Array, first: Array, shift: Integers, knobs: Settings) -> Array:
    """first: the quotient with the zero point added before the rounding."""
    dtype, rounding = str(knobs["code_dtype"]), str(knobs["rounding"])
    added = knobs.get("zero_point_added", "as the dialect does")
    if added == "as the dialect does" and str(knobs["azp_sum"]).endswith("before rounding"):
        total = _int32(first, rounding)
    else:
        sign = {"as the dialect does": 1, "subtracted": -1, "not at all": 0}[added]
        total = _int32(quotient, rounding) + sign * shift
        if knobs["azp_sum"] == "wrap":
            total = total.astype(np.int32).astype(np.int64)
        elif knobs["azp_sum"] == "saturate":
            total = np.clip(total, -(2**31), 2**31 - 1)
    low, high = ENDS[dtype]
    lost = {"zero": 0, "low": low, "high": high}.get(str(knobs["azp_nan_code"]))
    if lost is not None:
        total = np.where(np.isnan(quotient), lost, total)
    clamp = str(knobs.get("code_clamp", ""))
    if clamp == "none":
        return total.astype(TYPES[dtype])
    if clamp == "127 levels":
        low, high = low // 2, high // 2
    return np.clip(total, low + (clamp == "symmetric"), high).astype(TYPES[dtype])


def quantize_static(x: Array, scales: Float32, zero_points: Array, knobs: Settings) -> Array:
    """x: float (M, K); scales fp32, zero_points s32: (S, Q). Returns codes (M, K)."""
    wide = FORMATS[knobs.get("input_format", "fp32")](to_float32(x))
    used = FORMATS[knobs.get("used_format", "fp32")](scales)
    of_code = _rounders(x, knobs)[1]
    return _codes(wide, used, zero_points, knobs["static_multiplier"], of_code, knobs)


def dequantize(codes: Array, scales: Float32, zero_points: Array, knobs: Settings) -> Array:
    """codes: u8 or s8 (M, K); scales fp32, zero_points s32: (S, Q). Returns out_dtype (M, K)."""
    M, K = codes.shape
    kind = knobs.get("a_type")
    if kind == "other":
        kind = OTHER[str(dtype_name(codes.dtype))]
    whole = signed(codes, kind)
    scale = spread(FORMATS[knobs.get("scale_format", "fp32")](scales), M, K, knobs)
    shift = spread(zero_points.astype(np.int64), M, K, knobs, "zero_point")
    how = knobs.get("difference", knobs["azp_difference"])
    wide, shift_wide = whole.astype(F32), shift.astype(F32)
    if how == "output":
        rounded = FORMATS[str(knobs["out_dtype"])]
        out = rounded(wide - rounded(shift_wide)) * scale
    elif how == "code*s-zp*s":
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
    codes, scales, zero_points = quantize(x.reshape(1, -1), 1, {**knobs, "whole": True})
    return codes.reshape(x.shape), scales[:, 0], zero_points[:, 0]


def _groups(inputs: Inputs, knobs: Settings) -> Outputs:
    x = inputs["x"]
    return quantize(x, x.shape[1] // inputs["group_size"], knobs)


def _given(inputs: Inputs) -> tuple[Any, Any]:
    """Scales and zero points as (S, Q)."""
    scales, zero_points = inputs["scales"], inputs["zero_points"]
    return (scales, zero_points) if scales.ndim == 2 else (scales[:, None], zero_points[:, None])


def _static(inputs: Inputs, knobs: Settings) -> Outputs:
    """With a scale per row, fields that nobody turned are those of per-channel kernels."""
    if inputs["scales"].ndim == 1 and inputs["scales"].size > 1:
        pairs = knobs.get("of_channel", {}).items()
        knobs = {**knobs, **{name: two[1] for name, two in pairs if knobs[name] == two[0]}}
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
