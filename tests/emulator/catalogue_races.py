"""Planted races on global memory, and patterns that are right though they look like races.

Contract: `ENTRIES` as catalogue_memory.py, launched with races=True; `RIGHT` are further kernels in
which nothing must be found: name -> (source, blocks, threads, arguments, options).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from emulator import Fault
from tests.emulator.planted import Bug, Entry

BLOCKS, INSIDE = "race on global memory, between blocks", "race on global memory, within a block"
ON: dict[str, Any] = {"races": True}
TOGETHER = {**ON, "cooperative": True}


def ints(n: int) -> np.ndarray:
    return np.zeros(n, np.int32)


# The last block adds up what all have written: FENCE, then a ticket, then the others' parts.
TICKET = """
        extern "C" __global__ void k(int* parts, unsigned* ticket, int* out) {
          __shared__ bool last;
          int i = threadIdx.x;
          parts[blockIdx.x * 64 + i] = i;
          EACH
          __syncthreads();
          if (i == 0) {
            FIRST
            last = atomicAdd(ticket, 1u) == gridDim.x - 1;
          }
          __syncthreads();
          if (last) {
            int sum = 0;
            for (int b = 0; b < gridDim.x; b++) sum += parts[b * 64 + i];  // BUG
            out[i] = sum;
            if (i == 0) *ticket = 0;
          }
        }"""


def ticket(each: str = "", first: str = "") -> str:
    return TICKET.replace("EACH", each).replace("FIRST", first)


# Each block waits for the one before it and takes what that one left.
CHAIN = """
        extern "C" __global__ void k(int* values, int* flags) {
          if (threadIdx.x) return;
          int b = blockIdx.x;
          while (b && *(volatile int*)(flags + b - 1) == 0) {}
          values[b] = 1 + (b ? values[b - 1] : 0) + (b > 1 ? values[b - 2] : 0);  // BUG
          FENCE
          *(volatile int*)(flags + b) = 1;
        }"""
LOCK = """
        extern "C" __global__ void k(int* lock, int* sum) {
          bool done = false;
          while (!done)
            if (atomicCAS(lock, 0, 1) == 0) {
              *sum = *sum + 1;  // BUG
              FENCE
              atomicExch(lock, 0);
              done = true;
            }
        }"""
SHARED_WORD = (
    r"race on global memory: store of 4 bytes at element 0 .* of argument 0 .*, written by "
)

ENTRIES = (
    Entry(BLOCKS, "two blocks write one word, even with one value", Bug(
        """
        extern "C" __global__ void k(int* y) {
          y[threadIdx.x] = 7;  // BUG
        }""",
        Fault.GLOBAL_RACE, SHARED_WORD + r"thread \(0, 0, 0\) of block \(0, 0, 0\), and nothing "
        "orders the blocks .*equal values race too", block=1, blocks=2, args=(ints(64),),
        options=ON), (("threadIdx.x", "blockIdx.x * 32 + threadIdx.x"),)),
    Entry(BLOCKS, "a block reads what another one writes", Bug(
        """
        extern "C" __global__ void k(const int* x, int* y) {
          int i = blockIdx.x * 32 + threadIdx.x;
          y[i] = x[i ^ 32];  // BUG
        }""",
        Fault.GLOBAL_RACE, r"store of 4 bytes at element 32 .*, read by thread \(0, 0, 0\) of "
        r"block \(0, 0, 0\)|load of 4 bytes at element 0 .*, written by thread", block=1,
        blocks=2, args=("same", "same"), options=ON),
        (("x[i ^ 32]", "i"),)),
    Entry(BLOCKS, "a plain write beside atomics", Bug(
        """
        extern "C" __global__ void k(int* y) {
          if (threadIdx.x == 0) {
            if (blockIdx.x == 0) y[0] = 0;
            else atomicAdd(y, 1);  // BUG
          }
        }""",
        Fault.GLOBAL_RACE, "atomic operation on 4 bytes at element 0 .*, written by thread",
        block=1, blocks=3, args=(ints(1),), options=ON),
        (("if (blockIdx.x == 0) y[0] = 0;", ""), ("else atomicAdd", "atomicAdd"))),
    Entry(BLOCKS, "the last block's ticket without a fence", Bug(
        ticket(), Fault.GLOBAL_RACE, r"load of 4 bytes .* of argument 0 .*, written by thread "
        r"\(32, 0, 0\) of block \(0, 0, 0\)", thread=32, block=3, blocks=4,
        threads=64, args=(ints(256), np.zeros(1, np.uint32), ints(64)), options=ON),
        (("if (i == 0) {", "if (i == 0) { __threadfence();"),)),
    Entry(BLOCKS, "the last block's ticket without a barrier before it", Bug(
        ticket(first="__threadfence();").replace("__syncthreads();", "", 1), Fault.GLOBAL_RACE,
        r"written by thread \(32, 0, 0\) of block \(0, 0, 0\)", thread=32, block=3, blocks=4,
        threads=64, args=(ints(256), np.zeros(1, np.uint32), ints(64)), options=ON),
        (("if (i == 0) {\n            __t", "__syncthreads();\n          if (i == 0) { __t"),)),
    Entry(BLOCKS, "a flag without a fence", Bug(
        CHAIN.replace("FENCE", ""), Fault.GLOBAL_RACE,
        r"load of 4 bytes at element 0 .*, written by thread \(0, 0, 0\) of block \(0, 0, 0\)",
        block=1, blocks=4, args=(ints(4), ints(4)), options=TOGETHER),
        (("*(volatile int*)(flags + b) =", "__threadfence(); *(volatile int*)(flags + b) ="),)),
    Entry(BLOCKS, "a lock that is given back without a fence", Bug(
        LOCK.replace("FENCE", ""), Fault.GLOBAL_RACE, "load of 4 bytes at element 0 .* of argument "
        r"1 .*, written by thread \(0, 0, 0\) of block \(0, 0, 0\)", block=1, blocks=3, threads=1,
        args=(ints(1), ints(1)), options=ON),
        (("atomicExch", "__threadfence(); atomicExch"),)),
    Entry(INSIDE, "two warps, no barrier", Bug(
        """
        extern "C" __global__ void k(int* y) {
          int i = threadIdx.x;
          y[i] = i;  // BUG
          y[64 + i] = y[63 - i];
        }""",
        Fault.GLOBAL_RACE, r"store of .*, read by thread \(31, 0, 0\) of this block with no "
        r"__syncthreads\(\) between", thread=32, threads=64, args=(ints(128),),
        options=ON), (("y[64 + i]", "__syncthreads(); y[64 + i]"),)),
    Entry(INSIDE, "two lanes, no __syncwarp", Bug(
        """
        extern "C" __global__ void k(int* y) {
          int i = threadIdx.x;
          y[i] = y[31 - i];  // BUG
        }""",
        Fault.GLOBAL_RACE, r"load of .*, written by thread \(15, 0, 0\) of this block with no "
        r"__syncwarp\(\) or __syncthreads\(\) between", thread=16, args=(ints(32),), options=ON),
        (("y[i] = y[31 - i]", "int v = y[31 - i]; __syncwarp(); y[i] = v"),)),
    Entry(INSIDE, "a thread overwrites what all have read", Bug(
        """
        extern "C" __global__ void k(int* y) {
          y[1 + threadIdx.x] = y[0];
          if (threadIdx.x == 40) y[0] = 3;  // BUG
        }""",
        Fault.GLOBAL_RACE, "store of 4 bytes at element 0 .*, read by several threads, among them",
        thread=40, threads=64, args=(ints(65),), options=ON),
        (("if (threadIdx.x == 40)", "__syncthreads(); if (threadIdx.x == 40)"),)),
)  # fmt: skip

PARTS = (ints(256), np.zeros(1, np.uint32), ints(64))
RIGHT: dict[str, tuple[str, int, int, tuple[Any, ...], dict[str, Any]]] = {
    "atomics of all blocks": (
        """
        extern "C" __global__ void k(int* y) {
          atomicAdd(y + threadIdx.x % 4, 1);
          atomicMax(y + 5, (int)threadIdx.x);
        }""",
        5, 64, (ints(8),), ON,
    ),
    "neighbouring bytes": (
        """
        extern "C" __global__ void k(signed char* y) {
          y[blockIdx.x + 4 * threadIdx.x] = 1;
        }""",
        4, 32, (np.zeros(128, np.int8),), ON,
    ),
    "everybody reads": (
        """
        extern "C" __global__ void k(const int4* x, int* y) {
          int4 v = x[threadIdx.x % 8];
          y[blockIdx.x * 64 + threadIdx.x] = v.x + v.w;
        }""",
        4, 64, (ints(32), ints(256)), ON,
    ),
    "a ticket, the first thread's fence": (ticket(first="__threadfence();"), 4, 64, PARTS, ON),
    "a ticket, everybody's fence": (ticket(each="__threadfence();"), 4, 64, PARTS, ON),
    "a ticket that is a release": (
        ticket().replace(
            "atomicAdd(ticket, 1u) ==", "take(ticket) =="
        ).replace(
            'extern "C"',
            """__device__ unsigned take(unsigned* p) {
          unsigned mine;
          asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;"
                       : "=r"(mine) : "l"(p) : "memory");
          return mine;
        }
        extern "C\"""",
        ),
        4, 64, PARTS, ON,
    ),
    "a chain of flags": (
        CHAIN.replace("FENCE", "__threadfence();"), 5, 32, (ints(5), ints(5)), TOGETHER,
    ),
    "a lock": (LOCK.replace("FENCE", "__threadfence();"), 3, 64, (ints(1), ints(1)), ON),
    "a flag of each warp": (
        """
        extern "C" __global__ void k(int* values, int* flags, int* out) {
          int warp = threadIdx.x / 32, lane = threadIdx.x % 32, me = blockIdx.x * 2 + warp;
          values[me * 32 + lane] = me;
          __syncwarp();
          if (lane == 0) { __threadfence(); atomicExch(flags + me, 1); }
          int other = (me + 2) % (2 * gridDim.x);
          if (lane == 0) while (atomicAdd(flags + other, 0) == 0) {}
          __syncwarp();
          out[me * 32 + lane] = values[other * 32 + 31 - lane];
        }""",
        3, 64, (ints(192), ints(6), ints(192)), TOGETHER,
    ),
}  # fmt: skip
