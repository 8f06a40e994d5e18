"""The words of symmetric dialects, one by one, on rows worked out by hand.

Expected numbers come from the systems' own formulas (sources in reference/dialect_table.py); the
packages themselves are compared in tests/packages.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from reference import int8_group, int8_quantize
from reference.dialects import dialect
from reference.numerics import DTYPES
from tests.reference.test_numerics import exact_round

f32 = np.float32
NAN, INF = float("nan"), float("inf")
BELOW_HALF = float(np.nextafter(f32(0.5), f32(0)))


def token(row: list[float], name: str, dtype: str = "fp32") -> tuple[list[int], float]:
    """Codes and scale of one row."""
    x = np.array([row], np.float32).astype(DTYPES[dtype])
    codes, scales = int8_quantize.quantize_per_token(x, dialect=name)
    return codes[0].tolist(), float(scales[0])


def channel(row: list[float], name: str) -> tuple[list[int], float]:
    codes, scales = int8_quantize.quantize_per_channel(np.array([row], np.float32), dialect=name)
    return codes[0].tolist(), float(scales[0])


def group(row: list[float], name: str) -> tuple[list[int], float]:
    x = np.array([row], np.float32)
    codes, scales = int8_group.quantize_per_group(x, len(row), dialect=name)
    return codes[0].tolist(), float(scales[0, 0])


# -- rounding


def test_half_away_from_zero() -> None:
    """127/amax is 1: codes are roundf(x)."""
    row = [127.0, 0.5, -0.5, BELOW_HALF, -BELOW_HALF, 1.5, 2.5, -2.5, 126.5, -126.5, -126.49999]
    codes, scale = token(row, "sglang")
    assert codes == [127, 1, -1, 0, 0, 2, 3, -3, 127, -127, -126]
    assert scale == 1.0
    assert token([127.0, 0.5, -0.5, 1.5, 2.5], "vllm")[0] == [127, 0, 0, 2, 2]


def test_half_away_of_large_values_is_exact() -> None:
    values = np.array([4194303.5, 8388607.0, 8388609.0, -4194303.5, 3e38, INF, -INF], np.float32)
    expected = np.array([4194304.0, 8388607.0, 8388609.0, -4194304.0, f32(3e38), INF, -INF])
    with np.errstate(invalid="ignore"):
        assert np.array_equal(int8_quantize.half_away(values), expected.astype(np.float32))
        assert np.isnan(int8_quantize.half_away(np.array([NAN], np.float32)))[0]


def test_half_away_as_the_kernels_do_it() -> None:
    """trunc(v + the float below 1/2) is roundf for every float32 near a half; adding 1/2 is not."""
    halves = np.arange(0, 256, dtype=np.float32) + f32(0.5)
    bits = halves.view(np.uint32)[:, None].astype(np.int64) + np.arange(-4, 5)
    near = np.concatenate([bits.astype(np.uint32).view(np.float32).ravel(), halves - f32(0.5)])
    near = np.concatenate([near, -near])
    added = np.trunc(near + np.copysign(f32(BELOW_HALF), near))
    assert np.array_equal(added, int8_quantize.half_away(near))
    assert (np.trunc(near + np.copysign(f32(0.5), near)) != added).any()


def test_truncation_in_sglang_groups() -> None:
    codes, _ = group([127.0, 0.99, -1.99, 126.99, -126.5], "sglang")
    assert codes == [127, 0, -1, 126, -126]


# -- scales


def test_amax_times_the_inverse_of_127() -> None:
    inverse = exact_round(Fraction(1, 127))
    differing = 0
    for amax in (1.0, 3.0, *np.linspace(1, 2, 60).tolist()):
        product = float(exact_round(Fraction(float(f32(amax))) * Fraction(float(inverse))))
        assert group([amax, 0.0], "sglang")[1] == product
        differing += product != float(f32(amax) / f32(127))
    assert differing


def test_amax_over_127_and_a_half_clips_its_positive_end() -> None:
    row = [-127.5, 127.5, 0.5, 1.5, -0.5, 127.0]
    for name in ("torchao", "compressed_tensors"):
        assert token(row, name) == ([-128, 127, 0, 2, 0, 127], 1.0)
    assert channel(row, "pytorch") == ([-128, 127, 0, 2, 0, 127], 1.0)


def test_each_end_has_its_own_scale() -> None:
    assert token([-128.0, 127.0, 63.5], "torchao_no_clipping") == ([-128, 127, 64], 1.0)
    assert token([-4.0, 2.0], "torchao_no_clipping") == ([-128, 64], 4 / 128)
    codes, scale = token([4.0, -2.0], "torchao_no_clipping")
    assert codes == [127, -64]
    assert scale == float(f32(4) / f32(127))


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("levels", [127.0, 127.5])
def test_torch_divides_by_a_number_alike_on_cpu_and_gpu(dtype: str, levels: float) -> None:
    """For every amax of 16 bits: a GPU multiplies by the fp32 reciprocal, then rounds."""
    amax = np.arange(0x7C00 if dtype == "fp16" else 0x7F80, dtype=np.uint16).view(DTYPES[dtype])
    wide = amax.astype(np.float32)
    divided = (wide / f32(levels)).astype(DTYPES[dtype])
    multiplied = (wide * (f32(1) / f32(levels))).astype(DTYPES[dtype])
    assert divided.tobytes() == multiplied.tobytes()


@pytest.mark.parametrize(
    ("dtype", "amax", "scale"),
    [("fp16", 4.0, 0.0313720703125), ("bf16", 4.0, 0.031494140625), ("fp32", 4.0, f32(4 / 127.5))],
)
def test_a_scale_in_the_dtype_of_x(dtype: str, amax: float, scale: float) -> None:
    """torchao and compressed-tensors on the CPU store these; 0.3 / s then differs by dtype."""
    for name in ("torchao", "compressed_tensors"):
        assert token([-amax, 0.3], name, dtype)[1] == scale


def test_the_quotient_in_the_dtype_of_x_or_in_fp32() -> None:
    """fp16, s = 0.0235: torchao's codes in fp32, its defaults (1/s and x * (1/s) in fp16) and
    compressed-tensors' x / s in fp16, each as its package gives them.
    """
    row = [3.0, 0.90625, 0.953125]
    assert token(row, "torchao", "fp16") == ([127, 39, 41], 0.023529052734375)
    assert token(row, "compressed_tensors", "fp16") == ([127, 39, 40], 0.023529052734375)
    defaults = replace(dialect("torchao"), arithmetic="input")
    codes, _ = int8_quantize.quantize_rows(np.array([row], np.float16), defaults)
    assert codes[0].tolist() == [127, 38, 40]


# -- small scales, floors, zero rows


@pytest.mark.parametrize(
    ("name", "dtype", "scale"),
    [
        ("sglang", "fp32", f32(1e-10) / f32(127)),
        ("bitsandbytes", "fp16", 0.0),
        ("torchao", "fp32", 2.0**-23),
        ("torchao", "fp16", 2.0**-23),
        ("torchao_no_clipping", "fp32", 2.0**-126),
        ("torchao_no_clipping", "fp16", 2.0**-14),
        ("torchao_no_clipping", "bf16", 2.0**-126),
        ("compressed_tensors", "fp32", 2.0**-23),
        ("compressed_tensors", "fp16", 2.0**-10),
        ("compressed_tensors", "bf16", 2.0**-7),
        ("modelopt", "fp32", 0.0),
        ("smoothquant", "fp32", f32(1e-5) / f32(127)),
        ("smoothquant", "fp16", 2.0**-24),  # 1e-5 is 168 steps of fp16, over 127 is 1.3 steps
    ],
)
def test_zero_rows(name: str, dtype: str, scale: float) -> None:
    assert token([0.0, -0.0, 0.0], name, dtype) == ([0, 0, 0], float(scale))


def test_the_floor_lies_under_amax_not_under_the_scale() -> None:
    tiny = 5e-11
    assert token([tiny, -tiny], "sglang") == ([64, -64], float(f32(1e-10) / f32(127)))
    assert token([5e-6, 0.0], "smoothquant") == ([64, 0], float(f32(1e-5) / f32(127)))
    assert token([2e-10, 0.0], "sglang") == ([127, 0], float(f32(2e-10) / f32(127)))


def test_smoothquant_saturates_where_its_source_has_no_clamp() -> None:
    """168 steps of fp16 over a scale of one step."""
    assert token([168 * 2.0**-24, -168 * 2.0**-24], "smoothquant", "fp16") == (
        [127, -128],
        2.0**-24,
    )


def test_least_scales() -> None:
    assert token([100 * 2.0**-23, -(2.0**-24)], "torchao") == ([100, 0], 2.0**-23)
    assert channel([3 * 2.0**-24, 0.0], "pytorch") == ([2, 0], 2.0**-23)
    # 2**-24 / 127.5 is 0 in fp16: the scale becomes 2**-10. 64 steps: one step, not 0.
    assert token([2.0**-24, 0.0], "compressed_tensors", "fp16") == ([0, 0], 2.0**-10)
    assert token([64 * 2.0**-24, 0.0], "compressed_tensors", "fp16") == ([64, 0], 2.0**-24)


def test_modelopt_gives_0_below_its_epsilon_only() -> None:
    epsilon = 2.0**-24
    below = float(np.nextafter(f32(epsilon), f32(0)))
    assert token([epsilon, -epsilon / 2], "modelopt") == (
        [127, -64],
        float(f32(epsilon) / f32(127)),
    )
    assert token([below, -below / 2], "modelopt") == ([0, 0], float(f32(below) / f32(127)))


# -- what is stored


def test_bitsandbytes_stores_amax() -> None:
    assert token([-254.0, 2.0, 127.0], "bitsandbytes", "fp16") == ([-127, 1, 64], 254.0)


def test_gguf_rounds_the_stored_scale_after_the_codes() -> None:
    """s = 1 + 2**-12 is 1 in fp16; x = 0.5 + 2**-13 is half of s, not more than half of 1."""
    s = 1 + 2.0**-12
    assert group([127 * s, -127 * s, 1.0], "gguf") == ([127, -127, 1], 1.0)
    half = float(np.nextafter(f32(0.5 * s), f32(0)))  # over s below 1/2, over 1 above
    assert half > 0.5
    assert group([127 * s, half], "gguf")[0] == [127, 0]


def test_gguf_scales_beyond_fp16() -> None:
    codes, scale = group([127 * 65520.0, 65520.0], "gguf")
    assert (codes, scale) == ([127, 1], INF)
    codes, scale = group([127 * 2.0**-25, -(2.0**-25)], "gguf")
    assert (codes, scale) == ([127, -1], 0.0)
    assert group([127 * 65519.0, 0.0], "gguf")[1] == 65504.0


# -- NaN and infinity


@pytest.mark.parametrize(
    "name", ["torchao", "torchao_no_clipping", "compressed_tensors", "modelopt", "smoothquant"]
)
def test_nan_and_infinity_where_nan_propagates(name: str) -> None:
    codes, scale = token([1.0, NAN, -2.0], name)
    assert codes == [0, 0, 0]
    assert np.isnan(scale)
    assert token([1.0, INF, -INF], name) == ([0, 0, 0], INF)


@pytest.mark.parametrize("name", ["sglang", "bitsandbytes"])
def test_nan_and_infinity_where_nan_is_skipped(name: str) -> None:
    amax = {"sglang": 127.0, "bitsandbytes": 1.0}[name]  # what is stored of amax 127
    assert token([127.0, NAN, -2.0], name, "fp16") == ([127, 0, -2], 127.0 / amax)
    assert token([1.0, INF, -INF], name, "fp16") == ([0, 0, 0], INF)
    codes, scale = token([NAN, NAN], name, "fp16")
    assert codes == [0, 0]
    assert scale == {"sglang": float(f32(1e-10) / f32(127)), "bitsandbytes": 0.0}[name]


def test_nan_in_groups() -> None:
    assert group([127.0, NAN, -2.0], "sglang")[0] == [127, -128, -2]
    codes, scale = group([127.0, NAN, -2.0], "gguf")
    assert codes == [0, 0, 0]
    assert np.isnan(scale)


def test_static_codes_of_nan_infinity_and_ties() -> None:
    x = np.array([[NAN, INF, -INF, 0.5, 1.5, -0.5, -0.0, 300.0]], np.float32)
    expected = {"onnx": -128, "pytorch": 0, "torchao": 0, "modelopt": 0, "compressed_tensors": 0}
    for name, of_nan in expected.items():
        codes = int8_quantize.quantize_static(x, np.ones(1, np.float32), dialect=name)
        assert codes[0].tolist() == [of_nan, 127, -128, 0, 2, 0, 0, 127], name


def test_subnormal_scales_in_the_dtype_of_x() -> None:
    """254 steps of fp16 over 127.5 round to 2: codes stay within 127."""
    step = 2.0**-24
    assert token([254 * step, -step], "compressed_tensors", "fp16") == ([127, 0], 2 * step)
    assert token([180 * step, step], "compressed_tensors", "fp16") == ([127, 1], step)


# -- what a dialect speaks


@pytest.mark.parametrize(
    ("name", "message"),
    [("gguf", "dialect: got 'gguf'; allowed: ieee, vllm"), ("onnx", "dialect: got 'onnx'")],
)
def test_an_op_refuses_what_its_system_has_not(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        int8_quantize.quantize_per_token(np.ones((1, 2), np.float32), dialect=name)


def test_dtypes_that_a_system_does_not_take() -> None:
    with pytest.raises(TypeError, match="x: got dtype float32; allowed in dialect bitsandbytes"):
        int8_quantize.quantize_per_token(np.ones((1, 2), np.float32), dialect="bitsandbytes")
    with pytest.raises(TypeError, match="w: got dtype float16; allowed in dialect pytorch: fp32"):
        int8_quantize.quantize_per_channel(np.ones((1, 2), np.float16), dialect="pytorch")


def test_given_scales_are_values_of_the_dtype_that_is_computed_in() -> None:
    x, scales = np.ones((1, 2), np.float16), np.array([0.3], np.float32)
    with pytest.raises(ValueError, match="allowed in dialect compressed_tensors: values of fp16"):
        int8_quantize.quantize_static(x, scales, dialect="compressed_tensors")
    assert int8_quantize.quantize_static(x, scales, dialect="torchao")[0].tolist() == [3, 3]
