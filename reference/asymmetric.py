"""The arithmetic of asymmetric quantization, and its argument checks: what the oracle of
int8_asymmetric.py and both wings share. The contract stands at the head of that file; here is what
the other systems' words add to it. What is said of NaN is what the named version gives on an x86
CPU; where C++ leaves a conversion open, that is what its instruction does.

pytorch 2.13 (torch/ao/quantization/observer.py, UniformQuantizationObserverBase._calculate_qparams;
aten/src/ATen/native/quantized/cpu/kernels/QuantizedOpKernels.cpp and AffineQuantizerBase.cpp, which
call FBGEMM's Quantize<T>, LEGACY by default: include/fbgemm/QuantUtils.h, src/QuantUtilsAvx2.cc):
- x: fp32. scale = max((max - min) / 255, 2**-23), the range widened to hold 0; zero point =
  clamp(qmin - RNE(min / scale)).
- per tensor: code = clamp(RNE(fma(x, 1/s, zero point))), a NaN gives the highest code (minps);
  per channel, and static with one scale per row: clamp(RNE(x * (1/s) + zero point)), two roundings,
  a NaN gives code 0. So codes differ from those of a sum behind the rounding at every tie with an
  odd zero point, and by the rounding of the sum.
- NaN in the group: scale NaN; RNE(NaN) becomes -2**31, so that the zero point is 0 for u8 and 127
  for s8; every code as of NaN. Infinite scale: x * 0 is 0 or NaN. A zero group: scale 2**-23,
  zero point and codes qmin.
- On a GPU PyTorch does something else (aten/src/ATen/native/quantized/cuda/AffineQuantizer.cu): it
  divides in double and adds the zero point behind the rounding. Before it passed LEGACY = false, so
  did its CPU kernels of older releases.

onnx (onnxruntime 1.31: core/mlas/lib/quantize.cpp, core/util/qmath.h; operators QuantizeLinear and
DynamicQuantizeLinear):
- x: fp32. scale = (max - min) / 255, the range widened to hold 0; 1 where it is empty (all zeros);
  zero point = RNE(clip(qmin - min / scale)); code = clamp(RNE(x / s) + zero point).
- DynamicQuantizeLinear is per tensor and u8 only; s8 is the same formula.
- A NaN element gives the lowest code. In a range NaN is left out; onnxruntime's own answer depends
  on where it stands (minps and maxps drop what came before it), so no rule can agree with it.
- A scale that rounds to 0: x / 0 is infinite or NaN; min / 0 = NaN gives the highest zero point, as
  -inf / inf does.

torchao 0.18 (torchao/quantization/quantize_/workflows/int8/int8_tensor.py: Int8Tensor.from_hp with
MappingType.ASYMMETRIC; quant_primitives.py: _choose_qparams_affine, _quantize_affine_no_dtype_cast,
_dequantize_affine_no_dtype_check):
- Scale and zero point: every operation rounds to x's dtype. scale = max((max - min) / 255, 2**-23),
  the range widened to hold 0; zero point = clamp(qmin - RNE(min / scale)). Codes in fp32:
  clamp(RNE(x * (1/s)) + zero point). Codes are s8; u8 is the same formula.
- NaN in the group: scale NaN, zero point 0. A NaN quotient has code 0, whatever the zero point.
- dequantize: code - zero point is rounded to out_dtype, which bf16 shows beyond 256 steps; int32's
  wrap has no part in it.

compressed_tensors 0.20 (compressed_tensors/quantization/utils/helpers.py: calculate_qparams;
lifecycle/forward_helpers.py: _quantize; zero points in the codes' own dtype):
- Every operation rounds to x's dtype. scale = (max - min) / 255, the range widened to hold 0;
  zero point = RNE(clamp(qmin - min / scale)), of that scale (per tensor qmin - min / scale stays in
  fp32: operands of no dimension promote); only then a zero scale becomes the dtype's eps (2**-23,
  2**-10, 2**-7); code = RNE(clamp(x / s + zero point)), the sum rounded, too.
- Codes are s8; u8 is the same formula. A NaN has code 0, as a zero point it is 0: all zeros have
  codes and zero point 0, not qmin.

ModelOpt has no zero points. In dialects that compute in x's dtype, given scales are values of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.dialects import Dialect
from reference.dialects import dialect as get_dialect
from reference.numerics import (
    DTYPES,
    EPSILON,
    INT32_MAX,
    RANGES,
    Float32,
    canonical_nan,
    dtype_name,
    fma32,
    round_to,
    to_float32,
)
from reference.validate import (
    check_array,
    check_group_scales,
    check_group_size,
    check_kept,
    check_out_dtype,
    check_positive,
    check_quantize,
    check_vector,
)

Codes = NDArray[Any]
ZeroPoints = NDArray[np.int32]
Rounding = Callable[[Float32], Float32]
BASE = ("ieee", "vllm")  # speak every op of the family
SPOKEN: dict[str, tuple[str, ...]] = {  # short name of an op -> its dialects
    "per_token": (*BASE, "torchao", "compressed_tensors"),
    "per_channel": (*BASE, "pytorch", "torchao", "compressed_tensors"),
    "per_tensor": (*BASE, "pytorch", "onnx", "torchao", "compressed_tensors"),
    "per_group": (*BASE, "torchao", "compressed_tensors"),
    "static": (*BASE, "pytorch", "onnx", "torchao", "compressed_tensors"),
    "static_per_group": (*BASE, "onnx", "torchao", "compressed_tensors"),
    "dequantize": (*BASE, "torchao"),
    "dequantize_per_group": (*BASE, "torchao"),
}
CODES = ("u8", "s8")
FAMILY = "asymmetric"
CHANNEL = "asymmetric_channel"  # on top of it: per channel, and static with a scale per row
LEVELS = np.float32(255)
ZERO_POINTS = (RANGES["s8"][0], RANGES["u8"][1])  # what a clamped zero point may be
_LARGEST = np.finfo(np.float32).max

# -- arithmetic ------------------------------------------------------------------------------------


def quantize_rows(
    x: NDArray[Any], spoken: Dialect, code_dtype: str, tensor: bool = False
) -> tuple[Codes, Float32, ZeroPoints]:
    """Codes, scale and zero point of every row of x (rows, columns), unchecked. tensor: the only
    row is a whole tensor.
    """
    wide, kept, name = to_float32(x), _rounding(x, spoken, "scale"), str(dtype_name(x.dtype))
    with np.errstate(all="ignore"):
        smallest, largest = _range(wide, spoken)
        found = canonical_nan(kept(kept(largest - smallest) / LEVELS))
        scale = _least(found, smallest == largest, spoken, name)
        divisor: Float32 = found if spoken.least_scale == "eps where 0" else scale
        ratio = kept(smallest / divisor)
        if tensor and spoken.zero_point.endswith("fp32 per tensor"):
            kept = _as_is
        zero_point = _zero_point(ratio, spoken, code_dtype, kept)
        if spoken.zero == "code0":
            zero_point = np.where(scale == 0, 0, zero_point)
        codes = _codes(x, scale, zero_point, spoken.multiplier, spoken, code_dtype)
        if spoken.zero == "code0":
            codes = np.where(scale == 0, codes.dtype.type(0), codes)
    return codes, scale[:, 0].copy(), zero_point[:, 0].astype(np.int32)


def _as_is(values: Float32) -> Float32:
    return values


def _rounding(x: NDArray[Any], spoken: Dialect, of: str) -> Rounding:
    """To the dtype in which the dialect computes `of`, "scale" or "code"; given back as fp32."""
    if spoken.arithmetic != "input" and (spoken.arithmetic, of) != ("input scale", "scale"):
        return _as_is
    name = str(dtype_name(x.dtype))
    return lambda values: to_float32(round_to(values, name))


def _range(wide: Float32, spoken: Dialect) -> tuple[Float32, Float32]:
    """(min, max) of every row, each (rows, 1)."""
    start = np.float32(0 if spoken.azp_range == "with 0" else _LARGEST)
    low, high = (np.minimum, np.maximum) if spoken.nan == "propagate" else (np.fmin, np.fmax)
    smallest: Float32 = low.reduce(wide, axis=1, keepdims=True, initial=start)
    largest: Float32 = high.reduce(wide, axis=1, keepdims=True, initial=-start)
    return smallest, largest


def _least(scale: Float32, empty: NDArray[np.bool_], spoken: Dialect, name: str) -> Float32:
    """The scale that is used and stored, of range/255."""
    made: dict[str, Callable[[], Float32]] = {
        "none": lambda: scale,
        "2^-23": lambda: np.maximum(scale, np.float32(2.0**-23)),
        "eps where 0": lambda: np.where(scale == 0, np.float32(EPSILON[name]), scale),
        "1 where empty": lambda: np.where(empty, np.float32(1), scale),
    }
    return made[spoken.least_scale]()


def _zero_point(
    ratio: Float32, spoken: Dialect, code_dtype: str, kept: Rounding
) -> NDArray[np.int64]:
    """Of min / scale, int64."""
    low, high = RANGES[code_dtype]
    if spoken.zero_point == "clamp(qmin-rne(min/s))":
        found = low - _to_int32(ratio)
    else:
        found = _to_int32(kept(np.float32(low) - ratio))
    if spoken.zero_point.startswith("clamp"):
        found = np.clip(found, low, high)
    lost = {
        "0": 0,
        "qmax": high,
        "clamp(qmin+2**31)": {"u8": 0, "s8": high}[code_dtype],  # 2**31 wraps, 2**31 - 128 fits
    }[spoken.azp_nan_zero_point]
    return np.where(np.isnan(ratio), lost, found)


def _to_int32(values: Float32) -> NDArray[np.int64]:
    """RNE; saturates at int32's ends; NaN is 0."""
    rounded = np.clip(np.rint(values.astype(np.float64)), -INT32_MAX - 1, INT32_MAX)
    return np.where(np.isnan(rounded), 0.0, rounded).astype(np.int64)


