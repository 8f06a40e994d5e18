"""INT8 GEMM whose output is INT8 again, in Numba CUDA: the epilogue ends in codes.

Contract: reference/int8_gemm_requantize.py, that is, int8.gemm_dequant to fp32 and then
int8.quantize_static under one scale, bit for bit: the epilogue's float32 is divided by out_scale
(or multiplied by its reciprocal, made once per thread), rounded to nearest even and clamped. Codes
leave four to a store where N % 4 == 0. Kernels: tile_kernels.py.
"""

from __future__ import annotations

from typing import Any

from kernels_numba import launch
from kernels_numba.tile_kernels import run_dp4a, run_pipeline
from kernels_numba.tile_results import Words, scaling
from reference.int8_gemm_requantize import check_gemm_requantize
from reference.op import implements


def _requantize(
    a: Any, b: Any, a_scales: Any, b_scales: Any, out_scale: Any, bias: Any, dialect: str
) -> tuple[Words, tuple[Any, ...], Any]:
    """(words, given, out) of tile_results.py."""
    spoken = check_gemm_requantize(a, b, a_scales, b_scales, out_scale, bias, dialect)
    out = launch.empty(a, (a.shape[0], b.shape[0]), "s8")
    return ("requantize", spoken), (*scaling(a_scales, b_scales, bias, spoken), out_scale), out


@implements("int8.gemm_requantize", wing="numba", variant="dp4a")
@launch.entry("int8.gemm_requantize", "dp4a")
def gemm_requantize_dp4a(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    out_scale: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
) -> Any:
    """The GEMM's result as codes under a given scale.

    a: s8 (M, K); b: s8 (N, K); a_scales: fp32 (M,) or (1,); b_scales: fp32 (N,) or (1,);
    out_scale: fp32 (1,), finite and > 0; bias: fp32 (N,) or None. Returns s8 (M, N).
    Raises TypeError or ValueError naming the argument.
    """
    words, given, out = _requantize(a, b, a_scales, b_scales, out_scale, bias, dialect)
    run_dp4a(words, a, b, given, out)
    return out


@implements("int8.gemm_requantize", wing="numba", variant="pipeline")
@launch.entry("int8.gemm_requantize", "pipeline")
def gemm_requantize_pipeline(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    out_scale: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
) -> Any:
    """As `gemm_requantize_dp4a`, by tensor cores and cp.async."""
    words, given, out = _requantize(a, b, a_scales, b_scales, out_scale, bias, dialect)
    run_pipeline(words, a, b, given, out)
    return out
