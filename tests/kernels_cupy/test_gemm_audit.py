"""What ptxas made of the tensor-core GEMMs: registers for the blocks per SM that each is written
for, no spills, cp.async, and a loop that hardly does anything but multiply.
"""

from __future__ import annotations

import pytest

from kernels_cupy import int8_gemm, int8_gemm_azp, int8_gemm_requantize, tiling
from kernels_cupy.compile import ARCHS
from kernels_cupy.configuration import Configuration
from roofline.audit import AuditRow, audit, problems

REGISTERS = 65536  # of an SM
# Rows of a tile -> blocks per SM (__launch_bounds__), mma and issue slots of a stage per warp.
SHAPES = {16: (4, 8, 64), 32: (4, 16, 72), 64: (3, 32, 104), 128: (2, 64, 144)}


def chosen() -> list[Configuration]:
    """Every tensor-core kernel on its 16-byte path: plain, to fp16, with a zero point, to codes."""
    modules = int8_gemm, int8_gemm_azp, int8_gemm_requantize
    return [
        one
        for module in modules
        for one in module.configurations(False)
        if one.variant in ("pipeline", "split_k")
        and one.defines["COPY"] == 16
        and "fp32" not in one.path
        and one.dialect != "vllm"
    ]


@pytest.fixture(scope="module")
def rows() -> list[AuditRow]:
    return audit(ARCHS, chosen())


def tile_rows(row: AuditRow) -> int:
    return int(row.kernel.rpartition("_")[2])


def test_all_kernels_are_here(rows: list[AuditRow]) -> None:
    names = {row.kernel for row in rows}
    families = {("gemm", "pipeline"), ("gemm", "split_k")}
    families |= {("gemm_azp", "pipeline"), ("gemm_requantize", "pipeline")}
    assert names == {name for family in families for name in tiling.kernels(*family)}


def test_no_spill_and_all_is_as_intended(rows: list[AuditRow]) -> None:
    assert [words for row in rows for words in problems(row)] == []
    assert all(row.stack_bytes == row.local_loads == row.local_stores == 0 for row in rows)


def test_registers_leave_room_for_the_blocks(rows: list[AuditRow]) -> None:
    for row in rows:
        blocks, *_ = SHAPES[tile_rows(row)]
        assert 0 < row.registers <= REGISTERS // (blocks * tiling.BLOCK[0]), row.name
    assert max(row.registers for row in rows) <= 232


def test_the_loop_multiplies(rows: list[AuditRow]) -> None:
    """One stage per turn: as many mma as its tile takes, and at most so many issue slots. The
    largest tile issues 2.25 instructions per mma."""
    for row in rows:
        _, products, slots = SHAPES[tile_rows(row)]
        loop = row.hot_loop
        assert loop is not None
        assert (loop.tensor, loop.calls) == (products, 0), row.name
        assert loop.issue_slots <= slots, (row.name, loop.issue_slots)
        bytes_per_thread = 16 * (max(1, tile_rows(row) // 32) + 4)
        assert loop.load_bytes == bytes_per_thread, (row.name, loop.load_bytes)


def test_instructions(rows: list[AuditRow]) -> None:
    for row in rows:
        assert {"LDGSTS.128"} <= set(row.loads), row.name
        sign = "U8" if row.path.startswith("u8") else "S8"
        assert {name.split(".", 1)[1] for name in row.tensor} == {f"16832.{sign}.S8"}, row.name
        if row.variant == "pipeline":
            widest = "STG.64" if row.op == "int8.gemm_requantize" else "STG.128"
            assert widest in row.stores, (row.name, row.stores)
