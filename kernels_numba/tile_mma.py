"""A tile of a @ b.T by tensor cores, mma.sync m16n8k32, in the shapes of tile_shapes.py.

Contract: a stage of shared memory holds DEPTH codes of the tile's rows of a, then of b, laid out
as tile.py says. Two ways to fill stages:

    one_stage   16-byte loads to registers, barrier, store, barrier, multiply
    pipelined   cp.async fills `stages` of them in turn while the one that has landed is multiplied

Fragments (PTX ISA, m16n8k32): ldmatrix hands lane l the 4 bytes at column 4 (l % 4) of row l / 4 of
each 8 x 16-byte matrix, which is where mma wants a (row-major) and b (K-major) alike. The sums of a
lane lie in a local array that only constant indices touch, [i][j][0..3] for 16 rows i and 8 columns
j, so in registers; i and j are unrolled in LLVM's IR, where Numba's own loops need not be.

Results leave through shared memory, 16 rows of a warp at a time (`hand_over`), so that every lane
gets four neighbouring columns and rows leave in whole sectors. Rows are 8 words longer there than
a warp is wide: stores of two words and loads of four meet no bank twice.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import types

from kernels_numba.device import Device, DeviceFunction, cuda, device, intrinsic, uint32, uint64
from kernels_numba.intrinsics import (
    address_of,
    assembly,
    commit_copies,
    constant,
    copy_async4,
    copy_async16,
    data_of,
    load_shared4,
    rolled,
    slot,
    store_shared,
    store_shared4,
    wait_copies,
)
from kernels_numba.tile import DEPTH, fetch_chunk, tile_offset, word_of_bytes
from kernels_numba.tile_shapes import COLUMNS, Shape

# -- multiplying -----------------------------------------------------------------------------------


@cache
def zeroed(count: int) -> DeviceFunction:
    """Intrinsic (local s32 array): sets its `count` elements to 0."""

    @intrinsic
    def zero(typingctx: Any, sums: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = data_of(context, builder, signature.args[0], args[0])
            for place in range(count):
                builder.store(constant(0), slot(builder, data, place))
            return context.get_dummy_value()

        return types.void(sums), generate

    return zero


@cache
def _multiplier(shape: Shape, signed: bool) -> DeviceFunction:
    """Intrinsic (sums, stage, a_at, b_at): adds a whole stage's products.

    stage: shared address; a_at, b_at: bytes from there to this lane's matrix rows at the stage's
    first 32 codes. The other 32 lie where bit 5 differs.
    """
    mma = (
        f"mma.sync.aligned.m16n8k32.row.col.s32.{'s8' if signed else 'u8'}.s8.s32 "
        "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};"
    )

    def matrices(builder: Any, address: Any, count: int) -> list[list[Any]]:
        """`count` times ldmatrix, 16 tile rows apart."""
        text = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{$0, $1, $2, $3}}, [$4+{}];"
        return [
            assembly(
                builder, text.format(16 * i * DEPTH), 4, [address], clobbers=True, together=True
            )
            for i in range(count)
        ]

    def half(builder: Any, data: Any, a_address: Any, b_address: Any) -> None:
        a = matrices(builder, a_address, shape.warp_rows // 16)
        b = matrices(builder, b_address, shape.warp_columns // 16)
        for i in range(len(a)):
            for j in range(shape.pairs):
                first = (i * shape.pairs + j) * 4
                slots = [slot(builder, data, first + place) for place in range(4)]
                pair = b[j // 2][j % 2 * 2 : j % 2 * 2 + 2]
                old = [builder.load(one) for one in slots]
                new = assembly(builder, mma, 4, [*a[i], *pair, *old], together=True)
                for value, one in zip(new, slots, strict=True):
                    builder.store(value, one)

    @intrinsic
    def multiply(typingctx: Any, sums: Any, stage: Any, a_at: Any, b_at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = data_of(context, builder, signature.args[0], args[0])
            for bit in (0, 32):
                a, b = (builder.xor(at, constant(bit)) for at in args[2:])
                half(builder, data, builder.add(args[1], a), builder.add(args[1], b))
            return context.get_dummy_value()

        return types.void(sums, types.uint32, types.uint32, types.uint32), generate

    return multiply


@cache
def lane_places(shape: Shape) -> DeviceFunction:
    """Device function () -> (a_at, b_at) of `_multiplier`."""
    warp_rows, warp_columns, a_bytes = shape.warp_rows, shape.warp_columns, shape.rows * DEPTH
    shift, mask = shape.across.bit_length() - 1, shape.across - 1

    @device
    def of_lane() -> Any:
        lane, warp = uint32(cuda.laneid), uint32(cuda.threadIdx.x) >> uint32(5)
        down, across = warp >> uint32(shift), warp & uint32(mask)
        a_row = down * uint32(warp_rows) + (lane & uint32(15))
        b_row = across * uint32(warp_columns) + (lane & uint32(7))
        b_row += (lane >> uint32(4)) * uint32(8)
        a_at = tile_offset(uint32(a_row), uint32(lane >> uint32(4)))
        b_at = tile_offset(uint32(b_row), uint32((lane >> uint32(3)) & uint32(1)))
        return a_at, uint32(b_at + uint32(a_bytes))

    return of_lane


# -- filling stages --------------------------------------------------------------------------------


@cache
def _copier(rows: int, threads: int) -> DeviceFunction:
    """Device function (codes, first, last, k, end, copy, tile): copies begin of `rows` tile rows.

    Rows first .. of codes, at columns k .., to shared address `tile`. A thread brings one chunk of
    every threads / 4-th row, or one word of every threads / 16-th; without cp.async where single
    bytes are all that may be read.
    """
    chunk_rows, word_rows = threads // 4, threads // 16

    @device
    def copy_tile(
        codes: Device, first: Any, last: Any, k: Any, end: Any, copy: Any, tile: Any
    ) -> None:
        thread, pitch = uint32(cuda.threadIdx.x), uint64(codes.shape[1])
        if copy == 16:
            row, chunk = thread >> uint32(2), thread & uint32(3)
            to = uint32(tile + tile_offset(row, chunk))
            at = k + uint64(chunk) * uint64(16)
            for i in range(rows // chunk_rows):
                source = first + uint64(row) + uint64(i * chunk_rows)
                there = uint32(16) if source < last and at < end else uint32(0)
                begin = address_of(codes, source * pitch + at)
                copy_async16(uint32(to + uint32(i * chunk_rows * DEPTH)), begin, there)
        else:
            row, word = thread >> uint32(4), thread & uint32(15)
            to = uint32(tile + tile_offset(row, uint32(word >> uint32(2))))
            to = uint32(to + uint32(uint32(word & uint32(3)) * uint32(4)))
            at = k + uint64(word) * uint64(4)
            source = first + uint64(row)
            stop = uint32(to + uint32(rows * DEPTH))
            while to < stop:
                if copy == 4:
                    there = uint32(4) if source < last and at < end else uint32(0)
                    copy_async4(to, address_of(codes, source * pitch + at), there)
                else:
                    seen = end if source < last else uint64(0)
                    store_shared(to, word_of_bytes(codes, source, at, seen))
                to = uint32(to + uint32(word_rows * DEPTH))
                source += uint64(word_rows)

    return copy_tile


@cache
def pipelined(shape: Shape, signed: bool) -> DeviceFunction:
    """Device function (a, b, tile, k, end, copy, base, sums): the sums of this lane over k .. end.

    tile: what tile.block_tile gives; base: shared address of the stages, sums: local s32 array.
    Ends with a barrier: shared memory is free again.
    """
    copy_a, copy_b = _copier(shape.rows, shape.threads), _copier(COLUMNS, shape.threads)
    multiply, places, zero = _multiplier(shape, signed), lane_places(shape), zeroed(shape.sums)
    await_oldest = wait_copies(shape.stages - 2)
    a_bytes, stage_bytes = shape.rows * DEPTH, shape.stage_bytes
    all_bytes, filled_first = shape.stages * stage_bytes, shape.stages - 1

    @device
    def fill(a: Device, b: Device, tile: Any, k: Any, end: Any, copy: Any, stage: Any) -> None:
        if k < end:
            copy_a(a, tile[0], tile[1], k, end, copy, stage)
            copy_b(b, tile[2], tile[3], k, end, copy, uint32(stage + uint32(a_bytes)))
        commit_copies()

    @device
    def accumulate(
        a: Device, b: Device, tile: Any, k: Any, end: Any, copy: Any, base: Any, sums: Any
    ) -> None:
        a_at, b_at = places()
        zero(sums)
        full, empty, ahead = base, base, k
        stop = uint32(base + uint32(all_bytes))
        for _ in range(filled_first):
            fill(a, b, tile, ahead, end, copy, empty)
            empty = uint32(empty + uint32(stage_bytes))
            ahead += uint64(DEPTH)
        while True:  # k < end at first
            await_oldest()
            cuda.syncthreads()
            fill(a, b, tile, ahead, end, copy, empty)
            multiply(sums, full, a_at, b_at)
            full = uint32(full + uint32(stage_bytes))
            full = base if full == stop else full
            empty = uint32(empty + uint32(stage_bytes))
            empty = base if empty == stop else empty
            ahead += uint64(DEPTH)
            k += uint64(DEPTH)
            if k >= end:
                break
        cuda.syncthreads()

    return accumulate


@cache
def one_stage(shape: Shape) -> DeviceFunction:
    """Device function as `pipelined`, for signed codes: one stage, no copies in the background."""
    multiply, places, zero = _multiplier(shape, True), lane_places(shape), zeroed(shape.sums)
    assert shape.rows == COLUMNS == shape.threads // 2, "a thread brings two chunks of each tile"
    half_rows, half_bytes, tile_bytes = COLUMNS // 2, COLUMNS // 2 * DEPTH, COLUMNS * DEPTH

    @device
    def accumulate(
        a: Device, b: Device, tile: Any, k: Any, end: Any, copy: Any, base: Any, sums: Any
    ) -> None:
        a_at, b_at = places()
        zero(sums)
        thread = uint32(cuda.threadIdx.x)
        row, chunk = thread >> uint32(2), thread & uint32(3)
        to = uint32(base + tile_offset(row, chunk))
        row_a, row_b = tile[0] + uint64(row), tile[2] + uint64(row)
        at = k + uint64(chunk) * uint64(16)
        while k < end:
            a_low = fetch_chunk(a, row_a, tile[1], at, end, copy)
            a_high = fetch_chunk(a, row_a + uint64(half_rows), tile[1], at, end, copy)
            b_low = fetch_chunk(b, row_b, tile[3], at, end, copy)
            b_high = fetch_chunk(b, row_b + uint64(half_rows), tile[3], at, end, copy)
            cuda.syncthreads()
            store_shared4(to, a_low)
            store_shared4(uint32(to + uint32(half_bytes)), a_high)
            store_shared4(uint32(to + uint32(tile_bytes)), b_low)
            store_shared4(uint32(to + uint32(tile_bytes + half_bytes)), b_high)
            cuda.syncthreads()
            multiply(sums, base, a_at, b_at)
            at += uint64(DEPTH)
            k += uint64(DEPTH)
        cuda.syncthreads()

    return accumulate


# -- handing results over --------------------------------------------------------------------------


@cache
def _spill(shape: Shape) -> DeviceFunction:
    """Intrinsic (sums, i, address): a lane's sums of the warp's rows 16 i .. go to shared memory.

    A switch over i, since only constant indices keep the sums in registers.
    """

    def rows(builder: Any, data: Any, i: int, address: Any) -> None:
        for j in range(shape.pairs):
            for side in range(2):
                first = (i * shape.pairs + j) * 4 + 2 * side
                pair = [builder.load(slot(builder, data, first + one)) for one in range(2)]
                offset = side * 8 * shape.staging * 4 + j * 32
                text = f"st.shared.v2.b32 [$0+{offset}], {{$1, $2}};"
                assembly(builder, text, 0, [address, *pair], clobbers=True)

    @intrinsic
    def spill(typingctx: Any, sums: Any, i: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = data_of(context, builder, signature.args[0], args[0])
            done = builder.append_basic_block("spilled")
            last = builder.append_basic_block("last")
            choice = builder.switch(args[1], last)
            for number in range(shape.warp_rows // 16):
                final = number == shape.warp_rows // 16 - 1
                here = last if final else builder.append_basic_block(f"rows{number}")
                if not final:
                    choice.add_case(constant(number), here)
                builder.position_at_end(here)
                rows(builder, data, number, args[2])
                builder.branch(done)
            builder.position_at_end(done)
            return context.get_dummy_value()

        return types.void(sums, types.uint32, types.uint32), generate

    return spill


@cache
def hand_over(shape: Shape, columns: DeviceFunction, put: DeviceFunction) -> DeviceFunction:
    """Device function (sums, tile, base, given, out): every result through `put`.

    columns, put: of tile_results.py. base: shared address that this block may write at.
    """
    spill, warp_rows, steps = _spill(shape), shape.warp_rows, shape.warp_rows // 16
    shift, mask, warp_columns = shape.across.bit_length() - 1, shape.across - 1, shape.warp_columns
    lane_shift, lane_mask = (warp_columns // 4).bit_length() - 1, warp_columns // 4 - 1
    together = 32 >> lane_shift  # rows that a warp reads at once
    row_bytes = shape.staging * 4

    @device
    def hand(sums: Any, tile: Any, base: Any, given: Any, out: Device) -> None:
        lane, warp = uint32(cuda.laneid), uint32(cuda.threadIdx.x) >> uint32(5)
        mine = uint32(base + warp * uint32(16 * row_bytes))
        to = mine + (lane >> uint32(2)) * uint32(row_bytes) + (lane & uint32(3)) * uint32(8)
        row, quad = lane >> uint32(lane_shift), lane & uint32(lane_mask)
        at = mine + row * uint32(row_bytes) + quad * uint32(16)
        n = tile[4] + uint64((warp & uint32(mask)) * uint32(warp_columns) + quad * uint32(4))
        m = tile[0] + uint64((warp >> uint32(shift)) * uint32(warp_rows) + row)
        of_columns = columns(given, n, out)
        i, all_steps, part_bytes = uint32(0), rolled(uint32(steps)), rolled(uint32(16 * row_bytes))
        while i < all_steps:
            spill(sums, i, uint32(to))
            cuda.syncwarp()
            source = uint32(at)
            while source < at + part_bytes:
                four = load_shared4(source)
                if m < tile[1]:
                    put(given, of_columns, m, n, four, out)
                m += uint64(together)
                source = uint32(source + uint32(together * row_bytes))
            cuda.syncwarp()
            i = uint32(i + uint32(1))

    return hand
