"""INT8 GEMM with int32 accumulators, alone, batched and with its epilogue, in Numba CUDA.

    acc[m, n] = sum over k of a[m, k] * b[n, k]         exact in int32; weights are K-major
    out[m, n] = round(epilogue(acc, a_scales[m], b_scales[n], bias[n]))

Contract: reference/int8_gemm.py. Sums wrap as int32 does (K beyond 131,071 reaches the kernels only
in dialects that wrap); order of summation cannot matter. The epilogue's order is the dialect's,
one `_rn` operation each, one fma where it says fma (tile_results.py).

The ladder is tile_kernels.py's: naive, tiled, dp4a, mma, pipeline, split_k. A batch is B times as
many blocks of the same kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels_numba import launch
from kernels_numba.compile import Kernel
from kernels_numba.device import Device, cuda, device, narrow, uint32, uint64
from kernels_numba.intrinsics import load_constant4
from kernels_numba.tile_kernels import (
    NOTHING,
    PLAIN,
    mma_kernel,
    run_dp4a,
    run_fixed,
    run_naive,
    run_pipeline,
    run_split_k,
    splits_pay,
    tiled_kernel,
)
from kernels_numba.tile_results import (
    Words,
    four_scaled,
    put_each,
    scaled_columns,
    scaling,
    store_four_of,
)
from reference.op import implements
from reference.validate import (
    check_epilogue,
    check_gemm,
    check_gemm_batched,
    check_gemm_dequant,
)

ROWS = 1024  # blocks along M, at most, of the epilogue

# -- int8.gemm -------------------------------------------------------------------------------------


def _acc(a: Any, b: Any, dialect: str) -> Any:
    check_gemm(a, b, dialect)
    return launch.empty(a, (a.shape[0], b.shape[0]), "s32")


@implements("int8.gemm", wing="numba", variant="naive")
@launch.entry("int8.gemm", "naive")
def gemm_naive(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a @ b.T in int32, a thread per output.

    a: s8 (M, K); b: s8 (N, K). Returns s32 (M, N).
    Raises TypeError or ValueError naming the argument (see reference/validate.py).
    """
    acc = _acc(a, b, dialect)
    run_naive(a, b, acc)
    return acc


