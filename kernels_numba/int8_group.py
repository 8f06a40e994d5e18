"""INT8 symmetric quantization in groups along K, in Numba CUDA: dynamic, static; dequantization.

    amax = max(max |x|, floor)       scale = amax / 127, ...   (a row's group of G elements)
    code = clamp(round(x over scale or times multiplier))      out = round(float32(code) * scale)

Contract: reference/int8_group.py, whose bytes these kernels give in every dialect. Groups are
contiguous, so that M rows of Q groups are M * Q groups one after the other. What that means here is
told in int8_quantize.py: maxima of bits, `_rn` functions, one conversion to an integer.

Blocks are (lanes of a group, groups side by side): a power of two of lanes up to 32, in blocks of
whole warps, or whole warps of a block of their own. A lane keeps up to KEPT accesses of its group
in registers between both passes (what lies beyond is read again, from L2) and reads 16 bytes of x
at a time where pointers and G allow (`wide`), else element by element. Scales are read by one lane
and written by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels_numba import launch
from kernels_numba.accesses import WIDE, access, encoder, largest_of, sizes
from kernels_numba.compile import Kernel
from kernels_numba.device import (
    ALL_LANES,
    SIZE,
    Device,
    block_max,
    cuda,
    device,
    float32,
    int8,
    int32,
    libdevice,
    load_words1,
    load_words2,
    narrow,
    store_words4,
    uint32,
    uint64,
)
from kernels_numba.dialect import (
    amax_function,
    factor_function,
    floor_function,
    given_factor_function,
    scale_function,
    stored_function,
)
from reference.dialects import Dialect
from reference.int8_group import (
    BASE,
    SPOKEN,
    check_dequantize_per_group,
    check_quantize_per_group,
    check_static_per_group,
)
from reference.numerics import dtype_name
from reference.op import implements

KEPT = 4  # accesses that a lane keeps in registers
BLOCK = 128  # threads, where a group takes a warp or less
MAX_THREADS = 1024

# -- a group's lanes -------------------------------------------------------------------------------


@device
def _group_max(value: Any) -> Any:
    """The largest int32 >= 0 among a group's lanes, in each of them; all threads must call it."""
    if cuda.blockDim.x > 32:
        value = block_max(value)
    else:
        apart = int32(cuda.blockDim.x >> 1)
        while apart > 0:
            value = max(value, cuda.shfl_xor_sync(uint32(ALL_LANES), value, apart))
            apart = int32(apart >> 1)
    return value


@device
def _this_group() -> Any:
    return uint64(cuda.blockIdx.x) * uint64(cuda.blockDim.y) + uint64(cuda.threadIdx.y)


@device
def _given_scale(scales: Device, group: Any, inside: Any) -> Any:
    """The group's scale in all of its lanes, read once by each warp; 1 for a group not inside.

    scales: fp32 (S, Q), S = 1 or the number of rows. All lanes must call it.
    """
    place = group
    if scales.shape[0] == 1:
        place = uint64(uint32(group) % uint32(scales.shape[1]))
    scale = float32(1)
    lane = int32(cuda.threadIdx.x) & int32(31)
    if lane == 0 and inside:
        scale = scales[uint64(0), place]  # rows follow one another
    return cuda.shfl_sync(uint32(ALL_LANES), scale, int32(cuda.laneid) - lane)


# -- kernels ---------------------------------------------------------------------------------------


def _dynamic_kernel(dtype: str, dialect: Dialect, wide: bool) -> Kernel:
    """amax, scale and codes of the groups, with one read of x."""
    load, none, per = access(dtype, wide)
    largest = largest_of(dtype, sizes(dialect), wide)
    encode = encoder(dtype, dialect, wide, dialect.multiplier)
    to_float, raised = amax_function(dtype, dialect), floor_function(dtype, dialect)
    scale_of, factor_of = scale_function(dtype, dialect), factor_function(dtype, dialect)
    stored = stored_function(dialect)

    @device
    def get(x: Device, base: Any, i: Any, count: Any) -> Any:
        found = none()
        if i < count:
            found = load(x, base + i * uint64(per))
        return found

    @device
    def put(words: Any, codes: Device, base: Any, i: Any, count: Any, factor: Any) -> None:
        if i < count:
            encode(words, codes, base + i * uint64(per), factor)

    def quantize_groups(x: Device, codes: Device, scales: Device, size: Any) -> None:
        """x: bits (groups * size,); codes: s8, the same; scales: fp32 (groups,)."""
        group, lanes = _this_group(), uint64(cuda.blockDim.x)
        base, inside = group * uint64(size), group < uint64(scales.shape[0])
        count = uint64(size) // uint64(per) if inside else uint64(0)
        first = uint64(cuda.threadIdx.x)
        second, third, fourth = first + lanes, first + uint64(2) * lanes, first + uint64(3) * lanes
        beyond = first + uint64(KEPT) * lanes
        a, b = get(x, base, first, count), get(x, base, second, count)
        c, d = get(x, base, third, count), get(x, base, fourth, count)
        bits = max(max(largest(a), largest(b)), max(largest(c), largest(d)))
        i = beyond
        while i < count:
            bits = max(bits, largest(load(x, base + i * uint64(per))))
            i += lanes
        amax = raised(to_float(_group_max(bits)))
        scale = scale_of(amax)
        factor = factor_of(amax, scale)
        if inside and cuda.threadIdx.x == 0:
            scales[group] = stored(amax, scale)
        put(a, codes, base, first, count, factor)
        put(b, codes, base, second, count, factor)
        put(c, codes, base, third, count, factor)
        put(d, codes, base, fourth, count, factor)
        i = beyond
        while i < count:
            at = base + i * uint64(per)
            encode(load(x, at), codes, at, factor)
            i += lanes

    return quantize_groups


