"""GEMM with scales per group: by hand, by a scalar model, under its error bound; wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from quantassay import check_kernel
from quantassay.loading import load_wings
from reference import Kernel, get_op, recipe
from reference.int8_gemm import gemm_dequant
from reference.int8_gemm_group import gemm_group
from reference.numerics import int_gemm, round_to
from reference.op import kernels
from tests.reference.test_numerics import exact_round

load_wings()
OP = get_op("int8.gemm_group")
U = Fraction(1, 1 << 24)


def s8(*rows: list[int]) -> Any:
    return np.array(rows, np.int8)


def f32(*rows: list[float]) -> Any:
    return np.array(rows, np.float32)


def built(kind: str, seed: int, **dims: Any) -> dict[str, Any]:
    return dict(OP.build(recipe(kind, seed=seed, **dims)))


def test_by_hand() -> None:
    """Two groups of two: 7 * 0.5 * 2 + -2 * 4 * 0.25 + 1."""
    a, b = s8([1, 2, 3, 4]), s8([3, 2, -2, 1])
    args = a, b, f32([0.5, 4.0]), f32([2.0, 0.25]), np.array([1.0], np.float32)
    for dialect in OP.options["dialect"]:
        assert gemm_group(*args, dialect=dialect).tolist() == [[7.0 - 2.0 + 1.0]]


def scalar(inputs: dict[str, Any], m: int, n: int, dialect: str) -> float:
    """One result in exact arithmetic, rounded where the contract says; finite inputs only."""
    a, b = inputs["a"][m].astype(int), inputs["b"][n].astype(int)
    groups = inputs["a_scales"].shape[1]
    size = a.size // groups
    total = np.float32(0)
    for g in range(groups):
        inside = slice(g * size, (g + 1) * size)
        acc = Fraction(float(exact_round(Fraction(int((a[inside] * b[inside]).sum())))))
        s_a = Fraction(float(inputs["a_scales"][m, g]))
        s_b = Fraction(float(inputs["b_scales"][n, g]))
        if dialect == "vllm":
            product = Fraction(float(exact_round(acc * s_a)))
            total = exact_round(product * s_b + Fraction(float(total)))
        else:
            product = Fraction(float(exact_round(Fraction(float(exact_round(acc * s_b))) * s_a)))
            total = exact_round(Fraction(float(total)) + product)
    if inputs["bias"] is not None:
        total = exact_round(Fraction(float(total)) + Fraction(float(inputs["bias"][n])))
    return float(total)


@pytest.mark.parametrize("dialect", ["ieee", "vllm"])
@pytest.mark.parametrize("kind", ["normal", "cancel", "saturating", "subnormal_scale"])
@pytest.mark.parametrize("out_dtype", ["fp32", "fp16", "bf16"])
def test_follows_its_words(dialect: str, kind: str, out_dtype: str) -> None:
    for seed in (3, 4):
        inputs = built(kind, seed, M=3, N=4, Q=5, G=6)
        out = gemm_group(**inputs, dialect=dialect, out_dtype=out_dtype)
        for m, n in np.ndindex(out.shape):
            wide = np.array([scalar(inputs, m, n, dialect)], np.float32)
            assert out[m, n] == round_to(wide, out_dtype)[0]


@pytest.mark.parametrize("dialect", ["ieee", "vllm"])
def test_lies_within_the_derived_bound(dialect: str) -> None:
    """Two roundings per product (one where fused) and one per addition, on normal data."""
    inputs = built("normal", 0, M=6, N=7, Q=32, G=128) | {"bias": None}
    out, worst = gemm_group(**inputs, dialect=dialect), Fraction(0)
    steps = inputs["a_scales"].shape[1] + (1 if dialect == "vllm" else 2)
    gamma = steps * U / (1 - steps * U)
    for m, n in np.ndindex(out.shape):
        terms = [
            Fraction(int(acc)) * Fraction(float(s_a)) * Fraction(float(s_b))
            for acc, s_a, s_b in zip(
                (inputs["a"][m].astype(int) * inputs["b"][n]).reshape(32, 128).sum(axis=1),
                inputs["a_scales"][m],
                inputs["b_scales"][n],
                strict=True,
            )
        ]
        error = abs(Fraction(float(out[m, n])) - sum(terms))
        worst = max(worst, error / sum(map(abs, terms)))
    assert U / 8 < worst <= gamma


def test_one_group_is_gemm_dequant_but_for_minus_zero() -> None:
    inputs = built("normal", 1, M=5, N=9, Q=1, G=70)
    vectors = inputs["a_scales"][:, 0].copy(), inputs["b_scales"][:, 0].copy(), inputs["bias"]
    assert np.array_equal(gemm_group(**inputs), gemm_dequant(inputs["a"], inputs["b"], *vectors))


def test_signs_of_zero() -> None:
    """A product that underflows to -0: added to +0 it is +0, fused with it -0, which then stays."""
    args = s8([-1]), s8([1]), f32([2.0**-100]), f32([2.0**-100])
    signs = {name: np.signbit(gemm_group(*args, dialect=name)[0, 0]) for name in ("ieee", "vllm")}
    assert signs == {"ieee": False, "vllm": True}
    plus, minus = np.zeros(1, np.float32), -np.zeros(1, np.float32)
    assert not np.signbit(gemm_group(*args, plus, dialect="vllm")[0, 0])
    assert np.signbit(gemm_group(*args, minus, dialect="vllm")[0, 0])


def test_the_order_over_groups_is_told_from_others() -> None:
    inputs = built("normal", 0, M=20, N=30, Q=16, G=32) | {"bias": None}
    mirrored = {
        name: np.flip(array, axis=1).copy() for name, array in inputs.items() if name != "bias"
    }
    assert (gemm_group(**inputs) != gemm_group(**mirrored)).mean() > 0.2


def test_sums_wrap_within_a_group_or_are_refused() -> None:
    deep = np.full((1, 131_090), -128, np.int8)
    args = deep, deep, f32([1.0]), f32([1.0])
    wrapped = np.float32(131_090 * 128 * 128 - 2**32)
    assert gemm_group(*args, dialect="vllm") == wrapped
    for kernel in kernels(op=OP.name):
        assert np.asarray(kernel.function(*args, dialect="vllm")) == wrapped, kernel.label
        with pytest.raises(
            ValueError, match=r"a: got groups of G = 131090; allowed in dialect ieee"
        ):
            kernel.function(*args, dialect="ieee")
    halves = f32([1.0, 1.0])
    assert gemm_group(deep, deep, halves, halves) == np.float32(131_090 * 128 * 128)


X, SA, SB = np.ones((4, 12), np.int8), np.ones((4, 3), np.float32), np.ones((5, 3), np.float32)
Y = np.ones((5, 12), np.int8)
BAD: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "depth": ((X, Y[:, :6].copy(), SA, SB), {}, ValueError, "b: got K = 6 (its last axis)"),
    "dtype": ((X.astype(np.uint8), Y, SA, SB), {}, TypeError, "a: got dtype uint8; allowed: s8"),
    "rows": ((X, Y, SB, SB), {}, ValueError, "a_scales: got 5 rows; allowed: 4 (M, one per token)"),
    "columns": ((X, Y, SA, SA), {}, ValueError, "b_scales: got 4 rows; allowed: 5 (N, one per"),
    "groups": ((X, Y, np.ones((4, 5), np.float32), SB), {}, ValueError, "a_scales: got Q = 5"),
    "unequal": (
        (X, Y, SA, np.ones((5, 4), np.float32)),
        {},
        ValueError,
        "b_scales: got Q = 4 groups (its last axis); allowed: 3, as a_scales has",
    ),
    "vector": ((X, Y, SA[:, 0].copy(), SB), {}, ValueError, "a_scales: got 1 dimensions"),
    "bias": ((X, Y, SA, SB, SA[0].copy()), {}, ValueError, "bias: got 3 elements; allowed: 5"),
    "out": ((X, Y, SA, SB), {"out_dtype": "s8"}, ValueError, "out_dtype: got 's8'"),
    "dialect": ((X, Y, SA, SB), {"dialect": "article_cuda"}, ValueError, "dialect: got"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_named(case: str) -> None:
    args, options, error, words = BAD[case]
    with pytest.raises(error) as caught:
        gemm_group(*args, **options)
    assert words in str(caught.value)


# --- wrong ones, in dialect ieee


def summed(
    inputs: tuple[Any, ...],
    order: Callable[[int], Any] = range,
    scale_of: Callable[[int, int], int] = lambda g, groups: g,
    product: Callable[[Any, Any, Any], Any] = lambda acc, s_a, s_b: acc * s_b * s_a,
) -> Any:
    a, b, a_scales, b_scales, bias = inputs
    groups = a_scales.shape[1]
    size = a.shape[1] // groups
    total = np.zeros((a.shape[0], b.shape[0]), np.float32)
    for g in order(groups):
        inside, at = slice(g * size, (g + 1) * size), scale_of(g, groups)
        acc = int_gemm(a[:, inside], b[:, inside]).astype(np.float32)
        total = total + product(acc, a_scales[:, at, None], b_scales[None, :, at])
    return round_to(total if bias is None else total + bias, "fp32")


def right(*inputs: Any) -> Any:
    return summed(inputs)


def descending(*inputs: Any) -> Any:
    return summed(inputs, order=lambda groups: range(groups)[::-1])


def scales_first(*inputs: Any) -> Any:
    return summed(inputs, product=lambda acc, s_a, s_b: acc * (s_a * s_b))


def scale_of_the_next_group(*inputs: Any) -> Any:
    return summed(inputs, scale_of=lambda g, groups: min(g + 1, groups - 1))


def other_dialect(*inputs: Any) -> Any:
    return gemm_group(*inputs, dialect="vllm")


def from_the_bias(a: Any, b: Any, a_scales: Any, b_scales: Any, bias: Any) -> Any:
    if bias is None:
        return gemm_group(a, b, a_scales, b_scales)
    wide = np.zeros((a.shape[0], b.shape[0]), np.float32) + bias
    size = a.shape[1] // a_scales.shape[1]
    for g in range(a_scales.shape[1]):
        inside = slice(g * size, (g + 1) * size)
        acc = int_gemm(a[:, inside], b[:, inside]).astype(np.float32)
        wide = wide + acc * b_scales[None, :, g] * a_scales[:, g, None]
    return round_to(wide, "fp32")


def without_the_start(*inputs: Any) -> Any:
    """The first product is the sum, so that -0 stays -0."""
    out = summed(inputs)
    alone = (inputs[2].shape[1] == 1) & (inputs[4] is None)
    acc = int_gemm(inputs[0], inputs[1]).astype(np.float32)
    product = acc * inputs[3][None, :, 0] * inputs[2][:, 0, None]
    return round_to(product, "fp32") if alone else out


WRONG = (
    descending,
    scales_first,
    scale_of_the_next_group,
    other_dialect,
    from_the_bias,
    without_the_start,
)


def checked(function: Any) -> Any:
    kernel = Kernel(OP.name, "wrong-numpy", function.__name__, ("ieee",), function)
    return check_kernel(kernel, "ieee", examples=24, device="emulator")


@pytest.mark.parametrize("function", WRONG, ids=lambda function: function.__name__)
def test_a_wrong_kernel_is_rejected(function: Any) -> None:
    result = checked(function)
    assert result.mismatches > 0
    assert result.counterexample is not None
    assert result.counterexample.reason


def test_its_right_twin_passes() -> None:
    result = checked(right)
    assert result.counterexample is None
    assert result.mismatches == 0
