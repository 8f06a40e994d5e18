"""The division-free quotient of dialect.cuh gives the codes that IEEE division gives.

The data are the hardest there are: 24-bit x and s whose quotient lies nearest to a point where
round(RN(x / s)) changes, that is, to the midpoint between k + 1/2 and a neighbouring float (between
k and the float below it where codes are truncated). With x 2^j = m s + d, for such a midpoint m and
a small d, s follows from d by the inverse of m mod 2^j. bench/prove_division.py tries all s.
"""

from __future__ import annotations

import numpy as np
import pytest

from kernels_cupy import int8_group, int8_quantize
from reference import int8_group as group_oracle
from reference import int8_quantize as oracle


def hardest(offset: float = 0.5, span: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """(x, s), fp32, each (n,): quotients beside k + offset for every k up to 127."""
    found: list[tuple[float, float]] = []
    for k in range(128):
        point = k + offset
        if point == 0:
            continue
        significand = int(point * 2.0 ** (23 - int(np.floor(np.log2(point)))))
        below = 4 * significand - 1 if significand == 1 << 23 else 2 * significand - 1
        for m in (below, 2 * significand + 1):
            for j in (24, 25):
                inverse = pow(m, -1, 1 << j)
                for d in (*range(-span, 0), *range(1, span + 1)):
                    s = -d * inverse % (1 << j)
                    x = (m * s + d) >> j
                    if s >> 23 == 1 and x >> 23 == 1:
                        found.append((x * 2.0 ** round(np.log2(point * s / x)), s))
    x, s = np.array(found).T
    return x.astype(np.float32), s.astype(np.float32)


def test_the_data_are_hard() -> None:
    """The uncorrected quotient is wrong on a large part of them; x/s is often k + 1/2 itself."""
    x, s = hardest()
    right = np.rint(x / s)
    assert len(x) > 3000
    assert np.mean(x / s % 1 == 0.5) > 0.4
    assert np.mean(np.rint(x * (1 / s)) != right) > 0.1


@pytest.mark.parametrize("exponent", [-80, -60, -20, 0, 30, 60])
def test_static_codes(exponent: int) -> None:
    """Within the range of the fast form (2^-64 to 2^64) and beyond it."""
    x, s = hardest()
    x, s = (np.ldexp(one, exponent - 23) for one in (x, s))
    signed = np.stack([x, -x], axis=1)
    got = int8_quantize.quantize_static(signed, s)
    assert got.tobytes() == oracle.quantize_static(signed, s).tobytes()


@pytest.mark.parametrize("exponent", [-80, -60, 0, 60])
def test_truncated_codes(exponent: int) -> None:
    """Beside the integers, and on them: k s for s of few bits."""
    x, s = hardest(0.0)
    assert len(x) > 3000
    assert np.mean(np.trunc(x * (1 / s)) != np.trunc(x / s)) > 0.1
    few = np.random.default_rng(5).integers(1 << 15, 1 << 16, 2048).astype(np.float32)
    x = np.concatenate([x, few * np.arange(2048, dtype=np.float32) % 129])
    x, s = (np.ldexp(one, exponent - 23) for one in (x, np.concatenate([s, few])))
    signed = np.stack([x, -x], axis=1)
    got = int8_group.quantize_static_per_group(signed, s[:, None].copy(), dialect="vllm")
    expected = group_oracle.quantize_static_per_group(signed, s[:, None].copy(), dialect="vllm")
    assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("seed", range(3))
def test_dynamic_codes_around_every_tie(seed: int) -> None:
    """Rows of (k + 1/2) s, give or take 3 ulps, under any scale; amax = 127 s leads."""
    rng = np.random.default_rng(seed)
    scale = np.ldexp(rng.uniform(1, 2, (256, 1)), rng.integers(-100, 100, (256, 1)))
    amax = np.float32(127) * scale.astype(np.float32)
    ties = (amax / np.float32(127)) * (np.arange(127, dtype=np.float32) + np.float32(0.5))
    near = (ties.view(np.int32) + rng.integers(-3, 4, ties.shape, np.int32)).view(np.float32)
    x = np.concatenate([amax, np.minimum(near, amax) * rng.choice([-1, 1], near.shape)], axis=1)
    x = x.astype(np.float32)
    for got, expected in zip(
        int8_quantize.quantize_per_token(x), oracle.quantize_per_token(x), strict=True
    ):
        assert got.tobytes() == expected.tobytes()


def test_static_extremes() -> None:
    """What may not go through the fast form: quotients that overflow, infinities, NaN."""
    largest = np.finfo(np.float32).max
    x = np.array(
        [[np.inf, -np.inf, np.nan, largest, -largest, 1e-45, -0.0, 300, 127.5, 256, 255.99998]],
        np.float32,
    )
    for scale in (1.0, 3.0, 2.0**-64, 1.1e-19, 2.0**64, 2.0**-126, 1e-45, largest):
        s = np.array([scale], np.float32)
        for dialect in ("ieee", "vllm", "article_cuda"):
            got = int8_quantize.quantize_static(x, s, dialect=dialect)
            assert got.tobytes() == oracle.quantize_static(x, s, dialect=dialect).tobytes()
