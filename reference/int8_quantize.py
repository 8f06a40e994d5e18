"""INT8 symmetric quantization: per-token, per-channel, per-tensor, static; and dequantization.

Contract, for x of fp32, fp16 or bf16 and one group of elements (a row, or the whole tensor):

    amax = max |x|                                scale = amax / 127
    code = clamp(round(x times-or-over scale))    out = round(float32(code) * scale)

- Which multiplier, rounding, clamp, zero rule and NaN rule: fields of the dialect
  (dialect_fields.py; each system's sources and oddities in dialect_table.py). What is said of the
  scale below holds for "amax/127" without a floor or a least scale.
- Rounding: to nearest, ties to even or away from zero (roundf: 2.5 is 3, -0.5 is -1, the float32
  below 0.5 is 0). Saturation at the dialect's clamp.
- Scale: amax / 127, or amax / 127.5, where an element of +amax comes out as 127.5 or so and is
  clamped; or the larger of max / 127 and -min / 128, so that each end has its own code. A floor
  under amax comes before the division, a least scale after it and after its rounding.
- Arithmetic is IEEE float32 with subnormals (no flush to zero), or, in dialects whose arithmetic
  is "input", x's own dtype: scale, 1/s and quotient are each rounded to it; the scale is then given
  in fp32 holding that value. "input scale": only the scale is rounded to x's dtype.
- What is given out as scales: the scale; amax ("amax": bitsandbytes, codes then stand for code *
  amax / 127); or the scale rounded to fp16 after the codes were made, infinite from 65520 on and 0
  up to 2**-25 ("fp16 scale": GGUF).
- NaN element: code 0, or the clamp's lower end (nan_code "low"). NaN in a group: the scale is NaN
  (bits 0x7fffffff) and every code of the group a NaN's ("propagate"), or amax is taken over the
  other elements ("skip").
- Infinite element: scale is infinite; finite elements give code 0 (x/inf) and infinite ones too
  (inf/inf is NaN).
- Zero group: scale 0 (or the floor's or the least), codes 0. -0 is a zero. A subnormal amax may
  give a scale that rounds to 0: codes 0 then in dialects whose zero rule guards it. "code0 below
  2^-24": codes 0 where amax is smaller, whatever the scale.
- Static: the scale is given, finite and > 0, one for the tensor or one per row. In a dialect of
  input arithmetic it must be a value of that dtype.
- Dequantize: one float32 product, rounded once more to the output dtype (overflow gives infinity);
  a NaN scale gives the canonical NaN of the output dtype (0 * NaN and 0 * inf are NaN).
- Empty shapes are refused.

Sources: the dialects name theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import recipes
from reference.dialects import CORE, Dialect
from reference.numerics import (
    EPSILON,
    SMALLEST_NORMAL,
    Float32,
    canonical_nan,
    dtype_name,
    round_to,
    to_float32,
)
from reference.op import Arg, Op, Recipe, recipe, register
from reference.validate import FLOATS, check_dequantize, check_quantize, check_static

Codes = NDArray[np.int8]
QMAX = np.float32(127)
SPOKEN = {  # the dialects of each op: those whose system has it
    "int8.quantize_per_token": (
        *(*CORE, "sglang", "bitsandbytes", "torchao", "torchao_no_clipping"),
        *("compressed_tensors", "modelopt", "smoothquant"),
    ),
    "int8.quantize_per_channel": (
        *(*CORE, "torchao", "torchao_no_clipping", "compressed_tensors", "pytorch", "modelopt"),
        "smoothquant",
    ),
    "int8.quantize_per_tensor": (
        *(*CORE, "torchao", "torchao_no_clipping", "compressed_tensors", "pytorch", "modelopt"),
        "smoothquant",
    ),
    "int8.quantize_static": (
        *(*CORE, "torchao", "compressed_tensors", "pytorch", "onnx", "modelopt"),
    ),
}
FLOORS = {"none": 0.0, "1e-10": 1e-10, "1e-5": 1e-5}


def quantize_per_token(x: NDArray[Any], *, dialect: str = "ieee") -> tuple[Codes, Float32]:
    """One dynamic scale per row.

    x: fp32, fp16 or bf16 (M, K). Returns codes s8 (M, K) and scales fp32 (M,).
    Raises TypeError or ValueError naming the argument (see reference/validate.py).
    """
    return quantize_rows(x, check_dynamic("int8.quantize_per_token", x, dialect))


def quantize_per_channel(w: NDArray[Any], *, dialect: str = "ieee") -> tuple[Codes, Float32]:
    """One scale per output channel of a K-major weight: the rows of w.

    w: fp32, fp16 or bf16 (N, K). Returns codes s8 (N, K) and scales fp32 (N,).
    """
    return quantize_rows(w, check_dynamic("int8.quantize_per_channel", w, dialect, "w"))


def quantize_per_tensor(x: NDArray[Any], *, dialect: str = "ieee") -> tuple[Codes, Float32]:
    """One dynamic scale for the whole of x.

    x: fp32, fp16 or bf16 (M, K). Returns codes s8 (M, K) and scales fp32 (1,).
    """
    spoken = check_dynamic("int8.quantize_per_tensor", x, dialect)
    codes, scales = quantize_rows(x.reshape(1, -1), spoken)
    return codes.reshape(x.shape), scales


def quantize_static(x: NDArray[Any], scales: Float32, *, dialect: str = "ieee") -> Codes:
    """Codes under given scales.

    x: fp32, fp16 or bf16 (M, K); scales: fp32 (1,) or (M,), finite and > 0. Returns s8 (M, K).
    """
    spoken = check_given(x, scales, dialect)
    return quantize_under(x, scales[:, None], spoken)


def check_dynamic(op: str, x: Any, dialect: str, name: str = "x") -> Dialect:
    """Arguments of the dynamic op of that name: x: fp32, fp16 or bf16 (rows, columns)."""
    return check_quantize(x, dialect, name, SPOKEN[op])


def check_given(x: Any, scales: Any, dialect: str) -> Dialect:
    """Arguments of `quantize_static`."""
    return check_static(x, scales, dialect, SPOKEN["int8.quantize_static"])


def dequantize(
    codes: Codes, scales: Float32, *, dialect: str = "ieee", out_dtype: str = "fp32"
) -> NDArray[Any]:
    """float32(code) * scale, rounded to `out_dtype`.

    codes: s8 (M, K); scales: fp32 (1,) or (M,). Returns out_dtype (M, K). The same in every
    dialect.
    """
    check_dequantize(codes, scales, dialect, out_dtype)
    with np.errstate(all="ignore"):
        return round_to(canonical_nan(codes.astype(np.float32) * scales[:, None]), out_dtype)


def quantize_rows(x: NDArray[Any], spoken: Dialect) -> tuple[Codes, Float32]:
    """Codes and scales of rows (or groups, or a tensor as one row), in the dialect's words.

    x: fp32, fp16 or bf16 (rows, columns). Returns s8 (rows, columns) and fp32 (rows,).
    """
    wide, name = to_float32(x), _dtype_of(x)
    with np.errstate(all="ignore"):
        amax = _amax(wide, spoken, name)
        scale = _scale(wide, amax, spoken, name)
        quotient = _scaled(wide, scale, amax, spoken.multiplier, spoken, name)
        if spoken.zero == "code0":
            divisor = amax if spoken.multiplier == "x*(127/amax)" else scale
            quotient = np.where(divisor == 0, np.float32(0), quotient)
        elif spoken.zero == "code0 below 2^-24":
            quotient = np.where(amax < np.float32(2.0**-24), np.float32(0), quotient)
        return _codes(quotient, spoken), _stored(scale, amax, spoken)[:, 0].copy()


def quantize_under(x: NDArray[Any], scales: Float32, spoken: Dialect) -> Codes:
    """Codes under given scales. scales: fp32, of a shape that broadcasts to x's."""
    multiplier = spoken.static_multiplier
    with np.errstate(all="ignore"):
        quotient = _scaled(to_float32(x), scales, None, multiplier, spoken, _dtype_of(x))
        return _codes(quotient, spoken)


