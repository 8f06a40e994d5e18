"""Launcher of int8_gemm_packed.cu: the GEMM with packed weights.

Shapes, dtypes and errors are those of reference/int8_gemm_packed.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels_cupy.configuration import COPIES, Configuration
from kernels_cupy.geometry import ceil_div, copy_width, format_code
from kernels_cupy.int8_gemm import Vectors, told_scales
from kernels_cupy.launch import empty, kernel, run
from reference.int8_gemm_packed import check_gemm_packed
from reference.validate import FLOATS

SOURCE = "int8_gemm_packed.cu"
ROWS, PANELS, THREADS = 16, 2, 128  # of a block


def defines(copy: int, out_dtype: str) -> dict[str, int]:
    """The defines of int8_gemm_packed.cu."""
    return {"COPY": copy, "OUTPUT": format_code(out_dtype)}


@kernel("int8.gemm_packed")
def gemm_packed(
    a: Any,
    packed: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """a: s8 (M, K); packed: s8 (P, ceil(K / 64), 512); a_scales: fp32 (M,) or (1,); b_scales: fp32
    (8 P,) or (1,); bias: fp32 (8 P,) or None. Returns out_dtype (M, 8 P).
    """
    spoken = check_gemm_packed(a, packed, a_scales, b_scales, bias, dialect, out_dtype)
    (M, K), P = a.shape, packed.shape[0]
    out = empty(a, (M, 8 * P), out_dtype)
    grid = (ceil_div(M, ROWS) * ceil_div(P, PANELS),)
    vectors = Vectors(a_scales, b_scales, bias)
    scales = told_scales(vectors, spoken.code("epilogue"))
    arguments = (a, packed, *vectors, out, *map(np.int32, (M, P, K)), *scales)
    told = defines(copy_width(K, a, packed), out_dtype)
    run(SOURCE, "gemm_packed", told, grid, (THREADS,), arguments)
    return out


def configurations(full: bool) -> Iterator[Configuration]:
    """See configuration.py. No dialect has compilations of its own."""
    for out_dtype in FLOATS if full else ("fp16",):
        for copy in COPIES if full else (16,):
            told, path = defines(copy, out_dtype), f"copy {copy} to {out_dtype}"
            yield Configuration("int8.gemm_packed", "", SOURCE, "gemm_packed", told, "", path)
