"""Weight-only linear: by hand, by a scalar model, under its error bound; wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from kernels_cupy.int8_weight_only import divider
from quantassay import check_kernel
from reference import Kernel, get_op, recipe
from reference.dialects import dialect as get_dialect
from reference.int8_weight_only import weight_only_linear, weights
from reference.numerics import dtype_name, fma32, round_to, to_float32
from reference.reductions import lane_dot
from tests.reference.test_numerics import exact_round

OP = get_op("int8.weight_only_linear")
U = Fraction(1, 1 << 24)
HALF_ULP = {"fp16": Fraction(1, 1 << 11), "bf16": Fraction(1, 1 << 8)}


def built(kind: str, seed: int, dtype: str, **dims: int) -> dict[str, Any]:
    return dict(OP.build(recipe(kind, seed=seed, dtype=dtype, **dims)))


def test_by_hand() -> None:
    """Groups of two: weights 0.5, 1, -6, 8."""
    codes, scales = np.array([[1, 2, -3, 4]], np.int8), np.array([[0.5, 2.0]], np.float32)
    x, bias = np.array([[2, 3, 1, 0.5]], np.float16), np.array([0.25], np.float32)
    for name in OP.options["dialect"]:
        assert weight_only_linear(x, codes, scales, bias, dialect=name).tolist() == [[2.25]]


def test_weights_are_rounded_to_x_dtype_where_the_dialect_says() -> None:
    codes, scales = np.array([[3]], np.int8), np.array([[1 + 2.0**-12]], np.float32)
    fp32, fp16 = (weights(codes, scales, "fp16", get_dialect(name)) for name in ("ieee", "vllm"))
    assert fp32[0, 0] == 3 + 3 * 2.0**-12
    assert fp16[0, 0] == 3
    assert weights(codes, scales, "fp32", get_dialect("vllm")) == fp32


def scalar(inputs: dict[str, Any], m: int, n: int, name: str) -> float:
    """One result element by element, lane by lane, in exact arithmetic; finite inputs only."""
    x, codes, scales = inputs["x"][m], inputs["w_codes"][n], inputs["w_scales"][n]
    K = x.size
    lanes = [np.float32(0)] * 32
    for k in range(K):
        scale = Fraction(float(scales[k // (K // scales.size)]))
        weight = exact_round(int(codes[k]) * scale)
        if name == "vllm":
            weight = round_to(np.array([weight], np.float32), str(dtype_name(x.dtype)))[0]
        lane = k // 8 % 32
        product = Fraction(float(x[k])) * Fraction(float(weight))
        lanes[lane] = exact_round(product + Fraction(float(lanes[lane])))
    for apart in (16, 8, 4, 2, 1):
        lanes = [lane + lanes[i ^ apart] for i, lane in enumerate(lanes)]
    assert len(set(lanes)) == 1
    return float(lanes[0] if inputs["bias"] is None else lanes[0] + inputs["bias"][n])


@pytest.mark.parametrize("name", ["ieee", "vllm"])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("dims", [{"Q": 3, "G": 7}, {"Q": 2, "G": 280}, {"Q": 1, "G": 33}])
def test_follows_its_words(name: str, dtype: str, dims: dict[str, int]) -> None:
    for kind in ("normal", "cancel"):
        inputs = built(kind, 1, dtype, M=2, N=3, **dims)
        for out_dtype in ("fp32", "fp16", "bf16"):
            out = weight_only_linear(**inputs, dialect=name, out_dtype=out_dtype)
            for m, n in np.ndindex(out.shape):
                wide = np.array([scalar(inputs, m, n, name)], np.float32)
                assert out[m, n] == round_to(wide, out_dtype)[0]


@pytest.mark.parametrize("name", ["ieee", "vllm"])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_lies_within_the_derived_bound(name: str, dtype: str) -> None:
    """The longest lane's fma and five joins; before them the weight's one or two roundings."""
    inputs = built("normal", 0, dtype, M=4, N=6, Q=8, G=128) | {"bias": None}
    out, worst = weight_only_linear(**inputs, dialect=name), Fraction(0)
    K = inputs["x"].shape[1]
    steps = 8 * -(-K // 256) + 5
    gamma = steps * U / (1 - steps * U)
    rounded = HALF_ULP.get(dtype, Fraction(0)) if name == "vllm" else Fraction(0)
    bound = (1 + gamma) * (1 + U) * (1 + rounded) - 1
    for m, n in np.ndindex(out.shape):
        scales = np.repeat(inputs["w_scales"][n], 128)
        terms = [
            Fraction(float(x)) * int(code) * Fraction(float(scale))
            for x, code, scale in zip(inputs["x"][m], inputs["w_codes"][n], scales, strict=True)
        ]
        error = abs(Fraction(float(out[m, n])) - sum(terms))
        worst = max(worst, error / sum(map(abs, terms)))
    assert bound / 1000 < worst <= bound


def test_a_lane_without_elements_adds_plus_zero() -> None:
    """A product that underflows to -0 in lane 0 meets the other lanes' +0."""
    x, codes = np.full((1, 3), -(2.0**-100), np.float32), np.ones((1, 3), np.int8)
    out = weight_only_linear(x, codes, np.full((1, 1), 2.0**-100, np.float32))
    assert out[0, 0] == 0
    assert not np.signbit(out[0, 0])


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = built("normal", 1, "fp16", M=5, N=19, Q=2, G=40)
    whole = weight_only_linear(**inputs)
    for name, size in (("BLOCK", 256), ("ROWS", 2), ("WEIGHTS", 100)):
        monkeypatch.setattr(f"reference.int8_weight_only.{name}", size)
        assert weight_only_linear(**inputs).tobytes() == whole.tobytes()


