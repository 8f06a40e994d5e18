"""Sets of allowed results, where a dialect's own compiled code divides approximately.

Contract: `allowed(op, inputs, options)` gives, per output of a quantization, the smallest and the
largest result that the dialect's instruction may lead to, element by element; None where only the
oracle's bits are right. The oracle's bits are right in any case, and lie inside, except where the
ISA says that the instruction gives 0 and IEEE does not. What the PTX ISA documents of each division
(Floating Point Instructions: div), q being the correctly rounded quotient and ulp(q) the distance
of neighbouring float32 in q's binade (2**-149 below 2**-126):

- div.full.f32: "The maximum ulp error is 2 across the full range of inputs": |result - q| <= 2
  ulp(q), so that a quotient that float32 holds exactly may come out inexact too.
- div.approx.f32, which `__fdividef` is: "For |b| in [2**-126, 2**126], the maximum ulp error is 2.
  For 2**126 < |b| < 2**128, if a is infinity, div.approx.f32 returns NaN, otherwise it returns a
  sign-preserving 0." For 0 < |b| < 2**-126 no bound is documented: any magnitude is allowed.
- .ftz: "flushes subnormal inputs and results to sign-preserving zero".
- Operands that are 0, infinite or NaN give IEEE's result (2**128 stands for infinity in a
  distance): the ISA bounds no error there, and names only x / 0, an infinity.

Triton compiles x / y to div.full.f32, but where y is a constant to x times div.approx(1, y): under
"div.full" a scale amax / 127 may come of either (seen in the sm_80 PTX of SGLang's kernel).

From there each step is monotonic, so that ends go to ends: float32 products, roundings to an
integer, clamps, storing as fp16. Where x is divided by a scale that is itself approximate, each of
the few values of the scale is tried, because q - 2 ulp(q) is not monotonic at powers of two.

- Outputs are bounded one by one: a scale and codes that cannot come from one run are let pass.
- A kernel that divides otherwise than by the dialect's instruction is let pass as well, as long as
  its results are in the set. Those that differ from the oracle's bits are counted, not hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.dialects import Dialect
from reference.dialects import dialect as get_dialect
from reference.int8_quantize import QMAX, _amax, _codes
from reference.numerics import Float32, canonical_nan, round_to, to_float32

Array = NDArray[Any]
Bounds = tuple[Array, Array]  # (lowest, highest), per element
Outputs = tuple[Bounds | None, ...]

ULPS = {"div.full": 2, "div.approx": 2}  # documented maximum ulp error
LEVELS = {"amax/127": QMAX, "amax/127.5": np.float32(127.5)}
EXACT_SCALE = "amax*(1/127)"  # a multiplication
NORMAL = np.float32(2.0**-126)
FAR = np.float32(2.0**126)  # divisors beyond which div.approx gives 0
F32, INFINITY = np.float32, np.float32(np.inf)
SCALES = 32  # values of a scale that are tried one by one; the ends alone of a wider range


def allowed(op: str, inputs: Mapping[str, Any], options: Mapping[str, str]) -> Outputs:
    """(lowest, highest) per output of the op, or None for one that must equal the oracle's bits.

    inputs: NumPy arrays by name; options: the call's, with its dialect. The arrays have the dtype
    and shape of the output. An op without approximate division gives an empty tuple. Raises
    ValueError for an approximate dialect in words for which nothing is derived.
    """
    if op not in FORMS or "dialect" not in options:
        return ()
    return allowed_in(op, inputs, get_dialect(options["dialect"]).under(FAMILY.get(op, "")))


def allowed_in(op: str, inputs: Mapping[str, Any], spoken: Dialect) -> Outputs:
    """As `allowed`, in the words of `spoken`, as the op's family speaks them."""
    if op not in FORMS or not approximate(spoken):
        return ()
    _derivable(spoken)
    with np.errstate(all="ignore"):
        return FORMS[op](inputs, spoken)


def concerns(op: str, dialect: str) -> bool:
    """Whether the op has results in this dialect that may differ from the oracle's bits."""
    return op in FORMS and approximate(get_dialect(dialect).under(FAMILY.get(op, "")))


def approximate(spoken: Dialect) -> bool:
    """Whether the dialect's own code divides approximately."""
    return spoken.division != "ieee"


def inside(got: Array, bounds: Bounds) -> NDArray[np.bool_]:
    """True where got lies in its bounds, of whose dtype and shape it is. -0 lies below +0; a NaN
    only equals itself."""
    value, low, high = (_ordered(array) for array in (got, *bounds))
    return np.asarray((low <= value) & (value <= high))


