"""The values that a model's knobs take: roundings, formats, accumulators, orders, index maps.

Each table maps a word to a function of NumPy arrays; the words of `reference.dialects.FIELDS` are
among them. Index maps (`Rows`) and subsets (`Columns`) are functions, so that a hypothesis can
carry a number (a tile of 32 rows, a tail of K % 16).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantassay.values import bits
from reference.numerics import DTYPES, Float32, canonical_nan, fma32, round_to, to_float32

Array = NDArray[Any]
Settings = Mapping[str, Any]
Rows = Callable[[int, int], NDArray[np.int64]]  # (length, other length) -> index per element
Columns = Callable[[int], NDArray[np.bool_]]  # K -> which columns are looked at
Groups = Callable[[int, int], NDArray[np.int64]]  # (K, Q) -> group per element
F32 = np.float32


def _half_away(v: Array) -> Array:
    whole = np.trunc(v)
    return np.where(np.abs(v - whole) >= F32(0.5), whole + np.sign(v), whole)


def _half_toward_zero(v: Array) -> Array:
    whole = np.trunc(v)
    return np.where(np.abs(v - whole) > F32(0.5), whole + np.sign(v), whole)


ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "rne": np.rint,
    "half away": _half_away,
    "half_toward_zero": _half_toward_zero,
    "truncate": np.trunc,
    "floor": np.floor,
    "ceil": np.ceil,
    "half_up": lambda v: np.floor(v + F32(0.5)),
    "trunc(x+-0.5)": lambda v: np.trunc(v + np.copysign(F32(0.5), v)),
}

FORMATS: dict[str, Callable[[Array], Float32]] = {  # rounds to the format, gives fp32 again
    "fp32": lambda v: v,
    "fp16": lambda v: to_float32(round_to(v, "fp16")),
    "bf16": lambda v: to_float32(round_to(v, "bf16")),
}


def _plus(value: Array, bias: Array | None) -> Array:
    return value if bias is None else value + bias


def _fma(a: Array, b: Array, bias: Array | None) -> Array:
    if bias is None:
        return a * b
    a, b, c = np.broadcast_arrays(a, b, bias)
    return fma32(a, b, c)


def _first(acc: Array, bias: Array | None) -> Array:
    return acc if bias is None else acc + bias


ORDERS: dict[str, Callable[[Array, Array, Array, Array | None], Array]] = {
    "acc*sB*sA+bias": lambda acc, a, b, bias: _plus(acc * b * a, bias),
    "acc*sA*sB+bias": lambda acc, a, b, bias: _plus(acc * a * b, bias),
    "acc*(sA*sB)+bias": lambda acc, a, b, bias: _plus(acc * (a * b), bias),
    "sA*(sB*acc) fma bias": lambda acc, a, b, bias: _fma(acc * b, a, bias),
    "sB*(sA*acc) fma bias": lambda acc, a, b, bias: _fma(acc * a, b, bias),
    "(sA*sB)*acc fma bias": lambda acc, a, b, bias: _fma(acc, a * b, bias),
    "(acc+bias)*sB*sA": lambda acc, a, b, bias: _first(acc, bias) * b * a,
    "(acc+bias)*sA*sB": lambda acc, a, b, bias: _first(acc, bias) * a * b,
    "(acc+bias)*(sA*sB)": lambda acc, a, b, bias: _first(acc, bias) * (a * b),
    "(acc*sB+bias)*sA": lambda acc, a, b, bias: _first(acc * b, bias) * a,
    "(acc*sA+bias)*sB": lambda acc, a, b, bias: _first(acc * a, bias) * b,
    "acc*sB+bias": lambda acc, a, b, bias: _plus(acc * b, bias),
    "acc*sA+bias": lambda acc, a, b, bias: _plus(acc * a, bias),
    "fp64": lambda acc, a, b, bias: _plus(
        acc.astype(np.float64) * a * b, None if bias is None else bias.astype(np.float64)
    ).astype(F32),
}


def _int16_pairs(a: Array, b: Array) -> Array:
    """Sums of neighbouring products saturated to int16, as x86's maddubs does."""
    odd = a.shape[1] % 2
    products = np.pad(a[:, None, :] * b[None], ((0, 0), (0, 0), (0, odd)))
    pairs = products[..., ::2] + products[..., 1::2]
    return np.clip(pairs, -32768, 32767).sum(axis=2).astype(np.int32)


def _running(dtype: Any) -> Callable[[Array, Array], Array]:
    """Products added one after another in a float format."""

    def sums(a: Array, b: Array) -> Array:
        total = np.zeros((a.shape[0], b.shape[0]), dtype=dtype)
        for k in range(a.shape[1]):
            total = (total + (a[:, k, None] * b[None, :, k]).astype(dtype)).astype(dtype)
        finite = np.nan_to_num(total.astype(np.float64))
        return np.clip(finite, -(2.0**31), 2.0**31 - 1).astype(np.int64).astype(np.int32)

    return sums


def _exact(a: Array, b: Array) -> Array:
    return a @ b.T  # int64


