"""Conversions, fused multiply-add and the integer GEMM against exact arithmetic."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from reference import numerics

SPECIAL = np.array(
    [
        *(0.0, -0.0, 1.0, -1.0, 2.0**-149, -(2.0**-149), 2.0**-126, 3.4028235e38, -3.4028235e38),
        *(1e-20, 16777217.0, 1.0 + 2.0**-23, 1.0 - 2.0**-24, 0.1, 1e30, 2.0**-75, 2.0**-74),
    ],
    np.float32,
)


def exact_round(value: Fraction) -> np.float32:
    """value rounded to float32, ties to even, by integer arithmetic only."""
    if value == 0:
        return np.float32(0)
    sign, size = (-1 if value < 0 else 1), abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, -126) - 23)
    steps = round(size / unit)  # Python rounds Fractions half to even
    result = steps * unit
    if result >= Fraction(2) ** 128:
        return np.float32(sign * np.inf)
    return np.float32(sign * float(result))


def test_fma_is_rounded_once() -> None:
    rng = np.random.default_rng(1)
    a, b, c = (
        np.concatenate(
            [
                rng.standard_normal(1500).astype(np.float32),
                np.ldexp(rng.standard_normal(500), rng.integers(-140, 120, 500)).astype(np.float32),
                rng.choice(SPECIAL, 2000),
            ]
        )
        for _ in range(3)
    )
    c[:700] = -(a[:700] * b[:700])  # the sum is the product's rounding error
    with np.errstate(over="ignore"):
        finite = np.isfinite(a * b)
    a, b, c = a[finite], b[finite], c[finite]
    got = numerics.fma32(a, b, c)
    unfused = 0
    for x, y, z, result in zip(a, b, c, got, strict=True):
        expected = exact_round(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)))
        if expected == 0:
            assert result == 0
        else:
            assert result.tobytes() == expected.tobytes(), (x, y, z)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            unfused += (x * y + z) != result
    assert unfused > 500  # the inputs tell a fused from an unfused operation


def test_fma_specials_and_nan_bits() -> None:
    inf, nan = np.float32(np.inf), np.float32(np.nan)
    a = np.array([inf, inf, nan, 0.0, 1.0], np.float32)
    b = np.array([1.0, 0.0, 1.0, inf, 1.0], np.float32)
    c = np.array([-inf, 1.0, 1.0, 1.0, inf], np.float32)
    bits = numerics.fma32(a, b, c).view(np.uint32)
    assert bits.tolist() == [0x7FFFFFFF] * 4 + [0x7F800000]


@pytest.mark.parametrize(("name", "dtype"), [("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_narrow_formats_round_trip_all_values(name: str, dtype: type) -> None:
    values = np.arange(65536, dtype=np.uint16).view(dtype)
    wide = numerics.to_float32(values)
    back = numerics.round_to(wide, name)
    numbers = ~np.isnan(values.astype(np.float32))
    assert np.array_equal(back[numbers].view(np.uint16), values[numbers].view(np.uint16))
    assert set(back[~numbers].view(np.uint16).tolist()) == {0x7FFF}
    assert set(wide[~numbers].view(np.uint32).tolist()) == {0x7FFFFFFF}


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_rounding_is_to_nearest_even(name: str) -> None:
    dtype = numerics.DTYPES[name]
    ordered = np.arange(0x7800, dtype=np.uint16).view(dtype).astype(np.float32)
    low, high = ordered[:-1], ordered[1:]
    middle = (low.astype(np.float64) + high) / 2
    exact = middle.astype(np.float32) == middle
    even = np.arange(0x7800 - 1, dtype=np.uint16)
    even = even + (even & 1)
    got = numerics.round_to(middle.astype(np.float32), name).view(np.uint16)
    assert exact.sum() > 30000
    assert np.array_equal(got[exact], even[exact])


def test_limits_are_derived() -> None:
    s8, u8 = numerics.RANGES["s8"], numerics.RANGES["u8"]
    assert [numerics.k_block(*pair) for pair in ((s8, s8), (u8, s8), (u8, u8))] == [1024, 514, 258]
    assert numerics.k_limit(s8, s8) == 131_071
    assert numerics.k_limit(u8, u8) == 33_025


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 1025), (40, 300, 2049), (1, 700, 1500)])
@pytest.mark.parametrize("kinds", [("s8", "s8"), ("u8", "s8"), ("u8", "u8")])
@pytest.mark.parametrize("extreme", [False, True])
def test_int_gemm_is_exact(
    shape: tuple[int, int, int], kinds: tuple[str, str], extreme: bool
) -> None:
    M, N, K = shape
    rng = np.random.default_rng(M * N * K)
    operands = []
    for rows, kind in ((M, kinds[0]), (N, kinds[1])):
        low, high = numerics.RANGES[kind]
        dtype = numerics.DTYPES[kind]
        draw = rng.choice((low, high), (rows, K)) if extreme else rng.integers(low, high, (rows, K))
        operands.append(draw.astype(dtype))
    a, b = operands
    assert np.array_equal(numerics.int_gemm(a, b), a.astype(np.int64) @ b.T.astype(np.int64))


def test_int_gemm_wraps_beyond_the_limit() -> None:
    K = 131_072
    a = np.full((1, K), -128, np.int8)
    assert numerics.int_gemm(a, a).tolist() == [[-(2**31)]]


def test_a_longer_block_would_be_wrong() -> None:
    """1024 products of 128 * 128 reach 2**24; one more odd product is lost in float32."""
    full = 1024 * 128 * 128
    assert full == numerics.FLOAT32_EXACT
    assert float(np.float32(full) + np.float32(127 * 127)) != full + 127 * 127
    for kind in ("s8", "u8"):
        size = max(abs(end) for end in numerics.RANGES[kind])
        length = numerics.k_block(numerics.RANGES[kind], numerics.RANGES[kind])
        assert length * size * size <= numerics.FLOAT32_EXACT < (length + 1) * size * size


def test_a_decode_gemm_takes_little_memory() -> None:
    """M = 1, N = 28672, K = 8192: a float32 copy of the weights would be 940 MB."""
    N, K = 28672, 8192
    a = np.ones((1, K), np.int8)
    b = np.broadcast_to(np.arange(N).astype(np.int8)[:, None], (N, K)).copy()
    tracemalloc.start()
    try:
        out = numerics.int_gemm(a, b)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(out[0], np.arange(N).astype(np.int8).astype(np.int64) * K)
    assert peak < 64_000_000
