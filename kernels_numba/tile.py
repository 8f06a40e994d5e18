"""What the tiled GEMMs of this wing share: where a block's tile lies, how codes are fetched and
laid out in shared memory.

Contract: a (B*M, K) and b (B*N, K) are s8 or u8, B products one above the other (B = 1 but for the
batched GEMM); out is (B*M, N). Blocks are numbered row tiles first, then column tiles, then
products, so that neighbours share their tile of b, the weights. Codes beyond a product's rows or
beyond K count as 0: any M, N, K >= 1 is exact.

`copy` is the number of bytes that one access may move, 16, 4 or 1, whichever K and the addresses
allow. It is a run-time argument: the same for all threads, one branch per tile, and it spares two
compilations of every kernel.

A tile row is DEPTH codes, four 16-byte chunks. Two rows fill the 32 banks; a chunk's place is
xor-ed with the row pair's number, so that any 8 consecutive rows are read at one chunk, and any 8
consecutive chunks or 32 consecutive words written, without a bank conflict.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import types

from kernels_numba import launch
from kernels_numba.device import (
    Device,
    DeviceFunction,
    cuda,
    device,
    intrinsic,
    uint8,
    uint32,
    uint64,
)
from kernels_numba.intrinsics import load_constant, load_constant1, load_constant4

DEPTH = 64  # codes of a tile row


@intrinsic
def divide(typingctx: Any, a: Any, b: Any) -> Any:
    """Intrinsic (uint32, uint32) -> uint32: the quotient, b > 0 (Numba's // asks for b == 0)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.udiv(*args)

    return types.uint32(types.uint32, types.uint32), generate


@device
def tile_offset(row: Any, chunk: Any) -> Any:
    """Byte of a 16-byte chunk in a tile."""
    swizzled = chunk ^ ((row >> uint32(1)) & uint32(3))
    return uint32(row * uint32(DEPTH) + swizzled * uint32(16))


@cache
def block_tile(rows: int, columns: int) -> DeviceFunction:
    """Device function (M, N) -> (first row of a, end of its rows, first row of b, end, column).

    The block's tile of rows x columns results; ends are those of its product, column is out's.
    """

    @device
    def of_block(M: Any, N: Any) -> Any:
        down = divide(uint32(M) + uint32(rows - 1), uint32(rows))
        across = divide(uint32(N) + uint32(columns - 1), uint32(columns))
        block = uint32(cuda.blockIdx.x)
        rest = divide(block, down)
        product = uint64(divide(rest, across))
        column = uint64(uint32(rest - uint32(product) * across)) * uint64(columns)
        row = uint64(uint32(block - rest * down)) * uint64(rows)
        first_a, first_b = product * uint64(M), product * uint64(N)
        return (
            uint64(first_a + row),
            uint64(first_a + uint64(M)),
            uint64(first_b + column),
            uint64(first_b + uint64(N)),
            column,
        )

    return of_block


# -- fetching --------------------------------------------------------------------------------------


@device
def word_of_bytes(codes: Device, row: Any, at: Any, end: Any) -> Any:
    """Codes at .. at + 3 of a row as one uint32, by single bytes; 0 from `end` on."""
    word, begin = uint32(0), row * uint64(codes.shape[1])
    for byte in range(4):
        k = at + uint64(byte)
        if k < end:
            code = uint32(uint8(load_constant(codes, begin + k)))
            word = uint32(word | (code << uint32(8 * byte)))
    return word


@device
def fetch_chunk(codes: Device, row: Any, last: Any, at: Any, end: Any, copy: Any) -> Any:
    """Codes at .. at + 15 of a row as four uint32; 0 from `end` on and for rows from `last` on."""
    chunk = (uint32(0), uint32(0), uint32(0), uint32(0))
    if row < last:
        if copy == 16:
            if at < end:
                chunk = load_constant4(codes, row * uint64(codes.shape[1]) + at)
        else:
            chunk = (
                fetch_word(codes, row, at, end, copy),
                fetch_word(codes, row, at + uint64(4), end, copy),
                fetch_word(codes, row, at + uint64(8), end, copy),
                fetch_word(codes, row, at + uint64(12), end, copy),
            )
    return chunk


@device
def fetch_word(codes: Device, row: Any, at: Any, end: Any, copy: Any) -> Any:
    """Codes at .. at + 3 of a row that is there; 0 from `end` on."""
    word = uint32(0)
    if copy == 1:
        word = word_of_bytes(codes, row, at, end)
    elif at < end:
        word = load_constant1(codes, row * uint64(codes.shape[1]) + at)[0]
    return word


# -- on the host -----------------------------------------------------------------------------------


def copy_width(*codes: Any) -> int:
    """Bytes per access of matrices with the same number of columns: 16, 4 or 1."""
    depth = codes[0].shape[-1]
    for width in (16, 4):
        if all(launch.aligned(array, depth, width) for array in codes):
            return width
    return 1


def tiles(rows: int, columns: int, tile_rows: int, tile_columns: int, products: int = 1) -> int:
    """Number of blocks."""
    return -(-rows // tile_rows) * -(-columns // tile_columns) * products
