"""Planted memory bugs: each must be found with its kind, line and thread. Right twins must pass."""

from __future__ import annotations

import numpy as np
import pytest

import emulator
from emulator import EmulatorError, Fault
from tests.emulator.planted import COPY, Bug, expect


def floats(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.float32)


MEMORY = {
    "one element past the end": Bug(
        """
        extern "C" __global__ void k(const float* x, float* y) {
          int i = blockIdx.x * blockDim.x + threadIdx.x;
          y[i] = x[i + 1];  // BUG
        }""",
        Fault.OUT_OF_BOUNDS,
        r"load of 4 bytes right behind the end of argument 0 \(float32 \(64,\)\)",
        thread=31,
        block=1,
        blocks=2,
        args=(floats(64), floats(64)),
    ),
    "one element before the start": Bug(
        """
        extern "C" __global__ void k(const float* x, float* y) {
          float v = x[threadIdx.x];
          y[(int)threadIdx.x - 1] = v;  // BUG
        }""",
        Fault.OUT_OF_BOUNDS,
        r"store of 4 bytes right before the start of argument 1 \(float32 \(32,\)\)",
        args=(floats(32), floats(32)),
    ),
    "a vector that ends past the end": Bug(
        """
        extern "C" __global__ void k(const float4* x, float4* y) {
          y[threadIdx.x] = x[threadIdx.x];  // BUG
        }""",
        Fault.OUT_OF_BOUNDS,
        "starts inside and ends 8 bytes past argument 0",
        thread=7,
        args=(floats(30), floats(128)),
    ),
    "a null pointer": Bug(
        """
        extern "C" __global__ void k(const float* x, float* y) {
          y[threadIdx.x] = x[threadIdx.x];  // BUG
        }""",
        Fault.OUT_OF_BOUNDS,
        "null pointer",
        args=(None, floats(32)),
    ),
    "a misaligned vector load": Bug(
        """
        extern "C" __global__ void k(const float* x, float* y) {
          float4 v = *(const float4*)(x + threadIdx.x);  // BUG
          y[threadIdx.x] = v.x + v.w;
        }""",
        Fault.MISALIGNED,
        "load of 16 bytes at element 1 .byte 4. of argument 0.*multiple of 16, it is 4 more",
        thread=1,
        args=(floats(64), floats(32)),
    ),
    "past the end of shared memory": Bug(
        """
        extern "C" __global__ void k(float* y) {
          __shared__ float s[32];
          s[threadIdx.x + 1] = 1.0f;  // BUG
          __syncthreads();
          y[threadIdx.x] = s[threadIdx.x];
        }""",
        Fault.OUT_OF_BOUNDS,
        r"store of 4 bytes at offset 128 of shared memory, which has 128 bytes \(128 static, 0",
        thread=31,
        args=(floats(32),),
    ),
    "global memory that nobody wrote": Bug(
        """
        extern "C" __global__ void k(float* x, float* y) {
          if (threadIdx.x < 20) x[threadIdx.x] = 1.0f;
          y[threadIdx.x] = x[threadIdx.x];  // BUG
        }""",
        Fault.UNINITIALISED,
        "load of 4 bytes at element 20 .* of argument 0 .*, which nobody has written",
        thread=20,
        args=("empty", floats(32)),
    ),
    "shared memory that nobody wrote": Bug(
        """
        extern "C" __global__ void k(float* y) {
          __shared__ float s[32];
          if (threadIdx.x != 9) s[threadIdx.x] = 1.0f;
          __syncthreads();
          y[threadIdx.x] = s[threadIdx.x];  // BUG
        }""",
        Fault.UNINITIALISED,
        "offset 36 of shared memory, which nobody has written",
        thread=9,
        args=(floats(32),),
    ),
}

