"""The allowed sets of approximate divisions, against every quotient within the documented bound.

Whatever is held here is computed a second time: float32 by float32 around the quotient, distances
as fractions, and the codes that each leads to one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from reference import OPS, approximate, get_op, recipe
from reference.approximate import allowed, allowed_in, inside, quotients
from reference.dialects import DIALECTS, Dialect, dialect
from reference.int8_quantize import half_away

F32 = np.float32
TOP = 2.0**127
SPECIAL = (0.0, 2.0**-149, 3e-41, 2.0**-126, 1.0, np.nextafter(F32(2), F32(0)), 3.0, 127.0, 1e38)
APPROXIMATE = [
    (op.name, name)
    for op in OPS.values()
    for name in op.options.get("dialect", ())
    if approximate.concerns(op.name, name)
]


def ulp(q: float) -> Fraction:
    """Distance of neighbouring float32 in q's binade."""
    if np.isinf(q):
        return Fraction(2) ** 104
    return Fraction(2) ** max(int(np.frexp(q)[1]) - 24, -149)


def near(q: float, ulps: int = 2) -> list[float]:
    """Every float32 >= 0 within so many ulp(q) of q >= 0; infinity stands at 2**128."""
    centre = Fraction(2) ** 128 if np.isinf(q) else Fraction(float(q))
    first = int(np.array(q, F32).view(np.uint32))
    found = []
    for pattern in range(max(first - 16, 0), min(first + 16, 0x7F800000) + 1):
        value = float(np.array(pattern, np.uint32).view(F32))
        at = Fraction(2) ** 128 if np.isinf(value) else Fraction(value)
        if abs(at - centre) <= ulps * ulp(q):
            found.append(value)
    return found


def pairs(count: int) -> Iterator[tuple[float, float]]:
    """Operands: quotients that are powers of two, ordinary, subnormal and beyond the largest."""
    rng = np.random.default_rng(4)
    for b in rng.uniform(1, 2, count).astype(F32):
        for a in (b, 2 * b, b / 2, F32(127), F32(1), F32(rng.uniform(0, 100))):
            yield float(a), float(b)
            yield float(a * F32(2.0**-120)), float(b * F32(2.0**20))
            yield float(a * F32(2.0**120)), float(b * F32(2.0**-9))


@pytest.mark.parametrize("name", ["div.full", "div.approx"])
def test_ends_are_the_outermost_quotients_within_two_ulp(name: str) -> None:
    kinds = set()
    for a, b in pairs(60):
        with np.errstate(all="ignore"):
            q = float(F32(a) / F32(b))
        low, high = quotients(F32(a), F32(b), name)
        reach = near(q)
        assert (float(low), float(high)) == (reach[0], reach[-1]), (a, b)
        kinds.add(len(reach))
        minus = quotients(F32(-a), F32(b), name)
        assert (float(minus[0]), float(minus[1])) == (-reach[-1], -reach[0])
    assert {5, 7} <= kinds  # at a power of two the ulp below is half as long


def test_divisors_out_of_the_approximate_range() -> None:
    far = F32(2.0**126 * 1.5)
    assert quotients(F32(TOP), far, "div.approx") == (0, 0)
    assert np.isnan(quotients(F32(np.inf), far, "div.approx")).all()
    assert quotients(F32(TOP), far, "div.full")[0] > 0
    tiny = F32(2.0**-127)
    assert quotients(F32(1), tiny, "div.approx") == (0, np.inf)
    assert quotients(F32(-1), tiny, "div.approx") == (-np.inf, 0)
    assert quotients(F32(1), tiny, "div.approx.ftz") == (np.inf, np.inf)  # x / 0
    assert quotients(F32(1), F32(2.0**126), "div.approx")[0] > 0
    low, high = quotients(F32(1), F32(2.0**126 * 1.01), "div.full.ftz")
    assert (low, high) == (0, 0)  # a subnormal result
    low, high = quotients(F32(1), F32(2.0**126), "div.full.ftz")
    assert (low, high) == (0, 2.0**-126 + 2 * 2.0**-149)


