"""INT8 symmetric quantization in Numba CUDA.

    amax = max |x|              scale = amax / 127        (a row, or the whole tensor)
    code = clamp(round(x over scale or times multiplier))  out = round(float32(code) * scale)

Contract: reference/int8_quantize.py, whose bytes these kernels give in every dialect. What that
means here:
- amax is a maximum of the bits of |x| as integers: order and NaN rule need no float comparison;
- fp32 arithmetic through `_rn` functions; where the dialect computes in x's dtype, scale and
  quotient are rounded to it after each operation;
- the code comes from `cvt.rni.s32.f32`: to nearest even, NaN gives 0, infinity saturates and is
  then clamped;
- subnormals are kept; -0 and zero rows need no case of their own but the dialect's zero rule.

Rows are read and written 16 bytes of x at a time where pointers and row length allow (`wide`), else
element by element. Two passes over a row; the second one hits the cache. One block per row, or a
grid over the flat array where one scale serves all.
"""

from __future__ import annotations

from typing import Any

from kernels_numba import launch
from kernels_numba.compile import Kernel
from kernels_numba.device import (
    SIZE,
    Device,
    DeviceFunction,
    block_max,
    cuda,
    device,
    float32,
    int8,
    int32,
    libdevice,
    load_words1,
    load_words4,
    magnitude,
    narrow,
    pack4,
    store_words1,
    store_words2,
    store_words4,
    uint32,
    uint64,
    widen,
)
from kernels_numba.dialect import code_function, factor_function, scale_function
from reference.dialects import Dialect
from reference.numerics import dtype_name
from reference.op import implements
from reference.validate import check_dequantize, check_quantize, check_static

THREADS = 256
WIDE = 16  # bytes of x per access

# -- a thread's share of a row ---------------------------------------------------------------------


def _amax(dtype: str, nan: str, wide: bool) -> DeviceFunction:
    """Device function: (x, row, first, step) -> bits of the largest |x[row, i]| of this thread.

    i = first, first + step, ... counts elements, or groups of 16 bytes if wide.
    """
    size_of = magnitude(dtype, {"propagate": False, "skip": True}[nan])
    per_word, per_group = 4 // SIZE[dtype], WIDE // SIZE[dtype]

    @device
    def scalar(x: Device, row: Any, first: Any, step: Any) -> Any:
        largest = int32(0)
        i = first
        while i < uint64(x.shape[1]):
            largest = max(largest, size_of(x[row, i]))
            i += step
        return largest

    @device
    def grouped(x: Device, row: Any, first: Any, step: Any) -> Any:
        largest = int32(0)
        base = row * uint64(x.shape[1])
        i = first
        while i < uint64(x.shape[1]) // uint64(per_group):
            words = load_words4(x, base + i * uint64(per_group))
            for word in words:
                if per_word == 1:
                    largest = max(largest, size_of(word))
                else:
                    largest = max(largest, size_of(word & uint32(0xFFFF)))
                    largest = max(largest, size_of(word >> uint32(16)))
            i += step
        return largest

    return grouped if wide else scalar


def _encode(dtype: str, dialect: Dialect, wide: bool, multiplier: str) -> DeviceFunction:
    """Device function: (x, codes, row, first, step, factor): writes this thread's codes."""
    code = code_function(dtype, dialect, multiplier)

    @device
    def scalar(x: Device, codes: Device, row: Any, first: Any, step: Any, factor: Any) -> None:
        i = first
        while i < uint64(x.shape[1]):
            codes[row, i] = int8(code(x[row, i], factor))
            i += step

    @device
    def four(x: Device, codes: Device, row: Any, first: Any, step: Any, factor: Any) -> None:
        base = row * uint64(x.shape[1])
        i = first
        while i < uint64(x.shape[1]) // uint64(4):
            w = load_words4(x, base + i * uint64(4))
            packed = pack4(code(w[0], factor), code(w[1], factor),
                           code(w[2], factor), code(w[3], factor))  # fmt: skip
            store_words1(codes, base + i * uint64(4), (packed,))
            i += step

    @device
    def pair(first: Any, second: Any, factor: Any) -> Any:
        low, top = uint32(0xFFFF), uint32(16)
        return pack4(code(first & low, factor), code(first >> top, factor),
                     code(second & low, factor), code(second >> top, factor))  # fmt: skip

    @device
    def eight(x: Device, codes: Device, row: Any, first: Any, step: Any, factor: Any) -> None:
        base = row * uint64(x.shape[1])
        i = first
        while i < uint64(x.shape[1]) // uint64(8):
            w = load_words4(x, base + i * uint64(8))
            packed = (pair(w[0], w[1], factor), pair(w[2], w[3], factor))
            store_words2(codes, base + i * uint64(8), packed)
            i += step

    grouped = {4: four, 2: eight}[SIZE[dtype]]
    return grouped if wide else scalar


# -- kernels ---------------------------------------------------------------------------------------


