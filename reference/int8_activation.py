"""INT8 quantization of an activation's output: SiLU-and-multiply, and GELU, fused with it.

Contract, element by element, for x of fp32, fp16 or bf16 taken as fp32:

    silu_mul: x (M, 2 * K) is gate | up     a = silu(gate)      z = a * up
    gelu:     x (M, K)                                          z = gelu(x), form "erf" or "tanh"

    codes, scales = int8.quantize_per_token(z)     or     codes = int8.quantize_static(z, scales)

- silu and gelu are the sequences of correctly rounded fp32 steps of reference/functions.py; the
  product is one more.
- "intermediate" of the dialect: fp32 keeps a and z as they are; input rounds a and z to x's dtype
  (to nearest even, overflow to infinity). An fp32 x makes no difference.
- z is quantized as fp32 values by the dialect's words for int8.quantize_per_token and
  int8.quantize_static, whose contract holds for rounding, ties, zero rows, -0, subnormals, NaN,
  infinity and saturation. Static scales: fp32 (1,) or (M,), finite and > 0.
- Infinities follow the formulas' IEEE steps: silu(inf) = gelu(inf) = inf, silu(-inf) and
  gelu(-inf) are NaN; inf * 0 is NaN; a product may overflow.
- Empty shapes and an odd number of columns for silu_mul are refused.

The "vllm" dialect and vLLM (github.com/vllm-project/vllm):
- Shared: vLLM has no kernel that fuses these with per-token or static INT8 quantization; it runs
  csrc/activation_kernels.cu (silu_and_mul: silu_kernel rounds x / (1 + expf(-x)) to x's dtype,
  `compute` rounds the product again; at 00ccbd42, and the same in
  csrc/libtorch_stable/activation_kernels.cu at 04c8ba43) and then dynamic_scaled_int8_quant or
  static_scaled_int8_quant. gelu_kernel and gelu_tanh_kernel there have the formulas of PyTorch's
  GELU, rounded to x's dtype once; vLLM runs a GELU without a gate as torch.nn.GELU.
- Ours: expf, erff and tanhf are library functions over approximate hardware (ex2.approx), which no
  contract fixes to the bit; here they are functions.py's steps. "tanh" is computed by exp, without
  vLLM's 1 + tanh.
- Fused kernels of vLLM that are something else: csrc/quantization/activation_kernels.cu
  (silu_and_mul_quant, static FP8 only; at 008b7250 it rounds twice as above, the one in
  csrc/libtorch_stable/quantization/ at 1a84e5b2 not at all before FP8) and
  csrc/quantization/fused_kernels/fused_silu_mul_block_quant.cu at 0dd8492f (INT8 or FP8 in groups
  of 64 or 128: (gate * (1 / (1 + expf(-gate)))) * up in fp32, scale floored at 1e-10, halves away
  from zero).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import recipes
from reference.dialects import Dialect
from reference.dialects import dialect as get_dialect
from reference.functions import FORMS, each, gelu, silu
from reference.int8_quantize import Codes, quantize_per_token, quantize_static
from reference.numerics import Float32, canonical_nan, dtype_name, round_to, to_float32
from reference.op import Arg, Op, Recipe, recipe, register
from reference.validate import FLOATS, check_quantize, check_static

SPOKEN = ("ieee", "vllm")


def silu_mul_quantize(x: NDArray[Any], *, dialect: str = "ieee") -> tuple[Codes, Float32]:
    """silu(gate) * up, then one dynamic scale per row.

    x: fp32, fp16 or bf16 (M, 2 * K), gate | up. Returns codes s8 (M, K) and scales fp32 (M,).
    Raises TypeError or ValueError naming the argument.
    """
    return quantize_per_token(silu_mul(x, check_silu_mul(x, dialect)), dialect=dialect)


def silu_mul_quantize_static(x: NDArray[Any], scales: Float32, *, dialect: str = "ieee") -> Codes:
    """silu(gate) * up, then codes under given scales.

    x: fp32, fp16 or bf16 (M, 2 * K), gate | up; scales: fp32 (1,) or (M,), finite and > 0.
    Returns s8 (M, K).
    """
    z = silu_mul(x, check_silu_mul_static(x, scales, dialect))
    return quantize_static(z, scales, dialect=dialect)


def gelu_quantize(
    x: NDArray[Any], *, dialect: str = "ieee", form: str = "erf"
) -> tuple[Codes, Float32]:
    """gelu(x), then one dynamic scale per row.

    x: fp32, fp16 or bf16 (M, K); form: "erf" or "tanh". Returns codes s8 (M, K) and scales fp32
    (M,).
    """
    z = gelu_of(x, check_gelu(x, dialect, form), form)
    return quantize_per_token(z, dialect=dialect)


def gelu_quantize_static(
    x: NDArray[Any], scales: Float32, *, dialect: str = "ieee", form: str = "erf"
) -> Codes:
    """gelu(x), then codes under given scales.

    x: fp32, fp16 or bf16 (M, K); scales: fp32 (1,) or (M,), finite and > 0; form: "erf" or "tanh".
    Returns s8 (M, K).
    """
    z = gelu_of(x, check_gelu_static(x, scales, dialect, form), form)
    return quantize_static(z, scales, dialect=dialect)


def silu_mul(x: NDArray[Any], spoken: Dialect) -> Float32:
    """z of x (M, 2 * K): fp32 (M, K)."""
    gate, up = np.split(x, 2, axis=1)
    a = _kept(each(silu, np.ascontiguousarray(gate)), x, spoken)
    with np.errstate(all="ignore"):
        return _kept(canonical_nan(a * to_float32(up)), x, spoken)


def gelu_of(x: NDArray[Any], spoken: Dialect, form: str) -> Float32:
    """z of x (M, K): fp32 (M, K)."""
    return _kept(each(lambda wide: gelu(wide, form), x), x, spoken)


def _kept(values: Float32, x: NDArray[Any], spoken: Dialect) -> Float32:
    """Rounded to x's dtype where the dialect keeps its intermediate results in it; fp32 again."""
    if spoken.intermediate == "fp32":
        return values
    return to_float32(round_to(values, dtype_name(x.dtype) or ""))


