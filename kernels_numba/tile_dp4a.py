"""A 64 x 64 tile of a @ b.T by dp4a: 256 threads, 4 x 4 neighbouring results each.

Contract: both operands pass through shared memory, so that each code is read from memory once per
tile. There, word w (four codes) of row r lies at [w][r] with r's group of four xor-ed by 2 (w / 4):
a thread reads four rows of a and four of b at one word with two 16-byte loads, and neither these
nor the stores meet a bank twice. 16 dp4a follow on them.

Sums: a local s32 array (16,), [4 i + j] of rows 4 y + i and columns 4 x + j, x = thread % 16 and
y = thread / 16; only constant indices touch it (`_steps` and `take` are unrolled in LLVM's IR).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import types

from kernels_numba.device import Device, DeviceFunction, cuda, device, intrinsic, uint32, uint64
from kernels_numba.intrinsics import (
    assembly,
    constant,
    data_of,
    rolled,
    slot,
    store_shared,
)
from kernels_numba.tile import DEPTH, fetch_chunk

TILE = 64  # rows and columns
THREADS = 256
SUMS = 16
TILE_BYTES = TILE * DEPTH
SHARED_BYTES = 2 * TILE_BYTES
ROW_BYTES = 4 * TILE  # of one word of all rows


@cache
def _steps(signed: bool) -> DeviceFunction:
    """Intrinsic (sums, a, b): the products of four words.

    a, b: shared addresses of this thread's four rows at the first of the words.
    """
    dot = f"dp4a.{'s32' if signed else 'u32'}.s32 $0, $1, $2, $3;"

    @intrinsic
    def steps(typingctx: Any, sums: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = data_of(context, builder, signature.args[0], args[0])
            for word in range(4):
                load = f"ld.shared.v4.b32 {{$0, $1, $2, $3}}, [$4+{word * ROW_BYTES}];"
                rows = assembly(builder, load, 4, [args[1]], clobbers=True)
                columns = assembly(builder, load, 4, [args[2]], clobbers=True)
                for i, x in enumerate(rows):
                    for j, y in enumerate(columns):
                        place = slot(builder, data, 4 * i + j)
                        made = assembly(builder, dot, 1, [x, y, builder.load(place)])
                        builder.store(made[0], place)
            return context.get_dummy_value()

        return types.void(sums, types.uint32, types.uint32), generate

    return steps


@intrinsic
def take(typingctx: Any, sums: Any, i: Any) -> Any:
    """Intrinsic (sums, i) -> the four sums of a thread's row i, by selection among all."""
    kind = types.UniTuple(types.uint32, 4)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = data_of(context, builder, signature.args[0], args[0])
        row = [builder.load(slot(builder, data, j)) for j in range(4)]
        for number in range(1, 4):
            chosen = builder.icmp_unsigned("==", args[1], constant(number))
            for j in range(4):
                other = builder.load(slot(builder, data, 4 * number + j))
                row[j] = builder.select(chosen, other, row[j])
        return context.make_tuple(builder, kind, row)

    return kind(sums, types.uint32), generate


@device
def _place(word: Any, group: Any) -> Any:
    """Byte of four rows (a group) at a word, in a tile."""
    swizzled = group ^ ((word >> uint32(1)) & uint32(6))
    return uint32(word * uint32(ROW_BYTES) + swizzled * uint32(16))


@cache
def accumulator(
    signed: bool, zero: DeviceFunction, fetch: DeviceFunction = fetch_chunk
) -> DeviceFunction:
    """Device function (a, b, tile, k, end, copy, base, sums): this thread's sums over k .. end.

    tile: what tile.block_tile gives; base: shared address of SHARED_BYTES; zero: clears sums;
    fetch: as tile.fetch_chunk, brings 16 codes of a, which may be anything that it takes. A thread
    fetches of one row of the tile only, number threadIdx.x / 4.
    """
    steps = _steps(signed)

    @device
    def store_chunk(to: Any, chunk: Any) -> None:
        store_shared(to, chunk[0])
        store_shared(uint32(to + uint32(ROW_BYTES)), chunk[1])
        store_shared(uint32(to + uint32(2 * ROW_BYTES)), chunk[2])
        store_shared(uint32(to + uint32(3 * ROW_BYTES)), chunk[3])

    @device
    def accumulate(
        a: Device, b: Device, tile: Any, k: Any, end: Any, copy: Any, base: Any, sums: Any
    ) -> None:
        thread = uint32(cuda.threadIdx.x)
        row, quarter = thread >> uint32(2), thread & uint32(3)
        to = base + _place(uint32(quarter * uint32(4)), uint32(row >> uint32(2)))
        to = uint32(to + (row & uint32(3)) * uint32(4))
        y, x = thread >> uint32(4), thread & uint32(15)
        row_a, row_b = tile[0] + uint64(row), tile[2] + uint64(row)
        at = k + uint64(quarter) * uint64(16)
        zero(sums)
        while k < end:
            from_a = fetch(a, row_a, tile[1], at, end, copy)
            from_b = fetch_chunk(b, row_b, tile[3], at, end, copy)
            cuda.syncthreads()
            store_chunk(to, from_a)
            store_chunk(uint32(to + uint32(TILE_BYTES)), from_b)
            cuda.syncthreads()
            for word in range(0, DEPTH // 4, 4):
                a_at = uint32(base + _place(uint32(word), uint32(y)))
                b_at = uint32(base + _place(uint32(word), uint32(x)) + uint32(TILE_BYTES))
                steps(sums, a_at, b_at)
            at += uint64(DEPTH)
            k += uint64(DEPTH)

    return accumulate


@cache
def hand_over(columns: DeviceFunction, put: DeviceFunction) -> DeviceFunction:
    """Device function (sums, tile, given, out): every result through `put` (tile_results.py)."""

    @device
    def hand(sums: Any, tile: Any, given: Any, out: Device) -> None:
        thread = uint32(cuda.threadIdx.x)
        n = tile[4] + uint64((thread & uint32(15)) * uint32(4))
        m = tile[0] + uint64((thread >> uint32(4)) * uint32(4))
        of_columns = columns(given, n, out)
        i = uint32(0)
        while i < rolled(uint32(4)):
            if m < tile[1]:
                put(given, of_columns, m, n, take(sums, i), out)
            m += uint64(1)
            i = uint32(i + uint32(1))

    return hand
