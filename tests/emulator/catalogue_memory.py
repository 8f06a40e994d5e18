"""Planted memory bugs of the sanitizer's catalogue, each with the line that makes it right.

Contract: `ENTRIES` lists Entry (catalogue.py runs them). The kernel in `bug.source` is wrong in the
line that the comment BUG marks; with every pair of `fix` replaced it is right and must pass.
"""

from __future__ import annotations

import numpy as np

from emulator import Fault
from tests.emulator.planted import Bug, Entry
from tests.emulator.test_checks import MEMORY, RACES, floats

BOUNDS, SHARED_BOUNDS = "out of bounds, global", "out of bounds, shared"
MISALIGNED, UNWRITTEN = "misaligned", "uninitialised"
WARP_RACE, BLOCK_RACE = "race within a warp", "race between warps"

INTS = np.zeros(32, np.int32)


def _bounds(body: str, message: str, *, thread: int = 0, args: tuple = (), block: int = 0) -> Bug:
    source = f"""
        extern "C" __global__ void k(float* x, float* y) {{
          int i = blockIdx.x * blockDim.x + threadIdx.x;
          {body}  // BUG
        }}"""
    args = args or (floats(64), floats(64))
    return Bug(source, Fault.OUT_OF_BOUNDS, message, thread, block, blocks=2, args=args)


GLOBAL = (
    Entry(BOUNDS, "load one element past the end", MEMORY["one element past the end"],
          (("x[i + 1]", "x[i]"),)),
    Entry(BOUNDS, "load one element before the start",
          _bounds("y[i] = x[i - 1];", r"load of 4 bytes right before the start of argument 0"),
          (("x[i - 1]", "x[max(i - 1, 0)]"),)),
    Entry(BOUNDS, "store one element past the end",
          _bounds("y[i + 1] = 1.0f;", "store of 4 bytes right behind the end of argument 1",
                  thread=31, block=1), (("y[i + 1]", "y[i]"),)),
    Entry(BOUNDS, "store one element before the start", MEMORY["one element before the start"],
          (("(int)threadIdx.x - 1", "threadIdx.x"),)),
    Entry(BOUNDS, "atomic one element past the end",
          _bounds("atomicAdd(y + i + 1, 1.0f);", "atomic operation on 4 bytes right behind the end",
                  thread=31, block=1), (("y + i + 1", "y + i"),)),
    Entry(BOUNDS, "atomic one element before the start",
          _bounds("atomicMin((int*)y + i - 1, 3);",
                  "atomic operation on 4 bytes right before the start of argument 1"),
          (("y + i - 1", "y + i"),)),
    Entry(BOUNDS, "vector load that ends past the end", MEMORY["a vector that ends past the end"],
          (("y[threadIdx.x]", "if (threadIdx.x < 7) y[threadIdx.x]"),)),
    Entry(BOUNDS, "vector load that starts before the start",
          _bounds("if (i == 3) ((float4*)y)[i] = *(const float4*)(x - 2);",
                  "load of 16 bytes that starts 8 bytes before the start of argument 0", thread=3,
                  args=(floats(66)[2:], floats(64))), (("(x - 2)", "(x + 2)"),)),
    Entry(BOUNDS, "vector store that ends past the end",
          _bounds("if (i < 16) ((float4*)y)[i] = make_float4(0, 1, 2, 3);",
                  "store of 16 bytes that starts inside and ends 8 bytes past argument 1",
                  thread=15, args=(floats(64), floats(62))), (("i < 16", "i < 15"),)),
    Entry(BOUNDS, "null pointer", MEMORY["a null pointer"],
          (("y[threadIdx.x] = x[threadIdx.x]", "if (x) y[threadIdx.x] = x[threadIdx.x]"),)),
)  # fmt: skip


def _shared(body: str, message: str, thread: int = 0, kind: Fault = Fault.OUT_OF_BOUNDS) -> Bug:
    source = f"""
        extern "C" __global__ void k(int* y) {{
          __shared__ alignas(16) int s[32];
          int i = threadIdx.x;
          s[i] = i;
          __syncthreads();
          {body}  // BUG
        }}"""
    return Bug(source, kind, message, thread, args=(INTS,))


