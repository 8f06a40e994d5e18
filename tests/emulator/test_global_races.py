"""Races on global memory: found in any order, nothing invented, off unless asked for.

The planted ones are in catalogue_races.py (test_catalogue.py runs them). Here: right kernels, in
natural and permuted order; our own kernels whose blocks work together, and the same without fences.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import emulator
import kernels_cupy.launch
import kernels_numba.launch
from emulator import EmulatorError, Fault, race_records
from quantassay.loading import load_wings
from reference.op import Kernel, get_op, kernels, recipe
from tests.emulator.catalogue_races import ENTRIES, RIGHT
from tests.emulator.planted import launch

load_wings()
TOGETHER = [
    one for one in kernels() if one.variant in ("split_k", "single_pass") and one.op != "int8.gemm"
]


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_right_kernels_have_no_race(cuda, name, seed):
    source, blocks, threads, args, options = RIGHT[name]
    own = [arg.copy() for arg in args]
    cuda(source).launch(blocks, threads, own, seed=seed, **options)


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.name for entry in ENTRIES])
def test_races_are_found_in_any_order(cuda, entry):
    kernel = cuda(entry.bug.source)
    for seed in (1, 2, 3):
        with pytest.raises(EmulatorError) as caught:
            launch(kernel, entry.bug.ready(), seed=seed)
        assert caught.value.kind == Fault.GLOBAL_RACE


def test_only_who_asks_gets_the_check(cuda):
    kernel, y = cuda(ENTRIES[0].bug.source), np.zeros(32, np.int32)
    kernel.launch(2, 32, (y,))
    with emulator.watch_races(), pytest.raises(EmulatorError, match="race on global memory"):
        kernel.launch(2, 32, (y,))
    with emulator.watch_races():
        kernel.launch(2, 32, (y,), races=False)
        kernel.launch(2, 32, (y,), checks=False)
    kernel.launch(2, 32, (y,))


def test_arguments_that_overlap_are_one_memory(cuda):
    kernel = cuda("""
    extern "C" __global__ void k(int* x, int* y) {
      if (blockIdx.x == 0) x[8] = 1;
      else y[0] = 2;
    }""")
    memory = np.zeros(16, np.int32)
    with pytest.raises(EmulatorError, match="race on global memory"):
        kernel.launch(2, 1, (memory, memory[8:]), races=True)
    kernel.launch(2, 1, (memory, memory[9:]), races=True)


def test_a_cp_async_reads_too(cuda):
    kernel = cuda("""
    extern "C" __global__ void k(int4* x) {
      __shared__ int4 s[1];
      unsigned to = __cvta_generic_to_shared(s);
      if (blockIdx.x == 0) x[0] = make_int4(1, 2, 3, 4);
      else asm volatile("cp.async.ca.shared.global [%0], [%1], 16; cp.async.wait_all;"
                        :: "r"(to), "l"(x) : "memory");
    }""")
    with pytest.raises(EmulatorError, match=r"load of 16 bytes at .*, written by") as caught:
        kernel.launch(2, 1, (np.zeros(4, np.int32),), races=True)
    assert caught.value.kind == Fault.GLOBAL_RACE


def test_too_many_blocks_or_bytes_are_refused(cuda, monkeypatch):
    monkeypatch.setattr(race_records, "MAX_BLOCKS", 3)
    kernel = cuda('extern "C" __global__ void k(int* y) { if (blockIdx.x == 9) y[0] = 1; }')
    kernel.launch(3, 1, (np.zeros(1, np.int32),), races=True)
    with pytest.raises(ValueError, match="grid: got 4 blocks; allowed with races: up to 3"):
        kernel.launch(4, 1, (np.zeros(1, np.int32),), races=True)
    monkeypatch.setattr(race_records, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match="args: got 104 bytes; allowed with races: up to 100"):
        kernel.launch(1, 1, (np.zeros(26, np.int32),), races=True)


def call(kernel: Kernel) -> None:
    """The kernel on a small input of its op, many blocks to a tile."""
    op = get_op(kernel.op)
    sizes = {"M": 4, "N": 40, "K": 640}
    made = recipe(op.kinds[0], dtype=op.dtypes[0], **{name: sizes[name] for name in op.dims})
    inputs = op.build(made)
    options = {name: values[0] for name, values in op.options.items()}
    with emulator.watch_races():
        kernel.function(*(inputs[arg.name] for arg in op.inputs), **options)


@pytest.mark.parametrize("kernel", TOGETHER, ids=[f"{one.op} {one.label}" for one in TOGETHER])
def test_our_kernels_order_their_blocks_and_need_to(kernel, monkeypatch):
    call(kernel)
    compile_ = emulator.compile

    def without_fences(text: str, **options):
        text = re.sub(r"(?m)^\s*(membar\.gl|fence\.\S+gpu);", "", text)
        return compile_(re.sub(r"\.(acq_rel|acquire|release)\b", ".relaxed", text), **options)

    for module in (kernels_cupy.launch, kernels_numba.launch):
        module._emulated.cache_clear()
    monkeypatch.setattr(emulator, "compile", without_fences)
    with pytest.raises(EmulatorError, match="nothing orders the blocks") as caught:
        call(kernel)
    for module in (kernels_cupy.launch, kernels_numba.launch):
        module._emulated.cache_clear()
    assert caught.value.kind == Fault.GLOBAL_RACE
