"""Group quantization: by hand, as rows, against an exact scalar model; errors."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from reference import get_op, int8_quantize, recipe, recipes
from reference.int8_group import (
    BASE,
    dequantize_per_group,
    quantize_per_group,
    quantize_static_per_group,
)
from tests.reference.test_int8 import divide, half

f32 = np.float32
NAN, INF = float("nan"), float("inf")
FLOOR = f32(1e-10)


def row(*values: float) -> Any:
    return np.array([values], f32)


def bits(array: Any) -> Any:
    return array.view(np.uint32)


# --- by hand: groups of 4


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("ieee", [127, 2, 2, -4, -127, 0, 0, 0]),  # 1.5, 2.5 and 3.5 go to the even neighbour
        ("vllm", [127, 1, 2, -3, -127, 0, 0, 0]),  # 1.5, 2.5, 3.5 and 0.99 are cut
    ],
)
def test_ties(name: str, codes: list[int]) -> None:
    x = row(127.0, 1.5, 2.5, -3.5, -254.0, 0.98, -0.98, 0.0)
    got, scales = quantize_per_group(x, 4, dialect=name)
    assert got.tolist() == [codes]
    assert scales.tolist() == [[1.0, 2.0]]


def test_each_group_has_its_own_scale() -> None:
    x = np.stack([np.arange(1, 7), np.arange(60, 0, -10)]).astype(f32)
    codes, scales = quantize_per_group(x, 2)
    assert scales.shape == (2, 3)
    assert (scales == np.array([[2, 4, 6], [60, 40, 20]], f32) / f32(127)).all()
    assert codes.tolist() == [[64, 127, 95, 127, 106, 127], [127, 106, 127, 95, 127, 64]]


def test_zero_groups() -> None:
    x = row(0.0, -0.0, 1.0, -1.0)
    codes, scales = quantize_per_group(x, 2)
    assert codes.tolist() == [[0, 0, 127, -127]]
    assert bits(scales)[0, 0] == 0
    codes, scales = quantize_per_group(x, 2, dialect="vllm")
    assert codes.tolist() == [[0, 0, 127, -127]]
    assert scales[0, 0] == FLOOR / f32(127)
    codes, scales = quantize_per_group(x.astype(np.float16), 2, dialect="article_torch")
    assert codes.tolist()[0][:2] == [0, 0]  # 0 / 0
    assert bits(scales)[0, 0] == 0


def test_the_floor() -> None:
    """Below 1e-10 the codes are those of 1e-10's scale; at and above it nothing changes. Where
    amax / (amax / 127) comes out below 127, truncation makes it 126.
    """
    x = row(5e-11, -1e-12, float(FLOOR), 0.0, 2e-10, 1e-10)
    codes, scales = quantize_per_group(x, 2, dialect="vllm")
    assert codes.tolist() == [[63, -1, 126, 0, 126, 63]]
    assert (scales[0] == np.array([FLOOR, FLOOR, f32(2e-10)]) / f32(127)).all()
    assert quantize_per_group(x, 2)[0].tolist() == [[127, -3, 127, 0, 127, 63]]


def test_nan_and_infinity() -> None:
    x = row(NAN, 1.0, NAN, NAN, INF, 3.0, -INF, INF)
    codes, scales = quantize_per_group(x, 2)
    assert codes.tolist() == [[0] * 8]
    assert bits(scales)[0, :2].tolist() == [0x7FFFFFFF] * 2
    assert scales[0, 2:].tolist() == [INF, INF]
    codes, scales = quantize_per_group(x, 2, dialect="vllm")
    assert codes.tolist() == [[-128, 127, -128, -128, -128, 0, -128, -128]]
    assert scales[0].tolist() == [f32(1) / f32(127), FLOOR / f32(127), INF, INF]


def test_static() -> None:
    x = row(1.5, -300.0, 1.75, NAN, INF, 0.99)
    scales = np.array([[1.0, 0.5, 2.0]], f32)
    assert quantize_static_per_group(x, scales).tolist() == [[2, -127, 4, 0, 127, 0]]
    vllm = quantize_static_per_group(x, scales, dialect="vllm")
    assert vllm.tolist() == [[1, -128, 3, -128, 127, 0]]


def test_dequantize() -> None:
    codes = np.array([[3, -128, 1, 0], [127, -1, 2, 5]], np.int8)
    scales = np.array([[0.5, NAN], [1e38, 2.0]], f32)
    out = dequantize_per_group(codes, scales)
    assert out[0, :2].tolist() == [1.5, -64.0]
    assert bits(out)[0, 2:].tolist() == [0x7FFFFFFF] * 2
    assert out[1].tolist() == [INF, -f32(1e38), 4.0, 10.0]
    half_out = dequantize_per_group(codes, scales[1:], out_dtype="fp16")
    assert half_out.tolist() == [[INF, -INF, 2.0, 0.0], [INF, -INF, 4.0, 10.0]]


# --- properties


def made(kind: str, dtype: str, M: int, Q: int, G: int, seed: int = 5) -> Any:
    return recipes.floats(recipe(kind, dtype=dtype, M=M, Q=Q, G=G, seed=seed), M * Q, G)


@pytest.mark.parametrize("kind", recipes.KINDS)
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_groups_are_rows(kind: str, dtype: str) -> None:
    groups = made(kind, dtype, 3, 4, 9)
    codes, scales = quantize_per_group(groups.reshape(3, 36), 9)
    by_row, row_scales = int8_quantize.quantize_per_token(groups)
    assert codes.tobytes() == by_row.tobytes()
    assert scales.tobytes() == row_scales.tobytes()
    whole = quantize_per_group(groups, 9)
    assert whole[0].tobytes() == by_row.tobytes()
    assert whole[1].shape == (12, 1)


def test_given_scales_are_rows_too() -> None:
    groups, scales = made("saturating", "fp16", 3, 4, 9), recipes.scales(recipe("normal"), 12)
    codes = quantize_static_per_group(groups.reshape(3, 36), scales.reshape(3, 4))
    assert codes.tobytes() == int8_quantize.quantize_static(groups, scales).tobytes()
    out = dequantize_per_group(codes, scales.reshape(3, 4), out_dtype="bf16")
    rows = int8_quantize.dequantize(codes.reshape(12, 9), scales, out_dtype="bf16")
    assert out.tobytes() == rows.tobytes()
    shared = dequantize_per_group(codes, scales[None, :4].copy())
    repeated = dequantize_per_group(codes, np.tile(scales[:4], (3, 1)))
    assert shared.tobytes() == repeated.tobytes()


@pytest.mark.parametrize("name", ["ieee", "vllm"])
def test_static_under_the_dynamic_scales_gives_the_same_codes(name: str) -> None:
    x = made("normal", "fp32", 3, 4, 16).reshape(3, 64)
    codes, scales = quantize_per_group(x, 16, dialect=name)
    assert quantize_static_per_group(x, scales, dialect=name).tobytes() == codes.tobytes()


def test_smaller_groups_lose_less() -> None:
    x = made("outlier_channels", "fp32", 8, 1, 512)
    errors = []
    for size in (512, 128, 32, 8, 1):
        codes, scales = quantize_per_group(x, size)
        errors.append(float(np.abs(dequantize_per_group(codes, scales) - x).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-6 * errors[0]


# --- an exact scalar model, from the dialects' words


def quantize_group(group: list[float], name: str) -> tuple[list[int], float]:
    numbers = [abs(x) for x in group if not np.isnan(x)]
    low, of_nan = {"ieee": (-127, 0), "vllm": (-128, -128), "article_torch": (-128, 0)}[name]
    amax = max([float(FLOOR), *numbers] if name == "vllm" else numbers, default=NAN)
    if name != "vllm" and len(numbers) < len(group):
        amax = NAN
    narrow = half if name == "article_torch" else float
    scale = narrow(divide(amax, 127.0))
    codes = []
    for x in group:
        quotient = 0.0 if name == "ieee" and scale == 0 else narrow(divide(x, scale))
        if np.isnan(quotient):
            codes.append(of_nan)
        elif np.isinf(quotient):
            codes.append(127 if quotient > 0 else low)
        else:
            exact = Fraction(quotient)
            codes.append(max(low, min(127, int(exact) if name == "vllm" else round(exact))))
    return codes, scale


@pytest.mark.parametrize("kind", recipes.KINDS)
@pytest.mark.parametrize(
    ("dtype", "name"),
    [("fp16", name) for name in BASE] + [("fp32", "ieee"), ("fp32", "vllm"), ("bf16", "vllm")],
)
def test_follows_its_words(kind: str, dtype: str, name: str) -> None:
    groups = made(kind, dtype, 4, 3, 21)
    codes, scales = quantize_per_group(groups.reshape(4, 63), 21, dialect=name)
    got = zip(groups.astype(f32).tolist(), codes.reshape(12, 21), scales.ravel(), strict=True)
    for group, of_group, scale in got:
        expected, expected_scale = quantize_group(group, name)
        assert of_group.tolist() == expected
        same = bits(scale.reshape(1)) == bits(np.array([expected_scale], f32))
        assert same.all() or (np.isnan(expected_scale) and bits(scale.reshape(1)) == 0x7FFFFFFF)


@pytest.mark.parametrize("kind", recipes.KINDS)
def test_vllm_is_its_kernels_formula(kind: str) -> None:
    """fminf and fmaxf in the order of per_token_group_quant.cu, then a cast that cuts."""
    groups = made(kind, "fp16", 8, 5, 64).astype(f32)
    with np.errstate(all="ignore"):
        amax = np.fmax.reduce(np.abs(groups), axis=1, keepdims=True, initial=FLOOR)
        scale = amax / f32(127)
        clamped = np.fmin(np.fmax(groups / scale, f32(-128)), f32(127))
    codes, scales = quantize_per_group(groups.reshape(8, 320), 64, dialect="vllm")
    assert codes.tobytes() == clamped.astype(np.int8).tobytes()
    assert scales.tobytes() == scale.tobytes()


# --- errors

X, Q8 = np.ones((4, 12), f32), np.ones((4, 12), np.int8)


def ones(*shape: int) -> Any:
    return np.ones(shape, f32)


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "float": (
        lambda: quantize_per_group(X, 4.0),  # type: ignore[arg-type]
        TypeError,
        "group_size: got 4.0, a float; allowed: an int",
    ),
    "bool": (lambda: quantize_per_group(X, True), TypeError, "group_size: got True, a bool"),
    "none": (
        lambda: quantize_per_group(X, None),  # type: ignore[arg-type]
        TypeError,
        "group_size: got None, a NoneType",
    ),
    "zero": (
        lambda: quantize_per_group(X, 0),
        ValueError,
        "group_size: got 0; allowed: a divisor of K = 12, the last axis of x",
    ),
    "negative": (lambda: quantize_per_group(X, -4), ValueError, "group_size: got -4; allowed"),
    "divides": (lambda: quantize_per_group(X, 5), ValueError, "group_size: got 5; allowed"),
    "longer": (lambda: quantize_per_group(X, 24), ValueError, "group_size: got 24; allowed"),
    "x": (lambda: quantize_per_group(X[0], 4), ValueError, "x: got 1 dimensions"),
    "dialect": (
        lambda: quantize_per_group(X, 4, dialect="article_cuda"),
        ValueError,
        "dialect: got 'article_cuda'; allowed: ieee, vllm, article_torch",
    ),
    "dtype": (
        lambda: quantize_per_group(X, 4, dialect="article_torch"),
        TypeError,
        "x: got dtype float32; allowed in dialect article_torch: fp16",
    ),
    "rank": (
        lambda: quantize_static_per_group(X, ones(3)),
        ValueError,
        "scales: got 1 dimensions, shape (3,); allowed: 2",
    ),
    "rows": (
        lambda: quantize_static_per_group(X, ones(3, 2)),
        ValueError,
        "scales: got 3 rows; allowed: 1 (the same for all) or 4 (one per row of x)",
    ),
    "groups": (
        lambda: quantize_static_per_group(X, ones(4, 5)),
        ValueError,
        "scales: got 5 groups a row (its last axis); allowed: a divisor of K = 12",
    ),
    "nan scale": (
        lambda: quantize_static_per_group(X, np.where(np.eye(4, 2) > 0, NAN, 1).astype(f32)),
        ValueError,
        "scales: got nan at index (0, 0); allowed: finite and > 0",
    ),
    "inexact": (
        lambda: quantize_static_per_group(
            X.astype(np.float16), 0.1 * ones(1, 2), dialect="article_torch"
        ),
        ValueError,
        "values of fp16, the dtype that it stores them in",
    ),
    "scales": (
        lambda: dequantize_per_group(Q8, ones(4, 2).astype(np.float16)),
        TypeError,
        "scales: got dtype float16; allowed: fp32",
    ),
    "shape": (lambda: dequantize_per_group(Q8, ones(2, 2)), ValueError, "scales: got 2 rows"),
    "codes": (
        lambda: dequantize_per_group(X, ones(4, 2)),  # type: ignore[arg-type]
        TypeError,
        "codes: got dtype float32; allowed: s8",
    ),
    "out": (
        lambda: dequantize_per_group(Q8, ones(4, 2), out_dtype="s8"),
        ValueError,
        "out_dtype: got 's8'; allowed: fp32, fp16, bf16",
    ),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_named(case: str) -> None:
    call, error, words = BAD[case]
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


def test_hostile_recipes_have_groups_of_every_sort() -> None:
    """Of one element, of all of K, odd ones, longer than a warp's registers hold."""
    op = get_op("int8.quantize_per_group")
    sizes = [(made.dim("Q"), made.dim("G")) for made in op.hostile]
    assert len(sizes) < 60
    for wanted in ((5, 1), (1, 129), (3, 7), (2, 64), (2, 1100)):
        assert wanted in sizes
