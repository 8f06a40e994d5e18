"""Planted bugs of copies, barriers, masks and endless loops (catalogue_threads.py runs them)."""

from __future__ import annotations

import numpy as np

from emulator import Fault
from tests.emulator.planted import COPY, Bug

COPIES = {
    "no wait": Bug(
        COPY
        + """
        extern "C" __global__ void k(const int4* x, int* y) {
          __shared__ alignas(16) int4 s[32];
          copy(s + threadIdx.x, x + threadIdx.x); commit();
          __syncthreads();
          y[threadIdx.x] = s[threadIdx.x].y;  // BUG
        }""",
        Fault.PENDING_COPY,
        "load of 4 bytes at offset 4 of shared memory, where a cp.async is still in flight",
        args=(np.arange(128, dtype=np.int32), np.zeros(32, np.int32)),
    ),
    "a wait for too few groups": Bug(
        COPY
        + """
        extern "C" __global__ void k(const int4* x, int* y) {
          __shared__ alignas(16) int4 s[2][16];
          int i = threadIdx.x;
          copy(&s[0][i], x + i); commit();
          copy(&s[1][i], x + 16 + i); commit();
          wait<1>();
          int first = s[0][i].x;
          y[i] = first + s[1][i].x;  // BUG
        }""",
        Fault.PENDING_COPY,
        "still in flight",
        threads=16,
        args=(np.arange(128, dtype=np.int32), np.zeros(16, np.int32)),
    ),
    "a wait but no barrier": Bug(
        COPY
        + """
        extern "C" __global__ void k(const int4* x, int* y) {
          __shared__ alignas(16) int4 s[64];
          if (threadIdx.x < 32) { copy(s + threadIdx.x, x + threadIdx.x); commit(); wait<0>(); }
          y[threadIdx.x] = threadIdx.x < 32 ? 0 : s[63 - threadIdx.x].x;  // BUG
        }""",
        Fault.RACE,
        r"written by thread \(31, 0, 0\) with no __syncthreads",
        thread=32,
        threads=64,
        args=(np.arange(256, dtype=np.int32), np.zeros(64, np.int32)),
    ),
    "a copy over what others still read": Bug(
        COPY
        + """
        extern "C" __global__ void k(const int4* x, int* y) {
          __shared__ alignas(16) int4 s[64];
          int i = threadIdx.x, sum = 0;
          for (int step = 0; step < 2; step++) {
            if (step == 0 || i >= 32) copy(s + i, x + i);  // BUG
            commit(); wait<0>();
            __syncthreads();
            sum += s[i ^ 32].x;
          }
          y[i] = sum;
        }""",
        Fault.RACE,
        r"store of 16 bytes at offset 512 .*, read by thread \(0, 0, 0\)",
        thread=32,
        threads=64,
        args=(np.arange(256, dtype=np.int32), np.zeros(64, np.int32)),
    ),
    "a source past the end": Bug(
        COPY
        + """
        extern "C" __global__ void k(const int4* x, int* y) {
          __shared__ alignas(16) int4 s[32];
          copy(s + threadIdx.x, x + threadIdx.x); commit(); wait<0>();  // BUG
          y[threadIdx.x] = s[threadIdx.x].x;
        }""",
        Fault.OUT_OF_BOUNDS,
        "load of 16 bytes right behind the end of argument 0",
        thread=16,
        args=(np.arange(64, dtype=np.int32), np.zeros(32, np.int32)),
    ),
}