def quotients(a: Any, b: Any, division: str) -> tuple[Float32, Float32]:
    """The smallest and the largest float32 that the instruction may give for a / b.

    a, b: fp32, of shapes that broadcast. division: "ieee", "div.full" or "div.approx", the latter
    two with or without ".ftz". Where the result is NaN both ends are.
    """
    name, flushing = division.removesuffix(".ftz"), division.endswith(".ftz")
    a, b = np.broadcast_arrays(np.asarray(a, F32), np.asarray(b, F32))
    if flushing:
        a, b = _flushed(a), _flushed(b)
    with np.errstate(all="ignore"):
        q = canonical_nan(np.asarray(np.divide(a, b)))
        if name == "ieee":
            return q, q
        low, high = _around(np.abs(q), ULPS[name])
        if name == "div.approx":
            zero, size = np.zeros_like(q), np.abs(b)
            far = (size > FAR) & np.isfinite(b)
            low = np.where(far | (size < NORMAL), zero, low)
            high = np.where(far, zero, np.where(size < NORMAL, INFINITY, high))
        if flushing:
            low, high = np.where(low < NORMAL, F32(0), low), np.where(high < NORMAL, F32(0), high)
    special = (a == 0) | (b == 0) | ~np.isfinite(a) | ~np.isfinite(b)
    low, high = np.where(special, np.abs(q), low), np.where(special, np.abs(q), high)
    if name == "div.approx":
        lost = np.isinf(a) & (np.abs(b) > FAR) & np.isfinite(b)
        low, high = np.where(lost, F32(np.nan), low), np.where(lost, F32(np.nan), high)
    minus = np.signbit(a) != np.signbit(b)
    ends = np.where(minus, -high, low), np.where(minus, -low, high)
    return canonical_nan(ends[0].astype(F32)), canonical_nan(ends[1].astype(F32))


def _flushed(values: Float32) -> Float32:
    return np.where(np.abs(values) < NORMAL, np.copysign(F32(0), values), values)


def _around(q: Float32, ulps: int) -> tuple[Float32, Float32]:
    """The outermost float32 >= 0 within so many ulp(q) of q >= 0."""
    exact = np.where(np.isinf(q), 2.0**128, q.astype(np.float64))
    _, exponent = np.frexp(exact)
    unit = np.ldexp(1.0, np.maximum(exponent - 24, -149))
    unit = np.where(np.isinf(q), 2.0**104, unit)
    below, above = np.maximum(exact - ulps * unit, 0.0), exact + ulps * unit
    low, high = below.astype(F32), above.astype(F32)
    low = np.where(low.astype(np.float64) < below, np.nextafter(low, INFINITY), low)
    high = np.where(high.astype(np.float64) > above, np.nextafter(high, F32(0)), high)
    high = np.where(above >= 2.0**128, INFINITY, high)
    nan = np.isnan(q)
    return np.where(nan, q, low), np.where(nan, q, high)


def _derivable(spoken: Dialect) -> None:
    known = {
        "arithmetic": ("fp32",),
        "scale": (*LEVELS, EXACT_SCALE),
        "least_scale": ("none",),
        "zero": ("code0", "unguarded"),
        "multiplier": tuple(FACTORS),
        "stored": ("scale", "amax", "fp16 scale"),
    }
    for field, words in known.items():
        word = getattr(spoken, field)
        if word not in words:
            raise ValueError(
                f"dialect {spoken.name}: {field} is {word!r} beside division "
                f"{spoken.division!r}; derived for: {', '.join(words)}"
            )


def _rows(x: Array, spoken: Dialect) -> Outputs:
    """Of quantize_rows: codes and scales of x (rows, columns)."""
    wide = to_float32(x)
    amax = _amax(wide, spoken)
    scale = _scale(amax, spoken)
    codes = FACTORS[spoken.multiplier](wide, amax, scale, spoken)
    return codes, _stored(scale, spoken)


def _scale(amax: Float32, spoken: Dialect) -> Bounds:
    if spoken.scale == EXACT_SCALE:
        exact = canonical_nan(amax * (F32(1) / QMAX))
        return exact, exact
    low, high = quotients(amax, LEVELS[spoken.scale], spoken.division)
    if spoken.division.startswith("div.full"):
        least, most = quotients(F32(1), LEVELS[spoken.scale], "div.approx")
        low, high = np.minimum(low, amax * least), np.maximum(high, amax * most)
    return canonical_nan(low), canonical_nan(high)


def _stored(scale: Bounds, spoken: Dialect) -> Bounds | None:
    if spoken.stored == "amax" or spoken.scale == EXACT_SCALE:
        return None
    if spoken.stored == "fp16 scale":
        scale = (to_float32(round_to(scale[0], "fp16")), to_float32(round_to(scale[1], "fp16")))
    return scale[0][:, 0].copy(), scale[1][:, 0].copy()


