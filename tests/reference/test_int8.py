"""The INT8 oracles against scalar models written from the dialects' words, in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from reference import OPS, dialect, int8_gemm, int8_linear, int8_quantize, recipes
from reference.dialects import CORE, DIALECTS, FIELDS, differences
from reference.numerics import round_to
from reference.op import recipe
from tests.reference.test_numerics import exact_round

f32 = np.float32


def divide(a: float, b: float) -> float:
    """IEEE float32 division of float32 values, by fractions where both are finite."""
    if not (np.isfinite(a) and np.isfinite(b)) or b == 0:
        with np.errstate(all="ignore"):
            return float(f32(a) / f32(b))
    return float(exact_round(Fraction(a) / Fraction(b)))


def multiply(a: float, b: float) -> float:
    if not (np.isfinite(a) and np.isfinite(b)):
        with np.errstate(all="ignore"):
            return float(f32(a) * f32(b))
    return float(exact_round(Fraction(a) * Fraction(b)))


def half(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float16(value))


def quantize_row(row: list[float], name: str) -> tuple[list[int], float]:
    """One row in one dialect, scalar by scalar."""
    low = -127 if name == "ieee" else -128
    sizes = [abs(x) for x in row]
    numbers = [x for x in sizes if not np.isnan(x)]
    if name in ("ieee", "article_torch"):
        amax = float("nan") if len(numbers) < len(sizes) else max(sizes)
    else:
        amax = max(numbers, default=0.0)
    scale = divide(amax, 127.0)
    if name == "article_torch":
        scale = half(scale)
    codes = []
    for x in row:
        if name == "ieee":
            quotient = 0.0 if scale == 0 else divide(x, scale)
        elif name == "vllm":
            quotient = 0.0 if amax == 0 else multiply(x, divide(127.0, amax))
        elif name == "article_cuda":
            quotient = 0.0 if scale == 0 else multiply(x, divide(1.0, scale))
        else:
            quotient = half(divide(x, scale))
        if np.isnan(quotient):
            codes.append(0)
        elif np.isinf(quotient):
            codes.append(127 if quotient > 0 else low)
        else:
            codes.append(max(low, min(127, round(Fraction(quotient)))))
    return codes, scale


CASES = [
    (kind, dtype, name)
    for kind in recipes.KINDS
    for dtype in ("fp32", "fp16", "bf16")
    for name in CORE
    if dtype in dialect(name).inputs
]


@pytest.mark.parametrize(("kind", "dtype", "name"), CASES)
def test_per_token_follows_its_words(kind: str, dtype: str, name: str) -> None:
    x = recipes.floats(recipe(kind, dtype=dtype, M=6, K=37, seed=3), 6, 37)
    codes, scales = int8_quantize.quantize_per_token(x, dialect=name)
    for row, got, scale in zip(x.astype(np.float32).tolist(), codes, scales, strict=True):
        expected, expected_scale = quantize_row(row, name)
        assert got.tolist() == expected
        if np.isnan(expected_scale):
            assert scale.view(np.uint32) == 0x7FFFFFFF
        else:
            assert scale.tobytes() == f32(expected_scale).tobytes()


def test_per_channel_and_per_tensor_are_per_token_regrouped() -> None:
    x = recipes.floats(recipe("normal", M=5, K=16), 5, 16)
    by_token = int8_quantize.quantize_per_token(x)
    by_channel = int8_quantize.quantize_per_channel(x)
    assert all(np.array_equal(a, b) for a, b in zip(by_token, by_channel, strict=True))
    codes, scales = int8_quantize.quantize_per_tensor(x)
    flat, flat_scale = int8_quantize.quantize_per_token(x.reshape(1, -1))
    assert scales.shape == (1,)
    assert np.array_equal(codes.ravel(), flat.ravel())
    assert np.array_equal(scales, flat_scale)


def test_the_dialects_disagree_where_they_should() -> None:
    """A check that the four are four: on ordinary data each pair gives other codes somewhere."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((512, 1024)).astype(np.float16)
    codes = {name: int8_quantize.quantize_per_token(x, dialect=name)[0] for name in CORE}
    names = list(CORE)
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            assert (codes[first] != codes[second]).any(), (first, second)
            assert differences(first, second)


