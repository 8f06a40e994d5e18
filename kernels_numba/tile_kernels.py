"""The GEMM ladder's kernels, for whatever becomes of the sums, and how they are launched.

Contract: every kernel gives sum over k of a[m, k] * b[n, k], in int32 that wraps, to
tile_results.py by its words; see tile.py for the arrays' shapes. The rungs, each with what changed:

    gemm_naive       a thread per result, one product per step: 2 byte loads for each
    gemm_tiled       16 x 16 results a block, operands through shared memory as words
    gemm_dp4a        64 x 64 a block, 4 x 4 a thread in registers, four products an instruction
    gemm_mma         128 x 128 a block, tensor cores, ldmatrix; one stage
    gemm_pipeline    cp.async fills stages while others are multiplied; the tile by M
    gemm_split_k     small M: K split over blocks, sums meet by int32 atomics, exactly

With an epilogue, gemm_split_k's blocks add into a scratch matrix; the last one of a tile, which it
knows by a ticket, reads the sums back past its L1 and scales them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kernels_numba import launch
from kernels_numba.compile import Kernel, bounded
from kernels_numba.device import (
    Device,
    cuda,
    device,
    int8,
    int32,
    uint8,
    uint32,
    uint64,
)
from kernels_numba.intrinsics import address_of, load_fresh, load_fresh4, shared_address
from kernels_numba.tile import DEPTH, block_tile, copy_width, fetch_word, tiles
from kernels_numba.tile_dp4a import SHARED_BYTES, SUMS, THREADS, TILE
from kernels_numba.tile_dp4a import accumulator as dp4a_accumulator
from kernels_numba.tile_dp4a import hand_over as dp4a_hand_over
from kernels_numba.tile_mma import hand_over, one_stage, pipelined, zeroed
from kernels_numba.tile_results import Words, results
from kernels_numba.tile_shapes import COLUMNS, MIDDLE, ONE_STAGE, Shape, shape_for

SIDE = 16  # of the naive and the tiled kernel's block
WORDS = DEPTH // 4
STRIDE = SIDE + 2  # words between two k: a warp's stores hit 32 banks
MULTIPROCESSORS = 132  # of an H200: split_k makes two blocks for each
FEWEST = 4  # tiles of a part of K: below, filling the stages costs more than it hides
PLAIN: Words = ("sums",)
NOTHING = (np.int32(0),)  # what plain sums need besides


def naive_kernel() -> Kernel:
    """A thread per result."""
    place = block_tile(SIDE, SIDE)

    def gemm_naive(a: Device, b: Device, M: Any, out: Device) -> None:
        """a: s8 (B*M, K); b: s8 (B*N, K); M; out: s32 (B*M, N)."""
        tile = place(M, out.shape[1])
        across, down = uint64(cuda.threadIdx.x & 15), uint64(cuda.threadIdx.x >> 4)
        m, row_b, n = tile[0] + down, tile[2] + across, tile[4] + across
        if m < tile[1] and row_b < tile[3]:
            total = int32(0)
            k = uint64(0)
            while k < uint64(a.shape[1]):
                total = int32(total + int32(a[m, k]) * int32(b[row_b, k]))
                k += uint64(1)
            out[m, n] = total

    return gemm_naive


@device
def _four_products(x: Any, y: Any, total: Any) -> Any:
    """total + the products of four s8 in each word, one after another."""
    for byte in range(4):
        shift = uint32(8 * byte)
        total = int32(total + int32(int8(x >> shift)) * int32(int8(y >> shift)))
    return total


def tiled_kernel() -> Kernel:
    """Operands through shared memory: word w of row r at [STRIDE * w + r]."""
    place, words = block_tile(SIDE, SIDE), WORDS * STRIDE

    def gemm_tiled(a: Device, b: Device, M: Any, copy: Any, out: Device) -> None:
        """a: s8 (B*M, K); b: s8 (B*N, K); M; copy: see tile.py; out: s32 (B*M, N)."""
        a_tile = cuda.shared.array(words, uint32)
        b_tile = cuda.shared.array(words, uint32)
        tile = place(M, out.shape[1])
        across, down = uint64(cuda.threadIdx.x & 15), uint64(cuda.threadIdx.x >> 4)
        row_a, row_b, K = tile[0] + down, tile[2] + down, uint64(a.shape[1])
        total = int32(0)
        at = across * uint64(4)
        k = uint64(0)
        while k < K:
            seen_a = K if row_a < tile[1] else uint64(0)
            seen_b = K if row_b < tile[3] else uint64(0)
            a_tile[across * uint64(STRIDE) + down] = fetch_word(a, row_a, at, seen_a, copy)
            b_tile[across * uint64(STRIDE) + down] = fetch_word(b, row_b, at, seen_b, copy)
            cuda.syncthreads()
            for word in range(WORDS):
                x = a_tile[uint64(word * STRIDE) + down]
                y = b_tile[uint64(word * STRIDE) + across]
                total = _four_products(x, y, total)
            cuda.syncthreads()
            at += uint64(DEPTH)
            k += uint64(DEPTH)
        m, n = tile[0] + down, tile[4] + across
        if m < tile[1] and n < uint64(out.shape[1]):
            out[m, n] = total

    return gemm_tiled


def dp4a_kernel(words: Words, signed: bool) -> Kernel:
    """64 x 64 results a block, four products an instruction. signed: a is s8, not u8."""
    place, accumulate = block_tile(TILE, TILE), dp4a_accumulator(signed, zeroed(SUMS))
    hand = dp4a_hand_over(*results(words))

    @bounded(THREADS, 2)
    def gemm_dp4a(a: Device, b: Device, M: Any, copy: Any, given: Any, out: Device) -> None:
        """a: s8 or u8 (B*M, K); b: s8 (B*N, K); M; copy: see tile.py; given, out: by words."""
        memory = cuda.shared.array(SHARED_BYTES, uint8, 16)
        sums = cuda.local.array(SUMS, int32)
        tile = place(M, out.shape[1])
        end = uint64(a.shape[1])
        accumulate(a, b, tile, uint64(0), end, copy, shared_address(memory), sums)
        hand(sums, tile, given, out)

    return gemm_dp4a


def mma_kernel() -> Kernel:
    """Tensor cores, one stage."""
    shape = ONE_STAGE
    place, accumulate = block_tile(shape.rows, COLUMNS), one_stage(shape)
    hand = hand_over(shape, *results(PLAIN))
    count, memory_bytes = shape.sums, shape.shared_bytes

    @bounded(shape.threads, shape.blocks)
    def gemm_mma(a: Device, b: Device, M: Any, copy: Any, given: Any, out: Device) -> None:
        """a: s8 (B*M, K); b: s8 (B*N, K); M; copy: see tile.py; given: not read; out: s32."""
        memory = cuda.shared.array(memory_bytes, uint8, 128)
        sums = cuda.local.array(count, int32)
        base, tile = shared_address(memory), place(M, out.shape[1])
        accumulate(a, b, tile, uint64(0), uint64(a.shape[1]), copy, base, sums)
        hand(sums, tile, base, given, out)

    return gemm_mma


def pipeline_kernel(shape: Shape, words: Words, signed: bool) -> Kernel:
    """Tensor cores, cp.async. signed: a is s8, not u8."""
    place, accumulate = block_tile(shape.rows, COLUMNS), pipelined(shape, signed)
    hand = hand_over(shape, *results(words))
    count, memory_bytes = shape.sums, shape.shared_bytes

    @bounded(shape.threads, shape.blocks)
    def gemm_pipeline(a: Device, b: Device, M: Any, copy: Any, given: Any, out: Device) -> None:
        """a: s8 or u8 (B*M, K); b: s8 (B*N, K); M; copy: see tile.py; given, out: by words."""
        memory = cuda.shared.array(memory_bytes, uint8, 128)
        sums = cuda.local.array(count, int32)
        base, tile = shared_address(memory), place(M, out.shape[1])
        accumulate(a, b, tile, uint64(0), uint64(a.shape[1]), copy, base, sums)
        hand(sums, tile, base, given, out)

    return gemm_pipeline


# -- split K ---------------------------------------------------------------------------------------


def split_kernel(shape: Shape) -> Kernel:
    """As pipeline_kernel for one part of K, added to the sums."""
    place, accumulate = block_tile(shape.rows, COLUMNS), pipelined(shape, True)
    hand = hand_over(shape, *results(("add",)))
    count, memory_bytes = shape.sums, shape.shared_bytes

    @bounded(shape.threads, shape.blocks)
    def gemm_split_k(a: Device, b: Device, M: Any, copy: Any, part: Any, acc: Device) -> None:
        """a: s8 (M, K); b: s8 (N, K); copy: see tile.py; part: codes of K for each blockIdx.y;
        acc: s32 (M, N), zeros."""
        memory = cuda.shared.array(memory_bytes, uint8, 128)
        sums = cuda.local.array(count, int32)
        base, tile = shared_address(memory), place(M, acc.shape[1])
        k = uint64(cuda.blockIdx.y) * part
        accumulate(a, b, tile, k, min(k + part, uint64(a.shape[1])), copy, base, sums)
        hand(sums, tile, base, (int32(0),), acc)

    return gemm_split_k


@device
def _sums_of_others(acc: Device, m: Any, n: Any) -> Any:
    """acc[m, n .. n + 3] from L2; 0 beyond its columns."""
    N = uint64(acc.shape[1])
    at = m * N + n
    sums = (uint32(0), uint32(0), uint32(0), uint32(0))
    if N & uint64(3) == uint64(0):
        if n < N:
            sums = load_fresh4(address_of(acc, at))
    else:
        sums = (
            load_fresh(address_of(acc, at)) if n < N else uint32(0),
            load_fresh(address_of(acc, at + uint64(1))) if n + uint64(1) < N else uint32(0),
            load_fresh(address_of(acc, at + uint64(2))) if n + uint64(2) < N else uint32(0),
            load_fresh(address_of(acc, at + uint64(3))) if n + uint64(3) < N else uint32(0),
        )
    return sums


def split_scaled_kernel(shape: Shape, words: Words) -> Kernel:
    """As split_kernel; the last block of a tile hands its sums to `words`."""
    place, accumulate = block_tile(shape.rows, COLUMNS), pipelined(shape, True)
    hand, (columns, put) = hand_over(shape, *results(("add",))), results(words)
    count, memory_bytes = shape.sums, shape.shared_bytes
    rows, together = shape.rows, shape.threads // 32  # together: rows at a time, 4 results a lane

    @bounded(shape.threads, shape.blocks)
    def gemm_split_k(
        a: Device,
        b: Device,
        M: Any,
        copy: Any,
        part: Any,
        acc: Device,
        tickets: Device,
        given: Any,
        out: Device,
    ) -> None:
        """a: s8 (M, K); b: s8 (N, K); copy: see tile.py; part: codes of K for each blockIdx.y;
        acc: s32 (M, N), tickets: s32 (blocks along x,), both zeros; given, out: by words."""
        memory = cuda.shared.array(memory_bytes, uint8, 128)
        arrived = cuda.shared.array(1, int32)
        sums = cuda.local.array(count, int32)
        base, tile = shared_address(memory), place(M, acc.shape[1])
        k = uint64(cuda.blockIdx.y) * part
        accumulate(a, b, tile, k, min(k + part, uint64(a.shape[1])), copy, base, sums)
        hand(sums, tile, base, (int32(0),), acc)
        cuda.threadfence()
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            arrived[0] = cuda.atomic.add(tickets, cuda.blockIdx.x, 1)
        cuda.syncthreads()
        if arrived[0] == int32(cuda.gridDim.y - 1):
            cuda.threadfence()
            n = tile[4] + uint64(cuda.laneid) * uint64(4)
            of_columns = columns(given, n, out)
            m = tile[0] + (uint64(cuda.threadIdx.x) >> uint64(5))
            end = min(tile[1], tile[0] + uint64(rows))
            while m < end:
                put(given, of_columns, m, n, _sums_of_others(acc, m, n), out)
                m += uint64(together)

    return gemm_split_k


# -- launching -------------------------------------------------------------------------------------


def run_dp4a(words: Words, a: Any, b: Any, given: tuple[Any, ...], out: Any) -> None:
    """a: s8 or u8 (M, K); b: s8 (N, K); given, out: as the words ask (floats as their bits)."""
    (M, _), N = a.shape, b.shape[0]
    constants = words, a.dtype == np.int8
    grid, told = (tiles(M, N, TILE, TILE),), (np.uint64(M), np.int32(copy_width(a, b)))
    launch.run(dp4a_kernel, constants, grid, (THREADS,), a, b, *told, given, out)


def run_pipeline(
    words: Words, a: Any, b: Any, given: tuple[Any, ...], out: Any, products: int = 1
) -> None:
    """As `run_dp4a`, by tensor cores. products: B, for a (B*M, K), b (B*N, K), out (B*M, N)."""
    M, N = a.shape[0] // products, b.shape[0] // products
    shape = shape_for(M)
    constants = shape, words, a.dtype == np.int8
    grid = (tiles(M, N, shape.rows, COLUMNS, products),)
    told = np.uint64(M), np.int32(copy_width(a, b))
    launch.run(pipeline_kernel, constants, grid, (shape.threads,), a, b, *told, given, out)


def run_split_k(a: Any, b: Any, words: Words = PLAIN, given: Any = None, out: Any = None) -> Any:
    """a: s8 (M, K); b: s8 (N, K). Returns the sums, s32 (M, N); gives them to `words` on the way,
    unless those are PLAIN.
    """
    (M, K), N = a.shape, b.shape[0]
    shape = split_shape(M)
    blocks = tiles(M, N, shape.rows, COLUMNS)
    part, acc = part_of(K, blocks), launch.zeros(a, (M, N), "s32")
    told = np.uint64(M), np.int32(copy_width(a, b)), np.uint64(part)
    grid, block = (blocks, -(-K // part)), (shape.threads,)
    if words == PLAIN:
        launch.run(split_kernel, (shape,), grid, block, a, b, *told, acc)
    else:
        tickets = launch.zeros(a, (blocks,), "s32")
        arrays = acc, tickets, given, out
        launch.run(split_scaled_kernel, (shape, words), grid, block, a, b, *told, *arrays)
    return acc


def split_shape(rows: int) -> Shape:
    """The tile of split_k, which is for few rows."""
    return shape_for(min(rows, MIDDLE.rows))


def splits_pay(a: Any, b: Any) -> bool:
    """Whether split_k cuts K for these: few rows, and tiles that leave multiprocessors idle."""
    (M, K), N = a.shape, b.shape[0]
    return MIDDLE.rows >= M and part_of(K, tiles(M, N, split_shape(M).rows, COLUMNS)) < K


def part_of(depth: int, blocks: int) -> int:
    """Codes of K for each block, so that there are two blocks for each multiprocessor; whole
    tiles, and at least FEWEST of them.
    """
    parts = max(1, 2 * MULTIPROCESSORS // blocks)
    return max(FEWEST, -(-depth // (parts * DEPTH))) * DEPTH


def run_fixed(kernel: Callable[[], Kernel], a: Any, b: Any, out: Any) -> None:
    """The tiled and the mma kernel; a: s8 (M, K); b: s8 (N, K); out: s32 (M, N)."""
    (M, _), N = a.shape, b.shape[0]
    told = np.uint64(M), np.int32(copy_width(a, b))
    if kernel is tiled_kernel:
        launch.run(kernel, (), (tiles(M, N, SIDE, SIDE),), (SIDE * SIDE,), a, b, *told, out)
    else:
        rows, threads = ONE_STAGE.rows, ONE_STAGE.threads
        grid = (tiles(M, N, rows, COLUMNS),)
        launch.run(kernel, (), grid, (threads,), a, b, *told, NOTHING, out)


def run_naive(a: Any, b: Any, out: Any, products: int = 1) -> None:
    """As `run_pipeline`, for plain sums."""
    M, N = a.shape[0] // products, b.shape[0] // products
    grid = (tiles(M, N, SIDE, SIDE, products),)
    launch.run(naive_kernel, (), grid, (SIDE * SIDE,), a, b, np.uint64(M), out)
