"""Launchers of int8_pack.cu: transpose and pack.

Shapes, dtypes and errors are those of reference/int8_pack.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels_cupy.configuration import COPIES, Configuration
from kernels_cupy.geometry import ceil_div, copy_width
from kernels_cupy.launch import empty, kernel, run
from reference.int8_pack import CHUNK, PANEL, PIECE, check_pack, check_transpose

SOURCE = "int8_pack.cu"
SIDE, THREADS = 64, 256  # of transpose's tile; of both kernels' blocks


def defines(copy: int) -> dict[str, int]:
    """The defines of int8_pack.cu."""
    return {"COPY": copy}


@kernel("int8.transpose")
def transpose(w: Any, *, dialect: str = "ieee") -> Any:
    """w: s8 (K, N). Returns s8 (N, K)."""
    check_transpose(w, dialect)
    K, N = w.shape
    out = empty(w, (N, K), "s8")
    grid = (ceil_div(N, SIDE) * ceil_div(K, SIDE),)
    wide = copy_width(N, w) >= 4, copy_width(K, out) >= 4
    sizes = map(np.int32, (N, K, *wide))
    run(SOURCE, "transpose", defines(COPIES[-1]), grid, (THREADS,), (w, out, *sizes))
    return out


@kernel("int8.pack")
def pack(w_codes: Any, *, dialect: str = "ieee") -> Any:
    """w_codes: s8 (N, K), N % 8 == 0. Returns s8 (N / 8, ceil(K / 64), 512)."""
    check_pack(w_codes, dialect)
    (N, K), chunks = w_codes.shape, ceil_div(w_codes.shape[1], CHUNK)
    packed = empty(w_codes, (N // PANEL, chunks, PIECE), "s8")
    grid = (ceil_div(N // PANEL * chunks, THREADS // 32),)
    sizes = map(np.int32, (N // PANEL, K, chunks))
    told = defines(copy_width(K, w_codes))
    run(SOURCE, "pack", told, grid, (THREADS,), (w_codes, packed, *sizes))
    return packed


def configurations(full: bool) -> Iterator[Configuration]:
    """See configuration.py."""
    yield Configuration("int8.transpose", "", SOURCE, "transpose", defines(COPIES[-1]), "", "")
    for copy in COPIES:
        path = f"copy {copy}"
        yield Configuration("int8.pack", "", SOURCE, "pack", defines(copy), "", path)
