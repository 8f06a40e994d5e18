"""Launchers of int8_gemm.cu and int8_epilogue.cu: the GEMM ladder, the epilogue, both fused.

Shapes, dtypes and errors are those of reference/int8_gemm.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels_cupy.configuration import COPIES, Configuration, speaking
from kernels_cupy.geometry import (
    S32,
    ceil_div,
    copy_width,
    format_code,
    row_geometry,
    rules,
    vector_width,
)
from kernels_cupy.launch import Dim, empty, kernel, run
from reference.dialects import Dialect
from reference.validate import FLOATS, check_epilogue, check_gemm, check_gemm_dequant

SOURCE = "int8_gemm.cu"
EPILOGUE = "int8_epilogue.cu"
TILES: dict[str, tuple[int, Dim]] = {  # kernel -> side of its square tile, block
    "gemm_naive": (16, (16, 16)),
    "gemm_tiled": (64, (256,)),
    "gemm_mma": (128, (256,)),
}


def gemm_defines(copy: int) -> dict[str, int]:
    """The defines of int8_gemm.cu for plain accumulators. The dialect's K rule is the check's."""
    return {"COPY": copy, "OUTPUT": S32}


def fused_defines(dialect: Dialect, out_dtype: str, copy: int) -> dict[str, int]:
    """The defines of int8_gemm.cu with the dequant epilogue."""
    return {"COPY": copy, "OUTPUT": format_code(out_dtype), **rules(dialect, "epilogue")}


def _launch(
    name: str, told: dict[str, int], a: Any, b: Any, vectors: tuple[Any, Any, Any], out: Any
) -> Any:
    (M, K), N = a.shape, b.shape[0]
    side, block = TILES[name]
    grid = (ceil_div(M, side) * ceil_div(N, side),)
    run(SOURCE, name, told, grid, block, (a, b, *vectors, out, *map(np.int32, (M, N, K))))
    return out


def _gemm(name: str, a: Any, b: Any, dialect: str) -> Any:
    check_gemm(a, b, dialect)
    out = empty(a, (a.shape[0], b.shape[0]), "s32")
    told = gemm_defines(1 if name == "gemm_naive" else copy_width(a.shape[1], a, b))
    return _launch(name, told, a, b, (None, None, None), out)


@kernel("int8.gemm", "naive")
def gemm_naive(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a: s8 (M, K); b: s8 (N, K). Returns s32 (M, N). A thread per result."""
    return _gemm("gemm_naive", a, b, dialect)


@kernel("int8.gemm", "tiled")
def gemm_tiled(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a: s8 (M, K); b: s8 (N, K). Returns s32 (M, N). Shared-memory tiles, dp4a."""
    return _gemm("gemm_tiled", a, b, dialect)


@kernel("int8.gemm", "mma")
def gemm_mma(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a: s8 (M, K); b: s8 (N, K). Returns s32 (M, N). Tensor cores, cp.async pipeline."""
    return _gemm("gemm_mma", a, b, dialect)


def epilogue_defines(dialect: Dialect, out_dtype: str, vector: int) -> dict[str, int]:
    """The defines of int8_epilogue.cu."""
    return {"OUTPUT": format_code(out_dtype), "VECTOR": vector, **rules(dialect, "epilogue")}


@kernel("int8.epilogue")
def epilogue(
    acc: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """acc: s32 (M, N); a_scales: fp32 (M,); b_scales, bias: fp32 (N,). Returns out_dtype (M, N)."""
    spoken = check_epilogue(acc, a_scales, b_scales, bias, dialect, out_dtype)
    (M, N), out = acc.shape, empty(acc, acc.shape, out_dtype)
    loaded = [array for array in (acc, b_scales, bias) if array is not None]
    told = epilogue_defines(spoken, out_dtype, 4 if vector_width(N, loaded, 4) == 4 else 1)
    grid, block = row_geometry(M, N // told["VECTOR"])
    arrays = acc, a_scales, b_scales, bias, out
    run(EPILOGUE, "epilogue", told, grid, block, (*arrays, np.int32(M), np.int32(N)))
    return out


def _fused(
    name: str,
    a: Any,
    b: Any,
    vectors: tuple[Any, Any, Any],
    dialect: str,
    out_dtype: str,
) -> Any:
    spoken = check_gemm_dequant(a, b, *vectors, dialect, out_dtype)
    out = empty(a, (a.shape[0], b.shape[0]), out_dtype)
    told = fused_defines(spoken, out_dtype, copy_width(a.shape[1], a, b))
    return _launch(name, told, a, b, vectors, out)


@kernel("int8.gemm_dequant", "tiled")
def gemm_dequant_tiled(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """a: s8 (M, K); b: s8 (N, K); a_scales: fp32 (M,); b_scales, bias: fp32 (N,).
    Returns out_dtype (M, N).
    """
    return _fused("gemm_tiled", a, b, (a_scales, b_scales, bias), dialect, out_dtype)


@kernel("int8.gemm_dequant", "mma")
def gemm_dequant_mma(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """a: s8 (M, K); b: s8 (N, K); a_scales: fp32 (M,); b_scales, bias: fp32 (N,).
    Returns out_dtype (M, N).
    """
    return _fused("gemm_mma", a, b, (a_scales, b_scales, bias), dialect, out_dtype)


def configurations(full: bool) -> Iterator[Configuration]:
    """See configuration.py."""
    for copy in COPIES:
        told = gemm_defines(copy)
        for name in TILES:
            if name == "gemm_naive" and copy > 1:
                continue
            variant = name.removeprefix("gemm_")
            yield Configuration("int8.gemm", variant, SOURCE, name, told, "", f"copy {copy}")
    for spoken in speaking(full, "ieee", "vllm"):
        for out_dtype in FLOATS if full else ("fp32", "fp16"):
            for copy in COPIES if full else (16,):
                told = fused_defines(spoken, out_dtype, copy)
                for variant in ("tiled", "mma"):
                    path = f"copy {copy} to {out_dtype}"
                    op, name = "int8.gemm_dequant", f"gemm_{variant}"
                    yield Configuration(op, variant, SOURCE, name, told, spoken.name, path)
        for out_dtype in FLOATS:
            for vector in (4, 1):
                told = epilogue_defines(spoken, out_dtype, vector)
                op, path = "int8.epilogue", f"{out_dtype} x{vector}"
                yield Configuration(op, "", EPILOGUE, "epilogue", told, spoken.name, path)