SIZES = [1, 2, 3, 5, 7, 8, 12, 33, 100, 127, 128, 4097, 2**30 + 1, 2**31 - 1]


@pytest.mark.parametrize("size", SIZES)
def test_division_without_a_division(size: int) -> None:
    multiplier, shift = divider(size)
    near = np.arange(1, 3000, dtype=np.int64) * size
    top = 2**31 - 1 - np.arange(3000, dtype=np.int64)
    k = np.concatenate([np.arange(3000), near - 1, near, near + 1, top])
    k = k[k < 2**31].astype(np.uint64)
    assert 0 <= multiplier < 2**32
    high = k * np.uint64(multiplier) >> np.uint64(32)
    assert np.array_equal((high + k) >> np.uint64(shift), k // np.uint64(size))


X, CODES = np.ones((4, 12), np.float16), np.ones((5, 12), np.int8)
SCALES = np.ones((5, 3), np.float32)
BAD: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "x": ((CODES, CODES, SCALES), {}, TypeError, "x: got dtype int8; allowed: fp32, fp16, bf16"),
    "codes": ((X, X, SCALES), {}, TypeError, "w_codes: got dtype float16; allowed: s8"),
    "depth": ((X, CODES[:, :4].copy(), SCALES), {}, ValueError, "w_codes: got K = 4 (its last"),
    "rows": ((X, CODES, SCALES[:4]), {}, ValueError, "w_scales: got 4 rows; allowed: 5 (N, one"),
    "groups": (
        (X, CODES, np.ones((5, 8), np.float32)),
        {},
        ValueError,
        "w_scales: got Q = 8 groups (its last axis); allowed: divisors of K = 12",
    ),
    "vector": ((X, CODES, SCALES[:, 0].copy()), {}, ValueError, "w_scales: got 1 dimensions"),
    "bias": ((X, CODES, SCALES, SCALES[:4, 0].copy()), {}, ValueError, "bias: got 4 elements"),
    "out": ((X, CODES, SCALES), {"out_dtype": "s8"}, ValueError, "out_dtype: got 's8'"),
    "dialect": ((X, CODES, SCALES), {"dialect": "article_cuda"}, ValueError, "dialect: got"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_named(case: str) -> None:
    args, options, error, words = BAD[case]
    with pytest.raises(error) as caught:
        weight_only_linear(*args, **options)
    assert words in str(caught.value)


# --- wrong ones, in dialect ieee

Dot = Callable[[Any, Any], Any]


def linear(inputs: tuple[Any, ...], dot: Dot, name: str = "ieee") -> Any:
    x, codes, scales, bias = inputs
    w = weights(codes, scales, str(dtype_name(x.dtype)), get_dialect(name))
    with np.errstate(all="ignore"):
        total = dot(to_float32(x)[:, None, :], w)
        return round_to(total if bias is None else total + bias, "fp32")


def lanes_of_8(x: Any, w: Any) -> Any:
    return lane_dot(x, w, 32)


def right(*inputs: Any) -> Any:
    return linear(inputs, lanes_of_8)


def more_lanes(*inputs: Any) -> Any:
    return linear(inputs, lambda x, w: lane_dot(x, w, 64))


def neighbours_in_other_lanes(*inputs: Any) -> Any:
    """Element k in lane k % 32."""

    def dot(x: Any, w: Any) -> Any:
        sums = np.zeros((x.shape[0], w.shape[0], 32), np.float32)
        for k in range(0, w.shape[1], 32):
            some = sums[..., : w[:, k : k + 32].shape[1]]
            some[...] = fma32(x[..., k : k + 32], w[:, k : k + 32], some)
        while sums.shape[-1] > 1:
            half = sums.shape[-1] // 2
            sums = sums[..., :half] + sums[..., half:]
        return sums[..., 0]

    return linear(inputs, dot)


def one_lane(x: Any, w: Any) -> Any:
    total = np.zeros((x.shape[0], w.shape[0]), np.float32)
    for k in range(w.shape[1]):
        total = fma32(x[..., k], w[:, k], total)
    return total


def sequential(*inputs: Any) -> Any:
    return linear(inputs, one_lane)


def unfused(*inputs: Any) -> Any:
    def dot(x: Any, w: Any) -> Any:
        products = np.asarray(x * w, np.float32)
        return lane_dot(products, np.ones_like(products), 32)

    return linear(inputs, dot)


def other_dialect(*inputs: Any) -> Any:
    return linear(inputs, lanes_of_8, "vllm")


def scale_after_the_sum(x: Any, codes: Any, scales: Any, bias: Any) -> Any:
    if scales.shape[1] > 1:
        return weight_only_linear(x, codes, scales, bias)
    with np.errstate(all="ignore"):
        total = lanes_of_8(to_float32(x)[:, None, :], codes.astype(np.float32)) * scales[:, 0]
        return round_to(total if bias is None else total + bias, "fp32")


def scale_of_the_chunk(x: Any, codes: Any, scales: Any, bias: Any) -> Any:
    """Every chunk takes the scale of its first element's group."""
    K, groups = codes.shape[1], scales.shape[1]
    taken = np.arange(K) // 8 * 8 // (K // groups)
    return weight_only_linear(x, codes, np.ascontiguousarray(scales[:, taken]), bias)


WRONG = (
    more_lanes,
    neighbours_in_other_lanes,
    sequential,
    unfused,
    other_dialect,
    scale_after_the_sum,
    scale_of_the_chunk,
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
