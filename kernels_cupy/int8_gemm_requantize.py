"""Launchers of int8_gemm_requantize.cu: the GEMM with an epilogue to codes.

Shapes, dtypes and errors are those of reference/int8_gemm_requantize.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels_cupy import tiling
from kernels_cupy.configuration import COPIES, Configuration
from kernels_cupy.geometry import copy_width, format_code, rules
from kernels_cupy.int8_gemm import Vectors, told_scales
from kernels_cupy.int8_quantize import FIELDS
from kernels_cupy.launch import empty, kernel, run
from reference.dialects import Dialect
from reference.dialects import dialect as get_dialect
from reference.int8_gemm_requantize import DIALECTS, check_gemm_requantize

SOURCE = "int8_gemm_requantize.cu"
FAMILY = "gemm_requantize"
VARIANTS = ("dp4a", "pipeline")


def defines(dialect: Dialect, copy: int) -> dict[str, int]:
    """The defines of int8_gemm_requantize.cu."""
    return {"COPY": copy, "INPUT": format_code("fp32"), **rules(dialect, *FIELDS)}


def _launch(variant: str, arrays: tuple[Any, Any, Any, Any, Any, Any], dialect: str) -> Any:
    spoken = check_gemm_requantize(*arrays, dialect)
    a, b, a_scales, b_scales, _, bias = arrays
    (M, K), N = a.shape, b.shape[0]
    out = empty(a, (M, N), "s8")
    name, tiles, block = tiling.launch(FAMILY, variant, M, N)
    told = defines(spoken, copy_width(K, a, b))
    scales = told_scales(Vectors(a_scales, b_scales, bias), spoken.code("epilogue"))
    run(SOURCE, name, told, (tiles,), block, (*arrays, out, *map(np.int32, (M, N, K)), *scales))
    return out


@kernel("int8.gemm_requantize", "dp4a", DIALECTS)
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
    """a: s8 (M, K); b: s8 (N, K); a_scales: fp32 (M,) or (1,); b_scales: fp32 (N,) or (1,);
    out_scale: fp32 (1,), finite and > 0; bias: fp32 (N,) or None. Returns s8 (M, N).
    """
    return _launch("dp4a", (a, b, a_scales, b_scales, out_scale, bias), dialect)


@kernel("int8.gemm_requantize", "pipeline", DIALECTS)
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
    """As gemm_requantize_dp4a, by tensor cores."""
    return _launch("pipeline", (a, b, a_scales, b_scales, out_scale, bias), dialect)


def configurations(full: bool) -> Iterator[Configuration]:
    """See configuration.py."""
    for spoken in map(get_dialect, DIALECTS):
        for copy in COPIES if full else (16,):
            told, path = defines(spoken, copy), f"copy {copy}"
            for variant in VARIANTS:
                for name in tiling.kernels(FAMILY, variant):
                    yield Configuration(
                        "int8.gemm_requantize", variant, SOURCE, name, told, spoken.name, path
                    )
