"""Inputs built to break kernels: each kind is a few lines of NumPy over a seeded generator.

Contract: the same recipe gives the same bytes on every machine with the same NumPy. Arrays of any
size >= 1 are valid for every kind; a kind whose feature does not fit (two outlier channels in one
column) shows as much of it as fits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reference.numerics import DTYPES, INT32_MAX, round_to, to_float32

if TYPE_CHECKING:
    from reference.op import Recipe

Float64 = NDArray[np.float64]
Make = Callable[[np.random.Generator, int, int, str], Float64]

# Per dtype: smallest normal, smallest subnormal, largest finite.
_LIMITS = {
    "fp32": (2.0**-126, 2.0**-149, float(np.finfo(np.float32).max)),
    "fp16": (2.0**-14, 2.0**-24, 65504.0),
    "bf16": (2.0**-126, 2.0**-133, 3.3895313892515355e38),
}


def _normal(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
    return rng.standard_normal((rows, columns)) * np.exp2(rng.integers(-6, 7, (rows, 1)))


def _ties(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
    """Quotients k + 1/2 exactly: amax is 127 times a scale with few bits. Every eighth is the float
    below 1/2, which v + 1/2 rounds up to 1.
    """
    few = (1.0,) if dtype == "bf16" else (1.0, 3.0, 5.0)
    scale = rng.choice(np.array(few), (rows, 1)) * np.exp2(rng.integers(-6, 3, (rows, 1)))
    halves = rng.integers(-127, 127, (rows, columns)) + 0.5
    halves[:, 3::8] = np.copysign(0.5 - 2.0**-25, halves[:, 3::8])
    halves[np.arange(rows), rng.integers(0, columns, rows)] = rng.choice((-127.0, 127.0), rows)
    return halves * scale


def _near_ties(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
    """Quotients within an ulp or so of k + 1/2 under scales of all bits: every multiplier shows."""
    amax = rng.uniform(1.0, 2.0, (rows, 1)) * np.exp2(rng.integers(-6, 7, (rows, 1)))
    amax = amax.astype(np.float32)
    scale = (amax / np.float32(127)).astype(np.float64)
    x = (rng.integers(-127, 127, (rows, columns)) + 0.5) * scale
    x[np.arange(rows), rng.integers(0, columns, rows)] = amax[:, 0]
    return x


def _beside_ties(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
    """Products with 127/amax that lie 1.5 to 4 ulp of that factor beside k + 1/2: a factor that is
    off by 3 ulp moves some over it that 2 ulp don't.
    """
    amax = (rng.uniform(1.0, 2.0, (rows, 1)) * np.exp2(rng.integers(-6, 7, (rows, 1)))).astype(
        np.float32
    )
    factor = np.float32(127) / amax
    steps = rng.choice((-1.0, 1.0), (rows, columns)) * rng.uniform(1.5, 4.0, (rows, columns))
    away = 1.0 + steps * (np.spacing(factor) / factor).astype(np.float64)
    x = (rng.integers(-127, 127, (rows, columns)) + 0.5) / factor.astype(np.float64) * away
    x[np.arange(rows), rng.integers(0, columns, rows)] = amax[:, 0]
    return np.asarray(x)


def _zeros(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
    x = np.zeros((rows, columns))
    x[1::2] = _normal(rng, rows, columns, dtype)[1::2]  # zero rows between ordinary ones
    return x


def _one_outlier(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
    x = rng.standard_normal((rows, columns))
    x[np.arange(rows), rng.integers(0, columns, rows)] *= 1000.0
    return x


def _outlier_channels(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
    x = rng.standard_normal((rows, columns))
    x[:, rng.integers(0, columns, max(1, columns // 64))] *= 60.0
    return x


def _subnormal(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
    """Row maxima from 1 to twice the smallest normal, in steps of the smallest subnormal.

    Evenly over the orders of magnitude, every third from 190 to 260 steps: there a scale of few
    bits is so far off that a quotient passes the clamp.
    """
    normal, smallest, _ = _LIMITS[dtype]
    steps = np.exp2(rng.uniform(0.0, np.log2(2.0 * normal / smallest), (rows, 1)))
    steps[::3] = rng.integers(190, 261, steps[::3].shape)
    x = np.rint(rng.uniform(-1.0, 1.0, (rows, columns)) * steps)
    x[np.arange(rows), rng.integers(0, columns, rows)] = np.rint(steps[:, 0])
    return np.asarray(x * smallest, np.float64)


def _saturating(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
    """Every element within an ulp or so of plus or minus amax."""
    size = np.exp2(rng.integers(-3, 4, (rows, 1))) * rng.uniform(1.0, 2.0, (rows, 1))
    nudge = 1.0 + rng.integers(-2, 1, (rows, columns)) * 2.0**-9
    return rng.choice((-1.0, 1.0), (rows, columns)) * size * nudge


def _huge(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
    x = rng.uniform(-1.0, 1.0, (rows, columns))
    x[np.arange(rows), rng.integers(0, columns, rows)] = rng.choice((-1.0, 1.0), rows)
    return x * _LIMITS[dtype][2]


def _sprinkled(value: float) -> Make:
    def make(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
        x = _normal(rng, rows, columns, dtype)
        hit = rng.random((rows, columns)) < 2.0 / columns
        hit[::3] = False  # rows without one, too
        hit[0, rng.integers(0, columns)] = True
        x[hit] = value * rng.choice((-1.0, 1.0), int(hit.sum()))
        return x

    return make


def _negzero(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
    x = rng.choice((-0.0, 0.0), (rows, columns))
    x[1::2, ::3] = -1.5
    return x


def _constant(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
    return np.ones((rows, columns)) * rng.standard_normal((rows, 1))


def _azp_ties(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
    """Quotients k + 1/2 exactly, and zero points that tie: the range is 255 times a few-bit scale,
    and reaches from 0 to 255 such steps below 0, in halves.
    """
    few = {"fp32": (1.0, 3.0, 5.0), "fp16": (1.0, 3.0), "bf16": (1.0,)}[dtype]
    scale = rng.choice(np.array(few), (rows, 1)) * np.exp2(rng.integers(-6, 3, (rows, 1)))
    below = rng.integers(0, 511, (rows, 1)) / 2
    if dtype == "bf16":
        below = np.full((rows, 1), 127.5)  # 8 bits hold no larger half
    steps = np.floor(-below) + rng.integers(0, 256, (rows, columns)) + 0.5
    steps = np.clip(steps, -below, 255 - below)
    return _with_ends(rng, steps, -below, 255 - below) * scale


def _azp_near_ties(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
    """Quotients within an ulp or so of k + 1/2 under scales of all bits."""
    width = rng.uniform(1.0, 2.0, (rows, 1)) * np.exp2(rng.integers(-6, 7, (rows, 1)))
    width = width.astype(np.float32)
    scale = (width / np.float32(255)).astype(np.float64)
    low = -width.astype(np.float64) * rng.choice((0.0, 0.5, 1.0), (rows, 1))
    steps = np.ceil(low / scale) + rng.integers(0, 255, (rows, columns)) + 0.5
    return _with_ends(rng, steps * scale, low, low + width)


def _azp_subnormal(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
    """Ranges of 120 to 382 smallest steps, on one side of 0 or both: a scale of one step, if any,
    under which quotients and zero points pass the codes' range.
    """
    steps = rng.integers(120, 383, (rows, 1)).astype(np.float64)
    low = -np.rint(steps * rng.choice((0.0, 0.3, 1.0), (rows, 1)))
    x = low + np.rint(steps * rng.random((rows, columns)))
    return _with_ends(rng, x, low + steps, low) * _LIMITS[dtype][1]


def _azp_tiny(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
    """Scales from a quarter of 2**-23 to four times it, every third within an ulp or so of it."""
    scale = np.exp2(rng.uniform(-25.0, -21.0, (rows, 1)))
    scale[::3] = 2.0**-23 * (1 + rng.integers(-2, 3, scale[::3].shape) * 2.0**-23)
    low = -255 * scale * rng.choice((0.0, 0.3, 1.0), (rows, 1))
    x = low + 255 * scale * rng.random((rows, columns))
    return _with_ends(rng, x, low, low + 255 * scale)


def _with_ends(rng: np.random.Generator, x: Float64, low: Float64, high: Float64) -> Float64:
    """x with the ends of its rows' ranges in two of its columns, or one end in its only one."""
    rows, columns = np.arange(x.shape[0]), x.shape[1]
    first = rng.integers(0, columns, rows.size)
    x[rows, (first + columns // 2) % columns] = low[:, 0]
    x[rows, first] = high[:, 0]
    return x


def _offset(rng: np.random.Generator, rows: int, columns: int, dtype: str) -> Float64:
    """Rows far from 0 for their width, such as [100, 101], down to a few ulps: zero points that are
    not forced into the codes' range lie there up to beyond int32.
    """
    centre = rng.uniform(1.0, 2.0, (rows, 1)) * np.exp2(rng.integers(-6, 8, (rows, 1)))
    width = np.exp2(-rng.integers(0, {"fp32": 24, "fp16": 11, "bf16": 8}[dtype], (rows, 1)))
    sign = rng.choice((-1.0, 1.0), (rows, 1))
    return np.asarray(sign * centre * (1 + width * rng.random((rows, columns))), np.float64)


_FLOATS: dict[str, Make] = {
    "normal": _normal,
    "ties": _ties,
    "near_ties": _near_ties,
    "zeros": _zeros,
    "one_outlier": _one_outlier,
    "outlier_channels": _outlier_channels,
    "subnormal": _subnormal,
    "saturating": _saturating,
    "huge": _huge,
    "nan": _sprinkled(np.nan),
    "inf": _sprinkled(np.inf),
    "negzero": _negzero,
    "constant": _constant,
}
_AZP = {
    "azp_ties": _azp_ties, "azp_near_ties": _azp_near_ties, "azp_subnormal": _azp_subnormal,
    "azp_tiny": _azp_tiny, "offset": _offset,
}  # fmt: skip
_DIVIDED = {"beside_ties": _beside_ties}  # where a dialect's division is approximate
KINDS = tuple(_FLOATS)
AZP_KINDS = (*KINDS, *_AZP)  # of asymmetric quantization
CODE_KINDS = ("normal", "extremes", "saturating", "zeros", "one_hot", "ramp")
SCALE_KINDS = ("nan_scale", "inf_scale", "zero_scale", "subnormal_scale", "huge_scale")
EPILOGUE_KINDS = (*CODE_KINDS, *SCALE_KINDS, "cancel")


def floats(made: Recipe, rows: int, columns: int) -> NDArray[Any]:
    """An array of the recipe's kind and dtype, (rows, columns)."""
    values = (_FLOATS | _AZP | _DIVIDED)[made.kind](made.rng(), rows, columns, made.dtype)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return values.astype(np.float32).astype(DTYPES[made.dtype])


def codes(made: Recipe, rows: int, columns: int, salt: int = 0) -> NDArray[np.int8]:
    """s8 (rows, columns). Kinds that are not about codes give random ones."""
    rng = np.random.default_rng([salt, made.seed, rows, columns])
    if made.kind == "extremes":
        return rng.choice(np.array([-128, -127, 127], np.int8), (rows, columns))
    if made.kind == "saturating":  # the largest sums: every product is 128 * 128 or 127 * 127
        return np.full((rows, columns), -128 if made.seed % 2 else 127, np.int8)
    if made.kind == "zeros":
        return np.zeros((rows, columns), np.int8)
    if made.kind == "one_hot":  # one element a row: a wrong index cannot hide
        x = np.zeros((rows, columns), np.int8)
        x[np.arange(rows), rng.integers(0, columns, rows)] = rng.integers(1, 128, rows)
        return x
    if made.kind == "ramp":  # all 256 codes, in order
        return np.arange(rows * columns).astype(np.int8).reshape(rows, columns)
    return rng.integers(-128, 128, (rows, columns), dtype=np.int8)


def accumulators(made: Recipe, rows: int, columns: int) -> NDArray[np.int32]:
    """s32 (rows, columns): GEMM results, and for "extremes" the ends of int32 and of 2**24."""
    rng = made.rng()
    if made.kind == "extremes":
        ends = [-INT32_MAX - 1, INT32_MAX, (1 << 24) + 1, -(1 << 24) - 1, (1 << 25) + 2, 0, -1]
        return rng.choice(np.array(ends, np.int32), (rows, columns))
    if made.kind == "zeros":
        return np.zeros((rows, columns), np.int32)
    size = 1 << int(rng.integers(4, 31))
    return rng.integers(-size, size, (rows, columns), dtype=np.int32)


def scales(made: Recipe, count: int, salt: int = 0) -> NDArray[np.float32]:
    """fp32 (count,): positive, or with the recipe's special values among them."""
    rng = np.random.default_rng([salt, made.seed, count])
    values = (rng.uniform(0.5, 2.0, count) * np.exp2(rng.integers(-12, 0, count))).astype(
        np.float32
    )
    special = {
        "nan_scale": np.nan,
        "inf_scale": np.inf,
        "zero_scale": 0.0,
        "subnormal_scale": 2.0**-140,
        "huge_scale": 3e38,
    }.get(made.kind)
    if special is not None:
        values[rng.random(count) < 0.5] = special
        values[0] = special
    return values


def static_scales(made: Recipe, x: NDArray[Any], count: int) -> NDArray[np.float32]:
    """fp32 (count,), count 1 or rows: near x's own amax / 127, so that codes tie and saturate;
    for every fifth seed, and "subnormal" and "huge", from the ends of the range.

    Finite, > 0 and values of x's dtype, so that every dialect may take them.
    """
    rng = np.random.default_rng(made.seed)
    magnitude = np.abs(x.astype(np.float64))
    amax = np.where(np.isfinite(magnitude), magnitude, 0.0).max(axis=1)
    factors = (1.0,) if made.kind == "near_ties" else (0.5, 1.0, 2.0)
    values = np.where(amax == 0, 1.0, amax) / 127.0 * rng.choice(factors, amax.shape)
    if made.seed % 5 == 0 or made.kind in ("subnormal", "huge"):
        ends = np.array([2.0**-149, 1e-45, 2.0**-127, 2.0**-80, 2.0**-64, 2.0**64, 2.0**80, 3e38])
        values = np.where(rng.random(amax.shape) < 0.7, rng.choice(ends, amax.shape), values)
    values = values if count > 1 else values[:1]
    _, smallest, largest = _LIMITS[made.dtype]
    values = np.clip(values, smallest, largest).astype(np.float32)
    return to_float32(round_to(values, made.dtype))


def cancelling_bias(product: NDArray[np.float32]) -> NDArray[np.float32]:
    """fp32 (N,): minus the first row of what is added to, so that a fused sum shows."""
    return -product[0]