def _codes(
    x: NDArray[Any],
    scale: Float32,
    zero_point: NDArray[np.int64],
    multiplier: str,
    spoken: Dialect,
    code_dtype: str,
) -> Codes:
    """scale, zero_point: of a shape that broadcasts to x's."""
    (low, high), wide, kept = RANGES[code_dtype], to_float32(x), _rounding(x, spoken, "code")
    inverse = kept(np.float32(1) / scale)
    value = kept(wide / scale if multiplier == "x/s" else wide * inverse)
    lost = np.isnan(value)
    if spoken.azp_sum == "fma before rounding":
        total = _to_int32(fma32(wide, inverse, zero_point.astype(np.float32)))
    elif spoken.azp_sum == "before rounding":
        total = _to_int32(kept(value + zero_point.astype(np.float32)))
    else:
        total = _to_int32(value) + zero_point
        if spoken.azp_sum == "wrap":
            total = total.astype(np.int32).astype(np.int64)
    codes = np.clip(total, low, high)
    if spoken.azp_nan_code != "zero point":
        instead = {"zero": 0, "low": low, "high": high}[spoken.azp_nan_code]
        codes = np.where(lost, instead, codes)
    return codes.astype(DTYPES[code_dtype])


def quantize_given(
    x: NDArray[Any], scale: Float32, zero_point: ZeroPoints, spoken: Dialect, code_dtype: str
) -> Codes:
    points = zero_point.astype(np.int64)
    with np.errstate(all="ignore"):
        return _codes(x, scale, points, spoken.static_multiplier, spoken, code_dtype)


