"""The deterministic figures: by hand on small launches, and their history compared exactly."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

from bench import counters
from emulator.recording import recording
from kernels_cupy import int8_quantize
from quantassay.loading import load_wings
from reference.op import get_op, kernels

load_wings()
KERNELS = [kernel for wing in ("cupy", "numba") for kernel in kernels(wing=wing)]
KEPT: dict[str, Any] = json.loads(counters.FILE.read_text())


def test_figures_of_one_launch() -> None:
    x = np.ones((4, 256), np.float16)
    with recording(trace=True) as session:
        codes, scales = int8_quantize.quantize_per_token(x)
    moved = x.nbytes + codes.nbytes + scales.nbytes
    made = counters.figures(session.launches, codes.size + scales.size, moved)
    assert (made.launches, made.tensor_instructions) == (1, 0)
    assert made.load_bytes == x.nbytes
    assert made.store_bytes == codes.nbytes + scales.nbytes
    assert made.load_bytes + made.store_bytes == made.ideal_bytes
    assert made.waste == ()


def test_waste_names_the_line(tmp_path: Any) -> None:
    from kernels_cupy.launch import run

    source = tmp_path / "strided.cu"
    source.write_text(
        'extern "C" __global__ void strided(const float* a, float* out) {\n'
        "    __shared__ float tile[32 * 33];\n"
        "    tile[threadIdx.x * 32] = a[threadIdx.x * 8];\n"
        "    __syncthreads();\n"
        "    out[threadIdx.x] = tile[threadIdx.x * 32];\n"
        "}\n"
    )
    a, out = np.ones(256, np.float32), np.zeros(32, np.float32)
    with recording(trace=True) as session:
        run(str(source), "strided", {}, (1,), (32,), (a, out))
    made = counters.figures(session.launches, 32, a.nbytes + out.nbytes)
    lines = {(w.source.rpartition(":")[2], w.memory): (w.moved, w.ideal) for w in made.waste}
    assert lines == {("3", "shared"): (32, 1), ("5", "shared"): (32, 1), ("3", "global"): (32, 4)}
    assert made.waste[0].moved - made.waste[0].ideal >= made.waste[-1].moved - made.waste[-1].ideal


def test_changes_are_told_apart() -> None:
    before = {"a": {"sectors": 10, "elements": 5, "waste": []}, "b": {}}
    after = {"a": {"sectors": 11, "elements": 6, "waste": [1]}, "c": {}}
    made = {(c.kernel, c.figure): c.verdict for c in counters.compare(before, after)}
    assert made == {
        ("a", "sectors"): "worse",
        ("a", "elements"): "changed",
        ("b", ""): "gone",
        ("c", ""): "new",
    }
    (better,) = counters.compare({"a": {"sectors": 11}}, {"a": {"sectors": 10}})
    assert better.verdict == "better"
    assert counters.compare(before, copy.deepcopy(before)) == []


def test_the_figures_were_made_with_the_pinned_compilers() -> None:
    """So that a new pin cannot turn every comparison below into a skip."""
    root = counters.FILE.parent.parent
    lines = (root / "constraints.txt").read_text() + (root / "constraints-cuda13.txt").read_text()
    pins = dict(line.split("==") for line in lines.splitlines() if "==" in line)
    assert KEPT["compilers"] == {name: pins[name] for name in counters.COMPILERS}


def test_the_file_holds_every_kernel() -> None:
    assert set(KEPT["kernels"]) == {counters.name_of(kernel) for kernel in KERNELS}


@pytest.mark.parametrize("kernel", KERNELS, ids=[counters.name_of(k) for k in KERNELS])
def test_no_figure_has_changed(kernel: Any) -> None:
    """A change is no fault, but one to look at: `python -m bench.counters --write` records it."""
    if KEPT["compilers"] != counters.compilers():  # CUDA 12's, say, which make other PTX
        pytest.skip(f"bench/counters.json was made with {KEPT['compilers']}, not what is here")
    name = counters.name_of(kernel)
    made = json.loads(json.dumps(counters.asdict(counters.measure(kernel))))
    assert counters.compare({name: KEPT["kernels"][name]}, {name: made}) == []


# What is to be ideal, by sectors of 32 bytes: each byte moved once, within 2%. Not among them are
# per-tensor kernels in two launches: they read x twice.
ONCE = [
    kernel
    for kernel in KERNELS
    if ("quantize" in kernel.op or "asymmetric" in kernel.op)
    and "gemm" not in kernel.op
    and ("per_tensor" not in kernel.op or kernel.variant == "single_pass")
]


def shared_by_rows(kernel: Any) -> int:
    """Bytes of vectors (K,), such as a norm's weight, that every row reads anew, from L2, beyond
    the first.
    """
    op = get_op(kernel.op)
    inputs = op.build(counters.recipe_of(op, kernel))
    vectors = [inputs[arg.name].nbytes for arg in op.arrays() if arg.shape == ("K",)]
    return (counters.ROWS["M"] - 1) * sum(vectors)


@pytest.mark.parametrize("kernel", ONCE, ids=[counters.name_of(kernel) for kernel in ONCE])
def test_quantizing_kernels_move_each_byte_once(kernel: Any) -> None:
    figures = KEPT["kernels"][counters.name_of(kernel)]
    assert figures["sectors"] * 32 <= 1.02 * (figures["ideal_bytes"] + shared_by_rows(kernel))


def test_the_pipelines_have_no_bank_conflict() -> None:
    found = [k for k in KERNELS if k.variant in ("mma", "pipeline", "split_k")]
    assert found
    for kernel in found:
        figures = KEPT["kernels"][counters.name_of(kernel)]
        assert figures["wavefronts"] == figures["ideal_wavefronts"], counters.name_of(kernel)
