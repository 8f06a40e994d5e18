"""The W8A8 linear layer in Numba CUDA: per-token dynamic activations times per-channel weights.

    out = epilogue(gemm(codes(x), w_codes), scales(x), w_scales, bias)

Contract: reference/int8_linear.py. Two forms, equal in their results:
    linear_unfused   quantize | GEMM to int32 in memory | epilogue       three launches
    linear_fused     quantize | GEMM with the epilogue                   two: acc (M, N) s32 is
                                                                         neither written nor read
"""

from __future__ import annotations

from typing import Any

from kernels_numba import launch
from kernels_numba.int8_gemm import epilogue, gemm, gemm_dequant
from kernels_numba.int8_quantize import quantize_per_token
from reference.op import implements
from reference.validate import check_linear


@implements("int8.linear", wing="numba", variant="unfused")
@launch.entry("int8.linear", "unfused")
def linear_unfused(
    x: Any,
    w_codes: Any,
    w_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """x @ dequantize(w).T + bias through int8, in three launches.

    x: fp32, fp16 or bf16 (M, K); w_codes: s8 (N, K); w_scales: fp32 (N,); bias: fp32 (N,) or None.
    Returns out_dtype (M, N). Raises TypeError or ValueError naming the argument.
    """
    check_linear(x, w_codes, w_scales, bias, dialect, out_dtype)
    codes, scales = quantize_per_token(x, dialect=dialect)
    acc = gemm(codes, w_codes, dialect=dialect)
    return epilogue(acc, scales, w_scales, bias, dialect=dialect, out_dtype=out_dtype)


@implements("int8.linear", wing="numba", variant="fused")
@launch.entry("int8.linear", "fused")
def linear_fused(
    x: Any,
    w_codes: Any,
    w_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """As `linear_unfused`, in two launches."""
    check_linear(x, w_codes, w_scales, bias, dialect, out_dtype)
    codes, scales = quantize_per_token(x, dialect=dialect)
    return gemm_dequant(
        codes, w_codes, scales, w_scales, bias, dialect=dialect, out_dtype=out_dtype
    )
