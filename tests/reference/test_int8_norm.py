"""The norm oracles: a scalar model, rows by hand, float64 formulas under derived bounds, and wrong
implementations that the checker must reject (test_norm_checks.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reference import OPS, int8_norm, recipes
from reference.numerics import DTYPES, dtype_name, round_to, to_float32
from reference.op import recipe
from reference.reductions import depth, lane_dot, lane_sum
from tests.reference.test_int8 import quantize_row

f32 = np.float32
U = 2.0**-24  # fp32: half an ulp of 1
UNIT = {"fp32": 2.0**-24, "fp16": 2.0**-11, "bf16": 2.0**-8}
Array = np.ndarray[Any, Any]


def norms(inputs: dict[str, Any], **options: str) -> dict[str, tuple[Any, ...]]:
    """The three dynamic norms of one set of inputs: name -> outputs."""
    x, w, b, eps = (inputs[name] for name in ("x", "weight", "bias", "eps"))
    return {
        "rms": int8_norm.rms_norm_quantize(x, w, eps, **options),
        "add": int8_norm.add_rms_norm_quantize(x, inputs["residual"], w, eps, **options),
        "layer": int8_norm.layer_norm_quantize(x, w, b, eps, **options),
    }


def build(kind: str, dtype: str, M: int, K: int, seed: int = 0) -> dict[str, Any]:
    made = recipe(kind, dtype=dtype, M=M, K=K, seed=seed)
    every = OPS["int8.add_rms_norm_quantize"].build(made)
    return {**OPS["int8.layer_norm_quantize"].build(made), **every}


# -- a scalar model --------------------------------------------------------------------------------


def z_of_row(
    x: Array, weight: Array, bias: Array | None, eps: float, dtype: str, rounds: bool
) -> list[np.float32]:
    """One row's z, an operation at a time; sums from reductions.py, which has its own model."""

    def step(value: np.float32) -> np.float32:
        return to_float32(round_to(np.array([value], f32), dtype))[0] if rounds else value

    K = f32(len(x))
    mean = f32(0) if bias is None else f32(lane_sum(x[None])[0] / K)
    d = x if bias is None else np.array([f32(one - mean) for one in x], f32)
    v = f32(f32(lane_dot(d[None], d[None])[0] / K) + f32(eps))
    r = f32(f32(1) / np.sqrt(v))
    z = []
    for k, one in enumerate(d):
        y = step(f32(one * r))
        z.append(step(f32(y * weight[k])))
        if bias is not None:
            z[-1] = step(f32(z[-1] + bias[k]))
    return z


@pytest.mark.parametrize("kind", recipes.KINDS)
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("dialect", int8_norm.DIALECTS)
def test_norms_follow_their_words(kind: str, dtype: str, dialect: str) -> None:
    for seed in (1, 2):
        inputs = build(kind, dtype, 4, 21, seed)
        made = norms(inputs, dialect=dialect)
        wide = {n: to_float32(a) for n, a in inputs.items() if isinstance(a, np.ndarray)}
        with np.errstate(all="ignore"):
            total = round_to(wide["x"] + wide["residual"], dtype)
            rows = {"rms": wide["x"], "add": to_float32(total), "layer": wide["x"]}
            for name, values in rows.items():
                bias = wide["bias"] if name == "layer" else None
                codes, scales = made[name][:2]
                for m in range(4):
                    z = z_of_row(
                        values[m], wide["weight"], bias, inputs["eps"], dtype, dialect == "vllm"
                    )
                    expected, scale = quantize_row([float(one) for one in z], dialect)
                    assert codes[m].tolist() == expected
                    wanted = np.array([np.uint32(0x7FFFFFFF)]).view(f32)[0]
                    wanted = wanted if np.isnan(scale) else f32(scale)
                    assert scales[m].tobytes() == wanted.tobytes()
        assert made["add"][2].tobytes() == total.tobytes()


# -- by hand ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", int8_norm.DIALECTS)
def test_rms_by_hand(dialect: str) -> None:
    """Mean square 4, so z is x/2 times weight: 1, 1/2, -1, 1/4; 63.5 ties to 64."""
    x = np.array([[2, 2, 2, -2]], f32)
    w = np.array([1, 0.5, -1, -0.25], f32)
    codes, scales = int8_norm.rms_norm_quantize(x, w, 0.0, dialect=dialect)
    assert codes.tolist() == [[127, 64, -127, 32]]
    assert scales.tolist() == [f32(1) / f32(127)]
    quarter = np.array([0.25], f32)
    static = int8_norm.rms_norm_quantize_static(x, w, quarter, 0.0, dialect=dialect)
    assert static.tolist() == [[4, 2, -4, 1]]


