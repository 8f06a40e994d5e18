"""Asymmetric GEMM: by hand, against float64 of the dequantized operands, and its overflow guard."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantassay import check_kernel
from reference import Kernel, get_op
from reference.int8_gemm import gemm, gemm_batched
from reference.int8_gemm_azp import column_sums, gemm_azp, without_zero_point
from reference.numerics import INT32_MAX, int_gemm


def s8(*rows: list[int]) -> Any:
    return np.array(rows, np.int8)


def ones(count: int) -> Any:
    return np.ones(count, np.float32)


def s32(*values: int) -> Any:
    return np.array(values, np.int32)


def test_by_hand() -> None:
    a = np.array([[200, 10]], np.uint8)  # zero point 100: 100 and -90
    b = s8([1, 2], [-3, 4])
    sums = column_sums(b)
    assert sums.tolist() == [3, 1]
    out = gemm_azp(a, b, np.array([0.5], np.float32), ones(2), s32(100), sums)
    assert out.tolist() == [[(100 * 1 - 90 * 2) * 0.5, (100 * -3 - 90 * 4) * 0.5]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_equals_the_product_of_what_the_codes_stand_for(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    info = np.iinfo(dtype)
    a = rng.integers(info.min, info.max + 1, (9, 300)).astype(dtype)
    b = rng.integers(-128, 128, (5, 300)).astype(np.int8)
    points = rng.integers(info.min, info.max + 1, 9).astype(np.int32)
    real = (a.astype(np.float64) - points[:, None]) @ b.astype(np.float64).T
    exact = without_zero_point(int_gemm(a, b), points, column_sums(b))
    assert np.array_equal(exact, real)
    out = gemm_azp(a, b, ones(9), ones(5), points, column_sums(b))
    assert np.array_equal(out, real.astype(np.float32))


def test_intermediate_overflow_does_no_harm() -> None:
    """vLLM's zero point of a row in [100, 101]: the product passes int32, the sum does not."""
    depth = 660
    a, b = np.full((1, depth), -128, np.int8), np.full((1, depth), 127, np.int8)
    point, sums = s32(-25628), column_sums(b)
    assert int(point[0]) * int(sums[0]) < -(2**31)
    out = gemm_azp(a, b, ones(1), ones(1), point, sums, dialect="vllm")
    assert out[0, 0] == np.float32((-128 + 25628) * 127 * depth)


def test_the_guard_refuses_what_can_overflow_and_wrap_wraps() -> None:
    depth = 660
    a, b = np.zeros((1, depth), np.int8), np.full((1, depth), 127, np.int8)
    with pytest.raises(ValueError, match=r"zero_points: got -25628 at index 0; allowed .* K = 660"):
        gemm_azp(a, b, ones(1), ones(1), s32(-25628), column_sums(b))
    wide = 25628 * 127 * depth
    assert wide > INT32_MAX
    out = gemm_azp(a, b, ones(1), ones(1), s32(-25628), column_sums(b), dialect="vllm")
    assert out[0, 0] == np.float32(wide - 2**32)


def test_the_guard_is_tight() -> None:
    """The largest allowed zero point reaches int32's end but does not pass it."""
    depth = 1000
    a, b = np.full((1, depth), -128, np.int8), np.full((1, depth), -128, np.int8)
    most = INT32_MAX // (128 * depth)
    args = a, b, ones(1), ones(1)
    out = gemm_azp(*args, s32(most - 128), column_sums(b))
    assert out[0, 0] == np.float32((-128 - (most - 128)) * -128 * depth)
    with pytest.raises(ValueError, match="zero_points"):
        gemm_azp(*args, s32(most - 127), column_sums(b))


def test_bad_input_is_named() -> None:
    a, b = s8([1, 2]), s8([3, 4])
    sums = column_sums(b)
    cases: list[tuple[tuple[Any, ...], type[Exception], str]] = [
        ((a, b, ones(1), ones(1), ones(1), sums), TypeError, "zero_points: got dtype float32"),
        ((a, b, ones(1), ones(1), s32(1, 2), sums), ValueError, "zero_points: got 2 elements"),
        ((a, b, ones(1), ones(1), s32(1), s32(1, 2)), ValueError, "column_sums: got 2 elements"),
        ((a, s8([1]), ones(1), ones(1), s32(1), sums), ValueError, "b: got K = 1"),
        ((a.astype(np.int16), b, ones(1), ones(1), s32(1), sums), TypeError, "a: got dtype int16"),
    ]
    for arguments, error, words in cases:
        with pytest.raises(error, match=words):
            gemm_azp(*arguments)
    wide, b = np.zeros((1, 65794), np.uint8), np.zeros((1, 65794), np.int8)
    with pytest.raises(ValueError, match="a: got K = 65794; allowed in dialect ieee"):
        gemm_azp(wide, b, ones(1), ones(1), s32(0), column_sums(b))


def added(a: Any, b: Any, a_scales: Any, b_scales: Any, points: Any, sums: Any, bias: Any) -> Any:
    return gemm_azp(a, b, a_scales, b_scales, -points, sums, bias, dialect="vllm")


def unsigned(
    a: Any, b: Any, a_scales: Any, b_scales: Any, points: Any, sums: Any, bias: Any
) -> Any:
    return gemm_azp(a.view(np.int8), b, a_scales, b_scales, points, sums, bias)


def first_point(
    a: Any, b: Any, a_scales: Any, b_scales: Any, points: Any, sums: Any, bias: Any
) -> Any:
    return gemm_azp(a, b, a_scales, b_scales, points[:1], sums, bias)


def in_floats(
    a: Any, b: Any, a_scales: Any, b_scales: Any, points: Any, sums: Any, bias: Any
) -> Any:
    """Subtracts in fp32, where products beyond 2**24 are rounded."""
    exact = int_gemm(a, b).astype(np.float32) - points[:, None].astype(np.float32) * sums
    out = exact * b_scales * a_scales[:, None]
    return out if bias is None else out + bias


@pytest.mark.parametrize("wrong", [added, unsigned, first_point, in_floats])
def test_wrong_kernels_are_rejected(wrong: Any) -> None:
    kernel = Kernel("int8.gemm_azp", "wrong", wrong.__name__, ("ieee",), wrong)
    result = check_kernel(kernel, "ieee", device="emulator")
    assert result.mismatches > 0
    assert result.counterexample is not None


def test_batched_is_one_gemm_after_another() -> None:
    made = get_op("int8.gemm_batched").hostile[5]
    inputs = get_op("int8.gemm_batched").build(made)
    out = gemm_batched(**inputs)
    for i in range(len(out)):
        assert np.array_equal(out[i], gemm(inputs["a"][i], inputs["b"][i]))
    with pytest.raises(ValueError, match=r"b: got 2 matrices .*; allowed: 1"):
        gemm_batched(np.ones((1, 2, 3), np.int8), np.ones((2, 2, 3), np.int8))
