"""Launchers of int8_quantize.cu and int8_dequantize.cu: per-token, per-channel, per-tensor, static.

Shapes, dtypes and errors are those of reference/int8_quantize.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels_cupy.configuration import Configuration, speaking, widths
from kernels_cupy.geometry import ceil_div, format_code, row_geometry, rules, vector_width
from kernels_cupy.launch import empty, kernel, multiprocessors, run, zeros
from reference.dialects import Dialect
from reference.int8_quantize import SPOKEN, check_dynamic, check_given
from reference.numerics import DTYPES, dtype_name
from reference.validate import FLOATS, check_dequantize

SOURCE = "int8_quantize.cu"
DEQUANTIZE = "int8_dequantize.cu"
FIELDS = (
    *("arithmetic", "multiplier", "static_multiplier", "rounding", "clamp", "zero", "nan"),
    *("nan_code", "floor", "scale", "least_scale", "stored"),
)
KERNELS = {  # kernel in SOURCE -> op, variant
    "quantize_rows": ("int8.quantize_per_token", ""),
    "tensor_maximum": ("int8.quantize_per_tensor", "two_pass"),
    "quantize_tensor": ("int8.quantize_per_tensor", "two_pass"),
    "quantize_tensor_once": ("int8.quantize_per_tensor", "single_pass"),
    "quantize_static": ("int8.quantize_static", ""),
}
TYPICAL = (  # dialects that differ most: each word of a field once
    *("ieee", "vllm", "article_torch", "sglang", "torchao", "torchao_no_clipping"),
    *("compressed_tensors", "onnx", "modelopt"),
)
VECTOR_BYTES = 16
MAXIMUM_BLOCK, MAXIMUM_GRID = 256, 1024  # of the per-tensor amax: 4 vectors a thread, at most
ONCE_THREADS = 512  # of a block of quantize_tensor_once, in SOURCE too


def defines(dialect: Dialect, dtype: str, vector: int) -> dict[str, int]:
    """The defines of int8_quantize.cu."""
    return {"INPUT": format_code(dtype), "VECTOR": vector, **rules(dialect, *FIELDS)}


def _defines(dialect: Dialect, x: Any, row: int = 0) -> dict[str, int]:
    vector = vector_width(row or x.shape[1], [x], VECTOR_BYTES // x.dtype.itemsize)
    return defines(dialect, dtype_name(x.dtype) or "", vector)


def _rows(x: Any, spoken: Dialect) -> tuple[Any, Any]:
    M, K = x.shape
    told = _defines(spoken, x)
    codes, scales = empty(x, (M, K), "s8"), empty(x, (M,), "fp32")
    grid, block = row_geometry(M, K // told["VECTOR"])
    run(SOURCE, "quantize_rows", told, grid, block, (x, codes, scales, np.int32(M), np.int32(K)))
    return codes, scales


@kernel("int8.quantize_per_token")
def quantize_per_token(x: Any, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """x: fp32, fp16 or bf16 (M, K). Returns codes s8 (M, K), scales fp32 (M,)."""
    return _rows(x, check_dynamic("int8.quantize_per_token", x, dialect))


@kernel("int8.quantize_per_channel")
def quantize_per_channel(w: Any, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """w: fp32, fp16 or bf16 (N, K). Returns codes s8 (N, K), scales fp32 (N,)."""
    return _rows(w, check_dynamic("int8.quantize_per_channel", w, dialect, "w"))


@kernel("int8.quantize_per_tensor", "two_pass")
def quantize_per_tensor(x: Any, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """x: fp32, fp16 or bf16 (M, K). Returns codes s8 (M, K), scales fp32 (1,). Two launches."""
    told = _defines(check_dynamic("int8.quantize_per_tensor", x, dialect), x)
    (M, K), vectors = x.shape, x.size // told["VECTOR"]
    amax, codes, scales = zeros(x, (1,), "s32"), empty(x, (M, K), "s8"), empty(x, (1,), "fp32")
    blocks = min(MAXIMUM_GRID, ceil_div(vectors, 4 * MAXIMUM_BLOCK))
    run(SOURCE, "tensor_maximum", told, (blocks,), (MAXIMUM_BLOCK,), (x, amax, np.int64(vectors)))
    grid, block = row_geometry(M, K // told["VECTOR"])
    sizes = np.int32(M), np.int32(K)
    run(SOURCE, "quantize_tensor", told, grid, block, (x, amax, codes, scales, *sizes))
    return codes, scales


def once_grid(vectors: int, processors: int) -> int:
    """Blocks of quantize_tensor_once: one on each multiprocessor, as far as there is a warp's worth
    of vectors for each.
    """
    return min(processors, ceil_div(vectors, 32))


@kernel("int8.quantize_per_tensor", "single_pass")
def quantize_per_tensor_once(x: Any, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """As quantize_per_tensor, in one cooperative launch: x is read once where registers hold it."""
    told = _defines(check_dynamic("int8.quantize_per_tensor", x, dialect), x, x.size)
    vectors = x.size // told["VECTOR"]
    codes, scales, meeting = empty(x, x.shape, "s8"), empty(x, (1,), "fp32"), zeros(x, (2,), "s32")
    grid, block = (once_grid(vectors, multiprocessors(x)),), (ONCE_THREADS,)
    args = x, codes, scales, meeting, np.int64(vectors)
    run(SOURCE, "quantize_tensor_once", told, grid, block, args, cooperative=True)
    return codes, scales


@kernel("int8.quantize_static")
def quantize_static(x: Any, scales: Any, *, dialect: str = "ieee") -> Any:
    """x: fp32, fp16 or bf16 (M, K); scales: fp32 (1,) or (M,). Returns codes s8 (M, K)."""
    told = _defines(check_given(x, scales, dialect), x)
    (M, K), codes = x.shape, empty(x, x.shape, "s8")
    grid, block = row_geometry(M, K // told["VECTOR"])
    sizes = np.int32(M), np.int32(K), np.int32(scales.size)
    run(SOURCE, "quantize_static", told, grid, block, (x, scales, codes, *sizes))
    return codes


def dequantize_defines(out_dtype: str, vector: int) -> dict[str, int]:
    """The defines of int8_dequantize.cu."""
    return {"OUTPUT": format_code(out_dtype), "VECTOR": vector}


@kernel("int8.dequantize")
def dequantize(codes: Any, scales: Any, *, dialect: str = "ieee", out_dtype: str = "fp32") -> Any:
    """codes: s8 (M, K); scales: fp32 (1,) or (M,). Returns out_dtype (M, K)."""
    check_dequantize(codes, scales, dialect, out_dtype)
    (M, K), out = codes.shape, empty(codes, codes.shape, out_dtype)
    vector = vector_width(K, [codes], VECTOR_BYTES // DTYPES[out_dtype].itemsize)
    grid, block = row_geometry(M, K // vector)
    sizes = np.int32(M), np.int32(K), np.int32(scales.size)
    told = dequantize_defines(out_dtype, vector)
    run(DEQUANTIZE, "dequantize", told, grid, block, (codes, scales, out, *sizes))
    return out


def configurations(full: bool) -> Iterator[Configuration]:
    """See configuration.py."""
    for spoken in speaking(full, *TYPICAL):
        for dtype in spoken.inputs:
            for vector in widths(dtype, spoken.name):
                if not full and not _typical(spoken.name, dtype, vector):
                    continue
                told = defines(spoken, dtype, vector)
                path = f"{dtype} x{vector}"
                for name, (op, variant) in KERNELS.items():
                    if name == "quantize_rows" and spoken.name not in SPOKEN[op]:
                        op = "int8.quantize_per_channel"
                    if spoken.name in SPOKEN[op]:
                        yield Configuration(op, variant, SOURCE, name, told, spoken.name, path)
    for out_dtype in FLOATS:
        every = widths(out_dtype)
        for vector in every if full else (every[0], 1):
            told = dequantize_defines(out_dtype, vector)
            path = f"{out_dtype} x{vector}"
            yield Configuration("int8.dequantize", "", DEQUANTIZE, "dequantize", told, "", path)


def _typical(dialect: str, dtype: str, vector: int) -> bool:
    """Every dtype at its widest in ieee; fp16 also narrower and in the other dialects."""
    widest = vector == widths(dtype)[0]
    if dialect == "ieee":
        return widest or (dtype == "fp16" and vector in (4, 1))
    return widest and dtype == "fp16"
