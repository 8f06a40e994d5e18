"""Rows of values that are computed from memory, to INT8: the part that activations and smoothing
share.

Contract: values are z in the contracts of reference/int8_activation.py and int8_smooth.py; their
quantization is that of reference/int8_quantize.py for fp32 rows. An access is 16 bytes of x if
`wide`, else one element; `per_access` tells how many elements that is. A `Values` gives, of one
access, what memory holds of it and its z.

One block per row, whole warps. A thread keeps the z of two accesses in registers, so that x is
read, and z computed, once where a row has at most two accesses a thread; what lies beyond is read
and computed again, from L2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from kernels_numba import launch
from kernels_numba.device import (
    ALL_LANES,
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
    load_words4,
    magnitude,
    narrow,
    pack4,
    store_words1,
    store_words2,
    uint16,
    uint32,
    uint64,
    widen,
)
from kernels_numba.dialect import code_function, factor_function, scale_function
from reference.dialects import Dialect
from reference.numerics import dtype_name

KEPT, THREADS, WIDE = 2, 1024, 16
STATIC_EACH = 4  # accesses a thread of the static kernels


@dataclass(frozen=True)
class Values:
    """load: device function (sources, row, accesses in a row, i, inside) -> what memory holds of
    access i; all lanes of a warp call it together, lane n for the access n after lane 0's, and
    without `inside` it may give anything. compute: device function: that -> tuple of float32.
    """

    load: DeviceFunction
    compute: DeviceFunction


def per_access(dtype: str, wide: bool) -> int:
    """Elements of x in one access."""
    return WIDE // SIZE[dtype] if wide else 1


@cache
def step_function(dtype: str, intermediate: str) -> DeviceFunction:
    """Device function: one step's result -> the float32 that the dialect keeps of it."""
    to_float, to_bits = widen(dtype), narrow(dtype)

    @device
    def through_dtype(value: Any) -> Any:
        return to_float(to_bits(value))

    @device
    def as_is(value: Any) -> Any:
        return value

    return {"fp32": as_is, "input": as_is if dtype == "fp32" else through_dtype}[intermediate]


@cache
def load_function(dtype: str, wide: bool) -> DeviceFunction:
    """Device function: (x, element, inside) -> tuple of what one access holds; zeros outside."""
    kind = {4: uint32, 2: uint16}[SIZE[dtype]]

    @device
    def sixteen_bytes(x: Device, at: Any, inside: Any) -> Any:
        nothing = (uint32(0), uint32(0), uint32(0), uint32(0))
        return load_words4(x, at) if inside else nothing

    @device
    def one(x: Device, at: Any, inside: Any) -> Any:
        return (x[at] if inside else kind(0),)

    return sixteen_bytes if wide else one


@cache
def floats_function(dtype: str, wide: bool) -> DeviceFunction:
    """Device function: what one access holds -> its elements as a tuple of float32."""
    to_float = widen(dtype)

    @device
    def one(held: Any) -> Any:
        return (to_float(held[0]),)

    @device
    def four(w: Any) -> Any:
        return (to_float(w[0]), to_float(w[1]), to_float(w[2]), to_float(w[3]))

    @device
    def eight(w: Any) -> Any:
        low, top = uint32(0xFFFF), uint32(16)
        return (to_float(w[0] & low), to_float(w[0] >> top),
                to_float(w[1] & low), to_float(w[1] >> top),
                to_float(w[2] & low), to_float(w[2] >> top),
                to_float(w[3] & low), to_float(w[3] >> top))  # fmt: skip

    return {1: one, 4: four, 8: eight}[per_access(dtype, wide)]


def paired(function: DeviceFunction, count: int) -> DeviceFunction:
    """Device function: two tuples of `count` -> tuple of function(a, b)."""

    @device
    def one(a: Any, b: Any) -> Any:
        return (function(a[0], b[0]),)

    @device
    def four(a: Any, b: Any) -> Any:
        return (function(a[0], b[0]), function(a[1], b[1]),
                function(a[2], b[2]), function(a[3], b[3]))  # fmt: skip

    @device
    def eight(a: Any, b: Any) -> Any:
        return (function(a[0], b[0]), function(a[1], b[1]),
                function(a[2], b[2]), function(a[3], b[3]),
                function(a[4], b[4]), function(a[5], b[5]),
                function(a[6], b[6]), function(a[7], b[7]))  # fmt: skip

    return {1: one, 4: four, 8: eight}[count]


def _largest(nan: str, count: int) -> DeviceFunction:
    """Device function: (bits of amax, tuple of `count` z) -> bits of the larger amax."""
    size_of = magnitude("fp32", {"propagate": False, "skip": True}[nan])

    @device
    def of(z: Any) -> Any:
        return size_of(uint32(libdevice.float_as_int(z)))

    @device
    def one(amax: Any, z: Any) -> Any:
        return max(amax, of(z[0]))

    @device
    def four(amax: Any, z: Any) -> Any:
        return max(amax, max(max(of(z[0]), of(z[1])), max(of(z[2]), of(z[3]))))

    @device
    def eight(amax: Any, z: Any) -> Any:
        low, high = four(amax, z), max(max(of(z[4]), of(z[5])), max(of(z[6]), of(z[7])))
        return max(low, high)

    return {1: one, 4: four, 8: eight}[count]