def test_eps_by_hand() -> None:
    """Mean square 1, eps 3: z is x/2."""
    one = np.ones((1, 3), f32)
    assert int8_norm.rms_norm_quantize(one, one[0], 3.0)[1] == f32(0.5) / f32(127)


def test_layer_norm_by_hand() -> None:
    """Mean 2, d -1 and 1, variance 1: z is d times weight plus bias."""
    x, w, b = np.array([[1, 3]], f32), np.array([1, 1], f32), np.array([0, 1], f32)
    codes, scales = int8_norm.layer_norm_quantize(x, w, b, 0.0)
    assert (codes.tolist(), scales.tolist()) == ([[-64, 127]], [f32(2) / f32(127)])
    static = int8_norm.layer_norm_quantize_static(x, w, b, np.array([0.5], f32), 0.0)
    assert static.tolist() == [[-2, 4]]


def test_the_norm_reads_the_rounded_sum() -> None:
    """bf16: 256 + 1 is a tie that goes to 256, so that both elements weigh the same."""
    bf16 = DTYPES["bf16"]
    x, residual = np.array([[256, 256]], bf16), np.array([[1, 0]], bf16)
    codes, scales, total = int8_norm.add_rms_norm_quantize(x, residual, np.ones(2, bf16), 0.0)
    assert total.tolist() == [[256, 256]]
    assert (codes.tolist(), scales.tolist()) == ([[127, 127]], [f32(1) / f32(127)])


def test_vllm_rounds_after_each_step() -> None:
    """fp16: y = 1/3 rounded, times 3 is below 1 there and rounds to 1; in fp32 it stays below."""
    x, w = np.array([[1, 3]], np.float16), np.array([3, 0.5], np.float16)
    r = f32(1) / np.sqrt(f32(5))
    y = f32(1) * r
    inside = f32(np.float16(f32(np.float16(y)) * f32(3)))
    assert int8_norm.rms_norm_quantize(x, w, 0.0, dialect="vllm")[1][0] == inside / f32(127)
    assert int8_norm.rms_norm_quantize(x, w, 0.0)[1][0] == f32(y * f32(3)) / f32(127)
    assert inside != f32(y * f32(3))


# -- properties ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("dialect", int8_norm.DIALECTS)
def test_adding_nothing_is_the_norm_alone(dtype: str, dialect: str) -> None:
    for kind in ("normal", "huge", "subnormal", "negzero", "inf"):
        inputs = build(kind, dtype, 5, 70, 3)
        x, w, eps = inputs["x"], inputs["weight"], inputs["eps"]
        nothing = np.full(x.shape, -0.0).astype(x.dtype)  # x + -0 is x, -0 included
        alone = int8_norm.rms_norm_quantize(x, w, eps, dialect=dialect)
        added = int8_norm.add_rms_norm_quantize(x, nothing, w, eps, dialect=dialect)
        assert added[2].tobytes() == x.tobytes()
        assert [a.tobytes() for a in added[:2]] == [a.tobytes() for a in alone]
        plus = int8_norm.add_rms_norm_quantize(x, -nothing, w, eps, dialect=dialect)
        assert [a.tobytes() for a in plus[:2]] == [a.tobytes() for a in alone]


def test_static_is_dynamic_under_its_own_scale() -> None:
    inputs = build("normal", "fp16", 1, 300, 4)
    made = norms(inputs)
    x, w, b, eps = (inputs[name] for name in ("x", "weight", "bias", "eps"))
    rms = int8_norm.rms_norm_quantize_static(x, w, made["rms"][1], eps)
    assert rms.tobytes() == made["rms"][0].tobytes()
    layer = int8_norm.layer_norm_quantize_static(x, w, b, made["layer"][1], eps)
    assert layer.tobytes() == made["layer"][0].tobytes()
    codes, total = int8_norm.add_rms_norm_quantize_static(
        x, inputs["residual"], w, made["add"][1], eps
    )
    assert codes.tobytes() == made["add"][0].tobytes()
    assert total.tobytes() == made["add"][2].tobytes()


def test_rows_do_not_depend_on_each_other() -> None:
    inputs = build("one_outlier", "bf16", 6, 1032, 2)
    every = norms(inputs)
    for m in range(6):
        row = {**inputs, "x": inputs["x"][m : m + 1], "residual": inputs["residual"][m : m + 1]}
        for name, one in norms(row).items():
            assert one[0].tobytes() == every[name][0][m].tobytes()
            assert one[1].tobytes() == every[name][1][m : m + 1].tobytes()


def test_a_sum_of_the_cancelling_variance_is_of_the_centred_row() -> None:
    """x = 4096 + {-1, 1}: E[x^2] - E[x]^2 in fp32 would lose the variance, 1."""
    x = (4096 + np.resize([-1, 1], (1, 64))).astype(f32)
    w, b = np.ones(64, f32), np.zeros(64, f32)
    codes, scales = int8_norm.layer_norm_quantize(x, w, b, 0.0)
    assert np.unique(codes).tolist() == [-127, 127]
    assert scales[0] == f32(1) / f32(127)


