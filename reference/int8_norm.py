"""RMSNorm and LayerNorm whose output is INT8: the norm before a linear layer, fused with its
quantization.

Contract, for each row of x (and of residual) of fp32, fp16 or bf16, taken as fp32:

    add_rms_norm first:   s = x + residual, rounded to x's dtype: the output "sum"; then x is s

    RMSNorm               mean = lane_dot(x, x) / K                    r = 1 / sqrt(mean + eps)
                          y = x * r                                    z = y * weight
    LayerNorm             mean = lane_sum(x) / K                       d = x - mean
                          variance = lane_dot(d, d) / K                r = 1 / sqrt(variance + eps)
                          y = d * r                                    z = y * weight + bias

    codes, scales = int8.quantize_per_token(z)      or      codes = int8.quantize_static(z, scales)

- Every operation is one fp32 operation rounded to nearest even (product and sum of y * weight +
  bias are two), subnormals kept; sums go in "lanes of 8" (reductions.py). K is taken as fp32.
- "intermediate" of the dialect: fp32 keeps y and z as they are; input rounds y, then y * weight,
  then (LayerNorm) the sum with bias to x's dtype. mean, d, variance and r are fp32 in both.
- z is quantized as fp32 values by the dialect's words for int8.quantize_per_token and
  int8.quantize_static, whose contract holds for zero rows, NaN, infinity and saturation. scales of
  the static ops: fp32 (1,), finite and > 0.
- eps: a Python float, >= 0, rounded to fp32 (to nearest even, subnormals kept) before it is used;
  what rounds to infinity is refused. eps = 0 and a row of zeros: 1/sqrt(0) is infinite and
  0 * inf NaN, so that every z is NaN: scale NaN ("propagate") or 0 ("skip"), codes 0.
- What overflows follows IEEE: where squares do, their mean is infinite, r is 0 and every finite
  value gives a zero; where the sum of a LayerNorm does, d is infinite and every z NaN. A row with
  an infinity: NaN there, zeros elsewhere (RMSNorm), or NaN everywhere (LayerNorm). A row with a
  NaN: every z is NaN. NaN scales and sums have the canonical bits.
- weight and bias have x's dtype and may hold any value. Empty shapes are refused.

The "vllm" dialect and vLLM (github.com/vllm-project/vllm). Shared with csrc/layernorm_kernels.cu at
0112cf23 (rms_norm_kernel, fused_add_rms_norm_kernel) followed by its int8 quantization: the sum is
rounded before the norm reads it, squares are added by fma in fp32, the mean is a true division,
x * r is rounded to x's dtype and so is its product with weight. Not shared:
- r: vLLM's rsqrtf is approximate in hardware (2 ulp); here it is 1/sqrt, correctly rounded.
- the order of additions: vLLM's is its block size's and cub::BlockReduce's.
- other versions of vLLM: csrc/libtorch_stable/layernorm_kernels.cu at 0b9c5412 rounds
  x * r * weight once; layernorm_quant_kernels.cu there at 0e1d935d rounds both products again.
- csrc/quantization/fused_kernels/fused_layernorm_dynamic_per_token_quant.cu at 02a7fabd (with
  layernorm_utils.cuh): the same roundings of y and z, but the norm reads x + residual unrounded,
  scale = max(amax/127, 2**-23) and code = rne(z * (1/scale)).
- vLLM has no static INT8 norm (layernorm_quant_kernels.cu is FP8 only) and no LayerNorm: those ops
  are this dialect's words carried over.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import recipes
from reference.dialects import Dialect
from reference.dialects import dialect as get_dialect
from reference.int8_quantize import quantize_per_token, quantize_static
from reference.numerics import Float32, dtype_name, round_to, to_float32
from reference.op import Arg, Op, Recipe, recipe, register
from reference.reductions import lane_dot, lane_sum
from reference.validate import (
    FLOATS,
    check_array,
    check_positive,
    check_quantize,
    check_vector,
)

Codes = NDArray[np.int8]
DIALECTS = ("ieee", "vllm")
_IEEE = get_dialect("ieee")


def check_norm(dialect_name: str, eps: Any, *, x: Any, **others: Any) -> tuple[Dialect, np.float32]:
    """x: fp32, fp16 or bf16 (M, K). Of the others those that are given: residual as x; weight,
    bias: x's dtype (K,); scales: fp32 (1,), finite and > 0. Returns the dialect and eps as fp32.
    """
    spoken = check_quantize(x, dialect_name)
    for name, array in others.items():
        if name == "scales":
            check_vector(name, array, {1: "per-tensor"})
            check_positive(name, array)
            continue
        allowed = tuple(x.shape) if name == "residual" else (int(x.shape[1]),)
        shape = check_array(name, array, (dtype_name(x.dtype) or "",), len(allowed))
        if shape != allowed:
            raise ValueError(f"{name}: got shape {shape}; allowed: {allowed}, as x has it")
    return spoken, check_eps(eps)


def check_eps(eps: Any) -> np.float32:
    """eps as fp32: a Python float (or int), >= 0 and finite, in fp32 too."""
    if not isinstance(eps, float | int) or isinstance(eps, bool):
        raise TypeError(f"eps: got {type(eps).__name__}; allowed: a Python float")
    with np.errstate(over="ignore"):
        value = np.float32(eps)
    if not (eps >= 0 and math.isfinite(value)):
        raise ValueError(f"eps: got {eps!r}; allowed: >= 0 and at most fp32's largest, 3.4028e38")
    return value


def rms_norm_quantize(
    x: NDArray[Any], weight: NDArray[Any], eps: float, *, dialect: str = "ieee"
) -> tuple[Codes, Float32]:
    """RMSNorm, then one dynamic scale per row.

    x: fp32, fp16 or bf16 (M, K); weight: x's dtype (K,); eps: >= 0, finite.
    Returns codes s8 (M, K) and scales fp32 (M,).
    Raises TypeError or ValueError naming the argument.
    """
    spoken, small = check_norm(dialect, eps, x=x, weight=weight)
    return quantize_per_token(_rms_norm(x, weight, small, spoken), dialect=dialect)


def rms_norm_quantize_static(
    x: NDArray[Any], weight: NDArray[Any], scales: Float32, eps: float, *, dialect: str = "ieee"
) -> Codes:
    """RMSNorm, then codes under a given scale.

    As `rms_norm_quantize`; scales: fp32 (1,), finite and > 0. Returns codes s8 (M, K).
    """
    spoken, small = check_norm(dialect, eps, x=x, weight=weight, scales=scales)
    return quantize_static(_rms_norm(x, weight, small, spoken), scales, dialect=dialect)


def add_rms_norm_quantize(
    x: NDArray[Any],
    residual: NDArray[Any],
    weight: NDArray[Any],
    eps: float,
    *,
    dialect: str = "ieee",
) -> tuple[Codes, Float32, NDArray[Any]]:
    """x + residual, RMSNorm of it, then one dynamic scale per row.

    x, residual: fp32, fp16 or bf16 (M, K); weight: their dtype (K,); eps: >= 0, finite.
    Returns codes s8 (M, K), scales fp32 (M,) and sum of x's dtype (M, K).
    """
    spoken, small = check_norm(dialect, eps, x=x, residual=residual, weight=weight)
    total = _added(x, residual)
    codes, scales = quantize_per_token(_rms_norm(total, weight, small, spoken), dialect=dialect)
    return codes, scales, total


def add_rms_norm_quantize_static(
    x: NDArray[Any],
    residual: NDArray[Any],
    weight: NDArray[Any],
    scales: Float32,
    eps: float,
    *,
    dialect: str = "ieee",
) -> tuple[Codes, NDArray[Any]]:
    """x + residual, RMSNorm of it, then codes under a given scale.

    As `add_rms_norm_quantize`; scales: fp32 (1,), finite and > 0. Returns codes s8 (M, K) and sum
    of x's dtype (M, K).
    """
    spoken, small = check_norm(dialect, eps, x=x, residual=residual, weight=weight, scales=scales)
    total = _added(x, residual)
    z = _rms_norm(total, weight, small, spoken)
    return quantize_static(z, scales, dialect=dialect), total


def layer_norm_quantize(
    x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any], eps: float, *, dialect: str = "ieee"
) -> tuple[Codes, Float32]:
    """LayerNorm, then one dynamic scale per row.

    x: fp32, fp16 or bf16 (M, K); weight, bias: x's dtype (K,); eps: >= 0, finite.
    Returns codes s8 (M, K) and scales fp32 (M,).
    """
    spoken, small = check_norm(dialect, eps, x=x, weight=weight, bias=bias)
    return quantize_per_token(_layer_norm(x, weight, bias, small, spoken), dialect=dialect)


def layer_norm_quantize_static(
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any],
    scales: Float32,
    eps: float,
    *,
    dialect: str = "ieee",
) -> Codes:
    """LayerNorm, then codes under a given scale.

    As `layer_norm_quantize`; scales: fp32 (1,), finite and > 0. Returns codes s8 (M, K).
    """
    spoken, small = check_norm(dialect, eps, x=x, weight=weight, bias=bias, scales=scales)
    return quantize_static(_layer_norm(x, weight, bias, small, spoken), scales, dialect=dialect)


def _added(x: NDArray[Any], residual: NDArray[Any]) -> NDArray[Any]:
    """x + residual: one fp32 addition, rounded to their dtype."""
    with np.errstate(all="ignore"):
        return round_to(to_float32(x) + to_float32(residual), dtype_name(x.dtype) or "")


def _rms_norm(x: NDArray[Any], weight: NDArray[Any], eps: np.float32, spoken: Dialect) -> Float32:
    """z of RMSNorm, fp32 (M, K)."""
    wide = to_float32(x)
    y = _normalized(wide, lane_dot(wide, wide), eps)
    return _scaled(y, x, weight, None, spoken)


def _layer_norm(
    x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any], eps: np.float32, spoken: Dialect
) -> Float32:
    """z of LayerNorm, fp32 (M, K)."""
    wide = to_float32(x)
    with np.errstate(all="ignore"):
        centred = wide - (lane_sum(wide) / np.float32(x.shape[1]))[:, None]
    y = _normalized(centred, lane_dot(centred, centred), eps)
    return _scaled(y, x, weight, bias, spoken)


def _normalized(values: Float32, squares: Float32, eps: np.float32) -> Float32:
    """y: values times 1 / sqrt(mean square + eps). squares: fp32 (M,), their sums."""
    with np.errstate(all="ignore"):
        r = np.float32(1) / np.sqrt(squares / np.float32(values.shape[1]) + eps)
        return np.asarray(values * r[:, None])


def _scaled(
    y: Float32, x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any] | None, spoken: Dialect
) -> Float32:
    """z: y * weight, + bias, each step rounded as the dialect asks."""

    def step(values: Float32) -> Float32:
        if spoken.intermediate == "fp32":
            return values
        return to_float32(round_to(values, dtype_name(x.dtype) or ""))

    with np.errstate(all="ignore"):
        z = step(step(y) * to_float32(weight))
        return z if bias is None else step(z + to_float32(bias))


# -- inputs ----------------------------------------------------------------------------------------

_EPS = (1e-5, 1e-6, 0.0, 1e-12, 2.0**-149, 1.0)


def _build(made: Recipe) -> dict[str, Any]:
    """Everything that one of the ops takes. By seed: eps, a residual that cancels x, an offset
    under which the variance cancels; special values in weight and bias in the kinds that have them.
    """
    M, K = made.dim("M"), made.dim("K")
    x, rng = recipes.floats(made, M, K), np.random.default_rng([made.seed, M, K, 1])
    if made.kind in _TIES and made.seed % 4 < 2:
        return _exact(made, rng)
    with np.errstate(all="ignore"):
        if made.seed % 4 == 1 and made.kind in ("normal", "one_outlier", "constant"):
            x = (to_float32(x) + np.float32(64)).astype(x.dtype)
        residual = recipes.floats(made, M, K)[::-1].copy()
        if made.seed % 3 == 1:
            residual = np.where(rng.random((M, K)) < 0.5, -x, residual)
    return {
        "x": x,
        "residual": residual,
        "weight": _vector(made, rng, 1.0),
        "bias": _vector(made, rng, 0.0),
        "eps": _EPS[made.seed % len(_EPS)],
    }


_TIES = ("ties", "near_ties")


def _exact(made: Recipe, rng: np.random.Generator) -> dict[str, Any]:
    """Rows of 1 and -1, as many of each as K allows, and eps 0: both norms are the weight, but for
    signs, and the weight is a row whose quotients lie on or beside k + 1/2.
    """
    M, K = made.dim("M"), made.dim("K")
    x = rng.permuted(np.resize(np.array([1.0, -1.0], np.float32), (M, K)), axis=1)
    zeros = np.zeros((M, K), np.float32)
    return {
        "x": round_to(x, made.dtype),
        "residual": round_to(zeros, made.dtype),
        "weight": recipes.floats(made, 1, K)[0],
        "bias": round_to(zeros[0], made.dtype),
        "eps": 0.0,
    }


def _vector(made: Recipe, rng: np.random.Generator, middle: float) -> NDArray[Any]:
    """weight or bias, x's dtype (K,)."""
    values = middle + 0.5 * rng.standard_normal(made.dim("K"))
    special = {"nan": np.nan, "inf": -np.inf, "zeros": 0.0, "negzero": -0.0, "huge": 3e38}
    if made.kind in special and made.seed % 2:
        values[rng.integers(0, values.size)] = special[made.kind]
    return round_to(values.astype(np.float32), made.dtype)