def check_silu_mul(x: Any, dialect: str) -> Dialect:
    """x: fp32, fp16 or bf16 (M, 2 * K)."""
    _check_dialect(dialect)
    return _check_even(x, check_quantize(x, dialect))


def check_silu_mul_static(x: Any, scales: Any, dialect: str) -> Dialect:
    """As `check_silu_mul`, and scales: fp32 (1,) or (M,), finite and > 0."""
    _check_dialect(dialect)
    return _check_even(x, check_static(x, scales, dialect))


def check_gelu(x: Any, dialect: str, form: Any) -> Dialect:
    """x: fp32, fp16 or bf16 (M, K); form: of FORMS."""
    _check_dialect(dialect)
    _check_form(form)
    return check_quantize(x, dialect)


def check_gelu_static(x: Any, scales: Any, dialect: str, form: Any) -> Dialect:
    """As `check_gelu`, and scales: fp32 (1,) or (M,), finite and > 0."""
    _check_dialect(dialect)
    _check_form(form)
    return check_static(x, scales, dialect)


def _check_dialect(dialect: Any) -> None:
    if dialect not in SPOKEN:
        raise ValueError(f"dialect: got {dialect!r}; allowed: {', '.join(SPOKEN)}")


def _check_form(form: Any) -> None:
    if form not in FORMS:
        raise ValueError(f"form: got {form!r}; allowed: {', '.join(FORMS)}")


def _check_even(x: Any, spoken: Dialect) -> Dialect:
    columns = int(x.shape[1])
    if columns % 2:
        raise ValueError(f"x: got {columns} columns; allowed: an even number, gate | up")
    return spoken


# Kinds whose point is where z / scale lies.
_AIMED = ("ties", "near_ties", "saturating")
_EXACT_GATE = 32.0  # silu(32) is 32


def _gate_and_up(made: Recipe) -> NDArray[Any]:
    """(M, 2 * K). Aimed kinds: z is what the kind says, exactly (silu(32) is 32), or for odd seeds
    of "near_ties" to an ulp or so under gates of all bits; up may still round. Else gate, up or
    both are of the kind, the other one normal.
    """
    M, K = made.dim("M"), made.dim("K")
    up = recipes.floats(made, M, K)
    if made.kind in _AIMED:
        gate = np.full((M, K), _EXACT_GATE, np.float32)
        if made.kind == "near_ties" and made.seed % 2:
            gate = made.rng().uniform(0.5, 4.0, (M, K)).astype(np.float32)
        narrow = gate.astype(up.dtype)
        over = to_float32(up) / silu(to_float32(narrow))
        return np.concatenate([narrow, over.astype(up.dtype)], axis=1)
    other = replace(made, seed=made.seed + 1, kind="normal" if made.seed % 3 else made.kind)
    gate = recipes.floats(other, M, K)
    return np.concatenate([gate, up] if made.seed % 3 == 1 else [up, gate], axis=1)