def dequantized(
    codes: Codes, scale: Float32, zero_point: ZeroPoints, spoken: Dialect, out_dtype: str
) -> NDArray[Any]:
    with np.errstate(all="ignore"):
        if spoken.azp_difference == "output":
            shift = to_float32(round_to(zero_point.astype(np.float32), out_dtype))
            steps = to_float32(round_to(codes.astype(np.float32) - shift, out_dtype))
        else:
            steps = (codes.astype(np.int64) - zero_point).astype(np.int32).astype(np.float32)
        return round_to(canonical_nan(steps * scale), out_dtype)


# -- checks ----------------------------------------------------------------------------------------


def asymmetric(name: str, op: str, scales: int = 1) -> Dialect:
    """The dialect as `op` ("per_token", ...) speaks it. scales: given ones, of "static"."""
    spoken = get_dialect(name).under(FAMILY)
    return spoken.under(CHANNEL) if op == "per_channel" or scales > 1 else spoken


def _spoken(dialect: Any, op: str, scales: int = 1) -> Dialect:
    if dialect not in SPOKEN[op]:
        raise ValueError(f"dialect: got {dialect!r}; allowed: {', '.join(SPOKEN[op])}")
    return asymmetric(dialect, op, scales)


def check_asymmetric(
    x: Any, dialect: str, code_dtype: str, op: str, name: str = "x", scales: int = 1
) -> Dialect:
    """x: fp32, fp16 or bf16 (rows, columns). op: "per_token", ... Returns the dialect as the op
    speaks it.
    """
    spoken = _spoken(dialect, op, scales)
    check_quantize(x, dialect, name)
    _check_count(name, "rows", int(x.shape[0]))
    if code_dtype not in CODES:
        raise ValueError(f"code_dtype: got {code_dtype!r}; allowed: {', '.join(CODES)}")
    return spoken