def _dtype_of(x: NDArray[Any]) -> str:
    return str(dtype_name(x.dtype))


def _amax(wide: Float32, spoken: Dialect, name: str = "fp32") -> Float32:
    """max |x| per row, (rows, 1), at least the floor. name: x's dtype, if the dialect computes in
    it."""
    magnitude = np.abs(wide)
    least = np.float32(_narrow(np.array(FLOORS[spoken.floor], np.float32), spoken, name))
    if spoken.nan == "propagate":
        return np.max(magnitude, axis=1, keepdims=True, initial=least)
    return np.fmax.reduce(magnitude, axis=1, keepdims=True, initial=least)


def _scale(wide: Float32, amax: Float32, spoken: Dialect, name: str) -> Float32:
    """(rows, 1): the scale that codes are made with."""
    if spoken.scale == "max(-min/128,max/127)":
        up = np.max(wide, axis=1, keepdims=True, initial=0) / QMAX
        down = -np.min(wide, axis=1, keepdims=True, initial=0) / np.float32(128)
        scale = np.maximum(up, down)
    elif spoken.scale == "amax*(1/127)":
        scale = amax * (np.float32(1) / QMAX)
    else:
        scale = amax / np.float32({"amax/127": 127.0, "amax/127.5": 127.5}[spoken.scale])
    if spoken.arithmetic != "fp32":
        scale = to_float32(round_to(scale, name))
    kept = name if spoken.arithmetic != "fp32" else "fp32"
    if spoken.least_scale == "eps where 0":
        scale = np.where(scale == 0, np.float32(EPSILON[kept]), scale)
    elif spoken.least_scale != "none":
        least = {"2^-23": 2.0**-23, "smallest normal": SMALLEST_NORMAL[kept]}[spoken.least_scale]
        scale = np.maximum(scale, np.float32(least))
    return canonical_nan(scale)


