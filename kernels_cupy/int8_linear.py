"""The W8A8 linear layer in its three forms, and the launcher of int8_linear.cu.

Shapes, dtypes and errors are those of reference/int8_linear.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels_cupy import tiling
from kernels_cupy.configuration import Configuration, speaking
from kernels_cupy.geometry import copy_width, format_code, rules, vector_width
from kernels_cupy.int8_gemm import epilogue, gemm, gemm_dequant
from kernels_cupy.int8_quantize import FIELDS, VECTOR_BYTES, quantize_per_token
from kernels_cupy.launch import empty, kernel, run
from reference.dialects import CORE, Dialect
from reference.numerics import DTYPES, dtype_name
from reference.validate import check_linear

SOURCE = "int8_linear.cu"
TILE, _, BLOCK = tiling.FIXED["dp4a"]  # the prologue's


@kernel("int8.linear", "unfused")
def linear_unfused(
    x: Any,
    w_codes: Any,
    w_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """x: fp32, fp16 or bf16 (M, K); w_codes: s8 (N, K); w_scales: fp32 (N,) or (1,); bias:
    fp32 (N,) or None. Returns out_dtype (M, N). Three launches: quantize, GEMM, epilogue.
    """
    check_linear(x, w_codes, w_scales, bias, dialect, out_dtype)
    codes, scales = quantize_per_token(x, dialect=dialect)
    acc = gemm(codes, w_codes, dialect=dialect)
    return epilogue(acc, scales, w_scales, bias, dialect=dialect, out_dtype=out_dtype)


@kernel("int8.linear", "fused")
def linear_fused(
    x: Any,
    w_codes: Any,
    w_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """As linear_unfused in two launches: quantize, GEMM with the dequant epilogue."""
    check_linear(x, w_codes, w_scales, bias, dialect, out_dtype)
    codes, scales = quantize_per_token(x, dialect=dialect)
    told = {"dialect": dialect, "out_dtype": out_dtype}
    return gemm_dequant(codes, w_codes, scales, w_scales, bias, **told)


def levels(dtype: str) -> tuple[tuple[int, int], ...]:
    """(elements per load of x, bytes per load of w_codes) that are compiled, widest first."""
    return (VECTOR_BYTES // DTYPES[dtype].itemsize, 16), (4, 4), (1, 1)


def defines(dialect: Dialect, dtype: str, level: tuple[int, int]) -> dict[str, int]:
    """The defines of int8_linear.cu."""
    told = {"INPUT": format_code(dtype), "VECTOR": level[0], "COPY": level[1]}
    return {**told, **rules(dialect, *FIELDS, "epilogue")}


def _level(x: Any, w_codes: Any, dtype: str) -> tuple[int, int]:
    """The widest level that K and both addresses allow."""
    K, (widest, *_) = x.shape[1], levels(dtype)
    vector, copy = vector_width(K, [x], widest[0]), copy_width(K, w_codes)
    return next(level for level in levels(dtype) if level[0] <= vector and level[1] <= copy)


@kernel("int8.linear", "prologue")
def linear_prologue(
    x: Any,
    w_codes: Any,
    w_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """As linear_unfused in one launch: x is quantized on its way into the GEMM's tiles."""
    spoken = check_linear(x, w_codes, w_scales, bias, dialect, out_dtype)
    (M, K), N = x.shape, w_codes.shape[0]
    out = empty(x, (M, N), out_dtype)
    dtype = dtype_name(x.dtype) or ""
    told = defines(spoken, dtype, _level(x, w_codes, dtype))
    grid = (tiling.tiles(M, N, TILE, TILE),)
    numbers = M, N, K, 0 if w_scales.size == 1 else 1, format_code(out_dtype)
    arguments = (x, w_codes, w_scales, bias, out, *map(np.int32, numbers))
    run(SOURCE, "linear_prologue", told, grid, BLOCK, arguments)
    return out


def configurations(full: bool) -> Iterator[Configuration]:
    """See configuration.py."""
    for spoken in (one for one in speaking(full, "ieee", "vllm") if one.name in CORE):
        for dtype in spoken.inputs if full else ("fp16",):
            for level in levels(dtype):
                told, path = defines(spoken, dtype, level), f"{dtype} x{level[0]} copy {level[1]}"
                op, name = "int8.linear", "linear_prologue"
                yield Configuration(op, "prologue", SOURCE, name, told, spoken.name, path)