def test_torch_formula_exhausts_fp16_division_by_127() -> None:
    """For every fp16 amax, amax / 127 rounds to the same fp16 as amax * (1/127), CUDA's form."""
    amax = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    divided = (amax / f32(127)).astype(np.float16)
    multiplied = (amax * (f32(1) / f32(127))).astype(np.float16)
    assert int((divided != multiplied).sum()) == 0


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_static_clamps_and_ties(scale: float) -> None:
    x = (np.arange(-300, 301).reshape(1, -1) / 2 * scale).astype(np.float32)
    codes = int8_quantize.quantize_static(x, np.array([scale], np.float32))
    assert codes[0].tolist() == [max(-127, min(127, round(n / 2))) for n in range(-300, 301)]
    low = int8_quantize.quantize_static(x, np.array([scale], np.float32), dialect="vllm")
    assert int(low.min()) == -128


def epilogue_scalar(acc: int, s_a: float, s_b: float, bias: float | None, name: str) -> float:
    value = float(f32(acc))
    first, second = (s_a, s_b) if name.startswith("article") else (s_b, s_a)
    value = multiply(value, first)
    if bias is not None and name == "vllm":
        return float(exact_round(Fraction(value) * Fraction(second) + Fraction(bias)))
    value = multiply(value, second)
    return value if bias is None else float(exact_round(Fraction(value) + Fraction(bias)))


@pytest.mark.parametrize("name", CORE)
@pytest.mark.parametrize("kind", ["normal", "cancel", "extremes", "subnormal_scale"])
@pytest.mark.parametrize("out_dtype", ["fp32", "fp16", "bf16"])
def test_epilogue_follows_its_words(name: str, kind: str, out_dtype: str) -> None:
    made = recipe(kind, seed=4, M=4, N=9)
    inputs = OPS["int8.epilogue"].build(made)
    out = int8_gemm.epilogue(**inputs, dialect=name, out_dtype=out_dtype)
    for m in range(4):
        for n in range(9):
            bias = None if inputs["bias"] is None else float(inputs["bias"][n])
            wide = epilogue_scalar(
                int(inputs["acc"][m, n]),
                float(inputs["a_scales"][m]),
                float(inputs["b_scales"][n]),
                bias,
                name,
            )
            expected = round_to(np.array([wide], np.float32), out_dtype)[0]
            assert out[m, n].tobytes() == expected.tobytes() or (out[m, n] == 0 == expected)


def test_fma_shows_in_the_cancelling_bias() -> None:
    inputs = OPS["int8.gemm_dequant"].build(recipe("cancel", seed=1, M=4, N=64, K=64))
    fused = int8_gemm.gemm_dequant(**inputs, dialect="vllm")
    plain = int8_gemm.gemm_dequant(**inputs, dialect="ieee")
    assert (fused.view(np.uint32) != plain.view(np.uint32)).sum() > 20


def test_linear_is_the_composition() -> None:
    inputs = OPS["int8.linear"].build(recipe("outlier_channels", seed=1, M=9, N=20, K=70))
    out = int8_linear.linear(**inputs, out_dtype="bf16")
    codes, scales = int8_quantize.quantize_per_token(inputs["x"])
    fused = int8_gemm.gemm_dequant(
        codes, inputs["w_codes"], scales, inputs["w_scales"], inputs["bias"], out_dtype="bf16"
    )
    assert out.tobytes() == fused.tobytes()


def test_dialect_fields_are_checked() -> None:
    import dataclasses

    with pytest.raises(ValueError, match=r"dialect ieee: rounding is 'up'; allowed"):
        dataclasses.replace(DIALECTS["ieee"], rounding="up")
    for spoken in DIALECTS.values():
        assert all(FIELDS[field][code] for field, code in spoken.codes().items())