def _under(x: Array, scales: Array, spoken: Dialect) -> Bounds:
    """Of quantize_under: codes under given scales, of a shape that broadcasts to x's."""
    rule = FACTORS[spoken.static_multiplier]
    return rule(to_float32(x), scales, (scales, scales), spoken)


def _divided(wide: Float32, amax: Float32, scale: Bounds, spoken: Dialect) -> Bounds:
    """x / s, under every s that the scale may be."""
    found = []
    for s in _between(*scale):
        for end in quotients(wide, s, spoken.division):
            found.append(_guarded(end, s, spoken))
    return _hull(found)


def _times_inverse(wide: Float32, amax: Float32, scale: Bounds, spoken: Dialect) -> Bounds:
    """x * (1/s), under every s that the scale may be."""
    found = []
    for s in _between(*scale):
        for inverse in quotients(F32(1), s, spoken.division):
            found.append(_guarded(wide * inverse, s, spoken))
    return _hull(found)


def _times_levels(wide: Float32, amax: Float32, scale: Bounds, spoken: Dialect) -> Bounds:
    """x * (127/amax)."""
    factors = quotients(QMAX, amax, spoken.division)
    return _hull([_guarded(wide * factor, amax, spoken) for factor in factors])


def _guarded(quotient: Float32, divisor: Array, spoken: Dialect) -> Array:
    """Codes of a quotient, 0 where the dialect guards a zero divisor."""
    if spoken.zero == "code0":
        quotient = np.where(divisor == 0, F32(0), quotient)
    return _codes(quotient, spoken)


def _hull(codes: list[Array]) -> Bounds:
    return np.minimum.reduce(codes), np.maximum.reduce(codes)


def _between(low: Float32, high: Float32) -> Iterator[Float32]:
    """Arrays that together hold, per element, every float32 from low to high (both >= 0)."""
    first, last = low.view(np.uint32).astype(np.int64), high.view(np.uint32).astype(np.int64)
    widest = int((last - first).max())
    for step in range(min(widest, SCALES) + 1):
        yield np.minimum(first + step, last).astype(np.uint32).view(F32)
    if widest > SCALES:
        yield high


def _ordered(array: Array) -> NDArray[np.int64]:
    """Integers in the order of the values, -0 before +0."""
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    size = array.dtype.itemsize
    bits = np.ascontiguousarray(array).view(f"i{size}").reshape(array.shape).astype(np.int64)
    return np.where(bits < 0, -(bits & ((1 << (8 * size - 1)) - 1)) - 1, bits)


FACTORS: Mapping[str, Callable[[Float32, Float32, Bounds, Dialect], Bounds]] = {
    "x/s": _divided,
    "x*(1/s)": _times_inverse,
    "x*(127/amax)": _times_levels,
}


def _matrix(name: str) -> Callable[[Mapping[str, Any], Dialect], Outputs]:
    return lambda inputs, spoken: _rows(inputs[name], spoken)


def _tensor(inputs: Mapping[str, Any], spoken: Dialect) -> Outputs:
    x = inputs["x"]
    codes, scales = _rows(x.reshape(1, -1), spoken)
    return _shaped(codes, x.shape), scales


def _groups(inputs: Mapping[str, Any], spoken: Dialect) -> Outputs:
    x = inputs["x"]
    codes, scales = _rows(x.reshape(-1, inputs["group_size"]), spoken)
    shape = (x.shape[0], x.shape[1] // inputs["group_size"])
    return _shaped(codes, x.shape), _shaped(scales, shape)


def _static(inputs: Mapping[str, Any], spoken: Dialect) -> Outputs:
    return (_under(inputs["x"], inputs["scales"][:, None], spoken),)


def _static_groups(inputs: Mapping[str, Any], spoken: Dialect) -> Outputs:
    x, scales = inputs["x"], inputs["scales"]
    groups = x.reshape(x.shape[0], scales.shape[1], -1)
    return (_shaped(_under(groups, scales[:, :, None], spoken), x.shape),)


def _shaped(bounds: Bounds | None, shape: tuple[int, ...]) -> Bounds | None:
    return None if bounds is None else (bounds[0].reshape(shape), bounds[1].reshape(shape))


FORMS: Mapping[str, Callable[[Mapping[str, Any], Dialect], Outputs]] = {
    "int8.quantize_per_token": _matrix("x"),
    "int8.quantize_per_channel": _matrix("w"),
    "int8.quantize_per_tensor": _tensor,
    "int8.quantize_static": _static,
    "int8.quantize_per_group": _groups,
    "int8.quantize_static_per_group": _static_groups,
}
FAMILY = {"int8.quantize_per_group": "group", "int8.quantize_static_per_group": "group"}
# Ops that divide nowhere: their results are exact in every dialect.
EXACT = ("int8.dequantize", "int8.dequantize_per_group")
