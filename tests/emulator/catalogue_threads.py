"""Planted bugs of copies, barriers, masks and loops: the catalogue's second half.

Contract: as catalogue_memory.py.
"""

from __future__ import annotations

import numpy as np

from emulator import Fault
from tests.emulator.planted import Bug, Entry
from tests.emulator.planted_sync import COPIES, THREADS
from tests.emulator.test_cooperative import BLOCKED

COPY_WAIT, DIVERGENT = "missing cp.async wait", "divergent barrier"
EARLY, EXITED = "early exit before a barrier", "exited lane in a collective"
MASK, ENDLESS = "wrong shuffle mask", "infinite loop"
OVERSIZED, STUCK = "oversized shared memory", "deadlock"

INTS = np.zeros(32, np.int32)

COPIED = (
    Entry(COPY_WAIT, "no wait at all", COPIES["no wait"],
          (("commit();\n          __sync", "commit(); wait<0>();\n          __sync"),)),
    Entry(COPY_WAIT, "a wait that leaves one group too many", COPIES["a wait for too few groups"],
          (("wait<1>();", "wait<0>();"),)),
    Entry(COPY_WAIT, "a wait, but no barrier for the others", COPIES["a wait but no barrier"],
          (("y[threadIdx.x] = threadIdx.x < 32", "__syncthreads(); "
            "y[threadIdx.x] = threadIdx.x < 32"),)),
    Entry(COPY_WAIT, "a copy over what others still read",
          COPIES["a copy over what others still read"],
          (("sum += s[i ^ 32].x;", "sum += s[i ^ 32].x; __syncthreads();"),)),
    Entry(COPY_WAIT, "a store to where a copy will land", Bug(
        COPIES["no wait"].source[: COPIES["no wait"].source.index("extern")]
        + """extern "C" __global__ void k(const int4* x, int* y) {
          __shared__ alignas(16) int4 s[32];
          copy(s + threadIdx.x, x + threadIdx.x); commit();
          s[threadIdx.x].x = 7;  // BUG
          wait<0>();
          y[threadIdx.x] = s[threadIdx.x].x;
        }""",
        Fault.PENDING_COPY, "store of 4 bytes at offset 0 of shared memory, where a cp.async",
        args=(np.arange(128, dtype=np.int32), INTS)),
        (("s[threadIdx.x].x = 7", "wait<0>(); s[threadIdx.x].x = 7"),)),
    Entry("out of bounds, global", "cp.async from behind the end",
          COPIES["a source past the end"],
          (("copy(s + threadIdx.x, x + threadIdx.x)",
            "copy(s + threadIdx.x, x + threadIdx.x % 16)"),)),
)  # fmt: skip

BARRIERS = (
    Entry(DIVERGENT, "lanes of one warp at two barriers",
          THREADS["lanes of one warp at two barriers"],
          (("y[threadIdx.x] = 1; __syncthreads();", "y[threadIdx.x] = 1;"),
           ("else { __syncthreads();", "else {"))),
    Entry(DIVERGENT, "a barrier inside a branch that half a warp takes", Bug(
        """
        extern "C" __global__ void k(int* y) {
          if (threadIdx.x < 48) __syncthreads();  // BUG
          else asm volatile("bar.sync 1;");  // BUG
          y[threadIdx.x] = 1;
        }""",
        Fault.DIVERGENT_BARRIER, "the lanes of warp 1 are not together at a barrier: threads 32-47",
        thread=32, threads=64, args=(np.zeros(64, np.int32),)),
        (("if (threadIdx.x < 48) _", "_"), ('else asm volatile("bar.sync 1;");', ""))),
    Entry(DIVERGENT, "a barrier that counts half a warp", Bug(
        """
        extern "C" __global__ void k(int* y) {
          asm volatile("bar.sync 1, 48;" ::: "memory");  // BUG
          y[threadIdx.x] = 1;
        }""",
        Fault.DIVERGENT_BARRIER, "barrier 1 with a count of 48: allowed are ids 0-15, and counts",
        threads=64, args=(np.zeros(64, np.int32),)), (("1, 48", "1, 64"),)),
    Entry(EARLY, "threads behind the end return first",
          THREADS["an early return before the barrier"],
          (("if (threadIdx.x >= n) return;", ""),
           ("s[n - 1 - threadIdx.x]", "threadIdx.x < n ? s[n - 1 - threadIdx.x] : 0"))),
    Entry(EARLY, "a whole warp returns first", Bug(
        """
        extern "C" __global__ void k(int* y) {
          if (threadIdx.x / 32 == 1) return;
          __syncthreads();  // BUG
          y[threadIdx.x] = 1;
        }""",
        Fault.EARLY_EXIT, "64 threads of the 96 that barrier 0 counts wait for threads 32-63",
        threads=96, args=(np.zeros(96, np.int32),)),
        (("if (threadIdx.x / 32 == 1) return;", ""),)),
    Entry(EARLY, "a block of a cooperative launch", BLOCKED["a barrier of a block inside"],
          (("if (blockIdx.x == 1 && threadIdx.x == 40) return;", ""),)),
)  # fmt: skip

