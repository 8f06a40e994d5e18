"""Launchers of int8_gemm_group.cu: the GEMM with a scale per row and group along K.

Shapes, dtypes and errors are those of reference/int8_gemm_group.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels_cupy.configuration import COPIES, Configuration, speaking
from kernels_cupy.geometry import ceil_div, copy_width, format_code, rules
from kernels_cupy.launch import Dim, empty, kernel, run
from reference.dialects import Dialect
from reference.int8_gemm_group import SPOKEN, check_gemm_group

SOURCE = "int8_gemm_group.cu"
STEP = 32  # codes of an mma: where the pipeline's groups can end
TILES: dict[str, tuple[Dim, int]] = {  # kernel -> its tile, its threads
    "gemm_group_dp4a": ((64, 64), 256),
    "gemm_group_pipeline_64": ((64, 128), 128),
    "gemm_group_pipeline_16": ((16, 128), 128),
}
FEW_ROWS = 16  # up to here the tile of 16 rows wastes less


def defines(dialect: Dialect, copy: int) -> dict[str, int]:
    """The defines of int8_gemm_group.cu."""
    return {"COPY": copy, **rules(dialect, "group_epilogue")}


def _launch(
    name: str,
    a: Any,
    b: Any,
    vectors: tuple[Any, Any, Any],
    told: dict[str, int],
    out_dtype: str,
) -> Any:
    (M, K), N, Q = a.shape, b.shape[0], vectors[0].shape[1]
    out = empty(a, (M, N), out_dtype)
    (rows, columns), threads = TILES[name]
    grid = (ceil_div(M, rows) * ceil_div(N, columns),)
    sizes = map(np.int32, (M, N, Q, K // Q, format_code(out_dtype)))
    run(SOURCE, name, told, grid, (threads,), (a, b, *vectors, out, *sizes))
    return out


@kernel("int8.gemm_group", "dp4a")
def gemm_group_dp4a(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """a: s8 (M, Q*G); b: s8 (N, Q*G); a_scales: fp32 (M, Q); b_scales: fp32 (N, Q); bias: fp32
    (N,) or None. Returns out_dtype (M, N). Shared-memory tiles, dp4a; any G >= 1.
    """
    spoken = check_gemm_group(a, b, a_scales, b_scales, bias, dialect, out_dtype)
    told = defines(spoken, copy_width(a.shape[1] // a_scales.shape[1], a, b))
    vectors = a_scales, b_scales, bias
    return _launch("gemm_group_dp4a", a, b, vectors, told, out_dtype)


@kernel("int8.gemm_group", "pipeline")
def gemm_group_pipeline(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """As gemm_group_dp4a, by tensor cores behind a cp.async pipeline.

    Groups must end where an mma ends, and codes come 16 bytes at a time: where G is no multiple of
    32, or a or b does not start at a multiple of 16 bytes, gemm_group_dp4a's kernel runs.
    """
    spoken = check_gemm_group(a, b, a_scales, b_scales, bias, dialect, out_dtype)
    size, vectors = a.shape[1] // a_scales.shape[1], (a_scales, b_scales, bias)
    copy = copy_width(size, a, b)
    if size % STEP or copy < 16:
        name = "gemm_group_dp4a"
    else:
        name = f"gemm_group_pipeline_{16 if a.shape[0] <= FEW_ROWS else 64}"
    return _launch(name, a, b, vectors, defines(spoken, copy), out_dtype)


def configurations(full: bool) -> Iterator[Configuration]:
    """See configuration.py."""
    for spoken in speaking(full, *SPOKEN):
        if spoken.name not in SPOKEN:
            continue
        for copy in COPIES if full else (16,):
            told = defines(spoken, copy)
            for name in TILES:
                if copy < 16 and name != "gemm_group_dp4a":
                    continue
                op, variant = "int8.gemm_group", name.split("_")[2]
                yield Configuration(op, variant, SOURCE, name, told, spoken.name, f"copy {copy}")
