"""INT8 GEMM of asymmetric activations in Numba CUDA: the zero point leaves in the epilogue.

Contract: reference/int8_gemm_azp.py. The GEMM's sums less zero_points[m] * column_sums[n], all in
int32 modulo 2**32, then the epilogue of int8_gemm.py. Codes of u8 meet weights of s8 in
`dp4a.u32.s32` and `mma.sync ... u8.s8`. Kernels: tile_kernels.py.

column_sums: a warp per output channel, dp4a with four ones, 16 bytes a lane where K and the address
allow; lanes add up by a butterfly of shuffles.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels_numba import launch
from kernels_numba.compile import Kernel
from kernels_numba.device import ALL_LANES, Device, cuda, device, dp4a, int32, uint32, uint64
from kernels_numba.tile import copy_width, fetch_chunk
from kernels_numba.tile_kernels import run_dp4a, run_pipeline
from kernels_numba.tile_results import Words, scaling
from reference.int8_gemm_azp import check_column_sums, check_gemm_azp
from reference.op import implements

ONES = 0x01010101
ROWS = 8  # of a block: a warp each


@device
def _warp_sum(value: Any) -> Any:
    """The sum of all lanes' int32, in each of them."""
    apart = int32(16)
    while apart > 0:
        value = int32(value + cuda.shfl_xor_sync(uint32(ALL_LANES), value, apart))
        apart = int32(apart >> 1)
    return value


def _sums_kernel() -> Kernel:
    def sum_columns(b: Device, copy: Any, sums: Device) -> None:
        """b: s8 (N, K); copy: see tile.py; sums: s32 (N,)."""
        N, K = uint64(b.shape[0]), uint64(b.shape[1])
        n = uint64(cuda.blockIdx.x) * uint64(ROWS) + uint64(cuda.threadIdx.y)
        total = int32(0)
        at = uint64(cuda.laneid) * uint64(16)
        while at < K:
            chunk = fetch_chunk(b, n, N, at, K, copy)
            for i in range(4):
                total = dp4a(int32(chunk[i]), int32(ONES), total)
            at += uint64(512)
        total = _warp_sum(total)
        if cuda.laneid == 0 and n < N:
            sums[n] = total

    return sum_columns


@implements("int8.column_sums", wing="numba")
@launch.entry("int8.column_sums")
def column_sums(b: Any, *, dialect: str = "ieee") -> Any:
    """Sum of each output channel's weights.

    b: s8 (N, K). Returns s32 (N,). Raises TypeError or ValueError naming the argument.
    """
    check_column_sums(b, dialect)
    sums = launch.empty(b, b.shape[:1], "s32")
    grid = (-(-b.shape[0] // ROWS),)
    launch.run(_sums_kernel, (), grid, (32, ROWS), b, np.int32(copy_width(b)), sums)
    return sums


def _azp(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    zero_points: Any,
    sums: Any,
    bias: Any,
    dialect: str,
    out_dtype: str,
) -> tuple[Words, tuple[Any, ...], Any]:
    """(words, given, out) of tile_results.py."""
    spoken = check_gemm_azp(a, b, a_scales, b_scales, zero_points, sums, bias, dialect, out_dtype)
    out = launch.empty(a, (a.shape[0], b.shape[0]), out_dtype)
    given = (*scaling(a_scales, b_scales, bias, spoken), zero_points, sums)
    return ("azp", out_dtype), given, out


@implements("int8.gemm_azp", wing="numba", variant="dp4a")
@launch.entry("int8.gemm_azp", "dp4a")
def gemm_azp_dp4a(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    zero_points: Any,
    column_sums: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """The GEMM of (a - zero point) with b, scaled.

    a: u8 or s8 (M, K); b: s8 (N, K); a_scales: fp32 (M,) or (1,); b_scales: fp32 (N,) or (1,);
    zero_points: s32 (M,) or (1,); column_sums: s32 (N,); bias: fp32 (N,) or None.
    Returns out_dtype (M, N). Raises TypeError or ValueError naming the argument.
    """
    words, given, out = _azp(
        a, b, a_scales, b_scales, zero_points, column_sums, bias, dialect, out_dtype
    )
    run_dp4a(words, a, b, given, launch.bits(out))
    return out


@implements("int8.gemm_azp", wing="numba", variant="pipeline")
@launch.entry("int8.gemm_azp", "pipeline")
def gemm_azp_pipeline(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    zero_points: Any,
    column_sums: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """As `gemm_azp_dp4a`, by tensor cores and cp.async."""
    words, given, out = _azp(
        a, b, a_scales, b_scales, zero_points, column_sums, bias, dialect, out_dtype
    )
    run_pipeline(words, a, b, given, launch.bits(out))
    return out
