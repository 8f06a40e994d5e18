"""The INT8 ops once more, with every choice a knob: what a wrong kernel may have computed.

Contract: `run(op, inputs, settings)` computes an op in plain NumPy under `settings`, a mapping
from knob to value. `settings(dialect)` gives the dialect's own, under which the outputs equal the
oracle's byte for byte (a test holds them equal: this is a second implementation, written from the
contract). Turning one knob gives a kernel that is wrong in one way; diagnose.py turns them to find
the one that reproduces a kernel's bits. No model exists for an op whose name is not in MODELS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantassay.diagnosis.knobs import ACCUMULATES, FORMATS, ORDERS, ROUNDINGS, Settings, narrow
from reference.dialects import FIELDS, dialect
from reference.numerics import Float32, canonical_nan, dtype_name, to_float32

Array = NDArray[Any]
Outputs = tuple[Array, ...]
F32 = np.float32


def settings(dialect_name: str, out_dtype: str = "fp32") -> dict[str, Any]:
    """Every knob at the dialect's own value; knobs that no dialect has are left out."""
    spoken = dialect(dialect_name)
    return {**{field: getattr(spoken, field) for field in FIELDS}, "out_dtype": out_dtype}


def run(op: str, inputs: Mapping[str, Any], knobs: Settings) -> Outputs:
    """The op's outputs under these knobs. Raises KeyError for an op without a model."""
    with np.errstate(all="ignore"):
        return MODELS[op](inputs, knobs)


def quantize(x: Array, given: Float32 | None, knobs: Settings) -> tuple[Array, Float32]:
    """x: float (rows, K); given: scales fp32 (rows,) or (1,), None = dynamic.

    Returns codes s8 (rows, K) and the stored scales fp32 (rows,).
    """
    wide = FORMATS[knobs.get("input_format", "fp32")](to_float32(x))
    if knobs.get("flush"):
        wide = _flush(wide)
    rows = x.shape[0]
    rounded = _rounder(x, knobs)
    amax = None
    if given is None:
        amax = _amax(wide, knobs)
        scale = rounded(canonical_nan(amax / F32(knobs.get("levels", 127))))
        if knobs.get("flush") == "all":
            scale = _flush(scale)
        scale = np.maximum(scale, F32(knobs.get("least_scale", 0)))
        if "zero_scale" in knobs:
            scale = np.where(amax == 0, F32(knobs["zero_scale"]), scale)
    else:
        scale = np.broadcast_to(given, (rows,))[:, None].astype(F32)
    scale = FORMATS[knobs.get("scale_format", "fp32")](scale)
    used = FORMATS[knobs.get("used_format", "fp32")](scale)
    chosen = knobs["scale_row"](rows, x.shape[1]) if "scale_row" in knobs else slice(None)
    used, chosen_amax = used[chosen], None if amax is None else amax[chosen]
    codes = _codes(wide, used, chosen_amax, rounded, knobs)
    stored = FORMATS[knobs.get("stored_format", "fp32")](scale)
    if knobs.get("stored") == "inverse":
        stored = F32(1) / stored
    return codes, canonical_nan(stored[:, 0])


def _amax(wide: Float32, knobs: Settings) -> Float32:
    magnitude = wide if knobs.get("amax_signed") else np.abs(wide)
    if "amax_of" in knobs:
        kept = magnitude[:, knobs["amax_of"](wide.shape[1])]
        magnitude = kept if kept.shape[1] else np.zeros_like(magnitude)
    if "least_amax" in knobs:
        magnitude = np.maximum(magnitude, F32(knobs["least_amax"]))
    if knobs.get("amax_over") == "tensor":
        magnitude = np.broadcast_to(magnitude.reshape(1, -1), (wide.shape[0], magnitude.size))
    if knobs["nan"] == "skip":
        return np.fmax.reduce(magnitude, axis=1, keepdims=True, initial=F32(0))
    return np.max(magnitude, axis=1, keepdims=True)


