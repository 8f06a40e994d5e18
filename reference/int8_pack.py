"""Weights made ready for the GEMM: transposed to K-major, and packed for direct loads.

Contract, for codes s8; a move of bytes, the same in every dialect:

    transpose    out[n, k] = w[k, n]             from (K, N), as checkpoints of x @ w have it
    pack         packed[p, c] = rows 8 p .. 8 p + 7 of w_codes at columns 64 c .. 64 c + 63, row
                 after row: 512 bytes that a warp reads in one request; zeros beyond K

Lane l of a warp holds bytes 16 l .. 16 l + 15 of a panel's chunk: row l / 4, columns from
16 (l % 4) on. Taken as four words they are the B fragments of two mma.m16n8k32 over the chunk, if
the A operand's lanes take the same columns: a sum over K does not mind its order
(int8_gemm_packed.py).

Source: the layout is ours; Marlin (IST-DASLab/marlin) shows why weights should lie in the order in
which lanes hold them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import recipes
from reference.dialects import CORE
from reference.dialects import dialect as get_dialect
from reference.op import Arg, Op, Recipe, recipe, register
from reference.validate import check_array

Codes = NDArray[np.int8]
PANEL, CHUNK = 8, 64  # rows and columns of a piece
PIECE = PANEL * CHUNK


def check_transpose(w: Any, dialect_name: str) -> None:
    """w: s8 (K, N)."""
    check_array("w", w, ("s8",), 2)
    get_dialect(dialect_name)


def check_pack(w_codes: Any, dialect_name: str) -> None:
    """w_codes: s8 (N, K), N a multiple of 8."""
    rows, _ = check_array("w_codes", w_codes, ("s8",), 2)
    if rows % PANEL:
        raise ValueError(
            f"w_codes: got N = {rows} (its first axis); allowed: a multiple of {PANEL}"
        )
    get_dialect(dialect_name)


def transpose(w: Codes, *, dialect: str = "ieee") -> Codes:
    """w: s8 (K, N). Returns s8 (N, K), contiguous."""
    check_transpose(w, dialect)
    return np.ascontiguousarray(w.T)


def pack(w_codes: Codes, *, dialect: str = "ieee") -> Codes:
    """w_codes: s8 (N, K), N % 8 == 0. Returns s8 (N / 8, ceil(K / 64), 512).

    Raises TypeError or ValueError naming the argument.
    """
    check_pack(w_codes, dialect)
    N, K = w_codes.shape
    chunks = -(-K // CHUNK)
    padded = np.zeros((N, chunks * CHUNK), np.int8)
    padded[:, :K] = w_codes
    pieces = padded.reshape(N // PANEL, PANEL, chunks, CHUNK).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(pieces).reshape(N // PANEL, chunks, PIECE)


def unpack(packed: Codes, K: int) -> Codes:
    """The codes s8 (8 P, K) that `pack` made s8 (P, ceil(K / 64), 512) of."""
    panels, chunks, _ = packed.shape
    pieces = packed.reshape(panels, chunks, PANEL, CHUNK).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(pieces.reshape(panels * PANEL, chunks * CHUNK)[:, :K])


def _build_transpose(made: Recipe) -> dict[str, Any]:
    return {"w": recipes.codes(made, made.dim("K"), made.dim("N"), 2)}


def _build_pack(made: Recipe) -> dict[str, Any]:
    return {"w_codes": recipes.codes(made, PANEL * made.dim("P"), made.dim("K"), 2)}


def _hostile(rows: str, sizes: tuple[tuple[int, int], ...]) -> tuple[Recipe, ...]:
    return tuple(
        recipe(kind, seed=number, dtype="fp32", K=K, **{rows: count})
        for number, kind in enumerate(recipes.CODE_KINDS)
        for count, K in sizes
    )


TRANSPOSE = register(
    Op(
        name="int8.transpose",
        oracle=transpose,
        contract="out[n, k] = w[k, n]",
        inputs=(Arg("w", ("K", "N"), ("s8",)),),
        outputs=(Arg("out", ("N", "K"), ("s8",)),),
        options={"dialect": CORE},
        work={},
        build=_build_transpose,
        kinds=recipes.CODE_KINDS,
        hostile=_hostile("N", ((1, 1), (3, 7), (64, 64), (65, 68), (68, 66), (130, 31))),
        dims=("N", "K"),
        takes=("w_kn",),
        gives=("w_nk",),
    )
)
PACK = register(
    Op(
        name="int8.pack",
        oracle=pack,
        contract="8 x 64 pieces of a K-major weight, each 512 bytes in lane order; zeros beyond K",
        inputs=(Arg("w_codes", ("8*P", "K"), ("s8",)),),
        outputs=(Arg("packed", ("P", "(K+63)//64", PIECE), ("s8",)),),
        options={"dialect": CORE},
        work={},
        build=_build_pack,
        kinds=recipes.CODE_KINDS,
        hostile=_hostile("P", ((1, 1), (3, 7), (2, 64), (1, 68), (5, 80), (2, 131))),
        dims=("P", "K"),
        takes=("w_codes",),
        gives=("packed",),
    )
)