def _check_count(name: str, what: str, count: int) -> None:
    """Kernels count rows and groups in 32 bits."""
    if count > INT32_MAX:
        raise ValueError(f"{name}: got {count} {what}; allowed: at most {INT32_MAX}")


def check_asymmetric_group(x: Any, group_size: Any, dialect: str, code_dtype: str) -> Dialect:
    """As `check_asymmetric`; group_size: an int >= 1 that divides K."""
    spoken = check_asymmetric(x, dialect, code_dtype, "per_group")
    groups = check_group_size(group_size, int(x.shape[1]))
    _check_count("x", "groups", int(x.shape[0]) * groups)
    return spoken


def check_asymmetric_static(
    x: Any, scales: Any, zero_points: Any, dialect: str, code_dtype: str
) -> Dialect:
    """scales: fp32, one for all or one per row, finite and > 0, values of x's dtype in a dialect
    that computes in it; zero_points: s32 of that shape.
    """
    check_asymmetric(x, dialect, code_dtype, "static")
    check_vector("scales", scales, {1: "per-tensor", int(x.shape[0]): "one per row"})
    spoken = asymmetric(dialect, "static", int(scales.shape[0]))
    _check_given(x, scales, zero_points, spoken)
    return spoken


def check_asymmetric_static_group(
    x: Any, scales: Any, zero_points: Any, dialect: str, code_dtype: str
) -> Dialect:
    """scales: fp32 (1, Q) or (M, Q), finite and > 0, Q divides K; zero_points: s32, as they."""
    spoken = check_asymmetric(x, dialect, code_dtype, "static_per_group")
    rows, depth = (int(side) for side in x.shape)
    check_group_scales("scales", scales, rows, depth, "x")
    _check_count("x", "groups", rows * int(scales.shape[1]))
    _check_given(x, scales, zero_points, spoken)
    return spoken


def _check_given(x: Any, scales: Any, zero_points: Any, spoken: Dialect) -> None:
    _check_zero_points(zero_points, scales)
    check_kept("scales", check_positive("scales", scales), x, spoken)
    if not spoken.zero_point.startswith("clamp"):
        return
    low, high = ZERO_POINTS
    values = zero_points.get() if hasattr(zero_points, "get") else zero_points
    bad = np.argwhere((values < low) | (values > high))
    if bad.size:
        where = tuple(int(i) for i in bad[0])
        index = where[0] if len(where) == 1 else where
        raise ValueError(
            f"zero_points: got {values[where]} at index {index}; "
            f"allowed in dialect {spoken.name}: {low} to {high}"
        )


def _check_zero_points(zero_points: Any, scales: Any) -> None:
    shape = tuple(int(side) for side in scales.shape)
    got = check_array("zero_points", zero_points, ("s32",), len(shape))
    if got != shape:
        raise ValueError(f"zero_points: got shape {got}; allowed: {shape}, the shape of scales")


def check_asymmetric_dequantize(
    codes: Any, scales: Any, zero_points: Any, dialect: str, out_dtype: str
) -> Dialect:
    """codes: u8 or s8 (M, K); scales: fp32 (1,) or (M,); zero_points: s32 of that shape."""
    spoken = _spoken(dialect, "dequantize")
    rows, _ = check_array("codes", codes, CODES, 2)
    check_vector("scales", scales, {1: "per-tensor", rows: "one per row"})
    _check_count("codes", "rows", rows)
    _check_zero_points(zero_points, scales)
    check_out_dtype(out_dtype)
    return spoken


def check_asymmetric_dequantize_group(
    codes: Any, scales: Any, zero_points: Any, dialect: str, out_dtype: str
) -> Dialect:
    """codes: u8 or s8 (M, K); scales: fp32 (1, Q) or (M, Q), Q divides K; zero_points: s32."""
    spoken = _spoken(dialect, "dequantize_per_group")
    rows, depth = check_array("codes", codes, CODES, 2)
    check_group_scales("scales", scales, rows, depth, "codes")
    _check_count("codes", "groups", rows * int(scales.shape[1]))
    _check_zero_points(zero_points, scales)
    check_out_dtype(out_dtype)
    return spoken
