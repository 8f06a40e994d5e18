"""Wrong asymmetric kernels of PyTorch's, ONNX's, torchao's and compressed-tensors' kinds.

Contract: as planted.py. Each is the dialect's own arithmetic with one word of it changed; tests
hold that without the change it is right (UNCHANGED).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from reference import asymmetric
from tests.wrong.planted import Planted


def _rows(op: str, dialect: str, **words: str) -> Callable[..., Any]:
    """Per token or channel."""

    def quantize(x: Any, *, code_dtype: str) -> Any:
        spoken = replace(asymmetric.asymmetric(dialect, op), **words)
        return asymmetric.quantize_rows(x, spoken, code_dtype)

    return quantize


def _tensor(op: str, dialect: str, **words: str) -> Callable[..., Any]:
    def quantize(x: Any, *, code_dtype: str) -> Any:
        spoken = replace(asymmetric.asymmetric(dialect, op), **words)
        codes, *numbers = asymmetric.quantize_rows(x.reshape(1, -1), spoken, code_dtype, True)
        return codes.reshape(x.shape), *numbers

    return quantize


def _static(op: str, dialect: str, **words: str) -> Callable[..., Any]:
    """`as_tensor`: a scale per row does not make the rows channels."""
    as_tensor = words.pop("as_tensor", "")

    def quantize(x: Any, scales: Any, zero_points: Any, *, code_dtype: str) -> Any:
        count = 1 if as_tensor else len(scales)
        spoken = replace(asymmetric.asymmetric(dialect, op, count), **words)
        given = scales[:, None], zero_points[:, None]
        return asymmetric.quantize_given(x, *given, spoken, code_dtype)

    return quantize


def _dequantize(op: str, dialect: str, **words: str) -> Callable[..., Any]:
    def dequantize(codes: Any, scales: Any, zero_points: Any, *, out_dtype: str) -> Any:
        spoken = replace(asymmetric.asymmetric(dialect, op), **words)
        given = scales[:, None], zero_points[:, None]
        return asymmetric.dequantized(codes, *given, spoken, out_dtype)

    return dequantize


MAKERS: dict[str, Callable[..., Callable[..., Any]]] = {
    "per_token": _rows,
    "per_channel": _rows,
    "per_tensor": _tensor,
    "static": _static,
    "dequantize": _dequantize,
}


def _planted(
    name: str, op: str, dialect: str, *reason: str, kind: str = "", **words: str
) -> Planted:
    function = MAKERS[op](op, dialect, **words)
    where = f"{dialect}-{name}", f"int8.asymmetric_{op}"
    return Planted(*where, function, reason, dialect, "numpy", kind)


UNCHANGED = tuple(
    _planted(f"unchanged_{op}", op, dialect)
    for op in MAKERS
    for dialect in asymmetric.SPOKEN[op]
    if dialect not in asymmetric.BASE
)
LATE = "adds the zero point after rounding"
ASYMMETRIC = (
    _planted("zero_point_late", "per_tensor", "pytorch", LATE, azp_sum="exact"),
    _planted("sum_of_two_roundings", "per_tensor", "pytorch",
             "adds the zero point before rounding (RNE(x/s", azp_sum="before rounding"),
    _planted("no_eps", "per_channel", "pytorch", "takes the scale as it is, however small",
             kind="zero row", least_scale="none"),
    _planted("fma_per_channel", "per_channel", "pytorch", "before rounding, in an FMA",
             azp_sum="fma before rounding"),
    _planted("rows_as_a_tensor", "static", "pytorch", "per channel as it is per tensor",
             kind="fused or double rounding", as_tensor="yes"),
    _planted("not_widened", "per_tensor", "onnx", "does not widen the range to hold 0",
             azp_range="as is"),
    _planted("reciprocal", "static", "onnx", "multiplies by the reciprocal",
             static_multiplier="x*(1/s)"),
    _planted("empty_range", "per_tensor", "onnx", "takes the scale as it is",
             kind="zero row", least_scale="none"),
    _planted("nan_as_0", "static", "onnx", "gives a NaN the code of 0, the zero point",
             azp_nan_code="zero point"),
    _planted("zero_point_early", "static", "onnx", "adds the zero point before rounding",
             azp_sum="before rounding"),
    _planted("in_fp32", "per_token", "torchao", "computes in fp32", arithmetic="fp32"),
    _planted("divides", "per_channel", "torchao", "divides by the scale (x/s)",
             multiplier="x/s"),
    _planted("difference_in_int32", "dequantize", "torchao", "subtracts the zero point in int32",
             azp_difference="int32"),
    _planted("zero_point_late", "static", "compressed_tensors", LATE, azp_sum="exact"),
    _planted("quotient_in_fp32", "per_token", "compressed_tensors",
             "but not the codes' quotient", kind="rounding", arithmetic="input scale"),
    _planted("eps_as_a_floor", "per_token", "compressed_tensors", "floors the scale at 2**-23",
             kind="zero row", least_scale="2^-23"),
)  # fmt: skip
