"""What is computed before it is quantized: norms, activations, SmoothQuant's division, with knobs.

Contract: each model makes z, fp32 (M, K), and quantizes it by model_rows.py. Unturned knobs give
the contracts of reference/int8_norm.py, int8_activation.py and int8_smooth.py; sums go in the order
of sums.py, exp and erf are reference.functions' steps or, turned, other implementations.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erf as exact_erf

import numpy as np

from quantassay.diagnosis.knobs import FORMATS, Settings
from quantassay.diagnosis.model_rows import Array, Inputs, Outputs, quantize_rows
from quantassay.diagnosis.sums import sum_of
from reference import functions
from reference.numerics import Float32, canonical_nan, dtype_name, fma32, round_to, to_float32

F32, F64 = np.float32, np.float64


def _step(x: Array, knobs: Settings, name: str) -> Callable[[Float32], Float32]:
    """How step `name` ("y", "z", "bias") of a chain is rounded: to fp32, or to x's dtype."""
    kept = knobs["intermediate"]
    rounds = kept == "input" or name in str(kept).split(" and ")
    form = FORMATS[str(dtype_name(x.dtype)) if rounds else "fp32"]
    return lambda values: form(canonical_nan(values))


def _add(x: Array, residual: Array, knobs: Settings) -> tuple[Array, Array]:
    """(what the norm reads, the output "sum")."""
    exact = to_float32(x) + to_float32(residual)
    if knobs.get("residual") == "none":
        return x, round_to(exact, str(dtype_name(x.dtype)))
    if knobs.get("residual") == "after":
        return x, round_to(exact, str(dtype_name(x.dtype)))
    total = round_to(canonical_nan(exact), str(dtype_name(x.dtype)))
    read = canonical_nan(exact) if knobs.get("residual") == "unrounded" else total
    stored = residual if knobs.get("residual_stored") == "residual" else total
    return read, x if knobs.get("residual_stored") == "x" else stored


def _norm(x: Array, like: Array, inputs: Inputs, knobs: Settings, centred: bool) -> Float32:
    """z of RMSNorm, or of LayerNorm (centred). x: what is normalized; like: of the op's dtype."""
    wide = to_float32(x)
    M, K = wide.shape
    order, divisor = str(knobs["reduction"]), F32(K)
    mean = np.zeros(M, F32)
    if centred and knobs.get("mean") != "not subtracted":
        mean = sum_of(wide, None, order) / divisor
    d = wide - mean[:, None] if centred else wide
    squared = wide if centred and knobs.get("mean") == "not in the variance" else d
    if centred and knobs.get("variance") == "E[x*x] - mean*mean":
        variance = sum_of(wide, wide, order) / divisor - mean * mean
    elif knobs.get("variance") == "sum":
        variance = sum_of(squared, squared, order)
    elif knobs.get("variance") == "K-1":
        variance = sum_of(squared, squared, order) / F32(K - 1)
    elif knobs.get("variance") == "times 1/K":
        variance = sum_of(squared, squared, order) * (F32(1) / divisor)
    else:
        variance = sum_of(squared, squared, order) / divisor
    kept = wide if knobs.get("mean") == "only in the variance" else d
    if knobs.get("mean") == "subtracted" and not centred:
        kept = wide - (sum_of(wide, None, order) / divisor)[:, None]
    y = _normalized(kept, variance[:, None], F32(inputs["eps"]), knobs)
    return _affine(y, like, inputs, knobs, centred)


def _normalized(d: Float32, variance: Float32, eps: np.float32, knobs: Settings) -> Float32:
    where = knobs.get("eps", "in the root")
    if "eps_value" in knobs:
        eps = F32(knobs["eps_value"])
    inside = np.maximum(variance, eps) if where == "maximum" else variance + eps
    if where in ("none", "after the root", "in the sum"):
        inside = variance
    how = str(knobs["rsqrt"])
    if where == "after the root":
        return np.asarray(d * (F32(1) / (np.sqrt(inside) + eps)))
    if how == "x/sqrt":
        return np.asarray(d / np.sqrt(inside))
    return np.asarray(d * RSQRTS[how](inside))


