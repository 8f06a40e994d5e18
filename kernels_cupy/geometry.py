"""Grids, blocks and vector widths that several launchers share, and the dialect as defines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernels_cupy.launch import Dim, address
from reference.dialects import Dialect
from reference.validate import FLOATS

KEPT = 4  # vectors per thread that int8_quantize.cu keeps in registers
MAX_THREADS = 1024
S32 = len(FLOATS)  # INT32 in tile.cuh: accumulators, not floats


def format_code(name: str) -> int:
    """The number of a float format in formats.cuh."""
    return FLOATS.index(name)


def rules(dialect: Dialect, *fields: str) -> dict[str, int]:
    """The defines that tell a kernel these fields of a dialect: {"ZERO_RULE": 0, ...}."""
    return {f"{name.upper()}_RULE": dialect.code(name) for name in fields}


def ceil_div(length: int, part: int) -> int:
    return -(-length // part)


def row_geometry(rows: int, vectors: int, kept: int = KEPT) -> tuple[Dim, Dim]:
    """(grid, block) of a row kernel, for rows of `vectors` vectors: up to `kept` per thread, and
    four rows to a block where a warp is enough for one.
    """
    threads = min(MAX_THREADS, 32 * ceil_div(vectors, 32 * kept))
    together = min(rows, 4) if threads == 32 else 1
    return (ceil_div(rows, together),), (threads, together)


def vector_width(columns: int, arrays: Sequence[Any], largest: int) -> int:
    """Elements per access: the largest power of two up to `largest` that divides every row and
    every array's address.
    """
    width = largest
    while width > 1 and (
        columns % width or any(address(a) % (width * a.dtype.itemsize) for a in arrays)
    ):
        width //= 2
    return width


def copy_width(depth: int, *codes: Any) -> int:
    """Bytes per load of code matrices with rows of `depth`: 16, 4 or 1."""
    for width in (16, 4):
        if depth % width == 0 and all(address(array) % width == 0 for array in codes):
            return width
    return 1
