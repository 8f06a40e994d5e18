"""INT8 GEMM with one scale per row and group of G elements along K (block-scaled W8A8).

Contract, for a (M, Q*G), b (N, Q*G), a_scales (M, Q), b_scales (N, Q); K = Q * G:

    acc_g[m, n] = sum over the G elements k of group g of a[m, k] * b[n, k]        exact in int32
    sum_0 = +0;   for g = 0 .. Q-1, ascending:
        "sum+acc*sB*sA":         sum = round(sum + round(round(f32(acc_g) * sB) * sA))
        "fma(acc*sA, sB, sum)":  sum = round(round(f32(acc_g) * sA) * sB + sum)    one rounding
    out[m, n] = round(sum, or round(sum + bias[n]))                                to out_dtype

- sA is a_scales[m, g], sB is b_scales[n, g]; the formula is the dialect's `group_epilogue`.
- acc_g is exact and its order of summation free; beyond G = 131,071 the dialect refuses or wraps
  (two's complement). K itself has no limit. acc_g to float32 is to nearest even: exact to 2**24.
- The order over groups is part of the contract: float32 sums depend on it. The sum starts from +0,
  so a single group gives 0 + product: a product of -0 becomes +0. sum is -0 only where the fused
  form underflows to it; without a bias it stays -0.
- The bias is added once, at the end, with its own rounding in every dialect.
- Scales are taken as they come: NaN gives the canonical NaN, infinity times 0 too, subnormals are
  kept, overflow gives infinity. Empty shapes are refused.

Error: with every f32(acc_g) exact, |sum - exact| <= gamma(Q + 2) * sum over g |acc_g sA sB|, where
gamma(n) = n u / (1 - n u), u = 2**-24; two roundings per product (one if fused) and Q additions.

Sources: SGLang python/sglang/srt/layers/quantization/int8_kernel.py, _w8a8_block_int8_matmul, and
its copy in vLLM vllm/model_executor/layers/quantization/utils/int8_utils.py (dropped in newer
trees): `accumulator += tl.dot(a, b).to(tl.float32) * a_s[:, None] * b_s[None, :]` over ascending
blocks of K from tl.zeros, no bias. That Triton contracts the last product and the addition into one
fma is inferred from its default (enable_fp_fusion), not run. There b_scales has one row per block
of 128 output channels: repeat its rows for (N, Q). The formula is theirs where a block of K is a
whole group, as in their default configuration; a tuned one with a smaller BLOCK_SIZE_K adds each
part of a group by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import recipes
from reference.dialects import Dialect
from reference.int8_gemm import OUT
from reference.numerics import Float32, canonical_nan, fma32, int_gemm, round_to
from reference.op import Arg, Op, Recipe, recipe, register
from reference.validate import (
    FLOATS,
    K_MAX,
    check_array,
    check_dialect,
    check_out_dtype,
    check_vector,
)

SPOKEN = ("ieee", "vllm")
BLOCK = 1 << 20  # results that are in float64 at a time


def check_gemm_group(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any,
    dialect_name: str,
    out_dtype: str,
) -> Dialect:
    """a: s8 (M, K); b: s8 (N, K); a_scales: fp32 (M, Q); b_scales: fp32 (N, Q), Q a divisor of K;
    bias: fp32 (N,) or None; groups within int32 unless the dialect wraps.
    """
    rows, depth = check_array("a", a, ("s8",), 2)
    columns, other = check_array("b", b, ("s8",), 2)
    if other != depth:
        raise ValueError(f"b: got K = {other} (its last axis); allowed: {depth}, the K of a")
    groups = check_scale_matrix("a_scales", a_scales, rows, "M, one per token", depth)
    others = check_scale_matrix("b_scales", b_scales, columns, "N, one per output channel", depth)
    if others != groups:
        raise ValueError(
            f"b_scales: got Q = {others} groups (its last axis); allowed: {groups}, as a_scales has"
        )
    if bias is not None:
        check_vector("bias", bias, {columns: "N, one per output channel"})
    check_out_dtype(out_dtype)
    spoken = check_dialect(dialect_name, SPOKEN)
    if spoken.k_overflow == "refuse" and depth // groups > K_MAX:
        raise ValueError(
            f"a: got groups of G = {depth // groups}; allowed in dialect {spoken.name}: at most "
            f"{K_MAX}, beyond which a sum of s8 products can leave int32"
        )
    return spoken


def check_scale_matrix(name: str, scales: Any, rows: int, meaning: str, depth: int) -> int:
    """scales: fp32 (rows, Q) for groups of depth / Q elements. Returns Q."""
    got, groups = check_array(name, scales, ("fp32",), 2)
    if got != rows:
        raise ValueError(f"{name}: got {got} rows; allowed: {rows} ({meaning})")
    if depth % groups:
        raise ValueError(
            f"{name}: got Q = {groups} groups (its last axis); allowed: divisors of K = {depth}"
        )
    return groups


def gemm_group(
    a: NDArray[np.int8],
    b: NDArray[np.int8],
    a_scales: Float32,
    b_scales: Float32,
    bias: Float32 | None = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> NDArray[Any]:
    """The GEMM of group-quantized operands.

    a: s8 (M, Q*G); b: s8 (N, Q*G); a_scales: fp32 (M, Q); b_scales: fp32 (N, Q); bias: fp32 (N,)
    or None. Returns out_dtype (M, N). Raises TypeError or ValueError naming the argument.
    """
    spoken = check_gemm_group(a, b, a_scales, b_scales, bias, dialect, out_dtype)
    M, N = a.shape[0], b.shape[0]
    out = np.empty((M, N), round_to(np.zeros(1, np.float32), out_dtype).dtype)
    rows = max(1, BLOCK // N)
    for m in range(0, M, rows):
        part = slice(m, m + rows)
        total = _sums(a[part], b, a_scales[part], b_scales, spoken)
        with np.errstate(all="ignore"):
            total = total if bias is None else total + bias
        out[part] = round_to(canonical_nan(total), out_dtype)
    return out


def _sums(
    a: NDArray[np.int8],
    b: NDArray[np.int8],
    a_scales: Float32,
    b_scales: Float32,
    spoken: Dialect,
) -> Float32:
    """The fp32 sums over groups, (rows of a, rows of b)."""
    groups = a_scales.shape[1]
    size = a.shape[1] // groups
    total = np.zeros((a.shape[0], b.shape[0]), np.float32)
    for g in range(groups):
        inside = slice(g * size, (g + 1) * size)
        wide = int_gemm(a[:, inside], b[:, inside]).astype(np.float32)
        s_a, s_b = a_scales[:, g, None], b_scales[None, :, g]
        with np.errstate(all="ignore"):
            if spoken.group_epilogue == "fma(acc*sA, sB, sum)":
                total = fma32(wide * s_a, np.broadcast_to(s_b, wide.shape), total)
            else:
                total = total + wide * s_b * s_a
    return total


def _build(made: Recipe) -> dict[str, Any]:
    M, N, Q, G = (made.dim(symbol) for symbol in "MNQG")
    a, b = recipes.codes(made, M, Q * G, 1), recipes.codes(made, N, Q * G, 2)
    a_scales = recipes.scales(made, M * Q, 3).reshape(M, Q)
    b_scales = recipes.scales(made, N * Q, 4).reshape(N, Q)
    rng = np.random.default_rng(made.seed)
    bias = rng.standard_normal(N).astype(np.float32) if made.seed % 3 else None
    if made.kind == "cancel":
        _cancel(a.reshape(M, Q, G), a_scales, b_scales)
        if Q == 1:
            bias = recipes.cancelling_bias(gemm_group(a, b, a_scales, b_scales))
    return {"a": a, "b": b, "a_scales": a_scales, "b_scales": b_scales, "bias": bias}


def _cancel(a: NDArray[np.int8], a_scales: Float32, b_scales: Float32) -> None:
    """Every second group is minus the one before, in place: what is left is the roundings'."""
    np.maximum(a, -127, out=a)
    pairs = a.shape[1] // 2
    a[:, 1 : 2 * pairs : 2] = -a[:, : 2 * pairs : 2]
    for scales in (a_scales, b_scales):
        scales[:, 1 : 2 * pairs : 2] = scales[:, : 2 * pairs : 2]