RACES = {
    "two threads write one word": Bug(
        """
        extern "C" __global__ void k(int* y) {
          __shared__ int s[64];
          s[threadIdx.x / 2] = threadIdx.x;  // BUG
          __syncthreads();
          y[threadIdx.x] = s[threadIdx.x / 2];
        }""",
        Fault.RACE,
        r"race: store of 4 bytes at offset 0 .*, written by thread \(0, 0, 0\) with no __syncwarp",
        thread=1,
        args=(np.zeros(32, np.int32),),
    ),
    "read before the barrier": Bug(
        """
        extern "C" __global__ void k(int* y) {
          __shared__ int s[64];
          if (threadIdx.x < 32) s[threadIdx.x] = threadIdx.x;
          y[threadIdx.x] = threadIdx.x < 32 ? 0 : s[63 - threadIdx.x];  // BUG
        }""",
        Fault.RACE,
        r"race: load of 4 bytes .*, written by thread \(31, 0, 0\) with no __syncthreads",
        thread=32,
        threads=64,
        args=(np.zeros(64, np.int32),),
    ),
    "write after read without a barrier": Bug(
        """
        extern "C" __global__ void k(int* y) {
          __shared__ int s[64];
          s[threadIdx.x] = threadIdx.x;
          __syncthreads();
          int v = s[threadIdx.x ^ 32];
          if (threadIdx.x >= 32) s[threadIdx.x] = v;  // BUG
          y[threadIdx.x] = v;
        }""",
        Fault.RACE,
        r"race: store of 4 bytes .*, read by thread \(0, 0, 0\) with no __syncthreads",
        thread=32,
        threads=64,
        args=(np.zeros(64, np.int32),),
    ),
    "several readers": Bug(
        """
        extern "C" __global__ void k(int* y) {
          __shared__ int s;
          if (threadIdx.x == 0) s = 3;
          __syncthreads();
          y[threadIdx.x] = s;
          if (threadIdx.x == 95) s = 4;  // BUG
        }""",
        Fault.RACE,
        r"read by several threads, among them .* with no __syncthreads",
        thread=95,
        threads=96,
        args=(np.zeros(96, np.int32),),
    ),
    "a shuffle orders no memory": Bug(
        """
        extern "C" __global__ void k(int* y) {
          __shared__ int s[32];
          s[threadIdx.x] = threadIdx.x;
          int v = __shfl_xor_sync(~0u, (int)threadIdx.x, 1);
          y[threadIdx.x] = s[v];  // BUG
        }""",
        Fault.RACE,
        r"written by thread \(1, 0, 0\) with no __syncwarp",
        args=(np.zeros(32, np.int32),),
    ),
}


def _ready(bug: Bug) -> Bug:
    """`"empty"` stands for memory that nobody has written."""
    made = [emulator.empty(32, np.float32) if isinstance(a, str) else a for a in bug.args]
    return Bug(**{**bug.__dict__, "args": tuple(made)})


