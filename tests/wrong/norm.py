"""Wrong norms in NumPy: the oracle's steps with one of them done as other code does it.

Contract: as planted.py. Each is right on most inputs; what is wrong stands in its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.int8_quantize import quantize_per_token
from reference.numerics import dtype_name, round_to, to_float32
from reference.reductions import lane_dot, lane_sum
from tests.wrong.planted import Planted

RMS, ADD, LAYER = (f"int8.{name}_quantize" for name in ("rms_norm", "add_rms_norm", "layer_norm"))
Float32 = NDArray[np.float32]
f32 = np.float32


def _root(squares: Float32, x: Any, eps: float) -> Float32:
    """sqrt(mean square + eps), fp32 (M, 1)."""
    return np.sqrt(squares / f32(x.shape[1]) + f32(eps))[:, None]


def _rms(wide: Float32, weight: Any, eps: float) -> Float32:
    return wide * (f32(1) / _root(lane_dot(wide, wide), wide, eps)) * to_float32(weight)


def without_eps(x: Any, weight: Any, eps: float) -> Any:
    return quantize_per_token(_rms(to_float32(x), weight, 0.0))


def pairwise_mean(x: Any, weight: Any, eps: float) -> Any:
    wide = to_float32(x)
    mean = np.mean(wide * wide, axis=1, keepdims=True)
    r = f32(1) / np.sqrt(mean + f32(eps))
    return quantize_per_token(wide * r * to_float32(weight))


def sequential_lanes(x: Any, weight: Any, eps: float) -> Any:
    """Neighbouring elements in neighbouring lanes."""
    wide = to_float32(x)
    K = -(-wide.shape[1] // 256) * 256
    padded = np.zeros((len(wide), K), f32)
    padded[:, : wide.shape[1]] = wide
    lanes = np.ascontiguousarray(padded.reshape(-1, K // 256, 8, 32).swapaxes(2, 3))
    squares = lane_dot(lanes.reshape(-1, K), lanes.reshape(-1, K))
    r = f32(1) / _root(squares, wide, eps)
    return quantize_per_token(wide * r * to_float32(weight))


def product_and_sum_apart(x: Any, weight: Any, eps: float) -> Any:
    wide = to_float32(x)
    r = f32(1) / _root(lane_sum(wide * wide), wide, eps)
    return quantize_per_token(wide * r * to_float32(weight))


def divided_by_the_root(x: Any, weight: Any, eps: float) -> Any:
    wide = to_float32(x)
    return quantize_per_token(wide / _root(lane_dot(wide, wide), wide, eps) * to_float32(weight))


def weight_times_r_first(x: Any, weight: Any, eps: float) -> Any:
    wide = to_float32(x)
    r = f32(1) / _root(lane_dot(wide, wide), wide, eps)
    return quantize_per_token(wide * (r * to_float32(weight)))


def rounded_once_at_the_end(x: Any, weight: Any, eps: float) -> Any:
    z = round_to(_rms(to_float32(x), weight, eps), dtype_name(x.dtype) or "")
    return quantize_per_token(to_float32(z), dialect="vllm")


def norm_of_the_unrounded_sum(x: Any, residual: Any, weight: Any, eps: float) -> Any:
    wide = to_float32(x) + to_float32(residual)
    total = round_to(wide, dtype_name(x.dtype) or "")
    return (*quantize_per_token(_rms(wide, weight, eps)), total)


def variance_of_moments(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    wide, K = to_float32(x), f32(x.shape[1])
    mean = (lane_sum(wide) / K)[:, None]
    variance = (lane_dot(wide, wide) / K)[:, None] - mean * mean
    r = f32(1) / np.sqrt(np.maximum(variance, f32(0)) + f32(eps))
    return quantize_per_token((wide - mean) * r * to_float32(weight) + to_float32(bias))


def right(x: Any, weight: Any, eps: float) -> Any:
    return quantize_per_token(_rms(to_float32(x), weight, eps))


def _planted(op: str, function: Callable[..., Any], dialect: str = "ieee") -> Planted:
    return Planted(function.__name__, op, function, dialect=dialect, wing="numpy")


RIGHT = _planted(RMS, right)
WRONG = (
    _planted(RMS, without_eps),
    _planted(RMS, pairwise_mean),
    _planted(RMS, sequential_lanes),
    _planted(RMS, product_and_sum_apart),
    _planted(RMS, divided_by_the_root),
    _planted(RMS, weight_times_r_first),
    _planted(RMS, rounded_once_at_the_end, "vllm"),
    _planted(ADD, norm_of_the_unrounded_sum),
    _planted(LAYER, variance_of_moments),
)
