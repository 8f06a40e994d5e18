"""Wrong kernels in Numba CUDA and in NumPy: what a CUDA C++ twin would not add.

Contract: as planted.py. The NumPy ones wrap the oracle and spoil one thing.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
from numba import cuda, float32, int32
from numba.cuda import libdevice

from kernels_numba import launch
from reference import int8_gemm, int8_quantize
from reference.numerics import DTYPES, round_to, to_float32
from tests.wrong.planted import DEQUANTIZE, EPILOGUE, GEMM, STATIC, TOKEN, Planted

GEMM_DEQUANT, LINEAR = "int8.gemm_dequant", "int8.linear"

# --- Numba: a thread per element, one block per row


def _contracted() -> Callable[..., None]:
    def epilogue(acc: Any, a_scales: Any, b_scales: Any, bias: Any, out: Any) -> None:
        m, n = cuda.blockIdx.x, cuda.threadIdx.x
        while n < acc.shape[1]:
            out[m, n] = float32(acc[m, n]) * b_scales[n] * a_scales[m] + bias[n]
            n += cuda.blockDim.x

    return epilogue


def contracted(acc: Any, a_scales: Any, b_scales: Any, bias: Any) -> Any:
    out = launch.empty(acc, acc.shape, "fp32")
    bias = np.zeros(acc.shape[1], np.float32) if bias is None else bias
    launch.run(_contracted, (), (acc.shape[0],), (64,), acc, a_scales, b_scales, bias, out)
    return out


def _raced() -> Callable[..., None]:
    def row_sum(a: Any, b: Any, out: Any) -> None:
        part = cuda.shared.array(64, int32)
        n, m, t = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
        part[t] = 0
        for k in range(t, a.shape[1], 64):
            part[t] += int32(a[m, k]) * int32(b[n, k])
        cuda.syncthreads()
        step = 32
        while step > 0:
            if t < step:
                part[t] += part[t + step]
            step //= 2  # no barrier: the next step reads what other threads are still adding
        if t == 0:
            out[m, n] = part[0]

    return row_sum


def raced(a: Any, b: Any) -> Any:
    out = launch.empty(a, (a.shape[0], b.shape[0]), "s32")
    launch.run(_raced, (), (b.shape[0], a.shape[0]), (64,), a, b, out)
    return out


def _overrun() -> Callable[..., None]:
    def dequantize(codes: Any, scales: Any, out: Any) -> None:
        m, k = cuda.blockIdx.x, cuda.threadIdx.x
        while k < codes.shape[1]:
            out[m, k] = libdevice.fmul_rn(float32(codes[m, k]), scales[m])  # also where S = 1
            k += cuda.blockDim.x

    return dequantize


def overrun(codes: Any, scales: Any) -> Any:
    out = launch.empty(codes, codes.shape, "fp32")
    launch.run(_overrun, (), (codes.shape[0],), (64,), codes, scales, out)
    return out


NUMBA = (
    Planted("contracted", EPILOGUE, contracted, ("without a fixed rounding",), wing="numba"),
    Planted("raced", GEMM, raced, ("race",), wing="numba"),
    Planted("overrun", DEQUANTIZE, overrun, ("out-of-bounds load",), wing="numba"),
)

# --- NumPy


def _options(out_dtype: str) -> dict[str, str]:
    return {"dialect": "ieee", "out_dtype": out_dtype}


def other_dialect(x: Any) -> Any:
    return int8_quantize.quantize_per_token(x, dialect="vllm")


def row_of_the_tensor(x: Any) -> Any:
    codes, scale = int8_quantize.quantize_per_tensor(x, dialect="ieee")
    return codes, np.repeat(scale, x.shape[0])


def inverse_scale(x: Any) -> Any:
    codes, scales = int8_quantize.quantize_per_token(x, dialect="ieee")
    return codes, np.float32(1) / scales


def half_toward_zero(x: Any, scales: Any) -> Any:
    v = to_float32(x) / scales[:, None]
    whole = np.trunc(v)
    code = np.where(np.abs(v - whole) > 0.5, whole + np.sign(v), whole)
    return np.nan_to_num(np.clip(code, -127, 127)).astype(np.int8)


def fp16_scale(codes: Any, scales: Any) -> Any:
    return int8_quantize.dequantize(codes, to_float32(round_to(scales, "fp16")))


def payload_nan(codes: Any, scales: Any, *, out_dtype: str) -> Any:
    return (codes.astype(np.float32) * scales[:, None]).astype(DTYPES[out_dtype])


def lost_sign_of_zero(codes: Any, scales: Any) -> Any:
    return int8_quantize.dequantize(codes, scales) + np.float32(0)


def double_rounding(codes: Any, scales: Any, *, out_dtype: str) -> Any:
    wide = int8_quantize.dequantize(codes, scales)
    return round_to(to_float32(round_to(wide, "bf16")), out_dtype)


def saturated_output(*args: Any, out_dtype: str) -> Any:
    out = int8_gemm.epilogue(*args, **_options(out_dtype))
    if out_dtype != "fp16":
        return out
    exact = int8_gemm.epilogue(*args, **_options("fp32"))
    return np.where(np.isfinite(exact), np.clip(out, -65504, 65504), out).astype(np.float16)


def late_bias(acc: Any, a_scales: Any, b_scales: Any, bias: Any, *, out_dtype: str) -> Any:
    out = int8_gemm.epilogue(acc, a_scales, b_scales, None, **_options(out_dtype))
    return out if bias is None else round_to(to_float32(out) + bias, out_dtype)


def forgotten_bias(a: Any, b: Any, a_scales: Any, b_scales: Any, bias: Any) -> Any:
    return int8_gemm.gemm_dequant(a, b, a_scales, b_scales, None)


def b_as_kn(a: Any, b: Any) -> Any:
    return int8_gemm.gemm(a, np.ascontiguousarray(b.reshape(b.shape[::-1]).T))


def two_mistakes(a: Any, b: Any, a_scales: Any, b_scales: Any, bias: Any) -> Any:
    acc = int8_gemm.gemm(np.maximum(a, -127).astype(np.int8), b)
    scaled = acc.astype(np.float32) * a_scales[:, None] * b_scales
    out = scaled if bias is None else scaled + bias
    return round_to(out, "fp32")


def fused_codes(x: Any, w_codes: Any, w_scales: Any, bias: Any) -> Any:
    codes, scales = int8_quantize.quantize_per_token(x, dialect="vllm")
    return int8_gemm.gemm_dequant(codes, w_codes, scales, w_scales, bias)


def transposed_shape(a: Any, b: Any) -> Any:
    return int8_gemm.gemm(a, b).T


def wide_accumulator(a: Any, b: Any) -> Any:
    return int8_gemm.gemm(a, b).astype(np.int64)


def codes_alone(x: Any) -> Any:
    return int8_quantize.quantize_per_token(x)[0]


def whole_tiles_only(a: Any, b: Any) -> Any:
    if a.shape[1] % 16:
        raise ValueError("K must be a multiple of 16")
    return int8_gemm.gemm(a, b)


_calls = count()


def unsteady(a: Any, b: Any) -> Any:
    return int8_gemm.gemm(a, b) + np.int32(next(_calls) % 2)


def _numpy(op: str, function: Callable[..., Any], *words: str) -> Planted:
    return Planted(function.__name__, op, function, words, wing="numpy")


NUMPY = (
    _numpy(TOKEN, other_dialect, "speaks dialect vllm, not ieee"),
    _numpy(TOKEN, row_of_the_tensor, "amax over the whole tensor"),
    _numpy(TOKEN, inverse_scale, "the inverse of the scale"),
    _numpy(TOKEN, codes_alone, "returns 1 outputs; expected 2"),
    _numpy(STATIC, half_toward_zero, "rounds halves toward zero"),
    _numpy(DEQUANTIZE, fp16_scale, "rounds the scale to fp16"),
    _numpy(DEQUANTIZE, payload_nan, "canonical"),
    _numpy(DEQUANTIZE, lost_sign_of_zero, "zeros of the wrong sign"),
    _numpy(DEQUANTIZE, double_rounding, "double rounding"),
    _numpy(EPILOGUE, saturated_output, "saturates the output"),
    _numpy(EPILOGUE, late_bias, "bias after the rounding"),
    _numpy(GEMM_DEQUANT, forgotten_bias, "leaves out the bias"),
    _numpy(GEMM_DEQUANT, two_mistakes, "two things at once", "-127", "by sA, then by sB"),
    _numpy(LINEAR, fused_codes, "quantizes as dialect vllm", "x*(127/amax)"),
    _numpy(GEMM, b_as_kn, "reads b as (K, N)"),
    _numpy(GEMM, transposed_shape, "returns shape"),
    _numpy(GEMM, wide_accumulator, "returns dtype int64; expected s32"),
    _numpy(GEMM, whole_tiles_only, "raises ValueError on valid input: K must be a multiple of 16"),
    _numpy(GEMM, unsteady, "different bits"),
)

HOST = (*NUMBA, *NUMPY)