def _static_kernel(dtype: str, dialect: Dialect, wide: bool) -> Kernel:
    """Codes under given scales."""
    load, _, per = access(dtype, wide)
    encode = encoder(dtype, dialect, wide, dialect.static_multiplier)
    factor_of = given_factor_function(dtype, dialect)

    def quantize_given(x: Device, scales: Device, codes: Device, size: Any, groups: Any) -> None:
        """x: bits (groups * size,); scales: fp32 (S, Q); codes: s8, as x."""
        group = _this_group()
        base, inside = group * uint64(size), group < uint64(groups)
        factor = factor_of(_given_scale(scales, group, inside))
        count = uint64(size) // uint64(per) if inside else uint64(0)
        i = uint64(cuda.threadIdx.x)
        while i < count:
            at = base + i * uint64(per)
            encode(load(x, at), codes, at, factor)
            i += uint64(cuda.blockDim.x)

    return quantize_given


def _dequantize_kernel(out_dtype: str, wide: bool) -> Kernel:
    """out = round(float32(code) * scale); 16 bytes of out at a time if wide."""
    to_bits = narrow(out_dtype)
    two_bytes = SIZE[out_dtype] == 2
    per = WIDE // SIZE[out_dtype] if wide else 1

    @device
    def product(code: Any, scale: Any) -> Any:
        return to_bits(libdevice.fmul_rn(libdevice.int2float_rn(int32(code)), scale))

    @device
    def at(word: Any, place: Any, scale: Any) -> Any:
        return uint32(product(int8(word >> uint32(8 * place)), scale))

    @device
    def both(word: Any, place: Any, scale: Any) -> Any:
        return uint32(at(word, place, scale) | (at(word, place + 1, scale) << uint32(16)))

    @device
    def vector(codes: Device, out: Device, i: Any, scale: Any) -> None:
        if two_bytes:
            w, v = load_words2(codes, i)
            packed = both(w, 0, scale), both(w, 2, scale), both(v, 0, scale), both(v, 2, scale)
            store_words4(out, i, packed)
        else:
            word = load_words1(codes, i)[0]
            store_words4(
                out, i,
                (at(word, 0, scale), at(word, 1, scale), at(word, 2, scale), at(word, 3, scale)),
            )  # fmt: skip

    @device
    def single(codes: Device, out: Device, i: Any, scale: Any) -> None:
        out[i] = product(codes[i], scale)

    put = vector if wide else single

    def dequantize_groups(
        codes: Device, scales: Device, out: Device, size: Any, groups: Any
    ) -> None:
        """codes: s8 (groups * size,); scales: fp32 (S, Q); out: bits, as codes."""
        group = _this_group()
        base, inside = group * uint64(size), group < uint64(groups)
        scale = _given_scale(scales, group, inside)
        count = uint64(size) // uint64(per) if inside else uint64(0)
        i = uint64(cuda.threadIdx.x)
        while i < count:
            put(codes, out, base + i * uint64(per), scale)
            i += uint64(cuda.blockDim.x)

    return dequantize_groups


# -- public functions ------------------------------------------------------------------------------