THREADS = {
    "lanes of one warp at two barriers": Bug(
        """
        extern "C" __global__ void k(int* y) {
          if (threadIdx.x < 16) { y[threadIdx.x] = 1; __syncthreads(); y[threadIdx.x] = 2; }  // BUG
          else { __syncthreads(); y[threadIdx.x] = 3; }  // BUG
        }""",
        Fault.DIVERGENT_BARRIER,
        "the lanes of warp 0 are not together at a barrier: threads 0-15 at bar.sync.*16-31",
        thread=16,
        args=(np.zeros(32, np.int32),),
    ),
    "an early return before the barrier": Bug(
        """
        extern "C" __global__ void k(int* y, int n) {
          __shared__ int s[64];
          if (threadIdx.x >= n) return;
          s[threadIdx.x] = 1;
          __syncthreads();  // BUG
          y[threadIdx.x] = s[n - 1 - threadIdx.x];
        }""",
        Fault.EARLY_EXIT,
        "50 threads of the 64 that barrier 0 counts wait for threads 50-63, exited already",
        threads=64,
        args=(np.zeros(64, np.int32), np.int32(50)),
    ),
    "half a warp leaves before the shuffle": Bug(
        """
        extern "C" __global__ void k(int* y) {
          if (threadIdx.x >= 16) return;
          y[threadIdx.x] = __shfl_down_sync(~0u, (int)threadIdx.x, 1);  // BUG
        }""",
        Fault.EARLY_EXIT,
        "mask names lanes 16-31 of this warp, exited already",
        args=(np.zeros(32, np.int32),),
    ),
    "a lane outside its own mask": Bug(
        """
        extern "C" __global__ void k(int* y) {
          y[threadIdx.x] = __shfl_xor_sync(0xffff, (int)threadIdx.x, 1);  // BUG
        }""",
        Fault.BAD_MASK,
        "lane 16 is not in its own member mask 0x0000ffff",
        thread=16,
        args=(np.zeros(32, np.int32),),
    ),
    "lanes that disagree on the mask": Bug(
        """
        extern "C" __global__ void k(int* y) {
          unsigned mask = threadIdx.x < 4 ? 0xffffffffu : 0xfffffff0u | threadIdx.x % 2;
          y[threadIdx.x] = __ballot_sync(mask, 1);  // BUG
        }""",
        Fault.BAD_MASK,
        "lanes of one warp wait for each other with different masks",
        args=(np.zeros(32, np.int32),),
    ),
    "a shuffle from a lane that is no member": Bug(
        """
        extern "C" __global__ void k(int* y) {
          if (threadIdx.x < 8)
            y[threadIdx.x] = __shfl_sync(0xff, (int)threadIdx.x, threadIdx.x + 5);  // BUG
        }""",
        Fault.SHUFFLE_SOURCE,
        "shfl reads lane 8, which is not in its member mask 0x000000ff",
        thread=3,
        args=(np.zeros(32, np.int32),),
    ),
    "one warp skips a barrier": Bug(
        """
        extern "C" __global__ void k(int* y) {
          asm volatile("bar.sync 1;" ::: "memory");  // BUG
          if (threadIdx.x < 32) asm volatile("bar.sync 2, 64;" ::: "memory");  // BUG
          else asm volatile("bar.sync 3, 64;" ::: "memory");  // BUG
          y[threadIdx.x] = 1;
        }""",
        Fault.DEADLOCK,
        "no thread of the block can go on: threads 0-31 at bar.sync .*; threads 32-63 at bar.sync",
        threads=64,
        args=(np.zeros(64, np.int32),),
    ),
    "an endless loop": Bug(
        """
        extern "C" __global__ void k(volatile int* y) {
          while (y[0] == 0) {}  // BUG
        }""",
        Fault.FUEL,
        "still running after .* loop iterations",
        args=(np.zeros(32, np.int32),),
    ),
    "a trap": Bug(
        """
        extern "C" __global__ void k(int* y) {
          if (y[threadIdx.x] == 5) __trap();  // BUG
        }""",
        Fault.TRAP,
        "executed a trap",
        thread=5,
        args=(np.arange(32, dtype=np.int32),),
    ),
    "mma in a warp of 16 threads": Bug(
        """
        extern "C" __global__ void k(int* y) {
          int d[4];
          asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32"
                       " {%0,%1,%2,%3}, {%4,%4,%4,%4}, {%4,%4}, {%4,%4,%4,%4};"
                       : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(0));  // BUG
          y[threadIdx.x] = d[0];
        }""",
        Fault.BAD_MASK,
        "warp-wide matrix instruction in a warp of fewer than 32 threads",
        threads=16,
        args=(np.zeros(32, np.int32),),
    ),
}
