"""SmoothQuant's division with INT8 output: by hand, and against exact fractions.

Contract under test: the head of reference/int8_smooth.py.
"""

from __future__ import annotations

import importlib
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from quantassay import check_kernel
from reference import OPS, dialect, recipe
from reference.int8_quantize import quantize_per_token, quantize_static
from reference.int8_smooth import smooth_quantize, smooth_quantize_static, smoothed
from reference.numerics import round_to
from tests.reference.test_numerics import exact_round
from tests.wrong.activation import SMOOTHING
from tests.wrong.planted import Planted

IEEE, VLLM = dialect("ieee"), dialect("vllm")
DTYPES = ("fp32", "fp16", "bf16")


def test_by_hand() -> None:
    x = np.array([[127, 85.0, -3, 0, -0.0]], np.float32)
    smooth = np.array([0.5, 10.0, 0.25, 7.0, 9.0], np.float32)
    codes, scales = smooth_quantize(x, smooth)
    assert scales.tolist() == [2.0]
    assert codes.tolist() == [[127, 4, -6, 0, 0]]  # 254, 8.5, -12
    given = smooth_quantize_static(x, smooth, np.array([1.0], np.float32), dialect="vllm")
    assert given.tolist() == [[127, 8, -12, 0, 0]]


def test_it_is_a_division() -> None:
    """Each quotient is the exact one, rounded once; the reciprocal's product often is not."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 2000)).astype(np.float32)
    smooth = rng.uniform(0.01, 10, 2000).astype(np.float32)
    z = smoothed(x, smooth, IEEE)
    pairs = zip(x[0].tolist(), smooth.tolist(), strict=True)
    assert z[0].tolist() == [float(exact_round(Fraction(a) / Fraction(b))) for a, b in pairs]
    assert (z != x * (np.float32(1) / smooth)).mean() > 0.2


@pytest.mark.parametrize("dtype", DTYPES)
def test_input_rounds_the_quotient(dtype: str) -> None:
    made = OPS["int8.smooth_quantize"].build(recipe("normal", M=4, K=256, seed=1, dtype=dtype))
    z = smoothed(made["x"], made["smooth"], IEEE)
    narrow = smoothed(made["x"], made["smooth"], VLLM)
    assert narrow.tobytes() == round_to(z, dtype).astype(np.float32).tobytes()
    assert (narrow != z).any() == (dtype != "fp32")


@pytest.mark.parametrize("name", ["ieee", "vllm"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_the_quantization_of_z(dtype: str, name: str) -> None:
    for kind in ("normal", "nan", "inf", "huge", "subnormal", "negzero", "near_ties"):
        made = OPS["int8.smooth_quantize"].build(recipe(kind, M=5, K=24, seed=5, dtype=dtype))
        z = smoothed(**made, spoken=dialect(name))
        codes, scales = quantize_per_token(z, dialect=name)
        got = smooth_quantize(**made, dialect=name)
        assert (got[0].tobytes(), got[1].tobytes()) == (codes.tobytes(), scales.tobytes())
        given = np.array([0.1], np.float32)
        static = smooth_quantize_static(**made, scales=given, dialect=name)
        assert static.tobytes() == quantize_static(z, given, dialect=name).tobytes()


def test_over_and_underflow() -> None:
    """A small factor overflows to infinity: its row's finite elements give 0; a large one leaves a
    subnormal, or 0.
    """
    x = np.array([[1e30, 1.0], [1.0, 1.0]], np.float32)
    codes, scales = smooth_quantize(x, np.array([1e-30, 1.0], np.float32))
    assert scales.tolist() == [np.inf, float(np.float32(1e30) / np.float32(127))]
    assert codes.tolist() == [[0, 0], [127, 0]]
    z = smoothed(x, np.array([1.0, 2.0**127], np.float32), IEEE)
    assert z[0, 1] == 2.0**-127


@pytest.mark.parametrize("name", ["ieee", "vllm"])
def test_nan(name: str) -> None:
    x = np.array([[np.nan, 127.0]], np.float32)
    codes, scales = smooth_quantize(x, np.array([2, 1], np.float32), dialect=name)
    if name == "ieee":
        assert scales.view(np.uint32).tolist() == [0x7FFFFFFF]
        assert codes.tolist() == [[0, 0]]
    else:
        assert (codes.tolist(), scales.tolist()) == ([[0, 127]], [1.0])


X, SMOOTH = np.ones((3, 4), np.float32), np.ones(4, np.float32)


def spoiled(value: float) -> Any:
    return np.array([1, 1, value, 1], np.float32)


BAD: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "zero": (
        (X, spoiled(0)),
        {},
        ValueError,
        "smooth: got 0.0 at index 2; allowed: finite and > 0",
    ),
    "negative": ((X, spoiled(-1)), {}, ValueError, "smooth: got -1.0 at index 2"),
    "nan": ((X, spoiled(np.nan)), {}, ValueError, "smooth: got nan at index 2"),
    "inf": ((X, spoiled(np.inf)), {}, ValueError, "smooth: got inf at index 2"),
    "length": ((X, SMOOTH[:3].copy()), {}, ValueError, "smooth: got 3 elements; allowed: 4 (K"),
    "dtype": ((X, SMOOTH.astype(np.float16)), {}, TypeError, "smooth: got dtype float16"),
    "dialect": (
        *((X, SMOOTH), {"dialect": "article_torch"}, ValueError),
        "dialect: got 'article_torch'; allowed: ieee, vllm",
    ),
    "x": ((X[0], SMOOTH), {}, ValueError, "x: got 1 dimensions"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("room", ["reference", "kernels_cupy", "kernels_numba"])
def test_bad_input_is_named(room: str, case: str) -> None:
    arguments, options, error, words = BAD[case]
    module = importlib.import_module(f"{room}.int8_smooth")
    with pytest.raises(error) as caught:
        module.smooth_quantize(*arguments, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("room", ["reference", "kernels_cupy", "kernels_numba"])
def test_bad_scales_are_named(room: str) -> None:
    module = importlib.import_module(f"{room}.int8_smooth")
    with pytest.raises(ValueError, match=r"scales: got 2 elements; allowed: 1"):
        module.smooth_quantize_static(X, SMOOTH, np.ones(2, np.float32))


@pytest.mark.parametrize("planted", SMOOTHING, ids=[one.name for one in SMOOTHING])
def test_a_wrong_kernel_is_rejected(planted: Planted) -> None:
    result = check_kernel(planted.kernel(), planted.dialect, examples=24, device="emulator")
    assert result.mismatches > 0
    assert result.counterexample is not None
