"""Device functions that all kernels of this wing share: float formats, wide accesses, reductions.

Contract:
- Float arrays reach the kernels as their bits (`STORAGE`): fp32 as uint32, fp16 and bf16 as
  uint16. `widen(dtype)` gives the exact float32 of such bits; `narrow(dtype)` rounds a float32 to
  nearest even into them, keeps subnormals, overflows to infinity and makes every NaN canonical
  (0x7fffffff, 0x7fff).
- Float arithmetic is spelled with libdevice's `_rn` functions, which the compiler may not contract;
  Numba has no flag for that, and launch.py refuses kernels that use `*` or `+` on floats.
- Device functions are compiled once and inlined by NVVM (inlined.py).
- Integers: Numba widens int32 op int32 to int64, and mixes uint64 with int64 into float64. Indices
  are uint64 throughout; whatever shall stay 32 bits wide is cast at every step.

Source: PTX ISA, "cvt" (float to integer: NaN is 0, the rest saturates), "dp4a", "shfl.sync".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba.cuda
from llvmlite import ir
from numba import types
from numba.cuda import extending

from kernels_numba.inlined import device

# Numba's annotations describe the host's side; inside kernels these names mean something else.
cuda: Any = numba.cuda
intrinsic: Any = extending.intrinsic  # its annotations are those of the typing function, not a call
libdevice: Any = cuda.libdevice
float32: Any = types.float32
int8: Any = types.int8
int32: Any = types.int32
uint8: Any = types.uint8
uint16: Any = types.uint16
uint32: Any = types.uint32
uint64: Any = types.uint64

DeviceFunction = Callable[..., Any]
Device = Any  # an array on the device; its shape and dtype stand in the docstring

STORAGE = {"fp32": "uint32", "fp16": "uint16", "bf16": "uint16"}
SIZE = {"fp32": 4, "fp16": 2, "bf16": 2}
_MAGNITUDE = {"fp32": 0x7FFFFFFF, "fp16": 0x7FFF, "bf16": 0x7FFF}
_INFINITY = {"fp32": 0x7F800000, "fp16": 0x7C00, "bf16": 0x7F80}
ALL_LANES = 0xFFFFFFFF


# -- float formats ---------------------------------------------------------------------------------


@device
def _widen_fp32(bits: Any) -> Any:
    return libdevice.int_as_float(int32(bits))


@device
def _widen_fp16(bits: Any) -> Any:
    return libdevice.half2float(uint16(bits))


@device
def _widen_bf16(bits: Any) -> Any:
    return libdevice.int_as_float(int32(uint32(bits) << uint32(16)))


@device
def _narrow_fp32(value: Any) -> Any:
    return uint32(libdevice.float_as_int(value))


@device
def _narrow_fp16(value: Any) -> Any:
    return uint16(libdevice.float2half_rn(value))


@device
def _narrow_bf16(value: Any) -> Any:
    bits = uint32(libdevice.float_as_int(value))
    odd = uint32((bits >> uint32(16)) & uint32(1))
    rounded = uint32(bits + uint32(0x7FFF) + odd) >> uint32(16)
    is_nan = uint32(bits & uint32(0x7FFFFFFF)) > uint32(0x7F800000)
    return uint16(0x7FFF) if is_nan else uint16(rounded)


_WIDEN = {"fp32": _widen_fp32, "fp16": _widen_fp16, "bf16": _widen_bf16}
_NARROW = {"fp32": _narrow_fp32, "fp16": _narrow_fp16, "bf16": _narrow_bf16}


def widen(dtype: str) -> DeviceFunction:
    """Device function: bits of "fp32", "fp16" or "bf16" -> float32, exactly."""
    return _WIDEN[dtype]


def narrow(dtype: str) -> DeviceFunction:
    """Device function: float32 -> bits of "fp32", "fp16" or "bf16", to nearest even."""
    return _NARROW[dtype]


def magnitude(dtype: str, skip_nan: bool) -> DeviceFunction:
    """Device function: bits -> bits of |x| as int32, which order as the numbers do.

    NaN lies above infinity, so that a maximum propagates it, or counts as 0 with `skip_nan`.
    """
    mask, infinity = _MAGNITUDE[dtype], _INFINITY[dtype]

    @device
    def of(bits: Any) -> Any:
        size = int32(uint32(bits) & uint32(mask))
        return int32(0) if skip_nan and size > int32(infinity) else size

    return of


# -- wide accesses ---------------------------------------------------------------------------------


def _loader(words: int) -> DeviceFunction:
    """Intrinsic (array, element offset) -> `words` uint32 in one access, aligned to its width."""

    @intrinsic
    def load(typingctx: Any, array: Any, offset: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vector = builder.load(
                _vector_pointer(context, builder, signature, args, words), align=4 * words
            )
            parts = [builder.extract_element(vector, _index(i)) for i in range(words)]
            return context.make_tuple(builder, signature.return_type, parts)

        return types.UniTuple(types.uint32, words)(array, types.uint64), generate

    return load


def _storer(words: int) -> DeviceFunction:
    """Intrinsic (array, element offset, tuple of `words` uint32): stores them in one access."""

    @intrinsic
    def store(typingctx: Any, array: Any, offset: Any, values: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vector = ir.Constant(ir.VectorType(ir.IntType(32), words), ir.Undefined)
            for i in range(words):
                part = builder.extract_value(args[2], i)
                vector = builder.insert_element(vector, part, _index(i))
            target = _vector_pointer(context, builder, signature, args, words)
            builder.store(vector, target, align=4 * words)
            return context.get_dummy_value()

        return types.void(array, types.uint64, types.UniTuple(types.uint32, words)), generate

    return store


def _vector_pointer(context: Any, builder: Any, signature: Any, args: Any, words: int) -> Any:
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    kind = ir.VectorType(ir.IntType(32), words).as_pointer()
    return builder.bitcast(builder.gep(data, [args[1]]), kind)


def _index(i: int) -> ir.Constant:
    return ir.Constant(ir.IntType(32), i)


load_words4 = _loader(4)
load_words2 = _loader(2)
load_words1 = _loader(1)
store_words1 = _storer(1)
store_words2 = _storer(2)
store_words4 = _storer(4)


@device
def pack4(first: Any, second: Any, third: Any, fourth: Any) -> Any:
    """Four s8 -> one uint32, the first in the low byte."""
    low = (uint32(first) & uint32(0xFF)) | ((uint32(second) & uint32(0xFF)) << uint32(8))
    high = (uint32(third) & uint32(0xFF)) | ((uint32(fourth) & uint32(0xFF)) << uint32(8))
    return uint32(low | (high << uint32(16)))


def _instruction(text: str, constraints: str, kind: Any) -> DeviceFunction:
    """Intrinsic (a, b, c) -> result of one PTX instruction; all four of one 32-bit type."""

    @intrinsic
    def call(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = context.get_value_type(kind)
            function = ir.FunctionType(value, (value, value, value))
            return builder.call(ir.InlineAsm(function, text, constraints), args)

        return kind(kind, kind, kind), generate

    return call


# c + a . b over the four s8 pairs of two int32; wraps.
dp4a = _instruction("dp4a.s32.s32 $0, $1, $2, $3;", "=r,r,r,r", int32)
# round(a * b + c), one rounding; by hand, as the contraction check asks.
fused_multiply_add = _instruction("fma.rn.f32 $0, $1, $2, $3;", "=f,f,f,f", float32)


# -- reductions ------------------------------------------------------------------------------------


@device
def _warp_max(value: Any) -> Any:
    apart = int32(16)
    while apart > 0:
        value = max(value, cuda.shfl_xor_sync(uint32(ALL_LANES), value, apart))
        apart = int32(apart >> 1)
    return value


@device
def block_max(value: Any) -> Any:
    """The largest int32 >= 0 among the block's threads, in each of them.

    Whole warps, at most 32 of them, all threads present. One barrier: call it once per kernel.
    """
    largest = cuda.shared.array(32, int32)
    of_warp = _warp_max(value)
    if cuda.laneid == 0:
        largest[uint64(cuda.threadIdx.x) >> uint64(5)] = of_warp
    cuda.syncthreads()
    warps = uint64(cuda.blockDim.x) >> uint64(5)
    lane = uint64(cuda.laneid)
    return _warp_max(largest[lane] if lane < warps else int32(0))
