"""One access of a row kernel: four words of x, or one element; its largest magnitude, its codes.

Contract: `wide` accesses move 16 bytes of x, where pointers and lengths allow; words hold the bits
of two fp16 or bf16 elements or one fp32. Codes of a wide access leave in one store. What an
element's code is, the dialect says (dialect.py).
"""

from __future__ import annotations

from typing import Any

from kernels_numba.device import (
    SIZE,
    Device,
    DeviceFunction,
    device,
    int8,
    int32,
    load_words4,
    magnitude,
    pack4,
    store_words1,
    store_words2,
    uint32,
    widen,
)
from kernels_numba.dialect import both_ends, code_function, scale_key
from reference.dialects import Dialect

WIDE = 16  # bytes of x, or of out, per access


def access(dtype: str, wide: bool) -> tuple[DeviceFunction, DeviceFunction, int]:
    """(device function (x, at) -> words, the words that stand for none, elements per access)."""

    @device
    def words(x: Device, at: Any) -> Any:
        return load_words4(x, at)

    @device
    def no_words() -> Any:
        return uint32(0), uint32(0), uint32(0), uint32(0)

    @device
    def element(x: Device, at: Any) -> Any:
        return (uint32(x[at]),)

    @device
    def no_element() -> Any:
        return (uint32(0),)

    return (words, no_words, WIDE // SIZE[dtype]) if wide else (element, no_element, 1)


def sizes(dialect: Dialect) -> str:
    """What of a dialect `largest_of` needs to know: its NaN rule, or "ends" if `both_ends`."""
    return "ends" if both_ends(dialect) else dialect.nan


def largest_of(dtype: str, size: str, wide: bool) -> DeviceFunction:
    """Device function: words of an access -> bits of their largest |x|, NaN by rule, or of their
    largest `scale_key`. size: a word of `sizes`.
    """
    to_float = widen(dtype)

    @device
    def key_of(bits: Any) -> Any:
        return scale_key(to_float(bits))

    ends = size == "ends"
    size_of = key_of if ends else magnitude(dtype, {"propagate": False, "skip": True}[size])
    halves = wide and SIZE[dtype] == 2

    @device
    def whole(words: Any) -> Any:
        largest = int32(0)
        for word in words:
            largest = max(largest, size_of(word))
        return largest

    @device
    def split(words: Any) -> Any:
        largest = int32(0)
        for word in words:
            largest = max(largest, size_of(word & uint32(0xFFFF)))
            largest = max(largest, size_of(word >> uint32(16)))
        return largest

    return split if halves else whole


def encoder(dtype: str, dialect: Dialect, wide: bool, multiplier: str) -> DeviceFunction:
    """Device function: (words, codes, at, factor): stores the codes of an access."""
    code = code_function(dtype, dialect, multiplier)

    @device
    def one(words: Any, codes: Device, at: Any, factor: Any) -> None:
        codes[at] = int8(code(words[0], factor))

    @device
    def four(w: Any, codes: Device, at: Any, factor: Any) -> None:
        packed = pack4(code(w[0], factor), code(w[1], factor),
                       code(w[2], factor), code(w[3], factor))  # fmt: skip
        store_words1(codes, at, (packed,))

    @device
    def pair(first: Any, second: Any, factor: Any) -> Any:
        low, top = uint32(0xFFFF), uint32(16)
        return pack4(code(first & low, factor), code(first >> top, factor),
                     code(second & low, factor), code(second >> top, factor))  # fmt: skip

    @device
    def eight(w: Any, codes: Device, at: Any, factor: Any) -> None:
        store_words2(codes, at, (pair(w[0], w[1], factor), pair(w[2], w[3], factor)))

    return {4: four, 2: eight}[SIZE[dtype]] if wide else one