def _codes(
    wide: Float32,
    scale: Float32,
    amax: Float32 | None,
    rounded: Callable[[Array], Float32],
    knobs: Settings,
) -> Array:
    multiplier = knobs["multiplier" if amax is not None else "static_multiplier"]
    if multiplier == "x/s" or (multiplier == "x*(127/amax)" and amax is None):
        quotient, divisor = wide / scale, scale
    elif multiplier == "x*(1/s)":
        quotient, divisor = wide * (F32(1) / scale), scale
    elif multiplier == "x*s":
        quotient, divisor = wide * scale, scale
    else:
        assert amax is not None
        quotient, divisor = wide * (F32(knobs.get("levels", 127)) / amax), amax
    quotient = rounded(quotient)
    if amax is not None and knobs["zero"] == "code0":
        quotient = np.where(divisor == 0, F32(0), quotient)
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


def _rounder(x: Array, knobs: Settings) -> Callable[[Array], Float32]:
    name = "fp32" if knobs["arithmetic"] == "fp32" else dtype_name(x.dtype)
    return FORMATS[str(name)]


def _flush(values: Float32) -> Float32:
    """Subnormals to zero of the same sign."""
    tiny = np.abs(values) < np.finfo(np.float32).tiny
    return np.where(tiny, np.copysign(F32(0), values), values)


def gemm(a: Array, b: Array, knobs: Settings) -> Array:
    """a: s8 (M, K), b: s8 (N, K) -> s32 (M, N)."""
    (M, K), N = a.shape, b.shape[0]
    left, right = _operand(a, knobs.get("a_type")), _operand(b, knobs.get("b_type"))
    if knobs.get("b_layout") == "KN":
        right = right.reshape(K, N).T
    if knobs.get("a_layout") == "KM":
        left = left.reshape(K, M).T
    if "a_row" in knobs:
        left = left[knobs["a_row"](M, N)]
    if "b_row" in knobs:
        right = right[knobs["b_row"](N, M)]
    if "k_of" in knobs:
        kept = knobs["k_of"](K)
        left, right = left[:, kept], right[:, kept]
    acc = ACCUMULATES[knobs.get("accumulate", "int32")](left, right)
    if knobs.get("acc_layout") == "NM":
        acc = np.ascontiguousarray(acc.T).reshape(M, N)
    return acc


def _operand(codes: Array, kind: str | None) -> Array:
    if kind == "u8":
        return codes.view(np.uint8).astype(np.int64)
    whole = codes.astype(np.int64)
    return np.maximum(whole, -127) if kind == "-127..127" else whole


def epilogue(
    acc: Array, a_scales: Float32, b_scales: Float32, bias: Float32 | None, knobs: Settings
) -> Array:
    """acc: s32 (M, N); a_scales: (M,) or (1,); b_scales: (N,) or (1,); bias: (N,). Returns
    out_dtype (M, N).
    """
    M, N = acc.shape
    a_scales, b_scales = np.resize(a_scales, M), np.resize(b_scales, N)
    a = FORMATS[knobs.get("a_scale_format", "fp32")](a_scales)
    b = FORMATS[knobs.get("b_scale_format", "fp32")](b_scales)
    a, b = (
        _spread(a, M, N, knobs.get("a_scale_at")),
        _spread(b, N, M, knobs.get("b_scale_at")),
    )
    plus = None
    if bias is not None and knobs.get("bias", "") != "none":
        plus = FORMATS[knobs.get("bias_format", "fp32")](bias)
        plus = _spread(plus, N, M, knobs.get("bias_at")).T
    if knobs.get("acc_format") == "toward zero":
        base = narrow(acc.astype(np.float64), "fp32", "rz")
    else:
        base = FORMATS[knobs.get("acc_format", "fp32")](acc.astype(F32))
    out = ORDERS[knobs["epilogue"]](base, a, b.T, plus)
    name = str(knobs["out_dtype"])
    if knobs.get("bias") == "after rounding" and bias is not None:
        rounded = to_float32(narrow(ORDERS[knobs["epilogue"]](base, a, b.T, None), name))
        out = rounded + np.broadcast_to(plus if plus is not None else F32(0), out.shape)
    return narrow(out, name, _out_rounding(name, knobs))


