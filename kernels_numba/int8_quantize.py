"""INT8 symmetric quantization in Numba CUDA.

    amax = max |x|              scale = amax / 127, ...   (a row, or the whole tensor)
    code = clamp(round(x over scale or times multiplier))  out = round(float32(code) * scale)

Contract: reference/int8_quantize.py, whose bytes these kernels give in every dialect. What that
means here:
- amax is a maximum of the bits of |x| as integers: order and NaN rule need no float comparison;
  where each end of a row has its own scale, of the bits of what that would be (dialect.scale_key);
- fp32 arithmetic through `_rn` functions; where the dialect computes in x's dtype, scale, 1/s and
  quotient are rounded to it after each operation;
- the code comes from `cvt.rni.s32.f32` (or `.rzi`, by rounding): NaN gives 0, infinity saturates
  and is then clamped;
- subnormals are kept; -0 and zero rows need no case of their own but the dialect's zero rule.

A row is one group of K elements, so rows run on the kernels of int8_group.py: x is read once and
kept in registers. Per-tensor takes two launches over the flat array, and reads x twice.
"""

from __future__ import annotations

from typing import Any

from kernels_numba import launch
from kernels_numba.accesses import access, encoder, largest_of, sizes
from kernels_numba.compile import Kernel
from kernels_numba.device import Device, block_max, cuda, int32, uint64
from kernels_numba.dialect import (
    amax_function,
    factor_function,
    floor_function,
    scale_function,
    stored_function,
)
from kernels_numba.int8_group import dequantized, plan, quantized, quantized_under
from reference.dialects import Dialect
from reference.int8_quantize import check_dynamic, check_given
from reference.op import implements
from reference.validate import check_dequantize

THREADS = 256
MAXIMUM_BLOCKS = 1024  # of the per-tensor kernels

# -- per-tensor ------------------------------------------------------------------------------------


def _tensor_amax_kernel(dtype: str, size: str, wide: bool) -> Kernel:
    """First launch: the maximum over all blocks, by atomics on its bits. size: see accesses.py."""
    load, _, per = access(dtype, wide)
    largest = largest_of(dtype, size, wide)

    def amax_of_tensor(x: Device, amax: Device) -> None:
        """x: bits (elements,); amax: s32 (1,), bits of |x|, 0 at first."""
        step, count = uint64(cuda.gridsize(1)), uint64(x.shape[0]) // uint64(per)
        bits = int32(0)
        i = uint64(cuda.grid(1))
        while i < count:
            bits = max(bits, largest(load(x, i * uint64(per))))
            i += step
        bits = block_max(bits)
        if cuda.threadIdx.x == 0:
            cuda.atomic.max(amax, 0, bits)

    return amax_of_tensor


def _tensor_codes_kernel(dtype: str, dialect: Dialect, wide: bool) -> Kernel:
    """Second launch: every thread derives the scale, one stores it."""
    load, _, per = access(dtype, wide)
    encode = encoder(dtype, dialect, wide, dialect.multiplier)
    to_float, raised = amax_function(dtype, dialect), floor_function(dtype, dialect)
    scale_of, factor_of = scale_function(dtype, dialect), factor_function(dtype, dialect)
    stored = stored_function(dialect)

    def codes_of_tensor(x: Device, amax: Device, codes: Device, scales: Device) -> None:
        """x: bits (elements,); amax: s32 (1,); codes: s8 (elements,); scales: fp32 (1,)."""
        step, count = uint64(cuda.gridsize(1)), uint64(x.shape[0]) // uint64(per)
        largest = raised(to_float(amax[0]))
        scale = scale_of(largest)
        factor = factor_of(largest, scale)
        i = uint64(cuda.grid(1))
        if i == uint64(0):
            scales[0] = stored(largest, scale)
        while i < count:
            at = i * uint64(per)
            encode(load(x, at), codes, at, factor)
            i += step

    return codes_of_tensor


# -- public functions ------------------------------------------------------------------------------


@implements("int8.quantize_per_token", wing="numba")
@launch.entry("int8.quantize_per_token")
def quantize_per_token(x: Any, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """One dynamic scale per row.

    x: fp32, fp16 or bf16 (M, K). Returns codes s8 (M, K) and scales fp32 (M,).
    Raises TypeError or ValueError naming the argument (see reference/validate.py).
    """
    spoken = check_dynamic("int8.quantize_per_token", x, dialect)
    codes, scales = quantized(x, int(x.shape[1]), spoken)
    return codes, scales.reshape(-1)


@implements("int8.quantize_per_channel", wing="numba")
@launch.entry("int8.quantize_per_channel")
def quantize_per_channel(w: Any, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """One scale per output channel of a K-major weight: the rows of w.

    w: fp32, fp16 or bf16 (N, K). Returns codes s8 (N, K) and scales fp32 (N,).
    """
    spoken = check_dynamic("int8.quantize_per_channel", w, dialect, "w")
    codes, scales = quantized(w, int(w.shape[1]), spoken)
    return codes, scales.reshape(-1)


@implements("int8.quantize_per_tensor", wing="numba", variant="two_pass")
@launch.entry("int8.quantize_per_tensor", "two_pass")
def quantize_per_tensor(x: Any, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """One dynamic scale for the whole of x. Two launches.

    x: fp32, fp16 or bf16 (M, K). Returns codes s8 (M, K) and scales fp32 (1,).
    """
    spoken = check_dynamic("int8.quantize_per_tensor", x, dialect)
    codes, scales = launch.empty(x, x.shape, "s8"), launch.empty(x, (1,), "fp32")
    amax, flat = launch.zeros(x, (1,), "s32"), launch.bits(x).reshape(-1)
    dtype, wide, _, _ = plan(x, x.size)
    _, _, per = access(dtype, wide)
    grid = (min(-(-x.size // (per * THREADS)), MAXIMUM_BLOCKS),)
    launch.run(_tensor_amax_kernel, (dtype, sizes(spoken), wide), grid, (THREADS,), flat, amax)
    arrays = flat, amax, codes.reshape(-1), scales
    launch.run(_tensor_codes_kernel, (dtype, spoken, wide), grid, (THREADS,), *arrays)
    return codes, scales


@implements("int8.quantize_static", wing="numba")
@launch.entry("int8.quantize_static")
def quantize_static(x: Any, scales: Any, *, dialect: str = "ieee") -> Any:
    """Codes under given scales.

    x: fp32, fp16 or bf16 (M, K); scales: fp32 (1,) or (M,), finite and > 0. Returns s8 (M, K).
    """
    spoken = check_given(x, scales, dialect)
    return quantized_under(x, scales.reshape(-1, 1), spoken)


@implements("int8.dequantize", wing="numba")
@launch.entry("int8.dequantize")
def dequantize(codes: Any, scales: Any, *, dialect: str = "ieee", out_dtype: str = "fp32") -> Any:
    """float32(code) * scale, rounded to `out_dtype`; the same in every dialect.

    codes: s8 (M, K); scales: fp32 (1,) or (M,). Returns out_dtype (M, K).
    """
    check_dequantize(codes, scales, dialect, out_dtype)
    return dequantized(codes, scales.reshape(-1, 1), out_dtype)
