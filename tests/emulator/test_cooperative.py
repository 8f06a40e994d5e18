"""Cooperative launches: blocks that wait for each other end, and those that cannot are named."""

from __future__ import annotations

import numpy as np
import pytest

import emulator
from emulator import EmulatorError, Fault, arguments
from emulator.arguments import MAX_TOGETHER
from tests.emulator.planted import Bug, expect

BLOCKS, THREADS = 7, 96

# The next ticket's number of whole grids says which barrier a block is at.
BARRIER = """
__device__ void grid_barrier(unsigned* tickets) {
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    unsigned mine = atomicAdd(tickets, 1u), goal = (mine / gridDim.x + 1) * gridDim.x;
    while (POLL < goal) WAIT;
    __threadfence();
  }
  __syncthreads();
}
"""
POLLS = {
    "volatile": "*(volatile unsigned*)tickets",
    "acquire": "acquire(tickets)",
    "atom": "atomicAdd(tickets, 0u)",
    "cas": "atomicCAS(tickets, 0u, 0u)",
}
ACQUIRE = """
__device__ unsigned acquire(const unsigned* p) {
  unsigned v;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
"""
ROUNDS = """
extern "C" __global__ void k(int rounds, unsigned* tickets, int* now, int* then, int* out) {
  __shared__ int s[96];
  int n = gridDim.x * blockDim.x, i = blockIdx.x * blockDim.x + threadIdx.x;
  for (int round = 0; round < rounds; round++) {   // everybody adds its right neighbour's number
    s[threadIdx.x] = now[(i + 1) % n];
    __syncthreads();
    then[i] = now[i] + s[threadIdx.x];
    grid_barrier(tickets);
    int* t = now; now = then; then = t;
  }
  out[i] = now[i];
}
"""


def rounds(count: int, n: int) -> np.ndarray:
    values = np.arange(n, dtype=np.int32)
    for _ in range(count):
        values = values + np.roll(values, -1)
    return values


def launch(kernel, count: int = 5, **options) -> np.ndarray:
    n = BLOCKS * THREADS
    out = emulator.empty(n, np.int32)
    tickets, now, then = np.zeros(1, np.uint32), np.arange(n, dtype=np.int32), np.zeros(n, np.int32)
    args = (np.int32(count), tickets, now, then, out)
    kernel.launch(BLOCKS, THREADS, args, cooperative=True, **options)
    return np.asarray(out)


def source(poll: str = "volatile", wait: str = "{}") -> str:
    return ACQUIRE + BARRIER.replace("POLL", POLLS[poll]).replace("WAIT", wait) + ROUNDS


@pytest.mark.parametrize("wait", ["{}", "__nanosleep(100)"])
@pytest.mark.parametrize("poll", POLLS)
def test_a_grid_barrier_lets_everybody_see_what_all_wrote(cuda, poll, wait):
    kernel = cuda(source(poll, wait))
    for seed in range(4):
        np.testing.assert_array_equal(
            launch(kernel, seed=seed), rounds(5, BLOCKS * THREADS), f"{seed=}"
        )


def test_checks_and_trace_change_no_result(cuda):
    kernel = cuda(source())
    expected = rounds(5, BLOCKS * THREADS)
    np.testing.assert_array_equal(launch(kernel, checks=False), expected)
    np.testing.assert_array_equal(launch(kernel, trace=True, seed=3), expected)


def test_blocks_have_shared_memory_and_indices_of_their_own(cuda):
    kernel = cuda(source())
    n = 4 * 24
    out = emulator.empty(n, np.int32)
    now, then = np.arange(n, dtype=np.int32), np.zeros(n, np.int32)
    args = (np.int32(3), np.zeros(1, np.uint32), now, then, out)
    plain = """
    extern "C" __global__ void k(int* out) {
      out[(blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x] =
          blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z;
    }"""
    kernel.launch(4, 24, args, cooperative=True, seed=1)
    np.testing.assert_array_equal(out, rounds(3, n))
    places = emulator.empty((2, 3, 4), np.int32)
    cuda(plain).launch((4, 3, 2), 1, (places,), cooperative=True)
    z, y, x = np.indices((2, 3, 4))
    np.testing.assert_array_equal(places, x + 10 * y + 100 * z)


def test_a_missing_grid_barrier_shows_in_natural_order(cuda):
    kernel = cuda(source().replace("while (*(volatile unsigned*)tickets < goal) {}", ""))
    assert not np.array_equal(launch(kernel), rounds(5, BLOCKS * THREADS))


