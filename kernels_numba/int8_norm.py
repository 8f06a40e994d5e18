"""RMSNorm and LayerNorm with INT8 output in Numba CUDA.

Contract: reference/int8_norm.py, whose bytes these kernels give in both dialects; sums in "lanes of
8" (reductions.py), every operation rounded once to float32 by `_rn` functions.

One block of T = lanes(K) threads per row. Where rows go by 16 bytes and T is at most HOLDERS, a
thread keeps its chunks in registers, KEPT at most, x at first and then z (K <= 16384; with more
threads in a block there would not be the registers); elsewhere x is streamed, read again in every
pass, element by element. Weight and bias are read by every row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels_numba import launch
from kernels_numba.chunk import CHUNK
from kernels_numba.compile import Kernel, bounded
from kernels_numba.device import Device, block_max, cuda, float32, int32, libdevice, uint64
from kernels_numba.norm_steps import Norm, steps_of
from kernels_numba.reductions import row_sum
from reference.dialects import Dialect
from reference.int8_norm import check_norm
from reference.numerics import dtype_name
from reference.op import implements
from reference.reductions import KEPT, MAX_LANES, lanes

WIDE = 16  # bytes per access
HELD = KEPT * CHUNK  # elements of a row that a thread keeps
HOLDERS = 512


# -- kernels ---------------------------------------------------------------------------------------
# x, residual, total: bits (rows * columns,); weight, bias: bits (columns,); codes: s8 (rows *
# columns,); scales: fp32 (rows,), or the given (1,). Where an op has no such array, it is another.


def _kept_kernel(norm: Norm, spoken: Dialect) -> Kernel:
    """Rows in registers."""
    steps, static, centres = steps_of(norm, spoken), norm.static, norm.centres
    read, add, squares, inverse_of = steps.read, steps.add, steps.squares, steps.inverse
    normalize, largest, store = steps.normalize, steps.largest, steps.store
    own_factor, given_factor = steps.own_factor, steps.given_factor

    @bounded(HOLDERS, 1)
    def norm_kept(
        x: Device, residual: Device, total: Device, weight: Device, bias: Device, codes: Device,
        scales: Device, eps: Any,
    ) -> None:  # fmt: skip
        kept = cuda.local.array(HELD, float32)
        of_sum, of_squares = cuda.shared.array(32, float32), cuda.shared.array(32, float32)
        number, columns = uint64(cuda.blockIdx.x), uint64(weight.shape[0])
        row, T, lane = number * columns, uint64(cuda.blockDim.x), uint64(cuda.threadIdx.x)
        count = libdevice.ull2float_rn(columns)
        for i in range(KEPT):
            chunk = uint64(i) * T + lane
            read(x, residual, total, row, columns, chunk, kept, CHUNK * i, True)
        mean, sums = float32(0), float32(0)
        if centres:
            for i in range(KEPT):
                sums = add(kept, CHUNK * i, sums)
            mean = libdevice.fdiv_rn(row_sum(sums, of_sum), count)
        sums = float32(0)
        for i in range(KEPT):
            sums = squares(kept, CHUNK * i, uint64(i) * T + lane, columns, mean, sums)
        inverse = inverse_of(row_sum(sums, of_squares), count, eps)
        amax = int32(0)
        for i in range(KEPT):
            chunk = uint64(i) * T + lane
            normalize(weight, bias, columns, chunk, kept, CHUNK * i, mean, inverse)
            amax = largest(kept, CHUNK * i, chunk, columns, amax)
        factor = given_factor(scales) if static else own_factor(block_max(amax), scales, number)
        for i in range(KEPT):
            store(codes, row, columns, uint64(i) * T + lane, kept, CHUNK * i, factor)

    return norm_kept


def _streamed_kernel(norm: Norm, spoken: Dialect) -> Kernel:
    """Rows from memory in every pass."""
    steps, static, centres = steps_of(norm, spoken), norm.static, norm.centres
    read, add, squares, inverse_of = steps.read, steps.add, steps.squares, steps.inverse
    normalize, largest, store = steps.normalize, steps.largest, steps.store
    own_factor, given_factor = steps.own_factor, steps.given_factor

    @bounded(MAX_LANES, 1)
    def norm_streamed(
        x: Device, residual: Device, total: Device, weight: Device, bias: Device, codes: Device,
        scales: Device, eps: Any,
    ) -> None:  # fmt: skip
        some = cuda.local.array(CHUNK, float32)
        of_sum, of_squares = cuda.shared.array(32, float32), cuda.shared.array(32, float32)
        number, columns = uint64(cuda.blockIdx.x), uint64(weight.shape[0])
        row, T, lane = number * columns, uint64(cuda.blockDim.x), uint64(cuda.threadIdx.x)
        count = libdevice.ull2float_rn(columns)
        mean, sums = float32(0), float32(0)
        if centres:
            chunk = lane
            while chunk * uint64(CHUNK) < columns:
                read(x, residual, total, row, columns, chunk, some, 0, False)
                sums = add(some, 0, sums)
                chunk += T
            mean = libdevice.fdiv_rn(row_sum(sums, of_sum), count)
        sums = float32(0)
        chunk = lane
        while chunk * uint64(CHUNK) < columns:
            read(x, residual, total, row, columns, chunk, some, 0, True)
            sums = squares(some, 0, chunk, columns, mean, sums)
            chunk += T
        inverse = inverse_of(row_sum(sums, of_squares), count, eps)
        if static:
            factor = given_factor(scales)
        else:
            amax = int32(0)
            chunk = lane
            while chunk * uint64(CHUNK) < columns:
                read(x, residual, total, row, columns, chunk, some, 0, False)
                normalize(weight, bias, columns, chunk, some, 0, mean, inverse)
                amax = largest(some, 0, chunk, columns, amax)
                chunk += T
            factor = own_factor(block_max(amax), scales, number)
        chunk = lane
        while chunk * uint64(CHUNK) < columns:
            read(x, residual, total, row, columns, chunk, some, 0, False)
            normalize(weight, bias, columns, chunk, some, 0, mean, inverse)
            store(codes, row, columns, chunk, some, 0, factor)
            chunk += T

    return norm_streamed


# -- public functions ------------------------------------------------------------------------------


def _run(
    name: str,
    spoken: Dialect,
    eps: np.float32,
    x: Any,
    weight: Any,
    *,
    residual: Any = None,
    bias: Any = None,
    given: Any = None,
) -> tuple[Any, Any, Any]:
    """Runs the norm `name`. Returns codes, scales (or those given) and sum (or x's bits)."""
    (M, K), dtype = x.shape, dtype_name(x.dtype) or ""
    read = [one for one in (x, residual, weight, bias) if one is not None]
    wide = K % CHUNK == 0 and lanes(K) <= HOLDERS
    wide = wide and all(launch.aligned(array, WIDE, WIDE) for array in read)
    codes = launch.empty(x, (M, K), "s8")
    scales = launch.empty(x, (M,), "fp32") if given is None else given
    total = x if residual is None else launch.empty(x, (M, K), dtype)
    arrays = x, x if residual is None else residual, total, weight, weight if bias is None else bias
    launch.run(
        _kept_kernel if wide else _streamed_kernel,
        (Norm(name, given is not None, dtype, wide), spoken),
        (M,), (lanes(K),),
        *(launch.bits(array).reshape(-1) for array in arrays), codes.reshape(-1), scales, eps,
    )  # fmt: skip
    return codes, scales, total


@implements("int8.rms_norm_quantize", wing="numba")
@launch.entry("int8.rms_norm_quantize")
def rms_norm_quantize(x: Any, weight: Any, eps: float, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """x: fp32, fp16 or bf16 (M, K); weight: x's dtype (K,). Returns codes s8 (M, K), scales fp32
    (M,).
    """
    spoken = check_norm(dialect, eps, x=x, weight=weight)
    return _run("rms_norm", *spoken, x, weight)[:2]


@implements("int8.rms_norm_quantize_static", wing="numba")
@launch.entry("int8.rms_norm_quantize_static")
def rms_norm_quantize_static(
    x: Any, weight: Any, scales: Any, eps: float, *, dialect: str = "ieee"
) -> Any:
    """x: fp32, fp16 or bf16 (M, K); weight: x's dtype (K,); scales: fp32 (1,). Returns codes s8
    (M, K).
    """
    spoken = check_norm(dialect, eps, x=x, weight=weight, scales=scales)
    return _run("rms_norm", *spoken, x, weight, given=scales)[0]


@implements("int8.add_rms_norm_quantize", wing="numba")
@launch.entry("int8.add_rms_norm_quantize")
def add_rms_norm_quantize(
    x: Any, residual: Any, weight: Any, eps: float, *, dialect: str = "ieee"
) -> tuple[Any, Any, Any]:
    """x, residual: fp32, fp16 or bf16 (M, K); weight: their dtype (K,). Returns codes s8 (M, K),
    scales fp32 (M,), sum of x's dtype (M, K).
    """
    spoken = check_norm(dialect, eps, x=x, residual=residual, weight=weight)
    return _run("add_rms_norm", *spoken, x, weight, residual=residual)


@implements("int8.add_rms_norm_quantize_static", wing="numba")
@launch.entry("int8.add_rms_norm_quantize_static")
def add_rms_norm_quantize_static(
    x: Any, residual: Any, weight: Any, scales: Any, eps: float, *, dialect: str = "ieee"
) -> tuple[Any, Any]:
    """x, residual: fp32, fp16 or bf16 (M, K); weight: their dtype (K,); scales: fp32 (1,). Returns
    codes s8 (M, K), sum of x's dtype (M, K).
    """
    spoken = check_norm(dialect, eps, x=x, residual=residual, weight=weight, scales=scales)
    codes, _, total = _run("add_rms_norm", *spoken, x, weight, residual=residual, given=scales)
    return codes, total


@implements("int8.layer_norm_quantize", wing="numba")
@launch.entry("int8.layer_norm_quantize")
def layer_norm_quantize(
    x: Any, weight: Any, bias: Any, eps: float, *, dialect: str = "ieee"
) -> tuple[Any, Any]:
    """x: fp32, fp16 or bf16 (M, K); weight, bias: x's dtype (K,). Returns codes s8 (M, K), scales
    fp32 (M,).
    """
    spoken = check_norm(dialect, eps, x=x, weight=weight, bias=bias)
    return _run("layer_norm", *spoken, x, weight, bias=bias)[:2]


@implements("int8.layer_norm_quantize_static", wing="numba")
@launch.entry("int8.layer_norm_quantize_static")
def layer_norm_quantize_static(
    x: Any, weight: Any, bias: Any, scales: Any, eps: float, *, dialect: str = "ieee"
) -> Any:
    """x: fp32, fp16 or bf16 (M, K); weight, bias: x's dtype (K,); scales: fp32 (1,). Returns codes
    s8 (M, K).
    """
    spoken = check_norm(dialect, eps, x=x, weight=weight, bias=bias, scales=scales)
    return _run("layer_norm", *spoken, x, weight, bias=bias, given=scales)[0]
