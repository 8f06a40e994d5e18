"""SmoothQuant's division by a factor per channel, fused with INT8 quantization.

Contract, for x of fp32, fp16 or bf16 (M, K) taken as fp32 and smooth fp32 (K,):

    z[m, k] = x[m, k] / smooth[k]

    codes, scales = int8.quantize_per_token(z)     or     codes = int8.quantize_static(z, scales)

- One IEEE fp32 division an element (to nearest even, subnormals kept, overflow to infinity); never
  a product with the reciprocal. smooth is finite and > 0, which is checked: its values are read.
- "intermediate" of the dialect: fp32 keeps z as it is; input rounds it to x's dtype, to nearest
  even. An fp32 x makes no difference.
- z is quantized as fp32 values by the dialect's words for int8.quantize_per_token and
  int8.quantize_static, whose contract holds for rounding, ties, zero rows, -0, subnormals, NaN,
  infinity and saturation. Static scales: fp32 (1,) or (M,), finite and > 0.
- Empty shapes are refused.

Where it belongs. SmoothQuant (github.com/mit-han-lab/smoothquant, smoothquant/smooth.py at
c61476d7: smooth_ln_fcs, smooth_ln_fcs_llama_like) divides the weight (and bias) of the norm before
a linear by the factors and multiplies that linear's weight by them: nothing is left to do when it
runs. This op is for inputs that no norm makes: those of an attention's output projection and of an
MLP's down projection, which that code leaves unsmoothed. The factors there have the model's dtype
and are at least 1e-5; here they are fp32.

The "vllm" dialect: vLLM has no such kernel; a division in torch, x / smooth.to(x.dtype), would
round its result to x's dtype, which "input" stands for, but would round smooth too: that is left
to the caller. The quantization is vLLM's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import recipes
from reference.dialects import Dialect
from reference.dialects import dialect as get_dialect
from reference.int8_quantize import Codes, quantize_per_token, quantize_static
from reference.numerics import Float32, canonical_nan, dtype_name, round_to, to_float32
from reference.op import Arg, Op, Recipe, recipe, register
from reference.validate import FLOATS, check_positive, check_quantize, check_static, check_vector

SPOKEN = ("ieee", "vllm")


def smooth_quantize(
    x: NDArray[Any], smooth: Float32, *, dialect: str = "ieee"
) -> tuple[Codes, Float32]:
    """x / smooth, then one dynamic scale per row.

    x: fp32, fp16 or bf16 (M, K); smooth: fp32 (K,), finite and > 0. Returns codes s8 (M, K) and
    scales fp32 (M,). Raises TypeError or ValueError naming the argument.
    """
    z = smoothed(x, smooth, check_smooth(x, smooth, dialect))
    return quantize_per_token(z, dialect=dialect)


def smooth_quantize_static(
    x: NDArray[Any], smooth: Float32, scales: Float32, *, dialect: str = "ieee"
) -> Codes:
    """x / smooth, then codes under given scales.

    x: fp32, fp16 or bf16 (M, K); smooth: fp32 (K,), finite and > 0; scales: fp32 (1,) or (M,),
    finite and > 0. Returns s8 (M, K).
    """
    z = smoothed(x, smooth, check_smooth_static(x, smooth, scales, dialect))
    return quantize_static(z, scales, dialect=dialect)


def smoothed(x: NDArray[Any], smooth: Float32, spoken: Dialect) -> Float32:
    """z: fp32 (M, K)."""
    with np.errstate(all="ignore"):
        z = canonical_nan(to_float32(x) / smooth)
    if spoken.intermediate == "fp32":
        return z
    return to_float32(round_to(z, dtype_name(x.dtype) or ""))


def check_smooth(x: Any, smooth: Any, dialect: str) -> Dialect:
    """x: fp32, fp16 or bf16 (M, K); smooth: fp32 (K,), finite and > 0."""
    if dialect not in SPOKEN:
        raise ValueError(f"dialect: got {dialect!r}; allowed: {', '.join(SPOKEN)}")
    spoken = check_quantize(x, dialect)
    check_vector("smooth", smooth, {int(x.shape[1]): "K, one per channel"})
    check_positive("smooth", smooth)
    return spoken


def check_smooth_static(x: Any, smooth: Any, scales: Any, dialect: str) -> Dialect:
    """As `check_smooth`, and scales: fp32 (1,) or (M,), finite and > 0."""
    check_smooth(x, smooth, dialect)
    return check_static(x, scales, dialect)


# Kinds whose point is where z / scale lies.
_AIMED = ("ties", "near_ties", "saturating")
# What division can overflow or underflow by.
_ENDS = np.array([2.0**-149, 2.0**-127, 1e-5, 2.0**-30, 2.0**30, 2.0**100, 2.0**127, 3e38])


def _build(made: Recipe) -> dict[str, Any]:
    """Aimed kinds: z is what the kind says, exactly where smooth holds powers of two (even seeds)
    and to an ulp or so else; x may still round. Other kinds: x is of the kind.
    """
    M, K = made.dim("M"), made.dim("K")
    rng = np.random.default_rng([made.seed, K])
    smooth = np.exp2(rng.integers(-4, 5, K).astype(np.float64))
    if made.kind not in _AIMED or made.seed % 2:
        smooth *= rng.uniform(0.5, 2.0, K)
    if made.kind not in _AIMED and (made.seed % 5 == 0 or made.kind in ("subnormal", "huge")):
        smooth = np.where(rng.random(K) < 0.3, rng.choice(_ENDS, K), smooth)
    factors = np.maximum(smooth, 2.0**-149).astype(np.float32)
    x = recipes.floats(made, M, K)
    if made.kind in _AIMED:
        with np.errstate(all="ignore"):
            x = (to_float32(x) * factors).astype(x.dtype)
    return {"x": x, "smooth": factors}


_IEEE = get_dialect("ieee")


def _build_static(made: Recipe) -> dict[str, Any]:
    inputs = _build(made)
    count = made.dim("M") if made.seed % 2 else 1
    z = smoothed(inputs["x"], inputs["smooth"], _IEEE)
    return {**inputs, "scales": recipes.static_scales(made, z, count)}


_SHAPES = ((1, 1), (3, 7), (2, 16), (5, 129), (33, 40))


def _hostile() -> tuple[Recipe, ...]:
    pairs = [(kind, dtype) for kind in recipes.KINDS for dtype in FLOATS]
    return tuple(
        recipe(kind, dtype=dtype, seed=number, M=_SHAPES[number % 5][0], K=_SHAPES[number % 5][1])
        for number, (kind, dtype) in enumerate(pairs)
    )


_X, _SMOOTH = Arg("x", ("M", "K"), FLOATS), Arg("smooth", ("K",), ("fp32",))
_CODES = Arg("codes", ("M", "K"), ("s8",))


# A division: 10 operations; then as for int8.quantize_per_token and int8.quantize_static.
SMOOTH = register(
    Op(
        name="int8.smooth_quantize",
        oracle=smooth_quantize,
        contract="z = x / smooth[k], one IEEE division, quantized as int8.quantize_per_token",
        inputs=(_X, _SMOOTH),
        outputs=(_CODES, Arg("scales", ("M",), ("fp32",))),
        options={"dialect": SPOKEN},
        work={"fp32": "15*M*K"},
        build=_build,
        kinds=recipes.KINDS,
        hostile=_hostile(),
        dims=("M", "K"),
        dtypes=FLOATS,
        takes=("x", "smooth"),
        gives=("smooth_codes", "smooth_scales"),
    )
)
SMOOTH_STATIC = register(
    Op(
        name="int8.smooth_quantize_static",
        oracle=smooth_quantize_static,
        contract="z = x / smooth[k], one IEEE division, quantized as int8.quantize_static",
        inputs=(_X, _SMOOTH, Arg("scales", ("S",), ("fp32",))),
        outputs=(_CODES,),
        options={"dialect": SPOKEN},
        work={"fp32": "13*M*K"},
        build=_build_static,
        kinds=recipes.KINDS,
        hostile=_hostile(),
        dims=("M", "K"),
        dtypes=FLOATS,
        takes=("x", "smooth", "smooth_scales"),
        gives=("smooth_codes",),
    )
)
