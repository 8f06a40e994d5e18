"""Launchers of int8_norm.cu: RMSNorm, x + residual and its RMSNorm, LayerNorm, with INT8 output.

Shapes, dtypes and errors are those of reference/int8_norm.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels_cupy.configuration import Configuration
from kernels_cupy.geometry import ceil_div, format_code, row_geometry, rules
from kernels_cupy.int8_quantize import FIELDS as QUANTIZE_FIELDS
from kernels_cupy.launch import address, empty, kernel, run
from reference.dialects import Dialect
from reference.dialects import dialect as get_dialect
from reference.int8_norm import DIALECTS, check_norm
from reference.numerics import dtype_name
from reference.reductions import CHUNK

SOURCE = "int8_norm.cu"
FIELDS = (*QUANTIZE_FIELDS, "intermediate")
WIDTHS = (8, 4, 1)  # elements that go at once
ACCESS = 16  # bytes per access, at most
KERNELS = tuple(
    f"{norm}_quantize{static}"
    for norm in ("rms_norm", "add_rms_norm", "layer_norm")
    for static in ("", "_static")
)


def defines(dialect: Dialect, dtype: str, vector: int) -> dict[str, int]:
    """The defines of int8_norm.cu."""
    return {"INPUT": format_code(dtype), "VECTOR": vector, **rules(dialect, *FIELDS)}


def _fits(width: int, columns: int, arrays: list[Any]) -> bool:
    """Whether `width` divides the rows, and the addresses are aligned to its accesses."""
    return columns % width == 0 and all(
        address(array) % min(ACCESS, width * array.dtype.itemsize) == 0 for array in arrays
    )


def _run(
    name: str,
    spoken: Dialect,
    eps: np.float32,
    x: Any,
    weight: Any,
    *,
    residual: Any = None,
    bias: Any = None,
    given: Any = None,
) -> tuple[Any, Any, Any]:
    """Launches kernel `name`. Returns codes, scales or None, sum or None: what the kernel has."""
    (M, K), read = x.shape, [one for one in (x, residual, weight, bias) if one is not None]
    vector = next(width for width in WIDTHS if _fits(width, K, read))
    codes = empty(x, (M, K), "s8")
    scales = empty(x, (M,), "fp32") if given is None else None
    total = None if residual is None else empty(x, (M, K), dtype_name(x.dtype) or "")
    grid, block = row_geometry(M, ceil_div(K, CHUNK))  # reductions.lanes(K) threads a row
    arrays = x, residual, weight, bias, given, codes, scales, total
    told = defines(spoken, dtype_name(x.dtype) or "", vector)
    run(SOURCE, name, told, grid, block, (*arrays, eps, np.int32(M), np.int32(K)))
    return codes, scales, total


@kernel("int8.rms_norm_quantize")
def rms_norm_quantize(x: Any, weight: Any, eps: float, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """x: fp32, fp16 or bf16 (M, K); weight: x's dtype (K,). Returns codes s8 (M, K), scales fp32
    (M,).
    """
    spoken = check_norm(dialect, eps, x=x, weight=weight)
    return _run("rms_norm_quantize", *spoken, x, weight)[:2]


@kernel("int8.rms_norm_quantize_static")
def rms_norm_quantize_static(
    x: Any, weight: Any, scales: Any, eps: float, *, dialect: str = "ieee"
) -> Any:
    """x: fp32, fp16 or bf16 (M, K); weight: x's dtype (K,); scales: fp32 (1,). Returns codes s8
    (M, K).
    """
    spoken = check_norm(dialect, eps, x=x, weight=weight, scales=scales)
    return _run("rms_norm_quantize_static", *spoken, x, weight, given=scales)[0]


@kernel("int8.add_rms_norm_quantize")
def add_rms_norm_quantize(
    x: Any, residual: Any, weight: Any, eps: float, *, dialect: str = "ieee"
) -> tuple[Any, Any, Any]:
    """x, residual: fp32, fp16 or bf16 (M, K); weight: their dtype (K,). Returns codes s8 (M, K),
    scales fp32 (M,), sum of x's dtype (M, K).
    """
    spoken = check_norm(dialect, eps, x=x, residual=residual, weight=weight)
    return _run("add_rms_norm_quantize", *spoken, x, weight, residual=residual)


@kernel("int8.add_rms_norm_quantize_static")
def add_rms_norm_quantize_static(
    x: Any, residual: Any, weight: Any, scales: Any, eps: float, *, dialect: str = "ieee"
) -> tuple[Any, Any]:
    """x, residual: fp32, fp16 or bf16 (M, K); weight: their dtype (K,); scales: fp32 (1,). Returns
    codes s8 (M, K), sum of x's dtype (M, K).
    """
    spoken = check_norm(dialect, eps, x=x, residual=residual, weight=weight, scales=scales)
    name = "add_rms_norm_quantize_static"
    codes, _, total = _run(name, *spoken, x, weight, residual=residual, given=scales)
    return codes, total


@kernel("int8.layer_norm_quantize")
def layer_norm_quantize(
    x: Any, weight: Any, bias: Any, eps: float, *, dialect: str = "ieee"
) -> tuple[Any, Any]:
    """x: fp32, fp16 or bf16 (M, K); weight, bias: x's dtype (K,). Returns codes s8 (M, K), scales
    fp32 (M,).
    """
    spoken = check_norm(dialect, eps, x=x, weight=weight, bias=bias)
    return _run("layer_norm_quantize", *spoken, x, weight, bias=bias)[:2]


@kernel("int8.layer_norm_quantize_static")
def layer_norm_quantize_static(
    x: Any, weight: Any, bias: Any, scales: Any, eps: float, *, dialect: str = "ieee"
) -> Any:
    """x: fp32, fp16 or bf16 (M, K); weight, bias: x's dtype (K,); scales: fp32 (1,). Returns codes
    s8 (M, K).
    """
    spoken = check_norm(dialect, eps, x=x, weight=weight, bias=bias, scales=scales)
    return _run("layer_norm_quantize_static", *spoken, x, weight, bias=bias, given=scales)[0]


def configurations(full: bool) -> Iterator[Configuration]:
    """See configuration.py."""
    for spoken in map(get_dialect, DIALECTS):
        for dtype in spoken.inputs:
            for vector in WIDTHS:
                if not full and not _typical(spoken.name, dtype, vector):
                    continue
                told = defines(spoken, dtype, vector)
                path = f"{dtype} x{vector}"
                for name in KERNELS:
                    yield Configuration(f"int8.{name}", "", SOURCE, name, told, spoken.name, path)


def _typical(dialect: str, dtype: str, vector: int) -> bool:
    """Every dtype at its widest in ieee; fp16 also narrower and in the other dialect."""
    if dialect == "ieee":
        return vector == WIDTHS[0] or dtype == "fp16"
    return vector == WIDTHS[0] and dtype == "fp16"