def _newton(v: Float32) -> Float32:
    """1/sqrt in fp32, improved by one step."""
    r = F32(1) / np.sqrt(v)
    return np.asarray(r * (F32(1.5) - F32(0.5) * v * r * r))


RSQRTS: dict[str, Callable[[Float32], Array]] = {
    "1/sqrt": lambda v: F32(1) / np.sqrt(v),
    "one rounding": lambda v: (1 / np.sqrt(v.astype(F64))).astype(F32),
    "sqrt(1/v)": lambda v: np.sqrt(F32(1) / v),
    "newton": _newton,
    "fp16": lambda v: FORMATS["fp16"](F32(1) / np.sqrt(v)),
    "sqrt": np.sqrt,
    "1/v": lambda v: F32(1) / v,
}


def _affine(y: Float32, x: Array, inputs: Inputs, knobs: Settings, biased: bool) -> Float32:
    """z = y * weight, + bias."""
    weight = to_float32(inputs["weight"])
    index = knobs["weight_at"](weight.size, len(y)) if "weight_at" in knobs else slice(None)
    weight = weight[index]
    if knobs.get("weight") == "1+w":
        weight = F32(1) + weight
    if knobs.get("weight") == "none":
        weight = np.ones_like(weight)
    bias = to_float32(inputs["bias"]) if biased and knobs.get("norm_bias") != "none" else None
    y = _step(x, knobs, "y")(y)
    if bias is not None and knobs.get("norm_bias") == "fma":
        return _step(x, knobs, "bias")(fma32(y, np.broadcast_to(weight, y.shape), bias))
    if bias is not None and knobs.get("norm_bias") == "before the weight":
        return _step(x, knobs, "z")((y + bias) * weight)
    z = _step(x, knobs, "z")(y * weight)
    return z if bias is None else _step(x, knobs, "bias")(z + bias)


def _quantized(z: Float32, inputs: Inputs, knobs: Settings) -> Outputs:
    """Codes and scales of z, or codes under the scales among the inputs."""
    own = dtype_name(inputs["x"].dtype)
    codes, scales = quantize_rows(z, inputs.get("scales"), {**knobs, "own_dtype": own})
    return (codes,) if "scales" in inputs else (codes, scales)


def _rms(inputs: Inputs, knobs: Settings) -> Outputs:
    return _quantized(_norm(inputs["x"], inputs["x"], inputs, knobs, False), inputs, knobs)


def _add_rms(inputs: Inputs, knobs: Settings) -> Outputs:
    read, total = _add(inputs["x"], inputs["residual"], knobs)
    z = _norm(read, inputs["x"], inputs, knobs, False)
    if knobs.get("residual") == "after":
        z = z + to_float32(inputs["residual"])
    return (*_quantized(z, inputs, knobs), total)


def _layer(inputs: Inputs, knobs: Settings) -> Outputs:
    return _quantized(_norm(inputs["x"], inputs["x"], inputs, knobs, True), inputs, knobs)


# --- activations


EXPS: dict[str, Callable[[Float32], Float32]] = {
    "fma": functions.exp,
    "numpy": lambda v: np.exp(v.astype(F32)),
    "fp64": lambda v: np.exp(v.astype(F64)).astype(F32),
    "exp2": lambda v: np.exp2((v * F32(1.4426950408889634)).astype(F64)).astype(F32),
}
_ERF64 = np.vectorize(exact_erf, otypes=[F64])
ERFS: dict[str, Callable[[Float32], Float32]] = {
    "fma": functions.erf,
    "fp64": lambda v: _ERF64(v.astype(F64)).astype(F32),
}
ROOT_HALF, CUBE, LINE = F32(0.70710678), F32(0.044715), F32(0.7978845608)


def _silu(v: Float32, knobs: Settings) -> Float32:
    exp = EXPS[str(knobs["exp"])]
    sigmoid = F32(1) / (F32(1) + exp(-v))
    how = knobs.get("silu", "x/(1+e)")
    if how == "sigmoid":
        return sigmoid
    if how == "x*sigmoid":
        return np.asarray(v * sigmoid)
    if how == "gelu":
        return _gelu(v, {**knobs, "form": "erf"})
    if how == "relu":
        return np.maximum(v, F32(0))
    return np.asarray(v / (F32(1) + exp(-v)))


