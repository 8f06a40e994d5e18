"""Subtly wrong NumPy implementations of the fused activations and of smoothing.

Contract: as planted.py; each wraps the oracle's parts and spoils one thing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from reference import functions, int8_smooth
from reference.dialects import DIALECTS
from reference.int8_activation import gelu_of, silu_mul
from reference.int8_quantize import quantize_per_token, quantize_static
from reference.numerics import round_to, to_float32
from tests.wrong.planted import Planted

IEEE, VLLM = DIALECTS["ieee"], DIALECTS["vllm"]
SILU, SILU_STATIC = "int8.silu_mul_quantize", "int8.silu_mul_quantize_static"
GELU, GELU_STATIC = "int8.gelu_quantize", "int8.gelu_quantize_static"
SMOOTH, SMOOTH_STATIC = "int8.smooth_quantize", "int8.smooth_quantize_static"


def _parts(x: Any) -> tuple[Any, Any]:
    gate, up = np.split(x, 2, axis=1)
    return to_float32(gate), to_float32(up)


def swapped(x: Any) -> Any:
    gate, up = np.split(x, 2, axis=1)
    return quantize_per_token(silu_mul(np.concatenate([up, gate], axis=1), IEEE))


def swapped_static(x: Any, scales: Any) -> Any:
    gate, up = np.split(x, 2, axis=1)
    return quantize_static(silu_mul(np.concatenate([up, gate], axis=1), IEEE), scales)


def interleaved(x: Any) -> Any:
    pairs = np.concatenate([x[:, ::2], x[:, 1::2]], axis=1)
    return quantize_per_token(silu_mul(pairs, IEEE))


def sigmoid(x: Any) -> Any:
    gate, up = _parts(x)
    z = np.float32(1) / (np.float32(1) + functions.exp(-gate)) * up
    return quantize_per_token(z.astype(np.float32))


def sigmoid_first(x: Any) -> Any:
    """gate * (1 / (1 + exp(-gate))): vLLM's silu_and_mul_per_block_quant, one rounding more."""
    gate, up = _parts(x)
    a = gate * (np.float32(1) / (np.float32(1) + functions.exp(-gate)))
    return quantize_per_token((a * up).astype(np.float32))


def unrounded(x: Any) -> Any:
    """In vllm's dialect, with the intermediate results kept in fp32."""
    return quantize_per_token(silu_mul(x, IEEE), dialect="vllm")


def rounded_once(x: Any) -> Any:
    """In vllm's dialect, without the rounding of silu before the product."""
    gate, up = _parts(x)
    name = {2: "fp16" if x.dtype == np.float16 else "bf16", 4: "fp32"}[x.dtype.itemsize]
    z = to_float32(round_to(functions.silu(gate) * up, name))
    return quantize_per_token(z, dialect="vllm")


def library_exp(x: Any) -> Any:
    """exp correctly rounded, where the contract has steps that may be an ulp off."""
    gate, up = _parts(x)
    e = np.exp(-gate.astype(np.float64)).astype(np.float32)
    return quantize_per_token((gate / (np.float32(1) + e) * up).astype(np.float32))


def always_tanh(x: Any, *, form: str) -> Any:
    return quantize_per_token(gelu_of(x, IEEE, "tanh"))


def always_erf(x: Any, scales: Any, *, form: str) -> Any:
    return quantize_static(gelu_of(x, IEEE, "erf"), scales)


def quick(x: Any, *, form: str) -> Any:
    """x * sigmoid(1.702 x), which some models call GELU."""
    wide = to_float32(x)
    z = wide / (np.float32(1) + functions.exp(np.float32(-1.702) * wide))
    return quantize_per_token(z.astype(np.float32))


def reciprocal(x: Any, smooth: Any) -> Any:
    return quantize_per_token(to_float32(x) * (np.float32(1) / smooth))


def multiplied(x: Any, smooth: Any) -> Any:
    return quantize_per_token(to_float32(x) * smooth)


def narrow_factors(x: Any, smooth: Any, scales: Any) -> Any:
    """smooth rounded to x's dtype first, as torch's x / smooth.to(x.dtype) has it."""
    factors = smooth.astype(x.dtype).astype(np.float32)
    return quantize_static((to_float32(x) / factors).astype(np.float32), scales)


def unrounded_quotient(x: Any, smooth: Any) -> Any:
    return quantize_per_token(int8_smooth.smoothed(x, smooth, IEEE), dialect="vllm")


def _quietly(function: Callable[..., Any]) -> Callable[..., Any]:
    """Without NumPy's warnings, as the oracle computes."""
    return np.errstate(all="ignore")(function)


def _planted(op: str, function: Callable[..., Any], dialect: str = "ieee") -> Planted:
    return Planted(function.__name__, op, _quietly(function), dialect=dialect, wing="numpy")


ACTIVATION = (
    _planted(SILU, swapped),
    _planted(SILU, interleaved),
    _planted(SILU, sigmoid),
    _planted(SILU, sigmoid_first),
    _planted(SILU, unrounded, "vllm"),
    _planted(SILU, rounded_once, "vllm"),
    _planted(SILU, library_exp),
    _planted(SILU_STATIC, swapped_static),
    _planted(GELU, always_tanh),
    _planted(GELU_STATIC, always_erf),
    _planted(GELU, quick),
)
SMOOTHING = (
    _planted(SMOOTH, reciprocal),
    _planted(SMOOTH, multiplied),
    _planted(SMOOTH_STATIC, narrow_factors),
    _planted(SMOOTH, unrounded_quotient, "vllm"),
)
