"""Known access patterns and the sectors and wavefronts that they cost."""

from __future__ import annotations

import numpy as np
import pytest

import emulator

GLOBAL = """
extern "C" __global__ void k(const TYPE* x, TYPE* y) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  TYPE v = x[INDEX];
  y[i] = v;
}
"""


def trace_global(cuda, name: str, index: str, words: int, skip: int = 0, **options):
    kernel = cuda(GLOBAL.replace("TYPE", name).replace("INDEX", index))
    x = np.zeros(32768, np.uint8)[skip:]
    y = emulator.empty(64 * 4 * words, np.uint8)
    return kernel.launch(2, 32, (x, y), trace=True, **options)


@pytest.mark.parametrize(
    ("name", "index", "words", "sectors", "ideal"),
    [
        ("int", "i", 1, 4, 4),  # coalesced
        ("int2", "i", 2, 8, 8),
        ("int4", "i", 4, 16, 16),
        ("int", "i * 2", 1, 8, 4),
        ("int", "i * 8", 1, 32, 4),  # one sector per lane
        ("int", "i * 32", 1, 32, 4),
        ("int", "31 - i % 32", 1, 4, 4),  # backwards is as good
        ("int", "7", 1, 1, 1),  # broadcast
        ("int", "i % 32 + 1", 1, 5, 4),  # shifted by one element
        ("int4", "i % 32 * 2", 4, 32, 16),
    ],
)
def test_sectors(cuda, name, index, words, sectors, ideal):
    stats = trace_global(cuda, name, index, words, seed=3)
    load, store = stats.lines
    assert (load.requests, load.transactions, load.ideal) == (2, 2 * sectors, 2 * ideal)
    assert load.bytes == stats.global_load_bytes == 2 * 32 * 4 * words
    assert (store.requests, store.transactions, store.ideal) == (2, 8 * words, 8 * words)
    assert store.bytes == stats.global_store_bytes == 2 * 32 * 4 * words
    assert stats.global_requests == 4
    assert stats.global_sectors == 2 * sectors + 8 * words
    assert stats.ideal_sectors == 2 * ideal + 8 * words
    assert stats.traced_blocks == 2
    assert not load.store
    assert store.store
    assert "test.cu:" in load.source


SHARED = """
extern "C" __global__ void k(TYPE* y) {
  __shared__ alignas(16) int s[4096];
  int i = threadIdx.x;
  for (int n = i; n < 4096; n += 32) s[n] = n;
  __syncthreads();
  y[i] = *(const TYPE*)(s + INDEX);
}
"""


@pytest.mark.parametrize(
    ("name", "index", "wavefronts", "ideal"),
    [
        ("int", "i", 1, 1),
        ("int", "31 - i", 1, 1),
        ("int", "0", 1, 1),  # broadcast
        ("int", "i / 2", 1, 1),  # pairs read one word
        ("int", "i * 2", 2, 1),
        ("int", "i * 4", 4, 1),
        ("int", "i * 32", 32, 1),
        ("int", "i * 33", 1, 1),  # padded
        ("int", "i % 2 * 32 + 64 * (i / 2 % 2)", 4, 1),
        ("int2", "i * 2", 2, 2),  # halves of a warp
        ("int2", "i * 32", 32, 2),
        ("int4", "i * 4", 4, 4),  # quarters of a warp
        ("int4", "i * 32", 32, 4),
        ("int4", "0", 4, 4),
    ],
)
def test_wavefronts(cuda, name, index, wavefronts, ideal):
    source = SHARED.replace("TYPE", name).replace("INDEX", index)
    stats = cuda(source).launch(1, 32, (emulator.empty(128, np.int32),), trace=True)
    load = next(line for line in stats.lines if line.shared and not line.store)
    assert (load.requests, load.transactions, load.ideal) == (1, wavefronts, ideal)
    stores = [line for line in stats.lines if line.shared and line.store]
    assert sum(line.requests for line in stores) == 128
    assert sum(line.transactions for line in stores) == 128
    assert stats.shared_requests == 129
    assert stats.shared_wavefronts == 128 + wavefronts
    assert stats.shared_ideal_wavefronts == 128 + ideal


