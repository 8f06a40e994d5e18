"""Launchers of int8_asymmetric.cu and int8_asymmetric_dequantize.cu: per token, channel, tensor and
group along K, static, dequantize.

Shapes, dtypes and errors are those of reference/int8_asymmetric.py. A group along K is a row of
the (M * Q, G) view. Code dtypes share their compilations: a kernel is told the lowest code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels_cupy.configuration import Configuration, widths
from kernels_cupy.geometry import (
    KEPT,
    MAX_THREADS,
    ceil_div,
    format_code,
    rules,
    vector_width,
)
from kernels_cupy.launch import Dim, empty, kernel, run, zeros
from reference.asymmetric import (
    BASE,
    CHANNEL,
    FAMILY,
    SPOKEN,
    check_asymmetric,
    check_asymmetric_dequantize,
    check_asymmetric_dequantize_group,
    check_asymmetric_group,
    check_asymmetric_static,
    check_asymmetric_static_group,
)
from reference.dialects import Dialect, dialect
from reference.numerics import DTYPES, RANGES, dtype_name
from reference.validate import FLOATS

SOURCE = "int8_asymmetric.cu"
DEQUANTIZE = "int8_asymmetric_dequantize.cu"
FIELDS = (
    "arithmetic", "multiplier", "static_multiplier", "rounding", "clamp", "zero", "nan",
    "least_scale",
)  # fmt: skip
OWN_FIELDS = ("azp_range", "zero_point", "azp_sum", "azp_nan_zero_point", "azp_nan_code")
KERNELS = {  # kernel in SOURCE -> op
    "asymmetric_rows": "int8.asymmetric_per_token",
    "asymmetric_range": "int8.asymmetric_per_tensor",
    "asymmetric_tensor": "int8.asymmetric_per_tensor",
    "asymmetric_static": "int8.asymmetric_static",
}
VECTOR_BYTES = 16
BLOCK = 128  # threads of a block in which rows share warps
RANGE_BLOCK, RANGE_GRID = 256, 1024  # of the per-tensor range, at most


def defines(spoken: Dialect, dtype: str, vector: int) -> dict[str, int]:
    """The defines of int8_asymmetric.cu; `spoken` is under "asymmetric"."""
    told = rules(spoken, *FIELDS, *OWN_FIELDS)
    return {"INPUT": format_code(dtype), "VECTOR": vector, **told}


def geometry(rows: int, length: int, vector: int) -> tuple[Dim, Dim]:
    """(grid, block) for rows of `length` elements, as rows.cuh says: up to KEPT vectors a lane, and
    as many lanes as it takes to store 32 bytes of codes at once, a sector.
    """
    vectors = length // vector
    if vectors > 32 * KEPT:
        return (rows,), (min(MAX_THREADS, 32 * ceil_div(vectors, 32 * KEPT)), 1)
    fewest = min(32 // vector, _power_of_two(vectors), 32)
    lanes = max(_power_of_two(ceil_div(vectors, KEPT)), fewest)
    of_warp = 32 // lanes
    together = min(BLOCK // lanes, of_warp * ceil_div(rows, of_warp))
    return (ceil_div(rows, together),), (lanes, together)


def _power_of_two(count: int) -> int:
    """The smallest one that is not less."""
    return 1 << (count - 1).bit_length()


def width(spoken: str, found: int, widest: int) -> int:
    """Elements per access where `found` would do: of the later dialects only the widest or one."""
    return found if spoken in BASE or found == widest else 1


def _told(x: Any, length: int, spoken: Dialect) -> dict[str, int]:
    widest = VECTOR_BYTES // x.dtype.itemsize
    vector = width(spoken.name, vector_width(length, [x], widest), widest)
    return defines(spoken, dtype_name(x.dtype) or "", vector)


def _sizes(x: Any, length: int, code_dtype: str) -> tuple[Any, ...]:
    """rows, length, lowest: the last parameters of every kernel."""
    return np.uint32(x.size // length), np.int32(length), np.int32(RANGES[code_dtype][0])


def _rows(
    x: Any, length: int, shape: Dim, spoken: Dialect, code_dtype: str
) -> tuple[Any, Any, Any]:
    """Every row of `length` elements with its own scale; `shape`: of scales and zero points."""
    told, sizes = _told(x, length, spoken), _sizes(x, length, code_dtype)
    codes = empty(x, x.shape, code_dtype)
    scales, zero_points = empty(x, shape, "fp32"), empty(x, shape, "s32")
    grid, block = geometry(int(sizes[0]), length, told["VECTOR"])
    args = x, codes, scales, zero_points, *sizes
    run(SOURCE, "asymmetric_rows", told, grid, block, args)
    return codes, scales, zero_points


@kernel("int8.asymmetric_per_token")
def asymmetric_per_token(x: Any, *, dialect: str = "ieee", code_dtype: str = "u8") -> Any:
    """x: fp32, fp16 or bf16 (M, K). Returns codes (M, K), fp32 (M,) and s32 (M,)."""
    spoken = check_asymmetric(x, dialect, code_dtype, "per_token")
    return _rows(x, x.shape[1], x.shape[:1], spoken, code_dtype)


@kernel("int8.asymmetric_per_channel")
def asymmetric_per_channel(w: Any, *, dialect: str = "ieee", code_dtype: str = "u8") -> Any:
    """w: fp32, fp16 or bf16 (N, K). Returns codes (N, K), fp32 (N,) and s32 (N,)."""
    spoken = check_asymmetric(w, dialect, code_dtype, "per_channel", "w")
    return _rows(w, w.shape[1], w.shape[:1], spoken, code_dtype)


@kernel("int8.asymmetric_per_group")
def asymmetric_per_group(
    x: Any, group_size: int, *, dialect: str = "ieee", code_dtype: str = "u8"
) -> Any:
    """x: fp32, fp16 or bf16 (M, K); group_size: divides K, Q = K // group_size. Returns codes
    (M, K), scales fp32 (M, Q), zero_points s32 (M, Q).
    """
    spoken = check_asymmetric_group(x, group_size, dialect, code_dtype)
    M, K = x.shape
    return _rows(x, group_size, (M, K // group_size), spoken, code_dtype)


@kernel("int8.asymmetric_per_tensor")
def asymmetric_per_tensor(x: Any, *, dialect: str = "ieee", code_dtype: str = "u8") -> Any:
    """x: fp32, fp16 or bf16 (M, K). Returns codes (M, K), scales fp32 (1,), zero_points s32 (1,).
    Two launches.
    """
    spoken, K = check_asymmetric(x, dialect, code_dtype, "per_tensor"), x.shape[1]
    told, sizes = _told(x, K, spoken), _sizes(x, K, code_dtype)
    keys, codes = zeros(x, (2,), "s32"), empty(x, x.shape, code_dtype)
    scale, zero_point = empty(x, (1,), "fp32"), empty(x, (1,), "s32")
    vectors = x.size // told["VECTOR"]
    blocks = min(RANGE_GRID, ceil_div(vectors, KEPT * RANGE_BLOCK))
    args: tuple[Any, ...] = x, keys, np.int64(vectors)
    run(SOURCE, "asymmetric_range", told, (blocks,), (RANGE_BLOCK,), args)
    grid, block = geometry(int(sizes[0]), K, told["VECTOR"])
    args = x, keys, codes, scale, zero_point, *sizes
    run(SOURCE, "asymmetric_tensor", told, grid, block, args)
    return codes, scale, zero_point


def _given(x: Any, scales: Any, zero_points: Any, spoken: Dialect, code_dtype: str) -> Any:
    """Rows are groups where the scales are two-dimensional."""
    length = x.shape[1] // (scales.shape[1] if scales.ndim == 2 else 1)
    told, sizes = _told(x, length, spoken), _sizes(x, length, code_dtype)
    codes = empty(x, x.shape, code_dtype)
    grid, block = geometry(int(sizes[0]), length, told["VECTOR"])
    args = x, scales, zero_points, codes, *sizes, np.uint32(scales.size)
    run(SOURCE, "asymmetric_static", told, grid, block, args)
    return codes


@kernel("int8.asymmetric_static")
def asymmetric_static(
    x: Any, scales: Any, zero_points: Any, *, dialect: str = "ieee", code_dtype: str = "u8"
) -> Any:
    """x: fp32, fp16 or bf16 (M, K); scales: fp32 (1,) or (M,); zero_points: s32 of that shape.
    Returns codes (M, K).
    """
    spoken = check_asymmetric_static(x, scales, zero_points, dialect, code_dtype)
    return _given(x, scales, zero_points, spoken, code_dtype)


@kernel("int8.asymmetric_static_per_group")
def asymmetric_static_per_group(
    x: Any, scales: Any, zero_points: Any, *, dialect: str = "ieee", code_dtype: str = "u8"
) -> Any:
    """x: fp32, fp16 or bf16 (M, K); scales: fp32 (1, Q) or (M, Q); zero_points: s32 of that shape.
    Returns codes (M, K).
    """
    spoken = check_asymmetric_static_group(x, scales, zero_points, dialect, code_dtype)
    return _given(x, scales, zero_points, spoken, code_dtype)


def dequantize_defines(spoken: Dialect, out_dtype: str, vector: int) -> dict[str, int]:
    """The defines of int8_asymmetric_dequantize.cu."""
    told = rules(spoken, "azp_difference")
    return {"OUTPUT": format_code(out_dtype), "VECTOR": vector, **told}


def _dequantized(codes: Any, scales: Any, zero_points: Any, spoken: Dialect, out_dtype: str) -> Any:
    length = codes.shape[1] // (scales.shape[1] if scales.ndim == 2 else 1)
    widest = VECTOR_BYTES // DTYPES[out_dtype].itemsize
    vector = width(spoken.name, vector_width(length, [codes], widest), widest)
    out = empty(codes, codes.shape, out_dtype)
    sizes = _sizes(codes, length, dtype_name(codes.dtype) or "")
    grid, block = geometry(int(sizes[0]), length, vector)
    args = codes, scales, zero_points, out, *sizes, np.uint32(scales.size)
    told = dequantize_defines(spoken, out_dtype, vector)
    run(DEQUANTIZE, "asymmetric_dequantize", told, grid, block, args)
    return out


@kernel("int8.asymmetric_dequantize")
def asymmetric_dequantize(
    codes: Any, scales: Any, zero_points: Any, *, dialect: str = "ieee", out_dtype: str = "fp32"
) -> Any:
    """codes: u8 or s8 (M, K); scales: fp32 (1,) or (M,); zero_points: s32 of that shape. Returns
    out_dtype (M, K).
    """
    spoken = check_asymmetric_dequantize(codes, scales, zero_points, dialect, out_dtype)
    return _dequantized(codes, scales, zero_points, spoken, out_dtype)


@kernel("int8.asymmetric_dequantize_per_group")
def asymmetric_dequantize_per_group(
    codes: Any, scales: Any, zero_points: Any, *, dialect: str = "ieee", out_dtype: str = "fp32"
) -> Any:
    """codes: u8 or s8 (M, K); scales: fp32 (1, Q) or (M, Q); zero_points: s32 of that shape.
    Returns out_dtype (M, K).
    """
    spoken = check_asymmetric_dequantize_group(codes, scales, zero_points, dialect, out_dtype)
    return _dequantized(codes, scales, zero_points, spoken, out_dtype)


def configurations(full: bool) -> Iterator[Configuration]:
    """See configuration.py."""
    for spoken, names in _spoken(full):
        for dtype in spoken.inputs:
            for vector in widths(dtype):
                if not full and not _typical(spoken.name, dtype, vector):
                    continue
                if vector != width(spoken.name, vector, widths(dtype)[0]):
                    continue
                told, path = defines(spoken, dtype, vector), f"{dtype} x{vector}"
                for name in names:
                    yield Configuration(KERNELS[name], "", SOURCE, name, told, spoken.name, path)
    for spoken in (dialect(name).under(FAMILY) for name in (BASE[0], *ROUNDS_DIFFERENCE)):
        for out_dtype in FLOATS:
            yield from _dequantizes(spoken, out_dtype, full)


ROUNDS_DIFFERENCE = ("torchao",)


def _spoken(full: bool) -> Iterator[tuple[Dialect, tuple[str, ...]]]:
    """Dialects as the family speaks them, and their kernels."""
    every = tuple(KERNELS)
    for name in SPOKEN["static"] if full else (*BASE, "compressed_tensors"):
        spoken = dialect(name).under(FAMILY)
        yield spoken, every if name in SPOKEN["per_token"] else every[1:]
        if spoken != spoken.under(CHANNEL):
            yield spoken.under(CHANNEL), ("asymmetric_rows", "asymmetric_static")


def _dequantizes(spoken: Dialect, out_dtype: str, full: bool) -> Iterator[Configuration]:
    every, first = widths(out_dtype), spoken.name == BASE[0]
    for vector in every if full and first else (every[0], 1):
        told, path = dequantize_defines(spoken, out_dtype, vector), f"{out_dtype} x{vector}"
        name, op = "asymmetric_dequantize", "int8.asymmetric_dequantize"
        yield Configuration(op, "", DEQUANTIZE, name, told, "" if first else spoken.name, path)


def _typical(name: str, dtype: str, vector: int) -> bool:
    """Every dtype at its widest in ieee; fp16 also one at a time, and at its widest elsewhere."""
    widest = vector == widths(dtype)[0]
    if name == "ieee":
        return widest or (dtype == "fp16" and vector == 1)
    return widest and dtype == "fp16"