@implements("int8.quantize_per_group", wing="numba", dialects=SPOKEN)
@launch.entry("int8.quantize_per_group")
def quantize_per_group(x: Any, group_size: int, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """One dynamic scale per row and group.

    x: fp32, fp16 or bf16 (M, K); group_size G divides K. Returns codes s8 (M, K) and scales fp32
    (M, K // G). Raises TypeError or ValueError naming the argument (see reference/int8_group.py).
    """
    return quantized(x, group_size, check_quantize_per_group(x, group_size, dialect))


@implements("int8.quantize_static_per_group", wing="numba", dialects=BASE)
@launch.entry("int8.quantize_static_per_group")
def quantize_static_per_group(x: Any, scales: Any, *, dialect: str = "ieee") -> Any:
    """Codes under given scales; the group size is K / Q.

    x: fp32, fp16 or bf16 (M, K); scales: fp32 (1, Q) or (M, Q), finite and > 0. Returns s8 (M, K).
    """
    return quantized_under(x, scales, check_static_per_group(x, scales, dialect))


@implements("int8.dequantize_per_group", wing="numba", dialects=BASE)
@launch.entry("int8.dequantize_per_group")
def dequantize_per_group(
    codes: Any, scales: Any, *, dialect: str = "ieee", out_dtype: str = "fp32"
) -> Any:
    """float32(code) * scale of its group, rounded to `out_dtype`; the same in every dialect.

    codes: s8 (M, K); scales: fp32 (1, Q) or (M, Q). Returns out_dtype (M, K).
    """
    check_dequantize_per_group(codes, scales, dialect, out_dtype)
    return dequantized(codes, scales, out_dtype)


# -- launches, unchecked: a row without groups is one group (int8_quantize.py) ---------------------


def quantized(x: Any, size: int, spoken: Dialect) -> tuple[Any, Any]:
    """Codes s8 (M, K) and scales fp32 (M, K / size) of x (M, K)."""
    codes = launch.empty(x, x.shape, "s8")
    scales = launch.empty(x, (x.shape[0], x.shape[1] // size), "fp32")
    dtype, wide, grid, block = plan(x, size)
    launch.run(
        _dynamic_kernel, (dtype, spoken, wide), grid, block,
        launch.bits(x).reshape(-1), codes.reshape(-1), scales.reshape(-1), np.int32(size),
    )  # fmt: skip
    return codes, scales


def quantized_under(x: Any, scales: Any, spoken: Dialect) -> Any:
    """Codes s8 (M, K) of x (M, K) under scales fp32 (1, Q) or (M, Q)."""
    codes, size = launch.empty(x, x.shape, "s8"), x.shape[1] // scales.shape[1]
    dtype, wide, grid, block = plan(x, size)
    launch.run(
        _static_kernel, (dtype, spoken, wide), grid, block,
        launch.bits(x).reshape(-1), scales, codes.reshape(-1), np.int32(size), _groups(scales, x),
    )  # fmt: skip
    return codes


def dequantized(codes: Any, scales: Any, out_dtype: str) -> Any:
    """Floats (M, K) of codes s8 (M, K) and scales fp32 (1, Q) or (M, Q)."""
    out, size = launch.empty(codes, codes.shape, out_dtype), codes.shape[1] // scales.shape[1]
    per = WIDE // SIZE[out_dtype]
    wide = launch.aligned(codes, size, per)
    grid, block = _geometry(codes.size // size, size, per if wide else 1)
    launch.run(
        _dequantize_kernel, (out_dtype, wide), grid, block,
        codes.reshape(-1), scales, launch.bits(out).reshape(-1), np.int32(size),
        _groups(scales, codes),
    )  # fmt: skip
    return out


def _groups(scales: Any, x: Any) -> Any:
    """Groups of all rows of x, as a kernel's argument."""
    return np.int32(x.shape[0] * scales.shape[1])


def plan(x: Any, size: int) -> tuple[str, bool, tuple[int, ...], tuple[int, ...]]:
    """(dtype, wide, grid, block) of kernels that read x in groups of `size`."""
    dtype = dtype_name(x.dtype)
    assert dtype is not None
    wide = launch.aligned(x, size * x.dtype.itemsize, WIDE)
    per = WIDE // x.dtype.itemsize if wide else 1
    return dtype, wide, *_geometry(x.size // size, size, per)


def _geometry(groups: int, size: int, per: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(grid, block) for accesses of `per` elements: at most KEPT to a lane while a warp is enough;
    lanes whose codes fill a sector of 32 bytes, where a group has as many.
    """
    accesses = size // per
    needed = -(-accesses // KEPT)
    if needed > 32:
        return (groups,), (min(MAX_THREADS, -(-needed // 32) * 32), 1)
    lanes = min(max(_power_of_two(needed), 32 // per), _power_of_two(accesses))
    together = BLOCK // lanes
    return (-(-groups // together),), (lanes, together)


def _power_of_two(number: int) -> int:
    """The smallest power of two that is not below."""
    return 1 << (number - 1).bit_length()
