"""The asymmetric oracle: rows worked by hand, a scalar model in exact arithmetic, properties that
the contract promises, bad input, and wrong kernels that the checker must reject.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from quantassay import check_kernel
from reference import dialect, get_op, recipe, recipes
from reference import int8_asymmetric as oracle
from reference.asymmetric import BASE, check_asymmetric_static_group
from reference.numerics import DTYPES, INT32_MAX, RANGES, to_float32
from tests.reference.test_int8 import divide, multiply
from tests.reference.test_numerics import exact_round
from tests.wrong.asymmetric import RIGHT, WRONG
from tests.wrong.planted import Planted

f32 = np.float32
SPOKEN, CODES, NAN = BASE, oracle.CODES, float("nan")
INT32_MIN = -INT32_MAX - 1


def row(*values: float) -> np.ndarray:
    return np.array([values], f32)


def quantized(x: np.ndarray, spoken: str, codes: str) -> tuple[list[int], float, int]:
    """Codes, scale and zero point of a single row."""
    c, s, z = oracle.asymmetric_per_token(x, dialect=spoken, code_dtype=codes)
    assert (c.dtype, s.dtype, z.dtype) == (DTYPES[codes], np.float32, np.int32)
    return c[0].tolist(), float(s[0]), int(z[0])


# -- by hand ---------------------------------------------------------------------------------------

BY_HAND = {
    # Ties of the quotient go to even: 0.5 -> 0, 1.5 and 2.5 -> 2.
    "ties": ((-64, 0.5, 1.5, 2.5, 191), "ieee", "u8", ([0, 64, 66, 66, 255], 1, 64)),
    "ties s8": ((-64, 0.5, 1.5, 2.5, 191), "ieee", "s8", ([-128, -64, -62, -62, 127], 1, -64)),
    # The zero point ties: 63.5 -> 64, -64.5 -> -64; 191.5 -> 192 is clamped by one.
    "zero point": ((-63.5, 191.5), "ieee", "u8", ([0, 255], 1, 64)),
    "zero point s8": ((-63.5, 191.5), "ieee", "s8", ([-128, 127], 1, -64)),
    "positive": ((51, 510), "ieee", "u8", ([26, 255], 2, 0)),  # 25.5 ties
    "negative": ((-51, -510), "ieee", "s8", ([101, -128], 2, 127)),  # -25.5 -> -26
    "constant": ((3, 3), "ieee", "u8", ([255, 255], float(f32(3) / f32(255)), 0)),
    "zeros": ((0, -0.0), "ieee", "s8", ([0, 0], 0, 0)),
    "nan": ((1, NAN, 5), "ieee", "s8", ([0, 0, 0], NAN, 0)),
    "inf": ((-2, np.inf), "ieee", "s8", ([-128, -128], np.inf, -128)),
    "-inf": ((-np.inf, 7), "ieee", "s8", ([0, 0], np.inf, 0)),
    "overflow": ((-3e38, 0, 3e38), "ieee", "s8", ([-128, -128, -128], np.inf, -128)),
    "underflow": ((-(2.0**-149), 2.0**-143), "ieee", "u8", ([0, 0], 0, 0)),  # 65 steps: s = 0
    # 382 steps: s = RN(1.498) = 1 step, and the largest quotient, 382, is clamped.
    "subnormal": ((0, 382 * 2.0**-149), "ieee", "u8", ([0, 255], 2.0**-149, 0)),
    "offset": ((100, 101), "vllm", "s8", ([-128, 127], float(f32(1) / f32(255)), -25628)),
    "offset u8": ((100, 101), "vllm", "u8", ([0, 255], float(f32(1) / f32(255)), -25500)),
    "constant vllm": ((3, 3), "vllm", "s8", ([-1, -1], 0, INT32_MIN)),
    "constant vllm u8": ((-3, -3), "vllm", "u8", ([0, 0], 0, INT32_MAX)),
    "zeros vllm": ((0, -0.0), "vllm", "s8", ([0, 0], 0, 0)),
    "nan vllm": ((0, NAN, 255), "vllm", "s8", ([-128, -128, 127], 1, -128)),
    "all nan vllm": ((NAN, NAN), "vllm", "s8", ([-128, -128], -np.inf, -128)),
    "inf vllm": ((-2, np.inf), "vllm", "s8", ([-128, -128], np.inf, -128)),
    "-inf vllm": ((-np.inf, 7), "vllm", "s8", ([0, 0], np.inf, 0)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_rows_worked_by_hand(name: str) -> None:
    values, spoken, codes, expected = BY_HAND[name]
    got = quantized(row(*values), spoken, codes)
    assert got[0] == expected[0]
    assert got[1] == expected[1] or (np.isnan(got[1]) and np.isnan(expected[1]))
    assert got[2] == expected[2]


def test_a_nan_scale_is_canonical() -> None:
    scales = oracle.asymmetric_per_token(row(NAN))[1]
    assert scales.view(np.uint32)[0] == 0x7FFFFFFF


def test_static_by_hand() -> None:
    x = row(-1e38, -300, -0.25, 0.25, 0.75, NAN, np.inf, 1e38)
    given = np.array([0.5], f32), np.array([3], np.int32)
    u8 = oracle.asymmetric_static(x, *given)
    assert u8[0].tolist() == [0, 0, 3, 3, 5, 3, 255, 255]  # exact sums: 1e38 stays above
    wrapped = oracle.asymmetric_static(x, *given, dialect="vllm", code_dtype="s8")
    assert wrapped[0].tolist() == [-128, -128, 3, 3, 5, 3, -128, -128]  # 2**31 - 1 + 3 wraps


def test_dequantize_by_hand() -> None:
    def one(code: int, zero_point: int, scale: float, codes: str, out: str = "fp32") -> Any:
        arrays = (
            np.array([[code]], DTYPES[codes]),
            np.array([scale], f32),
            np.array([zero_point], np.int32),
        )
        return oracle.asymmetric_dequantize(*arrays, out_dtype=out)[0, 0]

    assert one(255, 64, 0.5, "u8") == 95.5
    assert one(-128, -64, 0.5, "s8") == -32
    assert one(0, -25628, 0.25, "s8") == 6407
    assert one(127, INT32_MIN, 1.0, "s8") == f32(127 - 2**31)  # 127 + 2**31 wraps
    assert one(255, 0, 300.0, "u8", "fp16") == np.inf
    assert one(9, 9, np.inf, "u8").view(np.uint32) == 0x7FFFFFFF
    assert one(9, 9, np.inf, "u8", "bf16").view(np.uint16) == 0x7FFF


# -- a scalar model --------------------------------------------------------------------------------


def nearest(value: float) -> int:
    """To an integer, ties to even; saturated; 0 for NaN."""
    if np.isnan(value):
        return 0
    if np.isinf(value):
        return INT32_MAX if value > 0 else INT32_MIN
    return max(INT32_MIN, min(INT32_MAX, round(Fraction(value))))


def subtract(a: float, b: float) -> float:
    if not (np.isfinite(a) and np.isfinite(b)):
        return a - b
    return float(exact_round(Fraction(a) - Fraction(b)))


def wrap(value: int) -> int:
    return (value - INT32_MIN) % 2**32 + INT32_MIN


def scalar(values: list[float], spoken: str, codes: str) -> tuple[list[int], float, int]:
    """One row, number by number, in exact arithmetic."""
    low, high = RANGES[codes]
    numbers = [x for x in values if not np.isnan(x)]
    if spoken == "ieee":
        lost = len(numbers) < len(values)
        scale = NAN if lost else divide(subtract(max(*numbers, 0, 0), min(*numbers, 0, 0)), 255)
        smallest = min(*numbers, 0, 0) if numbers else 0.0
        zero_point = max(low, min(high, nearest(subtract(low, divide(smallest, scale)))))
        if scale == 0 or lost:
            return [0] * len(values), scale, 0
        quotients = [nearest(divide(x, scale)) for x in values]
        return [max(low, min(high, q + zero_point)) for q in quotients], scale, zero_point
    largest = float(np.finfo(np.float32).max)
    smallest, biggest = min([*numbers, largest]), max([*numbers, -largest])
    scale = divide(subtract(biggest, smallest), 255)
    zero_point = nearest(subtract(low, divide(smallest, scale)))
    quotients = [nearest(multiply(x, divide(1, scale))) for x in values]
    return [max(low, min(high, wrap(q + zero_point))) for q in quotients], scale, zero_point


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("spoken", SPOKEN)
@pytest.mark.parametrize("kind", recipes.AZP_KINDS)
def test_per_token_follows_its_words(kind: str, spoken: str, codes: str) -> None:
    for dtype in ("fp32", "fp16", "bf16"):
        x = recipes.floats(recipe(kind, dtype=dtype, seed=3, M=4, K=19), 4, 19)
        got = oracle.asymmetric_per_token(x, dialect=spoken, code_dtype=codes)
        for values, *made in zip(x.astype(f32).tolist(), *got, strict=True):
            expected = scalar(values, spoken, codes)
            assert made[0].tolist() == expected[0]
            assert made[1] == f32(expected[1]) or (np.isnan(made[1]) and np.isnan(expected[1]))
            assert made[2] == expected[2]


# -- properties ------------------------------------------------------------------------------------

ORDINARY = ("normal", "ties", "zeros", "one_outlier", "saturating", "negzero", "constant")


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("kind", [*ORDINARY, "azp_ties", "azp_near_ties", "offset"])
def test_round_trip_within_half_a_step(kind: str, codes: str) -> None:
    """And 0 comes back as 0. The bound leaves room for float32: 255 * 2**-23 of a step."""
    for dtype in ("fp32", "fp16", "bf16"):
        x = recipes.floats(recipe(kind, dtype=dtype, seed=1, M=9, K=70), 9, 70)
        c, s, z = oracle.asymmetric_per_token(x, code_dtype=codes)
        back = oracle.asymmetric_dequantize(c, s, z).astype(np.float64)
        wide = to_float32(x).astype(np.float64)
        assert np.all(np.abs(back - wide) <= s[:, None] * (0.5 + 255 * 2.0**-23))
        assert np.all(back[wide == 0] == 0)


def test_a_lost_range_never_comes_back_as_numbers() -> None:
    x = np.array([[-3e38, 1, 3e38], [1, np.inf, 2], [-np.inf, 0, 1], [1, NAN, 2]], f32)
    made = oracle.asymmetric_per_token(x)
    assert np.isnan(oracle.asymmetric_dequantize(*made)).all()


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("spoken", SPOKEN)
def test_granularities_are_rows_regrouped(spoken: str, codes: str) -> None:
    x = recipes.floats(recipe("offset", dtype="fp16", seed=2, M=6, K=24), 6, 24)
    options = {"dialect": spoken, "code_dtype": codes}
    by_row = oracle.asymmetric_per_token(x, **options)
    for one, other in zip(by_row, oracle.asymmetric_per_channel(x, **options), strict=True):
        assert one.tobytes() == other.tobytes()
    for shape, made in (
        ((1, -1), oracle.asymmetric_per_tensor(x, **options)),
        ((-1, 8), oracle.asymmetric_per_group(x, 8, **options)),
    ):
        regrouped = oracle.asymmetric_per_token(x.reshape(shape), **options)
        for one, other in zip(regrouped, made, strict=True):
            assert one.tobytes() == other.tobytes()
    assert oracle.asymmetric_per_group(x, 8, **options)[1].shape == (6, 3)


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("spoken", SPOKEN)
def test_static_under_the_dynamic_scales_gives_the_dynamic_codes(spoken: str, codes: str) -> None:
    options = {"dialect": spoken, "code_dtype": codes}
    x = recipes.floats(recipe("normal", seed=2, M=6, K=24), 6, 24)
    by_row = oracle.asymmetric_per_token(x, **options)
    assert oracle.asymmetric_static(x, *by_row[1:], **options).tobytes() == by_row[0].tobytes()
    by_group = oracle.asymmetric_per_group(x, 8, **options)
    static = oracle.asymmetric_static_per_group(x, *by_group[1:], **options)
    assert static.tobytes() == by_group[0].tobytes()
    first = [one[:1].copy() for one in by_group[1:]]
    shared = oracle.asymmetric_static_per_group(x, *first, **options)
    assert shared[:1].tobytes() == by_group[0][:1].tobytes()
    back = oracle.asymmetric_dequantize_per_group(*by_group)
    rows = oracle.asymmetric_dequantize(
        by_group[0].reshape(18, 8), *(one.reshape(-1) for one in by_group[1:])
    )
    assert back.tobytes() == rows.tobytes()


def test_the_dialects_differ_where_they_say() -> None:
    ieee, vllm = (dialect(name).under("asymmetric") for name in SPOKEN)
    fields = (
        "multiplier",
        "static_multiplier",
        "zero",
        "nan",
        "azp_range",
        "zero_point",
        "azp_sum",
    )
    assert all(getattr(ieee, field) != getattr(vllm, field) for field in fields)
    x = recipes.floats(recipe("offset", M=20, K=50), 20, 50)
    one, other = (oracle.asymmetric_per_token(x, dialect=name) for name in SPOKEN)
    assert (one[1] != other[1]).all()
    assert (one[2] != other[2]).all()


# -- bad input -------------------------------------------------------------------------------------

X, U8 = np.ones((4, 8), f32), np.ones((4, 8), np.uint8)
S, Z = np.ones(4, f32), np.ones(4, np.int32)
MANY = np.lib.stride_tricks.as_strided(np.ones(1, np.float16), (2**31, 1), (2, 2))
LONG = np.lib.stride_tricks.as_strided(np.ones(1, np.float16), (2, 2**30), (2**31, 2))
BAD: dict[str, tuple[Any, ...]] = {
    "dialect": (oracle.asymmetric_per_token, (X,), {"dialect": "article_cuda"}, ValueError,
                "dialect: got 'article_cuda'; allowed: ieee, vllm"),
    "code_dtype": (oracle.asymmetric_per_tensor, (X,), {"code_dtype": "s4"}, ValueError,
                   "code_dtype: got 's4'; allowed: u8, s8"),
    "name": (oracle.asymmetric_per_channel, (U8,), {}, TypeError, "w: got dtype uint8"),
    "group": (oracle.asymmetric_per_group, (X, 3), {}, ValueError, "group_size: got 3; allowed"),
    "rows": (oracle.asymmetric_per_token, (MANY,), {}, ValueError,
             "x: got 2147483648 rows; allowed: at most 2147483647"),
    "groups": (oracle.asymmetric_per_group, (LONG, 1), {}, ValueError,
               "x: got 2147483648 groups; allowed: at most 2147483647"),
    "scales": (oracle.asymmetric_static, (X, S[:3], Z), {}, ValueError, "scales: got 3 elements"),
    "zero": (oracle.asymmetric_static, (X, S * 0, Z), {}, ValueError,
             "scales: got 0.0 at index 0; allowed: finite and > 0"),
    "length": (oracle.asymmetric_static, (X, S, Z[:1]), {}, ValueError,
               "zero_points: got shape (1,); allowed: (4,), the shape of scales"),
    "integers": (oracle.asymmetric_static, (X, S, S), {}, TypeError,
                 "zero_points: got dtype float32; allowed: s32"),
    "range": (oracle.asymmetric_static, (X, S, Z * 256), {}, ValueError,
              "zero_points: got 256 at index 0; allowed in dialect ieee: -128 to 255"),
    "group range": (oracle.asymmetric_static_per_group,
                    (X, S.reshape(1, 4), np.array([[0, 0, -129, 0]], np.int32)), {}, ValueError,
                    "zero_points: got -129 at index (0, 2); allowed in dialect ieee"),
    "group zero": (oracle.asymmetric_static_per_group, (X, S.reshape(1, 4), Z.reshape(2, 2)), {},
                   ValueError, "zero_points: got shape (2, 2); allowed: (1, 4)"),
    "codes": (oracle.asymmetric_dequantize, (X, S, Z), {}, TypeError,
              "codes: got dtype float32; allowed: u8, s8"),
    "out": (oracle.asymmetric_dequantize, (U8, S, Z), {"out_dtype": "u8"}, ValueError,
            "out_dtype: got 'u8'"),
    "groups of codes": (oracle.asymmetric_dequantize_per_group,
                        (U8, np.ones((4, 3), f32), np.ones((4, 3), np.int32)), {}, ValueError,
                        "scales: got 3 groups a row"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    function, args, options, error, words = BAD[name]
    with pytest.raises(error) as caught:
        function(*args, **options)
    assert words in str(caught.value)


def test_vllm_takes_any_zero_point() -> None:
    wild = np.array([[INT32_MIN, INT32_MAX]], np.int32)
    given = np.ones((1, 2), f32), wild
    check_asymmetric_static_group(X, *given, "vllm", "s8")
    made = oracle.asymmetric_static_per_group(X, *given, dialect="vllm", code_dtype="s8")
    assert made[0].tolist() == [-128] * 8  # 2**31 - 1 + 1 wraps


# -- wrong kernels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("planted", WRONG, ids=[one.name for one in WRONG])
def test_a_wrong_kernel_is_rejected(planted: Planted) -> None:
    result = check_kernel(planted.kernel(), "ieee", examples=24, device="emulator")
    assert result.mismatches > 0
    assert result.counterexample is not None
    assert result.error is None, result.error


def test_the_right_formula_passes() -> None:
    result = check_kernel(RIGHT.kernel(), "ieee", examples=60, device="emulator")
    assert result.counterexample is None, str(result.counterexample)
    assert result.cases == len(get_op(RIGHT.op).hostile) + 60
