"""The asymmetric dialects of PyTorch, ONNX, torchao and compressed-tensors: rows worked by hand,
what each makes of NaN, infinities and zeros, and wrong kernels that the checker must reject.

The numbers of NAMED are what the packages themselves gave (torch 2.13, onnxruntime 1.31,
torchao 0.18, compressed-tensors 0.20, on a CPU).
"""

from __future__ import annotations

import numpy as np
import pytest

from quantassay import check_kernel
from reference import get_op
from reference import int8_asymmetric as oracle
from reference.asymmetric import BASE, CHANNEL, SPOKEN, asymmetric
from reference.numerics import DTYPES
from tests.wrong.planted import Planted
from tests.wrong.planted_asymmetric import ASYMMETRIC, UNCHANGED

f32 = np.float32
NAN, INF = float("nan"), float("inf")
EPS = 2.0**-23


def row(*values: float, dtype: str = "fp32") -> np.ndarray:
    return np.array([values], f32).astype(DTYPES[dtype])


def quantized(op: str, x: np.ndarray, dialect: str, codes: str) -> tuple[list[int], float, int]:
    c, s, z = getattr(oracle, f"asymmetric_{op}")(x, dialect=dialect, code_dtype=codes)
    return c[0].tolist(), float(s[0]), int(z[0])