def _rows_kernel(dtype: str, dialect: Dialect, wide: bool) -> Kernel:
    """One block per row: amax, scale, codes."""
    amax_bits, encode = (
        _amax(dtype, dialect.nan, wide),
        _encode(dtype, dialect, wide, dialect.multiplier),
    )
    to_float, scale_of, factor_of = (
        widen(dtype),
        scale_function(dtype, dialect),
        factor_function(dialect),
    )

    def quantize_rows(x: Device, codes: Device, scales: Device) -> None:
        """x: bits (rows, columns); codes: s8 (rows, columns); scales: fp32 (rows,)."""
        row = uint64(cuda.blockIdx.x)
        first, step = uint64(cuda.threadIdx.x), uint64(cuda.blockDim.x)
        amax = to_float(block_max(amax_bits(x, row, first, step)))
        scale = scale_of(amax)
        if cuda.threadIdx.x == 0:
            scales[row] = scale
        encode(x, codes, row, first, step, factor_of(amax, scale))

    return quantize_rows


def _tensor_amax_kernel(dtype: str, nan: str, wide: bool) -> Kernel:
    """First launch of per-tensor: the maximum over all blocks, by atomics on its bits."""
    amax_bits = _amax(dtype, nan, wide)

    def amax_of_tensor(x: Device, amax: Device) -> None:
        """x: bits (1, elements); amax: s32 (1,), bits of |x|, 0 at first."""
        first, step = uint64(cuda.grid(1)), uint64(cuda.gridsize(1))
        largest = block_max(amax_bits(x, uint64(0), first, step))
        if cuda.threadIdx.x == 0:
            cuda.atomic.max(amax, 0, largest)

    return amax_of_tensor


def _tensor_codes_kernel(dtype: str, dialect: Dialect, wide: bool) -> Kernel:
    """Second launch of per-tensor: every thread derives the scale, one stores it."""
    encode = _encode(dtype, dialect, wide, dialect.multiplier)
    to_float, scale_of, factor_of = (
        widen(dtype),
        scale_function(dtype, dialect),
        factor_function(dialect),
    )

    def codes_of_tensor(x: Device, amax: Device, codes: Device, scales: Device) -> None:
        """x: bits (1, elements); amax: s32 (1,); codes: s8 (1, elements); scales: fp32 (1,)."""
        first, step = uint64(cuda.grid(1)), uint64(cuda.gridsize(1))
        largest = to_float(amax[0])
        scale = scale_of(largest)
        if first == uint64(0):
            scales[0] = scale
        encode(x, codes, uint64(0), first, step, factor_of(largest, scale))

    return codes_of_tensor


def _static_kernel(dtype: str, dialect: Dialect, wide: bool) -> Kernel:
    """Blocks (row, part of the row); a scale per row."""
    multiplier = dialect.static_multiplier
    encode = _encode(dtype, dialect, wide, multiplier)
    inverts = {"x/s": False, "x*(1/s)": True}[multiplier]

    def quantize_given(x: Device, scales: Device, codes: Device) -> None:
        """x: bits (rows, columns); scales: fp32 (rows,); codes: s8 (rows, columns)."""
        row = uint64(cuda.blockIdx.x)
        threads = uint64(cuda.blockDim.x)
        first = uint64(cuda.blockIdx.y) * threads + uint64(cuda.threadIdx.x)
        step = uint64(cuda.gridDim.y) * threads
        scale = scales[row]
        factor = libdevice.fdiv_rn(float32(1), scale) if inverts else scale
        encode(x, codes, row, first, step, factor)

    return quantize_given


def _dequantize_kernel(out_dtype: str, wide: bool) -> Kernel:
    """Blocks (row, part of the row); a scale per row; four codes at a time if wide."""
    to_bits = narrow(out_dtype)
    two_bytes = SIZE[out_dtype] == 2

    @device
    def product(code: Any, scale: Any) -> Any:
        return to_bits(libdevice.fmul_rn(libdevice.int2float_rn(int32(code)), scale))

    @device
    def code_of(word: Any, place: Any) -> Any:
        return int8(word >> uint32(8 * place))

    @device
    def four(word: Any, scale: Any, out: Device, at: Any) -> None:
        a, b = product(code_of(word, 0), scale), product(code_of(word, 1), scale)
        c, d = product(code_of(word, 2), scale), product(code_of(word, 3), scale)
        if two_bytes:
            low, high = uint32(a) | (uint32(b) << uint32(16)), uint32(c) | (uint32(d) << uint32(16))
            store_words2(out, at, (uint32(low), uint32(high)))
        else:
            store_words4(out, at, (uint32(a), uint32(b), uint32(c), uint32(d)))

    def dequantize_codes(codes: Device, scales: Device, out: Device) -> None:
        """codes: s8 (rows, columns); scales: fp32 (rows,); out: bits (rows, columns)."""
        row = uint64(cuda.blockIdx.x)
        threads = uint64(cuda.blockDim.x)
        i = uint64(cuda.blockIdx.y) * threads + uint64(cuda.threadIdx.x)
        columns = uint64(codes.shape[1])
        scale = scales[row]
        if wide:
            while i < columns // uint64(4):
                at = row * columns + i * uint64(4)
                four(load_words1(codes, at)[0], scale, out, at)
                i += uint64(cuda.gridDim.y) * threads
        else:
            while i < columns:
                out[row, i] = product(codes[row, i], scale)
                i += uint64(cuda.gridDim.y) * threads

    return dequantize_codes