def _before_gelu(made: Recipe) -> NDArray[Any]:
    """(M, K). Aimed kinds: positive, and so large that gelu(x) is x down to half a step."""
    x = recipes.floats(made, made.dim("M"), made.dim("K"))
    if made.kind not in _AIMED:
        return x
    size = np.abs(to_float32(x))
    _, exponent = np.frexp(size.max(axis=1, keepdims=True))
    return np.ldexp(size, 12 - exponent).astype(x.dtype)


_IEEE = get_dialect("ieee")


def _with_scales(x: NDArray[Any], z: Float32, made: Recipe) -> dict[str, Any]:
    count = made.dim("M") if made.seed % 2 else 1
    return {"x": x, "scales": recipes.static_scales(made, z, count)}


def _silu_static(made: Recipe) -> dict[str, Any]:
    x = _gate_and_up(made)
    return _with_scales(x, silu_mul(x, _IEEE), made)


def _gelu_static(made: Recipe) -> dict[str, Any]:
    x = _before_gelu(made)
    return _with_scales(x, gelu_of(x, _IEEE, "erf"), made)


_SHAPES = ((1, 1), (3, 7), (2, 16), (5, 129), (33, 40))


def _hostile() -> tuple[Recipe, ...]:
    pairs = [(kind, dtype) for kind in recipes.KINDS for dtype in FLOATS]
    return tuple(
        recipe(kind, dtype=dtype, seed=number, M=_SHAPES[number % 5][0], K=_SHAPES[number % 5][1])
        for number, (kind, dtype) in enumerate(pairs)
    )


_GATED, _X = Arg("x", ("M", "2*K"), FLOATS), Arg("x", ("M", "K"), FLOATS)
_CODES, _OWN = Arg("codes", ("M", "K"), ("s8",)), Arg("scales", ("M",), ("fp32",))
_GIVEN = Arg("scales", ("S",), ("fp32",))
_DIALECT = {"dialect": SPOKEN}
_Z = {_GATED: "silu(gate) * up", _X: "gelu(x)"}
# exp: 14 operations, erf: 26, a division: 10; quantization as in int8_quantize.py.
_WORK = {_GATED: 26, _X: 32}


def _register(name: str, oracle: Any, build: Any, inputs: tuple[Arg, ...], *takes: str) -> Op:
    x, static, word = inputs[0], len(inputs) > 1, name.partition("_")[0]
    form: dict[str, tuple[str, ...]] = {} if x is _GATED else {"form": FORMS}
    return register(
        Op(
            name=f"int8.{name}",
            oracle=oracle,
            contract=f"z = {_Z[x]} in fixed fp32 steps, quantized as "
            f"int8.quantize_{'static' if static else 'per_token'}",
            inputs=inputs,
            outputs=(_CODES,) if static else (_CODES, _OWN),
            options={**_DIALECT, **form},
            work={"fp32": f"{_WORK[x] + (3 if static else 5)}*M*K"},
            build=build,
            kinds=recipes.KINDS,
            hostile=_hostile(),
            dims=("M", "K"),
            dtypes=FLOATS,
            takes=takes,
            gives=(f"{word}_codes",) if static else (f"{word}_codes", f"{word}_scales"),
        )
    )


SILU_MUL = _register(
    "silu_mul_quantize",
    silu_mul_quantize,
    lambda made: {"x": _gate_and_up(made)},
    (_GATED,),
    "preactivation",
)
SILU_MUL_STATIC = _register(
    "silu_mul_quantize_static",
    silu_mul_quantize_static,
    _silu_static,
    (_GATED, _GIVEN),
    *("preactivation", "silu_scales"),
)
GELU = _register(
    "gelu_quantize", gelu_quantize, lambda made: {"x": _before_gelu(made)}, (_X,), "preactivation"
)
GELU_STATIC = _register(
    "gelu_quantize_static",
    gelu_quantize_static,
    _gelu_static,
    (_X, _GIVEN),
    *("preactivation", "gelu_scales"),
)
