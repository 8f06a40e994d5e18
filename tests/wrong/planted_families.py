"""Wrong CUDA kernels of the groups, of asymmetric quantization and of the norms.

Contract: as planted.py: a source of this folder with one define; without a define it is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kernels_cupy.launch import empty, run
from reference.numerics import dtype_name
from reference.validate import FLOATS
from tests.wrong.planted import FOLDER, Planted

GROUP, GROUP_STATIC = "int8.quantize_per_group", "int8.quantize_static_per_group"
AZP, AZP_BACK = "int8.asymmetric_per_token", "int8.asymmetric_dequantize"
RMS = "int8.rms_norm_quantize"


def _defines(define: str) -> dict[str, int]:
    return {define: 1} if define else {}


def _format(x: Any) -> np.int32:
    return np.int32(FLOATS.index(str(dtype_name(x.dtype))))


def _group(define: str) -> Callable[..., Any]:
    def quantize_per_group(x: Any, group_size: int) -> tuple[Any, Any]:
        (M, K), Q = x.shape, x.shape[1] // group_size
        codes, scales = empty(x, (M, K), "s8"), empty(x, (M, Q), "fp32")
        args = x, codes, scales, _format(x), np.int32(Q), np.int32(group_size)
        run(str(FOLDER / "group.cu"), "quantize", _defines(define), (Q, M), (32,), args)
        return codes, scales

    return quantize_per_group


def _group_static(define: str) -> Callable[..., Any]:
    def quantize_static_per_group(x: Any, scales: Any) -> Any:
        (M, K), (S, Q) = x.shape, scales.shape
        codes = empty(x, (M, K), "s8")
        args = x, scales, codes, _format(x), np.int32(Q), np.int32(K // Q), np.int32(S)
        run(str(FOLDER / "group.cu"), "quantize_static", _defines(define), (M,), (32,), args)
        return codes

    return quantize_static_per_group


def _asymmetric(define: str) -> Callable[..., Any]:
    def asymmetric_per_token(x: Any) -> tuple[Any, Any, Any]:
        M, K = x.shape
        codes = empty(x, (M, K), "u8")
        scales, zero_points = empty(x, (M,), "fp32"), empty(x, (M,), "s32")
        args = x, codes, scales, zero_points, _format(x), np.int32(K)
        run(str(FOLDER / "asymmetric.cu"), "quantize", _defines(define), (M,), (32,), args)
        return codes, scales, zero_points

    return asymmetric_per_token


def _back(define: str) -> Callable[..., Any]:
    def asymmetric_dequantize(codes: Any, scales: Any, zero_points: Any) -> Any:
        M, K = codes.shape
        out = empty(codes, (M, K), "fp32")
        sizes = map(np.int32, (K, scales.size, codes.dtype == np.int8))
        args = codes, scales, zero_points, out, *sizes
        run(str(FOLDER / "asymmetric.cu"), "dequantize", _defines(define), (M,), (32,), args)
        return out

    return asymmetric_dequantize


def _rms(define: str) -> Callable[..., Any]:
    def rms_norm_quantize(x: Any, weight: Any, eps: float) -> tuple[Any, Any]:
        M, K = x.shape
        lanes = min(1024, 32 * -(-K // 1024))
        codes, scales = empty(x, (M, K), "s8"), empty(x, (M,), "fp32")
        args = x, weight, np.float32(eps), codes, scales, _format(x), np.int32(K)
        run(str(FOLDER / "rms_norm.cu"), "normalize", _defines(define), (M,), (lanes,), args)
        return codes, scales

    return rms_norm_quantize


MAKERS = {
    GROUP: _group,
    GROUP_STATIC: _group_static,
    AZP: _asymmetric,
    AZP_BACK: _back,
    RMS: _rms,
}


def _planted(op: str, define: str, *words: str) -> Planted:
    return Planted(f"{op[5:]}-{define.lower()}", op, MAKERS[op](define), words)


FAMILIES_RIGHT = tuple(Planted(op[5:], op, make("")) for op, make in MAKERS.items())

FAMILIES = (
    _planted(GROUP, "TRUNCATED", "truncates toward zero"),
    _planted(GROUP, "WHOLE_ROW", "amax over the whole row instead of each group"),
    _planted(GROUP, "LATE_GROUP", "groups that begin one element too late", "off by one"),
    _planted(GROUP, "TRANSPOSED_SCALES", "stores each scale transposed"),
    _planted(GROUP, "ONE_SCALE_A_ROW", "never written"),
    _planted(GROUP_STATIC, "GROUP_OFF_BY_ONE", "scale of the wrong group", "off by one"),
    _planted(GROUP_STATIC, "INTERLEAVED", "scale of the wrong group", "interleaved"),
    _planted(AZP, "NOT_WIDENED", "does not widen the range to hold 0"),
    _planted(AZP, "LEVELS_256", "(max - min)/256"),
    _planted(AZP, "ZERO_POINT_TRUNCATED", "rounds the zero point by truncate"),
    _planted(AZP, "ADDED_BEFORE_ROUNDING", "adds the zero point before rounding"),
    _planted(AZP, "NO_CLAMP_AZP", "does not clamp"),
    _planted(AZP_BACK, "ZERO_POINT_OF_ROW_0", "zero point of the wrong row: the first"),
    _planted(AZP_BACK, "READ_AS_OTHER", "u8 as s8"),
    _planted(RMS, "LANES_OF_4", "adds up a row in another order", "take 4"),
    _planted(RMS, "PRODUCT_ROUNDED", "no fma"),
    _planted(RMS, "K_MINUS_ONE", "divides the sum of squares by K - 1"),
    _planted(RMS, "EPS_AFTER_ROOT", "adds eps after the square root"),
    _planted(RMS, "NO_EPS", "leaves out eps"),
    _planted(RMS, "NO_WEIGHT", "leaves out the weight"),
    _planted(RMS, "MISSING_BARRIER", "race"),
)
