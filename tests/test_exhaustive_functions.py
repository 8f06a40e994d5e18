"""Every fp16 and bf16 value through the activation kernels of both wings, bit for bit.

Contract under test: each of the 65,536 bit patterns (NaN, infinities, -0 and subnormals included)
as gate and as up of silu_mul and as x of both forms of gelu, under given scales and under dynamic
ones, in both dialects; and divided by factors of all kinds.
"""

from __future__ import annotations

import numpy as np
import pytest

from reference.functions import FORMS
from reference.int8_activation import SPOKEN
from tests.test_exhaustive import NARROW, SCALES, WINGS, every, rows_of, verify

CASES = [(wing, name, dtype) for wing in WINGS for name in SPOKEN for dtype in NARROW]
OTHERS = (1.0, -3.0, 0.0390625)  # what the other half of x holds


def given(scale: float) -> np.ndarray:
    return np.array([scale], np.float32)


@pytest.mark.parametrize(("wing", "dialect", "dtype"), CASES)
def test_static_silu_mul_of_every_value(wing: str, dialect: str, dtype: str) -> None:
    values = every(dtype).reshape(64, 1024)
    for scale, other in zip(SCALES, OTHERS * 3, strict=False):
        rest = np.full_like(values, other)
        for parts in ((values, rest), (rest, values)):
            inputs = {"x": np.concatenate(parts, axis=1), "scales": given(scale)}
            assert verify("int8.silu_mul_quantize_static", wing, inputs, dialect=dialect)


@pytest.mark.parametrize(("wing", "dialect", "dtype"), CASES)
def test_dynamic_silu_mul_of_every_value(wing: str, dialect: str, dtype: str) -> None:
    seen = 0
    for number, gate in enumerate(rows_of(dtype)):
        up = np.full_like(gate, OTHERS[number % 3])
        for parts in ((gate, up), (up, gate)):
            inputs = {"x": np.concatenate(parts, axis=1)}
            seen += verify("int8.silu_mul_quantize", wing, inputs, dialect=dialect)
    assert seen > 10 * 60_000


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("wing", "dialect", "dtype"), CASES)
def test_gelu_of_every_value(wing: str, dialect: str, dtype: str, form: str) -> None:
    x, words = every(dtype).reshape(64, 1024), {"dialect": dialect, "form": form}
    for scale in SCALES:
        inputs = {"x": x, "scales": given(scale)}
        assert verify("int8.gelu_quantize_static", wing, inputs, **words)
    seen = sum(verify("int8.gelu_quantize", wing, {"x": rows}, **words) for rows in rows_of(dtype))
    assert seen > 5 * 60_000


@pytest.mark.parametrize(("wing", "dialect", "dtype"), CASES)
def test_smoothing_of_every_value(wing: str, dialect: str, dtype: str) -> None:
    """1,024 factors over the range of fp32, each meeting 64 values at a time."""
    rng = np.random.default_rng(0)
    factors = np.ldexp(rng.uniform(1, 2, 1024), rng.integers(-149, 127, 1024)).astype(np.float32)
    ordinary = rng.uniform(0.01, 100, 1024).astype(np.float32)
    x = every(dtype).reshape(64, 1024)
    for smooth in (factors, ordinary, ordinary[::-1].copy()):
        for scale in SCALES[:4]:
            inputs = {"x": x, "smooth": smooth, "scales": given(scale)}
            assert verify("int8.smooth_quantize_static", wing, inputs, dialect=dialect)
        inputs = {"x": x, "smooth": smooth}
        assert verify("int8.smooth_quantize", wing, inputs, dialect=dialect)
        by_size = x.reshape(-1)[np.argsort(np.abs(x.astype(np.float32)), axis=None)]
        inputs = {"x": by_size.reshape(64, 1024), "smooth": smooth}
        assert verify("int8.smooth_quantize", wing, inputs, dialect=dialect)
