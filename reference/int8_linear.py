"""The W8A8 linear layer: per-token dynamic activations times per-channel weights.

Contract: out = epilogue(gemm(codes(x), w_codes), scales(x), w_scales, bias), where codes and scales
are those of int8.quantize_per_token: the layer is the composition of three ops, bit for bit. Its
forms differ in launches, not in results:

    unfused     quantize | GEMM to int32 in memory | dequantize     three launches
    fused       quantize | GEMM with the dequant epilogue           two
    prologue    quantization inside the GEMM as well                one

A zero row gives the bias (or 0); a row with a NaN follows the dialect's NaN rule.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import recipes
from reference.dialects import CORE
from reference.int8_gemm import OUT, epilogue, gemm, hostile_gemm
from reference.int8_quantize import quantize_per_token
from reference.numerics import Float32
from reference.op import Arg, Op, Recipe, register
from reference.validate import FLOATS, check_linear


def linear(
    x: NDArray[Any],
    w_codes: NDArray[np.int8],
    w_scales: Float32,
    bias: Float32 | None = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> NDArray[Any]:
    """x @ dequantize(w).T + bias through int8.

    x: fp32, fp16 or bf16 (M, K); w_codes: s8 (N, K); w_scales: fp32 (N,) or (1,); bias: fp32 (N,)
    or None. Returns out_dtype (M, N).
    """
    check_linear(x, w_codes, w_scales, bias, dialect, out_dtype)
    codes, scales = quantize_per_token(x, dialect=dialect)
    acc = gemm(codes, w_codes, dialect=dialect)
    return epilogue(acc, scales, w_scales, bias, dialect=dialect, out_dtype=out_dtype)


def _build(made: Recipe) -> dict[str, Any]:
    M, N, K = made.dim("M"), made.dim("N"), made.dim("K")
    rng = np.random.default_rng(made.seed)
    return {
        "x": recipes.floats(made, M, K),
        "w_codes": recipes.codes(made, N, K, 2),
        "w_scales": recipes.scales(made, 1 if made.seed % 7 == 3 else N, 4),
        "bias": rng.standard_normal(N).astype(np.float32) if made.seed % 3 else None,
    }


LINEAR = register(
    Op(
        name="int8.linear",
        oracle=linear,
        contract="quantize_per_token, gemm and epilogue composed, bit for bit",
        inputs=(
            Arg("x", ("M", "K"), FLOATS),
            Arg("w_codes", ("N", "K"), ("s8",)),
            Arg("w_scales", ("N",), ("fp32",), broadcast=True),
            Arg("bias", ("N",), ("fp32",), optional=True),
        ),
        outputs=(OUT,),
        options={"dialect": CORE, "out_dtype": FLOATS},
        work={"int8_tensor": "2*M*N*K", "fp32": "5*M*K+3*M*N"},
        build=_build,
        kinds=recipes.KINDS,
        hostile=hostile_gemm(recipes.KINDS, FLOATS),
        dims=("M", "N", "K"),
        dtypes=FLOATS,
        takes=("x", "w_codes", "w_scales", "bias"),
        gives=("out",),
    )
)