# -- public functions ------------------------------------------------------------------------------


@implements("int8.quantize_per_token", wing="numba")
@launch.entry("int8.quantize_per_token")
def quantize_per_token(x: Any, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """One dynamic scale per row.

    x: fp32, fp16 or bf16 (M, K). Returns codes s8 (M, K) and scales fp32 (M,).
    Raises TypeError or ValueError naming the argument (see reference/validate.py).
    """
    return _quantize_rows(x, check_quantize(x, dialect))


@implements("int8.quantize_per_channel", wing="numba")
@launch.entry("int8.quantize_per_channel")
def quantize_per_channel(w: Any, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """One scale per output channel of a K-major weight: the rows of w.

    w: fp32, fp16 or bf16 (N, K). Returns codes s8 (N, K) and scales fp32 (N,).
    """
    return _quantize_rows(w, check_quantize(w, dialect, "w"))


def _quantize_rows(x: Any, spoken: Dialect) -> tuple[Any, Any]:
    codes = launch.empty(x, x.shape, "s8")
    scales = launch.empty(x, x.shape[:1], "fp32")
    dtype, wide, items = _plan(x)
    block = min(THREADS, -(-items // 32) * 32)
    launch.run(
        _rows_kernel, (dtype, spoken, wide), (x.shape[0],), (block,), launch.bits(x), codes, scales
    )
    return codes, scales


@implements("int8.quantize_per_tensor", wing="numba", variant="two_pass")
@launch.entry("int8.quantize_per_tensor", "two_pass")
def quantize_per_tensor(x: Any, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """One dynamic scale for the whole of x. Two launches.

    x: fp32, fp16 or bf16 (M, K). Returns codes s8 (M, K) and scales fp32 (1,).
    """
    spoken = check_quantize(x, dialect)
    codes, scales = launch.empty(x, x.shape, "s8"), launch.empty(x, (1,), "fp32")
    amax = launch.zeros(x, (1,), "s32")
    flat, flat_codes = x.reshape(1, -1), codes.reshape(1, -1)
    dtype, wide, items = _plan(flat)
    grid = (min(-(-items // THREADS), 1024),)
    launch.run(
        _tensor_amax_kernel, (dtype, spoken.nan, wide), grid, (THREADS,), launch.bits(flat), amax
    )
    launch.run(
        _tensor_codes_kernel, (dtype, spoken, wide), grid, (THREADS,),
        launch.bits(flat), amax, flat_codes, scales,
    )  # fmt: skip
    return codes, scales


@implements("int8.quantize_static", wing="numba")
@launch.entry("int8.quantize_static")
def quantize_static(x: Any, scales: Any, *, dialect: str = "ieee") -> Any:
    """Codes under given scales.

    x: fp32, fp16 or bf16 (M, K); scales: fp32 (1,) or (M,), finite and > 0. Returns s8 (M, K).
    """
    spoken = check_static(x, scales, dialect)
    codes = launch.empty(x, x.shape, "s8")
    rows = x.reshape(scales.shape[0], -1)
    dtype, wide, items = _plan(rows)
    launch.run(
        _static_kernel, (dtype, spoken, wide), _parts(rows, items), (THREADS,),
        launch.bits(rows), scales, codes.reshape(rows.shape),
    )  # fmt: skip
    return codes


@implements("int8.dequantize", wing="numba")
@launch.entry("int8.dequantize")
def dequantize(codes: Any, scales: Any, *, dialect: str = "ieee", out_dtype: str = "fp32") -> Any:
    """float32(code) * scale, rounded to `out_dtype`; the same in every dialect.

    codes: s8 (M, K); scales: fp32 (1,) or (M,). Returns out_dtype (M, K).
    """
    check_dequantize(codes, scales, dialect, out_dtype)
    out = launch.empty(codes, codes.shape, out_dtype)
    rows = codes.reshape(scales.shape[0], -1)
    wide = launch.aligned(rows, rows.shape[1], 4)
    items = -(-rows.shape[1] // 4) if wide else rows.shape[1]
    launch.run(
        _dequantize_kernel, (out_dtype, wide), _parts(rows, items), (THREADS,),
        rows, scales, launch.bits(out).reshape(rows.shape),
    )  # fmt: skip
    return out


def _plan(x: Any) -> tuple[str, bool, int]:
    """(dtype, wide, items a row): whether rows go by 16 bytes, and how many accesses that makes."""
    dtype, row_bytes = dtype_name(x.dtype), x.shape[1] * x.dtype.itemsize
    assert dtype is not None
    wide = launch.aligned(x, row_bytes, WIDE)
    return dtype, wide, row_bytes // WIDE if wide else x.shape[1]


def _parts(rows: Any, items: int) -> tuple[int, int]:
    """Grid (rows, blocks a row) of kernels whose blocks share a row."""
    return rows.shape[0], min(-(-items // THREADS), 1024)
