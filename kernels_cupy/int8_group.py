"""Launchers of int8_group.cu: per-group quantization, dynamic and static, and dequantization.

Shapes, dtypes and errors are those of reference/int8_group.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels_cupy.configuration import Configuration, speaking, widths
from kernels_cupy.geometry import KEPT, MAX_THREADS, ceil_div, format_code, rules, vector_width
from kernels_cupy.launch import Dim, empty, kernel, run
from reference.dialects import Dialect
from reference.int8_group import (
    BASE,
    FAMILY,
    SPOKEN,
    check_dequantize_per_group,
    check_quantize_per_group,
    check_static_per_group,
)
from reference.numerics import DTYPES, dtype_name
from reference.validate import FLOATS

SOURCE = "int8_group.cu"
FIELDS = (
    *("arithmetic", "multiplier", "static_multiplier", "rounding", "clamp", "nan_code", "zero"),
    *("nan", "floor", "scale", "least_scale", "stored"),
)
KERNELS = {  # kernel in SOURCE -> op
    "quantize_short_groups": "int8.quantize_per_group",
    "quantize_long_groups": "int8.quantize_per_group",
    "static_short_groups": "int8.quantize_static_per_group",
    "static_long_groups": "int8.quantize_static_per_group",
}
TYPICAL = (*BASE, "sglang", "torchao_no_clipping", "gguf")  # each word of a field once
VECTOR_BYTES = 16
SHORT = 8  # vectors of a group up to which a lane holds one of each of KEPT groups
BLOCK = 128  # threads, where a group takes a warp or less


def power_of_two(number: int) -> int:
    """The smallest power of two that is not below."""
    return 1 << (number - 1).bit_length()


def lanes(vectors: int, each: int, least: int) -> int:
    """Lanes of a group of `vectors`, at most `each` to a lane: a power of two up to 32, at least
    `least` if the group fills them, or whole warps.
    """
    needed = ceil_div(vectors, each)
    if needed > 32:
        return min(MAX_THREADS, 32 * ceil_div(needed, 32))
    return min(max(power_of_two(needed), least), power_of_two(vectors), 32)


def side_by_side(wide: int) -> int:
    """Groups of a block whose groups have this many lanes."""
    return BLOCK // wide if wide <= 32 else 1


def geometry(groups: int, G: int, vector: int) -> tuple[str, Dim, Dim]:
    """("short" or "long", grid, block) of the quantizing kernels.

    Codes of a group leave in whole sectors of 32 bytes, where it has as many.
    """
    vectors = G // vector
    short = vectors <= SHORT
    wide = lanes(vectors, 1, 1) if short else lanes(vectors, KEPT, 32 // vector)
    together = side_by_side(wide)
    slots = KEPT if short else 1
    return "short" if short else "long", (ceil_div(groups, together * slots),), (wide, together)


def defines(dialect: Dialect, dtype: str, vector: int) -> dict[str, int]:
    """The defines of the quantizing kernels; the dialect is `under` its family."""
    return {"INPUT": format_code(dtype), "VECTOR": vector, **rules(dialect, *FIELDS)}


def _defines(dialect: Dialect, x: Any, G: int) -> dict[str, int]:
    vector = vector_width(G, [x], VECTOR_BYTES // x.dtype.itemsize)
    return defines(dialect, dtype_name(x.dtype) or "", vector)


@kernel("int8.quantize_per_group", dialects=SPOKEN)
def quantize_per_group(x: Any, group_size: int, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """x: fp32, fp16 or bf16 (M, K); group_size G divides K. Returns codes s8 (M, K), scales fp32
    (M, K // G).
    """
    told = _defines(check_quantize_per_group(x, group_size, dialect), x, group_size)
    (M, K), groups = x.shape, x.size // group_size
    codes, scales = empty(x, (M, K), "s8"), empty(x, (M, K // group_size), "fp32")
    form, grid, block = geometry(groups, group_size, told["VECTOR"])
    sizes = np.int32(groups), np.int32(group_size)
    run(SOURCE, f"quantize_{form}_groups", told, grid, block, (x, codes, scales, *sizes))
    return codes, scales


@kernel("int8.quantize_static_per_group", dialects=BASE)
def quantize_static_per_group(x: Any, scales: Any, *, dialect: str = "ieee") -> Any:
    """x: fp32, fp16 or bf16 (M, K); scales: fp32 (1, Q) or (M, Q). Returns codes s8 (M, K)."""
    spoken = check_static_per_group(x, scales, dialect)
    (M, K), (S, Q), codes = x.shape, scales.shape, empty(x, x.shape, "s8")
    told = _defines(spoken, x, K // Q)
    form, grid, block = geometry(M * Q, K // Q, told["VECTOR"])
    args = x, scales, codes, np.int32(M * Q), np.int32(K // Q), np.int32(Q), np.int32(S)
    run(SOURCE, f"static_{form}_groups", told, grid, block, args)
    return codes


def dequantize_defines(out_dtype: str, vector: int) -> dict[str, int]:
    """The defines of the dequantizing kernel."""
    return {"OUTPUT": format_code(out_dtype), "VECTOR": vector}


@kernel("int8.dequantize_per_group", dialects=BASE)
def dequantize_per_group(
    codes: Any, scales: Any, *, dialect: str = "ieee", out_dtype: str = "fp32"
) -> Any:
    """codes: s8 (M, K); scales: fp32 (1, Q) or (M, Q). Returns out_dtype (M, K)."""
    check_dequantize_per_group(codes, scales, dialect, out_dtype)
    (M, K), (S, Q), out = codes.shape, scales.shape, empty(codes, codes.shape, out_dtype)
    G = K // Q
    vector = vector_width(G, [codes], VECTOR_BYTES // DTYPES[out_dtype].itemsize)
    wide = lanes(G // vector, KEPT, 32 // vector)
    together = side_by_side(wide)
    args = codes, scales, out, np.int32(M * Q), np.int32(G), np.int32(Q), np.int32(S)
    told = dequantize_defines(out_dtype, vector)
    run(SOURCE, "dequantize_groups", told, (ceil_div(M * Q, together),), (wide, together), args)
    return out


def configurations(full: bool) -> Iterator[Configuration]:
    """See configuration.py."""
    for spoken in (one for one in speaking(full, *TYPICAL) if one.name in SPOKEN):
        for dtype in spoken.inputs:
            for vector in widths(dtype, spoken.name):
                if not full and not _typical(spoken.name, dtype, vector):
                    continue
                told = defines(spoken.under(FAMILY), dtype, vector)
                path = f"{dtype} x{vector}"
                for kernel_name, op in KERNELS.items():
                    if op == "int8.quantize_static_per_group" and spoken.name not in BASE:
                        continue
                    yield Configuration(op, "", SOURCE, kernel_name, told, spoken.name, path)
    for out_dtype in FLOATS:
        every = widths(out_dtype)
        for vector in every if full else (every[0], 1):
            told = dequantize_defines(out_dtype, vector)
            op, path = "int8.dequantize_per_group", f"{out_dtype} x{vector}"
            yield Configuration(op, "", SOURCE, "dequantize_groups", told, "", path)


def _typical(dialect: str, dtype: str, vector: int) -> bool:
    """fp16 at its widest in every dialect; in ieee the others at their widest, and fp16 x1."""
    widest = vector == widths(dtype)[0]
    if dialect == "ieee":
        return widest or (dtype == "fp16" and vector == 1)
    return widest and dtype == "fp16"