@pytest.mark.parametrize("name", ["ieee", "div.full", "div.approx"])
def test_special_operands_give_ieees_result(name: str) -> None:
    for a, b in ((0, 3), (0, 0), (np.inf, 2), (2, np.inf), (np.inf, np.inf), (1, 0), (np.nan, 1)):
        with np.errstate(all="ignore"):
            q = F32(a) / F32(b)
        np.testing.assert_array_equal(quotients(F32(a), F32(b), name), (q, q))


def rows() -> np.ndarray:
    """Rows that tie, nearly tie and saturate, zero and subnormal ones, NaN and infinities."""
    kinds = ("ties", "near_ties", "saturating", "zeros", "subnormal", "nan", "inf", "negzero")
    op = get_op("int8.quantize_per_token")
    made = [op.build(recipe(kind, M=2, K=16, seed=5))["x"] for kind in kinds]
    return np.concatenate(made)


def integers(quotient: np.ndarray, spoken: Dialect) -> np.ndarray:
    rounded = {"rne": np.rint, "truncate": np.trunc, "half away": half_away}[spoken.rounding]
    low, high = spoken.clamp_range
    whole = np.clip(rounded(quotient), low, high)
    return np.where(np.isnan(whole), {"zero": 0, "low": low}[spoken.nan_code], whole).astype(int)


def every_scale(amax: float, spoken: Dialect) -> list[float]:
    """Each float32 that the scale of a row may be."""
    if spoken.scale == "amax*(1/127)":
        return [float(F32(amax) * (F32(1) / F32(127)))]
    if not np.isfinite(amax) or amax == 0:
        return [float(F32(amax) / F32(127))]
    found = near(float(F32(amax) / F32(127)))
    if spoken.division == "div.full":
        found += [float(F32(amax) * F32(r)) for r in near(float(F32(1) / F32(127)))]
    return found


def divided(a: float, b: float, spoken: Dialect) -> list[float]:
    """Each float32 that the dialect's instruction may give for a / b, b >= 0."""
    q = F32(a) / F32(b)
    if a == 0 or b == 0 or not np.isfinite(a) or not np.isfinite(b):
        return [float(q)]
    if spoken.division == "div.approx" and b < 2.0**-126:
        return [0.0, float(np.copysign(np.inf, a))]
    if spoken.division == "div.approx" and b > 2.0**126:
        return [0.0]
    return [float(np.copysign(one, a)) for one in near(float(abs(q)))]


def reachable(row: np.ndarray, amax: float, spoken: Dialect) -> list[np.ndarray]:
    """Codes of the row (each a set as an array of candidates) under every choice of quotients."""
    found = []
    guarded = spoken.zero == "code0"
    if spoken.multiplier == "x*(127/amax)":
        for factor in divided(127.0, amax, spoken):
            quotient = np.zeros_like(row) if guarded and amax == 0 else row * F32(factor)
            found.append(integers(quotient, spoken))
        return found
    for s in every_scale(amax, spoken):
        if guarded and s == 0:
            found.append(integers(np.zeros_like(row), spoken))
        elif spoken.multiplier == "x*(1/s)":
            for inverse in divided(1.0, s, spoken):
                found.append(integers(row * F32(inverse), spoken))
        else:
            options = [divided(float(x), s, spoken) for x in row]
            for turn in range(max(map(len, options))):
                picked = [one[min(turn, len(one) - 1)] for one in options]
                found.append(integers(np.array(picked, F32), spoken))
    return found


