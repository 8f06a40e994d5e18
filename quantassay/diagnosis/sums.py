"""Float sums over rows in a chosen order: who adds what, and how the parts are joined.

Contract: `sum_of(x, y, K's order)` adds products (one rounding each, fma) or plain elements. "lanes
of 8" is the contract of reference/reductions.py, written a second time: an order is a table of
which element each lane adds at each step, and the joins are the butterflies lane by lane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.numerics import Float32, canonical_nan, fma32

F32 = np.float32
Table = NDArray[np.int64]  # (lanes, steps): element indices, -1 = none


def lane_table(K: int, vector: int, count: int) -> Table:
    """Chunks of `vector` neighbours go to `count` lanes in turn."""
    elements: list[list[int]] = [[] for _ in range(count)]
    for start in range(0, K, vector):
        elements[start // vector % count] += range(start, min(start + vector, K))
    table = np.full((count, max(map(len, elements))), -1)
    for lane, own in enumerate(elements):
        table[lane, : len(own)] = own
    return table


def lanes_of_row(K: int) -> int:
    """Lanes that a row of K elements gets: whole warps of 4 chunks of 8 a lane, or 1024."""
    chunks = (K + 7) // 8
    return int(min(1024, 32 * ((chunks + 127) // 128)))


def _lanes(x: Float32, y: Float32 | None, table: Table) -> Float32:
    """Every lane's own sum, (..., lanes)."""
    shape = x.shape[:-1] if y is None else np.broadcast_shapes(x.shape[:-1], y.shape[:-1])
    total = np.zeros((*shape, len(table)), F32)
    for step in table.T:
        busy = np.flatnonzero(step >= 0)
        own, element = total[..., busy], step[busy]
        if y is None:
            total[..., busy] = own + x[..., element]
        else:
            a, b = np.broadcast_arrays(x[..., element], y[..., element])
            total[..., busy] = fma32(a, b, own)
    return total


def butterfly(values: Float32) -> Float32:
    """(..., 32) -> (...): v + v of lane ^ d, d = 16, 8, 4, 2, 1; what lane 0 holds."""
    lane = np.arange(32)
    for apart in (16, 8, 4, 2, 1):
        values = values + values[..., lane ^ apart]
    return values[..., 0]


def _joined(lanes: Float32, across: str) -> Float32:
    """Lanes of each warp by a butterfly, then the warps, padded to 32: by another, or in turn."""
    *rows, count = lanes.shape
    warps = butterfly(lanes.reshape(*rows, count // 32, 32))
    if count == 32:
        return warps[..., 0]
    if across == "in turn":
        return _in_turn(warps)
    padded = np.zeros((*rows, 32), F32)
    padded[..., : count // 32] = warps
    return butterfly(padded)


def _in_turn(values: Float32) -> Float32:
    total = np.zeros(values.shape[:-1], F32)
    for step in range(values.shape[-1]):
        total = total + values[..., step]
    return total


def _by_lanes(
    vector: int, count: Callable[[int], int], across: str = "butterfly"
) -> Callable[[Float32, Float32 | None, int | None], Float32]:
    """count: lanes of a row of K elements, unless the op states its own number."""

    def total(x: Float32, y: Float32 | None, own: int | None) -> Float32:
        K = x.shape[-1]
        table = lane_table(K, vector, own if own is not None else count(K))
        return _joined(_lanes(x, y, table), across)

    return total


def _products(x: Float32, y: Float32 | None) -> Float32:
    return x if y is None else x * y


def _sequential(x: Float32, y: Float32 | None, own: int | None) -> Float32:
    return _lanes(x, y, np.arange(x.shape[-1])[None, :])[..., 0]


def _rounded_products(x: Float32, y: Float32 | None, own: int | None) -> Float32:
    """As the contract, but product and sum rounded apart."""
    products = _products(x, y)
    return _by_lanes(8, lanes_of_row)(products, None, own)


def _double(x: Float32, y: Float32 | None, own: int | None) -> Float32:
    wide = x.astype(np.float64)
    return np.asarray((wide if y is None else wide * y).sum(axis=-1)).astype(F32)


def _numpy(x: Float32, y: Float32 | None, own: int | None) -> Float32:
    return np.asarray(np.sum(_products(x, y), axis=-1, dtype=F32))


def _halves(x: Float32, y: Float32 | None, own: int | None) -> Float32:
    """Pairwise: neighbours, then pairs of neighbours, up to the whole row."""
    values = _products(x, y)
    while values.shape[-1] > 1:
        odd = values[..., -1:] if values.shape[-1] % 2 else values[..., :0]
        even = values[..., : values.shape[-1] // 2 * 2]
        values = np.concatenate([even[..., ::2] + even[..., 1::2], odd], axis=-1)
    return np.asarray(values[..., 0])


def _fixed(count: int) -> Callable[[int], int]:
    return lambda K: count


SUMS: dict[str, Callable[[Float32, Float32 | None, int | None], Any]] = {
    "lanes of 8": _by_lanes(8, lanes_of_row),
    "sequential": _sequential,
    "pairwise": _halves,
    "numpy": _numpy,
    "fp64": _double,
    "product and sum rounded apart": _rounded_products,
    "lanes of 4": _by_lanes(4, lanes_of_row),
    "lanes of 2": _by_lanes(2, lanes_of_row),
    "lanes of 1": _by_lanes(1, lanes_of_row),
    "warps in turn": _by_lanes(8, lanes_of_row, "in turn"),
    **{f"{vector} by {count}": _by_lanes(vector, _fixed(count))
       for vector in (1, 2, 4, 8) for count in (32, 64, 128, 256, 512, 1024)},
    **{f"{vector} by {count} in turn": _by_lanes(vector, _fixed(count), "in turn")
       for vector in (1, 2, 4, 8) for count in (64, 128, 256, 512, 1024)},
}  # fmt: skip


def sum_of(x: Float32, y: Float32 | None, order: str, count: int | None = None) -> Float32:
    """Sums over the last axis of x, or of x * y. count: lanes that the op fixes, if it does."""
    return canonical_nan(np.asarray(SUMS[order](x, y, count), F32))
