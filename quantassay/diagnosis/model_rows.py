"""Symmetric quantization, static and dynamic, by row, group or tensor, and its inverse, with knobs.

Contract: x is (M, K) in Q groups of K / Q neighbours; Q = 1 is one scale per row. Scales are (M, Q)
or (1, Q). Unturned knobs give the contracts of reference/int8_quantize.py and int8_group.py.
`scale_row` maps rows to the rows whose scale they take, `scale_group` columns to groups,
`range_of` columns to the columns whose magnitude counts in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantassay.diagnosis.knobs import FORMATS, ROUNDINGS, Settings, narrow
from reference.numerics import EPSILON, Float32, canonical_nan, dtype_name, to_float32

Array = NDArray[Any]
Outputs = tuple[Array, ...]
Inputs = Mapping[str, Any]
F32 = np.float32


def quantize(
    x: Array, given: Float32 | None, knobs: Settings, groups: int = 1
) -> tuple[Array, Float32]:
    """x: float (M, K); given: scales fp32 (M, Q) or (1, Q), None = dynamic.

    Returns codes s8 (M, K) and the stored scales fp32 (M, Q).
    """
    knobs = {**knobs, "own_dtype": _own(x, knobs)}
    wide = FORMATS[knobs.get("input_format", "fp32")](to_float32(x))
    if knobs.get("flush"):
        wide = _flush(wide)
    (M, K), amax, divisor = x.shape, None, None
    if given is None:
        amax = _amax(wide, groups, knobs)
        scale = _scale(wide, amax, groups, _own(x, knobs), knobs)
        divisor = spread(amax, M, K, knobs)
    else:
        scale = given.astype(F32)
    scale = FORMATS[knobs.get("scale_format", "fp32")](scale)
    used = FORMATS[knobs.get("used_format", "fp32")](scale)
    exact = FORMATS[_own(x, knobs) if knobs["arithmetic"] == "input" else "fp32"]
    codes = _codes(wide, spread(used, M, K, knobs), divisor, exact, knobs)
    return codes, stored_scales(np.broadcast_to(scale, (M, groups)), knobs, amax)


def _scale(wide: Float32, amax: Float32, groups: int, own: str, knobs: Settings) -> Float32:
    """(M, Q), from the groups' amax or from both of their ends. own: x's dtype."""
    kind = own if knobs["arithmetic"] in ("input", "input scale") else "fp32"
    levels = F32(knobs.get("levels", 127))
    if knobs["scale"] == "max(-min/128,max/127)":
        up = _amax(np.maximum(wide, F32(0)), groups, knobs) / levels
        down = _amax(np.minimum(wide, F32(0)), groups, knobs) / (levels + F32(1))
        scale = FORMATS[kind](np.maximum(up, down))
    elif knobs["scale"] == "amax*(1/127)":
        scale = FORMATS[kind](amax * (F32(1) / levels))
    else:
        half = F32(0.5 if knobs["scale"] == "amax/127.5" else 0)
        scale = FORMATS[kind](amax / (levels + half))
    if knobs.get("flush") == "all":
        scale = _flush(scale)
    scale = _least(canonical_nan(scale), amax, kind, knobs)
    if "zero_scale" in knobs:
        scale = np.where(amax == 0, F32(knobs["zero_scale"]), scale)
    return scale


def _least(scale: Float32, amax: Float32, kind: str, knobs: Settings) -> Float32:
    """least_scale: a dialect's word, or a number to floor the scale at."""
    least = knobs["least_scale"]
    if least == "eps where 0":
        return np.where(scale == 0, F32(EPSILON[kind]), scale)
    if least == "1 where empty":
        return np.where(amax == 0, F32(1), scale)
    if isinstance(least, str):
        normal = 2.0**-14 if kind == "fp16" else 2.0**-126
        least = {"none": 0.0, "2^-23": 2.0**-23, "smallest normal": normal}[least]
    return np.where(scale < F32(least), F32(least), scale)


def stored_scales(scale: Float32, knobs: Settings, amax: Float32 | None = None) -> Float32:
    """What is written of scales (M, Q) and, if they have one, their amax."""
    stored = FORMATS[knobs.get("stored_format", "fp32")](scale)
    if knobs.get("stored") == "inverse":
        stored = F32(1) / stored
    if knobs.get("stored") == "fp16 scale":
        stored = FORMATS["fp16"](stored)
    if knobs.get("stored") == "amax" and amax is not None:
        stored = amax
    return canonical_nan(placed(np.ascontiguousarray(stored), knobs))