def test_traffic_is_that_of_the_blocks_one_by_one(cuda):
    kernel = cuda("""
    extern "C" __global__ void k(const int4* x, int4* y) {
      __shared__ int4 s[32];
      s[threadIdx.x] = x[blockIdx.x * 32 + threadIdx.x];
      __syncthreads();
      y[blockIdx.x * 32 + threadIdx.x] = s[31 - threadIdx.x];
    }""")
    x = np.arange(5 * 128, dtype=np.int32)
    found = [
        kernel.launch(5, 32, (x, emulator.empty(640, np.int32)), trace=trace, cooperative=together)
        for trace in (True, 3)
        for together in (False, True)
    ]
    assert found[0].lines == found[1].lines
    assert found[2].lines == found[3].lines
    assert [stats.traced_blocks for stats in found] == [5, 5, 3, 3]
    np.testing.assert_array_equal(found[0].counts, found[1].counts)


BLOCKED = {
    "a block that leaves before the barrier": Bug(
        """
        extern "C" __global__ void k(unsigned* tickets) {
          if (blockIdx.x == 2) return;
          if (threadIdx.x == 0) {
            atomicAdd(tickets, 1u);
            while (*(volatile unsigned*)tickets < gridDim.x) {}  // BUG
          }
          __syncthreads();
        }""",
        Fault.DEADLOCK,
        "between blocks: 1 block ended, all others only poll memory.*in this block: thread 0 at "
        "ld.volatile.global.u32 .*; threads 1-31 at bar",
        blocks=4,
        args=(np.zeros(1, np.uint32),),
    ),
    "everybody waits for one more block than there is": Bug(
        """
        extern "C" __global__ void k(unsigned* tickets) {
          atomicAdd(tickets, 1u);
          while (*(volatile unsigned*)tickets <= gridDim.x * 32) __nanosleep(10);  // BUG
        }""",
        Fault.DEADLOCK,
        "between blocks: all others only poll",
        blocks=3,
        args=(np.zeros(1, np.uint32),),
    ),
    "a barrier of a block inside": Bug(
        """
        extern "C" __global__ void k(unsigned* tickets) {
          if (blockIdx.x == 1 && threadIdx.x == 40) return;
          __syncthreads();  // BUG
        }""",
        Fault.EARLY_EXIT,
        "63 threads of the 64 that barrier 0 counts wait for thread 40",
        block=1,
        blocks=3,
        threads=64,
        args=(np.zeros(1, np.uint32),),
    ),
    "an access of one block": Bug(
        """
        extern "C" __global__ void k(unsigned* y) {
          y[blockIdx.x * 32 + threadIdx.x] = 1;  // BUG
        }""",
        Fault.OUT_OF_BOUNDS,
        "right behind the end of argument 0",
        block=3,
        blocks=4,
        args=(np.zeros(96, np.uint32),),
    ),
}


@pytest.mark.parametrize("name", BLOCKED)
def test_a_finding_names_block_and_line(cuda, name):
    expect(cuda, BLOCKED[name], cooperative=True, fuel=10_000_000)


def test_a_deadlock_of_blocks_is_found_in_any_order(cuda):
    for bug in BLOCKED.values():
        if bug.kind == Fault.DEADLOCK:
            for seed in (1, 2):
                expect(cuda, bug, cooperative=True, fuel=1_000_000, seed=seed)


def test_waiting_blocks_of_an_ordinary_launch_are_told_of_the_option(cuda):
    kernel = cuda(source())
    n = BLOCKS * THREADS
    numbers = np.zeros(n, np.int32)
    args = (np.int32(1), np.zeros(1, np.uint32), numbers, numbers.copy(), numbers.copy())
    with pytest.raises(EmulatorError, match="wait for each other need cooperative=True") as caught:
        kernel.launch(BLOCKS, THREADS, args, fuel=100_000)
    assert caught.value.kind == Fault.FUEL


def test_a_grid_that_cannot_run_at_once_is_refused(cuda, monkeypatch):
    kernel = cuda(source())
    numbers = np.zeros(MAX_TOGETHER * 1024, np.int32)
    args = (np.int32(1), np.zeros(1, np.uint32), numbers, numbers.copy(), numbers.copy())
    with pytest.raises(ValueError, match=r"grid: got \(133, 1, 1\), 133 blocks; .* up to 132 of"):
        kernel.launch(133, 32, args, cooperative=True)
    monkeypatch.setattr(arguments, "MEMORY_TOGETHER", 1 << 20)
    with pytest.raises(ValueError, match=r"grid: got .* 3 blocks; .* up to 2 of this size"):
        kernel.launch(3, 1024, args, cooperative=True)


def test_threads_of_a_block_may_spin_on_any_atomic(cuda):
    """A lock taken by exchange, in an ordinary launch: the holder gets its turn."""
    kernel = cuda("""
    extern "C" __global__ void k(int* lock, int* sum) {
      bool done = false;
      while (!done)
        if (atomicExch(lock, 1) == 0) {
          *(volatile int*)sum = *(volatile int*)sum + 1;
          __threadfence();
          atomicExch(lock, 0);
          done = true;
        }
    }""")
    for seed in (0, 1):
        total = np.zeros(1, np.int32)
        kernel.launch(2, 64, (np.zeros(1, np.int32), total), seed=seed)
        assert total[0] == 128
