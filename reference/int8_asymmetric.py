"""INT8 asymmetric quantization: u8 or s8 codes with a zero point, in every granularity.

Contract, for x of fp32, fp16 or bf16 and one group of elements (a row, a group along K, or the
whole tensor), qmin = 0 for u8 and -128 for s8 codes, all in IEEE float32 with subnormals:

    scale = (max - min) / 255               the difference rounded, then a division
    zero_point = RNE(qmin - min / scale)    the quotient rounded, the difference rounded, then RNE
    code = clamp(RNE(x / scale or x * (1 / scale)) + zero_point)    to qmin .. qmin + 255
    out = round(float32(code - zero_point) * scale)

- RNE: to the nearest integer, ties to even, before the zero point is added; what int32 cannot hold
  saturates, NaN is 0. Fields of the dialect (dialects.py, family "asymmetric") say which
  multiplier, whether the range is widened to hold 0, whether the zero point is clamped to the
  codes' range, and whether the sum is exact or wraps in int32.
- -0 is 0. NaN outputs have the canonical bits 0x7fffffff. Empty shapes, and more than 2**31 - 1
  rows or groups, are refused.

ieee, the textbook formula:
- The range is widened to hold 0, so that 0 has a code of its own: quotients lie within 255 of 0,
  zero points within the codes' range, and a dequantized code is within scale / 2 of x. A subnormal
  scale is a rounded one: quotients may pass 255 (up to 382), which the clamp cuts.
- Zero group, or a range up to 127 * 2**-149, whose scale rounds to 0: scale, zero point and codes
  are 0. Constant group: the range is that of 0 and x.
- NaN in the group: scale NaN, zero point and codes 0.
- An infinity, or a range that overflows (3e38 and -3e38): scale infinite, every quotient 0 or NaN,
  so that every code is the zero point: qmin, or 0 where the minimum is -inf (inf / inf). The scale
  tells: 0 * inf dequantizes to NaN, never to a number.

vllm:
- The range starts at (FLT_MAX, -FLT_MAX), grows by fminf and fmaxf, and is not widened: a row in
  [100, 101] has zero point -25628 for s8. NaN is left out; a group of nothing else keeps the start:
  scale -inf, zero point qmin, codes qmin.
- Constant group x: scale 0, zero point -2**31 for x > 0 and 2**31 - 1 for x < 0; x * inf saturates
  at the other end of int32, so that the sum is -1: code -1 for s8, 0 for u8. All zeros: 0 * inf and
  0 / 0 are NaN, zero point and codes 0. Scales below 2**-128 have the inverse inf, too.
- Infinite scale (an infinity, or overflow): 1 / scale = 0, every rounded quotient 0; zero point
  qmin, or 0 where min is -inf.

Static: scales fp32, finite and > 0, and zero points s32 are given, both of one shape; zero points
any int32 where the dialect does not clamp them, else -128 to 255, what u8 or s8 codes may have.
NaN element: the quotient is 0, the code the zero point, clamped. Dequantize: any scales and zero
points; the difference wraps in int32; one product, then one rounding to out_dtype (overflow gives
infinity).

The other dialects' words and contracts: asymmetric.py.

Sources: vLLM csrc/libtorch_stable/quantization/w8a8/int8/scaled_quant.cu (older trees:
csrc/quantization/w8a8/int8/scaled_quant.cu), kernels dynamic_scaled_int8_azp_quant_kernel (per
token) and static_scaled_int8_azp_quant_kernel (per tensor), struct MinMax, float_to_int32_rn
(cvt.rni.sat.s32.f32), int32_to_int8 (cvt.sat.s8.s32); cmake/utils.cmake asks for no fast-math, so
its divisions are IEEE's. vLLM has s8 codes and these two granularities only; u8 and the others are
the same formula. What C++ leaves open is what nvcc makes of it: int32(nearbyintf(-128.f - min / s))
saturates and is 0 for NaN (cvt.rzi.s32.f32), the sum wraps (add.s32). It has no kernel that
dequantizes. Jacob et al. 2018, "Quantization and Training of Neural Networks", eq. 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from reference import recipes
from reference.asymmetric import (
    CODES,
    SPOKEN,
    Codes,
    ZeroPoints,
    check_asymmetric,
    check_asymmetric_dequantize,
    check_asymmetric_dequantize_group,
    check_asymmetric_group,
    check_asymmetric_static,
    check_asymmetric_static_group,
    dequantized,
    quantize_given,
    quantize_rows,
)
from reference.asymmetric_inputs import (
    LARGE,
    build_codes,
    build_groups,
    build_rows,
    build_static,
    build_static_groups,
)
from reference.numerics import Float32
from reference.op import Arg, Op, Recipe, recipe, register
from reference.validate import FLOATS


def asymmetric_per_token(
    x: NDArray[Any], *, dialect: str = "ieee", code_dtype: str = "u8"
) -> tuple[Codes, Float32, ZeroPoints]:
    """One dynamic scale and zero point per row.

    x: fp32, fp16 or bf16 (M, K). Returns codes of code_dtype (M, K), scales fp32 (M,), zero_points
    s32 (M,). Raises TypeError or ValueError naming the argument.
    """
    return quantize_rows(x, check_asymmetric(x, dialect, code_dtype, "per_token"), code_dtype)


def asymmetric_per_channel(
    w: NDArray[Any], *, dialect: str = "ieee", code_dtype: str = "u8"
) -> tuple[Codes, Float32, ZeroPoints]:
    """One scale and zero point per output channel of a K-major weight: the rows of w.

    w: fp32, fp16 or bf16 (N, K). Returns codes (N, K), scales fp32 (N,), zero_points s32 (N,).
    """
    spoken = check_asymmetric(w, dialect, code_dtype, "per_channel", "w")
    return quantize_rows(w, spoken, code_dtype)


def asymmetric_per_tensor(
    x: NDArray[Any], *, dialect: str = "ieee", code_dtype: str = "u8"
) -> tuple[Codes, Float32, ZeroPoints]:
    """One dynamic scale and zero point for the whole of x.

    x: fp32, fp16 or bf16 (M, K). Returns codes (M, K), scales fp32 (1,), zero_points s32 (1,).
    """
    spoken = check_asymmetric(x, dialect, code_dtype, "per_tensor")
    codes, scales, zero_points = quantize_rows(x.reshape(1, -1), spoken, code_dtype, True)
    return codes.reshape(x.shape), scales, zero_points


def asymmetric_per_group(
    x: NDArray[Any], group_size: int, *, dialect: str = "ieee", code_dtype: str = "u8"
) -> tuple[Codes, Float32, ZeroPoints]:
    """One dynamic scale and zero point per row and group of `group_size` elements along K.

    x: fp32, fp16 or bf16 (M, K); group_size: divides K. Returns codes (M, K), scales fp32 (M, Q)
    and zero_points s32 (M, Q), Q = K // group_size.
    """
    spoken = check_asymmetric_group(x, group_size, dialect, code_dtype)
    codes, scales, zero_points = quantize_rows(x.reshape(-1, group_size), spoken, code_dtype)
    shape = x.shape[0], -1
    return codes.reshape(x.shape), scales.reshape(shape), zero_points.reshape(shape)


def asymmetric_static(
    x: NDArray[Any],
    scales: Float32,
    zero_points: ZeroPoints,
    *,
    dialect: str = "ieee",
    code_dtype: str = "u8",
) -> Codes:
    """Codes under given scales and zero points.

    x: fp32, fp16 or bf16 (M, K); scales: fp32 (1,) or (M,), finite and > 0; zero_points: s32 of
    the same shape. Returns codes (M, K).
    """
    spoken = check_asymmetric_static(x, scales, zero_points, dialect, code_dtype)
    return quantize_given(x, scales[:, None], zero_points[:, None], spoken, code_dtype)


def asymmetric_static_per_group(
    x: NDArray[Any],
    scales: Float32,
    zero_points: ZeroPoints,
    *,
    dialect: str = "ieee",
    code_dtype: str = "u8",
) -> Codes:
    """Codes under given scales and zero points of every group along K; the group size is K / Q.

    x: fp32, fp16 or bf16 (M, K); scales: fp32 (1, Q) or (M, Q), finite and > 0; zero_points: s32
    of the same shape. Returns codes (M, K).
    """
    spoken = check_asymmetric_static_group(x, scales, zero_points, dialect, code_dtype)
    groups = x.reshape(x.shape[0], scales.shape[1], -1)
    given = scales[:, :, None], zero_points[:, :, None]
    return quantize_given(groups, *given, spoken, code_dtype).reshape(x.shape)


def asymmetric_dequantize(
    codes: Codes,
    scales: Float32,
    zero_points: ZeroPoints,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> NDArray[Any]:
    """float32(code - zero point) * scale, rounded to `out_dtype`.

    codes: u8 or s8 (M, K); scales: fp32 (1,) or (M,); zero_points: s32 of the same shape. Returns
    out_dtype (M, K).
    """
    spoken = check_asymmetric_dequantize(codes, scales, zero_points, dialect, out_dtype)
    return dequantized(codes, scales[:, None], zero_points[:, None], spoken, out_dtype)


def asymmetric_dequantize_per_group(
    codes: Codes,
    scales: Float32,
    zero_points: ZeroPoints,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> NDArray[Any]:
    """float32(code - zero point) * scale of its group, rounded to `out_dtype`.

    codes: u8 or s8 (M, K); scales: fp32 (1, Q) or (M, Q); zero_points: s32 of the same shape.
    Returns out_dtype (M, K).
    """
    spoken = check_asymmetric_dequantize_group(codes, scales, zero_points, dialect, out_dtype)
    groups = codes.reshape(codes.shape[0], scales.shape[1], -1)
    given = scales[:, :, None], zero_points[:, :, None]
    return dequantized(groups, *given, spoken, out_dtype).reshape(codes.shape)


# -- declarations ----------------------------------------------------------------------------------

_SHAPES = ((1, 1), (3, 7), (2, 16), (5, 129), (33, 40))
_GROUPS = ((1, 1, 1), (3, 5, 1), (2, 3, 7), (2, 4, 16), (3, 2, 64))
_CODE_KINDS = recipes.CODE_KINDS + recipes.SCALE_KINDS


def _hostile(
    kinds: tuple[str, ...], dims: tuple[str, ...], dtypes: tuple[str, ...]
) -> tuple[Recipe, ...]:
    """Each kind over shapes and dtypes in turn: an odd number of times, so that it meets every code
    dtype.
    """
    shapes = _GROUPS if len(dims) == 3 else _SHAPES
    made = []
    for number, kind in enumerate(kinds):
        for turn in range(number, number + (5 if len(dtypes) > 1 else 3)):
            sizes = dict(zip(dims, shapes[turn % len(shapes)], strict=True))
            made.append(recipe(kind, dtype=dtypes[turn % len(dtypes)], seed=turn, **sizes))
    return tuple(made)


def _register(
    oracle: Callable[..., Any],
    contract: str,
    inputs: tuple[Arg, ...],
    outputs: tuple[Arg, ...],
    build: Callable[[Recipe], dict[str, Any]],
    work: int,
    takes: tuple[str, ...],
    gives: tuple[str, ...],
) -> Op:
    """`work`: fp32 operations per element of the first input."""
    sides = inputs[0].shape
    quantizes = inputs[0].dtypes == FLOATS
    dtypes = FLOATS if quantizes else ("fp32",)
    dims = ("M", "Q", "G") if "Q*G" in sides else tuple(str(side) for side in sides)
    kinds: tuple[str, ...] = recipes.AZP_KINDS if quantizes else _CODE_KINDS
    only: dict[str, tuple[str, ...]] = {}
    if quantizes and len(inputs) == 3:
        kinds, only = (*kinds, LARGE), {LARGE: ("vllm",)}
    chosen = {"code_dtype": CODES} if quantizes else {"out_dtype": FLOATS}
    return register(
        Op(
            name=f"int8.{oracle.__name__}",
            oracle=oracle,
            contract=contract,
            inputs=inputs,
            outputs=outputs,
            options={"dialect": SPOKEN[oracle.__name__.removeprefix("asymmetric_")], **chosen},
            work={"fp32": f"{work}*{'*'.join(dims)}"},
            build=build,
            kinds=kinds,
            hostile=_hostile(kinds, dims, dtypes),
            dims=dims,
            dtypes=dtypes,
            only=only,
            takes=takes,
            gives=gives,
        )
    )


def _codes_of(*shape: str) -> Arg:
    return Arg("codes", shape, CODES)


def _parameters(*shape: str | int) -> tuple[Arg, Arg]:
    return Arg("scales", shape, ("fp32",)), Arg("zero_points", shape, ("s32",))


_DYNAMIC = (
    "one scale (max - min)/255 and zero point RNE(qmin - min/s) per {}; codes "
    "clamp(RNE(x scaled) + zero point); range, multiplier, NaN and zero rules by dialect"
)
_STATIC = "codes clamp(RNE(x scaled) + zero point) under given scales and zero points, {}"
_DEQUANTIZE = "float32(code - zero point) * scale, one rounding, then one to out_dtype; {}"
_X, _GROUPED = Arg("x", ("M", "K"), FLOATS), Arg("x", ("M", "Q*G"), FLOATS)
_NAMES = ("azp_codes", "azp_scales", "zero_points")
_IN_GROUPS = ("group_azp_codes", "group_azp_scales", "group_zero_points")
_OF_TENSOR = ("tensor_azp_codes", "tensor_azp_scale", "tensor_zero_point")

# min, max, difference to the scale or product, rounding, sum, clamp: seven operations an element.
PER_TOKEN = _register(
    asymmetric_per_token, _DYNAMIC.format("row"), (_X,),
    (_codes_of("M", "K"), *_parameters("M")), build_rows("x", "M"), 7, ("x",), _NAMES,
)  # fmt: skip
PER_CHANNEL = _register(
    asymmetric_per_channel, _DYNAMIC.format("output channel"), (Arg("w", ("N", "K"), FLOATS),),
    (_codes_of("N", "K"), *_parameters("N")), build_rows("w", "N"), 7,
    ("w",), ("azp_w_codes", "azp_w_scales", "w_zero_points"),
)  # fmt: skip
PER_TENSOR = _register(
    asymmetric_per_tensor, _DYNAMIC.format("tensor"), (_X,),
    (_codes_of("M", "K"), *_parameters(1)), build_rows("x", "M"), 7, ("x",), _OF_TENSOR,
)  # fmt: skip
PER_GROUP = _register(
    asymmetric_per_group, _DYNAMIC.format("row and group of G along K"),
    (_GROUPED, Arg("group_size", (), ("int",), symbol="G")),
    (_codes_of("M", "Q*G"), *_parameters("M", "Q")), build_groups, 7,
    ("x", "group_size"), _IN_GROUPS,
)  # fmt: skip
STATIC = _register(
    asymmetric_static, _STATIC.format("one or one per row"), (_X, *_parameters("S")),
    (_codes_of("M", "K"),), build_static, 5, ("x", *_OF_TENSOR[1:]), ("static_azp_codes",),
)  # fmt: skip
STATIC_PER_GROUP = _register(
    asymmetric_static_per_group, _STATIC.format("one per group, or row and group"),
    (_GROUPED, *_parameters("S", "Q")), (_codes_of("M", "Q*G"),), build_static_groups, 5,
    ("x", *_IN_GROUPS[1:]), ("static_group_azp_codes",),
)  # fmt: skip
DEQUANTIZE = _register(
    asymmetric_dequantize, _DEQUANTIZE.format("one scale and zero point, or one per row"),
    (_codes_of("M", "K"), *_parameters("S")), (Arg("out", ("M", "K"), FLOATS),),
    build_codes, 2, _NAMES, ("azp_dequantized",),
)  # fmt: skip
DEQUANTIZE_PER_GROUP = _register(
    asymmetric_dequantize_per_group, _DEQUANTIZE.format("of its group, or row and group"),
    (_codes_of("M", "Q*G"), *_parameters("S", "Q")), (Arg("out", ("M", "Q*G"), FLOATS),),
    build_codes, 2, _IN_GROUPS, ("group_azp_dequantized",),
)  # fmt: skip
