"""Formats, roundings and the exact integer GEMM: arithmetic that no dialect changes.

Contract: every conversion rounds to nearest, ties to even, keeps subnormals, overflows to
infinity, and gives NaN its canonical GPU bits (fp32 0x7fffffff, fp16 and bf16 0x7fff). Integer
GEMMs are exact: float32 BLAS multiplies K-blocks whose largest possible sum stays within 2**24,
and the blocks are added in int32 with two's complement wrap.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

DTYPES: dict[str, np.dtype[Any]] = {
    "fp32": np.dtype(np.float32),
    "fp16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "s8": np.dtype(np.int8),
    "u8": np.dtype(np.uint8),
    "s32": np.dtype(np.int32),
}
NAMES: dict[np.dtype[Any], str] = {dtype: name for name, dtype in DTYPES.items()}
SMALLEST_NORMAL: dict[str, float] = {"fp32": 2.0**-126, "fp16": 2.0**-14, "bf16": 2.0**-126}
EPSILON: dict[str, float] = {"fp32": 2.0**-23, "fp16": 2.0**-10, "bf16": 2.0**-7}
NAN_BITS: dict[str, int] = {"fp32": 0x7FFFFFFF, "fp16": 0x7FFF, "bf16": 0x7FFF}

FLOAT32_EXACT = 1 << 24  # every integer up to here is a float32
INT32_MAX = (1 << 31) - 1
RANGES: dict[str, tuple[int, int]] = {"s8": (-128, 127), "u8": (0, 255)}


def dtype_name(dtype: Any) -> str | None:
    """Our name of a NumPy dtype ("fp16", "s8", ...), or None."""
    try:
        return NAMES.get(np.dtype(dtype))
    except TypeError:  # no dtype at all
        return None


def canonical_nan(values: NDArray[Any]) -> NDArray[Any]:
    """A copy of a float array in which every NaN has the GPU's canonical bits."""
    name = NAMES[values.dtype]
    bits = values.view(f"u{values.dtype.itemsize}").copy()
    bits[np.isnan(values)] = NAN_BITS[name]
    return bits.view(values.dtype)


def to_float32(values: NDArray[Any]) -> Float32:
    """fp16, bf16 or fp32 to fp32: exact; NaN becomes canonical."""
    wide = values.astype(np.float32)
    return canonical_nan(wide) if np.isnan(wide).any() else wide


def round_to(values: Float32, name: str) -> NDArray[Any]:
    """fp32 to "fp32", "fp16" or "bf16", to nearest even; NaN becomes canonical."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = values.astype(DTYPES[name])
    return canonical_nan(narrow) if np.isnan(narrow).any() else narrow


def fma32(a: Float32, b: Float32, c: Float32) -> Float32:
    """round(a * b + c) with a single rounding, as PTX `fma.rn.f32`.

    The product of two float32 is exact in float64; the sum is rounded to odd there (Boldo and
    Melquiond, "Emulation of FMA and correctly rounded sums", 2008), after which the rounding to
    float32 is the correct one.
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        product = a.astype(np.float64) * b.astype(np.float64)
        addend = np.asarray(c).astype(np.float64)
        total = product + addend
        # Knuth's two-sum: the exact error of the addition.
        virtual = total - product
        error = (product - (total - virtual)) + (addend - virtual)
        bits = total.view(np.int64).copy()
        inexact = np.isfinite(total) & (error != 0) & ((bits & 1) == 0)
        toward = np.where((error > 0) == (total > 0), 1, -1)
        bits[inexact] += toward[inexact]
        return canonical_nan(bits.view(np.float64).astype(np.float32))


def k_block(a: tuple[int, int], b: tuple[int, int]) -> int:
    """Longest K whose every partial sum of products is exact in float32, for operands in [lo, hi].

    1024 for s8 x s8, 514 for u8 x s8, 258 for u8 x u8.
    """
    return FLOAT32_EXACT // _largest_product(a, b)


def k_limit(a: tuple[int, int], b: tuple[int, int]) -> int:
    """Longest K whose every partial sum fits int32: 131,071 for s8 x s8."""
    return INT32_MAX // _largest_product(a, b)


def _largest_product(a: tuple[int, int], b: tuple[int, int]) -> int:
    return max(abs(x * y) for x in a for y in b)


_COPY = 1 << 23  # elements of a in a float32 copy at a time
_PIECE = 1 << 18  # elements of b in a float32 copy: stays in the cache
_FEW_ROWS = 32  # up to here reading b is the cost: its pieces go to several threads
_DEPTH = 1024  # K-blocks need not be longer, even where narrow operands would allow it
_WORKERS = min(4, os.cpu_count() or 1)


def int_gemm(
    a: NDArray[Any],
    b: NDArray[Any],
    a_range: tuple[int, int] | None = None,
    b_range: tuple[int, int] | None = None,
) -> NDArray[np.int32]:
    """a @ b.T, exact modulo 2**32, through float32 BLAS.

    a: s8 or u8 (M, K); b: s8 or u8 (N, K); result: s32 (M, N), two's complement if a sum leaves
    int32 (`k_limit` says from which K on that can happen). The ranges default to the dtypes';
    narrower operands (4-bit codes) allow longer K-blocks. Extra memory is bounded (about 50 MB)
    whatever the size, as long as 32 rows of a fit.
    """
    step = k_block(a_range or RANGES[NAMES[a.dtype]], b_range or RANGES[NAMES[b.dtype]])
    step = min(step, _DEPTH)
    (M, K), N = a.shape, b.shape[0]
    out = np.empty((M, N), dtype=np.int32)
    few = M <= _FEW_ROWS
    piece = min(N, max(_FEW_ROWS, (4 * _PIECE if few else _PIECE) // K))
    workers = _WORKERS if few and piece < N else 1
    share = -(-N // (piece * workers)) * piece
    rows = max(_FEW_ROWS, _COPY // K)
    for m in range(0, M, rows):
        left = a[m : m + rows].astype(np.float32)

        def strip(n: int, m: int = m, left: Float32 = left) -> None:
            _strip(left, b[n : n + share], out[m : m + rows, n : n + share], step, piece)

        if workers == 1:
            strip(0)
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(strip, range(0, N, share)))
    return out


def _strip(left: Float32, b: NDArray[Any], out: NDArray[np.int32], step: int, piece: int) -> None:
    """out = left @ b.T: b is converted `piece` rows at a time and multiplied by K-blocks."""
    rows, K = left.shape
    wide = np.empty((piece, K), dtype=np.float32)
    sums = np.empty((rows, piece), dtype=np.float32)
    whole = np.empty((rows, piece), dtype=np.int32)
    for n in range(0, b.shape[0], piece):
        target = out[:, n : n + piece]
        count = target.shape[1]
        right = wide[:count]
        np.copyto(right, b[n : n + count])
        for k in range(0, K, step):
            depth = slice(k, k + step)
            part = np.matmul(left[:, depth], right[:, depth].T, out=sums[:, :count])
            if k == 0:
                np.copyto(target, part, casting="unsafe")
            else:
                np.copyto(whole[:, :count], part, casting="unsafe")
                target += whole[:, :count]