def _builder(names: tuple[str, ...], z_of: Any) -> Any:
    """The op's `build`: of _build's inputs those that it names, and scales made for its z."""

    def build(made: Recipe) -> dict[str, Any]:
        every = _build(made)
        if "scales" in names:
            every["scales"] = recipes.static_scales(made, z_of(every), 1)
        return {name: every[name] for name in names}

    return build


def _z_rms(every: dict[str, Any]) -> Float32:
    return _rms_norm(every["x"], every["weight"], np.float32(every["eps"]), _IEEE)


def _z_add(every: dict[str, Any]) -> Float32:
    return _z_rms({**every, "x": _added(every["x"], every["residual"])})


def _z_layer(every: dict[str, Any]) -> Float32:
    vectors = every["weight"], every["bias"]
    return _layer_norm(every["x"], *vectors, np.float32(every["eps"]), _IEEE)


_SHAPES = ((1, 1), (3, 7), (2, 16), (5, 129), (6, 300), (3, 1032), (4, 8))


def _hostile() -> tuple[Recipe, ...]:
    pairs = [(kind, dtype) for kind in recipes.KINDS for dtype in (FLOATS[0], FLOATS[1])]
    zero_eps = recipe("zeros", seed=2, M=3, K=20), recipe("zeros", seed=8, dtype="fp16", M=2, K=9)
    return zero_eps + tuple(
        recipe(
            kind,
            dtype="bf16" if number % 5 == 4 else dtype,
            seed=number,
            M=_SHAPES[number % 7][0],
            K=_SHAPES[number % 7][1],
        )
        for number, (kind, dtype) in enumerate(pairs)
    )