SHARED = (
    Entry(SHARED_BOUNDS, "store one element past the end", MEMORY["past the end of shared memory"],
          (("threadIdx.x + 1", "threadIdx.x"),)),
    Entry(SHARED_BOUNDS, "load one element past the end",
          _shared("y[i] = s[i + 1];", "load of 4 bytes at offset 128 of shared memory", 31),
          (("i + 1", "i ^ 1"),)),
    Entry(SHARED_BOUNDS, "load one element before the start",
          _shared("y[i] = s[i - 1];", "load of 4 bytes at offset -4 of shared memory"),
          (("i - 1", "i ^ 1"),)),
    Entry(SHARED_BOUNDS, "store one element before the start",
          _shared("s[i - 1] = 5; __syncwarp(); y[i] = s[i];",
                  "store of 4 bytes at offset -4 of shared memory"), (("i - 1", "i"),)),
    Entry(SHARED_BOUNDS, "atomic one element past the end",
          _shared("atomicAdd(&s[i + 1], 1); __syncwarp(); y[i] = s[i];",
                  "atomic operation on 4 bytes at offset 128", 31), (("i + 1", "i"),)),
    Entry(SHARED_BOUNDS, "atomic one element before the start",
          _shared("atomicMax(&s[i - 1], 1); __syncwarp(); y[i] = s[i];",
                  "atomic operation on 4 bytes at offset -4"), (("i - 1", "i"),)),
    Entry(SHARED_BOUNDS, "vector load that ends past the end", Bug(
        """
        extern "C" __global__ void k(float* y) {
          extern __shared__ float4 s[];
          int i = threadIdx.x;
          for (int n = 0; n < 4; n++)
            if (4 * i + n < 30) ((float*)s)[4 * i + n] = n;
          __syncthreads();
          if (i < 8) ((float4*)y)[i] = s[i];  // BUG
        }""",
        Fault.OUT_OF_BOUNDS, r"at offset 112 of shared memory, which has 120 bytes \(0 static",
        thread=7, args=(floats(32),), shared_bytes=120), (("i < 8)", "i < 7)"),)),
)  # fmt: skip


ALIGNMENT = (
    Entry(MISALIGNED, "vector load, global", MEMORY["a misaligned vector load"],
          (("x + threadIdx.x)", "x + threadIdx.x / 4 * 4)"),)),
    Entry(MISALIGNED, "vector store, global", Bug(
        """
        extern "C" __global__ void k(float* y) {
          *(float2*)(y + threadIdx.x) = make_float2(1, 2);  // BUG
        }""",
        Fault.MISALIGNED, "store of 8 bytes at element 1 .byte 4. of argument 0", thread=1,
        args=(floats(64),)), (("y + threadIdx.x", "y + 2 * threadIdx.x"),)),
    Entry(MISALIGNED, "vector load of a slice that begins at an odd element", Bug(
        """
        extern "C" __global__ void k(const float4* x, float4* y) {
          y[threadIdx.x] = x[threadIdx.x];  // BUG
        }""",
        Fault.MISALIGNED, "must be a multiple of 16, it is 4 more",
        args=(floats(133)[1:], floats(128))),
        (("x[threadIdx.x]", "((const float4*)((const float*)x + 3))[threadIdx.x % 8]"),)),
    Entry(MISALIGNED, "atomic of 8 bytes", Bug(
        """
        extern "C" __global__ void k(int* y) {
          if (threadIdx.x == 2) atomicAdd((unsigned long long*)(y + 1), 1ull);  // BUG
        }""",
        Fault.MISALIGNED, "atomic operation on 8 bytes at element 1", thread=2,
        args=(INTS,)), (("y + 1", "y + 2"),)),
    Entry(MISALIGNED, "vector load, shared",
          _shared("int2 v = *(const int2*)(s + i % 2); y[i] = v.x + v.y;",
                  "misaligned load of 8 bytes at offset 4 of shared memory", 1, Fault.MISALIGNED),
          (("s + i % 2", "s + i % 2 * 2"),)),
    Entry(MISALIGNED, "vector store, shared",
          _shared("if (i == 4) *(int4*)(s + 6) = make_int4(1, 2, 3, 4); "
                  "__syncwarp(); y[i] = s[i];",
                  "misaligned store of 16 bytes at offset 24", 4, Fault.MISALIGNED),
          (("s + 6", "s + 8"),)),
)  # fmt: skip


