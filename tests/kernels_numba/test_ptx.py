"""What the PTX of the GEMM kernels is made of, and what their shared memory costs.

Contract: sums live in registers (no local memory, no calls); the tensor-core kernels hold exactly
the instructions that their tile asks for, `ldmatrix` and `mma.sync` in one basic block behind the
barrier; no kernel meets a bank twice, whatever K % 16 is. The differences from the CuPy wing that
docs/numba.md lists are looked up in both wings' PTX.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numba import types

from kernels_cupy import compile as nvrtc
from kernels_cupy.int8_gemm import gemm_defines
from kernels_numba import compile as compiler
from kernels_numba import int8_gemm, launch
from kernels_numba.tile_kernels import (
    dp4a_kernel,
    mma_kernel,
    pipeline_kernel,
    split_kernel,
    split_scaled_kernel,
)
from kernels_numba.tile_shapes import LARGE, MIDDLE, ONE_STAGE, SMALL, Shape

CODES, UNSIGNED = types.int8[:, ::1], types.uint8[:, ::1]
SUMS, HALVES = types.int32[:, ::1], types.uint16[:, ::1]
VECTOR, NUMBER, SIZE = types.float32[::1], types.int32, types.uint64
SCALING = types.Tuple((VECTOR, VECTOR, VECTOR, NUMBER, NUMBER))
WITH_ZERO = types.Tuple((*SCALING, types.int32[::1], types.int32[::1]))
NOTHING = types.UniTuple(types.int32, 1)
HEAD = (CODES, CODES, SIZE, NUMBER)
MMA = "mma.sync.aligned.m16n8k32.row.col.s32.{}.s8.s32"
LDMATRIX = "ldmatrix.sync.aligned.m8n8.x4.shared.b16"
_OPCODE = re.compile(r"^\s*(?:@!?%p\d+ )?([a-z][\w.:]*)\s", re.MULTILINE)


@cache
def ptx(factory: Callable[..., Any], constants: tuple[Any, ...], *signature: Any) -> str:
    return compiler.program(factory, constants, signature).ptx


def pipeline(shape: Shape) -> str:
    return ptx(pipeline_kernel, (shape, ("dequant", "fp16"), True), *HEAD, SCALING, HALVES)


def opcodes(text: str) -> Counter[str]:
    return Counter(_OPCODE.findall(text))


def ladder() -> dict[str, str]:
    tickets = types.int32[::1]
    found = {
        "dp4a": ptx(dp4a_kernel, (("dequant", "fp16"), True), *HEAD, SCALING, HALVES),
        "mma": ptx(mma_kernel, (), *HEAD, NOTHING, SUMS),
        "split_k": ptx(split_kernel, (SMALL,), *HEAD, SIZE, SUMS),
        "split_k, scaled": ptx(
            split_scaled_kernel, (SMALL, ("dequant", "fp16")),
            *HEAD, SIZE, SUMS, tickets, SCALING, HALVES,
        ),
        "azp": ptx(
            pipeline_kernel, (LARGE, ("azp", "fp16"), False),
            UNSIGNED, *HEAD[1:], WITH_ZERO, HALVES,
        ),
    }  # fmt: skip
    return found | {shape.name: pipeline(shape) for shape in (SMALL, MIDDLE, LARGE)}


def test_sums_stay_in_registers() -> None:
    for name, text in ladder().items():
        assert not re.search(r"\b(ld|st)\.local|\.local |__local_depot|\bcall\b", text), name


@pytest.mark.parametrize("shape", [SMALL, MIDDLE, LARGE], ids=lambda shape: shape.name)
def test_a_stage_takes_the_instructions_of_its_tile_and_no_more(shape: Shape) -> None:
    text = pipeline(shape)
    found = opcodes(text)
    rows, pairs = shape.warp_rows // 16, shape.pairs
    assert found[MMA.format("s8")] == 2 * rows * pairs
    assert found[LDMATRIX] == 2 * (rows + pairs // 2)
    assert f"cp.async.wait_group {shape.stages - 2};" in text
    assert "cp.async.cg.shared.global.L2::128B" in text
    assert "cp.async.ca.shared.global" in text
    assert f".maxntid {shape.threads}, 1, 1" in text
    assert f".minnctapersm {shape.blocks}" in text


@pytest.mark.parametrize("shape", [SMALL, MIDDLE, LARGE], ids=lambda shape: shape.name)
def test_products_stay_together_behind_the_barrier(shape: Shape) -> None:
    text = pipeline(shape)
    first, last = text.index(LDMATRIX), text.rindex(MMA.format("s8"))
    assert not re.search(r"\bbra\b|^\$L", text[first:last], re.MULTILINE), "one basic block"
    waits = text.index("cp.async.wait_group"), text.index("bar.sync"), first
    assert waits == tuple(sorted(waits))


def test_unsigned_codes_have_their_own_instructions() -> None:
    text = ladder()["azp"]
    assert opcodes(text)[MMA.format("u8")] == 2 * LARGE.warp_rows // 16 * LARGE.pairs
    dots = ptx(dp4a_kernel, (("azp", "fp16"), False), UNSIGNED, *HEAD[1:], WITH_ZERO, HALVES)
    assert opcodes(dots)["dp4a.u32.s32"] >= 64
    assert "dp4a.s32.s32" not in dots


def test_one_stage_loads_and_stores_16_bytes() -> None:
    found = opcodes(ladder()["mma"])
    assert found["ld.global.nc.v4.u32"] == 4
    assert found["st.shared.v4.b32"] == 4
    assert found[MMA.format("s8")] == 2 * ONE_STAGE.warp_rows // 16 * ONE_STAGE.pairs


def test_the_last_block_reads_the_others_sums_from_l2() -> None:
    text = ladder()["split_k, scaled"]
    assert "ld.global.cg.v4.b32" in text
    assert "atom.global.add" in text
    assert text.index("membar.gl") < text.index("ld.global.cg")


@pytest.mark.parametrize("depth", [272, 260, 259])
@pytest.mark.parametrize(("rows", "columns"), [(130, 132), (57, 64), (9, 131)])
@pytest.mark.parametrize(
    "variant", [int8_gemm.gemm_tiled, int8_gemm.gemm_dp4a, int8_gemm.gemm_mma,
                int8_gemm.gemm_pipeline, int8_gemm.gemm_split_k],
    ids=lambda variant: variant.__name__,
)  # fmt: skip
def test_no_bank_conflicts(
    variant: Callable[..., Any], rows: int, columns: int, depth: int
) -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(-128, 128, (rows, depth), dtype=np.int8)
    b = rng.integers(-128, 128, (columns, depth), dtype=np.int8)
    with launch.recording(trace=True) as session:
        variant(a, b)
    (one,) = session.launches
    assert one.stats.shared_wavefronts == one.stats.shared_ideal_wavefronts > 0


# -- beside the CuPy wing: docs/numba.md -----------------------------------------------------------


@cache
def cupy_pipeline() -> str:
    """The CuPy wing's kernel of the same tile, dequantizing to fp16, 16 bytes at a time."""
    text = nvrtc.ptx("int8_gemm.cu", gemm_defines(16, "fp16"), "sm_80")
    start = text.index(".entry gemm_pipeline_128")
    return text[start : text.find(".entry", start + 1)]


