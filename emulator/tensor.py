"""Tensor-core arithmetic of one warp: mma.sync m16n8k32 on s8 or u8, exactly, into int32.

Contract (PTX ISA, "Matrix Fragments for mma.m16n8k32" of .u8 and .s8; lane = 4*g + q, h = g + 8):
  A (16, 32) row-major: a0 = A[g, 4q:4q+4], a1 = A[h, same], a2 = A[g, 16+4q: ...], a3 = A[h, ...]
  B (32, 8) column-major: b0 = B[4q:4q+4, g], b1 = B[16+4q: ..., g]
  C, D (16, 8): c0, c1 = C[g, 2q:2q+2], c2, c3 = C[h, 2q:2q+2]
A and B are each s8 or u8, widened to int16; products are below 2**16 in magnitude, their sums are
int32 additions modulo 2**32 in any order. With .satfinite the sum of C and the (exact) products is
clamped to int32 instead.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from emulator.layout import THREAD, offset
from emulator.native import jit, load32s, load64, primitive, store32, store64

ARGS = offset(THREAD, "args")
RESULTS = offset(THREAD, "results")
SIZE = THREAD.itemsize

# Scratch memory: A as int16 (16, 32), B as int16 pairs (16, 8, 2), C as int32 (16, 8).
A_ROW_BYTES = 64
B_OFFSET = 16 * A_ROW_BYTES
B_PAIR_BYTES = 32
C_OFFSET = B_OFFSET + 16 * B_PAIR_BYTES
C_ROW_BYTES = 32
SCRATCH_BYTES = C_OFFSET + 16 * C_ROW_BYTES

SIGNED = 0xFFFFFFFF  # kept of a pair of sign-extended bytes
UNSIGNED = 0x00FF00FF

_I16 = ir.IntType(16)
_I32 = ir.IntType(32)


def _vector(element: ir.Type, count: int) -> ir.VectorType:
    return ir.VectorType(element, count)


@primitive
def _widen(typingctx: Any, source: Any, low: Any, high: Any, mask: Any) -> Any:
    """Four bytes at `source` become two pairs of int16, stored at `low` and `high`.

    mask is SIGNED or UNSIGNED.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bytes4 = _vector(ir.IntType(8), 4)
        loaded = builder.load(builder.inttoptr(args[0], bytes4.as_pointer()), align=1)
        words = builder.bitcast(builder.sext(loaded, _vector(_I16, 4)), _vector(_I32, 2))
        mask32 = builder.trunc(args[3], _I32)
        for index in range(2):
            pair = builder.and_(builder.extract_element(words, ir.Constant(_I32, index)), mask32)
            builder.store(pair, builder.inttoptr(args[1 + index], _I32.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), codegen


@primitive
def _accumulate_row(typingctx: Any, a_row: Any, b: Any, c_row: Any) -> Any:
    """c_row (8,) int32 += a_row (32,) int16 @ b (16 pairs, 8 columns, 2) int16.

    The multiply and the sum of neighbours are one instruction (pmaddwd) on x86.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words8, halves16, words16 = _vector(_I32, 8), _vector(_I16, 16), _vector(_I32, 16)
        c_pointer = builder.inttoptr(args[2], words8.as_pointer())
        total = builder.load(c_pointer, align=16)
        a_pointer = builder.inttoptr(args[0], _I32.as_pointer())
        b_pointer = builder.inttoptr(args[1], halves16.as_pointer())
        undefined = ir.Constant(words8, ir.Undefined)
        zeros = ir.Constant(words8, [0] * 8)
        even = ir.Constant(words8, [2 * i for i in range(8)])
        odd = ir.Constant(words8, [2 * i + 1 for i in range(8)])
        for pair in range(16):
            index = ir.Constant(_I32, pair)
            a_pair = builder.load(builder.gep(a_pointer, [index]), align=4)
            splat = builder.insert_element(undefined, a_pair, ir.Constant(_I32, 0))
            splat = builder.shuffle_vector(splat, undefined, zeros)
            a_wide = builder.sext(builder.bitcast(splat, halves16), words16)
            b_wide = builder.sext(builder.load(builder.gep(b_pointer, [index]), align=16), words16)
            product = builder.mul(a_wide, b_wide)
            unused = ir.Constant(words16, ir.Undefined)
            first = builder.shuffle_vector(product, unused, even)
            second = builder.shuffle_vector(product, unused, odd)
            total = builder.add(total, builder.add(first, second))
        builder.store(total, c_pointer, align=16)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@jit
def mma_int8(warp: int, scratch: int, mode: int) -> None:
    """Perform one m16n8k32 for the 32 threads at `warp`; D goes to their results.

    mode: 1 if A is unsigned, | 2 if B is, | 4 to clamp.
    """
    a_mask = UNSIGNED if mode & 1 else SIGNED
    b_mask = UNSIGNED if mode & 2 else SIGNED
    b = scratch + B_OFFSET
    c = scratch + C_OFFSET
    for lane in range(32):
        g = lane >> 2
        q = lane & 3
        args = warp + lane * SIZE + ARGS
        low = scratch + g * A_ROW_BYTES + q * 8
        high = low + 8 * A_ROW_BYTES
        _widen(args, low, low + 4, a_mask)
        _widen(args + 4, high, high + 4, a_mask)
        _widen(args + 8, low + 32, low + 36, a_mask)
        _widen(args + 12, high + 32, high + 36, a_mask)
        pairs = b + 2 * q * B_PAIR_BYTES + 4 * g
        _widen(args + 16, pairs, pairs + B_PAIR_BYTES, b_mask)
        _widen(args + 20, pairs + 8 * B_PAIR_BYTES, pairs + 9 * B_PAIR_BYTES, b_mask)
        sums = c + g * C_ROW_BYTES + 8 * q
        store64(sums, 0 if mode & 4 else load64(args + 24))
        store64(sums + 8 * C_ROW_BYTES, 0 if mode & 4 else load64(args + 32))
    for row in range(16):
        _accumulate_row(scratch + row * A_ROW_BYTES, b, c + row * C_ROW_BYTES)
    for lane in range(32):
        sums = c + (lane >> 2) * C_ROW_BYTES + 8 * (lane & 3)
        results = warp + lane * SIZE + RESULTS
        store64(results, load64(sums))
        store64(results + 8, load64(sums + 8 * C_ROW_BYTES))
        if mode & 4:
            for i in range(4):
                total = load32s(results + 4 * i) + load32s(warp + lane * SIZE + ARGS + 24 + 4 * i)
                store32(results + 4 * i, min(max(total, -(1 << 31)), (1 << 31) - 1))