def _stored(scale: Float32, amax: Float32, spoken: Dialect) -> Float32:
    """What is given out as scales."""
    if spoken.stored == "fp16 scale":
        return to_float32(round_to(scale, "fp16"))
    return {"scale": scale, "amax": canonical_nan(amax)}[spoken.stored]


def _scaled(
    wide: Float32,
    scale: Float32,
    amax: Float32 | None,
    multiplier: str,
    spoken: Dialect,
    name: str,
) -> Float32:
    """x over the scale or times its inverse, each operation rounded as the dialect computes."""
    if multiplier == "x/s":
        return _narrow(wide / scale, spoken, name)
    if multiplier == "x*(1/s)":
        inverse = _narrow(np.float32(1) / scale, spoken, name)
        return _narrow(wide * inverse, spoken, name)
    assert amax is not None
    return _narrow(wide * _narrow(QMAX / amax, spoken, name), spoken, name)


def _narrow(values: Float32, spoken: Dialect, name: str) -> Float32:
    """Rounds to x's dtype where the dialect computes in it; fp32 again after."""
    return to_float32(round_to(values, name)) if spoken.arithmetic == "input" else values


def half_away(values: Float32) -> Float32:
    """To the nearest integer, ties away from zero; exact: `values - trunc(values)` is."""
    whole = np.trunc(values)
    away = np.abs(values - whole) >= np.float32(0.5)
    return np.where(away, whole + np.copysign(np.float32(1), values), whole)


ROUNDINGS: Mapping[str, Callable[[Float32], Float32]] = {
    "rne": np.rint,
    "truncate": np.trunc,
    "half away": half_away,
}


def _codes(quotient: Float32, spoken: Dialect) -> Codes:
    low, high = spoken.clamp_range
    whole = ROUNDINGS[spoken.rounding](quotient)
    of_nan = np.float32({"zero": 0, "low": low}[spoken.nan_code])
    return np.where(np.isnan(whole), of_nan, np.clip(whole, low, high)).astype(np.int8)


def _floats(made: Recipe, name: str, rows: str, columns: str) -> dict[str, Any]:
    return {name: recipes.floats(made, made.dim(rows), made.dim(columns))}


def _with_scales(made: Recipe) -> dict[str, Any]:
    x = recipes.floats(made, made.dim("M"), made.dim("K"))
    return {"x": x, "scales": recipes.static_scales(made, x, made.dim("M") if made.seed % 2 else 1)}


