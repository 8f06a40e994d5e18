"""A thread's accesses to asymmetric rows: 16 bytes of x (of out) if wide, else an element.

Contract: `at` counts elements of the array; the arithmetic is asymmetric.py's.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from kernels_numba.asymmetric import code_function, kept, widening_by
from kernels_numba.device import (
    SIZE,
    Device,
    DeviceFunction,
    device,
    int32,
    libdevice,
    load_words1,
    load_words2,
    load_words4,
    narrow,
    pack4,
    store_words1,
    store_words2,
    store_words4,
    uint8,
    uint16,
    uint32,
)
from reference.dialects import Dialect

WIDE = 16  # bytes of x per access


@cache
def widening(dtype: str, azp_range: str, nan: str, wide: bool) -> DeviceFunction:
    """Device function: (range, access) -> the range that holds the access's elements, too."""
    widened = widening_by(dtype, azp_range, nan)

    @device
    def one(keys: Any, bits: Any) -> Any:
        return widened(keys, bits)

    @device
    def four(keys: Any, w: Any) -> Any:
        return widened(widened(widened(widened(keys, w[0]), w[1]), w[2]), w[3])

    @device
    def pair(keys: Any, word: Any) -> Any:
        return widened(widened(keys, word & uint32(0xFFFF)), word >> uint32(16))

    @device
    def eight(keys: Any, w: Any) -> Any:
        return pair(pair(pair(pair(keys, w[0]), w[1]), w[2]), w[3])

    return {4: four, 2: eight}[SIZE[dtype]] if wide else one


@cache
def load(wide: bool) -> DeviceFunction:
    """Device function: (x, at) -> one access."""

    @device
    def sixteen_bytes(x: Device, at: Any) -> Any:
        return load_words4(x, at)

    @device
    def element(x: Device, at: Any) -> Any:
        return x[at]

    return sixteen_bytes if wide else element


@cache
def nothing(dtype: str, wide: bool) -> DeviceFunction:
    """Device function: () -> an access of nothing but zeros."""

    @device
    def sixteen_bytes() -> Any:
        return (uint32(0), uint32(0), uint32(0), uint32(0))

    @device
    def four_bytes() -> Any:
        return uint32(0)

    @device
    def two_bytes() -> Any:
        return uint16(0)

    return sixteen_bytes if wide else {4: four_bytes, 2: two_bytes}[SIZE[dtype]]


@cache
def store(dtype: str, dialect: Dialect, wide: bool, multiplier: str) -> DeviceFunction:
    """Device function: (codes, at, access, how): stores its codes."""
    code = code_function(dtype, dialect, multiplier)

    @device
    def one(codes: Device, at: Any, bits: Any, how: Any) -> None:
        codes[at] = uint8(code(bits, how))

    @device
    def four(codes: Device, at: Any, w: Any, how: Any) -> None:
        packed = pack4(code(w[0], how), code(w[1], how), code(w[2], how), code(w[3], how))
        store_words1(codes, at, (packed,))

    @device
    def pair(v: Any, w: Any, how: Any) -> Any:
        low, top = uint32(0xFFFF), uint32(16)
        a, b = code(v & low, how), code(v >> top, how)
        return pack4(a, b, code(w & low, how), code(w >> top, how))

    @device
    def eight(codes: Device, at: Any, w: Any, how: Any) -> None:
        store_words2(codes, at, (pair(w[0], w[1], how), pair(w[2], w[3], how)))

    return {4: four, 2: eight}[SIZE[dtype]] if wide else one


def per_access(dtype: str, wide: bool) -> int:
    return WIDE // SIZE[dtype] if wide else 1


@cache
def shifting(out_dtype: str, difference: str) -> DeviceFunction:
    """Device function: (zero point, lowest code) -> what `dequantizing` takes of them."""
    to_output = kept(out_dtype, True)

    @device
    def less_lowest(zero_point: Any, lowest: Any) -> Any:
        return uint32(uint32(zero_point) - uint32(lowest))

    @device
    def rounded(zero_point: Any, lowest: Any) -> Any:
        return (int32(lowest), to_output(libdevice.int2float_rn(int32(zero_point))))

    return {"int32": less_lowest, "output": rounded}[difference]


@cache
def dequantizing(out_dtype: str, wide: bool, difference: str) -> DeviceFunction:
    """Device function: (codes, out, at, bits that turn a code's sign, scale, the zero point as
    `shifting` has it): 16 bytes of out if wide, else an element. Codes less the lowest are 0..255.
    """
    to_bits, to_output = narrow(out_dtype), kept(out_dtype, True)

    @device
    def in_int32(code: Any, zero: Any) -> Any:
        return libdevice.int2float_rn(int32(uint32(code) - zero))

    @device
    def in_output(code: Any, zero: Any) -> Any:
        value = libdevice.int2float_rn(int32(int32(code) + zero[0]))
        return to_output(libdevice.fsub_rn(value, zero[1]))

    steps_of = {"int32": in_int32, "output": in_output}[difference]

    @device
    def product(word: Any, place: Any, scale: Any, zero: Any) -> Any:
        code = uint32(word >> uint32(8 * place)) & uint32(0xFF)
        return to_bits(libdevice.fmul_rn(steps_of(code, zero), scale))

    @device
    def pair(word: Any, place: Any, scale: Any, zero: Any) -> Any:
        low, high = product(word, place, scale, zero), product(word, place + 1, scale, zero)
        return uint32(uint32(low) | (uint32(high) << uint32(16)))

    @device
    def one(codes: Device, out: Device, at: Any, turned: Any, scale: Any, zero: Any) -> None:
        out[at] = product(uint32(codes[at]) ^ turned, 0, scale, zero)

    @device
    def four(codes: Device, out: Device, at: Any, turned: Any, scale: Any, zero: Any) -> None:
        w = uint32(load_words1(codes, at)[0] ^ turned)
        a, b = product(w, 0, scale, zero), product(w, 1, scale, zero)
        c, d = product(w, 2, scale, zero), product(w, 3, scale, zero)
        store_words4(out, at, (uint32(a), uint32(b), uint32(c), uint32(d)))

    @device
    def eight(codes: Device, out: Device, at: Any, turned: Any, scale: Any, zero: Any) -> None:
        words = load_words2(codes, at)
        v, w = uint32(words[0] ^ turned), uint32(words[1] ^ turned)
        a, b = pair(v, 0, scale, zero), pair(v, 2, scale, zero)
        store_words4(out, at, (a, b, pair(w, 0, scale, zero), pair(w, 2, scale, zero)))

    return {4: four, 2: eight}[SIZE[out_dtype]] if wide else one
