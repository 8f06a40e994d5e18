"""Launchers of int8_activation.cu: SiLU-and-multiply and GELU with INT8 output.

Shapes, dtypes and errors are those of reference/int8_activation.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels_cupy.configuration import Configuration, speaking
from kernels_cupy.geometry import format_code, row_geometry, rules, vector_width
from kernels_cupy.launch import address, empty, kernel, run
from reference.dialects import Dialect
from reference.int8_activation import (
    SPOKEN,
    check_gelu,
    check_gelu_static,
    check_silu_mul,
    check_silu_mul_static,
)
from reference.numerics import dtype_name

SOURCE = "int8_activation.cu"
ACTIVATIONS = ("silu_mul", "gelu_erf", "gelu_tanh")  # ACTIVATION in SOURCE
KERNELS = {"activate_rows": "", "activate_static": "_static"}  # kernel in SOURCE -> end of the op
FIELDS = (
    *("arithmetic", "multiplier", "static_multiplier", "rounding", "clamp", "zero", "nan"),
    "intermediate",
)
KEPT = 2  # vectors per thread that row_values.cuh keeps in registers
# Elements per access: 16 bytes; 4, by which a warp still moves whole lines; one.
WIDTHS = {"fp32": (4, 1), "fp16": (8, 2, 1), "bf16": (8, 2, 1)}


def width(x: Any, columns: int, *others: Any) -> int:
    """Elements per access for rows of x of `columns`, as the addresses allow; `others` go by as
    many elements, in accesses of up to 16 bytes.
    """
    dtype = dtype_name(x.dtype) or ""
    possible = vector_width(columns, [x], WIDTHS[dtype][0])
    return next(
        one
        for one in WIDTHS[dtype]
        if one <= possible
        and not any(address(other) % min(16, one * other.dtype.itemsize) for other in others)
    )


def defines(dialect: Dialect, dtype: str, vector: int, activation: str) -> dict[str, int]:
    """The defines of int8_activation.cu."""
    code = ACTIVATIONS.index(activation)
    told = {"INPUT": format_code(dtype), "VECTOR": vector, "ACTIVATION": code}
    return {**told, **rules(dialect, *FIELDS)}


def _activate(x: Any, K: int, scales: Any, spoken: Dialect, activation: str) -> Any:
    M, vector = x.shape[0], width(x, K)
    told = defines(spoken, dtype_name(x.dtype) or "", vector, activation)
    codes, sizes = empty(x, (M, K), "s8"), (np.int32(M), np.int32(K))
    if scales is None:
        grid, block = row_geometry(M, K // vector, KEPT)
        own = empty(x, (M,), "fp32")
        run(SOURCE, "activate_rows", told, grid, block, (x, codes, own, *sizes))
        return codes, own
    grid, block = row_geometry(M, K // vector)
    args = x, scales, codes, *sizes, np.int32(scales.size)
    run(SOURCE, "activate_static", told, grid, block, args)
    return codes


@kernel("int8.silu_mul_quantize")
def silu_mul_quantize(x: Any, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """x: fp32, fp16 or bf16 (M, 2 * K), gate | up. Returns codes s8 (M, K), scales fp32 (M,)."""
    spoken = check_silu_mul(x, dialect)
    result: tuple[Any, Any] = _activate(x, x.shape[1] // 2, None, spoken, "silu_mul")
    return result


@kernel("int8.silu_mul_quantize_static")
def silu_mul_quantize_static(x: Any, scales: Any, *, dialect: str = "ieee") -> Any:
    """x: fp32, fp16 or bf16 (M, 2 * K), gate | up; scales: fp32 (1,) or (M,). Returns codes s8
    (M, K).
    """
    spoken = check_silu_mul_static(x, scales, dialect)
    return _activate(x, x.shape[1] // 2, scales, spoken, "silu_mul")


@kernel("int8.gelu_quantize")
def gelu_quantize(x: Any, *, dialect: str = "ieee", form: str = "erf") -> tuple[Any, Any]:
    """x: fp32, fp16 or bf16 (M, K). Returns codes s8 (M, K), scales fp32 (M,)."""
    spoken = check_gelu(x, dialect, form)
    result: tuple[Any, Any] = _activate(x, x.shape[1], None, spoken, f"gelu_{form}")
    return result


@kernel("int8.gelu_quantize_static")
def gelu_quantize_static(x: Any, scales: Any, *, dialect: str = "ieee", form: str = "erf") -> Any:
    """x: fp32, fp16 or bf16 (M, K); scales: fp32 (1,) or (M,). Returns codes s8 (M, K)."""
    spoken = check_gelu_static(x, scales, dialect, form)
    return _activate(x, x.shape[1], scales, spoken, f"gelu_{form}")


def configurations(full: bool) -> Iterator[Configuration]:
    """See configuration.py."""
    for spoken in speaking(full, *SPOKEN):
        for activation in ACTIVATIONS if spoken.name in SPOKEN else ():
            for dtype, vectors in WIDTHS.items():
                for vector in vectors:
                    if full or _typical(spoken.name, dtype, vector, activation):
                        yield from _both(spoken, dtype, vector, activation)


def _both(spoken: Dialect, dtype: str, vector: int, activation: str) -> Iterator[Configuration]:
    told = defines(spoken, dtype, vector, activation)
    path = f"{dtype} x{vector} {activation}"
    op = "int8.silu_mul_quantize" if activation == "silu_mul" else "int8.gelu_quantize"
    for name, end in KERNELS.items():
        yield Configuration(f"{op}{end}", "", SOURCE, name, told, spoken.name, path)


def _typical(dialect: str, dtype: str, vector: int, activation: str) -> bool:
    """fp16 at its widest everywhere; SiLU in ieee in every dtype, and element by element."""
    widest = vector == WIDTHS[dtype][0]
    if dialect == "ieee" and activation == "silu_mul":
        return widest or (dtype == "fp16" and vector == 1)
    return widest and dtype == "fp16"
