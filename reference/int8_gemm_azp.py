"""INT8 GEMM of asymmetric activations: the zero point's share leaves in the epilogue.

Contract, for activations x ~ a_scale * (a - zero_point) with a in u8 or s8, weights symmetric s8:

    column_sums[n] = sum over k of b[n, k]                               s32, exact
    exact[m, n]    = acc[m, n] - zero_points[m] * column_sums[n]         s32
    out[m, n]      = round(epilogue(exact, a_scales[m], b_scales[n], bias[n]))     int8_gemm.py

- exact is the sum of (a - zero_point) * b. It is computed modulo 2**32, so intermediate overflow
  does no harm as long as the sum itself fits in int32.
- Guard: a zero point is no 8-bit number in dialects that do not clamp it (a row within [100, 101]
  has -25,628 in vLLM's), so the sum can leave int32 from K = 660 on. Dialects that refuse overflow
  ask max(|lo - zp|, |hi - zp|) * 128 * K <= 2**31 - 1 of every zero point zp, lo..hi being the
  range of a's dtype; the others wrap, as the hardware does.
- zero_points and a_scales may each be one for all rows; b_scales one for all columns.
- column_sums is taken as given: what it must be is int8.column_sums of b.

Sources: vLLM csrc/cutlass_extensions/epilogue/scaled_mm_epilogues_c2x.hpp (ScaledEpilogueBiasAzp:
acc - azp_adj with azp_adj = azp * column sums; ScaledEpilogueBiasAzpToken: acc - azp * azp_adj);
Jacob et al. 2018, section 2.3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import recipes
from reference.dialects import Dialect
from reference.int8_gemm import OUT, VECTORS, Accumulators, build_vectors, hostile_gemm, scaled
from reference.numerics import (
    INT32_MAX,
    RANGES,
    Float32,
    dtype_name,
    int_gemm,
    k_limit,
    round_to,
)
from reference.op import Arg, Op, Recipe, recipe, register
from reference.validate import (
    FLOATS,
    check_array,
    check_dialect,
    check_out_dtype,
    check_vector,
)

DIALECTS = ("ieee", "vllm")
CODES = ("u8", "s8")
LARGEST_WEIGHT = 128  # the largest magnitude of an s8 code
SUM_K_MAX = INT32_MAX // LARGEST_WEIGHT  # K up to which a sum of s8 codes fits int32


def check_column_sums(b: Any, dialect_name: str) -> Dialect:
    """b: s8 (N, K); K within int32 unless the dialect wraps."""
    _, depth = check_array("b", b, ("s8",), 2)
    spoken = check_dialect(dialect_name, DIALECTS)
    if spoken.k_overflow == "refuse" and depth > SUM_K_MAX:
        raise ValueError(
            f"b: got K = {depth}; allowed in dialect {spoken.name}: at most {SUM_K_MAX}, beyond "
            "which a sum of s8 codes can leave int32"
        )
    return spoken


def check_gemm_azp(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    zero_points: Any,
    column_sums: Any,
    bias: Any,
    dialect_name: str,
    out_dtype: str,
) -> Dialect:
    """a: u8 or s8 (M, K); b: s8 (N, K); a_scales: fp32 (M,) or (1,); b_scales: fp32 (N,) or (1,);
    zero_points: s32 (M,) or (1,), guarded as the contract says; column_sums: s32 (N,).
    """
    rows, depth = check_array("a", a, CODES, 2)
    columns, other = check_array("b", b, ("s8",), 2)
    if other != depth:
        raise ValueError(f"b: got K = {other} (its last axis); allowed: {depth}, the K of a")
    per_row, per_column = {1: "per-tensor", rows: "M, one per token"}, f"N = {columns}"
    check_vector("a_scales", a_scales, per_row)
    check_vector("b_scales", b_scales, {1: "per-tensor", columns: "N, one per output channel"})
    _check_integers("zero_points", zero_points, per_row)
    _check_integers("column_sums", column_sums, {columns: f"{per_column}, one per output channel"})
    if bias is not None:
        check_vector("bias", bias, {columns: "N, one per output channel"})
    check_out_dtype(out_dtype)
    spoken = check_dialect(dialect_name, DIALECTS)
    if spoken.k_overflow == "refuse":
        _guard(str(dtype_name(a.dtype)), depth, zero_points, spoken)
    return spoken


def _check_integers(name: str, array: Any, lengths: dict[int, str]) -> None:
    (got,) = check_array(name, array, ("s32",), 1)
    if got not in lengths:
        allowed = " or ".join(f"{size} ({why})" for size, why in lengths.items())
        raise ValueError(f"{name}: got {got} elements; allowed: {allowed}")


def _guard(a_dtype: str, depth: int, zero_points: Any, spoken: Dialect) -> None:
    limit = k_limit(RANGES[a_dtype], RANGES["s8"])
    if depth > limit:
        raise ValueError(
            f"a: got K = {depth}; allowed in dialect {spoken.name}: at most {limit}, beyond which "
            f"a sum of {a_dtype} times s8 products can leave int32"
        )
    values = zero_points.get() if hasattr(zero_points, "get") else zero_points
    low, high = RANGES[a_dtype]
    wide = values.astype(np.int64)
    largest = np.maximum(np.abs(low - wide), np.abs(high - wide))
    bad = np.flatnonzero(largest * LARGEST_WEIGHT * depth > INT32_MAX)
    if bad.size:
        where, most = int(bad[0]), INT32_MAX // (LARGEST_WEIGHT * depth)
        raise ValueError(
            f"zero_points: got {values[where]} at index {where}; allowed in dialect {spoken.name} "
            f"with K = {depth}: {high - most} to {low + most}, beyond which the sum of "
            "(code - zero point) * weight can leave int32"
        )


def column_sums(b: NDArray[np.int8], *, dialect: str = "ieee") -> NDArray[np.int32]:
    """Sum of each output channel's weights, exact modulo 2**32.

    b: s8 (N, K). Returns s32 (N,). Raises ValueError where K > 16,777,215 and the dialect refuses.
    """
    check_column_sums(b, dialect)
    return np.asarray(b.sum(axis=1, dtype=np.int64)).astype(np.int32)


def gemm_azp(
    a: NDArray[Any],
    b: NDArray[np.int8],
    a_scales: Float32,
    b_scales: Float32,
    zero_points: NDArray[np.int32],
    column_sums: NDArray[np.int32],
    bias: Float32 | None = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> NDArray[Any]:
    """The GEMM of (a - zero point) with b, scaled.

    a: u8 or s8 (M, K); b: s8 (N, K); a_scales: fp32 (M,) or (1,); b_scales: fp32 (N,) or (1,);
    zero_points: s32 (M,) or (1,); column_sums: s32 (N,); bias: fp32 (N,) or None.
    Returns out_dtype (M, N). Raises TypeError or ValueError naming the argument.
    """
    spoken = check_gemm_azp(
        a, b, a_scales, b_scales, zero_points, column_sums, bias, dialect, out_dtype
    )
    exact = without_zero_point(int_gemm(a, b), zero_points, column_sums)
    return round_to(scaled(exact, a_scales, b_scales, bias, spoken), out_dtype)


def without_zero_point(
    acc: Accumulators, zero_points: NDArray[np.int32], sums: NDArray[np.int32]
) -> Accumulators:
    """acc - zero_points[m] * sums[n], modulo 2**32. acc: s32 (M, N)."""
    share = zero_points.astype(np.int64)[:, None] * sums.astype(np.int64)
    return np.asarray(acc.astype(np.int64) - share).astype(np.int32)


def _build_sums(made: Recipe) -> dict[str, Any]:
    return {"b": recipes.codes(made, made.dim("N"), made.dim("K"), 2)}


def _build(made: Recipe) -> dict[str, Any]:
    """Zero points within the codes' range, or for every third seed vLLM's large ones."""
    M, N, K = made.dim("M"), made.dim("N"), made.dim("K")
    signed = recipes.codes(made, M, K, 1)
    a = signed if made.seed % 2 else (signed.astype(np.int16) + 128).astype(np.uint8)
    b = recipes.codes(made, N, K, 2)
    rng = np.random.default_rng([5, made.seed])
    low, high = RANGES[str(dtype_name(a.dtype))]
    most = min(INT32_MAX // (LARGEST_WEIGHT * K), 1 << 20)
    if made.seed % 3 == 0:
        low, high = high - most, low + most
    rows = 1 if made.seed % 5 == 1 else M
    zero_points = rng.integers(low, high + 1, rows).astype(np.int32)
    zero_points[0] = (low, high)[made.seed // 3 % 2]
    vectors = build_vectors(made)
    return {
        "a": a,
        "b": b,
        "a_scales": vectors["a_scales"],
        "b_scales": vectors["b_scales"],
        "zero_points": zero_points,
        "column_sums": column_sums(b),
        "bias": vectors["bias"],
    }


KINDS = (*recipes.CODE_KINDS, *recipes.SCALE_KINDS)
COLUMN_SUMS = register(
    Op(
        name="int8.column_sums",
        oracle=column_sums,
        contract="sum over K of each output channel's codes, exactly, in int32",
        inputs=(Arg("b", ("N", "K"), ("s8",)),),
        outputs=(Arg("sums", ("N",), ("s32",)),),
        options={"dialect": DIALECTS},
        work={"int32": "N*K"},
        build=_build_sums,
        kinds=recipes.CODE_KINDS,
        hostile=tuple(
            recipe(kind, seed=number, N=N, K=K)
            for number, kind in enumerate(recipes.CODE_KINDS)
            for N, K in ((1, 1), (3, 7), (17, 48), (5, 1031))
        ),
        dims=("N", "K"),
        takes=("w_codes",),
        gives=("column_sums",),
    )
)
GEMM_AZP = register(
    Op(
        name="int8.gemm_azp",
        oracle=gemm_azp,
        contract="epilogue of acc - zero_point * column sum, in int32 modulo 2**32",
        inputs=(
            Arg("a", ("M", "K"), CODES),
            Arg("b", ("N", "K"), ("s8",)),
            *VECTORS[:2],
            Arg("zero_points", ("M",), ("s32",), broadcast=True),
            Arg("column_sums", ("N",), ("s32",)),
            VECTORS[2],
        ),
        outputs=(OUT,),
        options={"dialect": DIALECTS, "out_dtype": FLOATS},
        work={"int8_tensor": "2*M*N*K", "fp32": "3*M*N", "int32": "2*M*N"},
        build=_build,
        kinds=KINDS,
        hostile=hostile_gemm(KINDS),
        dims=("M", "N", "K"),
        takes=(
            "azp_codes",
            "w_codes",
            "azp_scales",
            "w_scales",
            "zero_points",
            "column_sums",
            "bias",
        ),
        gives=("out",),
    )
)