def test_both_wings_multiply_and_copy_with_the_same_instructions() -> None:
    numba, cupy = opcodes(pipeline(LARGE)), opcodes(cupy_pipeline())
    for opcode in (MMA.format("s8"), LDMATRIX, "cp.async.cg.shared.global.L2::128B"):
        assert numba[opcode] == cupy[opcode] > 0, opcode
    assert numba["st.shared.v2.b32"] == cupy["st.shared.v2.s32"] == 64
    assert numba["ld.global.nc.f32"] > 0
    assert cupy["ld.global.nc.f32"] > 0
    assert not numba["ld.global.f32"]


def test_arrays_come_as_structs() -> None:
    numba, cupy = pipeline(LARGE), cupy_pipeline()
    matrices, vectors, numbers = 3 * 9, 3 * 7, 4
    given = len(re.findall(r"\.param \.\w+ gemm_pipeline_param_\d+", numba))
    assert given == matrices + vectors + numbers
    assert len(re.findall(r"^\s*\.param", cupy, re.MULTILINE)) == 12


def test_indices_are_64_bits_wide() -> None:
    numba, cupy = opcodes(pipeline(LARGE)), opcodes(cupy_pipeline())
    assert numba["setp.lt.u64"] + numba["setp.ge.u64"] > 40
    assert cupy["setp.lt.u64"] + cupy["setp.ge.u64"] == 0


def test_one_kernel_serves_every_width_of_access() -> None:
    numba, cupy = opcodes(pipeline(LARGE)), opcodes(cupy_pipeline())
    for opcode in ("cp.async.ca.shared.global", "ld.global.nc.u8"):
        assert numba[opcode] > 0 == cupy[opcode], opcode


def test_loops_over_results_stay_loops() -> None:
    numba, cupy = pipeline(LARGE), cupy_pipeline()
    assert opcodes(numba)["cvt.rn.f16.f32"] == 4
    assert opcodes(cupy)["cvt.rn.f16.f32"] > 8


def test_shared_memory_and_stores_are_those_of_the_table() -> None:
    numba, cupy = pipeline(LARGE), cupy_pipeline()
    assert ".shared .align 128 .b8 shared_0[49152]" in numba
    assert "st.global.v2.u32" in numba
    assert "st.global.v4.u32" in cupy
