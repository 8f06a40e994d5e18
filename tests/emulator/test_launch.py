"""Launches: argument errors, memory and staging, seeds, statistics, coverage."""

from __future__ import annotations

import gc
import threading
import weakref

import ml_dtypes
import numpy as np
import pytest

import emulator
from emulator import EmulatorError, memory

SCALE = """
extern "C" __global__ void k(const float* x, float* y, int n, float factor) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i] * factor;
}
"""
LIMITED = 'extern "C" __global__ void __launch_bounds__(64) k(int* y) { y[threadIdx.x] = 1; }'
X = np.arange(100, dtype=np.float32)


def scale_args(x, y, n=100):
    return x, y, np.int32(n), np.float32(2)


@pytest.mark.parametrize(
    ("grid", "block", "args", "message"),
    [
        (0, 32, "ok", r"grid.x: got 0; allowed: 1 to 2147483647"),
        ((1, 70000), 32, "ok", r"grid.y: got 70000; allowed: 1 to 65535"),
        (1, (32, 0), "ok", r"block.y: got 0; allowed: 1 to 1024"),
        (1, (1, 1, 65), "ok", r"block.z: got 65; allowed: 1 to 64"),
        (1, (32, 33), "ok", r"block: got \(32, 33, 1\), 1056 threads; allowed: up to 1024"),
        (1, 32, (X, X), "args: got 2 arguments; allowed: 4, what k takes"),
        (
            1,
            32,
            (X, X, np.int64(3), np.float32(2)),
            r"argument 2: got int64 \(8 bytes\);.* 4 bytes",
        ),
        (1, 32, (X, X, X, np.float32(2)), r"argument 2: got a pointer \(8 bytes\);.* 4 bytes"),
        (1, 32, (X, X, None, np.float32(2)), r"argument 2: got None, a null pointer"),
        (
            1,
            32,
            (X, X, 2**32, np.float32(2)),
            "argument 2: got 4294967296; allowed: -2147483648 to",
        ),
        (1, 32, (X[::2], X, 3, np.float32(2)), r"argument 0 .* must be C-contiguous; .*strides"),
        (1, 32, (X, X, b"abc", np.float32(2)), r"argument 2: got bytes \(3 bytes\)"),
    ],
)
def test_bad_values_are_named(cuda, grid, block, args, message):
    args = scale_args(X, X.copy()) if isinstance(args, str) else args
    with pytest.raises(ValueError, match=message):
        cuda(SCALE).launch(grid, block, args)


@pytest.mark.parametrize(
    ("grid", "args", "message"),
    [
        ("1", "ok", "grid: got '1'; allowed: an int or a tuple of 1 to 3 ints"),
        ((1, 1, 1, 1), "ok", "allowed: an int or a tuple of 1 to 3 ints"),
        (1.5, "ok", "grid: got 1.5"),
        (1, (X, X, 3, 2.0), "argument 3: got float; allowed: a NumPy array"),
        (1, (X, [1, 2], 3, np.float32(2)), "argument 1: got list"),
        (1, (X, X.astype(object), 3, np.float32(2)), "argument 1 .*got dtype object"),
        (1, (X, X.astype(">f4"), 3, np.float32(2)), "argument 1 .*got dtype >f4"),
    ],
)
def test_bad_types_are_named(cuda, grid, args, message):
    args = scale_args(X, X.copy()) if isinstance(args, str) else args
    with pytest.raises(TypeError, match=message):
        cuda(SCALE).launch(grid, 32, args)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"seed": -1}, "seed: got -1"),
        ({"fuel": 0}, "fuel: got 0"),
        ({"shared_bytes": -4}, "shared_bytes: got -4"),
    ],
)
def test_bad_options_are_named(cuda, option, message):
    with pytest.raises(ValueError, match=message):
        cuda(SCALE).launch(1, 32, scale_args(X, X.copy()), **option)


def test_launch_bounds_hold(cuda):
    with pytest.raises(ValueError, match="got 65 threads; k is compiled for up to 64"):
        cuda(LIMITED).launch(1, 65, (np.zeros(65, np.int32),))


def test_an_unknown_kernel_is_named_with_the_known_ones(cuda):
    module = cuda(SCALE).module
    with pytest.raises(ValueError, match="kernel: got 'scale'; allowed in this module: k"):
        module.kernel("scale")


def test_modules_and_kernels_are_made_once(cuda):
    text = cuda(SCALE).module.parsed.text
    assert emulator.compile(text) is emulator.compile(text)
    assert emulator.compile(text).kernel("k") is emulator.compile(text).kernel("k")


def test_ordinary_arrays_are_staged_and_copied_back(cuda):
    y = np.zeros(100, np.float32)
    cuda(SCALE).launch(4, 32, scale_args(X, y))
    np.testing.assert_array_equal(y, X * 2)


