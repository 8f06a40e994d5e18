"""Wrong kernels in NumPy of the INT8 family's further ops: quantization, products, packed weights.

Contract: as planted.py. Each spoils one thing; what is right comes from the oracles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from reference import int8_asymmetric, int8_gemm, int8_group, int8_pack, int8_quantize
from reference.int8_gemm_azp import gemm_azp
from reference.int8_gemm_group import gemm_group
from reference.numerics import RANGES, round_to, to_float32
from tests.wrong.planted import Planted

F32 = np.float32


def _numpy(op: str, function: Callable[..., Any], *words: str, dialect: str = "ieee") -> Planted:
    return Planted(function.__name__, f"int8.{op}", function, words, dialect, "numpy")


# --- groups


def next_groups_scale(codes: Any, scales: Any) -> Any:
    wrong = np.concatenate([scales[:, 1:], scales[:, -1:]], axis=1)
    return int8_group.dequantize_per_group(codes, wrong)


def nan_to_zero(x: Any, group_size: int) -> Any:
    """Code 0 for a NaN quotient, where vLLM's fmaxf gives -128."""
    codes, scales = int8_group.quantize_per_group(x, group_size, dialect="vllm")
    quotient = to_float32(x) / np.repeat(scales, group_size, axis=1)
    return np.where(np.isnan(quotient), np.int8(0), codes), scales


def nearest(x: Any, group_size: int) -> Any:
    """vLLM's formula, to the nearest where its cast cuts."""
    _, scales = int8_group.quantize_per_group(x, group_size, dialect="vllm")
    wide = to_float32(x).reshape(*scales.shape, -1) / scales[:, :, None]
    codes = np.rint(np.fmin(np.fmax(wide, F32(-128)), F32(127))).astype(np.int8)
    return codes.reshape(x.shape), scales


def fp16_group_scales(x: Any, group_size: int) -> Any:
    codes, scales = int8_group.quantize_per_group(x, group_size)
    return codes, to_float32(round_to(scales, "fp16"))


# --- asymmetric


def wrong_rows_zero_point(x: Any, scales: Any, zero_points: Any, *, code_dtype: str) -> Any:
    shifted = np.roll(zero_points, -1)
    return int8_asymmetric.asymmetric_static(x, scales, shifted, code_dtype=code_dtype)


def subtracted(x: Any, scales: Any, zero_points: Any, *, code_dtype: str) -> Any:
    """RNE(x/s) - zero point."""
    quotient = to_float32(x) / scales[:, None]
    whole = np.nan_to_num(np.clip(np.rint(quotient.astype(np.float64)), -(2**31), 2**31 - 1))
    return np.clip(whole - zero_points[:, None], *RANGES[code_dtype]).astype(
        np.uint8 if code_dtype == "u8" else np.int8
    )


def vllms_range(x: Any, *, code_dtype: str) -> Any:
    return int8_asymmetric.asymmetric_per_token(x, dialect="vllm", code_dtype=code_dtype)


def vllms_codes(x: Any, scales: Any, zero_points: Any) -> Any:
    return int8_asymmetric.asymmetric_static(x, scales, zero_points, dialect="vllm")


def inverse_of_the_scale(x: Any, scales: Any, zero_points: Any) -> Any:
    quotient = to_float32(x) * (F32(1) / scales[:, None])
    whole = np.nan_to_num(np.clip(np.rint(quotient.astype(np.float64)), -(2**31), 2**31 - 1))
    return np.clip(whole + zero_points[:, None], 0, 255).astype(np.uint8)


# --- products


def first_matrix(a: Any, b: Any) -> Any:
    return int8_gemm.gemm_batched(a, np.repeat(b[:1], len(b), axis=0))


def _azp(*args: Any) -> Any:
    """gemm_azp of zero points that only vllm takes."""
    return gemm_azp(*args, dialect="vllm")


def azp_added(*args: Any) -> Any:
    return _azp(*args[:4], -args[4], *args[5:])


def azp_forgotten(*args: Any) -> Any:
    return _azp(*args[:4], 0 * args[4], *args[5:])


def azp_in_8_bits(*args: Any) -> Any:
    return _azp(*args[:4], args[4].astype(np.int8).astype(np.int32), *args[5:])


def sums_over_n(b: Any) -> Any:
    return np.resize(b.sum(axis=0, dtype=np.int32), len(b))


def through_fp16(a: Any, b: Any, a_s: Any, b_s: Any, out_scale: Any, bias: Any) -> Any:
    value = int8_gemm.gemm_dequant(a, b, a_s, b_s, bias, out_dtype="fp16")
    return int8_quantize.quantize_static(to_float32(value), out_scale)