@pytest.mark.parametrize("multiplier", ["x*(127/amax)", "x*(1/s)", "x/s"])
@pytest.mark.parametrize(
    ("name", "family"), [("sglang", ""), ("sglang", "group"), ("bitsandbytes", "")]
)
def test_codes_and_scales_reach_both_ends_and_nothing_beyond(
    name: str, family: str, multiplier: str
) -> None:
    spoken = replace(dialect(name).under(family), multiplier=multiplier)
    x, moved = rows(), 0
    codes, scales = allowed_in("int8.quantize_per_token", {"x": x}, spoken)
    assert codes is not None
    floor = {"none": 0.0, "1e-10": float(F32(1e-10))}[spoken.floor]
    with np.errstate(all="ignore"):
        for at, row in enumerate(x):
            amax = float(np.fmax.reduce(np.abs(row), initial=F32(floor)))
            made = np.array(reachable(row, amax, spoken))
            np.testing.assert_array_equal(made.min(axis=0), codes[0][at], f"row {at}")
            np.testing.assert_array_equal(made.max(axis=0), codes[1][at], f"row {at}")
            moved += int((codes[0][at] != codes[1][at]).sum())
            if scales is not None:
                reach = every_scale(amax, spoken)
                assert (scales[0][at], scales[1][at]) == (min(reach), max(reach))
    assert moved > 10
    assert (scales is None) == (spoken.stored == "amax" or spoken.scale == "amax*(1/127)")


def test_static_codes_reach_both_ends() -> None:
    made = get_op("int8.quantize_static").build(recipe("ties", M=2, K=40, seed=3))
    spoken = replace(dialect("vllm"), division="div.full")
    ((low, high),) = allowed_in("int8.quantize_static", made, spoken)  # type: ignore[misc]
    for index in np.ndindex(made["x"].shape):
        s = float(made["scales"][index[0]])
        reach = divided(float(made["x"][index]), s, spoken)
        codes = integers(np.array(reach, F32), spoken)
        assert (low[index], high[index]) == (codes.min(), codes.max())
    assert (low != high).any()


@pytest.mark.parametrize(("op", "name"), APPROXIMATE)
def test_the_oracles_bits_lie_inside(op: str, name: str) -> None:
    declared, wider = get_op(op), 0
    for made in declared.hostile:
        if not declared.allows(made.dtype, name) or made.kind == "huge":
            continue  # beyond 2**126 div.approx gives 0, and only the oracle's bits are let pass
        inputs = declared.build(made)
        expected = declared.expected(inputs, dialect=name)
        for want, bounds in zip(expected, allowed(op, inputs, {"dialect": name}), strict=True):
            if bounds is not None:
                assert inside(want, bounds).all(), made
                assert bounds[0].dtype == bounds[1].dtype == want.dtype
                wider += int((bounds[0] != bounds[1]).sum())
    assert wider > 0


def test_every_approximate_dialect_has_its_sets() -> None:
    assert {name for _, name in APPROXIMATE} >= {"sglang", "bitsandbytes"}
    for name, spoken in DIALECTS.items():
        families = ("", *dict(spoken.overrides))
        if any(approximate.approximate(spoken.under(family)) for family in families):
            for op in OPS.values():
                if name in op.options.get("dialect", ()):
                    assert op.name in (*approximate.FORMS, *approximate.EXACT), (op.name, name)


def test_exact_dialects_have_none() -> None:
    inputs = {"x": rows()}
    assert allowed("int8.quantize_per_token", inputs, {"dialect": "vllm"}) == ()
    assert allowed("int8.gemm", {}, {"dialect": "sglang"}) == ()


def test_words_without_a_derivation_are_refused() -> None:
    spoken = replace(dialect("sglang"), arithmetic="input")
    with pytest.raises(ValueError, match=r"arithmetic is 'input' beside division 'div\.full'"):
        allowed_in("int8.quantize_per_token", {"x": rows()}, spoken)


def test_inside_tells_zeros_and_nan_apart() -> None:
    def one(value: Any) -> np.ndarray:
        return np.array([value], F32)

    assert inside(one(0.0), (one(0.0), one(1.0))).all()
    assert not inside(one(-0.0), (one(0.0), one(1.0))).any()
    assert not inside(one(np.nan), (one(0.0), one(np.inf))).any()
    assert inside(one(np.nan), (one(np.nan), one(np.nan))).all()