INITIALISATION = (
    Entry(UNWRITTEN, "load, global", MEMORY["global memory that nobody wrote"],
          (("threadIdx.x < 20", "threadIdx.x < 32"),)),
    Entry(UNWRITTEN, "vector load of which half is written, global", Bug(
        """
        extern "C" __global__ void k(float* x, float* y) {
          int i = threadIdx.x;
          if (i < 8) {
            x[2 * i] = 1.0f;
            if (i != 5) x[2 * i + 1] = 2.0f;
            ((float2*)y)[i] = ((float2*)x)[i];  // BUG
          }
        }""",
        Fault.UNINITIALISED, "load of 8 bytes at element 10 .* of argument 0", thread=5,
        args=("empty", floats(32))), (("if (i != 5) ", ""),)),
    Entry(UNWRITTEN, "atomic on memory that nobody cleared", Bug(
        """
        extern "C" __global__ void k(float* x) {
          atomicAdd(x, 1.0f);  // BUG
        }""",
        Fault.UNINITIALISED, "atomic operation on 4 bytes at element 0 .* of argument 0",
        args=("empty",)), (("atomicAdd(x, 1.0f)", "if (threadIdx.x == 0) x[0] = 1.0f"),)),
    Entry(UNWRITTEN, "load, shared", MEMORY["shared memory that nobody wrote"],
          (("if (threadIdx.x != 9) ", ""),)),
    Entry(UNWRITTEN, "accumulator that nobody cleared, shared", Bug(
        """
        extern "C" __global__ void k(int* y) {
          __shared__ int sum;
          atomicAdd(&sum, (int)threadIdx.x);  // BUG
          __syncthreads();
          y[threadIdx.x] = sum;
        }""",
        Fault.UNINITIALISED, "atomic operation on 4 bytes at offset 0 of shared memory",
        args=(INTS,)),
        (("atomicAdd(", "if (threadIdx.x == 0) sum = 0; __syncthreads(); atomicAdd("),)),
)  # fmt: skip


CONFLICTS = (
    Entry(WARP_RACE, "two lanes write one word", RACES["two threads write one word"],
          (("s[threadIdx.x / 2] = threadIdx.x", "s[threadIdx.x / 2] = 0"),
           ("s[threadIdx.x / 2] = 0", "if (threadIdx.x % 2) s[threadIdx.x / 2] = 0"))),
    Entry(WARP_RACE, "a lane reads what another wrote; a shuffle orders no memory",
          RACES["a shuffle orders no memory"], (("y[threadIdx.x] = s", "__syncwarp(); "
                                                 "y[threadIdx.x] = s"),)),
    Entry(WARP_RACE, "a lane overwrites what another has read", Bug(
        """
        extern "C" __global__ void k(int* y) {
          __shared__ int s[32];
          int i = threadIdx.x;
          s[i] = i;
          __syncwarp();
          int v = s[(i + 1) % 32];
          s[i] = v;  // BUG
          y[i] = v;
        }""",
        Fault.RACE, r"store of 4 bytes at offset 4 .*, read by thread \(0, 0, 0\) with no "
        "__syncwarp", thread=1, args=(INTS,)), (("s[i] = v", "__syncwarp(); s[i] = v"),)),
    Entry(BLOCK_RACE, "two warps write one word", Bug(
        """
        extern "C" __global__ void k(int* y) {
          __shared__ int s[32];
          s[threadIdx.x % 32] = threadIdx.x;  // BUG
          __syncthreads();
          y[threadIdx.x % 32] = s[threadIdx.x % 32];
        }""",
        Fault.RACE, r"store of 4 bytes at offset 0 .*, written by thread \(0, 0, 0\) with no "
        r"__syncthreads", thread=32, threads=64, args=(INTS,)),
        (("s[threadIdx.x % 32] = threadIdx.x", "if (threadIdx.x < 32) s[threadIdx.x] = 1"),)),
    Entry(BLOCK_RACE, "a warp reads before the barrier", RACES["read before the barrier"],
          (("y[threadIdx.x]", "__syncthreads(); y[threadIdx.x]"),)),
    Entry(BLOCK_RACE, "a warp overwrites what another has read",
          RACES["write after read without a barrier"],
          (("if (threadIdx.x >= 32) s", "__syncthreads(); if (threadIdx.x >= 32) s"),)),
    Entry(BLOCK_RACE, "a thread overwrites what all have read", RACES["several readers"],
          (("if (threadIdx.x == 95)", "__syncthreads(); if (threadIdx.x == 95)"),)),
)  # fmt: skip

ENTRIES = (*GLOBAL, *SHARED, *ALIGNMENT, *INITIALISATION, *CONFLICTS)
