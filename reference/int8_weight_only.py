"""INT8 weight-only linear (W8A16): x stays in its own dtype, weights are s8 codes with scales.

Contract, for x (M, K) and w_codes (N, K) with w_scales (N, Q), K = Q * G:

    w[n, k] = round(f32(code[n, k]) * w_scales[n, k // G])               one fp32 product
    out[m, n] = round(dot(x[m, :], w[n, :]), or round(dot + bias[n]))    to out_dtype

- Where the dialect's `intermediate` is "input" w is then rounded to x's dtype, as a kernel does
  that hands it to a matrix instruction of that dtype; fp32 x: no change.
- dot is the sum "lanes of 8" of reductions.py with 32 lanes whatever K is: chunk c (elements
  8c .. 8c+7) belongs to lane c % 32; a lane goes through its elements in ascending order with
  sum = round(x * w + sum), one rounding each, from +0; the lanes are joined by the butterfly
  v = round(v + v of lane ^ d), d = 16, 8, 4, 2, 1. fp16 and bf16 x enter exactly.
- The bias is one more fp32 addition; without one there is none. -0 is left only where a product
  underflows to it and nothing else is in the sum.
- Values are taken as they come: NaN anywhere gives the canonical NaN, 0 * infinity too; subnormals
  are kept, overflow gives infinity (in w already, where it is rounded to fp16).
- Q >= 1; Q = 1 is one scale per output channel. Empty shapes are refused.

Error, for finite values: with n = 8 * ceil(K / 256) + 5 (fma of the longest lane, 5 joins) and u =
2**-24, |dot - exact| <= (1 + gamma(n)) * (1 + u)(1 + v) - 1 times sum |x w|, apart from underflow,
gamma(n) = n u / (1 - n u); v = 2**-11 or 2**-8 for w rounded to fp16 or bf16, else 0.

Sources: "input" is how vLLM's Marlin kernel treats 8-bit weights with group scales: csrc/
quantization/marlin/dequant.h converts codes to the activations' dtype, exactly, and
marlin_template.h (`scale<a_type_id>(frag_b, frag_s)`) multiplies them by a scale of that dtype
before the matrix instruction; with scales that are values of x's dtype, w here equals that. One
scale per channel it applies after the sum, and its sums come from tensor cores in an order that no
document fixes: both are as above in every dialect here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import recipes
from reference.dialects import Dialect
from reference.int8_gemm import OUT
from reference.int8_gemm_group import check_scale_matrix
from reference.numerics import Float32, canonical_nan, dtype_name, round_to, to_float32
from reference.op import Arg, Op, Recipe, recipe, register
from reference.reductions import WARP, lane_dot
from reference.validate import (
    FLOATS,
    check_array,
    check_dialect,
    check_out_dtype,
    check_quantize,
    check_vector,
)

SPOKEN = ("ieee", "vllm")
BLOCK = 1 << 14  # running values, one per result and lane, at a time: they stay in the cache
ROWS = 16  # of x at a time
WEIGHTS = 1 << 22  # that are in float32 at a time


def check_weight_only(
    x: Any, w_codes: Any, w_scales: Any, bias: Any, dialect_name: str, out_dtype: str
) -> Dialect:
    """x: fp32, fp16 or bf16 (M, K); w_codes: s8 (N, K); w_scales: fp32 (N, Q), Q a divisor of K;
    bias: fp32 (N,) or None.
    """
    check_dialect(dialect_name, SPOKEN)
    spoken = check_quantize(x, dialect_name)
    depth = int(x.shape[1])
    columns, other = check_array("w_codes", w_codes, ("s8",), 2)
    if other != depth:
        raise ValueError(f"w_codes: got K = {other} (its last axis); allowed: {depth}, the K of x")
    check_scale_matrix("w_scales", w_scales, columns, "N, one per output channel", depth)
    if bias is not None:
        check_vector("bias", bias, {columns: "N, one per output channel"})
    check_out_dtype(out_dtype)
    return spoken


def weight_only_linear(
    x: NDArray[Any],
    w_codes: NDArray[np.int8],
    w_scales: Float32,
    bias: Float32 | None = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> NDArray[Any]:
    """x @ dequantize(w).T + bias in float.

    x: fp32, fp16 or bf16 (M, K); w_codes: s8 (N, K); w_scales: fp32 (N, Q), Q a divisor of K;
    bias: fp32 (N,) or None. Returns out_dtype (M, N). Raises TypeError or ValueError naming the
    argument.
    """
    spoken = check_weight_only(x, w_codes, w_scales, bias, dialect, out_dtype)
    (M, K), N = x.shape, w_codes.shape[0]
    wide, total = to_float32(x), np.empty((M, N), np.float32)
    rows = min(M, ROWS)
    columns = max(1, min(BLOCK // (WARP * rows), WEIGHTS // K))
    for n in range(0, N, columns):
        part = slice(n, n + columns)
        w = weights(w_codes[part], w_scales[part], str(dtype_name(x.dtype)), spoken)
        for m in range(0, M, rows):
            total[m : m + rows, part] = lane_dot(wide[m : m + rows, None, :], w, WARP)
    with np.errstate(all="ignore"):
        total = total if bias is None else total + bias
    return round_to(canonical_nan(total), out_dtype)


def weights(codes: NDArray[np.int8], scales: Float32, dtype: str, spoken: Dialect) -> Float32:
    """The weights that x is multiplied with, fp32 (N, K). dtype: x's."""
    per_code = np.repeat(scales, codes.shape[1] // scales.shape[1], axis=1)
    with np.errstate(all="ignore"):
        values = canonical_nan(codes.astype(np.float32) * per_code)
    return values if spoken.intermediate == "fp32" else to_float32(round_to(values, dtype))


def _build(made: Recipe) -> dict[str, Any]:
    """Kinds of floats are about x, kinds of scales about w_scales; codes are random."""
    M, N, Q, G = (made.dim(symbol) for symbol in "MNQG")
    plain = recipe("normal", seed=made.seed, dtype=made.dtype, **dict(made.dims))
    x = recipes.floats(made if made.kind in recipes.KINDS else plain, M, Q * G)
    codes = recipes.codes(made if made.kind in ("zeros", "one_hot") else plain, N, Q * G, 2)
    scales = recipes.scales(made, N * Q, 4).reshape(N, Q)
    rng = np.random.default_rng(made.seed)
    bias = rng.standard_normal(N).astype(np.float32) if made.seed % 3 else None
    if made.kind == "cancel":
        bias = recipes.cancelling_bias(weight_only_linear(x, codes, scales))
    return {"x": x, "w_codes": codes, "w_scales": scales, "bias": bias}


KINDS = (
    "normal",
    "one_hot",
    "zeros",
    "negzero",
    "subnormal",
    "huge",
    "nan",
    "inf",
    *recipes.SCALE_KINDS,
    "cancel",
)
# (M, N, Q, G): a chunk cut short, groups that end inside a chunk, lanes without a chunk, one with
# several, M and N beside the tiles.
SHAPES = (
    (1, 1, 1, 1),
    (3, 5, 2, 7),
    (1, 9, 1, 300),
    (2, 3, 3, 4),
    (5, 6, 4, 64),
    (9, 17, 1, 40),
    (8, 4, 9, 12),
    (1, 7, 2, 520),
    (4, 33, 5, 33),
)


def _hostile() -> tuple[Recipe, ...]:
    """Every kind in every dtype, every shape several times."""
    return tuple(
        recipe(kind, seed=number + turn, dtype=dtype, M=M, N=N, Q=Q, G=G)
        for number, kind in enumerate(KINDS)
        for turn, dtype in enumerate(FLOATS)
        for M, N, Q, G in (SHAPES[(3 * number + 2 * turn) % len(SHAPES)],)
    )


WEIGHT_ONLY = register(
    Op(
        name="int8.weight_only_linear",
        oracle=weight_only_linear,
        contract="x times round(code * scale of its group) in an fp32 fma chain per lane of 32, "
        "lanes joined by a butterfly; plus bias, to out_dtype",
        inputs=(
            Arg("x", ("M", "Q*G"), FLOATS),
            Arg("w_codes", ("N", "Q*G"), ("s8",)),
            Arg("w_scales", ("N", "Q"), ("fp32",)),
            Arg("bias", ("N",), ("fp32",), optional=True),
        ),
        outputs=(OUT,),
        options={"dialect": SPOKEN, "out_dtype": FLOATS},
        work={"fp32": "2*M*N*Q*G + N*Q*G"},
        build=_build,
        kinds=KINDS,
        hostile=_hostile(),
        dims=("M", "N", "Q", "G"),
        dtypes=FLOATS,
        takes=("x", "w_group_codes", "w_group_scales", "bias"),
        gives=("out",),
    )
)
