"""Wrong kernels in NumPy of norms, activations, SmoothQuant's division and weight-only products.

Contract: as planted.py. Each spoils one thing; what is right comes from the oracles' steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from reference import functions
from reference.int8_activation import gelu_quantize, silu_mul_quantize
from reference.int8_quantize import quantize_per_token, quantize_static
from reference.int8_weight_only import weight_only_linear
from reference.numerics import canonical_nan, dtype_name, fma32, round_to, to_float32
from reference.reductions import lane_dot, lane_sum
from tests.wrong.planted import Planted

F32 = np.float32


def _numpy(op: str, function: Callable[..., Any], *words: str, dialect: str = "ieee") -> Planted:
    return Planted(function.__name__, f"int8.{op}", function, words, dialect, "numpy")


def _root(mean: Any, eps: float) -> Any:
    return F32(1) / np.sqrt(mean + F32(eps))


def _squares(x: Any) -> Any:
    return (lane_dot(x, x) / F32(x.shape[1]))[:, None]


# --- norms


def numpys_order(x: Any, weight: Any, eps: float) -> Any:
    wide = to_float32(x)
    mean = (wide * wide).sum(axis=1, keepdims=True) / F32(x.shape[1])
    return quantize_per_token(wide * _root(mean, eps) * to_float32(weight))


def one_plus_weight(x: Any, weight: Any, scales: Any, eps: float) -> Any:
    wide = to_float32(x)
    y = wide * _root(_squares(wide), eps)
    return quantize_static(y * (F32(1) + to_float32(weight)), scales)


def unrounded_residual(x: Any, residual: Any, weight: Any, eps: float) -> Any:
    exact = to_float32(x) + to_float32(residual)
    total = round_to(exact, str(dtype_name(x.dtype)))
    z = exact * _root(_squares(exact), eps) * to_float32(weight)
    return *quantize_per_token(z), total


def residual_forgotten(x: Any, residual: Any, weight: Any, eps: float) -> Any:
    wide = to_float32(x)
    total = round_to(wide + to_float32(residual), str(dtype_name(x.dtype)))
    z = wide * _root(_squares(wide), eps) * to_float32(weight)
    return *quantize_per_token(z), total


def _layer(x: Any, weight: Any, bias: Any, eps: float, variance: Callable[..., Any]) -> Any:
    wide = to_float32(x)
    mean = (lane_sum(wide) / F32(x.shape[1]))[:, None]
    y = (wide - mean) * _root(variance(wide, mean), eps)
    return quantize_per_token(y * to_float32(weight) + to_float32(bias))


def one_pass_variance(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    return _layer(x, weight, bias, eps, lambda wide, mean: _squares(wide) - mean * mean)


def unbiased_variance(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    def variance(wide: Any, mean: Any) -> Any:
        d = wide - mean
        return (lane_dot(d, d) / F32(x.shape[1] - 1))[:, None]

    return _layer(x, weight, bias, eps, variance)


def mean_left(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    """An RMSNorm where a LayerNorm is asked for."""
    wide = to_float32(x)
    y = wide * _root(_squares(wide), eps)
    return quantize_per_token(y * to_float32(weight) + to_float32(bias))


# --- activations


def swapped_halves(x: Any) -> Any:
    gate, up = np.split(x, 2, axis=1)
    return silu_mul_quantize(np.concatenate([up, gate], axis=1))


def sigmoid(x: Any) -> Any:
    gate, up = np.split(to_float32(x), 2, axis=1)
    return quantize_per_token(canonical_nan(F32(1) / (F32(1) + functions.exp(-gate)) * up))


def numpys_exp(x: Any) -> Any:
    gate, up = np.split(to_float32(x), 2, axis=1)
    return quantize_per_token(canonical_nan(gate / (F32(1) + np.exp(-gate)) * up))


def always_tanh(x: Any, *, form: str) -> Any:
    return gelu_quantize(x, form="tanh")


def rounded_between(x: Any) -> Any:
    return silu_mul_quantize(x, dialect="vllm")


# --- the rest


def smooth_reciprocal(x: Any, smooth: Any) -> Any:
    return quantize_per_token(canonical_nan(to_float32(x) * (F32(1) / smooth)))


def smooth_multiplied(x: Any, smooth: Any, scales: Any) -> Any:
    return quantize_static(canonical_nan(to_float32(x) * smooth), scales)


def sequential_weights(x: Any, w_codes: Any, w_scales: Any, bias: Any) -> Any:
    """One running value for the whole row."""
    groups = w_codes.shape[1] // w_scales.shape[1]
    w, wide = canonical_nan(w_codes * np.repeat(w_scales, groups, axis=1)), to_float32(x)
    total = np.zeros((len(x), len(w)), F32)
    for k in range(w.shape[1]):
        total = fma32(wide[:, k, None], w[None, :, k], total)
    return canonical_nan(total if bias is None else total + bias)


def first_groups_scale(x: Any, w_codes: Any, w_scales: Any, bias: Any) -> Any:
    same = np.repeat(w_scales[:, :1], w_scales.shape[1], axis=1)
    return weight_only_linear(x, w_codes, same, bias)


VALUES = (
    _numpy("rms_norm_quantize", numpys_order, "adds up a row in another order: numpy's"),
    _numpy("rms_norm_quantize_static", one_plus_weight, "multiplies by 1 + weight"),
    _numpy("add_rms_norm_quantize", unrounded_residual, "before it is rounded to x's dtype"),
    _numpy("add_rms_norm_quantize", residual_forgotten, "normalizes x without the residual"),
    _numpy("layer_norm_quantize", one_pass_variance, "E[x*x] - mean*mean"),
    _numpy("layer_norm_quantize", unbiased_variance, "divides the sum of squares by K - 1"),
    _numpy("layer_norm_quantize", mean_left, "does not subtract the mean"),
    _numpy("silu_mul_quantize", swapped_halves, "swaps gate and up"),
    _numpy("silu_mul_quantize", sigmoid, "takes the sigmoid alone"),
    _numpy("silu_mul_quantize", numpys_exp, "numpy's exp"),
    _numpy("silu_mul_quantize", rounded_between, "speaks dialect vllm", "intermediate: input"),
    _numpy("gelu_quantize", always_tanh, "the tanh form of gelu whatever is asked for"),
    _numpy("smooth_quantize", smooth_reciprocal, "reciprocal of the smooth factor"),
    _numpy("smooth_quantize_static", smooth_multiplied, "multiplies by the smooth factor"),
    _numpy("weight_only_linear", sequential_weights, "one element after another"),
    _numpy("weight_only_linear", first_groups_scale, "scale of the wrong group: the first"),
)