def placed(values: Array, knobs: Settings) -> Array:
    """Values (M, Q) at the places where the kernel stores them."""
    if "stored_group" in knobs:
        values = values[:, knobs["stored_group"](values.shape[1], values.shape[0])]
    if knobs.get("stored_layout") == "QM":
        values = np.ascontiguousarray(values.T).reshape(values.shape)
    return values


def spread(values: Array, M: int, K: int, knobs: Settings, name: str = "scale") -> Array:
    """Values (M, Q) or (1, Q) by element, (M, K), at the rows and groups that the knobs choose."""
    S, Q = values.shape
    rows = np.zeros(M, np.int64) if S == 1 else np.arange(M)
    if f"{name}_row" in knobs and S > 1:
        rows = knobs[f"{name}_row"](M, K)
    if f"{name}_group" in knobs:
        return values[rows[:, None], knobs[f"{name}_group"](K, Q)[None, :]]
    return np.repeat(values[rows], K // Q, axis=1)


def _amax(wide: Float32, groups: int, knobs: Settings) -> Float32:
    """(M, Q): max |x| of every group, at least the floor."""
    magnitude = grouped(wide if knobs.get("amax_signed") else np.abs(wide), groups, knobs)
    largest = np.fmax if knobs["nan"] == "skip" else np.maximum
    if "least_amax" in knobs:
        magnitude = largest(magnitude, F32(knobs["least_amax"]))
    kind = knobs["own_dtype"] if knobs["arithmetic"] == "input" else "fp32"
    least = {"none": 0.0, "1e-10": 1e-10, "1e-5": 1e-5}[knobs["floor"]]
    floor = FORMATS[kind](np.array(least, F32))
    if knobs["nan"] == "skip" or not magnitude.shape[2]:
        amax = largest.reduce(magnitude, axis=2, initial=F32(0))
    else:
        amax = largest.reduce(magnitude, axis=2)
    if knobs.get("amax_over") == "tensor":
        amax = np.broadcast_to(largest.reduce(amax, axis=None), amax.shape)
    elif knobs.get("amax_over") == "row":
        amax = np.broadcast_to(largest.reduce(amax, axis=1, keepdims=True), amax.shape)
    return amax if floor == 0 else np.maximum(amax, floor)


def grouped(wide: Float32, groups: int, knobs: Settings) -> Float32:
    """(M, K) as (M, Q, elements that are looked at)."""
    M, K = wide.shape
    if "range_of" in knobs:
        wide = wide[:, knobs["range_of"](K, M)]
    if knobs.get("range_layout") == "interleaved":
        parts = wide.reshape(M, K // groups, groups).transpose(0, 2, 1)
    else:
        parts = wide.reshape(M, groups, K // groups)
    return parts[:, :, knobs["amax_of"](K // groups)] if "amax_of" in knobs else parts


def _codes(
    wide: Float32,
    scale: Float32,
    amax: Float32 | None,
    rounded: Callable[[Array], Float32],
    knobs: Settings,
) -> Array:
    multiplier = knobs["multiplier" if amax is not None else "static_multiplier"]
    of_factor = FORMATS[knobs["own_dtype"]] if "factor_format" in knobs else rounded
    if multiplier == "x/s" or (multiplier == "x*(127/amax)" and amax is None):
        quotient, divisor = wide / scale, scale
    elif multiplier == "x*(1/s)":
        quotient, divisor = wide * of_factor(F32(1) / scale), scale
    elif multiplier == "x*s":
        quotient, divisor = wide * scale, scale
    else:
        assert amax is not None
        quotient, divisor = wide * of_factor(F32(knobs.get("levels", 127)) / amax), amax
    quotient = rounded(quotient)
    if amax is not None and knobs["zero"] == "code0":
        quotient = np.where(divisor == 0, F32(0), quotient)
    if amax is not None and knobs["zero"] == "code0 below 2^-24":
        quotient = np.where(amax < F32(2.0**-24), F32(0), quotient)
    return _integer(quotient, knobs)


def _integer(quotient: Float32, knobs: Settings) -> Array:
    """Rounds, clamps and stores as int8; without a clamp the low byte of a saturated int32."""
    whole = ROUNDINGS[knobs["rounding"]](quotient)
    lost = np.isnan(whole)
    if knobs["clamp"] == "none":
        saturated = np.clip(np.where(lost, 0, whole).astype(np.float64), -(2.0**31), 2.0**31 - 1)
        return saturated.astype(np.int64).astype(np.int8)
    low, high = (int(end) for end in knobs["clamp"].split(".."))
    clamped = np.clip(whole, low, high)
    instead = {"zero": 0, "low": low, "high": high}[knobs.get("nan_code", "zero")]
    return np.where(lost, F32(instead), clamped).astype(np.int8)


def _own(x: Array, knobs: Settings) -> str:
    """The dtype that the dialect may compute in: x's, or that of what x was made from."""
    return str(knobs.get("own_dtype", dtype_name(x.dtype)))


def _flush(values: Float32) -> Float32:
    """Subnormals to zero of the same sign."""
    tiny = np.abs(values) < np.finfo(np.float32).tiny
    return np.where(tiny, np.copysign(F32(0), values), values)


def dequantize(codes: Array, scales: Float32, knobs: Settings) -> Array:
    """codes: s8 (M, K); scales: (M, Q) or (1, Q). Returns out_dtype (M, K)."""
    M, K = codes.shape
    whole = signed(codes, knobs.get("a_type")).astype(F32)
    values = FORMATS[knobs.get("scale_format", "fp32")](scales)
    if knobs.get("scale_axis") == "column":
        by_row = np.broadcast_to(values[:, 0], (M,))
        scale = np.broadcast_to(by_row[np.arange(K) % M], (M, K))
    else:
        scale = spread(values, M, K, knobs)
    if knobs.get("divide"):
        return narrow(whole / scale, str(knobs["out_dtype"]))
    name = str(knobs["out_dtype"])
    return narrow(whole * scale, name, out_rounding(name, knobs))


def signed(codes: Array, kind: str | None) -> Array:
    """s8 or u8 codes as int64, read as `kind` says: "u8", "s8", "-127..127", None = as they are."""
    if kind in ("u8", "s8"):
        return codes.view(np.uint8 if kind == "u8" else np.int8).astype(np.int64)
    whole = codes.astype(np.int64)
    return np.maximum(whole, -127) if kind == "-127..127" else whole


def out_rounding(name: str, knobs: Settings) -> str:
    """How results are rounded to the output dtype; `out_rounding_of` limits a knob to one."""
    wanted = knobs.get("out_rounding_of", name) == name
    return str(knobs.get("out_rounding", "rn")) if wanted else "rn"


def quantize_rows(x: Array, given: Float32 | None, knobs: Settings) -> tuple[Array, Float32]:
    """`quantize` with a scale per row. given: fp32 (M,) or (1,), or None. Scales come as (M,)."""
    codes, scales = quantize(x, None if given is None else given[:, None], knobs)
    return codes, scales[:, 0]


def _rows(name: str) -> Callable[[Inputs, Settings], Outputs]:
    return lambda inputs, knobs: quantize_rows(inputs[name], None, knobs)


def _tensor(inputs: Inputs, knobs: Settings) -> Outputs:
    x = inputs["x"]
    if knobs.get("amax_over") == "row":
        codes, scales = quantize_rows(x, None, {**knobs, "amax_over": ""})
        return codes, scales[:1]
    codes, scales = quantize_rows(x.reshape(1, -1), None, knobs)
    return codes.reshape(x.shape), scales


def _static(inputs: Inputs, knobs: Settings) -> Outputs:
    return (quantize_rows(inputs["x"], inputs["scales"], knobs)[0],)


def _dequantize(inputs: Inputs, knobs: Settings) -> Outputs:
    return (dequantize(inputs["codes"], inputs["scales"][:, None], knobs),)


def _groups(inputs: Inputs, knobs: Settings) -> Outputs:
    x = inputs["x"]
    return quantize(x, None, knobs, x.shape[1] // inputs["group_size"])


def _static_groups(inputs: Inputs, knobs: Settings) -> Outputs:
    scales = inputs["scales"]
    return (quantize(inputs["x"], scales, knobs, scales.shape[1])[0],)


def _dequantize_groups(inputs: Inputs, knobs: Settings) -> Outputs:
    return (dequantize(inputs["codes"], inputs["scales"], knobs),)


MODELS: dict[str, Callable[[Inputs, Settings], Outputs]] = {
    "int8.quantize_per_token": _rows("x"),
    "int8.quantize_per_channel": _rows("w"),
    "int8.quantize_per_tensor": _tensor,
    "int8.quantize_static": _static,
    "int8.dequantize": _dequantize,
    "int8.quantize_per_group": _groups,
    "int8.quantize_static_per_group": _static_groups,
    "int8.dequantize_per_group": _dequantize_groups,
}
