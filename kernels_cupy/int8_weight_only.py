"""Launcher of int8_weight_only.cu: floats times INT8 weights.

Shapes, dtypes and errors are those of reference/int8_weight_only.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels_cupy.configuration import Configuration, speaking
from kernels_cupy.geometry import ceil_div, format_code, rules, vector_width
from kernels_cupy.launch import empty, kernel, run
from reference.dialects import Dialect
from reference.int8_weight_only import SPOKEN, check_weight_only
from reference.numerics import dtype_name
from reference.validate import FLOATS

SOURCE = "int8_weight_only.cu"
WARPS, COLUMNS = 4, 4  # of a block; rows of w that a warp has
ROWS = (1, 4, 8)  # rows of x that a warp has, one kernel each
EXACT = 0x4B000000  # bits of 2**23; int8_weight_only.cu says what for
VECTORS = (8, 4, 1)  # elements of x, and codes, per access


def divider(size: int) -> tuple[int, int]:
    """(multiplier, shift) with k // size == (k * multiplier // 2**32 + k) >> shift, 0 <= k < 2**31.

    Granlund and Montgomery, "Division by invariant integers using multiplication" (1994), with the
    rounded-up reciprocal of figure 4.1.
    """
    shift = (size - 1).bit_length()
    return ((1 << 32) * ((1 << shift) - size)) // size + 1, shift


def defines(dialect: Dialect, dtype: str, vector: int) -> dict[str, int]:
    """The defines of int8_weight_only.cu. fp32 weights are fp32 in every dialect."""
    told = {"INPUT": format_code(dtype), "VECTOR": vector}
    return {
        **told,
        "INTERMEDIATE_RULE": 0,
        **(rules(dialect, "intermediate") if dtype != "fp32" else {}),
    }


@kernel("int8.weight_only_linear")
def weight_only_linear(
    x: Any,
    w_codes: Any,
    w_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """x: fp32, fp16 or bf16 (M, K); w_codes: s8 (N, K); w_scales: fp32 (N, Q); bias: fp32 (N,) or
    None. Returns out_dtype (M, N). One launch; weights are read once per 8 rows of x.
    """
    spoken = check_weight_only(x, w_codes, w_scales, bias, dialect, out_dtype)
    (M, K), (N, Q) = x.shape, w_scales.shape
    out = empty(x, (M, N), out_dtype)
    width = vector_width(K, [x, w_codes], VECTORS[0])
    vector = next(one for one in VECTORS if one <= width)
    rows = next((one for one in ROWS if one >= M), ROWS[-1])
    grid = (ceil_div(M, rows) * ceil_div(N, WARPS * COLUMNS),)
    multiplier, shift = divider(K // Q)
    division = np.uint32(multiplier), np.int32(shift), np.uint32(EXACT)
    told = defines(spoken, str(dtype_name(x.dtype)), vector)
    arrays = x, w_codes, w_scales, bias, out
    sizes = *map(np.int32, (M, N, K, Q)), *division, np.int32(format_code(out_dtype))
    run(SOURCE, f"weight_only_{rows}", told, grid, (32 * WARPS,), (*arrays, *sizes))
    return out


def configurations(full: bool) -> Iterator[Configuration]:
    """See configuration.py."""
    for spoken in speaking(full, *SPOKEN):
        if spoken.name not in SPOKEN:
            continue
        for dtype in FLOATS if full else ("fp32", "fp16"):
            for vector in VECTORS if full else VECTORS[:1]:
                told = defines(spoken, dtype, vector)
                for rows in ROWS:
                    op, name, path = (
                        "int8.weight_only_linear",
                        f"weight_only_{rows}",
                        f"{dtype} x{vector}",
                    )
                    yield Configuration(op, "", SOURCE, name, told, spoken.name, path)
