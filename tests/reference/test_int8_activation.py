"""SiLU-and-multiply and GELU with INT8 output: by hand, against float64 and NumPy's own roundings.

Contract under test: the head of reference/int8_activation.py. What silu and gelu themselves are is
in test_functions.py.
"""

from __future__ import annotations

import importlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from scipy import special

from quantassay import check_kernel
from reference import OPS, dialect, functions, int8_activation, recipe
from reference.int8_activation import (
    gelu_of,
    gelu_quantize,
    gelu_quantize_static,
    silu_mul,
    silu_mul_quantize,
    silu_mul_quantize_static,
)
from reference.int8_quantize import quantize_per_token, quantize_static
from reference.numerics import round_to
from tests.wrong.activation import ACTIVATION
from tests.wrong.planted import Planted

IEEE, VLLM = dialect("ieee"), dialect("vllm")
DTYPES = ("fp32", "fp16", "bf16")
UNIT = 2.0**-24


def joined(gate: Any, up: Any, dtype: Any = np.float32) -> Any:
    return np.concatenate([gate, up], axis=-1).astype(dtype).reshape(1, -1)


def normal(M: int, K: int, dtype: str, seed: int = 0) -> Any:
    x = 3 * np.random.default_rng(seed).standard_normal((M, K))
    return round_to(x.astype(np.float32), dtype)


def test_by_hand() -> None:
    """silu(32) is 32 and silu(-100) is -0: z = 32 * up and 0."""
    x = joined([32, 32, 32, -100, 0], [127, -63.5, 0.5, 5, 9])
    codes, scales = silu_mul_quantize(x)
    assert scales.tolist() == [32.0]
    assert codes.tolist() == [[127, -64, 0, 0, 0]]
    assert silu_mul_quantize_static(x, np.array([64], np.float32)).tolist() == [[64, -32, 0, 0, 0]]


