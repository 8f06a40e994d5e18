"""Bitwise comparison: what counts as equal, and what a mismatch says."""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from quantassay.compare import Mismatch, compare
from quantassay.values import bits, show
from reference import get_op, recipe

TOKEN = get_op("int8.quantize_per_token")
GEMM = get_op("int8.gemm")
EPILOGUE = get_op("int8.epilogue")


def quantized() -> tuple[dict[str, Any], list[np.ndarray]]:
    inputs = TOKEN.build(recipe("normal", M=3, K=5))
    return inputs, [array.copy() for array in TOKEN.expected(inputs, dialect="ieee")]


def compared(got: list[Any]) -> Mismatch | None:
    inputs, expected = quantized()
    return compare(TOKEN, inputs, {"dialect": "ieee"}, got, expected)


def test_equal_bytes_are_no_mismatch() -> None:
    assert compared(quantized()[1]) is None


def test_a_difference_shows_index_values_bits_and_input() -> None:
    inputs, got = quantized()
    got[0][1, 3] += 1
    got[0][2, 0] -= 1
    found = compared(got)
    assert found is not None
    assert (found.output, found.count, found.total, found.first_index) == ("codes", 2, 15, (1, 3))
    assert found.all_counts == 2
    first = found.differences[0]
    assert (first.got, first.expected) == (show(got[0][1, 3]), show(np.int8(got[0][1, 3] - 1)))
    assert found.headline() == "codes: 2 of 15 elements differ (scales: 0 of 3)"
    assert f"x[1, 3] = {show(inputs['x'][1, 3])}" in found.words
    assert f"scales[1] = {show(got[1][1])}" in found.words
    assert f"amax {np.abs(inputs['x'][1]).max():.9g}" in found.words
    assert "codes[2, 0]: got" in found.words


def test_every_output_is_counted() -> None:
    _, got = quantized()
    got[0][0, 0] ^= 1
    got[1][:] = 1
    found = compared(got)
    assert found is not None
    assert found.differing == {"codes": (1, 15), "scales": (3, 3)}
    assert found.all_counts == 4


@pytest.mark.parametrize(
    ("got", "expected", "equal"),
    [
        (0x7FFFFFFF, 0x7FFFFFFF, True),
        (0x7FC00000, 0x7FFFFFFF, False),
        (0xFFFFFFFF, 0x7FFFFFFF, False),
        (0x3F800000, 0x7FFFFFFF, False),
        (0x80000000, 0x00000000, False),
        (0x00000001, 0x00000000, False),
    ],
)
def test_nan_and_zero_are_told_apart_by_their_bits(got: int, expected: int, equal: bool) -> None:
    _, base = quantized()
    inputs, want = quantized()
    base[1].view(np.uint32)[2] = got
    want[1].view(np.uint32)[2] = expected
    found = compare(TOKEN, inputs, {}, base, want)
    assert (found is None) is equal
    if found is not None:
        assert found.output == "scales"
        assert found.first_index == (2,)
        assert f"0x{got:08x}" in found.words


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c, s: [c], "the kernel returns 1 outputs; expected 2: codes, scales"),
        (lambda c, s: [c.astype(np.int16), s], "returns dtype int16; expected s8"),
        (lambda c, s: [c, s.astype(np.float64)], "scales: the kernel returns dtype float64"),
        (lambda c, s: [c.T, s], "returns shape (5, 3); expected (3, 5)"),
        (lambda c, s: [c, s[:, None]], "scales: the kernel returns shape (3, 1); expected (3,)"),
        (lambda c, s: [None, s], "codes: the kernel returns NoneType"),
        (lambda c, s: [c.tolist(), s], "codes: the kernel returns list"),
    ],
)
def test_form_comes_before_values(spoil: Any, words: str) -> None:
    codes, scales = quantized()[1]
    found = compared(spoil(codes, scales))
    assert found is not None
    assert words in found.words
    assert found.count == found.total
    assert found.differences == ()


def test_a_transposed_view_is_compared_by_value() -> None:
    codes, scales = quantized()[1]
    assert compared([np.asfortranarray(codes), scales]) is None


def test_gemm_shows_the_row_and_the_column() -> None:
    inputs = GEMM.build(recipe("normal", M=2, N=3, K=20, seed=4))
    expected = GEMM.expected(inputs, dialect="ieee")
    got = [expected[0].copy()]
    got[0][1, 2] += 256
    found = compare(GEMM, inputs, {}, got, expected)
    assert found is not None
    row, column = inputs["a"][1], inputs["b"][2]
    assert f"a[1, :] = [{', '.join(map(str, row[:8]))}, ... 20 in all]" in found.words
    assert f"b[2, :] = [{', '.join(map(str, column[:8]))}, ... 20 in all]" in found.words


def test_epilogue_shows_one_element_of_each_vector() -> None:
    inputs = EPILOGUE.build(recipe("normal", M=2, N=3, K=1, seed=1))
    inputs["bias"] = np.ones(3, np.float32)
    expected = EPILOGUE.expected(inputs, dialect="ieee", out_dtype="bf16")
    got = [expected[0].copy()]
    bits(got[0])
    got[0].view(np.uint16)[1, 2] ^= 1
    found = compare(EPILOGUE, inputs, {}, got, expected)
    assert found is not None
    for name, at in (("acc", (1, 2)), ("a_scales", (1,)), ("b_scales", (2,)), ("bias", (2,))):
        place = ", ".join(map(str, at))
        assert f"{name}[{place}] = {show(inputs[name][at])}" in found.words


def test_an_absent_bias_is_not_shown() -> None:
    inputs = EPILOGUE.build(recipe("normal", M=2, N=3, K=1)) | {"bias": None}
    expected = EPILOGUE.expected(inputs, dialect="ieee")
    found = compare(EPILOGUE, inputs, {}, [expected[0] + 1], expected)
    assert found is not None
    assert "bias" not in found.words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.int8(-1), "-1 (0xff)"),
        (np.int32(-2), "-2 (0xfffffffe)"),
        (np.float32(0.1), "0.100000001 (0x3dcccccd)"),
        (np.float16(0.1), "0.099976 (0x2e66)"),
        (ml_dtypes.bfloat16(0.1), "0.1001 (0x3dcd)"),
        (np.float32(-0.0), "-0 (0x80000000)"),
        (np.float32("nan"), "nan (0x7fc00000)"),
        (np.float32("-inf"), "-inf (0xff800000)"),
    ],
)
def test_values_are_shown_with_their_bits(value: Any, words: str) -> None:
    assert show(value) == words


def test_json_form_holds_no_arrays() -> None:
    _, got = quantized()
    got[0][0, 0] ^= 1
    found = compared(got)
    assert found is not None
    text = json.loads(json.dumps(found.as_dict()))
    assert text["differing"] == {"codes": [1, 15], "scales": [0, 3]}
    assert text["differences"][0]["index"] == [0, 0]
