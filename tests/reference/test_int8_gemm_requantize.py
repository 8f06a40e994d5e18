"""Requantizing GEMM: the composition it promises, by hand, and wrong twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantassay import check_kernel
from quantassay.cases import cases
from reference import Kernel, get_op
from reference.int8_gemm import gemm_dequant
from reference.int8_gemm_requantize import DIALECTS, gemm_requantize
from reference.int8_quantize import quantize_static

OP = get_op("int8.gemm_requantize")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_is_the_composition_of_two_ops(dialect: str) -> None:
    for case in cases(OP, dialect, examples=30, seed=4):
        inputs = OP.build(case.recipe)
        scale = inputs.pop("out_scale")
        value = gemm_dequant(**inputs, dialect=dialect)
        expected = quantize_static(value, scale, dialect=dialect)
        got = gemm_requantize(**inputs, out_scale=scale, dialect=dialect)
        assert np.array_equal(got, expected), case


def test_by_hand() -> None:
    a, b = np.array([[2], [100]], np.int8), np.array([[3], [-3]], np.int8)
    one, scale = np.ones(1, np.float32), np.array([4.0], np.float32)
    # 6 / 4 = 1.5 and -1.5: ties to even; 300 / 4 = 75
    assert gemm_requantize(a, b, one, one, scale).tolist() == [[2, -2], [75, -75]]
    bias = np.array([4.0, 1e9], np.float32)
    assert gemm_requantize(a, b, one, one, scale, bias).tolist() == [[2, 127], [76, 127]]
    assert gemm_requantize(
        a, -b, one, one, np.array([1e-3], np.float32), dialect="vllm"
    ).tolist() == [
        [-128, 127],
        [-128, 127],
    ]


def test_bad_scales_are_named() -> None:
    a = b = np.ones((2, 3), np.int8)
    one = np.ones(1, np.float32)
    for value, words in ((0.0, "got 0.0 at index 0"), (np.nan, "got nan"), (-1.0, "got -1.0")):
        with pytest.raises(ValueError, match=f"out_scale: {words}"):
            gemm_requantize(a, b, one, one, np.array([value], np.float32))
    with pytest.raises(ValueError, match="out_scale: got 2 elements"):
        gemm_requantize(a, b, one, one, np.ones(2, np.float32))


def through_fp16(a: Any, b: Any, a_scales: Any, b_scales: Any, out_scale: Any, bias: Any) -> Any:
    value = gemm_dequant(a, b, a_scales, b_scales, bias, out_dtype="fp16")
    return quantize_static(value, out_scale)


def inverse(a: Any, b: Any, a_scales: Any, b_scales: Any, out_scale: Any, bias: Any) -> Any:
    value = gemm_dequant(a, b, a_scales, b_scales, bias) * (np.float32(1) / out_scale)
    return np.nan_to_num(np.clip(np.rint(value), -127, 127)).astype(np.int8)


def biasless(a: Any, b: Any, a_scales: Any, b_scales: Any, out_scale: Any, bias: Any) -> Any:
    return gemm_requantize(a, b, a_scales, b_scales, out_scale, None)


@pytest.mark.parametrize("wrong", [through_fp16, inverse, biasless])
def test_wrong_kernels_are_rejected(wrong: Any) -> None:
    kernel = Kernel("int8.gemm_requantize", "wrong", wrong.__name__, ("ieee",), wrong)
    result = check_kernel(kernel, "ieee", device="emulator", examples=60)
    assert result.mismatches > 0
    assert result.counterexample is not None