def _in_groups(a: Any, b: Any, s_a: Any, s_b: Any, step: Callable[..., Any], turns: Any) -> Any:
    Q = s_a.shape[1]
    size, total = a.shape[1] // Q, np.zeros((len(a), len(b)), F32)
    for g in turns(range(Q)):
        part = slice(g * size, (g + 1) * size)
        acc = int8_gemm.gemm(np.ascontiguousarray(a[:, part]), np.ascontiguousarray(b[:, part]))
        total = step(total, acc.astype(F32), s_a[:, g, None], s_b[None, :, g])
    return total


def groups_backwards(a: Any, b: Any, s_a: Any, s_b: Any, bias: Any) -> Any:
    total = _in_groups(a, b, s_a, s_b, lambda t, acc, x, y: t + acc * y * x, reversed)
    return round_to(total if bias is None else total + bias, "fp32")


def group_scales_first(a: Any, b: Any, s_a: Any, s_b: Any, bias: Any) -> Any:
    total = _in_groups(a, b, s_a, s_b, lambda t, acc, x, y: t + acc * (x * y), list)
    return round_to(total if bias is None else total + bias, "fp32")


def scales_by_group_first(a: Any, b: Any, s_a: Any, s_b: Any, bias: Any) -> Any:
    """Reads b_scales as (Q, N)."""
    wrong = np.ascontiguousarray(s_b.reshape(s_b.shape[::-1]).T)
    return gemm_group(a, b, s_a, wrong, bias)


# --- packed weights


def columns_first(w_codes: Any) -> Any:
    packed = int8_pack.pack(w_codes)
    pieces = packed.reshape(*packed.shape[:2], 8, 64).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(pieces).reshape(packed.shape)


def past_k(w_codes: Any) -> Any:
    """Fills up beyond K with the last column."""
    missing = -w_codes.shape[1] % 64
    filled = np.concatenate([w_codes, np.repeat(w_codes[:, -1:], missing, axis=1)], axis=1)
    return int8_pack.pack(np.ascontiguousarray(filled))


def not_packed(a: Any, packed: Any, a_scales: Any, b_scales: Any, bias: Any) -> Any:
    """Takes packed weights for plain rows."""
    rows = packed.reshape(8 * len(packed), -1)[:, : a.shape[1]]
    return int8_gemm.gemm_dequant(a, np.ascontiguousarray(rows), a_scales, b_scales, bias)


def tile_inside(w: Any) -> Any:
    """Tiles of 32 x 32 change places, their insides stay as they are where they lie in w."""
    out, (K, N) = np.ascontiguousarray(w.T), w.shape
    for k in range(0, K, 32):
        for n in range(0, N, 32):
            side = min(32, K - k, N - n)  # of the square that both tiles have
            out[n : n + side, k : k + side] = w[k : k + side, n : n + side]
    return out


FURTHER = (
    _numpy("dequantize_per_group", next_groups_scale, "scale of the wrong group: the next"),
    _numpy("quantize_per_group", nan_to_zero, "NaN quotient code 0", dialect="vllm"),
    _numpy("quantize_per_group", nearest, "rounds to the nearest even", dialect="vllm"),
    _numpy("quantize_per_group", fp16_group_scales, "stores the scale rounded to fp16"),
    _numpy("asymmetric_static", wrong_rows_zero_point, "zero point of the wrong row", "cyclic"),
    _numpy("asymmetric_static", subtracted, "subtracts the zero point where it should add"),
    _numpy("asymmetric_static", vllms_codes, "speaks dialect vllm", "static_multiplier: x*(1/s)"),
    _numpy("asymmetric_static", inverse_of_the_scale, "multiplies by the reciprocal"),
    _numpy("asymmetric_per_token", vllms_range, "speaks dialect vllm", "azp_range: as is"),
    _numpy("gemm_batched", first_matrix, "b of the wrong matrix of the batch: the first"),
    _numpy("gemm_azp", azp_added, "wrong sign", dialect="vllm"),
    _numpy("gemm_azp", azp_forgotten, "does not subtract the zero point's share", dialect="vllm"),
    _numpy("gemm_azp", azp_in_8_bits, "keeps the zero point in 8 bits", dialect="vllm"),
    _numpy("column_sums", sums_over_n, "wrong axis of b"),
    _numpy("gemm_requantize", through_fp16, "value to fp16 before it is quantized"),
    _numpy("gemm_group", groups_backwards, "adds the groups in another order: descending"),
    _numpy("gemm_group", group_scales_first, "multiplies a group's two scales first"),
    _numpy("gemm_group", scales_by_group_first, "reads the scales sB", "transposed"),
    _numpy("pack", columns_first, "packs column after column"),
    _numpy("pack", past_k, "beyond K where zeros belong"),
    _numpy("gemm_packed", not_packed, "reads the packed weights row after row"),
    _numpy("transpose", tile_inside, "does not transpose within them"),
)
