"""Weights made ready for the GEMM in Numba CUDA: transposed to K-major, and packed.

Contract: reference/int8_pack.py; bytes are moved, none is changed. Codes go by words of four where
rows begin at multiples of 4 bytes (pack: by 16 bytes, at multiples of 16), else one by one.

    transpose    64 x 64 tiles, 4 x 4 codes a thread, turned in registers, through shared memory
    pack         a thread per 16 bytes of the result
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels_numba import launch
from kernels_numba.compile import Kernel
from kernels_numba.device import (
    Device,
    cuda,
    device,
    int8,
    store_words1,
    store_words4,
    uint32,
    uint64,
)
from kernels_numba.tile import copy_width, divide, fetch_chunk, fetch_word
from reference.int8_pack import CHUNK, PANEL, PIECE, check_pack, check_transpose
from reference.op import implements

SIDE, THREADS = 64, 256  # of transpose's tile; of both kernels' blocks
WORDS = SIDE * SIDE // 4


@device
def _column(words: Any, byte: Any) -> Any:
    """Byte `byte` of each of four words, as one word."""
    low = uint32((words[0] >> byte) & uint32(0xFF)) | uint32(
        ((words[1] >> byte) & uint32(0xFF)) << uint32(8)
    )
    high = uint32((words[2] >> byte) & uint32(0xFF)) | uint32(
        ((words[3] >> byte) & uint32(0xFF)) << uint32(8)
    )
    return uint32(low | uint32(high << uint32(16)))


@device
def _tile_word(n: Any, quad: Any) -> Any:
    """Where four k of row n lie in the tile: as in kernels_cupy/int8_pack.cu, on all 32 banks."""
    return uint32(n * uint32(16) + (quad ^ uint32((n >> uint32(3)) << uint32(1))))


def _transpose_kernel() -> Kernel:
    def transpose(w: Device, copy_in: Any, copy_out: Any, out: Device) -> None:
        """w: s8 (K, N); copy_in, copy_out: bytes per access, 4 or 1; out: s8 (N, K)."""
        tile = cuda.shared.array(WORDS, uint32)
        K, N = uint64(w.shape[0]), uint64(w.shape[1])
        across = uint32(N + uint64(SIDE - 1)) >> uint32(6)
        block = uint32(cuda.blockIdx.x)
        down = divide(block, across)
        n0, k0 = uint64(uint32(block - down * across)) * uint64(SIDE), uint64(down) * uint64(SIDE)
        first = uint32(cuda.threadIdx.x & 15)
        second = uint32(cuda.threadIdx.x >> 4)
        k, n = k0 + uint64(second) * uint64(4), n0 + uint64(first) * uint64(4)
        words = (
            fetch_word(w, k, n, N, copy_in) if k < K else uint32(0),
            fetch_word(w, k + uint64(1), n, N, copy_in) if k + uint64(1) < K else uint32(0),
            fetch_word(w, k + uint64(2), n, N, copy_in) if k + uint64(2) < K else uint32(0),
            fetch_word(w, k + uint64(3), n, N, copy_in) if k + uint64(3) < K else uint32(0),
        )
        for i in range(4):
            # Odd threads go through their rows in the other order of each pair: both parities.
            row = uint32(uint32(i) ^ (first & uint32(1)))
            place = _tile_word(uint32(first * uint32(4) + row), second)
            tile[place] = _column(words, uint32(row * uint32(8)))
        cuda.syncthreads()
        for i in range(4):
            of_tile = uint32(second + uint32(16 * i))
            row_out, at = n0 + uint64(of_tile), k0 + uint64(first) * uint64(4)
            word = tile[_tile_word(of_tile, first)]
            if row_out < N:
                if copy_out == 4:
                    if at < K:
                        store_words1(out, row_out * K + at, (word,))
                else:
                    for byte in range(4):
                        if at + uint64(byte) < K:
                            out[row_out, at + uint64(byte)] = int8(word >> uint32(8 * byte))

    return transpose


def _pack_kernel() -> Kernel:
    def pack(w_codes: Device, copy: Any, packed: Device) -> None:
        """w_codes: s8 (8 P, K); copy: see tile.py; packed: s8 (P, chunks, 512)."""
        chunks, K = uint64(packed.shape[1]), uint64(w_codes.shape[1])
        threads = uint64(cuda.blockDim.x) >> uint64(5)
        piece = uint64(cuda.blockIdx.x) * threads + (uint64(cuda.threadIdx.x) >> uint64(5))
        lane = uint64(cuda.laneid)
        if piece < uint64(packed.shape[0]) * chunks:
            panel = uint64(divide(uint32(piece), uint32(chunks)))
            row = panel * uint64(PANEL) + (lane >> uint64(2))
            at = (piece - panel * chunks) * uint64(CHUNK) + (lane & uint64(3)) * uint64(16)
            words = fetch_chunk(w_codes, row, uint64(w_codes.shape[0]), at, K, copy)
            store_words4(packed, piece * uint64(PIECE) + lane * uint64(16), words)

    return pack


@implements("int8.transpose", wing="numba")
@launch.entry("int8.transpose")
def transpose(w: Any, *, dialect: str = "ieee") -> Any:
    """w: s8 (K, N). Returns s8 (N, K)."""
    check_transpose(w, dialect)
    K, N = w.shape
    out = launch.empty(w, (N, K), "s8")
    grid = (-(-N // SIDE) * -(-K // SIDE),)
    copies = (np.int32(min(4, copy_width(array))) for array in (w, out))
    launch.run(_transpose_kernel, (), grid, (THREADS,), w, *copies, out)
    return out


@implements("int8.pack", wing="numba")
@launch.entry("int8.pack")
def pack(w_codes: Any, *, dialect: str = "ieee") -> Any:
    """w_codes: s8 (N, K), N % 8 == 0. Returns s8 (N / 8, ceil(K / 64), 512)."""
    check_pack(w_codes, dialect)
    N, chunks = w_codes.shape[0], -(-w_codes.shape[1] // CHUNK)
    packed = launch.empty(w_codes, (N // PANEL, chunks, PIECE), "s8")
    grid = (-(-(N // PANEL * chunks) // (THREADS // 32)),)
    copy = np.int32(copy_width(w_codes))
    launch.run(_pack_kernel, (), grid, (THREADS,), w_codes, copy, packed)
    return packed
