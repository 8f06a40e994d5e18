"""INT8 symmetric quantization in groups along K: one scale per row and group of G elements.

Contract, for x of fp32, fp16 or bf16 (M, K), K = Q * G; group q of row m is x[m, q*G : (q+1)*G]:

    amax = max(max |x|, floor)                    scale[m, q] = amax / 127, or ...
    code = clamp(round(x over or times scale))    out = round(float32(code) * scale[m, q])

- A group is a row of int8_quantize.py: in the dialect's words "under group", whose contract for
  -0, zero groups, subnormals, infinities and saturation is that file's. Any G >= 1 that divides K.
- Rounding: to nearest even, away from zero at ties (gguf), or toward zero, as vLLM's cast to
  int8_t does:
  there the largest element itself gives 126 where amax / (amax / 127) falls short of 127.
- Floor: "1e-10" raises a smaller amax to float32(1e-10), zero groups too: their scale is 1e-10/127
  and their codes 0. It lies far above float32's subnormals, so that no scale is subnormal.
- NaN element: the group's scale is NaN and all its codes 0 ("propagate"), or amax is taken over
  the other elements ("skip", all NaN: over none, which leaves the floor). A NaN quotient (a NaN
  element, or inf / inf) gives code 0, or the clamp's lower end where nan_code is "low".
- Arithmetic is IEEE float32 with subnormals, or in dialects whose arithmetic is "input" x's own
  dtype: scale and quotient are each rounded to it.
- Static: scales fp32 (1, Q), the same for all rows, or (M, Q), finite and > 0; in a dialect of
  input arithmetic values of x's dtype. No floor: there is no amax.
- Dequantize: as int8_quantize.py; scales fp32 (1, Q) or (M, Q), any value.
- Empty shapes are refused.

vLLM: csrc/quantization/w8a8/fp8/per_token_group_quant.cu (csrc/libtorch_stable/... in newer trees;
csrc/quantization/w8a8/int8/per_token_group_quant.cu calls the same function for int8 with eps,
-128, 127). absmax starts at eps and grows by fmaxf, which leaves NaN out; y_s = absmax / 127; then
q = fminf(fmaxf(x / y_s, -128), 127), where a NaN quotient becomes -128, and int8_t(q), which cuts.
vllm/model_executor/layers/quantization/utils/int8_utils.py calls it with eps = 1e-10 and
torch.iinfo(int8), and holds a Triton fallback of the same formula (NaN aside: tl.max, tl.clamp and
its cast give no fixed result for it).
SGLang is not the same: sgl-kernel/csrc/gemm/per_token_group_quant_8bit.cu multiplies by 127/absmax
and stores absmax * (1/127), which is dialect sglang here; its Triton fallback in
python/sglang/srt/layers/quantization/int8_kernel.py divides, as vLLM does.
gguf: Q8_0's groups have 32 elements; the rule here holds for any G. Its stored scale is the fp16
one, while the codes come from the unrounded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import recipes
from reference.dialects import Dialect
from reference.dialects import dialect as get_dialect
from reference.int8_quantize import Codes, quantize_rows, quantize_under
from reference.numerics import Float32, canonical_nan, round_to
from reference.op import Arg, Op, Recipe, recipe, register
from reference.validate import (
    FLOATS,
    check_array,
    check_dialect,
    check_group_scales,
    check_group_size,
    check_kept,
    check_out_dtype,
    check_positive,
    check_quantize,
)

BASE = ("ieee", "vllm", "article_torch")
SPOKEN = (  # dynamic; the static and the dequantizing op speak BASE
    *(*BASE, "sglang", "torchao", "torchao_no_clipping", "compressed_tensors", "gguf"),
)
FAMILY = "group"


def quantize_per_group(
    x: NDArray[Any], group_size: int, *, dialect: str = "ieee"
) -> tuple[Codes, Float32]:
    """One dynamic scale per row and group.

    x: fp32, fp16 or bf16 (M, K); group_size: divides K. Returns codes s8 (M, K) and scales fp32
    (M, K // group_size). Raises TypeError or ValueError naming the argument.
    """
    spoken = check_quantize_per_group(x, group_size, dialect)
    codes, scales = quantize_rows(x.reshape(-1, group_size), spoken)
    return codes.reshape(x.shape), scales.reshape(x.shape[0], -1)


def quantize_static_per_group(x: NDArray[Any], scales: Float32, *, dialect: str = "ieee") -> Codes:
    """Codes under given scales; the group size is K / Q.

    x: fp32, fp16 or bf16 (M, K); scales: fp32 (1, Q) or (M, Q), finite and > 0. Returns s8 (M, K).
    """
    spoken = check_static_per_group(x, scales, dialect)
    groups = x.reshape(x.shape[0], scales.shape[1], -1)
    return quantize_under(groups, scales[:, :, None], spoken).reshape(x.shape)


def dequantize_per_group(
    codes: Codes, scales: Float32, *, dialect: str = "ieee", out_dtype: str = "fp32"
) -> NDArray[Any]:
    """float32(code) * scale of its group, rounded to `out_dtype`. The same in every dialect.

    codes: s8 (M, K); scales: fp32 (1, Q) or (M, Q). Returns out_dtype (M, K).
    """
    check_dequantize_per_group(codes, scales, dialect, out_dtype)
    groups = codes.astype(np.float32).reshape(codes.shape[0], scales.shape[1], -1)
    with np.errstate(all="ignore"):
        products = canonical_nan(groups * scales[:, :, None])
        return round_to(products, out_dtype).reshape(codes.shape)


def check_quantize_per_group(x: Any, group_size: Any, dialect: str) -> Dialect:
    """x as for int8.quantize_per_token; group_size: an int >= 1 that divides K."""
    spoken = check_quantize(x, dialect, allowed=SPOKEN).under(FAMILY)
    check_group_size(group_size, int(x.shape[1]))
    return spoken


def check_static_per_group(x: Any, scales: Any, dialect: str) -> Dialect:
    """x as above; scales: fp32 (1, Q) or (M, Q), finite and > 0, Q divides K."""
    spoken = check_quantize(x, dialect, allowed=BASE).under(FAMILY)
    check_group_scales("scales", scales, int(x.shape[0]), int(x.shape[1]), "x")
    check_kept("scales", check_positive("scales", scales), x, spoken)
    return spoken


def check_dequantize_per_group(codes: Any, scales: Any, dialect: str, out_dtype: str) -> Dialect:
    """codes: s8 (M, K); scales: fp32 (1, Q) or (M, Q), Q divides K."""
    check_dialect(dialect, BASE)
    rows, depth = check_array("codes", codes, ("s8",), 2)
    check_group_scales("scales", scales, rows, depth, "codes")
    check_out_dtype(out_dtype)
    return get_dialect(dialect)


def _sizes(made: Recipe) -> tuple[int, int, int]:
    return made.dim("M"), made.dim("Q"), made.dim("G")


def _groups(made: Recipe) -> NDArray[Any]:
    """(M * Q, G): every group has what a row of int8_quantize.py has."""
    M, Q, G = _sizes(made)
    return recipes.floats(made, M * Q, G)


def _dynamic(made: Recipe) -> dict[str, Any]:
    M, Q, G = _sizes(made)
    return {"x": _groups(made).reshape(M, Q * G), "group_size": G}


def _static(made: Recipe) -> dict[str, Any]:
    """Scales near the groups' own: one per row and group, or those of the first row for all."""
    M, Q, G = _sizes(made)
    x = _groups(made)
    scales = recipes.static_scales(made, x, M * Q).reshape(M, Q)
    given = scales if made.seed % 2 else scales[:1].copy()
    return {"x": x.reshape(M, Q * G), "scales": given}


def _codes_and_scales(made: Recipe) -> dict[str, Any]:
    M, Q, G = _sizes(made)
    S = M if made.seed % 2 else 1
    scales = recipes.scales(made, S * Q).reshape(S, Q)
    return {"codes": recipes.codes(made, M, Q * G), "scales": scales}


# (M, Q, G): one element; groups of 1; odd ones; K = G; a vector's edge; a warp's; a block's.
_SHAPES = ((1, 1, 1), (3, 5, 1), (2, 3, 7), (5, 1, 129), (2, 4, 16), (3, 2, 64), (1, 2, 1100))


def _hostile() -> tuple[Recipe, ...]:
    return tuple(
        recipe(kind, dtype=dtype, seed=number, M=M, Q=Q, G=G)
        for number, kind in enumerate(recipes.KINDS)
        for dtype, (M, Q, G) in zip(
            ("fp16", "fp32", "bf16"), (_SHAPES * 2)[number % 7 : number % 7 + 3], strict=True
        )
    )


QUANTIZE = register(
    Op(
        name="int8.quantize_per_group",
        oracle=quantize_per_group,
        contract="one scale per row and group of G along K: amax/127; codes clamp(round(x scaled))",
        inputs=(Arg("x", ("M", "Q*G"), FLOATS), Arg("group_size", (), ("int",), symbol="G")),
        outputs=(Arg("codes", ("M", "Q*G"), ("s8",)), Arg("scales", ("M", "Q"), ("fp32",))),
        options={"dialect": SPOKEN},
        work={"fp32": "5*M*Q*G"},
        build=_dynamic,
        kinds=recipes.KINDS,
        hostile=_hostile(),
        dims=("M", "Q", "G"),
        dtypes=FLOATS,
        takes=("x", "group_size"),
        gives=("group_codes", "group_scales"),
    )
)
STATIC = register(
    Op(
        name="int8.quantize_static_per_group",
        oracle=quantize_static_per_group,
        contract="codes clamp(round(x scaled)) under given scales, one per group, or row and group",
        inputs=(Arg("x", ("M", "Q*G"), FLOATS), Arg("scales", ("S", "Q"), ("fp32",))),
        outputs=(Arg("codes", ("M", "Q*G"), ("s8",)),),
        options={"dialect": BASE},
        work={"fp32": "3*M*Q*G"},
        build=_static,
        kinds=recipes.KINDS,
        hostile=_hostile(),
        dims=("M", "Q", "G"),
        dtypes=FLOATS,
        takes=("x", "group_scales"),
        gives=("static_group_codes",),
    )
)
DEQUANTIZE = register(
    Op(
        name="int8.dequantize_per_group",
        oracle=dequantize_per_group,
        contract="float32(code) * scale of its group, one rounding, then one to out_dtype",
        inputs=(Arg("codes", ("M", "Q*G"), ("s8",)), Arg("scales", ("S", "Q"), ("fp32",))),
        outputs=(Arg("out", ("M", "Q*G"), FLOATS),),
        options={"dialect": BASE, "out_dtype": FLOATS},
        work={"fp32": "M*Q*G"},
        build=_codes_and_scales,
        kinds=recipes.CODE_KINDS + recipes.SCALE_KINDS,
        hostile=tuple(
            recipe(kind, seed=number, M=M, Q=Q, G=G)
            for number, kind in enumerate(recipes.CODE_KINDS + recipes.SCALE_KINDS)
            for M, Q, G in ((1, 1, 1), (2, 3, 7), (5, 2, 48))
        ),
        dims=("M", "Q", "G"),
        takes=("group_codes", "group_scales"),
        gives=("group_dequantized",),
    )
)