def _spread(vector: Float32, length: int, other: int, at: Any) -> Float32:
    """The vector as (length, 1), or with the index that `at` gives: (length, 1 or other)."""
    if at == "swapped":  # indexed by the other axis: element (i, j) takes entry j
        return np.broadcast_to(vector[np.arange(other) % length], (length, other))
    return vector[at(length, other)][:, None] if at is not None else vector[:, None]


def dequantize(codes: Array, scales: Float32, knobs: Settings) -> Array:
    """codes: s8 (M, K); scales: (1,) or (M,). Returns out_dtype (M, K)."""
    M, K = codes.shape
    whole = _operand(codes, knobs.get("a_type")).astype(F32)
    scale = np.broadcast_to(FORMATS[knobs.get("scale_format", "fp32")](scales), (M,))
    if knobs.get("scale_axis") == "column":
        scale = np.broadcast_to(scale[np.arange(K) % M], (M, K))
    elif "scale_row" in knobs:
        scale = scale[knobs["scale_row"](M, K)][:, None]
    else:
        scale = scale[:, None]
    if knobs.get("divide"):
        return narrow(whole / scale, str(knobs["out_dtype"]))
    name = str(knobs["out_dtype"])
    return narrow(whole * scale, name, _out_rounding(name, knobs))


def _out_rounding(name: str, knobs: Settings) -> str:
    """How results are rounded to the output dtype; `out_rounding_of` limits a knob to one."""
    wanted = knobs.get("out_rounding_of", name) == name
    return str(knobs.get("out_rounding", "rn")) if wanted else "rn"


def _rows(name: str) -> Callable[[Mapping[str, Any], Settings], Outputs]:
    return lambda inputs, knobs: quantize(inputs[name], None, knobs)


def _tensor(inputs: Mapping[str, Any], knobs: Settings) -> Outputs:
    x = inputs["x"]
    if knobs.get("amax_over") == "row":
        codes, scales = quantize(x, None, knobs)
        return codes, scales[:1]
    codes, scales = quantize(x.reshape(1, -1), None, knobs)
    return codes.reshape(x.shape), scales


def _static(inputs: Mapping[str, Any], knobs: Settings) -> Outputs:
    return (quantize(inputs["x"], inputs["scales"], knobs)[0],)


def _gemm(inputs: Mapping[str, Any], knobs: Settings) -> Outputs:
    return (gemm(inputs["a"], inputs["b"], knobs),)


def _epilogue(inputs: Mapping[str, Any], knobs: Settings) -> Outputs:
    vectors = inputs["a_scales"], inputs["b_scales"], inputs["bias"]
    return (epilogue(inputs["acc"], *vectors, knobs),)


def _gemm_dequant(inputs: Mapping[str, Any], knobs: Settings) -> Outputs:
    acc = gemm(inputs["a"], inputs["b"], knobs)
    return (epilogue(acc, inputs["a_scales"], inputs["b_scales"], inputs["bias"], knobs),)


def _linear(inputs: Mapping[str, Any], knobs: Settings) -> Outputs:
    codes, scales = quantize(inputs["x"], None, knobs)
    acc = gemm(codes, inputs["w_codes"], knobs)
    return (epilogue(acc, scales, inputs["w_scales"], inputs["bias"], knobs),)


def _dequantize(inputs: Mapping[str, Any], knobs: Settings) -> Outputs:
    return (dequantize(inputs["codes"], inputs["scales"], knobs),)


MODELS: dict[str, Callable[[Mapping[str, Any], Settings], Outputs]] = {
    "int8.quantize_per_token": _rows("x"),
    "int8.quantize_per_channel": _rows("w"),
    "int8.quantize_per_tensor": _tensor,
    "int8.quantize_static": _static,
    "int8.dequantize": _dequantize,
    "int8.gemm": _gemm,
    "int8.epilogue": _epilogue,
    "int8.gemm_dequant": _gemm_dequant,
    "int8.linear": _linear,
}
