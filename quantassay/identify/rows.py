"""Rows built at the places where dialects part, for probes.py.

Contract: `special` holds the values that rules are about: ties of every scale rule and of zero
points, zero, NaN and infinite rows, one-sided ranges, magnitudes around every floor and over the
whole range. `parting` holds rows in which two of the formulas x/s, x*(1/s) and x*(L/amax) round to
other integers, found by trying every tie k + 1/2 under many an amax. Same rows on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.dialects import FIELDS
from reference.numerics import DTYPES

Array = NDArray[Any]
COLUMNS = 8  # of a row
STEPS = (0.1, 0.9, 1.1, 3.0, 90.0, 130.0, 200.0, 300.0)  # around a floor, of amax or of a scale
SIZES = (127.0, 127.5, 255.0)  # L: what amax, or a range, is divided by
MANTISSAS = {"fp32": 1024, "fp16": 1024, "bf16": 128}  # of an amax in [1, 2) that are tried
EACH = 5  # rows that part a pair of formulas
F32 = np.float32


def built(dtype: str, sparse: bool = False) -> Array:
    """All rows, (rows, COLUMNS) of the dtype. sparse: fewer magnitudes, a row per pair."""
    return np.concatenate([special(dtype, sparse), parting(dtype, 1 if sparse else EACH)])


def special(dtype: str, sparse: bool = False) -> Array:
    """Rows of special values that the dtype can hold, the last value of each repeated."""
    rows = [[0.0], [-0.0], [0.0, -0.0], [np.nan], [np.nan, 1.0, -0.5], [1.0, np.nan], [np.inf, 1.0]]
    rows += [[-np.inf, 1.0], [np.inf, -np.inf, np.nan, 1.0], [1.5], [-1.5], [100.0, 101.0, 100.5]]
    rows += [[-101.0, -100.0], [1.0, 3.0], [-3.0, -1.0], [-2.0, 1.0], [-1.0, 2.0]]
    for size in (127.0, 127.5, 128.0, 255.0):  # ties, where the scale is 1 in a rule of this size
        rows.append([size, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5])
        rows.append([-size, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, -126.5])
        rows.append([-size, size, size - 0.5, 0.5 - size, 0.25, -0.75, 3.5, -4.5])
    for low in (0.0, -0.5, -1.5, -127.5, -128.5, -254.5, -255.0):  # ties of a zero point
        rows.append([low, low + 255.0, 0.5, 1.5, 2.5, -0.5, low + 127.5, low + 0.5])
    pattern = [1.0, -0.7, 0.3, 0.001, -0.49, 0.2, 0.9, -0.05]
    every = 4 if sparse else 1
    for floor in floors():
        rows += [[floor * step * one for one in pattern] for step in STEPS[::every]]
    rows += [[10.0**power * one for one in pattern] for power in range(-45, 39, 3 * every)]
    padded = np.array([(row + row[-1:] * COLUMNS)[:COLUMNS] for row in rows])
    made = _as(dtype, padded)
    lost = np.isinf(made.astype(F32)) & ~np.isinf(padded)
    return np.ascontiguousarray(made[~lost.any(axis=1)])


def floors() -> list[float]:
    """The numbers among the words of dialects, such as 1e-10 and 2^-23, and the smallest normal
    numbers: what ranges and scales are raised to."""
    found = {2.0**-14, 2.0**-126}
    for word in (word for words in FIELDS.values() for word in words):
        found |= {float(one) for one in re.findall(r"\b\d+e-\d+", word)}
        found |= {2.0 ** -int(one) for one in re.findall(r"\b2(?:\^|\*\*)-(\d+)", word)}
    return sorted(found)


def parting(dtype: str, each: int = EACH) -> Array:
    """Up to `each` rows per pair of formulas and size L, (rows, COLUMNS)."""
    rows: dict[bytes, Array] = {}
    for size in SIZES:
        ties = np.arange(int(size)) + 0.5
        amax = _amax(dtype)
        x = _as(dtype, ties * amax.astype(np.float64) / size)
        wide, scale = x.astype(F32), amax.astype(F32) / F32(size)
        codes = [
            np.rint(wide / scale),
            np.rint(wide * (F32(1) / scale)),
            np.rint(wide * (F32(size) / amax.astype(F32))),
        ]
        for a, b in combinations(codes, 2):
            for row in _where(x, amax, a != b, each):
                rows[row.tobytes()] = row
    found = list(rows.values())
    return np.stack(found) if found else np.empty((0, COLUMNS), DTYPES[dtype])


def scaled(dtype: str, each: int = EACH) -> tuple[Array, Array]:
    """(x (rows, COLUMNS), scales fp32 (rows,)): rows in which x/s and x*(1/s) part, ties with both
    signs among them. The scales are values of the dtype."""
    scales = _amax(dtype)
    ties = np.arange(127) + 0.5
    x = _as(dtype, ties * scales.astype(np.float64))
    wide, s = x.astype(F32), scales.astype(F32)
    apart = np.rint(wide / s) != np.rint(wide * (F32(1) / s))
    chosen = np.argsort(-apart.sum(axis=1), kind="stable")[: 3 * each]
    rows = [np.array([0.5, -0.5, 1.5, -1.5, 2.5, 300.0, -300.0, -127.5])]
    used = [1.0]
    for at in chosen[apart[chosen].any(axis=1)]:
        values = x[at][apart[at]].astype(np.float64)[:COLUMNS]
        rows.append(np.resize(values, COLUMNS))
        used.append(float(scales[at, 0]))
    return _as(dtype, np.stack(rows)), np.array(used, F32)


def _amax(dtype: str) -> Array:
    """(count, 1): in [1, 2), over all mantissas or evenly spread ones."""
    count = MANTISSAS[dtype]
    steps = np.arange(count) / count + (np.arange(count) * 2.0**-23 if dtype == "fp32" else 0)
    return _as(dtype, 1.0 + steps)[:, None]


def _where(x: Array, amax: Array, apart: NDArray[np.bool_], each: int) -> Iterator[Array]:
    """Rows [amax, 0, elements that part, ...]: 0 makes the range of an asymmetric row amax."""
    order = np.argsort(-apart.sum(axis=1), kind="stable")[:each]
    for at in order[apart[order].any(axis=1)]:
        values = x[at][apart[at]][: COLUMNS - 2]
        head = np.array([amax[at, 0], 0], x.dtype)
        yield np.concatenate([head, np.resize(values, COLUMNS - 2)])


def _as(dtype: str, values: Array) -> Array:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.asarray(values.astype(F32).astype(DTYPES[dtype]))