ACCUMULATES: dict[str, Callable[[Array, Array], Array]] = {
    "int32": lambda a, b: _exact(a, b).astype(np.int32),
    "int32 saturated": lambda a, b: np.clip(_exact(a, b), -(2**31), 2**31 - 1).astype(np.int32),
    "int16": lambda a, b: _exact(a, b).astype(np.int16).astype(np.int32),
    "int16 saturated": lambda a, b: np.clip(_exact(a, b), -32768, 32767).astype(np.int32),
    "int16 pairs saturated": _int16_pairs,
    "int24": lambda a, b: (_exact(a, b) << 40 >> 40).astype(np.int32),
    "int8": lambda a, b: _exact(a, b).astype(np.int8).astype(np.int32),
    "fp32": _running(np.float32),
    "fp16": _running(np.float16),
}


def narrow(values: Array, name: str, rounding: str = "rn") -> Array:
    """fp32 (or fp64 for a wider source) to `name` under a rounding:

    rn, rz (toward zero), "via fp16", "via bf16", "saturate" (no infinity), "flush" (no subnormal).
    """
    if rounding.startswith("via "):
        values = FORMATS[rounding[4:]](values)
    out = canonical_nan(values.astype(DTYPES[name]))
    if rounding == "rz":
        return _toward_zero(values, out)
    if rounding == "saturate":
        over = np.isinf(out.astype(F32)) & np.isfinite(values)
        pattern = bits(out).copy()
        pattern[over] -= 1  # infinity's predecessor is the largest finite value
        return pattern.view(out.dtype).reshape(out.shape)
    if rounding == "flush":
        info = {"fp32": 2.0**-126, "fp16": 2.0**-14, "bf16": 2.0**-126}[name]
        wide = out.astype(F32)
        return np.where(np.abs(wide) < F32(info), np.copysign(F32(0), wide), wide).astype(out.dtype)
    return out


def _toward_zero(exact: Array, nearest: Array) -> Array:
    away = np.abs(nearest.astype(np.float64)) > np.abs(exact.astype(np.float64))
    pattern = bits(nearest).copy()
    pattern[away] -= 1
    return pattern.view(nearest.dtype).reshape(nearest.shape)


# Index maps: which entry element i takes instead of its own.
ROWS: dict[str, Rows] = {
    "the next": lambda n, _: np.minimum(np.arange(n) + 1, n - 1),
    "the next (cyclic)": lambda n, _: (np.arange(n) + 1) % n,
    "the previous": lambda n, _: np.maximum(np.arange(n) - 1, 0),
    "the previous (cyclic)": lambda n, _: (np.arange(n) - 1) % n,
    "the first": lambda n, _: np.zeros(n, dtype=np.int64),
    "the last": lambda n, _: np.full(n, n - 1),
    "the mirrored": lambda n, _: np.arange(n)[::-1],
    "the neighbour (i ^ 1)": lambda n, _: np.minimum(np.arange(n) ^ 1, n - 1),
}


def _of_group(at: Rows) -> Groups:
    return lambda K, Q: at(Q, 1)[np.arange(K) // (K // Q)]


def _of_element(at: Rows) -> Groups:
    """The group that another element of the row lies in."""
    return lambda K, Q: at(K, 1) // (K // Q)


def _of_size(size: int) -> Groups:
    return lambda K, Q: np.minimum(np.arange(K) // size, Q - 1)


# Which group's scale the elements of a row take.
GROUPS: dict[str, Groups] = {
    **{name: _of_group(at) for name, at in ROWS.items()},
    "that of element k + 1 (off by one)": _of_element(ROWS["the next"]),
    "that of element k - 1 (off by one)": _of_element(ROWS["the previous"]),
    "number k % Q (interleaved)": lambda K, Q: np.arange(K) % Q,
    **{f"number k / {size}": _of_size(size) for size in (16, 32, 64, 128, 256)},
}


def first_of(tile: int) -> Rows:
    """The first entry of the tile that i lies in."""
    return lambda n, _: np.arange(n) // tile * tile


def within(tile: int) -> Rows:
    """Entry i % tile: the index inside the tile taken for the whole index."""
    return lambda n, _: np.arange(n) % tile % n


# Subsets of the columns.
def whole_of(step: int) -> Columns:
    """All but the K % step last."""
    return lambda K: np.arange(K) < K - K % step


def head(count: int) -> Columns:
    return lambda K: np.arange(K) < count


def all_but(count: int, end: str) -> Columns:
    """Without the first or the last `count`."""
    if end == "first":
        return lambda K: np.arange(K) >= count
    return lambda K: np.arange(K) < K - count


def lanes(threads: int, vector: int, keep: Callable[[Array], Array]) -> Columns:
    """Columns of the threads that `keep` selects, `vector` neighbours per thread and turn."""
    return lambda K: keep(np.arange(K) // vector % threads)


def all_but_every(step: int, at: int) -> Columns:
    """Without the columns k with k % step == at."""
    return lambda K: np.arange(K) % step != at