THIRD, TWO = float(f32(3) / f32(255)), float(f32(2) / f32(255))
NAMED = {
    # values, op, dialect, code dtype, (codes, scale, zero point)
    "pytorch zeros": ((0, 0), "per_tensor", "pytorch", "u8", ([0, 0], EPS, 0)),
    "pytorch zeros s8": ((0, 0), "per_tensor", "pytorch", "s8", ([-128, -128], EPS, -128)),
    # -1e-7 / 2**-23 = -0.84 rounds to -1, so that the zero point is 1.
    "pytorch tiny": ((-1e-7, 0), "per_channel", "pytorch", "u8", ([0, 1], EPS, 1)),
    "pytorch constant": ((3, 3), "per_tensor", "pytorch", "u8", ([255, 255], THIRD, 0)),
    "pytorch nan": ((NAN, 1, 2), "per_tensor", "pytorch", "u8", ([255, 255, 255], NAN, 0)),
    "pytorch nan s8": ((NAN, 1, 2), "per_tensor", "pytorch", "s8", ([127, 127, 127], NAN, 127)),
    "pytorch nan channel": ((NAN, 1, 2), "per_channel", "pytorch", "s8", ([0, 0, 0], NAN, 127)),
    "pytorch inf": ((INF, -2, 0), "per_tensor", "pytorch", "s8", ([127, -128, -128], INF, -128)),
    "pytorch -inf channel": ((-INF, 7), "per_channel", "pytorch", "s8", ([0, 127], INF, 127)),
    "onnx zeros": ((0, -0.0), "per_tensor", "onnx", "u8", ([0, 0], 1, 0)),
    "onnx nan": ((NAN, 1, 2), "per_tensor", "onnx", "u8", ([0, 127, 255], TWO, 0)),
    "onnx inf": ((INF, -2, 0), "per_tensor", "onnx", "u8", ([0, 0, 0], INF, 0)),
    "onnx -inf": ((-INF, 7, 0), "per_tensor", "onnx", "u8", ([0, 255, 255], INF, 255)),
    "onnx underflow": ((-(2.0**-149), 2.0**-149), "per_tensor", "onnx", "u8", ([0, 255], 0, 255)),
    "onnx negative": ((-3, -3), "per_tensor", "onnx", "u8", ([0, 0], THIRD, 255)),
    "torchao zeros": ((0, 0), "per_token", "torchao", "s8", ([-128, -128], EPS, -128)),
    "torchao nan": ((NAN, 1, 2), "per_token", "torchao", "s8", ([0, 0, 0], NAN, 0)),
    "torchao inf": ((INF, -2, 0), "per_token", "torchao", "s8", ([0, -128, -128], INF, -128)),
    "tensors zeros": ((0, 0), "per_token", "compressed_tensors", "s8", ([0, 0], EPS, 0)),
    "tensors nan": ((NAN, 1, 2), "per_token", "compressed_tensors", "s8", ([0, 0, 0], NAN, 0)),
    "tensors inf": ((INF, -2, 0), "per_token", "compressed_tensors", "s8",
                    ([0, -128, -128], INF, -128)),
    # min / 0 = -inf: the zero point is clamped to 127, and only then the scale becomes eps.
    "tensors underflow": ((-(2.0**-146), 2.0**-146), "per_tensor", "compressed_tensors", "s8",
                          ([127, 127], EPS, 127)),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_what_the_packages_gave(name: str) -> None:
    values, op, dialect, codes, expected = NAMED[name]
    got = quantized(op, row(*values), dialect, codes)
    assert got[0] == expected[0]
    assert got[1] == expected[1] or (np.isnan(got[1]) and np.isnan(expected[1]))
    assert got[2] == expected[2]


def test_a_tie_with_an_odd_zero_point() -> None:
    """x / s = 0.5 and 1.5 over 3: RNE first gives 3 and 5, the sum first 3.5 -> 4 and 4.5 -> 4."""
    x, given = row(0.25, 0.75), (np.array([0.5], f32), np.array([3], np.int32))
    after, before = [3, 5], [4, 4]
    for dialect, codes in (("ieee", after), ("onnx", after), ("torchao", after),
                           ("pytorch", before), ("compressed_tensors", before)):  # fmt: skip
        assert oracle.asymmetric_static(x, *given, dialect=dialect)[0].tolist() == codes, dialect


def test_one_rounding_or_two() -> None:
    """Beside ties a sum of two roundings and an FMA differ: in float64 a product of fp32 is exact,
    and so is here its sum with an integer below 2**7.
    """
    rng = np.random.default_rng(0)
    s, zero_point = f32(0.0123), 100
    inverse = f32(1) / s
    x = ((rng.integers(-99, 150, 4000) + 0.5) * s).astype(f32)
    exact = x.astype(np.float64) * np.float64(inverse) + zero_point
    fused = np.rint(exact.astype(f32))
    twice = np.rint((x * inverse + f32(zero_point)).astype(f32))
    assert (fused != twice).sum() > 10
    given = np.array([s], f32), np.array([zero_point], np.int32)
    tensor = oracle.asymmetric_static(x.reshape(1, -1), *given, dialect="pytorch")
    assert tensor[0].tolist() == np.clip(fused, 0, 255).tolist()
    rows = np.stack([x, x])
    both = np.repeat(given[0], 2), np.repeat(given[1], 2)
    channel = oracle.asymmetric_static(rows, *both, dialect="pytorch")
    assert channel[1].tolist() == np.clip(twice, 0, 255).tolist()


def test_scale_and_zero_point_in_bf16() -> None:
    """[-63.5, 192] is 255.5 wide, 256 in bf16; s = 256/255 = 1.0039 -> 1.0078125.

    Zero point: -63.5 / s = -63.008 -> -63, 0 + 63. Codes of 100.5: x / s = 99.72. torchao has it in
    fp32: 100 + 63. compressed-tensors rounds to 99.5, and 162.5 to 162.
    """
    x = row(-63.5, 100.5, 192, dtype="bf16")
    assert quantized("per_token", x, "torchao", "u8") == ([0, 163, 254], 1.0078125, 63)
    tensors = quantized("per_token", x, "compressed_tensors", "u8")
    assert tensors == ([0, 162, 254], 1.0078125, 63)


def test_a_range_beyond_fp16() -> None:
    """60000 - -60000 is infinite in fp16: scale infinite, every finite quotient 0."""
    x = row(-60000, 60000, dtype="fp16")
    for dialect in ("torchao", "compressed_tensors"):
        assert quantized("per_token", x, dialect, "s8") == ([-128, -128], INF, -128)


def test_the_difference_per_tensor_is_fp32s() -> None:
    """-4.53125 / s, s = 1 in fp16: -128 + 4.53125 = -123.46875 -> -123.5 in fp16 -> -124, but -123
    in fp32.
    """
    x = row(-4.53125, 250.5, dtype="fp16")  # 255.03125 -> 255 in fp16
    assert quantized("per_token", x, "compressed_tensors", "s8")[1:] == (1.0, -124)
    assert quantized("per_tensor", x, "compressed_tensors", "s8")[1:] == (1.0, -123)


def test_dequantized_differences_in_bf16() -> None:
    """255 - -128 = 383 has nine bits: bf16 makes it 384."""
    codes, scales = np.array([[255]], np.uint8), np.array([0.5], f32)
    given = codes, scales, np.array([-128], np.int32)
    for out, value in (("bf16", 192.0), ("fp16", 191.5), ("fp32", 191.5)):
        made = oracle.asymmetric_dequantize(*given, dialect="torchao", out_dtype=out)
        assert float(made[0, 0]) == value
    assert oracle.asymmetric_dequantize(*given, out_dtype="fp32")[0, 0] == f32(191.5)


@pytest.mark.parametrize("codes", ["u8", "s8"])
def test_static_nan(codes: str) -> None:
    low, high = (0, 255) if codes == "u8" else (-128, 127)
    x, given = row(NAN, INF, -INF), (np.array([0.5], f32), np.array([3], np.int32))
    of_nan = {"ieee": 3, "onnx": low, "pytorch": high, "torchao": 0, "compressed_tensors": 0}
    for dialect, code in of_nan.items():
        made = oracle.asymmetric_static(x, *given, dialect=dialect, code_dtype=codes)
        assert made[0].tolist() == [code, high, low], dialect
    rows = np.repeat(x, 2, axis=0), np.repeat(given[0], 2), np.repeat(given[1], 2)
    channel = oracle.asymmetric_static(*rows, dialect="pytorch", code_dtype=codes)
    assert channel.tolist() == [[0, high, low]] * 2


def test_only_pytorch_tells_channels_from_tensors() -> None:
    every = {name for names in SPOKEN.values() for name in names}
    spoken = {name: asymmetric(name, "per_tensor") for name in every}
    assert {name for name, one in spoken.items() if one != one.under(CHANNEL)} == {"pytorch"}


@pytest.mark.parametrize("op", SPOKEN)
def test_ops_refuse_the_dialects_that_have_no_such_op(op: str) -> None:
    declared = get_op(f"int8.asymmetric_{op}").options["dialect"]
    assert declared == SPOKEN[op]
    assert declared[:2] == BASE
    x = row(1, 2)
    if op == "per_token":
        with pytest.raises(ValueError, match="dialect: got 'onnx'; allowed: ieee, vllm, torchao"):
            oracle.asymmetric_per_token(x, dialect="onnx")


def test_pytorch_and_onnx_take_fp32_only() -> None:
    for dialect in ("pytorch", "onnx"):
        with pytest.raises(TypeError, match=f"allowed in dialect {dialect}: fp32"):
            oracle.asymmetric_per_tensor(row(1, 2, dtype="fp16"), dialect=dialect)


def test_given_scales_are_values_of_the_dtype() -> None:
    given = np.array([0.1], f32), np.array([0], np.int32)
    with pytest.raises(ValueError, match="values of fp16, the dtype that it stores them in"):
        oracle.asymmetric_static(row(1, dtype="fp16"), *given, dialect="compressed_tensors")


# -- wrong kernels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("planted", UNCHANGED, ids=[one.name for one in UNCHANGED])
def test_unchanged_words_pass(planted: Planted) -> None:
    result = check_kernel(planted.kernel(), planted.dialect, examples=10, device="emulator")
    assert result.counterexample is None, str(result.counterexample)


def test_each_wrong_kernel_is_its_own() -> None:
    assert len({one.name for one in ASYMMETRIC}) == len(ASYMMETRIC) >= 5
