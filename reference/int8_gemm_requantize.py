"""INT8 GEMM whose output is INT8 again: the next layer's static scale is applied in the epilogue.

Contract:

    value[m, n] = epilogue(acc, a_scales[m], b_scales[n], bias[n])      int8_gemm.py, kept in fp32
    out[m, n]   = quantize_static(value, out_scale)[m, n]               int8_quantize.py

bit for bit the composition of int8.gemm_dequant to fp32 and int8.quantize_static, in the dialect's
words for both. A NaN value gives code 0, an infinite one the clamp's end; out_scale is finite and
> 0. Sums are exact; K as in int8.gemm.

Sources: the composition is what a W8A8 layer with a static output scale computes (TensorRT's and
ONNX's QLinearMatMul shape); the arithmetic is each dialect's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import recipes
from reference.dialects import Dialect
from reference.dialects import dialect as get_dialect
from reference.int8_gemm import (
    VECTORS,
    Codes,
    build_gemm,
    build_vectors,
    cancel,
    hostile_gemm,
    scaled,
)
from reference.int8_quantize import quantize_static
from reference.numerics import Float32, int_gemm
from reference.op import Arg, Op, Recipe, register
from reference.validate import check_dialect, check_gemm_dequant, check_positive, check_vector

DIALECTS = ("ieee", "vllm")


def check_gemm_requantize(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    out_scale: Any,
    bias: Any,
    dialect_name: str,
) -> Dialect:
    """As `check_gemm_dequant`, and out_scale: fp32 (1,), finite and > 0."""
    check_dialect(dialect_name, DIALECTS)
    spoken = check_gemm_dequant(a, b, a_scales, b_scales, bias, dialect_name, "fp32")
    check_vector("out_scale", out_scale, {1: "per-tensor"})
    check_positive("out_scale", out_scale)
    return spoken


def gemm_requantize(
    a: Codes,
    b: Codes,
    a_scales: Float32,
    b_scales: Float32,
    out_scale: Float32,
    bias: Float32 | None = None,
    *,
    dialect: str = "ieee",
) -> Codes:
    """The GEMM's result as codes under a given scale.

    a: s8 (M, K); b: s8 (N, K); a_scales: fp32 (M,) or (1,); b_scales: fp32 (N,) or (1,);
    out_scale: fp32 (1,), finite and > 0; bias: fp32 (N,) or None. Returns s8 (M, N).
    Raises TypeError or ValueError naming the argument.
    """
    spoken = check_gemm_requantize(a, b, a_scales, b_scales, out_scale, bias, dialect)
    value = scaled(int_gemm(a, b), a_scales, b_scales, bias, spoken)
    return quantize_static(value, out_scale, dialect=dialect)


def _build(made: Recipe) -> dict[str, Any]:
    codes, vectors = build_gemm(made), build_vectors(made)
    acc = int_gemm(codes["a"], codes["b"])
    cancel(made, acc, vectors)
    if made.kind == "ramp":  # integers over a power of two: exact ties
        ones = [np.ones(vectors[name].size, np.float32) for name in ("a_scales", "b_scales")]
        vectors["a_scales"], vectors["b_scales"] = ones
        vectors["bias"] = None
    bias = vectors.pop("bias")
    value = scaled(acc, **vectors, bias=bias, spoken=get_dialect("ieee"))
    return {**codes, **vectors, "out_scale": out_scale(made, value), "bias": bias}


def out_scale(made: Recipe, value: NDArray[np.float32]) -> NDArray[np.float32]:
    """fp32 (1,): near value's own amax / 127, so that codes tie and saturate; for every fifth seed
    one from the ends of the range.
    """
    rng = np.random.default_rng(made.seed)
    magnitude = np.abs(value[np.isfinite(value)])
    amax = float(magnitude.max()) if magnitude.size else 1.0
    scale = (amax or 1.0) / 127.0 * float(rng.choice((0.5, 1.0, 2.0)))
    if made.kind == "ramp":
        return np.exp2(np.ceil(np.log2([max(scale, 2.0)]))).astype(np.float32)
    if made.seed % 5 == 4:
        scale = float(rng.choice((2.0**-149, 2.0**-127, 2.0**-64, 2.0**64, 3e38)))
    return np.clip(np.array([scale]), 2.0**-149, 3e38).astype(np.float32)


GEMM_REQUANTIZE = register(
    Op(
        name="int8.gemm_requantize",
        oracle=gemm_requantize,
        contract="int8.quantize_static of int8.gemm_dequant's fp32 result, bit for bit",
        inputs=(
            Arg("a", ("M", "K"), ("s8",)),
            Arg("b", ("N", "K"), ("s8",)),
            *VECTORS[:2],
            Arg("out_scale", (1,), ("fp32",)),
            VECTORS[2],
        ),
        outputs=(Arg("out", ("M", "N"), ("s8",)),),
        options={"dialect": DIALECTS},
        work={"int8_tensor": "2*M*N*K", "fp32": "6*M*N"},
        build=_build,
        kinds=recipes.EPILOGUE_KINDS,
        hostile=hostile_gemm(recipes.EPILOGUE_KINDS),
        dims=("M", "N", "K"),
        takes=("codes", "w_codes", "scales", "w_scales", "out_scale", "bias"),
        gives=("out_codes",),
    )
)
