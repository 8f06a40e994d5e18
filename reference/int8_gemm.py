"""INT8 GEMM with int32 accumulators, and the epilogue that turns them into floats.

Contract:

    acc[m, n] = sum over k of a[m, k] * b[n, k]         exact in int32; weights are K-major
    out[m, n] = round(epilogue(acc, a_scales[m], b_scales[n], bias[n]))

Either scale may be one for the whole tensor: an array of one element.


- Sums are exact. Up to K = 131,071 no sum of s8 products can leave int32; beyond that the dialect
  refuses or wraps (two's complement, as the hardware does). Any order of summation gives the same
  bits.
- The epilogue converts acc to float32 (to nearest even: exact below 2**24), multiplies by both
  scales and adds the bias in the dialect's order, each operation rounded to float32, or with one
  rounding for product and bias where the dialect says fma; then one rounding to the output dtype.
  No bias means no addition: -0 stays -0.
- Scales are taken as they come: NaN gives the canonical NaN, infinity times 0 too, subnormal
  products are kept, overflow gives infinity.
- Empty shapes are refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import recipes
from reference.dialects import CORE, Dialect
from reference.numerics import Float32, canonical_nan, fma32, int_gemm, round_to
from reference.op import Arg, Op, Recipe, recipe, register
from reference.validate import (
    FLOATS,
    check_epilogue,
    check_gemm,
    check_gemm_batched,
    check_gemm_dequant,
)

Codes = NDArray[np.int8]
Accumulators = NDArray[np.int32]


def gemm(a: Codes, b: Codes, *, dialect: str = "ieee") -> Accumulators:
    """a @ b.T in int32.

    a: s8 (M, K); b: s8 (N, K). Returns s32 (M, N). Raises ValueError where K > 131,071 and the
    dialect refuses.
    """
    check_gemm(a, b, dialect)
    return int_gemm(a, b)


def gemm_batched(a: Codes, b: Codes, *, dialect: str = "ieee") -> Accumulators:
    """`gemm` of each pair of matrices.

    a: s8 (B, M, K); b: s8 (B, N, K). Returns s32 (B, M, N). Raises as `gemm`.
    """
    check_gemm_batched(a, b, dialect)
    return np.stack([int_gemm(one, other) for one, other in zip(a, b, strict=True)])


def epilogue(
    acc: Accumulators,
    a_scales: Float32,
    b_scales: Float32,
    bias: Float32 | None = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> NDArray[Any]:
    """Dequantizes accumulators per token and per channel.

    acc: s32 (M, N); a_scales: fp32 (M,) or (1,); b_scales: fp32 (N,) or (1,); bias: fp32 (N,) or
    None. Returns out_dtype (M, N).
    """
    spoken = check_epilogue(acc, a_scales, b_scales, bias, dialect, out_dtype)
    return round_to(scaled(acc, a_scales, b_scales, bias, spoken), out_dtype)


def gemm_dequant(
    a: Codes,
    b: Codes,
    a_scales: Float32,
    b_scales: Float32,
    bias: Float32 | None = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> NDArray[Any]:
    """`epilogue(gemm(a, b), ...)` in one: what a fused kernel must give.

    a: s8 (M, K); b: s8 (N, K); the rest as in `epilogue`. Returns out_dtype (M, N).
    """
    spoken = check_gemm_dequant(a, b, a_scales, b_scales, bias, dialect, out_dtype)
    return round_to(scaled(int_gemm(a, b), a_scales, b_scales, bias, spoken), out_dtype)


def scaled(
    acc: Accumulators, a_scales: Float32, b_scales: Float32, bias: Float32 | None, spoken: Dialect
) -> Float32:
    """The epilogue's fp32 value (M, N), before it is rounded to an output dtype. Unchecked."""
    with np.errstate(all="ignore"):
        wide = acc.astype(np.float32)
        first, second = _factors(a_scales[:, None], b_scales[None, :], spoken)
        wide = wide * first
        if bias is not None and spoken.epilogue.endswith("fma bias"):
            wide = fma32(wide, second, np.broadcast_to(bias, wide.shape))
        else:
            wide = wide * second
            wide = wide if bias is None else wide + bias
        return canonical_nan(wide)


def _factors(a_scale: Float32, b_scale: Float32, spoken: Dialect) -> tuple[Float32, Float32]:
    """The scale that multiplies first, and the other."""
    if spoken.epilogue.startswith("acc*sA"):
        return a_scale, b_scale
    return b_scale, a_scale


def build_gemm(made: Recipe) -> dict[str, Any]:
    """a and b of a recipe's M, N and K."""
    M, N, K = made.dim("M"), made.dim("N"), made.dim("K")
    return {"a": recipes.codes(made, M, K, 1), "b": recipes.codes(made, N, K, 2)}


def build_vectors(made: Recipe) -> dict[str, Any]:
    """a_scales, b_scales (now and then one for all) and bias (or None) of a recipe's M and N."""
    M, N = made.dim("M"), made.dim("N")
    rng = np.random.default_rng(made.seed)
    bias = rng.standard_normal(N).astype(np.float32) if made.seed % 3 else None
    return {
        "a_scales": recipes.scales(made, 1 if made.seed % 5 == 2 else M, 3),
        "b_scales": recipes.scales(made, 1 if made.seed % 7 == 3 else N, 4),
        "bias": bias,
    }


