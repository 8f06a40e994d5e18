"""RMSNorm and LayerNorm whose output is INT8: the norm before a linear layer, fused with its
quantization.

Contract, for each row of x (and of residual) of fp32, fp16 or bf16, taken as fp32:

    add_rms_norm first:   s = x + residual, rounded to x's dtype: the output "sum"; then x is s

    RMSNorm               mean = lane_dot(x, x) / K                    r = 1 / sqrt(mean + eps)
                          y = x * r                                    z = y * weight
    LayerNorm             mean = lane_sum(x) / K                       d = x - mean
                          variance = lane_dot(d, d) / K                r = 1 / sqrt(variance + eps)
                          y = d * r                                    z = y * weight + bias

    codes, scales = int8.quantize_per_token(z)      or      codes = int8.quantize_static(z, scales)

- Every operation is one fp32 operation rounded to nearest even (product and sum of y * weight +
  bias are two), subnormals kept; sums go in "lanes of 8" (reductions.py). K is taken as fp32.
- "intermediate" of the dialect: fp32 keeps y and z as they are; input rounds y, then y * weight,
  then (LayerNorm) the sum with bias to x's dtype. mean, d, variance and r are fp32 in both.
- z is quantized as fp32 values by the dialect's words for int8.quantize_per_token and
  int8.quantize_static, whose contract holds for zero rows, NaN, infinity and saturation. scales of
  the static ops: fp32 (1,), finite and > 0.
- eps: a Python float, >= 0, rounded to fp32 (to nearest even, subnormals kept) before it is used;
  what rounds to infinity is refused. eps = 0 and a row of zeros: 1/sqrt(0) is infinite and
  0 * inf NaN, so that every z is NaN: scale NaN ("propagate") or 0 ("skip"), codes 0.
- Rows whose squares overflow: the mean is infinite, r is 0, and finite elements give zeros, as
  IEEE has it. A row with an infinity: 0 * inf is NaN there, and the rest zeros (RMSNorm), or all
  NaN (LayerNorm). A row with a NaN: every z is NaN. NaN scales and sums have the canonical bits.
- weight and bias have x's dtype and may hold any value. Empty shapes are refused.

The "vllm" dialect and vLLM (github.com/vllm-project/vllm). Shared with csrc/layernorm_kernels.cu at
0112cf23 (rms_norm_kernel, fused_add_rms_norm_kernel) followed by its int8 quantization: the sum is
rounded before the norm reads it, squares are added by fma in fp32, the mean is a true division,
x * r is rounded to x's dtype and so is its product with weight. Not shared:
- r: vLLM's rsqrtf is approximate in hardware (2 ulp); here it is 1/sqrt, correctly rounded.
- the order of additions: vLLM's is its block size's and cub::BlockReduce's.
- other versions of vLLM: csrc/libtorch_stable/layernorm_kernels.cu at 0b9c5412 rounds x * r * weight
  once; libtorch_stable/layernorm_quant_kernels.cu at 0e1d935d rounds both products again.
- csrc/quantization/fused_kernels/fused_layernorm_dynamic_per_token_quant.cu at 02a7fabd (with
  layernorm_utils.cuh): the same roundings of y and z, but the norm reads x + residual unrounded,
  scale = max(amax/127, 2**-23) and code = rne(z * (1/scale)).
- vLLM has no static INT8 norm (layernorm_quant_kernels.cu is FP8 only) and no LayerNorm: those ops
  are this dialect's words carried over.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import recipes
from reference.dialects import Dialect
from reference.int8_quantize import quantize_per_token, quantize_static
from reference.numerics import Float32, dtype_name, round_to, to_float32
from reference.op import Arg, Op, Recipe, recipe, register
from reference.reductions import lane_dot, lane_sum
from reference.validate import (
    FLOATS,
    check_array,
    check_positive,
    check_quantize,
    check_vector,
)

Codes = NDArray[np.int8]
DIALECTS = ("ieee", "vllm")


def check_norm(
    x: Any,
    weight: Any,
    eps: Any,
    dialect_name: str,
    *,
    residual: Any = None,
    bias: Any = None,
    scales: Any = None,
) -> tuple[Dialect, np.float32]:
    """x: fp32, fp16 or bf16 (M, K); residual: as x; weight, bias: x's dtype (K,); scales: fp32
    (1,), finite and > 0; None: the op has no such argument. Returns the dialect and fp32 eps.
    """
    spoken = check_quantize(x, dialect_name)
    dtype, (rows, columns) = dtype_name(x.dtype) or "", x.shape
    if residual is not None:
        shape = check_array("residual", residual, (dtype,), 2)
        if shape != (rows, columns):
            raise ValueError(f"residual: got shape {shape}; allowed: {(rows, columns)}, that of x")
    for name, vector in (("weight", weight), ("bias", bias)):
        if vector is None and name == "bias":
            continue
        (got,) = check_array(name, vector, (dtype,), 1)
        if got != columns:
            raise ValueError(f"{name}: got {got} elements; allowed: {columns}, the K of x")
    if scales is not None:
        check_vector("scales", scales, {1: "per-tensor"})
        check_positive("scales", scales)
    return spoken, check_eps(eps)


def check_eps(eps: Any) -> np.float32:
    """eps as fp32: a Python float (or int), >= 0 and finite, in fp32 too."""
    if not isinstance(eps, float | int) or isinstance(eps, bool):
        raise TypeError(f"eps: got {type(eps).__name__}; allowed: a Python float")
    with np.errstate(over="ignore"):
        value = np.float32(eps)
    if not (eps >= 0 and math.isfinite(value)):
        raise ValueError(f"eps: got {eps!r}; allowed: >= 0 and at most fp32's largest, 3.4028e38")
    return value


def rms_norm_quantize(
    x: NDArray[Any], weight: NDArray[Any], eps: float, *, dialect: str = "ieee"
) -> tuple[Codes, Float32]:
    """RMSNorm, then one dynamic scale per row.

    x: fp32, fp16 or bf16 (M, K); weight: x's dtype (K,); eps: >= 0, finite.
    Returns codes s8 (M, K) and scales fp32 (M,). Raises TypeError or ValueError naming the argument.
    """
    spoken, small = check_norm(x, weight, eps, dialect)
    return quantize_per_token(_rms_norm(x, weight, small, spoken), dialect=dialect)


def rms_norm_quantize_static(
    x: NDArray[Any], weight: NDArray[Any], scales: Float32, eps: float, *, dialect: str = "ieee"
) -> Codes:
    """RMSNorm, then codes under a given scale.

    As `rms_norm_quantize`; scales: fp32 (1,), finite and > 0. Returns codes s8 (M, K).
    """
    spoken, small = check_norm(x, weight, eps, dialect, scales=scales)
    return quantize_static(_rms_norm(x, weight, small, spoken), scales, dialect=dialect)


def add_rms_norm_quantize(
    x: NDArray[Any], residual: NDArray[Any], weight: NDArray[Any], eps: float, *, dialect: str = "ieee"
) -> tuple[Codes, Float32, NDArray[Any]]:
    """x + residual, RMSNorm of it, then one dynamic scale per row.

    x, residual: fp32, fp16 or bf16 (M, K); weight: their dtype (K,); eps: >= 0, finite.
    Returns codes s8 (M, K), scales fp32 (M,) and sum of x's dtype (M, K).
    """
    spoken, small = check_norm(x, weight, eps, dialect, residual=residual)
    total = _added(x, residual)
    codes, scales = quantize_per_token(_rms_norm(total, weight, small, spoken), dialect=dialect)
    return codes, scales, total


def add_rms_norm_quantize_static(
    x: NDArray[Any],
    residual: NDArray[Any],
    weight: NDArray[Any],
    scales: Float32,
    eps: float,
    *,
    dialect: str = "ieee",
) -> tuple[Codes, NDArray[Any]]:
    """x + residual, RMSNorm of it, then codes under a given scale.

    As `add_rms_norm_quantize`; scales: fp32 (1,), finite and > 0. Returns codes s8 (M, K) and sum
    of x's dtype (M, K).
    """
    spoken, small = check_norm(x, weight, eps, dialect, residual=residual, scales=scales)
    total = _added(x, residual)
    z = _rms_norm(total, weight, small, spoken)
    return quantize_static(z, scales, dialect=dialect), total


def layer_norm_quantize(
    x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any], eps: float, *, dialect: str = "ieee"
) -> tuple[Codes, Float32]:
    """LayerNorm, then one dynamic scale per row.

    x: fp32, fp16 or bf16 (M, K); weight, bias: x's dtype (K,); eps: >= 0, finite.
    Returns codes s8 (M, K) and scales fp32 (M,).
    """
    spoken, small = check_layer_norm(x, weight, bias, eps, dialect)
    return quantize_per_token(_layer_norm(x, weight, bias, small, spoken), dialect=dialect)


def layer_norm_quantize_static(
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any],
    scales: Float32,
    eps: float,
    *,
    dialect: str = "ieee",
) -> Codes:
    """LayerNorm, then codes under a given scale.

    As `layer_norm_quantize`; scales: fp32 (1,), finite and > 0. Returns codes s8 (M, K).
    """
    spoken, small = check_layer_norm(x, weight, bias, eps, dialect, scales=scales)
    return quantize_static(_layer_norm(x, weight, bias, small, spoken), scales, dialect=dialect)