# (M, N, Q, G): edges of the tiles, groups that end inside a tile of K, one element.
SHAPES = (
    (1, 1, 1, 1),
    (3, 5, 2, 7),
    (17, 33, 3, 31),
    (16, 8, 1, 32),
    (2, 129, 4, 64),
    (65, 66, 3, 96),
    (5, 66, 9, 4),
    (66, 9, 5, 16),
    (9, 130, 2, 128),
)


def _hostile() -> tuple[Recipe, ...]:
    """Every kind at two shapes, and groups whose sums reach or pass 2**22 and 2**24."""
    found = []
    for number, kind in enumerate(recipes.EPILOGUE_KINDS):
        for turn in (0, 1):
            M, N, Q, G = SHAPES[(2 * number + turn) % len(SHAPES)]
            found.append(recipe(kind, seed=turn + number, M=M, N=N, Q=Q, G=G))
    for G in (256, 288, 1103, 2112):
        for seed in (0, 1):
            found.append(recipe("saturating", seed=seed, M=2, N=3, Q=2, G=G))
    found.append(recipe("cancel", seed=1, M=5, N=9, Q=6, G=544))
    return tuple(found)


GEMM_GROUP = register(
    Op(
        name="int8.gemm_group",
        oracle=gemm_group,
        contract="fp32 sum over groups, ascending from 0, of acc times both scales; plus bias, to "
        "out_dtype; order and fusion by dialect",
        inputs=(
            Arg("a", ("M", "Q*G"), ("s8",)),
            Arg("b", ("N", "Q*G"), ("s8",)),
            Arg("a_scales", ("M", "Q"), ("fp32",)),
            Arg("b_scales", ("N", "Q"), ("fp32",)),
            Arg("bias", ("N",), ("fp32",), optional=True),
        ),
        outputs=(OUT,),
        options={"dialect": SPOKEN, "out_dtype": FLOATS},
        work={"int8_tensor": "2*M*N*Q*G", "fp32": "4*M*N*Q"},
        build=_build,
        kinds=recipes.EPILOGUE_KINDS,
        hostile=_hostile(),
        dims=("M", "N", "Q", "G"),
        takes=("group_codes", "w_group_codes", "group_scales", "w_group_scales", "bias"),
        gives=("out",),
    )
)