def test_arguments_that_alias_still_alias(cuda):
    whole = np.arange(101, dtype=np.float32)
    expected = whole.copy()
    for i in range(100):  # one thread after the other, each reads what the last one wrote
        expected[i + 1] = expected[i] * 2
    cuda(SCALE).launch(100, 1, scale_args(whole[:100], whole[1:]))
    np.testing.assert_array_equal(whole, expected)
    same = X.copy()
    cuda(SCALE).launch(4, 32, scale_args(same, same))
    np.testing.assert_array_equal(same, X * 2)


def test_a_failed_launch_leaves_ordinary_arrays_alone(cuda):
    y = np.zeros(100, np.float32)
    with pytest.raises(EmulatorError):
        cuda(SCALE).launch(4, 32, scale_args(X[:50], y))
    assert not y.any()


def test_writing_to_a_read_only_array_is_an_error(cuda):
    y = np.zeros(100, np.float32)
    y.flags.writeable = False
    with pytest.raises(ValueError, match=r"argument 1 .*: the kernel wrote .* read-only"):
        cuda(SCALE).launch(4, 32, scale_args(X, y))
    cuda(SCALE).launch(4, 32, scale_args(y, X.copy()))


COPY16 = """
extern "C" __global__ void k(const int4* x, int4* y) { y[threadIdx.x] = x[threadIdx.x]; }
"""


def test_misaligned_slices_stay_misaligned(cuda):
    owner = np.arange(4096, dtype=np.uint8)
    start = -owner.ctypes.data % 16
    y = np.zeros(512, np.uint8)
    cuda(COPY16).launch(1, 32, (owner[start : start + 512], y))
    np.testing.assert_array_equal(y, owner[start : start + 512])
    with pytest.raises(EmulatorError, match=r"misaligned .* it is 8 more"):
        cuda(COPY16).launch(1, 32, (owner[start + 8 : start + 520], y))


def test_empty_is_aligned_poisoned_and_tracked():
    for dtype in (np.int8, np.float32, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn):
        array = emulator.empty((3, 5), dtype)
        assert array.ctypes.data % 256 == 0
        assert array.shape == (3, 5)
        assert array.dtype == dtype
        assert (array.reshape(-1).view(np.uint8) == 0xA5).all()
        assert not emulator.written(array).any()
        emulator.mark_written(array[1:])
        assert emulator.written(array).tolist() == [[False] * 5, [True] * 5, [True] * 5]
        assert emulator.written(array[::2, 1]).tolist() == [False, True]
    assert emulator.empty(7, np.int8).shape == (7,)
    assert emulator.empty((), np.int8).shape == ()
    assert emulator.empty((0, 4), np.int8).size == 0
    assert emulator.written(np.zeros(3)) is None
    with pytest.raises(ValueError, match=r"shape: got \(-1,\)"):
        emulator.empty(-1, np.int8)
    with pytest.raises(TypeError, match="dtype: got object"):
        emulator.empty(1, object)


def test_written_follows_the_kernel(cuda):
    y = emulator.empty(100, np.float32)
    cuda(SCALE).launch(1, 32, scale_args(X, y, n=20))
    assert emulator.written(y).tolist() == [True] * 20 + [False] * 80
    with pytest.raises(EmulatorError, match=r"element 20 .byte 80. of argument 0"):
        cuda(SCALE).launch(1, 32, scale_args(y, X.copy(), n=21))
    cuda(SCALE).launch(1, 32, scale_args(y[:20], X.copy(), n=20))


def test_a_slice_ends_where_it_ends(cuda):
    y = emulator.empty(100, np.float32)
    with pytest.raises(
        EmulatorError, match=r"right behind the end of argument 1 \(float32 \(20,\)\)"
    ):
        cuda(SCALE).launch(1, 32, scale_args(X, y[:20], n=21))


def test_shadows_leave_with_their_memory():
    gc.collect()  # what earlier tests left in cycles must not leave during this one
    before = len(memory._allocations)
    array = emulator.empty(1000, np.float32)
    view = array[10:20].view(np.int32)
    assert len(memory._allocations) == before + 1
    gone = weakref.ref(array.base)
    del array
    assert emulator.written(view).tolist() == [False] * 10
    del view
    gc.collect()
    assert gone() is None
    assert len(memory._allocations) == len(memory._starts) == before


def test_structs_by_value_and_their_buffers(cuda):
    source = """
    struct P { float* y; int n; };
    extern "C" __global__ void k(P p) { if (threadIdx.x < p.n) p.y[threadIdx.x] = 1.0f; }
    """
    y = emulator.empty(8, np.float32)
    packed = np.array([(y.ctypes.data, 8)], np.dtype([("y", "u8"), ("n", "i4")], align=True))
    cuda(source).launch(1, 32, (packed.tobytes(),), buffers=[y])
    assert y.tolist() == [1.0] * 8
    with pytest.raises(EmulatorError, match=r"out-of-bounds store of 4 bytes at 0x.* no memory"):
        cuda(source).launch(1, 32, (packed.tobytes(),))


