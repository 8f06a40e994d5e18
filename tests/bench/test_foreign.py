"""bench.foreign: verdicts are what happened, and a difference of one bit is one.

The kernels themselves run under `make foreign`; here a small one stands for them, right and wrong.
"""

from __future__ import annotations

import numpy as np
import pytest

import emulator
from bench.foreign.case import Case, Row, Tally, judge, table
from bench.foreign.triton_build import allowed

PTX = """
.version 8.8
.target sm_80
.address_size 64
.visible .entry k(.param .u64 out, .param .u64 in) {
.reg .b64 w<4>; .reg .b32 r<4>;
ld.param.u64 w0, [out]; ld.param.u64 w1, [in];
mov.u32 r0, %tid.x; mul.wide.u32 w2, r0, 4; add.u64 w0, w0, w2; add.u64 w1, w1, w2;
ld.global.u32 r1, [w1];
OPERATION
st.global.u32 [w0], r2;
ret;
}
"""


def launched(operation: str, want: np.ndarray, *, size: int = 32, close: float = -1) -> Row:
    def run() -> Tally:
        tally, out = Tally(), np.zeros(32, np.float32)
        kernel = emulator.compile(PTX.replace("OPERATION", operation)).kernel("k")
        tally.ran(kernel.launch(1, 32, [out, np.arange(size, dtype=np.float32)]))
        if close >= 0:
            tally.close("out", out, want, close, f"{close}")
        else:
            tally.compare("out", out, want)
        return tally

    return judge(Case("k", "here", "sm_80", run))


DOUBLE = "add.f32 r2, r1, r1;"
RIGHT = np.arange(32, dtype=np.float32) * 2


def test_bit_exact_and_within() -> None:
    row = launched(DOUBLE, RIGHT)
    assert (row.verdict, row.elements, row.good) == ("bit-exact", 32, True)
    assert row.instructions == 32 * 10
    assert "add.f32" in row.opcodes
    assert launched(DOUBLE, RIGHT + 1, close=1).verdict == "within 1"


def test_one_bit_is_a_difference() -> None:
    wrong = RIGHT.copy()
    wrong[0] = -0.0
    row = launched(DOUBLE, wrong)
    assert row.verdict.startswith("WRONG: 1 of 32; out[0]: got np.float32(0.0), expected")
    assert not row.good
    assert launched(DOUBLE, RIGHT + 2, close=1).verdict.startswith("WRONG: 32 of 32")
    nan = np.full(32, np.nan, np.float32)
    assert launched(DOUBLE, nan, close=1).verdict.startswith("WRONG: 32 of 32")


def test_what_stops_a_kernel_is_said() -> None:
    assert launched("tanh.approx.f32 r2, r1;", RIGHT).verdict.startswith("refused: tanh.approx.f32")
    row = launched(DOUBLE, RIGHT, size=31)
    assert row.verdict.startswith("finding: k: out-of-bounds load of 4 bytes")
    assert not row.good

    def missing() -> Tally:
        raise ModuleNotFoundError("package nowhere")

    absent = judge(Case("k", "nowhere", "sm_80", missing))
    assert (absent.verdict, absent.good) == ("not there: package nowhere", True)
    assert "| k | nowhere | sm_80 | 0 | 0 | not there: package nowhere |" in table([absent])


def test_other_dtypes_are_no_comparison() -> None:
    with pytest.raises(ValueError, match=r"out: float32 \(32,\) against float64"):
        launched(DOUBLE, RIGHT.astype(np.float64))


def test_only_open_opcodes_are_allowed() -> None:
    text = """
    div.full.f32 %f1, %f2, %f3; ex2.approx.ftz.f32 %f1, %f2; add.rn.f32 %f1, %f2, %f3;
    mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {...};
    mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {...};
    """
    assert allowed(text) == (
        "div.full.f32", "ex2.approx.ftz.f32", "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32",
    )  # fmt: skip
