"""The linear layers: each the composition that it names, the same bits on oracle and wings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from quantassay import DynamicQuantLinear, StaticQuantLinear, WeightOnlyLinear
from quantassay.linear import ORACLE, implementation, quantize_weight
from reference.int8_asymmetric import asymmetric_per_token, asymmetric_static
from reference.int8_gemm import gemm_dequant
from reference.int8_gemm_azp import column_sums, gemm_azp
from reference.int8_gemm_group import gemm_group
from reference.int8_group import quantize_per_group
from reference.int8_linear import linear
from reference.int8_quantize import quantize_per_channel, quantize_per_tensor, quantize_static
from reference.int8_weight_only import weight_only_linear
from reference.numerics import DTYPES

WINGS = ("cupy", "numba")
RNG = np.random.default_rng(8)
X = RNG.standard_normal((2, 5, 96)).astype(np.float16)
FLAT = X.reshape(10, 96)
WEIGHT = (RNG.standard_normal((24, 96)) * 0.05).astype(np.float32)
BIAS = RNG.standard_normal(24).astype(np.float32)
CODES, SCALES = quantize_per_channel(WEIGHT)
SCALE = np.array([0.02], np.float32)
POINT = np.array([-7], np.int32)


def _group(dialect: str) -> Any:
    codes, scales = quantize_per_group(FLAT, 32, dialect=dialect)
    w_codes, w_scales = quantize_per_group(WEIGHT, 32, dialect=dialect)
    options = {"dialect": dialect, "out_dtype": "fp16"}
    return gemm_group(codes, w_codes, scales, w_scales, BIAS, **options)


def _tensor(dialect: str) -> Any:
    codes, scales = quantize_per_tensor(FLAT, dialect=dialect)
    w_codes, w_scales = quantize_per_tensor(WEIGHT, dialect=dialect)
    options = {"dialect": dialect, "out_dtype": "fp16"}
    return gemm_dequant(codes, w_codes, scales, w_scales, BIAS, **options)


def _asymmetric(dialect: str) -> Any:
    codes, scales, points = asymmetric_per_token(FLAT, dialect=dialect, code_dtype="s8")
    w_codes, w_scales = quantize_per_channel(WEIGHT, dialect=dialect)
    sums = column_sums(w_codes)
    operands = codes, w_codes, scales, w_scales, points, sums, BIAS
    return gemm_azp(*operands, dialect=dialect, out_dtype="fp16")


def _static_asymmetric(dialect: str) -> Any:
    codes = asymmetric_static(FLAT, SCALE, POINT, dialect=dialect, code_dtype="s8")
    w_codes, w_scales = quantize_per_channel(WEIGHT, dialect=dialect)
    operands = codes, w_codes, SCALE, w_scales, POINT, column_sums(w_codes), BIAS
    return gemm_azp(*operands, dialect=dialect, out_dtype="fp16")


def _static(dialect: str) -> Any:
    codes = quantize_static(FLAT, SCALE, dialect=dialect)
    w_codes, w_scales = quantize_per_channel(WEIGHT, dialect=dialect)
    operands = codes, w_codes, SCALE, w_scales, BIAS
    return gemm_dequant(*operands, dialect=dialect, out_dtype="fp16")


def _weight_only(dialect: str) -> Any:
    w_codes, w_scales = quantize_per_channel(WEIGHT, dialect=dialect)
    operands = FLAT, w_codes, w_scales[:, None].copy(), BIAS
    return weight_only_linear(*operands, dialect=dialect, out_dtype="fp16")


def _default(dialect: str) -> Any:
    w_codes, w_scales = quantize_per_channel(WEIGHT, dialect=dialect)
    return linear(FLAT, w_codes, w_scales, BIAS, dialect=dialect, out_dtype="fp16")


Made = Callable[..., Any]
LAYERS: dict[str, tuple[Made, Made]] = {  # what makes the layer, and the composition it must equal
    "per-token x per-channel": (
        lambda **k: DynamicQuantLinear.from_float(WEIGHT, BIAS, **k),
        _default,
    ),
    "per-tensor x per-tensor": (
        lambda **k: DynamicQuantLinear.from_float(
            WEIGHT, BIAS, granularity="per-tensor", activations="per-tensor", **k
        ),
        _tensor,
    ),
    "per-group x per-group": (
        lambda **k: DynamicQuantLinear.from_float(
            WEIGHT, BIAS, granularity="per-group", group_size=32, **k
        ),
        _group,
    ),
    "asymmetric per-token": (
        lambda **k: DynamicQuantLinear.from_float(WEIGHT, BIAS, symmetric=False, **k),
        _asymmetric,
    ),
    "static": (lambda **k: StaticQuantLinear.from_float(WEIGHT, SCALE, BIAS, **k), _static),
    "static asymmetric": (
        lambda **k: StaticQuantLinear.from_float(WEIGHT, SCALE, BIAS, zero_point=POINT, **k),
        _static_asymmetric,
    ),
    "weight-only": (lambda **k: WeightOnlyLinear.from_float(WEIGHT, BIAS, **k), _weight_only),
}


@pytest.mark.parametrize("dialect", ["ieee", "vllm"])
@pytest.mark.parametrize("wing", [ORACLE, *WINGS])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_composition(name: str, wing: str, dialect: str) -> None:
    make, composed = LAYERS[name]
    out = np.asarray(make(wing=wing, dialect=dialect)(X))
    expected = composed(dialect)
    assert out.dtype == np.float16
    assert out.shape == (2, 5, 24)
    assert np.array_equal(out.reshape(10, 24).view(np.uint16), expected.view(np.uint16))


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_near_the_float_product(name: str) -> None:
    """Rounding alone: half a step of each operand for every term, in the worst case."""
    make, _ = LAYERS[name]
    exact = FLAT.astype(np.float64) @ WEIGHT.astype(np.float64).T + BIAS
    out = make(out_dtype="fp32")(FLAT).astype(np.float64)
    x_step = 2 * np.abs(FLAT).max() / 127  # no granularity has a larger one; asymmetric the same
    w_step = np.abs(WEIGHT).max() / 127
    largest_x, largest_w = np.abs(FLAT).max(), np.abs(WEIGHT).max()
    bound = 96 * (x_step / 2 * largest_w + w_step / 2 * largest_x + x_step * w_step / 4)
    assert np.abs(out - exact).max() <= bound


def test_out_dtype_follows_x_or_the_option() -> None:
    layer = DynamicQuantLinear(CODES, SCALES)
    for name in ("fp32", "fp16", "bf16"):
        assert layer(FLAT.astype(DTYPES[name])).dtype == DTYPES[name]
    chosen = DynamicQuantLinear(CODES, SCALES, out_dtype="bf16")
    assert chosen(FLAT).dtype == DTYPES["bf16"]


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "codes": (lambda: DynamicQuantLinear(WEIGHT, SCALES), TypeError, "w_codes: got dtype float32"),
    "scales": (lambda: DynamicQuantLinear(CODES, 0.5), TypeError, "w_scales: got float"),
    "activations": (
        lambda: DynamicQuantLinear(CODES, SCALES, activations="per-row"),
        ValueError,
        "activations: got 'per-row'; allowed: per-tensor, per-token, per-group",
    ),
    "groups": (
        lambda: DynamicQuantLinear(CODES, SCALES, activations="per-group"),
        ValueError,
        "activations: got 'per-group' with w_scales of shape",
    ),
    "group size": (
        lambda: quantize_weight(WEIGHT, "per-group", "ieee", ORACLE),
        ValueError,
        "group_size: got None",
    ),
    "spare group size": (
        lambda: quantize_weight(WEIGHT, "per-channel", "ieee", ORACLE, 8),
        ValueError,
        "group_size: got 8; allowed only with",
    ),
    "wing": (
        lambda: implementation("int8.gemm", "triton"),
        ValueError,
        "wing: got 'triton'; allowed for int8.gemm: oracle, cupy, numba",
    ),
    "out_dtype": (
        lambda: WeightOnlyLinear(CODES, SCALES, out_dtype="fp8"),
        ValueError,
        "out_dtype: got 'fp8'",
    ),
    "x": (lambda: DynamicQuantLinear(CODES, SCALES)(FLAT[:, :5].copy()), ValueError, "got K = "),
    "static groups": (
        lambda: StaticQuantLinear(CODES, np.ones((24, 3), np.float32), SCALE),
        ValueError,
        "w_scales: got shape",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named(case: str) -> None:
    call, error, words = BAD[case]
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
