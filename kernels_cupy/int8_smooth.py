"""Launchers of int8_smooth.cu: SmoothQuant's division by a factor per channel, with INT8 output.

Shapes, dtypes and errors are those of reference/int8_smooth.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels_cupy.configuration import Configuration, speaking
from kernels_cupy.geometry import format_code, row_geometry, rules
from kernels_cupy.int8_activation import FIELDS, KEPT, WIDTHS, width
from kernels_cupy.launch import empty, kernel, run
from reference.dialects import Dialect
from reference.int8_smooth import SPOKEN, check_smooth, check_smooth_static
from reference.numerics import dtype_name

SOURCE = "int8_smooth.cu"
KERNELS = {  # kernel in SOURCE -> op
    "smooth_rows": "int8.smooth_quantize",
    "smooth_static": "int8.smooth_quantize_static",
}


def defines(dialect: Dialect, dtype: str, vector: int) -> dict[str, int]:
    """The defines of int8_smooth.cu."""
    return {"INPUT": format_code(dtype), "VECTOR": vector, **rules(dialect, *FIELDS)}


def _smooth(x: Any, smooth: Any, scales: Any, spoken: Dialect) -> Any:
    M, K = x.shape
    vector = width(x, K, smooth)
    told = defines(spoken, dtype_name(x.dtype) or "", vector)
    codes, sizes = empty(x, (M, K), "s8"), (np.int32(M), np.int32(K))
    if scales is None:
        grid, block = row_geometry(M, K // vector, KEPT)
        own = empty(x, (M,), "fp32")
        run(SOURCE, "smooth_rows", told, grid, block, (x, smooth, codes, own, *sizes))
        return codes, own
    grid, block = row_geometry(M, K // vector)
    args = x, smooth, scales, codes, *sizes, np.int32(scales.size)
    run(SOURCE, "smooth_static", told, grid, block, args)
    return codes


@kernel("int8.smooth_quantize")
def smooth_quantize(x: Any, smooth: Any, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """x: fp32, fp16 or bf16 (M, K); smooth: fp32 (K,). Returns codes s8 (M, K), scales fp32
    (M,).
    """
    result: tuple[Any, Any] = _smooth(x, smooth, None, check_smooth(x, smooth, dialect))
    return result


@kernel("int8.smooth_quantize_static")
def smooth_quantize_static(x: Any, smooth: Any, scales: Any, *, dialect: str = "ieee") -> Any:
    """x: fp32, fp16 or bf16 (M, K); smooth: fp32 (K,); scales: fp32 (1,) or (M,). Returns codes s8
    (M, K).
    """
    return _smooth(x, smooth, scales, check_smooth_static(x, smooth, scales, dialect))


def configurations(full: bool) -> Iterator[Configuration]:
    """See configuration.py."""
    for spoken in speaking(full, *SPOKEN):
        for dtype, vectors in WIDTHS.items() if spoken.name in SPOKEN else ():
            for vector in vectors:
                typical = vector == vectors[0] and (spoken.name == "ieee" or dtype == "fp16")
                if full or typical or (spoken.name, dtype, vector) == ("ieee", "fp16", 1):
                    told = defines(spoken, dtype, vector)
                    path = f"{dtype} x{vector}"
                    for name, op in KERNELS.items():
                        yield Configuration(op, "", SOURCE, name, told, spoken.name, path)