@pytest.mark.parametrize("name", RACES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_race_is_found_in_any_order(cuda, name, seed):
    bug = RACES[name]
    with pytest.raises(EmulatorError) as caught:
        cuda(bug.source).launch(bug.blocks, bug.threads, bug.args, seed=seed)
    assert caught.value.kind in (Fault.RACE, Fault.UNINITIALISED)


def test_the_error_counts_the_other_threads_that_stopped(cuda):
    error = expect(cuda, _ready(MEMORY["global memory that nobody wrote"]))
    assert error.count == 12
    assert "11 more threads of this block stopped" in str(error)


def test_too_much_shared_memory(cuda):
    source = 'extern "C" __global__ void k(int* y) { extern __shared__ int s[]; y[0] = s != 0; }'
    with pytest.raises(ValueError, match=r"232449 bytes .* allowed: up to 232448") as caught:
        cuda(source).launch(1, 32, (np.zeros(1, np.int32),), shared_bytes=227 * 1024 + 1)
    assert caught.value.kind == Fault.SHARED_LIMIT


def test_without_checks_a_race_goes_unseen(cuda):
    bug = RACES["write after read without a barrier"]
    cuda(bug.source).launch(1, bug.threads, bug.args, checks=False)


TWINS = {
    "a shuffle reduction": """
        extern "C" __global__ void k(int* y) {
          int v = threadIdx.x;
          for (int o = 16; o; o /= 2) v += __shfl_xor_sync(~0u, v, o);
          y[threadIdx.x] = v;
        }""",
    "exchange through shared memory with __syncwarp": """
        extern "C" __global__ void k(int* y) {
          __shared__ int s[128];
          int base = threadIdx.x & ~31, lane = threadIdx.x & 31;
          for (int i = 0; i < 1200; i++) {   // more than the shadow's warp epochs
            s[threadIdx.x] = i + lane;
            __syncwarp();
            y[threadIdx.x] = s[base + (lane + 1) % 32];
            __syncwarp();
          }
        }""",
    "more barriers than the shadow has epochs": """
        extern "C" __global__ void k(int* y) {
          __shared__ int s[128], once[128];
          once[threadIdx.x] = threadIdx.x;
          for (int i = 0; i < 2500; i++) {
            s[threadIdx.x] = i;
            __syncthreads();
            y[threadIdx.x] = s[127 - threadIdx.x];
            __syncthreads();
          }
          y[threadIdx.x] += once[127 - threadIdx.x];
        }""",
    "atomics on one word": """
        extern "C" __global__ void k(int* y) {
          __shared__ int s;
          if (threadIdx.x == 0) s = 0;
          __syncthreads();
          atomicAdd(&s, 1); atomicMax(&s, 5);
          __syncthreads();
          y[threadIdx.x] = s;
        }""",
    "neighbouring bytes of one word": """
        extern "C" __global__ void k(int* y) {
          __shared__ alignas(4) unsigned char s[128];
          s[threadIdx.x] = threadIdx.x;
          __syncthreads();
          y[threadIdx.x] = ((int*)s)[threadIdx.x / 4];
        }""",
    "double buffering": """
        extern "C" __global__ void k(int* y) {
          __shared__ int s[2][128];
          int sum = 0;
          for (int i = 0; i < 8; i++) {
            s[i % 2][threadIdx.x] = i;
            __syncthreads();
            sum += s[i % 2][127 - threadIdx.x];
          }
          y[threadIdx.x] = sum;
        }""",
    "double buffering with cp.async": COPY
    + """
        extern "C" __global__ void k(int* y) {
          __shared__ alignas(16) int4 s[2][128];
          int i = threadIdx.x, sum = 0;
          copy(&s[0][i], (int4*)y); commit();
          for (int n = 0; n < 6; n++) {
            if (n < 5) copy(&s[(n + 1) % 2][i], (int4*)y + n);
            commit();
            wait<1>();
            __syncthreads();
            sum += s[n % 2][127 - i].x;
            __syncthreads();
          }
          y[i] = sum;
        }""",
    "threads of whole warps that leave before the others' named barrier": """
        extern "C" __global__ void k(int* y) {
          if (threadIdx.x >= 64) return;
          asm volatile("bar.sync 1, 64;" ::: "memory");
          y[threadIdx.x] = 1;
        }""",
    "several readers": """
        extern "C" __global__ void k(int* y) {
          __shared__ int s;
          if (threadIdx.x == 0) s = 3;
          __syncthreads();
          y[threadIdx.x] = s;
          __syncthreads();
          if (threadIdx.x == 95) s = 4;
        }""",
    "a lock taken by polling": """
        extern "C" __global__ void k(int* y) {
          __shared__ int lock, sum;
          if (threadIdx.x == 0) { lock = 0; sum = 0; }
          __syncthreads();
          while (atomicCAS(&lock, 0, 1) != 0) __nanosleep(20);
          atomicAdd(&sum, 1);
          atomicExch(&lock, 0);
          __syncthreads();
          y[threadIdx.x] = sum;
        }""",
}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("seed", [0, 1])
def test_right_twin_passes(cuda, name, seed):
    memory = np.zeros(128, np.int32)
    cuda(TWINS[name]).launch(2, 128, (memory,), seed=seed)
    assert memory.any() or "cp.async" in name


def test_a_race_is_still_found_after_the_epochs_wrapped(cuda):
    source = """
    extern "C" __global__ void k(int* y) {
      __shared__ int s[64];
      for (int i = 0; i < 3000; i++) __syncthreads();
      if (threadIdx.x < 32) s[threadIdx.x] = 1;
      if (threadIdx.x >= 32) y[threadIdx.x] = s[63 - threadIdx.x];  // BUG
    }"""
    memory = np.zeros(64, np.int32)
    expect(cuda, Bug(source, Fault.RACE, "race", thread=32, threads=64, args=(memory,)))


def test_a_byte_never_written_is_still_found_after_the_epochs_wrapped(cuda):
    source = """
    extern "C" __global__ void k(int* y) {
      __shared__ int s[64];
      for (int i = 0; i < 3000; i++) __syncthreads();
      y[threadIdx.x] = s[threadIdx.x];  // BUG
    }"""
    memory = np.zeros(64, np.int32)
    expect(cuda, Bug(source, Fault.UNINITIALISED, "nobody", threads=64, args=(memory,)))
