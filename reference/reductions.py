"""Float sums over rows in one fixed order, "lanes of 8": the order in which a GPU row kernel adds.

Contract, for a row of K elements and T lanes (`lanes(K)` unless told, a multiple of 32 up to 1024):

- Chunk c is elements 8c .. 8c+7 (fewer at the end) and belongs to lane c % T. A lane goes through
  its chunks in ascending order and through their elements in ascending order with one fp32 running
  value that starts at +0: products are added by round(x * y + sum), one rounding (PTX
  `fma.rn.f32`), plain sums by round(sum + x). What lies beyond K is not added: a lane without
  elements holds +0.
- Lanes are joined within each warp of 32 by a butterfly, v = round(v + v of lane ^ d) for d = 16,
  8, 4, 2, 1. With T > 32 the T/32 values of the warps, padded to 32 with +0, are joined by the same
  butterfly. Addition commutes, so that every lane ends with the same value.
- The order does not depend on how wide a kernel's accesses are, nor on the other rows.
- Subnormals are kept; overflow gives infinity, inf - inf and 0 * inf NaN, and NaN has the
  canonical bits 0x7fffffff. -0 arises only from a product that underflows to it or where all that
  is added is -0, and +0 + -0 is +0.

Error: each element passes at most `depth(K, T)` roundings, so that for finite terms
|sum - exact| <= gamma(depth) * sum |term|, gamma(n) = n u / (1 - n u), u = 2**-24 (Higham, Accuracy
and Stability of Numerical Algorithms, section 3.1), apart from underflow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.numerics import Float32, canonical_nan, fma32

CHUNK = 8  # neighbouring elements that one lane adds
WARP = 32
MAX_LANES = 1024
KEPT = 4  # chunks of a lane up to which rows get no further lanes


def lanes(K: int) -> int:
    """Lanes of a row of K elements: whole warps, so that a lane has up to KEPT chunks, or 1024."""
    chunks = -(-K // CHUNK)
    return min(MAX_LANES, WARP * -(-chunks // (WARP * KEPT)))


def depth(K: int, count: int | None = None) -> int:
    """Most roundings that an element of a row of K passes on its way into the sum."""
    T = lanes(K) if count is None else _checked(count)
    longest = CHUNK * -(-K // (CHUNK * T))  # elements of lane 0
    return longest + (5 if T == WARP else 10)


def lane_sum(x: NDArray[Any], count: int | None = None) -> Float32:
    """Sums over the last axis.

    x: fp32 (..., K); count: lanes, `lanes(K)` where None. Returns fp32 (...).
    """
    T = _lane_count(x, count)
    sums = np.zeros((*x.shape[:-1], T), np.float32)
    with np.errstate(all="ignore"):
        for columns in _steps(x.shape[-1], T):
            part = x[..., columns]
            sums[..., : part.shape[-1]] += part
        return _joined(sums)


def lane_dot(x: NDArray[Any], y: NDArray[Any], count: int | None = None) -> Float32:
    """Sums of products over the last axis; the others broadcast.

    x, y: fp32 (..., K); count: lanes, `lanes(K)` where None. Returns fp32 (...): for x of shape
    (M, 1, K) and y of shape (N, K) it is (M, N).
    """
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"y: got K = {y.shape[-1]}; allowed: {x.shape[-1]}, the K of x")
    T = _lane_count(x, count)
    leading = np.broadcast_shapes(x.shape[:-1], y.shape[:-1])
    sums = np.zeros((*leading, T), np.float32)
    for columns in _steps(x.shape[-1], T):
        left, right = x[..., columns], y[..., columns]
        some = sums[..., : left.shape[-1]]
        some[...] = fma32(left, right, some)
    with np.errstate(all="ignore"):
        return _joined(sums)


def _lane_count(x: NDArray[Any], count: int | None) -> int:
    if x.dtype != np.float32:
        raise TypeError(f"x: got dtype {x.dtype}; allowed: float32")
    return lanes(x.shape[-1]) if count is None else _checked(count)


def _checked(count: int) -> int:
    if count % WARP or not WARP <= count <= MAX_LANES:
        raise ValueError(f"count: got {count} lanes; allowed: multiples of 32 up to 1024")
    return count


def _steps(K: int, T: int) -> Iterator[slice]:
    """For every addition of a lane, in order: the columns of lanes 0, 1, 2, ..."""
    for start in range(0, K, CHUNK * T):
        for element in range(start, min(start + CHUNK, K)):
            yield slice(element, start + CHUNK * T, CHUNK)


def _joined(sums: Float32) -> Float32:
    """(..., T) to (...): the butterfly of each warp, then that of the warps."""
    warps = _butterfly(sums.reshape(*sums.shape[:-1], -1, WARP))
    if warps.shape[-1] == 1:
        return canonical_nan(warps[..., 0])
    padded = np.zeros((*warps.shape[:-1], WARP), np.float32)
    padded[..., : warps.shape[-1]] = warps
    return canonical_nan(_butterfly(padded))


def _butterfly(values: Float32) -> Float32:
    """(..., 32) to (...): what lane 0 holds in the end, and every other with it."""
    apart = WARP // 2
    while apart:
        values = values[..., :apart] + values[..., apart : 2 * apart]
        apart //= 2
    return values[..., 0]
