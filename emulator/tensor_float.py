"""Tensor-core arithmetic of one warp on floats: mma.sync m16n8k16 into f32.

Contract: a thread hands over its fragments as f32 words, whatever they were (lower_matrix.py widens
f16, bf16 and tf32 exactly). Layout (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point
type"; lane = 4*g + q, h = g + 8):
  A (16, 16): a0, a1 = A[g, 2q:2q+2], a2, a3 = A[h, same], a4, a5 = A[g, 2q+8:2q+10], a6, a7 = A[h]
  B (16, 8): b0, b1 = B[2q:2q+2, g], b2, b3 = B[2q+8:2q+10, g]
  C, D (16, 8): c0, c1 = C[g, 2q:2q+2], c2, c3 = C[h, 2q:2q+2]
PTX leaves order and intermediate rounding open ("at least single precision"). Chosen here: C plus
the products in the order of k, each product exact and each sum rounded in f64, and one rounding to
f32 at the end. Where every partial sum is representable in f32, any order gives this result.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from emulator import tensor
from emulator.native import jit, primitive
from emulator.tensor import ARGS, RESULTS, SIZE

# Scratch memory: A as f64 (16, 16), B as f64 (16, 8), C as f64 (16, 8).
K = 16
ROW = 8 * 8  # bytes of a row of B or C
B_OFFSET = 16 * K * 8
C_OFFSET = B_OFFSET + K * ROW
WORD_OFFSET = C_OFFSET + 16 * ROW  # one word on its way
SCRATCH_BYTES = max(WORD_OFFSET + 64, tensor.SCRATCH_BYTES)

_F32, _F64, _I32 = ir.FloatType(), ir.DoubleType(), ir.IntType(32)


@primitive
def widen(typingctx: Any, source: Any, target: Any) -> Any:
    """The f32 at `source` becomes an f64 at `target`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(builder.inttoptr(args[0], _F32.as_pointer()), align=4)
        pointer = builder.inttoptr(args[1], _F64.as_pointer())
        builder.store(builder.fpext(value, _F64), pointer, align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@primitive
def widen_half(typingctx: Any, source: Any, target: Any) -> Any:
    """The f16 at `source` becomes an f64 at `target`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(builder.inttoptr(args[0], ir.HalfType().as_pointer()), align=2)
        pointer = builder.inttoptr(args[1], _F64.as_pointer())
        builder.store(builder.fpext(builder.fpext(value, _F32), _F64), pointer, align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@primitive
def narrow(typingctx: Any, source: Any, target: Any) -> Any:
    """The f64 at `source` becomes an f32 at `target`, rounded to nearest."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(builder.inttoptr(args[0], _F64.as_pointer()), align=8)
        pointer = builder.inttoptr(args[1], _F32.as_pointer())
        builder.store(builder.fptrunc(value, _F32), pointer, align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@primitive
def accumulate_row(typingctx: Any, a_row: Any, b: Any, c_row: Any) -> Any:
    """c_row (8,) f64 += a_row (16,) f64 @ b (16, 8) f64, one k after the other."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row = ir.VectorType(_F64, 8)
        c_pointer = builder.inttoptr(args[2], row.as_pointer())
        a_pointer = builder.inttoptr(args[0], _F64.as_pointer())
        b_pointer = builder.inttoptr(args[1], row.as_pointer())
        total = builder.load(c_pointer, align=8)
        undefined = ir.Constant(row, ir.Undefined)
        zeros = ir.Constant(ir.VectorType(_I32, 8), [0] * 8)
        for k in range(K):
            index = ir.Constant(_I32, k)
            value = builder.load(builder.gep(a_pointer, [index]), align=8)
            splat = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
            splat = builder.shuffle_vector(splat, undefined, zeros)
            line = builder.load(builder.gep(b_pointer, [index]), align=8)
            total = builder.fadd(total, builder.fmul(splat, line))
        builder.store(total, c_pointer, align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@jit
def mma_float(warp: int, scratch: int) -> None:
    """Perform one m16n8k16 for the 32 threads at `warp`; D goes to their results."""
    b = scratch + B_OFFSET
    c = scratch + C_OFFSET
    for lane in range(32):
        g = lane >> 2
        q = lane & 3
        args = warp + lane * SIZE + ARGS
        for i in range(8):
            row = g + 8 * (i >> 1 & 1)
            column = 2 * q + (i & 1) + 8 * (i >> 2)
            widen(args + 4 * i, scratch + 8 * (K * row + column))
        for i in range(4):
            row = 2 * q + (i & 1) + 8 * (i >> 1)
            widen(args + 32 + 4 * i, b + row * ROW + 8 * g)
            widen(args + 48 + 4 * i, c + (g + 8 * (i >> 1)) * ROW + 8 * (2 * q + (i & 1)))
    for row in range(16):
        accumulate_row(scratch + 8 * K * row, b, c + row * ROW)
    for lane in range(32):
        g = lane >> 2
        q = lane & 3
        results = warp + lane * SIZE + RESULTS
        for i in range(4):
            narrow(c + (g + 8 * (i >> 1)) * ROW + 8 * (2 * q + (i & 1)), results + 4 * i)
