"""Launchers of int8_gemm_azp.cu: column sums, and the GEMM with a zero-point epilogue.

Shapes, dtypes and errors are those of reference/int8_gemm_azp.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels_cupy import tiling
from kernels_cupy.configuration import COPIES, Configuration
from kernels_cupy.geometry import ceil_div, copy_width, format_code
from kernels_cupy.int8_gemm import Vectors, told_scales
from kernels_cupy.launch import empty, kernel, run
from reference.int8_gemm_azp import CODES, DIALECTS, check_column_sums, check_gemm_azp
from reference.numerics import dtype_name
from reference.validate import FLOATS

SOURCE = "int8_gemm_azp.cu"
FAMILY = "gemm_azp"
VARIANTS = ("dp4a", "pipeline")
SUMS_ROWS = 4  # rows, and warps, of a block of column_sums


def defines(a_dtype: str, copy: int, out_dtype: str) -> dict[str, int]:
    """The defines of int8_gemm_azp.cu."""
    unsigned = {"A_UNSIGNED": 1} if a_dtype == "u8" else {}
    return {"COPY": copy, "OUTPUT": format_code(out_dtype), **unsigned}


def sums_defines(copy: int) -> dict[str, int]:
    """The same for column_sums, which reads neither a nor floats."""
    return defines("s8", copy, FLOATS[0])


@kernel("int8.column_sums", dialects=DIALECTS)
def column_sums(b: Any, *, dialect: str = "ieee") -> Any:
    """b: s8 (N, K). Returns s32 (N,). A warp per row."""
    check_column_sums(b, dialect)
    (N, K), sums = b.shape, empty(b, (b.shape[0],), "s32")
    grid, block = (ceil_div(N, SUMS_ROWS),), (32, SUMS_ROWS)
    told = sums_defines(copy_width(K, b))
    run(SOURCE, "column_sums", told, grid, block, (b, sums, np.int32(N), np.int32(K)))
    return sums


def _launch(
    variant: str,
    arrays: tuple[Any, Any, Any, Any, Any, Any, Any],
    dialect: str,
    out_dtype: str,
) -> Any:
    spoken = check_gemm_azp(*arrays, dialect, out_dtype)
    a, b, a_scales, b_scales, zero_points, _, bias = arrays
    (M, K), N = a.shape, b.shape[0]
    out = empty(a, (M, N), out_dtype)
    name, tiles, block = tiling.launch(FAMILY, variant, M, N)
    told = defines(dtype_name(a.dtype) or "", copy_width(K, a, b), out_dtype)
    scales = told_scales(Vectors(a_scales, b_scales, bias), spoken.code("epilogue"))
    stride = np.int32(0 if zero_points.size == 1 else 1)
    arguments = (*arrays, out, *map(np.int32, (M, N, K)), *scales, stride)
    run(SOURCE, name, told, (tiles,), block, arguments)
    return out


@kernel("int8.gemm_azp", "dp4a", DIALECTS)
def gemm_azp_dp4a(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    zero_points: Any,
    column_sums: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """a: u8 or s8 (M, K); b: s8 (N, K); a_scales: fp32 (M,) or (1,); b_scales: fp32 (N,) or (1,);
    zero_points: s32 (M,) or (1,); column_sums: s32 (N,); bias: fp32 (N,) or None.
    Returns out_dtype (M, N).
    """
    arrays = a, b, a_scales, b_scales, zero_points, column_sums, bias
    return _launch("dp4a", arrays, dialect, out_dtype)


@kernel("int8.gemm_azp", "pipeline", DIALECTS)
def gemm_azp_pipeline(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    zero_points: Any,
    column_sums: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """As gemm_azp_dp4a, by tensor cores."""
    arrays = a, b, a_scales, b_scales, zero_points, column_sums, bias
    return _launch("pipeline", arrays, dialect, out_dtype)


def configurations(full: bool) -> Iterator[Configuration]:
    """See configuration.py. No dialect has compilations of its own."""
    for copy in COPIES:
        told, path = sums_defines(copy), f"copy {copy}"
        yield Configuration("int8.column_sums", "", SOURCE, "column_sums", told, "", path)
    for a_dtype in CODES:
        for out_dtype in FLOATS if full else ("fp16",):
            for copy in COPIES if full else (16,):
                told = defines(a_dtype, copy, out_dtype)
                path = f"{a_dtype} copy {copy} to {out_dtype}"
                for variant in VARIANTS:
                    for name in tiling.kernels(FAMILY, variant):
                        yield Configuration("int8.gemm_azp", variant, SOURCE, name, told, "", path)