def test_gelu_by_hand() -> None:
    x = np.array([[127, 8.5, 9.5, -20, 0]], np.float32)
    for form in functions.FORMS:
        codes, scales = gelu_quantize(x, form=form)
        assert scales.tolist() == [1.0]
        assert codes.tolist() == [[127, 8, 10, 0, 0]]
        given = gelu_quantize_static(x, np.array([0.5], np.float32), form=form)
        assert given.tolist() == [[127, 17, 19, 0, 0]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_input_rounds_each_step_as_numpy_does(dtype: str) -> None:
    """A product in fp16 or bf16 is NumPy's own: the wide product, rounded."""
    x = normal(8, 200, dtype)
    gate, up = np.split(x, 2, axis=1)
    a = round_to(functions.each(functions.silu, gate), dtype)
    assert silu_mul(x, VLLM).tobytes() == (a * up).astype(np.float32).tobytes()
    for form in functions.FORMS:
        wide = functions.gelu(x.astype(np.float32), form)
        expected = round_to(wide, dtype).astype(np.float32)
        assert gelu_of(x, VLLM, form).tobytes() == expected.tobytes()


def test_fp32_is_not_rounded() -> None:
    x = normal(4, 64, "fp32")
    assert silu_mul(x, IEEE).tobytes() == silu_mul(x, VLLM).tobytes()
    narrow = normal(4, 640, "fp16")
    assert (silu_mul(narrow, IEEE) != silu_mul(narrow, VLLM)).mean() > 0.5


@pytest.mark.parametrize("name", ["ieee", "vllm"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_the_quantization_of_z(dtype: str, name: str) -> None:
    spoken = dialect(name)
    for kind in ("normal", "nan", "inf", "huge", "subnormal", "negzero", "ties"):
        made = recipe(kind, M=5, K=24, seed=3, dtype=dtype)
        x = OPS["int8.silu_mul_quantize"].build(made)["x"]
        z = silu_mul(x, spoken)
        codes, scales = quantize_per_token(z, dialect=name)
        got = silu_mul_quantize(x, dialect=name)
        assert (got[0].tobytes(), got[1].tobytes()) == (codes.tobytes(), scales.tobytes())
        given = np.array([0.1], np.float32)
        static = silu_mul_quantize_static(x, given, dialect=name)
        assert static.tobytes() == quantize_static(z, given, dialect=name).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_codes_are_within_half_a_step_of_float64(dtype: str) -> None:
    """ieee: |code * s - z| <= s (1/2 + 127 u) plus z's own error: 6 u |z| (silu 4 u, the product
    u), or 4 u |x| (gelu).
    """
    x = normal(16, 512, dtype)
    wide = x.astype(np.float64)
    gate, up = np.split(wide, 2, axis=1)
    z = gate / (1 + np.exp(-gate)) * up
    codes, scales = silu_mul_quantize(x)
    error = np.abs(codes * scales[:, None].astype(np.float64) - z)
    assert (error <= scales[:, None] * (0.5 + 128 * UNIT) + 6 * UNIT * np.abs(z)).all()
    z = wide / 2 * special.erfc(-wide / np.sqrt(2))
    codes, scales = gelu_quantize(x)
    error = np.abs(codes * scales[:, None].astype(np.float64) - z)
    assert (error <= scales[:, None] * (0.5 + 128 * UNIT) + 4 * UNIT * np.abs(wide)).all()


def test_infinity_and_nan() -> None:
    """silu(inf) = inf; silu(-inf), inf * 0 and NaN are NaN; ieee propagates what vllm skips."""
    inf = np.inf
    for gate, up in ((-inf, 1.0), (inf, 0.0), (np.nan, 1.0), (1.0, np.nan)):
        x = joined([gate, 32], [up, 127])
        codes, scales = silu_mul_quantize(x)
        assert scales.view(np.uint32).tolist() == [0x7FFFFFFF]
        assert codes.tolist() == [[0, 0]]
        codes, scales = silu_mul_quantize(x, dialect="vllm")
        assert scales.tolist() == [32.0]
        assert codes.tolist() == [[0, 127]]
    for name in ("ieee", "vllm"):
        codes, scales = silu_mul_quantize(joined([inf, 32], [2, 127]), dialect=name)
        assert (codes.tolist(), scales.tolist()) == ([[0, 0]], [inf])
        static = gelu_quantize_static(
            np.array([[inf, -inf, np.nan]], np.float32), np.ones(1, np.float32), dialect=name
        )
        assert static.tolist() == [[127, 0, 0]]


def test_overflow_of_the_narrow_product() -> None:
    """fp16 has 65504: rounding to it is where vllm overflows and ieee does not."""
    x = joined([256, 32], [256, 1], np.float16)
    assert np.isinf(silu_mul_quantize(x, dialect="vllm")[1]).all()
    assert silu_mul_quantize(x)[1].tolist() == [np.float32(65536) / np.float32(127)]


def test_zeros() -> None:
    """A zero row: scale 0, codes 0. silu(0) = gelu(0) = 0, with -0 as a zero."""
    zeros = np.array([[0.0, -0.0, 0.0, -0.0]], np.float32)
    for codes, scales in (silu_mul_quantize(zeros), gelu_quantize(zeros)):
        assert not codes.any()
        assert scales.view(np.uint32).tolist() == [0]


def test_forms_differ_where_they_should() -> None:
    x = normal(1, 4096, "fp32")
    erf, tanh = gelu_of(x, IEEE, "erf"), gelu_of(x, IEEE, "tanh")
    assert np.abs(erf - tanh).max() < 5e-4
    assert (erf != tanh).mean() > 0.9


def test_recipes_aim_at_ties() -> None:
    """Of the kinds made for ties: many quotients lie at k + 1/2 exactly."""
    for name, z_of in (
        ("int8.silu_mul_quantize", lambda x: silu_mul(x, IEEE)),
        ("int8.gelu_quantize", lambda x: gelu_of(x, IEEE, "erf")),
    ):
        for dtype in DTYPES:
            z = z_of(OPS[name].build(recipe("ties", M=4, K=256, seed=2, dtype=dtype))["x"])
            quotients = z / (np.abs(z).max(axis=1, keepdims=True) / np.float32(127))
            assert (np.abs(quotients) % 1 == 0.5).mean() > 0.5, (name, dtype)


X = np.ones((3, 4), np.float32)
BAD: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "odd": (
        silu_mul_quantize,
        (X[:, :3].copy(),),
        {},
        ValueError,
        "x: got 3 columns; allowed: an even",
    ),
    "dialect": (
        *(silu_mul_quantize, (X,), {"dialect": "article_cuda"}, ValueError),
        "dialect: got 'article_cuda'; allowed: ieee, vllm",
    ),
    "form": (
        *(gelu_quantize, (X,), {"form": "quick"}, ValueError),
        "form: got 'quick'; allowed: erf, tanh",
    ),
    "dtype": (gelu_quantize, (X.astype(int),), {}, TypeError, "x: got dtype int64; allowed: fp32"),
    "rank": (silu_mul_quantize, (X[0],), {}, ValueError, "x: got 1 dimensions"),
    "scales": (
        *(silu_mul_quantize_static, (X, np.ones(2, np.float32)), {}, ValueError),
        "scales: got 2 elements; allowed: 1 (per-tensor) or 3 (one per row)",
    ),
    "zero scale": (
        *(gelu_quantize_static, (X, np.zeros(1, np.float32)), {}, ValueError),
        "scales: got 0.0 at index 0; allowed: finite and > 0",
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("room", ["reference", "kernels_cupy", "kernels_numba"])
def test_bad_input_is_named(room: str, case: str) -> None:
    oracle, arguments, options, error, words = BAD[case]
    module = importlib.import_module(f"{room}.int8_activation")
    with pytest.raises(error) as caught:
        getattr(module, oracle.__name__)(*arguments, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("planted", ACTIVATION, ids=[one.name for one in ACTIVATION])
def test_a_wrong_kernel_is_rejected(planted: Planted) -> None:
    result = check_kernel(planted.kernel(), planted.dialect, examples=24, device="emulator")
    assert result.mismatches > 0
    assert result.counterexample is not None


def test_bfloat16_is_what_ml_dtypes_multiplies() -> None:
    """The cross-check above relies on it: bf16 * bf16 is the fp32 product, rounded."""
    a = np.array([1.0078125], ml_dtypes.bfloat16)
    assert float((a * a)[0]) == float(round_to((a.astype(np.float32)) ** 2, "bf16")[0])
    assert int8_activation.SPOKEN == ("ieee", "vllm")