def _store(dialect: Dialect, multiplier: str, count: int) -> DeviceFunction:
    """Device function: (codes, element, tuple of `count` z, factor): writes their codes."""
    code_of = code_function("fp32", dialect, multiplier)

    @device
    def code(z: Any, factor: Any) -> Any:
        return code_of(uint32(libdevice.float_as_int(z)), factor)

    @device
    def one(codes: Device, at: Any, z: Any, factor: Any) -> None:
        codes[at] = int8(code(z[0], factor))

    @device
    def first_four(z: Any, factor: Any) -> Any:
        return pack4(code(z[0], factor), code(z[1], factor),
                     code(z[2], factor), code(z[3], factor))  # fmt: skip

    @device
    def last_four(z: Any, factor: Any) -> Any:
        return pack4(code(z[4], factor), code(z[5], factor),
                     code(z[6], factor), code(z[7], factor))  # fmt: skip

    @device
    def four(codes: Device, at: Any, z: Any, factor: Any) -> None:
        store_words1(codes, at, (first_four(z, factor),))

    @device
    def eight(codes: Device, at: Any, z: Any, factor: Any) -> None:
        store_words2(codes, at, (first_four(z, factor), last_four(z, factor)))

    return {1: one, 4: four, 8: eight}[count]


def dynamic_function(values: Values, dialect: Dialect, count: int) -> DeviceFunction:
    """Device function (sources, codes, scales, accesses): the block's row under its own scale.

    codes: s8 (rows * length,); scales: fp32 (rows,); accesses: in a row, int64.
    """
    load, compute = values.load, values.compute
    largest, store = _largest(dialect.nan, count), _store(dialect, dialect.multiplier, count)
    scale_of, factor_of = scale_function("fp32", dialect), factor_function("fp32", dialect)

    @device
    def quantize(sources: Any, codes: Device, scales: Device, accesses: Any) -> None:
        row, lane, step = uint64(cuda.blockIdx.x), uint64(cuda.laneid), uint64(cuda.blockDim.x)
        items = uint64(accesses)
        base = row * items * uint64(count)
        i = uint64(cuda.threadIdx.x)
        j, beyond = i + step, i + uint64(KEPT) * step
        a, b = load(sources, row, items, i, i < items), load(sources, row, items, j, j < items)
        first, second = compute(a), compute(b)
        amax = largest(int32(0), first) if i < items else int32(0)
        amax = largest(amax, second) if j < items else amax
        n = beyond
        while n - lane < items:
            held = load(sources, row, items, n, n < items)
            amax = largest(amax, compute(held)) if n < items else amax
            n += step
        joint = libdevice.int_as_float(block_max(amax))
        scale = scale_of(joint)
        factor = factor_of(joint, scale)
        if i < items:
            store(codes, base + i * uint64(count), first, factor)
        if j < items:
            store(codes, base + j * uint64(count), second, factor)
        n = beyond
        while n - lane < items:
            held = load(sources, row, items, n, n < items)
            if n < items:
                store(codes, base + n * uint64(count), compute(held), factor)
            n += step
        if i == uint64(0):
            scales[row] = scale

    return quantize


@device
def _for_warp(numbers: Device, at: Any) -> Any:
    """numbers[at], fp32, the same for all lanes of a warp: the first loads it, and all call it."""
    mine = numbers[at] if cuda.laneid == 0 else float32(0)
    return cuda.shfl_sync(uint32(ALL_LANES), mine, int32(0))


def static_function(values: Values, dialect: Dialect, count: int) -> DeviceFunction:
    """Device function (sources, scales, codes, accesses): the block's row under a given scale.

    scales: fp32 (1,) or (rows,); codes: s8 (rows * length,); accesses: in a row, int64.
    """
    load, compute, multiplier = values.load, values.compute, dialect.static_multiplier
    store = _store(dialect, multiplier, count)
    inverts = {"x/s": False, "x*(1/s)": True}[multiplier]

    @device
    def quantize(sources: Any, scales: Device, codes: Device, accesses: Any) -> None:
        row, lane, step = uint64(cuda.blockIdx.x), uint64(cuda.laneid), uint64(cuda.blockDim.x)
        items = uint64(accesses)
        base = row * items * uint64(count)
        given = _for_warp(scales, row if scales.shape[0] > 1 else uint64(0))
        factor = libdevice.fdiv_rn(float32(1), given) if inverts else given
        n = uint64(cuda.threadIdx.x)
        while n - lane < items:
            held = load(sources, row, items, n, n < items)
            if n < items:
                store(codes, base + n * uint64(count), compute(held), factor)
            n += step

    return quantize


def plan(x: Any, length: int, *others: Any) -> tuple[str, bool, int]:
    """(dtype, wide, accesses a row) for rows of z of `length`: whether pointers and rows of x, and
    pointers of `others`, allow 16 bytes at a time.
    """
    dtype = dtype_name(x.dtype) or ""
    wide = launch.aligned(x, length * x.dtype.itemsize, WIDE)
    wide = wide and all(launch.aligned(other, WIDE, WIDE) for other in others)
    return dtype, wide, length // per_access(dtype, wide)


def block(items: int, each: int) -> tuple[int]:
    """Threads of a row of `items` accesses, up to `each` of them a thread."""
    return (min(THREADS, 32 * -(-items // (32 * each))),)
