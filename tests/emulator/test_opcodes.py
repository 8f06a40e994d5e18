"""Every opcode, type and modifier against its model, bit for bit.

Contract under test: PTX ISA 9.0 as the models in opcode_*.py state it. The kernels and inputs of
the same cases are what a GPU records later; where PTX leaves a result open, the emulator's choice
is pinned here.
"""

from __future__ import annotations

import numpy as np
import pytest

import emulator
from tests.emulator import opcode_mma_float
from tests.emulator.opcode_models import CASES, THREADS, Case

BY_NAME = {case.name: case for case in CASES}


def run(ptx: str, case: Case) -> np.ndarray:
    """The case's inputs through a kernel."""
    out = np.zeros(case.count, case.output_dtype)
    allowed = opcode_mma_float.ALLOWED.values()  # the only cases whose bits PTX leaves open
    kernel = emulator.compile(ptx, approximate=allowed).kernel("k")
    kernel.launch(case.count // THREADS, THREADS, [out, *case.inputs])
    return out


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_opcode_matches_its_model(name: str) -> None:
    case = BY_NAME[name]
    got, want = run(case.ptx, case), case.expected()
    wrong = np.flatnonzero(got != want)
    if len(wrong):
        first = wrong[0]
        inputs = ", ".join(hex(int(array[first])) for array in case.inputs)
        pytest.fail(
            f"{name}: {len(wrong)} of {case.count} differ; first at {first}: inputs {inputs} gave "
            f"{int(got[first]):#x}, expected {int(want[first]):#x}"
        )


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("add.f32", "add.f32", "add.ftz.f32"),
        ("cvt.rni.s8.f32", "cvt.rni", "cvt.rzi"),
        ("cvt.rn.f16.f32", "cvt.rn.f16.f32", "cvt.rn.relu.f16.f32"),
        ("fma.rn.f16", "fma.rn.f16 h0, h1, h2, h3", "mul.f16 h0, h1, h2; add.f16 h0, h0, h3"),
        ("max.f32", "max.f32", "max.NaN.f32"),
        ("shr.s32", "shr.s32", "shr.u32"),
        ("bfe.s32", "bfe.s32", "bfe.u32"),
        ("dp4a.s32.s32", "dp4a.s32.s32", "dp4a.u32.s32"),
        ("shf.l.clamp.b32", "clamp", "wrap"),
        ("setp.ltu.f32", "ltu", "lt"),
        ("add.rz.f32", "add.rz", "add.rn"),
        ("add.rm.f32", "add.rm", "add.rz"),
        ("fma.rp.f32", "fma.rp.f32 r0, r1, r2, r3", "mul.rp.f32 r0, r1, r2; add.rp.f32 r0, r0, r3"),
        ("mul.rp.f64", "mul.rp", "mul.rn"),
        ("cvt.rz.f32.s32", "cvt.rz", "cvt.rm"),
        ("cvt.rz.f16.f32", "cvt.rz", "cvt.rn"),
        ("mma.m16n8k32.s32.u8.s8.s32", "u8.s8", "s8.s8"),
        ("mma.m16n8k32.s32.u8.s8.s32", "u8.s8", "s8.u8"),
        ("mma.m16n8k16.s32.u8.u8.s32", "u8.u8", "u8.s8"),
        ("mma.m16n8k16.f32.f16.f16.f32", "f16.f16", "bf16.bf16"),
        ("mma.m16n8k8.f32.bf16.bf16.f32", "bf16.bf16", "f16.f16"),
    ],
)
def test_inputs_tell_neighbours_apart(name: str, right: str, wrong: str) -> None:
    """A kernel with a slightly wrong instruction must not pass."""
    case = BY_NAME[name]
    assert right in case.ptx
    assert np.any(run(case.ptx.replace(right, wrong), case) != case.expected())


def test_case_inputs_are_stable() -> None:
    """A recording on a GPU names inputs by case: they must not depend on the process."""
    case = BY_NAME["add.s32"]
    again = Case(case.name, case.target, case.sources, case.pools, case.body, case.model)
    for first, second in zip(case.inputs, again.inputs, strict=True):
        np.testing.assert_array_equal(first, second)
    assert case.count % THREADS == 0
