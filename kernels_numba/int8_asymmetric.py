"""INT8 asymmetric quantization in Numba CUDA: u8 or s8 codes with a zero point.

    scale = (max - min) / 255      zero point = RNE(qmin - min / scale)
    code = clamp(RNE(x over scale or times 1/scale) + zero point)
    out = round(float32(code - zero point) * scale)

Contract: reference/int8_asymmetric.py, whose bytes these kernels give in every dialect; the
arithmetic is in asymmetric.py, the accesses in asymmetric_accesses.py. A group along K is a row of
the (M * Q, G) view. Codes are stored as bytes: a kernel is told the lowest code, and one
compilation serves u8 and s8.

Rows are read 16 bytes of x at a time where pointers and row length allow (`wide`), else element by
element. A thread keeps 4 such reads in registers between range and codes, so that rows of up to 4 *
blockDim.x of them are read once; others twice, the second time from the cache. Geometry: rows.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels_numba import asymmetric_accesses as accesses
from kernels_numba import launch
from kernels_numba.asymmetric import given_function, join_row, no_range, scale_function
from kernels_numba.compile import Kernel
from kernels_numba.device import Device, cuda, float32, int32, uint32, uint64
from kernels_numba.rows import for_row, geometry, remainder, row_of_thread
from reference.asymmetric import (
    check_asymmetric,
    check_asymmetric_dequantize,
    check_asymmetric_dequantize_group,
    check_asymmetric_group,
    check_asymmetric_static,
    check_asymmetric_static_group,
)
from reference.dialects import Dialect
from reference.numerics import RANGES, dtype_name
from reference.op import implements

RANGE_BLOCK, RANGE_GRID = 256, 1024  # of the per-tensor range, at most

# -- kernels ---------------------------------------------------------------------------------------


def _rows_kernel(dtype: str, dialect: Dialect, wide: bool) -> Kernel:
    """A dynamic scale and zero point per row."""
    load, nothing = accesses.load(wide), accesses.nothing(dtype, wide)
    widened = accesses.widening(dtype, dialect.azp_range, dialect.nan, wide)
    store, scale_of = (
        accesses.store(dtype, dialect, wide, dialect.multiplier),
        scale_function(dtype, dialect, False),
    )
    per, (start_low, start_high) = accesses.per_access(dtype, wide), no_range(dialect.azp_range)

    def asymmetric_rows(
        x: Device, codes: Device, scales: Device, zero_points: Device, length: Any, lowest: Any
    ) -> None:
        """x: bits (rows * length,); codes: bytes; scales: fp32, zero_points: s32 (rows,)."""
        row = row_of_thread()
        there, base = row < uint32(scales.shape[0]), uint64(row) * uint64(length)
        items = uint64(length) // uint64(per) if there else uint64(0)
        step = uint64(cuda.blockDim.x)
        i = uint64(cuda.threadIdx.x)
        j, k, m, rest = i + step, i + uint64(2) * step, i + uint64(3) * step, i + uint64(4) * step
        at_i, at_j = base + i * uint64(per), base + j * uint64(per)
        at_k, at_m = base + k * uint64(per), base + m * uint64(per)
        a = load(x, at_i) if i < items else nothing()
        b = load(x, at_j) if j < items else nothing()
        c = load(x, at_k) if k < items else nothing()
        d = load(x, at_m) if m < items else nothing()
        start = (int32(start_low), int32(start_high))
        keys = widened(start, a) if i < items else start
        keys = widened(keys, b) if j < items else keys
        keys = widened(keys, c) if k < items else keys
        keys = widened(keys, d) if m < items else keys
        n = rest
        while n < items:
            keys = widened(keys, load(x, base + n * uint64(per)))
            n += step
        made = scale_of(join_row(keys, start), lowest)
        how = made[1]
        if i < items:
            store(codes, at_i, a, how)
        if j < items:
            store(codes, at_j, b, how)
        if k < items:
            store(codes, at_k, c, how)
        if m < items:
            store(codes, at_m, d, how)
        while rest < items:
            at = base + rest * uint64(per)
            store(codes, at, load(x, at), how)
            rest += step
        if there and cuda.threadIdx.x == 0:
            scales[row] = made[0]
            zero_points[row] = how[1]

    return asymmetric_rows


def _range_kernel(dtype: str, azp_range: str, nan: str, wide: bool) -> Kernel:
    """First launch of per-tensor: the range of all blocks, by atomics on its two numbers."""
    load, widened = accesses.load(wide), accesses.widening(dtype, azp_range, nan, wide)
    per, (start_low, start_high) = accesses.per_access(dtype, wide), no_range(azp_range)

    def asymmetric_range(x: Device, keys: Device) -> None:
        """x: bits (elements,); keys: s32 (2,), at first nothing above `no_range`."""
        i, step = uint64(cuda.grid(1)), uint64(cuda.gridsize(1))
        start = (int32(start_low), int32(start_high))
        mine = start
        while i < uint64(x.shape[0]) // uint64(per):
            mine = widened(mine, load(x, i * uint64(per)))
            i += step
        joint = join_row(mine, start)
        if cuda.threadIdx.x == 0:
            cuda.atomic.max(keys, 0, joint[0])
            cuda.atomic.max(keys, 1, joint[1])

    return asymmetric_range


def _tensor_kernel(dtype: str, dialect: Dialect, wide: bool) -> Kernel:
    """Second launch of per-tensor: every thread derives scale and zero point, one stores them."""
    load, per = accesses.load(wide), accesses.per_access(dtype, wide)
    store = accesses.store(dtype, dialect, wide, dialect.multiplier)
    scale_of, both = scale_function(dtype, dialect, True), for_row(int32)

    def asymmetric_tensor(
        x: Device, keys: Device, codes: Device, scales: Device, zero_points: Device, lowest: Any
    ) -> None:
        """x: bits (elements,); keys: s32 (2,); codes: bytes; scales, zero_points: (1,)."""
        i, step = uint64(cuda.grid(1)), uint64(cuda.gridsize(1))
        made = scale_of(both(keys, keys, 0, 1), lowest)
        how = made[1]
        if i == uint64(0):
            scales[0] = made[0]
            zero_points[0] = how[1]
        while i < uint64(x.shape[0]) // uint64(per):
            at = i * uint64(per)
            store(codes, at, load(x, at), how)
            i += step

    return asymmetric_tensor


def _static_kernel(dtype: str, dialect: Dialect, wide: bool) -> Kernel:
    """Given scales and zero points, for the first rows and again for as many that follow."""
    load, per = accesses.load(wide), accesses.per_access(dtype, wide)
    store = accesses.store(dtype, dialect, wide, dialect.static_multiplier)
    factor_of, both = given_function(dtype, dialect), for_row(float32)

    def asymmetric_static(
        x: Device,
        scales: Device,
        zero_points: Device,
        codes: Device,
        rows: Any,
        length: Any,
        lowest: Any,
    ) -> None:
        """x: bits (rows * length,); scales: fp32, zero_points: s32 (given,); codes: bytes."""
        row, step = row_of_thread(), uint64(cuda.blockDim.x)
        there = row < uint32(rows)
        items = uint64(length) // uint64(per) if there else uint64(0)
        given = remainder(row, uint32(scales.shape[0]))
        numbers = both(scales, zero_points, given, given)
        how = (factor_of(numbers[0]), numbers[1], lowest)
        i = uint64(cuda.threadIdx.x)
        while i < items:
            at = uint64(row) * uint64(length) + i * uint64(per)
            store(codes, at, load(x, at), how)
            i += step

    return asymmetric_static


def _dequantize_kernel(out_dtype: str, wide: bool, difference: str) -> Kernel:
    """Scales and zero points as in `_static_kernel`; 16 bytes of out at a time if wide."""
    dequantize, both = accesses.dequantizing(out_dtype, wide, difference), for_row(float32)
    shift = accesses.shifting(out_dtype, difference)
    per = accesses.per_access(out_dtype, wide)

    def asymmetric_dequantize(
        codes: Device,
        scales: Device,
        zero_points: Device,
        out: Device,
        rows: Any,
        length: Any,
        lowest: Any,
    ) -> None:
        """codes: bytes (rows * length,); scales: fp32, zero_points: s32 (given,); out: bits."""
        row, step = row_of_thread(), uint64(cuda.blockDim.x)
        there = row < uint32(rows)
        items = uint64(length) // uint64(per) if there else uint64(0)
        given = remainder(row, uint32(scales.shape[0]))
        numbers = both(scales, zero_points, given, given)
        # A code less the lowest one is 0..255: for s8 its byte with the sign bit turned.
        zero = shift(numbers[1], lowest)
        turned = uint32(0x80808080) if lowest != 0 else uint32(0)
        i = uint64(cuda.threadIdx.x)
        while i < items:
            at = uint64(row) * uint64(length) + i * uint64(per)
            dequantize(codes, out, at, turned, numbers[0], zero)
            i += step

    return asymmetric_dequantize


# -- launches --------------------------------------------------------------------------------------


def _bytes(codes: Any) -> Any:
    return launch.bits(codes).reshape(-1)


def _plan(x: Any, length: int) -> tuple[str, bool]:
    """(dtype, whether rows of `length` elements go by 16 bytes)."""
    dtype = dtype_name(x.dtype)
    assert dtype is not None
    return dtype, launch.aligned(x, length * x.dtype.itemsize, accesses.WIDE)


def _rows(x: Any, length: int, shape: tuple[int, ...], spoken: Dialect, code_dtype: str) -> Any:
    """Every row of `length` elements with its own scale; `shape`: of scales and zero points."""
    dtype, wide = _plan(x, length)
    codes = launch.empty(x, x.shape, code_dtype)
    scales, zero_points = launch.empty(x, shape, "fp32"), launch.empty(x, shape, "s32")
    grid, block = geometry(x.size // length, length, accesses.per_access(dtype, wide))
    launch.run(
        _rows_kernel, (dtype, spoken, wide), grid, block,
        launch.bits(x).reshape(-1), _bytes(codes), scales.reshape(-1), zero_points.reshape(-1),
        np.int32(length), np.int32(RANGES[code_dtype][0]),
    )  # fmt: skip
    return codes, scales, zero_points


@implements("int8.asymmetric_per_token", wing="numba")
@launch.entry("int8.asymmetric_per_token")
def asymmetric_per_token(x: Any, *, dialect: str = "ieee", code_dtype: str = "u8") -> Any:
    """x: fp32, fp16 or bf16 (M, K). Returns codes (M, K), fp32 (M,) and s32 (M,)."""
    spoken = check_asymmetric(x, dialect, code_dtype, "per_token")
    return _rows(x, x.shape[1], x.shape[:1], spoken, code_dtype)


@implements("int8.asymmetric_per_channel", wing="numba")
@launch.entry("int8.asymmetric_per_channel")
def asymmetric_per_channel(w: Any, *, dialect: str = "ieee", code_dtype: str = "u8") -> Any:
    """w: fp32, fp16 or bf16 (N, K). Returns codes (N, K), fp32 (N,) and s32 (N,)."""
    spoken = check_asymmetric(w, dialect, code_dtype, "per_channel", "w")
    return _rows(w, w.shape[1], w.shape[:1], spoken, code_dtype)


@implements("int8.asymmetric_per_group", wing="numba")
@launch.entry("int8.asymmetric_per_group")
def asymmetric_per_group(
    x: Any, group_size: int, *, dialect: str = "ieee", code_dtype: str = "u8"
) -> Any:
    """x: fp32, fp16 or bf16 (M, K); group_size: divides K, Q = K // group_size. Returns codes
    (M, K), scales fp32 (M, Q), zero_points s32 (M, Q).
    """
    spoken = check_asymmetric_group(x, group_size, dialect, code_dtype)
    shape = x.shape[0], x.shape[1] // group_size
    return _rows(x, group_size, shape, spoken, code_dtype)


@implements("int8.asymmetric_per_tensor", wing="numba")
@launch.entry("int8.asymmetric_per_tensor")
def asymmetric_per_tensor(x: Any, *, dialect: str = "ieee", code_dtype: str = "u8") -> Any:
    """x: fp32, fp16 or bf16 (M, K). Returns codes (M, K), scales fp32 (1,), zero_points s32 (1,).
    Two launches.
    """
    spoken = check_asymmetric(x, dialect, code_dtype, "per_tensor")
    codes, flat = launch.empty(x, x.shape, code_dtype), launch.bits(x).reshape(-1)
    scales, zero_points = launch.empty(x, (1,), "fp32"), launch.empty(x, (1,), "s32")
    keys = launch.zeros(x, (2,), "s32")
    keys.fill(min(no_range(spoken.azp_range)))
    dtype, wide = _plan(x, x.size)
    items = x.size // accesses.per_access(dtype, wide)
    grid = (min(-(-items // (4 * RANGE_BLOCK)), RANGE_GRID),)
    block = (min(32 * -(-items // 32), RANGE_BLOCK),)
    launch.run(_range_kernel, (dtype, spoken.azp_range, spoken.nan, wide), grid, block, flat, keys)
    launch.run(
        _tensor_kernel, (dtype, spoken, wide), grid, block,
        flat, keys, _bytes(codes), scales, zero_points, np.int32(RANGES[code_dtype][0]),
    )  # fmt: skip
    return codes, scales, zero_points


def _given(x: Any, scales: Any, zero_points: Any, spoken: Dialect, code_dtype: str) -> Any:
    """Rows are groups where the scales are two-dimensional."""
    length = x.shape[1] // (scales.shape[1] if scales.ndim == 2 else 1)
    dtype, wide = _plan(x, length)
    codes = launch.empty(x, x.shape, code_dtype)
    grid, block = geometry(x.size // length, length, accesses.per_access(dtype, wide))
    launch.run(
        _static_kernel, (dtype, spoken, wide), grid, block,
        launch.bits(x).reshape(-1), scales.reshape(-1), zero_points.reshape(-1), _bytes(codes),
        np.uint32(x.size // length), np.int32(length), np.int32(RANGES[code_dtype][0]),
    )  # fmt: skip
    return codes


@implements("int8.asymmetric_static", wing="numba")
@launch.entry("int8.asymmetric_static")
def asymmetric_static(
    x: Any, scales: Any, zero_points: Any, *, dialect: str = "ieee", code_dtype: str = "u8"
) -> Any:
    """x: fp32, fp16 or bf16 (M, K); scales: fp32 (1,) or (M,); zero_points: s32 of that shape.
    Returns codes (M, K).
    """
    spoken = check_asymmetric_static(x, scales, zero_points, dialect, code_dtype)
    return _given(x, scales, zero_points, spoken, code_dtype)


@implements("int8.asymmetric_static_per_group", wing="numba")
@launch.entry("int8.asymmetric_static_per_group")
def asymmetric_static_per_group(
    x: Any, scales: Any, zero_points: Any, *, dialect: str = "ieee", code_dtype: str = "u8"
) -> Any:
    """x: fp32, fp16 or bf16 (M, K); scales: fp32 (1, Q) or (M, Q); zero_points: s32 of that shape.
    Returns codes (M, K).
    """
    spoken = check_asymmetric_static_group(x, scales, zero_points, dialect, code_dtype)
    return _given(x, scales, zero_points, spoken, code_dtype)


def _dequantized(codes: Any, scales: Any, zero_points: Any, spoken: Dialect, out_dtype: str) -> Any:
    length = codes.shape[1] // (scales.shape[1] if scales.ndim == 2 else 1)
    wide = launch.aligned(codes, length, accesses.per_access(out_dtype, True))
    out = launch.empty(codes, codes.shape, out_dtype)
    grid, block = geometry(codes.size // length, length, accesses.per_access(out_dtype, wide))
    launch.run(
        _dequantize_kernel, (out_dtype, wide, spoken.azp_difference), grid, block,
        _bytes(codes), scales.reshape(-1), zero_points.reshape(-1), launch.bits(out).reshape(-1),
        np.uint32(codes.size // length), np.int32(length),
        np.int32(RANGES[dtype_name(codes.dtype) or ""][0]),
    )  # fmt: skip
    return out


@implements("int8.asymmetric_dequantize", wing="numba")
@launch.entry("int8.asymmetric_dequantize")
def asymmetric_dequantize(
    codes: Any, scales: Any, zero_points: Any, *, dialect: str = "ieee", out_dtype: str = "fp32"
) -> Any:
    """codes: u8 or s8 (M, K); scales: fp32 (1,) or (M,); zero_points: s32 of that shape. Returns
    out_dtype (M, K).
    """
    spoken = check_asymmetric_dequantize(codes, scales, zero_points, dialect, out_dtype)
    return _dequantized(codes, scales, zero_points, spoken, out_dtype)


@implements("int8.asymmetric_dequantize_per_group", wing="numba")
@launch.entry("int8.asymmetric_dequantize_per_group")
def asymmetric_dequantize_per_group(
    codes: Any, scales: Any, zero_points: Any, *, dialect: str = "ieee", out_dtype: str = "fp32"
) -> Any:
    """codes: u8 or s8 (M, K); scales: fp32 (1, Q) or (M, Q); zero_points: s32 of that shape.
    Returns out_dtype (M, K).
    """
    spoken = check_asymmetric_dequantize_group(codes, scales, zero_points, dialect, out_dtype)
    return _dequantized(codes, scales, zero_points, spoken, out_dtype)