def test_lanes_with_different_trip_counts_meet_by_iteration(cuda):
    source = """
    extern "C" __global__ void k(const int* x, int* y) {
      int sum = 0;
      for (int n = 0; n <= threadIdx.x; n++) sum += x[n * 32 + threadIdx.x];
      y[threadIdx.x] = sum;
    }"""
    x = np.zeros(1024, np.int32)
    stats = cuda(source).launch(1, 32, (x, emulator.empty(32, np.int32)), trace=True)
    loads = [line for line in stats.lines if not line.store]
    assert sum(line.bytes for line in loads) == 32 * 33 // 2 * 4
    single = [line for line in loads if line.requests == 32]
    if len(loads) == 1:  # not unrolled
        assert single[0].transactions == sum(4 - n // 8 for n in range(32))


def test_cp_async_reads_global_and_writes_shared(cuda):
    source = """
    extern "C" __global__ void k(const int4* x, int4* y) {
      __shared__ int4 s[32];
      unsigned to = __cvta_generic_to_shared(s + threadIdx.x);
      asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;"
                   :: "r"(to), "l"(x + threadIdx.x), "r"(threadIdx.x < 16 ? 16 : 0));
      asm volatile("cp.async.wait_all;" ::: "memory");
      y[threadIdx.x] = s[threadIdx.x];
    }"""
    x = np.arange(64, dtype=np.int32)
    y = emulator.empty(128, np.int32)
    stats = cuda(source).launch(1, 32, (x, y), trace=True)
    np.testing.assert_array_equal(y, np.pad(x, (0, 64)))
    read = next(line for line in stats.lines if "cp.async" in line.text and not line.shared)
    write = next(line for line in stats.lines if "cp.async" in line.text and line.shared)
    assert (read.requests, read.transactions, read.bytes) == (1, 8, 256)
    assert (write.requests, write.transactions, write.ideal, write.bytes) == (1, 4, 4, 512)


def test_an_iteration_without_bytes_does_not_end_the_count(cuda):
    source = """
    extern "C" __global__ void k(const int4* x, int4* y) {
      __shared__ int4 s[3][32];
      #pragma unroll 1
      for (int n = 0; n < 3; n++) {
        unsigned to = __cvta_generic_to_shared(&s[n][threadIdx.x]);
        asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;"
                     :: "r"(to), "l"(x + threadIdx.x), "r"(n == 1 ? 0 : 16));
      }
      asm volatile("cp.async.wait_all;" ::: "memory");
      y[threadIdx.x] = s[2][threadIdx.x];
    }"""
    x, y = np.arange(128, dtype=np.int32), emulator.empty(128, np.int32)
    stats = cuda(source).launch(1, 32, (x, y), trace=True)
    np.testing.assert_array_equal(y, x)
    read = next(line for line in stats.lines if "cp.async" in line.text and not line.shared)
    assert (read.requests, read.transactions, read.bytes) == (2, 32, 1024)


def test_only_the_first_blocks_are_traced(cuda):
    kernel = cuda(GLOBAL.replace("TYPE", "int").replace("INDEX", "i"))
    x = np.arange(320, dtype=np.int32)
    y = emulator.empty(320, np.int32)
    stats = kernel.launch(10, 32, (x, y), trace=3)
    assert stats.traced_blocks == 3
    assert kernel.launch(10, 32, (x, y), trace=np.True_).traced_blocks == 10
    assert stats.global_requests == 6
    assert stats.opcodes["ld.global.u32"] == 320
    np.testing.assert_array_equal(y, x)


def test_tracing_changes_no_result_and_no_instruction_count(cuda):
    kernel = cuda(SHARED.replace("TYPE", "int").replace("INDEX", "i * 3"))
    results = []
    for trace in (False, True):
        y = emulator.empty(32, np.int32)
        stats = kernel.launch(1, 32, (y,), trace=trace)
        results.append((y.tolist(), stats.opcodes))
    assert results[0] == results[1]


def test_traffic_by_source_line(cuda):
    source = """
    extern "C" __global__ void k(const int* x, int* y) {
      __shared__ int s[256];
      s[threadIdx.x] = s[threadIdx.x + 32] = x[threadIdx.x];
      __syncwarp();
      y[threadIdx.x] = s[threadIdx.x * 2 % 64];
    }"""
    args = np.arange(32, dtype=np.int32), emulator.empty(32, np.int32)
    stats = cuda(source).launch(1, 32, args, trace=True)
    copied, moved = stats.source_lines()
    assert copied.source.endswith("test.cu:4")
    assert (copied.global_requests, copied.global_sectors, copied.ideal_sectors) == (1, 4, 4)
    assert (copied.shared_requests, copied.shared_wavefronts, copied.bank_conflicts) == (2, 2, 0)
    assert (copied.shared_bytes, copied.global_load_bytes, copied.global_store_bytes) == (
        256,
        128,
        0,
    )
    assert moved.source.endswith("test.cu:6")
    assert (moved.shared_requests, moved.shared_wavefronts, moved.bank_conflicts) == (1, 2, 1)
    assert (moved.shared_bytes, moved.global_load_bytes, moved.global_store_bytes) == (128, 0, 128)
    for name in ("shared_requests", "shared_wavefronts", "global_sectors", "global_load_bytes"):
        assert getattr(copied, name) + getattr(moved, name) == getattr(stats, name)