# -- against float64 -------------------------------------------------------------------------------


def exact_z(inputs: dict[str, Any], name: str) -> Array:
    x, w, b = (np.asarray(inputs[n], np.float64) for n in ("x", "weight", "bias"))
    if name == "add":
        x = (inputs["x"].astype(f32) + inputs["residual"].astype(f32)).astype(inputs["x"].dtype)
        x = x.astype(np.float64)
    d = x - x.mean(axis=1, keepdims=True) if name == "layer" else x
    y = d / np.sqrt((d * d).mean(axis=1, keepdims=True) + float(f32(inputs["eps"])))
    return y * w + b if name == "layer" else y * w


def z_bound(inputs: dict[str, Any], name: str, rounds: bool) -> Array:
    """Largest |z - exact z| of every element, first order with a margin of a tenth.

    The mean square is off by depth + 2 roundings, halved by the root, then two more; y * w and + b
    one each, and in dialects that round to x's dtype as many of its own units. LayerNorm: d is off
    by the mean's error (depth + 1 roundings of the mean magnitude) and one rounding, which moves
    the variance at most twice as far.
    """
    x, w = (np.asarray(inputs[n], np.float64) for n in ("x", "weight"))
    n, unit = depth(x.shape[1]), UNIT[dtype_name(inputs["x"].dtype) or ""] if rounds else 0.0
    z = np.abs(exact_z(inputs, name))
    if name != "layer":
        return 1.1 * z * ((n + 2) / 2 * U + 5 * U + 2 * unit)
    d = x - x.mean(axis=1, keepdims=True)
    r = 1 / np.sqrt((d * d).mean(axis=1, keepdims=True) + inputs["eps"])
    centre = (n + 1) * U * np.abs(x).mean(axis=1, keepdims=True)
    relative = (n + 2) / 2 * U + 5 * U + 2 * unit + centre * np.abs(d).mean(1, keepdims=True) * r**2
    product = np.abs(d * r * w)
    return 1.1 * (product * relative + centre * r * np.abs(w) + z * (U + unit))


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("kind", ["normal", "one_outlier", "outlier_channels", "constant"])
@pytest.mark.parametrize("dialect", int8_norm.DIALECTS)
@pytest.mark.parametrize("K", [40, 1032, 4096])
def test_codes_and_scales_are_near_the_exact_ones(
    dtype: str, kind: str, dialect: str, K: int
) -> None:
    inputs = {**build(kind, dtype, 4, K, seed=0), "eps": 1e-5}
    inputs["bias"] = round_to(inputs["bias"].astype(f32) + f32(1), dtype)  # no row of all zeros
    for name, (codes, scales, *_) in norms(inputs, dialect=dialect).items():
        z, bound = exact_z(inputs, name), z_bound(inputs, name, dialect == "vllm")
        amax = np.abs(z).max(axis=1)
        off = bound.max(axis=1)
        assert (np.abs(scales * 127.0 - amax) <= off + 2 * U * amax).all()
        exact = np.clip(np.rint(z / amax[:, None] * 127), -127, 127)
        allowed = 127 * 2.1 * off / amax + 0.01  # what the code may move before it is rounded
        steps = np.floor(allowed[:, None] + 1)
        assert (np.abs(codes - exact) <= steps).all()
        if dtype != "bf16" or dialect == "ieee":
            assert np.abs(codes - exact).max() <= 1
        assert (codes == exact).mean() > (0.99 if dialect == "ieee" else 0.7)


# -- the ends of the range -------------------------------------------------------------------------


def canonical(scales: Array) -> list[str]:
    return [f"{bits:08x}" for bits in scales.view(np.uint32).tolist()]


def test_zero_rows_and_eps() -> None:
    x, w = np.array([[0, -0.0], [1, 1]], f32), np.ones(2, f32)
    for eps, first in ((1e-6, "00000000"), (2.0**-149, "00000000"), (0.0, "7fffffff")):
        codes, scales = int8_norm.rms_norm_quantize(x, w, eps)
        assert codes[0].tolist() == [0, 0]
        assert canonical(scales)[0] == first  # 0 * (1 / 0) is NaN
        assert codes[1].tolist() == [127, 127]
    codes, scales = int8_norm.rms_norm_quantize(x, w, 0.0, dialect="vllm")
    assert (codes[0].tolist(), canonical(scales)[0]) == ([0, 0], "00000000")
    assert int8_norm.rms_norm_quantize(x, w, 1e-60)[1][0].tobytes() == b"\xff\xff\xff\x7f"
    constant = np.full((1, 8), 3, f32), np.ones(8, f32), np.full(8, 2, f32)
    assert int8_norm.layer_norm_quantize(*constant, 0.0)[0].tolist() == [[0] * 8]
    assert int8_norm.layer_norm_quantize(*constant, 1e-9)[0].tolist() == [[127] * 8]