_ARGS = {
    "x": Arg("x", ("M", "K"), FLOATS),
    "residual": Arg("residual", ("M", "K"), FLOATS),
    "weight": Arg("weight", ("K",), FLOATS),
    "bias": Arg("bias", ("K",), FLOATS),
    "scales": Arg("scales", (1,), ("fp32",)),
    "eps": Arg("eps", (), ("float",)),
}
_CODES = Arg("codes", ("M", "K"), ("s8",))
_SCALES = Arg("scales", ("M",), ("fp32",))
_SUM = Arg("sum", ("M", "K"), FLOATS)


# What a layer calls the inputs. The norm before it gives its own input x, whose scale is given.
_TAKES = {"x": "prenorm", "weight": "norm_weight", "bias": "norm_bias", "scales": "x_scale"}


def _op(oracle: Any, what: str, z_of: Any, names: str, flops: int) -> Op:
    """flops: fp32 operations per element; |x| and max of a dynamic scale are two of them."""
    taken = tuple(names.split())
    static = "scales" in taken
    outputs = (_CODES, *(() if static else (_SCALES,)), *((_SUM,) if "residual" in taken else ()))
    feeds = {**_TAKES, "x": "branch"} if "residual" in taken else _TAKES
    how = "under a given scale" if static else "with one scale per row"
    return register(
        Op(
            name=f"int8.{oracle.__name__}",
            oracle=oracle,
            contract=f"{what} in lanes of 8, then INT8 codes {how}; roundings by dialect",
            inputs=tuple(_ARGS[name] for name in taken),
            outputs=outputs,
            options={"dialect": DIALECTS},
            work={"fp32": f"{flops}*M*K"},
            build=_builder(taken, z_of),
            kinds=recipes.KINDS,
            hostile=_hostile(),
            dims=("M", "K"),
            dtypes=FLOATS,
            takes=tuple(feeds.get(name, name) for name in taken),
            gives=tuple(f"norm_{arg.name}" for arg in outputs),
        )
    )


_RMS, _ADD, _LAYER = "RMSNorm", "x + residual and its RMSNorm", "LayerNorm"
OPS = (
    _op(rms_norm_quantize, _RMS, _z_rms, "x weight eps", 9),
    _op(rms_norm_quantize_static, _RMS, _z_rms, "x weight scales eps", 7),
    _op(add_rms_norm_quantize, _ADD, _z_add, "x residual weight eps", 10),
    _op(add_rms_norm_quantize_static, _ADD, _z_add, "x residual weight scales eps", 8),
    _op(layer_norm_quantize, _LAYER, _z_layer, "x weight bias eps", 12),
    _op(layer_norm_quantize_static, _LAYER, _z_layer, "x weight bias scales eps", 10),
)
