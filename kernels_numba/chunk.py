"""Chunks of 8 neighbouring elements of a row: what one lane loads, holds as float32 and stores.

Contract: a row starts at element `row` of a flat array and has `columns` elements; chunk c is its
elements 8c .. 8c+7, held in `values[at]` .. `values[at + 7]`, a local array that only constant
indices touch. Elements beyond the row are 0 when loaded and not stored. `wide`: by accesses of 16
bytes, to which rows are aligned, and 8 divides `columns`; else element by element.

Eight fp32 have 32 bytes, two accesses. So that each request of a warp still moves whole sectors,
two neighbouring lanes share their two chunks: as parts, the even lane holds the first half of both
and the odd lane the second; `own_chunk` exchanges them. Hence all lanes load, exchange and store
together, with neighbouring chunks, an even one in an even lane. Elsewhere the parts are the chunk.
"""

from __future__ import annotations

import functools
from typing import Any

from kernels_numba.device import (
    ALL_LANES,
    Device,
    DeviceFunction,
    cuda,
    device,
    float32,
    int8,
    libdevice,
    load_words4,
    narrow,
    pack4,
    store_words2,
    store_words4,
    uint32,
    uint64,
    widen,
)

CHUNK = 8


@device
def _clear(values: Device, at: Any, count: Any) -> None:
    for i in range(count):
        values[at + i] = float32(0)


@device
def _paired(chunk: Any, second: Any) -> Any:
    """Where in the row a pair's first or second four parts lie."""
    half = (uint64(cuda.threadIdx.x) & uint64(1)) * uint64(4)
    pair = (chunk >> uint64(1)) << uint64(1)
    return (pair + second) * uint64(CHUNK) + half


@functools.cache
def part_loader(dtype: str, wide: bool) -> DeviceFunction:
    """Device function: (array, row, columns, chunk, values, at): loads the parts of a chunk."""
    to_float = widen(dtype)

    @device
    def element_wise(
        array: Device, row: Any, columns: Any, chunk: Any, values: Device, at: Any
    ) -> None:
        for i in range(CHUNK):
            place = chunk * uint64(CHUNK) + uint64(i)
            values[at + i] = to_float(array[row + place]) if place < columns else float32(0)

    @device
    def two_byte(
        array: Device, row: Any, columns: Any, chunk: Any, values: Device, at: Any
    ) -> None:
        place = chunk * uint64(CHUNK)
        if place < columns:
            words = load_words4(array, row + place)
            for i in range(4):
                values[at + 2 * i] = to_float(words[i] & uint32(0xFFFF))
                values[at + 2 * i + 1] = to_float(words[i] >> uint32(16))
        else:
            _clear(values, at, 8)

    @device
    def four_byte(
        array: Device, row: Any, columns: Any, chunk: Any, values: Device, at: Any
    ) -> None:
        for second in range(2):
            place = _paired(chunk, uint64(second))
            if place < columns:
                words = load_words4(array, row + place)
                for i in range(4):
                    values[at + 4 * second + i] = to_float(words[i])
            else:
                _clear(values, at + 4 * second, 4)

    if not wide:
        return element_wise
    return {"fp32": four_byte, "fp16": two_byte, "bf16": two_byte}[dtype]


@functools.cache
def own_chunk(dtype: str, wide: bool) -> DeviceFunction:
    """Device function: (values, at): parts become the lane's chunk. All lanes take part."""

    @device
    def exchanged(values: Device, at: Any) -> None:
        odd = (uint32(cuda.threadIdx.x) & uint32(1)) == uint32(1)
        for i in range(4):
            first, second = values[at + i], values[at + i + 4]
            got = cuda.shfl_xor_sync(uint32(ALL_LANES), first if odd else second, 1)
            values[at + i] = got if odd else first
            values[at + i + 4] = second if odd else got

    @device
    def as_it_is(values: Device, at: Any) -> None:
        return

    return exchanged if wide and dtype == "fp32" else as_it_is


@functools.cache
def part_storer(dtype: str, wide: bool) -> DeviceFunction:
    """Device function: (array, row, columns, chunk, values, at): stores values of `dtype`."""
    to_bits = narrow(dtype)

    @device
    def element_wise(
        array: Device, row: Any, columns: Any, chunk: Any, values: Device, at: Any
    ) -> None:
        for i in range(CHUNK):
            place = chunk * uint64(CHUNK) + uint64(i)
            if place < columns:
                array[row + place] = to_bits(values[at + i])

    @device
    def pair(values: Device, at: Any) -> Any:
        return uint32(uint32(to_bits(values[at])) | (uint32(to_bits(values[at + 1])) << uint32(16)))

    @device
    def two_byte(
        array: Device, row: Any, columns: Any, chunk: Any, values: Device, at: Any
    ) -> None:
        place = chunk * uint64(CHUNK)
        if place < columns:
            low, high = (
                (pair(values, at), pair(values, at + 2)),
                (
                    pair(values, at + 4),
                    pair(values, at + 6),
                ),
            )
            store_words4(array, row + place, (low[0], low[1], high[0], high[1]))

    @device
    def word(values: Device, at: Any) -> Any:
        return uint32(to_bits(values[at]))

    @device
    def four_byte(
        array: Device, row: Any, columns: Any, chunk: Any, values: Device, at: Any
    ) -> None:
        for second in range(2):
            place = _paired(chunk, uint64(second))
            if place < columns:
                i = at + 4 * second
                words = word(values, i), word(values, i + 1), word(values, i + 2)
                store_words4(array, row + place, (*words, word(values, i + 3)))

    if not wide:
        return element_wise
    return {"fp32": four_byte, "fp16": two_byte, "bf16": two_byte}[dtype]


def code_storer(code: DeviceFunction, wide: bool) -> DeviceFunction:
    """Device function: (codes, row, columns, chunk, values, at, factor): code(bits, factor) of each
    value, one byte each.
    """

    @device
    def of(values: Device, at: Any, factor: Any) -> Any:
        return code(uint32(libdevice.float_as_int(values[at])), factor)

    @device
    def element_wise(
        codes: Device, row: Any, columns: Any, chunk: Any, values: Device, at: Any, factor: Any
    ) -> None:
        for i in range(CHUNK):
            place = chunk * uint64(CHUNK) + uint64(i)
            if place < columns:
                codes[row + place] = int8(of(values, at + i, factor))

    @device
    def four(values: Device, at: Any, factor: Any) -> Any:
        first, second = of(values, at, factor), of(values, at + 1, factor)
        return pack4(first, second, of(values, at + 2, factor), of(values, at + 3, factor))

    @device
    def eight(
        codes: Device, row: Any, columns: Any, chunk: Any, values: Device, at: Any, factor: Any
    ) -> None:
        place = chunk * uint64(CHUNK)
        if place < columns:
            packed = four(values, at, factor), four(values, at + 4, factor)
            store_words2(codes, row + place, packed)

    return eight if wide else element_wise