def test_module_variables_keep_their_values(cuda):
    source = """
    __device__ int total = 5;
    __constant__ int step[2] = {3, 4};
    extern "C" __global__ void k(int* y) { *y = atomicAdd(&total, step[1]); }
    """
    y = np.zeros(1, np.int32)
    seen = []
    for _ in range(3):
        cuda(source).launch(1, 1, (y,))
        seen.append(int(y[0]))
    assert seen == [5, 9, 13]


ORDER = """
extern "C" __global__ void k(int* when, int* clock) {
  int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  int threads = blockDim.x * blockDim.y * blockDim.z;
  when[block * threads + thread] = atomicAdd(clock, 1);
}
"""


def test_every_thread_of_every_block_runs_once_in_any_order(cuda):
    orders = set()
    for seed in (0, 1, 2, 2):
        when, clock = emulator.empty((24, 70), np.int32), np.zeros(1, np.int32)
        cuda(ORDER).launch((2, 3, 4), (7, 5, 2), (when, clock), seed=seed)
        assert sorted(when.reshape(-1).tolist()) == list(range(24 * 70))
        orders.add(when.tobytes())
        if seed == 0:
            np.testing.assert_array_equal(when.reshape(-1), np.arange(24 * 70))
    assert len(orders) == 3


TRANSPOSE = """
extern "C" __global__ void k(const float* x, float* y, float* sums) {
  __shared__ float s[32][33];
  s[threadIdx.y][threadIdx.x] = x[threadIdx.y * 32 + threadIdx.x];
  __syncthreads();
  float v = s[threadIdx.x][threadIdx.y];
  y[threadIdx.y * 32 + threadIdx.x] = v;
  for (int o = 16; o; o /= 2) v += __shfl_down_sync(~0u, v, o);
  if (threadIdx.x == 0) sums[threadIdx.y] = v;
}
"""


def test_seeds_do_not_change_a_kernel_without_races(cuda):
    x = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    results = set()
    for seed in range(6):
        y, sums = emulator.empty((32, 32), np.float32), emulator.empty(32, np.float32)
        cuda(TRANSPOSE).launch(1, (32, 32), (x, y, sums), seed=seed)
        np.testing.assert_array_equal(y, x.T)
        results.add(sums.tobytes())
    assert len(results) == 1


def test_dynamic_shared_memory(cuda):
    source = """
    extern "C" __global__ void k(int* y) {
      extern __shared__ int s[];
      s[threadIdx.x] = threadIdx.x;
      __syncthreads();
      y[threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
    }"""
    y = emulator.empty(64, np.int32)
    cuda(source).launch(1, 64, (y,), shared_bytes=256)
    np.testing.assert_array_equal(y, np.arange(64)[::-1])
    with pytest.raises(
        EmulatorError, match=r"offset 252 .* has 252 bytes \(0 static, 252 dynamic\)"
    ):
        cuda(source).launch(1, 64, (y,), shared_bytes=252)


def test_statistics_count_instructions(cuda):
    y = emulator.empty(100, np.float32)
    stats = cuda(SCALE).launch(4, 32, scale_args(X, y))
    assert stats.opcodes["ld.global.f32"] == 100
    assert stats.opcodes["st.global.f32"] == 100
    assert stats.opcodes["ret"] == 128
    assert stats.instructions == sum(stats.opcodes.values())
    assert stats.blocks_executed == stats.blocks_total
    assert stats.traced_blocks == 0


def test_coverage_adds_up_over_launches(cuda):
    source = """
    extern "C" __global__ void k(int* y, int which) {
      if (which == 0) { y[0] = 1; __syncthreads(); }
      else if (which == 1) { y[1] = 2; __syncthreads(); }
      else { y[2] = 3; __syncthreads(); }
    }"""
    emulator.coverage_reset()
    kernel = cuda(source)
    y = np.zeros(3, np.int32)
    missed = []
    for which in (0, 2, 1):
        kernel.launch(1, 1, (y, which))
        (((module, name), seen),) = emulator.coverage().items()
        assert (module, name) == (kernel.module.name, "k")
        assert len(seen.lines) == len(seen.executed)
        missed.append(len(seen.missed))
    assert missed[0] > missed[1] > missed[2] == 0
    emulator.coverage_reset()
    assert emulator.coverage() == {}


def test_named_modules_appear_by_name_in_coverage(cuda):
    emulator.coverage_reset()
    text = cuda(SCALE).module.parsed.text
    emulator.compile(text, name="int8_scale").kernel("k").launch(1, 32, scale_args(X, X.copy()))
    assert list(emulator.coverage()) == [("int8_scale", "k")]


def test_launches_from_several_threads_wait_for_each_other(cuda):
    kernel = cuda(SCALE)
    outputs = [np.zeros(100, np.float32) for _ in range(4)]

    def work(y: np.ndarray) -> None:
        for _ in range(20):
            kernel.launch(4, 32, scale_args(X, y))

    threads = [threading.Thread(target=work, args=(y,)) for y in outputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for y in outputs:
        np.testing.assert_array_equal(y, X * 2)
