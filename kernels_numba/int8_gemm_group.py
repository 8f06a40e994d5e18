"""INT8 GEMM with one scale per row and group of G elements along K, in Numba CUDA.

    acc_g = the int32 sum over group g        sum = sum + acc_g * sB * sA, g ascending, from +0
    out[m, n] = round(sum + bias[n])          (or fused: fma(acc_g * sA, sB, sum))

Contract: reference/int8_gemm_group.py. Each operation is one instruction with its rounding in its
name, in inline assembly; the dialect's formula is chosen at run time, the same for all threads.

Both variants take the tile of the GEMM's ladder (tile_dp4a.py, tile_mma.py) group by group: its
int32 sums begin anew with every group, and a second array holds the fp32 sums. Codes beyond a
group's end count as 0, so that any G is exact.

    gemm_group_dp4a       64 x 64 results a block
    gemm_group_pipeline   64 x 128 a block, tensor cores; the pipeline drains at a group's end
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from kernels_numba import launch
from kernels_numba.compile import Kernel, bounded
from kernels_numba.device import (
    Device,
    DeviceFunction,
    cuda,
    device,
    float32,
    int32,
    intrinsic,
    libdevice,
    narrow,
    uint8,
    uint64,
)
from kernels_numba.intrinsics import data_of, shared_address, slot
from kernels_numba.tile import block_tile, tiles
from kernels_numba.tile_dp4a import SHARED_BYTES, SUMS, THREADS, TILE
from kernels_numba.tile_dp4a import accumulator as dp4a_accumulator
from kernels_numba.tile_dp4a import hand_over as dp4a_hand_over
from kernels_numba.tile_mma import hand_over, pipelined, zeroed
from kernels_numba.tile_results import four_biases, put_four_of
from kernels_numba.tile_shapes import COLUMNS, PAIRS, WARP_COLUMNS, Shape
from reference.int8_gemm_group import check_gemm_group
from reference.op import implements

FLOAT = ir.FloatType()
FUSED = "fma(acc*sA, sB, sum)"
# Half of the GEMM's large tile: a lane has as many fp32 sums as int32 ones.
BY_GROUPS = Shape("64x128 by groups", rows=64, warp_rows=32, stages=3, blocks=2)
# What a lane's sums need: the place in its scales of rows, and of columns.
Places = Sequence[tuple[int, int]]
DP4A_PLACES = tuple((i, j) for i in range(4) for j in range(4))
MMA_PLACES = tuple(
    (2 * i + part // 2, 2 * j + part % 2)
    for i in range(BY_GROUPS.warp_rows // 16)
    for j in range(PAIRS)
    for part in range(4)
)


def _adder(places: Places, fused: bool) -> DeviceFunction:
    """Intrinsic (sums, totals, row scales, column scales): adds a group's sums to the totals.

    sums: local s32, totals: local fp32 (len(places),); the scales: tuples of fp32.
    """

    def operation(builder: Any, text: str, *operands: Any) -> Any:
        kind = ir.FunctionType(FLOAT, [FLOAT] * len(operands))
        code = ir.InlineAsm(kind, text, ",".join(["=f"] + ["f"] * len(operands)))
        return builder.call(code, operands)

    @intrinsic
    def add(typingctx: Any, sums: Any, totals: Any, rows: Any, columns: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            acc_of = data_of(context, builder, signature.args[0], args[0])
            total_of = data_of(context, builder, signature.args[1], args[1])
            for place, (row, column) in enumerate(places):
                acc = builder.sitofp(builder.load(slot(builder, acc_of, place)), FLOAT)
                s_a = builder.extract_value(args[2], row)
                s_b = builder.extract_value(args[3], column)
                first, second = (s_a, s_b) if fused else (s_b, s_a)
                product = operation(builder, "mul.rn.f32 $0, $1, $2;", acc, first)
                target = slot(builder, total_of, place)
                total = builder.load(target)
                if fused:
                    text = "fma.rn.f32 $0, $1, $2, $3;"
                    total = operation(builder, text, product, second, total)
                else:
                    product = operation(builder, "mul.rn.f32 $0, $1, $2;", product, second)
                    total = operation(builder, "add.rn.f32 $0, $1, $2;", total, product)
                builder.store(total, target)
            return context.get_dummy_value()

        return types.void(sums, totals, rows, columns), generate

    return add


def _mover(count: int, to_sums: bool) -> DeviceFunction:
    """Intrinsic (sums, totals): the totals' bits into the sums, or +0 into the totals."""

    @intrinsic
    def move(typingctx: Any, sums: Any, totals: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            bits = data_of(context, builder, signature.args[0], args[0])
            floats = data_of(context, builder, signature.args[1], args[1])
            for place in range(count):
                target = slot(builder, floats, place)
                if to_sums:
                    value = builder.bitcast(builder.load(target), ir.IntType(32))
                    builder.store(value, slot(builder, bits, place))
                else:
                    builder.store(ir.Constant(FLOAT, 0.0), target)
            return context.get_dummy_value()

        return types.void(sums, totals), generate

    return move


@device
def _scale(scales: Device, row: Any, end: Any, group: Any) -> Any:
    """The scale of a row's group; 0 for a row that is not there."""
    return scales[row, group] if row < end else float32(0)


@device
def _four(scales: Device, row: Any, end: Any, step: Any, group: Any) -> Any:
    """The scales of rows row, row + step, ..."""
    return (
        _scale(scales, row, end, group),
        _scale(scales, row + step, end, group),
        _scale(scales, row + uint64(2) * step, end, group),
        _scale(scales, row + uint64(3) * step, end, group),
    )


@device
def _pairs(scales: Device, row: Any, end: Any, group: Any) -> Any:
    """The scales of two neighbours in each of four blocks of 8 rows."""
    even = _four(scales, row, end, uint64(8), group)
    odd = _four(scales, row + uint64(1), end, uint64(8), group)
    return even[0], odd[0], even[1], odd[1], even[2], odd[2], even[3], odd[3]


@device
def _dp4a_scales(a_scales: Device, b_scales: Device, tile: Any, group: Any) -> Any:
    """(of a thread's four rows, of its four columns)."""
    thread, one = uint64(cuda.threadIdx.x), uint64(1)
    row = tile[0] + (thread >> uint64(4)) * uint64(4)
    column = tile[2] + (thread & uint64(15)) * uint64(4)
    return _four(a_scales, row, tile[1], one, group), _four(b_scales, column, tile[3], one, group)


@device
def _mma_scales(a_scales: Device, b_scales: Device, tile: Any, group: Any) -> Any:
    """(of the rows of a lane's sums, of their columns), in the order of MMA_PLACES."""
    warp, lane = uint64(cuda.threadIdx.x) >> uint64(5), uint64(cuda.laneid)
    row = tile[0] + (warp >> uint64(2)) * uint64(32) + (lane >> uint64(2))
    column = tile[2] + (warp & uint64(3)) * uint64(WARP_COLUMNS) + (lane & uint64(3)) * uint64(2)
    rows = _four(a_scales, row, tile[1], uint64(8), group)
    return rows, _pairs(b_scales, column, tile[3], group)


@cache
def _results(out_dtype: str) -> tuple[DeviceFunction, DeviceFunction]:
    """(columns, put) as tile_results.py has them. given: bias, has_bias; out: bits of out_dtype."""
    bits, put_four = narrow(out_dtype), put_four_of(out_dtype)

    @device
    def finished(sum_bits: Any, bias: Any) -> Any:
        return bits(libdevice.fadd_rn(libdevice.int_as_float(int32(sum_bits)), bias))

    @device
    def columns(given: Any, n: Any, out: Device) -> Any:
        return four_biases(given[0], given[1], n, uint64(out.shape[1]))

    @device
    def put(given: Any, biases: Any, m: Any, n: Any, sums: Any, out: Device) -> None:
        values = (
            finished(sums[0], biases[0]),
            finished(sums[1], biases[1]),
            finished(sums[2], biases[2]),
            finished(sums[3], biases[3]),
        )
        put_four(out, m, n, values)

    return columns, put


@cache
def _group_walk(accumulate: DeviceFunction, scales_of: DeviceFunction, places: Any) -> Any:
    """Device function: the sums over all groups of a tile, as bits in `sums`."""
    add_apart, add_fused = _adder(places, False), _adder(places, True)
    clear, to_sums = _mover(len(places), False), _mover(len(places), True)

    @device
    def walk(
        a: Device,
        b: Device,
        a_scales: Device,
        b_scales: Device,
        tile: Any,
        size: Any,
        copy: Any,
        fused: Any,
        base: Any,
        sums: Any,
        totals: Any,
    ) -> None:
        clear(sums, totals)
        k, group = uint64(0), uint64(0)
        while True:  # there is a group
            accumulate(a, b, tile, k, k + size, copy, base, sums)
            rows, columns = scales_of(a_scales, b_scales, tile, group)
            if fused:
                add_fused(sums, totals, rows, columns)
            else:
                add_apart(sums, totals, rows, columns)
            k += size
            group += uint64(1)
            if k >= uint64(a.shape[1]):
                break
        to_sums(sums, totals)

    return walk


def _dp4a_kernel(out_dtype: str) -> Kernel:
    accumulate = dp4a_accumulator(True, zeroed(SUMS))
    walk = _group_walk(accumulate, _dp4a_scales, DP4A_PLACES)
    place, hand = block_tile(TILE, TILE), dp4a_hand_over(*_results(out_dtype))

    @bounded(THREADS, 2)
    def gemm_group_dp4a(
        a: Device,
        b: Device,
        a_scales: Device,
        b_scales: Device,
        size: Any,
        copy: Any,
        fused: Any,
        given: Any,
        out: Device,
    ) -> None:
        """a: s8 (M, K); b: s8 (N, K); a_scales: fp32 (M, Q); b_scales: fp32 (N, Q); size: G;
        copy: see tile.py; given: bias and whether there is one; out: bits (M, N)."""
        memory = cuda.shared.array(SHARED_BYTES, uint8, 16)
        sums, totals = cuda.local.array(SUMS, int32), cuda.local.array(SUMS, float32)
        base, tile = shared_address(memory), place(a.shape[0], out.shape[1])
        walk(a, b, a_scales, b_scales, tile, size, copy, fused, base, sums, totals)
        hand(sums, tile, given, out)

    return gemm_group_dp4a


def _pipeline_kernel(out_dtype: str) -> Kernel:
    shape = BY_GROUPS
    walk = _group_walk(pipelined(shape, True), _mma_scales, MMA_PLACES)
    place, hand = block_tile(shape.rows, COLUMNS), hand_over(shape, *_results(out_dtype))
    count, memory_bytes = shape.sums, shape.shared_bytes

    @bounded(shape.threads, shape.blocks)
    def gemm_group_pipeline(
        a: Device,
        b: Device,
        a_scales: Device,
        b_scales: Device,
        size: Any,
        copy: Any,
        fused: Any,
        given: Any,
        out: Device,
    ) -> None:
        """As gemm_group_dp4a."""
        memory = cuda.shared.array(memory_bytes, uint8, 128)
        sums, totals = cuda.local.array(count, int32), cuda.local.array(count, float32)
        base, tile = shared_address(memory), place(a.shape[0], out.shape[1])
        walk(a, b, a_scales, b_scales, tile, size, copy, fused, base, sums, totals)
        hand(sums, tile, base, given, out)

    return gemm_group_pipeline


def _copy_width(size: int, *codes: Any) -> int:
    """Bytes per access, 16, 4 or 1: every group begins with one."""
    for width in (16, 4):
        if all(launch.aligned(array, size, width) for array in codes):
            return width
    return 1


@implements("int8.gemm_group", wing="numba", variant="dp4a")
@launch.entry("int8.gemm_group", "dp4a")
def gemm_group_dp4a(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """The GEMM of group-quantized operands; four products an instruction, any G >= 1.

    a: s8 (M, Q*G); b: s8 (N, Q*G); a_scales: fp32 (M, Q); b_scales: fp32 (N, Q); bias: fp32 (N,)
    or None. Returns out_dtype (M, N). Raises TypeError or ValueError naming the argument.
    """
    arrays = a, b, a_scales, b_scales, bias
    return _run(_dp4a_kernel, (TILE, TILE, THREADS), arrays, dialect, out_dtype)


@implements("int8.gemm_group", wing="numba", variant="pipeline")
@launch.entry("int8.gemm_group", "pipeline")
def gemm_group_pipeline(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """As `gemm_group_dp4a`, by tensor cores; any G >= 1 (a short one wastes most of a tile)."""
    arrays, shape = (a, b, a_scales, b_scales, bias), BY_GROUPS
    tile = shape.rows, COLUMNS, shape.threads
    return _run(_pipeline_kernel, tile, arrays, dialect, out_dtype)


def _run(
    kernel: Any, tile: tuple[int, int, int], arrays: tuple[Any, ...], dialect: str, out_dtype: str
) -> Any:
    a, b, a_scales, b_scales, bias = arrays
    spoken = check_gemm_group(a, b, a_scales, b_scales, bias, dialect, out_dtype)
    (M, K), N = a.shape, b.shape[0]
    out = launch.empty(a, (M, N), out_dtype)
    rows, columns, threads = tile
    # Where there is no bias, another vector stands in its place and is not read.
    given = (b_scales.reshape(-1), np.int32(0)) if bias is None else (bias, np.int32(1))
    size = K // a_scales.shape[1]
    told = np.uint64(size), np.int32(_copy_width(size, a, b))
    ending = np.int32(spoken.group_epilogue == FUSED), given, launch.bits(out)
    grid = (tiles(M, N, rows, columns),)
    launch.run(kernel, (out_dtype,), grid, (threads,), a, b, a_scales, b_scales, *told, *ending)
    return out