def test_overflow_infinity_and_nan() -> None:
    x = np.array([[1e30, 1], [np.inf, 1], [np.nan, 1]], f32)
    w = np.ones(2, f32)
    codes, scales = int8_norm.rms_norm_quantize(x, w, 1e-6)
    assert not codes.any()
    assert canonical(scales) == ["00000000", "7fffffff", "7fffffff"]
    codes, scales = int8_norm.rms_norm_quantize(x, w, 1e-6, dialect="vllm")
    assert not codes.any()
    assert canonical(scales) == ["00000000"] * 3
    codes, scales = int8_norm.layer_norm_quantize(x, w, w, 1e-6)
    assert codes[0].tolist() == [127, 127]  # y is 0, so that z is bias
    assert canonical(scales)[1:] == ["7fffffff"] * 2
    big = np.full((1, 2), 3e38, f32)  # the sum overflows, not the elements
    assert canonical(int8_norm.layer_norm_quantize(big, w, w, 1e-6)[1]) == ["7fffffff"]
    total = int8_norm.add_rms_norm_quantize(x, -x, w, 1e-6)[2]
    assert canonical(total[:, 0].copy()) == ["00000000", "7fffffff", "7fffffff"]
    half = np.full((1, 2), 6e4, np.float16)
    assert np.isinf(
        int8_norm.add_rms_norm_quantize(half, half, np.ones(2, np.float16), 0.0)[2]
    ).all()


def test_weight_and_bias_may_hold_anything() -> None:
    x = np.ones((1, 3), f32)
    w, b = np.array([np.inf, 1, -0.0], f32), np.array([0, 1, np.nan], f32)
    codes, scales = int8_norm.rms_norm_quantize(x, w, 0.0)
    assert codes.tolist() == [[0, 0, 0]]  # the scale is infinite
    assert np.isinf(scales[0])
    assert canonical(int8_norm.layer_norm_quantize(x, w, b, 1.0)[1]) == ["7fffffff"]


# -- refusals --------------------------------------------------------------------------------------

X, W = np.ones((2, 4), f32), np.ones(4, f32)


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"eps": -1e-9}, ValueError, r"eps: got -1e-09; allowed: >= 0 and at most"),
        ({"eps": float("nan")}, ValueError, r"eps: got nan"),
        ({"eps": float("inf")}, ValueError, r"eps: got inf"),
        ({"eps": 3.5e38}, ValueError, r"eps: got 3.5e\+38"),
        ({"eps": "1e-5"}, TypeError, r"eps: got str; allowed: a Python float"),
        ({"eps": True}, TypeError, r"eps: got bool"),
        ({"eps": f32(1e-5)}, TypeError, r"eps: got float32"),
        (
            {"weight": np.ones(4, np.float16)},
            TypeError,
            r"weight: got dtype float16; allowed: fp32",
        ),
        ({"weight": np.ones(3, f32)}, ValueError, r"weight: got shape \(3,\); allowed: \(4,\)"),
        ({"weight": np.ones((1, 4), f32)}, ValueError, r"weight: got 2 dimensions"),
        ({"weight": None}, TypeError, r"weight: got NoneType"),
        ({"bias": np.ones(5, f32)}, ValueError, r"bias: got shape \(5,\)"),
        ({"residual": np.ones((1, 4), f32)}, ValueError, r"residual: got shape \(1, 4\)"),
        ({"residual": np.ones((2, 4), np.float16)}, TypeError, r"residual: got dtype float16"),
        ({"scales": np.ones(2, f32)}, ValueError, r"scales: got 2 elements; allowed: 1"),
        ({"scales": np.zeros(1, f32)}, ValueError, r"scales: got 0.0 at index 0; allowed: finite"),
        ({"x": np.ones((2, 4), np.int8)}, TypeError, r"x: got dtype int8"),
        ({"x": np.ones((0, 4), f32)}, ValueError, r"x: got the empty shape"),
    ],
)
def test_refusals(changed: dict[str, Any], error: type[Exception], words: str) -> None:
    given = {"x": X, "residual": X, "weight": W, "bias": W, "scales": np.ones(1, f32), "eps": 1e-5}
    given |= changed
    asked = [op for op in int8_norm.OPS if set(changed) <= {arg.name for arg in op.inputs}]
    assert asked
    for op in asked:
        with pytest.raises(error, match=words):
            op.oracle(*(given[arg.name] for arg in op.inputs))


def test_dialects_that_no_norm_speaks() -> None:
    with pytest.raises(ValueError, match=r"dialect: got 'none'"):
        int8_norm.rms_norm_quantize(X, W, 1e-5, dialect="none")