COLLECTIVES = (
    Entry(MASK, "a lane outside its own mask", THREADS["a lane outside its own mask"],
          (("0xffff,", "~0u,"),)),
    Entry(MASK, "lanes that disagree", THREADS["lanes that disagree on the mask"],
          (("__ballot_sync(mask, 1)", "__ballot_sync(~0u, mask != 0)"),)),
    Entry(MASK, "a shuffle from a lane that is no member",
          THREADS["a shuffle from a lane that is no member"],
          (("threadIdx.x + 5", "(threadIdx.x + 5) % 8"),)),
    Entry(MASK, "a full mask in half a warp", Bug(
        """
        extern "C" __global__ void k(int* y) {
          if (threadIdx.x < 16)
            y[threadIdx.x] = __shfl_xor_sync(~0u, (int)threadIdx.x, 1);  // BUG
          else
            __syncwarp(0xffff0000);
        }""",
        Fault.EARLY_EXIT, "the member mask names lanes 16-31 of this warp, exited already",
        args=(INTS,)), (("~0u", "0xffff"),)),
    Entry(EXITED, "half a warp leaves before the shuffle",
          THREADS["half a warp leaves before the shuffle"],
          (("__shfl_down_sync(~0u, (int)threadIdx.x, 1)",
            "__shfl_down_sync(0xffff, (int)threadIdx.x, 1, 16)"),)),
    Entry(EXITED, "a lane leaves before the vote", Bug(
        """
        extern "C" __global__ void k(int* y) {
          if (threadIdx.x == 7) return;
          y[threadIdx.x] = __any_sync(~0u, threadIdx.x == 3);  // BUG
        }""",
        Fault.EARLY_EXIT, "the member mask names lane 7 of this warp, exited already",
        args=(INTS,)), (("~0u", "~(1u << 7)"),)),
    Entry(EXITED, "mma.sync in a warp of 16 threads", THREADS["mma in a warp of 16 threads"],
          (("int d[4];", "int d[4] = {}; if (blockDim.x % 32) return;"),)),
    Entry(ENDLESS, "a wait for memory that nobody changes", THREADS["an endless loop"],
          (("while (y[0] == 0)", "for (int n = 0; n < 9 && y[0] == 0; n++)"),)),
    Entry(ENDLESS, "a stride of 0", Bug(
        """
        extern "C" __global__ void k(int* y, int n) {
          int sum = 0;
          for (int i = threadIdx.x; i < n; i += gridDim.x - 1) sum += y[i];  // BUG
          y[threadIdx.x] = sum;
        }""",
        Fault.FUEL, "still running after 100000 loop iterations: an endless loop",
        args=(INTS, np.int32(32))), (("gridDim.x - 1", "blockDim.x"),)),
    Entry(STUCK, "warps at two barriers", THREADS["one warp skips a barrier"],
          (('"bar.sync 3, 64;"', '"bar.sync 2, 64;"'),)),
    Entry(STUCK, "a grid barrier that one block never reaches",
          BLOCKED["a block that leaves before the barrier"],
          (("if (blockIdx.x == 2) return;", ""),)),
    Entry(STUCK, "a grid barrier for one block too many",
          BLOCKED["everybody waits for one more block than there is"],
          (("<= gridDim.x * 32", "< gridDim.x * 32"),)),
    Entry("failed assert", "a trap", THREADS["a trap"], (("== 5", "== 99"),)),
    Entry(OVERSIZED, "one byte more than a block can have", Bug(
        """
        extern "C" __global__ void k(int* y) {  // BUG
          extern __shared__ int s[];
          s[threadIdx.x] = 1;
          y[threadIdx.x] = s[threadIdx.x];
        }""",
        Fault.SHARED_LIMIT, "232449 bytes .0 static. for one block; allowed: up to 232448",
        args=(INTS,), shared_bytes=232449), ()),
)  # fmt: skip

TOGETHER = {entry.name for entry in (*BARRIERS, *COLLECTIVES) if entry.bug in BLOCKED.values()}
ENTRIES = (*COPIED, *BARRIERS, *COLLECTIVES)