def _codes_and_scales(made: Recipe) -> dict[str, Any]:
    M, K = made.dim("M"), made.dim("K")
    scales = recipes.scales(made, M if made.seed % 2 else 1)
    return {"codes": recipes.codes(made, M, K), "scales": scales}


def _hostile(rows: str, columns: str) -> tuple[Recipe, ...]:
    shapes = ((1, 1), (3, 7), (2, 16), (5, 129), (33, 40))
    return tuple(
        recipe(kind, dtype=dtype, seed=number, **{rows: M, columns: K})
        for number, kind in enumerate(recipes.KINDS)
        for dtype, (M, K) in zip(
            ("fp32", "fp16", "bf16", "fp32", "fp16"),
            shapes[number % 5 :] + shapes[: number % 5],
            strict=True,
        )
    )


_OUT = {"dialect": CORE, "out_dtype": FLOATS}
# |x|, max: one per element; divide or multiply, round, clamp: three. On the fp32 pipe.
_DYNAMIC = (
    "one scale per {group}: amax/127; codes clamp(round(x scaled)); "
    "multiplier, NaN, zero and clamp rules by dialect"
)


def _dynamic(
    name: str, oracle: Any, x: str, rows: str, scales: str | int, group: str, gives: tuple[str, ...]
) -> Op:
    return register(
        Op(
            name=f"int8.{name}",
            oracle=oracle,
            contract=_DYNAMIC.format(group=group),
            inputs=(Arg(x, (rows, "K"), FLOATS),),
            outputs=(Arg("codes", (rows, "K"), ("s8",)), Arg("scales", (scales,), ("fp32",))),
            options={"dialect": SPOKEN[f"int8.{name}"]},
            work={"fp32": f"5*{rows}*K"},
            build=lambda made: _floats(made, x, rows, "K"),
            kinds=recipes.KINDS,
            hostile=_hostile(rows, "K"),
            dims=(rows, "K"),
            dtypes=FLOATS,
            takes=(x,),
            gives=gives,
        )
    )


PER_TOKEN = _dynamic(
    "quantize_per_token", quantize_per_token, "x", "M", "M", "row", ("codes", "scales")
)
PER_CHANNEL = _dynamic(
    "quantize_per_channel",
    quantize_per_channel,
    "w",
    "N",
    "N",
    "output channel",
    ("w_codes", "w_scales"),
)
PER_TENSOR = _dynamic(
    "quantize_per_tensor",
    quantize_per_tensor,
    "x",
    "M",
    1,
    "tensor",
    ("tensor_codes", "tensor_scales"),
)
STATIC = register(
    Op(
        name="int8.quantize_static",
        oracle=quantize_static,
        contract="codes clamp(round(x scaled)) under given scales, one or one per row",
        inputs=(Arg("x", ("M", "K"), FLOATS), Arg("scales", ("S",), ("fp32",))),
        outputs=(Arg("codes", ("M", "K"), ("s8",)),),
        options={"dialect": SPOKEN["int8.quantize_static"]},
        work={"fp32": "3*M*K"},
        build=_with_scales,
        kinds=recipes.KINDS,
        hostile=_hostile("M", "K"),
        dims=("M", "K"),
        dtypes=FLOATS,
        takes=("x", "scales"),
        gives=("static_codes",),
    )
)
DEQUANTIZE = register(
    Op(
        name="int8.dequantize",
        oracle=dequantize,
        contract="float32(code) * scale, one rounding, then one to out_dtype",
        inputs=(Arg("codes", ("M", "K"), ("s8",)), Arg("scales", ("S",), ("fp32",))),
        outputs=(Arg("out", ("M", "K"), FLOATS),),
        options=_OUT,
        work={"fp32": "M*K"},
        build=_codes_and_scales,
        kinds=recipes.CODE_KINDS + recipes.SCALE_KINDS,
        hostile=tuple(
            recipe(kind, seed=number, M=M, K=K)
            for number, kind in enumerate(recipes.CODE_KINDS + recipes.SCALE_KINDS)
            for M, K in ((1, 1), (3, 7), (17, 48))
        ),
        dims=("M", "K"),
        takes=("codes", "scales"),
        gives=("dequantized",),
    )
)