def _gelu(v: Float32, knobs: Settings) -> Float32:
    form, exp = str(knobs.get("gelu", knobs["form"])), EXPS[str(knobs["exp"])]
    if form == "other":
        form = "tanh" if knobs["form"] == "erf" else "erf"
    if form in ("erf", "x*(0.5*(1+erf))"):
        whole = F32(1) + ERFS[str(knobs["erf"])](v * ROOT_HALF)
        return F32(0.5) * v * whole if form == "erf" else v * (F32(0.5) * whole)
    if form == "tanh":  # twice sqrt(2/pi) (x + 0.044715 x**3), as x * fma(x*x, cube, line)
        twice = v * fma32(v * v, functions.GELU_CUBE, functions.GELU_LINE)
        return np.asarray(v / (F32(1) + exp(-twice)))
    if form == "real tanh":
        inner = LINE * (v + CUBE * v * v * v)
        return np.asarray(F32(0.5) * v * (F32(1) + np.tanh(inner)))
    if form == "silu":
        return np.asarray(v / (F32(1) + exp(-v)))
    return np.asarray(v / (F32(1) + exp(F32(-1.702) * v)))  # "quick"


def _silu_mul(inputs: Inputs, knobs: Settings) -> Outputs:
    x = inputs["x"]
    K = x.shape[1] // 2
    gate, up = to_float32(x[:, :K]), to_float32(x[:, K:])
    layout = knobs.get("gate", "first")
    if layout == "last":
        gate, up = up, gate
    if layout == "interleaved":
        gate, up = to_float32(x[:, ::2]), to_float32(x[:, 1::2])
    a = _step(x, knobs, "y")(_silu(gate, knobs))
    if knobs.get("up") == "none":
        return _quantized(a, inputs, knobs)
    if knobs.get("up") == "activated":
        a, up = gate, _step(x, knobs, "y")(_silu(up, knobs))
    return _quantized(_step(x, knobs, "z")(a * up), inputs, knobs)


def _gelu_model(inputs: Inputs, knobs: Settings) -> Outputs:
    x = inputs["x"]
    z = _step(x, knobs, "z")(_gelu(to_float32(x), knobs))
    return _quantized(z, inputs, knobs)


# --- SmoothQuant's division


def _smooth(inputs: Inputs, knobs: Settings) -> Outputs:
    x, factors = inputs["x"], FORMATS[knobs.get("smooth_format", "fp32")](inputs["smooth"])
    if "smooth_at" in knobs:
        factors = factors[knobs["smooth_at"](factors.size, len(x))]
    if knobs.get("smooth_axis") == "row":
        factors = factors[np.arange(len(x)) % factors.size][:, None]
    z = SMOOTHINGS[str(knobs.get("smooth", "x/f"))](to_float32(x), factors)
    return _quantized(_step(x, knobs, "z")(z), inputs, knobs)


SMOOTHINGS: dict[str, Callable[[Float32, Float32], Float32]] = {
    "x/f": lambda x, f: x / f,
    "x*(1/f)": lambda x, f: x * (F32(1) / f),
    "x*f": lambda x, f: x * f,
    "none": lambda x, f: x,
}

MODELS: dict[str, Callable[[Inputs, Settings], Outputs]] = {
    "int8.rms_norm_quantize": _rms,
    "int8.rms_norm_quantize_static": _rms,
    "int8.add_rms_norm_quantize": _add_rms,
    "int8.add_rms_norm_quantize_static": _add_rms,
    "int8.layer_norm_quantize": _layer,
    "int8.layer_norm_quantize_static": _layer,
    "int8.silu_mul_quantize": _silu_mul,
    "int8.silu_mul_quantize_static": _silu_mul,
    "int8.gelu_quantize": _gelu_model,
    "int8.gelu_quantize_static": _gelu_model,
    "int8.smooth_quantize": _smooth,
    "int8.smooth_quantize_static": _smooth,
}
