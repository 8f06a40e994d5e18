"""The per-tensor quantizer in one cooperative launch: geometry, traffic, order, the GPU's side."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from kernels_cupy import compile as compiler
from kernels_cupy import int8_quantize, launch
from kernels_cupy.launch import recording
from reference.op import get_op
from tests.kernels_cupy.test_launch import FakeCupy, gpu

assert gpu  # a fixture
HELD = launch.EMULATED_MULTIPROCESSORS * 512 * 16 * 8  # fp16 elements that the grid keeps


def halves(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, count)).astype(np.float16)


@pytest.mark.parametrize(
    ("vectors", "processors", "blocks"),
    [(1, 132, 1), (32, 132, 1), (33, 132, 2), (4223, 132, 132), (10**9, 132, 132), (10**9, 4, 4)],
)
def test_grid(vectors: int, processors: int, blocks: int) -> None:
    assert int8_quantize.once_grid(vectors, processors) == blocks


def test_sizes_are_the_same_on_both_sides() -> None:
    source = (compiler.FOLDER / int8_quantize.SOURCE).read_text()
    threads, kept = (
        int(re.findall(rf"constexpr int {name} = (\d+);", source)[0])
        for name in ("ONCE_THREADS", "ONCE_KEPT")
    )
    assert threads == int8_quantize.ONCE_THREADS
    assert launch.EMULATED_MULTIPROCESSORS * threads * kept * 8 == HELD


@pytest.mark.parametrize("count", [8, 500, 8 * 33, 40_000, 40_001])
def test_block_order_changes_nothing(count: int) -> None:
    x = halves(count, count)
    expected = get_op("int8.quantize_per_tensor").oracle(x, dialect="vllm")
    for seed in range(5):
        with recording(seed=seed) as session:
            got = int8_quantize.quantize_per_tensor_once(x, dialect="vllm")
        assert [one.tobytes() for one in got] == [one.tobytes() for one in expected]
        assert [one.kernel for one in session.launches] == ["quantize_tensor_once"]


@pytest.mark.parametrize(("count", "again"), [(HELD, 0), (HELD + 80_000, 80_000)])
def test_each_byte_is_read_once_where_registers_hold_it(count: int, again: int) -> None:
    with recording(trace=True) as session:
        int8_quantize.quantize_per_tensor_once(halves(count))
    (one,) = session.launches
    bookkeeping = 64 * launch.EMULATED_MULTIPROCESSORS  # the meeting
    assert 0 <= one.stats.global_load_bytes - 2 * (count + again) <= bookkeeping
    assert 0 <= one.stats.global_store_bytes - count <= bookkeeping
    assert one.stats.global_sectors <= one.stats.ideal_sectors + bookkeeping


class TestOnAGpu:
    """How a cooperative launch reaches CuPy. The GPU is a stand-in."""

    @pytest.fixture(autouse=True)
    def driver(self, gpu: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gpu, self.asked, self.each = gpu, [], 1
        gpu.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor = self.occupancy
        monkeypatch.setattr(FakeCupy, "processors", 6)

    def occupancy(self, function: Any, threads: int, shared: int) -> int:
        self.asked.append((function, threads, shared))
        return self.each

    def test_it_is_launched_as_such(self) -> None:
        int8_quantize.quantize_per_tensor_once(self.gpu.array(halves(40_000)))
        ((name, grid, block, *_),) = self.gpu.launched
        assert (name, grid, block) == ("quantize_tensor_once", (6,), (512,))
        assert self.gpu.cooperative == [True]
        assert self.asked == [(1, 512, 0)]
        int8_quantize.quantize_per_tensor(self.gpu.array(halves(40_000)))
        assert self.gpu.cooperative == [True, False, False]

    def test_a_grid_that_cannot_run_at_once_is_refused(self) -> None:
        self.each = 0
        message = r"grid: got \(6, 1, 1\), 6 blocks of 512 threads; allowed .* up to 0"
        with pytest.raises(ValueError, match=message):
            int8_quantize.quantize_per_tensor_once(self.gpu.array(halves(40_000)))
        assert self.gpu.launched == []