def cancel(made: Recipe, acc: Accumulators, vectors: dict[str, Any]) -> None:
    """The bias that makes a fused and an unfused sum differ: minus the rounded product."""
    if made.kind == "cancel":
        product = epilogue(acc, vectors["a_scales"], vectors["b_scales"])
        vectors["bias"] = recipes.cancelling_bias(product)


def _build_epilogue(made: Recipe) -> dict[str, Any]:
    acc = recipes.accumulators(made, made.dim("M"), made.dim("N"))
    vectors = build_vectors(made)
    cancel(made, acc, vectors)
    return {"acc": acc, **vectors}


def _build_batched(made: Recipe) -> dict[str, Any]:
    B, M, N, K = (made.dim(symbol) for symbol in "BMNK")
    a, b = recipes.codes(made, B * M, K, 1), recipes.codes(made, B * N, K, 2)
    return {"a": a.reshape(B, M, K), "b": b.reshape(B, N, K)}


def _build_gemm_dequant(made: Recipe) -> dict[str, Any]:
    codes, vectors = build_gemm(made), build_vectors(made)
    cancel(made, int_gemm(codes["a"], codes["b"]), vectors)
    return {**codes, **vectors}


# Edges of every tile that the kernels use, odd sizes, one element, K below and above 16 and 64.
SHAPES = (
    (1, 1, 1),
    (3, 5, 7),
    (17, 33, 31),
    (16, 8, 32),
    (2, 129, 64),
    (65, 66, 67),
    (65, 66, 80),
)


def hostile_gemm(kinds: tuple[str, ...], dtypes: tuple[str, ...] = ("fp32",)) -> tuple[Recipe, ...]:
    """Every kind at two shapes, every shape at least once."""
    return tuple(
        recipe(kind, seed=turn + number, dtype=dtypes[(turn + number) % len(dtypes)], M=M, N=N, K=K)
        for number, kind in enumerate(kinds)
        for turn in (0, 1)
        for M, N, K in (SHAPES[(2 * number + turn) % len(SHAPES)],)
    )


_DIALECT = {"dialect": CORE}
_OUT = {"dialect": CORE, "out_dtype": FLOATS}
_A = Arg("a", ("M", "K"), ("s8",))
_B = Arg("b", ("N", "K"), ("s8",))
_ACC = Arg("acc", ("M", "N"), ("s32",))
VECTORS = (
    Arg("a_scales", ("M",), ("fp32",), broadcast=True),
    Arg("b_scales", ("N",), ("fp32",), broadcast=True),
    Arg("bias", ("N",), ("fp32",), optional=True),
)
OUT = Arg("out", ("M", "N"), FLOATS)

GEMM = register(
    Op(
        name="int8.gemm",
        oracle=gemm,
        contract="a @ b.T exactly, in int32; beyond K = 131,071 refused or wrapped, by dialect",
        inputs=(_A, _B),
        outputs=(_ACC,),
        options=_DIALECT,
        work={"int8_tensor": "2*M*N*K"},
        build=build_gemm,
        kinds=recipes.CODE_KINDS,
        hostile=hostile_gemm(recipes.CODE_KINDS),
        dims=("M", "N", "K"),
        takes=("codes", "w_codes"),
        gives=("acc",),
    )
)
BATCHED = register(
    Op(
        name="int8.gemm_batched",
        oracle=gemm_batched,
        contract="a[i] @ b[i].T exactly, in int32, for each i",
        inputs=(Arg("a", ("B", "M", "K"), ("s8",)), Arg("b", ("B", "N", "K"), ("s8",))),
        outputs=(Arg("acc", ("B", "M", "N"), ("s32",)),),
        options=_DIALECT,
        work={"int8_tensor": "2*B*M*N*K"},
        build=_build_batched,
        kinds=recipes.CODE_KINDS,
        hostile=tuple(
            replace(made, dims=(("B", 1 + number % 3), *made.dims))
            for number, made in enumerate(hostile_gemm(recipes.CODE_KINDS))
        ),
        dims=("B", "M", "N", "K"),
    )
)
EPILOGUE = register(
    Op(
        name="int8.epilogue",
        oracle=epilogue,
        contract="acc to fp32, times both scales, plus bias, to out_dtype; order by dialect",
        inputs=(_ACC, *VECTORS),
        outputs=(OUT,),
        options=_OUT,
        work={"fp32": "3*M*N"},
        build=_build_epilogue,
        kinds=recipes.EPILOGUE_KINDS,
        hostile=hostile_gemm(recipes.EPILOGUE_KINDS),
        dims=("M", "N"),
        takes=("acc", "scales", "w_scales", "bias"),
        gives=("out",),
    )
)
GEMM_DEQUANT = register(
    Op(
        name="int8.gemm_dequant",
        oracle=gemm_dequant,
        contract="int8.epilogue of int8.gemm, bit for bit",
        inputs=(_A, _B, *VECTORS),
        outputs=(OUT,),
        options=_OUT,
        work={"int8_tensor": "2*M*N*K", "fp32": "3*M*N"},
        build=_build_gemm_dequant,
        kinds=recipes.EPILOGUE_KINDS,
        hostile=hostile_gemm(recipes.EPILOGUE_KINDS),
        dims=("M", "N", "K"),
        takes=("codes", "w_codes", "scales", "w_scales", "bias"),
        gives=("out",),
    )
)