@implements("int8.gemm", wing="numba", variant="tiled")
@launch.entry("int8.gemm", "tiled")
def gemm_tiled(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a @ b.T in int32 through shared memory. Shapes and errors as `gemm_naive`."""
    acc = _acc(a, b, dialect)
    run_fixed(tiled_kernel, a, b, acc)
    return acc


@implements("int8.gemm", wing="numba", variant="dp4a")
@launch.entry("int8.gemm", "dp4a")
def gemm_dp4a(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a @ b.T in int32, four products an instruction. Shapes and errors as `gemm_naive`."""
    acc = _acc(a, b, dialect)
    run_dp4a(PLAIN, a, b, NOTHING, acc)
    return acc


@implements("int8.gemm", wing="numba", variant="mma")
@launch.entry("int8.gemm", "mma")
def gemm_mma(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a @ b.T in int32 by tensor cores, one stage. Shapes and errors as `gemm_naive`."""
    acc = _acc(a, b, dialect)
    run_fixed(mma_kernel, a, b, acc)
    return acc


@implements("int8.gemm", wing="numba", variant="pipeline")
@launch.entry("int8.gemm", "pipeline")
def gemm_pipeline(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a @ b.T in int32 by tensor cores and cp.async. Shapes and errors as `gemm_naive`."""
    acc = _acc(a, b, dialect)
    run_pipeline(PLAIN, a, b, NOTHING, acc)
    return acc


@implements("int8.gemm", wing="numba", variant="split_k")
@launch.entry("int8.gemm", "split_k")
def gemm_split_k(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a @ b.T in int32, K split over blocks. Shapes and errors as `gemm_naive`."""
    check_gemm(a, b, dialect)
    return run_split_k(a, b)


def gemm(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """The int8.gemm variant that suits the sizes."""
    chosen = gemm_split_k if splits_pay(a, b) else gemm_pipeline
    return chosen(a, b, dialect=dialect)


# -- int8.gemm_batched -----------------------------------------------------------------------------


def _batch(a: Any, b: Any, dialect: str) -> tuple[Any, Any, Any, Any]:
    """(a, b, out, out as matrix): the batch as matrices one above the other."""
    check_gemm_batched(a, b, dialect)
    (B, M, K), N = a.shape, b.shape[1]
    acc = launch.empty(a, (B, M, N), "s32")
    return a.reshape(B * M, K), b.reshape(B * N, K), acc, acc.reshape(B * M, N)


@implements("int8.gemm_batched", wing="numba", variant="naive")
@launch.entry("int8.gemm_batched", "naive")
def gemm_batched_naive(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a[i] @ b[i].T in int32 for every i, a thread per output.

    a: s8 (B, M, K); b: s8 (B, N, K). Returns s32 (B, M, N).
    """
    rows_a, rows_b, acc, rows = _batch(a, b, dialect)
    run_naive(rows_a, rows_b, rows, a.shape[0])
    return acc


@implements("int8.gemm_batched", wing="numba", variant="pipeline")
@launch.entry("int8.gemm_batched", "pipeline")
def gemm_batched_pipeline(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """As `gemm_batched_naive`, by tensor cores and cp.async."""
    rows_a, rows_b, acc, rows = _batch(a, b, dialect)
    run_pipeline(PLAIN, rows_a, rows_b, NOTHING, rows, a.shape[0])
    return acc


# -- int8.epilogue ---------------------------------------------------------------------------------


def _epilogue_kernel(out_dtype: str) -> Kernel:
    bits, store_four = narrow(out_dtype), store_four_of(out_dtype)

    @device
    def finished(given: Any, columns: Any, m: Any, sums: Any) -> Any:
        values = four_scaled(given, columns, m, sums)
        return bits(values[0]), bits(values[1]), bits(values[2]), bits(values[3])

    def dequantize_sums(acc: Device, wide: Any, given: Any, out: Device) -> None:
        """acc: s32 (M, N); wide: whether rows go four elements at a time; given: tile_results.py's
        `scaling`; out: bits (M, N)."""
        M, N = uint64(acc.shape[0]), uint64(acc.shape[1])
        n = uint64(cuda.blockIdx.y) * uint64(cuda.blockDim.x) + uint64(cuda.threadIdx.x)
        n *= uint64(4)
        columns = scaled_columns(given, n, out)
        m = uint64(cuda.blockIdx.x)
        while m < M and n < N:
            if wide:
                sums = load_constant4(acc, m * N + n)
                store_four(out, m * N + n, finished(given, columns, m, sums))
            else:
                each = (
                    uint32(acc[m, n]),
                    uint32(acc[m, n + uint64(1)]) if n + uint64(1) < N else uint32(0),
                    uint32(acc[m, n + uint64(2)]) if n + uint64(2) < N else uint32(0),
                    uint32(acc[m, n + uint64(3)]) if n + uint64(3) < N else uint32(0),
                )
                put_each(out, m, n, finished(given, columns, m, each))
            m += uint64(cuda.gridDim.x)

    return dequantize_sums


@implements("int8.epilogue", wing="numba")
@launch.entry("int8.epilogue")
def epilogue(
    acc: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """Dequantizes accumulators per token and per channel.

    acc: s32 (M, N); a_scales: fp32 (M,) or (1,); b_scales: fp32 (N,) or (1,); bias: fp32 (N,) or
    None. Returns out_dtype (M, N).
    """
    spoken = check_epilogue(acc, a_scales, b_scales, bias, dialect, out_dtype)
    (M, N), out = acc.shape, launch.empty(acc, acc.shape, out_dtype)
    block = min(256, -(-N // 128) * 32)
    grid = min(M, ROWS), -(-N // (4 * block))
    wide, given = launch.aligned(acc, 4 * N, 16), scaling(a_scales, b_scales, bias, spoken)
    launch.run(
        _epilogue_kernel, (out_dtype,), grid, (block,), acc, np.int32(wide), given, launch.bits(out)
    )
    return out


# -- int8.gemm_dequant -----------------------------------------------------------------------------


def _dequant(
    a: Any, b: Any, a_scales: Any, b_scales: Any, bias: Any, dialect: str, out_dtype: str
) -> tuple[Words, tuple[Any, ...], Any]:
    """(words, given, out) of tile_results.py."""
    spoken = check_gemm_dequant(a, b, a_scales, b_scales, bias, dialect, out_dtype)
    out = launch.empty(a, (a.shape[0], b.shape[0]), out_dtype)
    return ("dequant", out_dtype), scaling(a_scales, b_scales, bias, spoken), out


@implements("int8.gemm_dequant", wing="numba", variant="dp4a")
@launch.entry("int8.gemm_dequant", "dp4a")
def gemm_dequant_dp4a(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """`epilogue(gemm(a, b), ...)` in one launch.

    a: s8 (M, K); b: s8 (N, K); the rest as in `epilogue`. Returns out_dtype (M, N).
    """
    words, given, out = _dequant(a, b, a_scales, b_scales, bias, dialect, out_dtype)
    run_dp4a(words, a, b, given, launch.bits(out))
    return out


@implements("int8.gemm_dequant", wing="numba", variant="pipeline")
@launch.entry("int8.gemm_dequant", "pipeline")
def gemm_dequant_pipeline(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """As `gemm_dequant_dp4a`, by tensor cores and cp.async."""
    words, given, out = _dequant(a, b, a_scales, b_scales, bias, dialect, out_dtype)
    run_pipeline(words, a, b, given, launch.bits(out))
    return out


@implements("int8.gemm_dequant", wing="numba", variant="split_k")
@launch.entry("int8.gemm_dequant", "split_k")
def gemm_dequant_split_k(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """As `gemm_dequant_dp4a`, K split over blocks; the last one of a tile applies the epilogue."""
    words, given, out = _dequant(a, b, a_scales, b_scales, bias, dialect, out_dtype)
    run_split_k(a, b, words, given, launch.bits(out))
    return out


def gemm_dequant(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """The int8.gemm_dequant variant that suits the sizes."""
    chosen = gemm_dequant_split_k if splits_pay(a, b) else gemm_dequant_pipeline
    return chosen(a, b, a_scales, b_scales, bias, dialect=dialect, out_dtype=out_dtype)
