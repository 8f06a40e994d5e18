"""No kernel of ours reads a register that nothing writes, in any typical compilation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernels_cupy.catalogue import catalogue
from kernels_cupy.compile import ptx
from quantassay.loading import load_wings
from quantassay.mutation.build import Key, watched
from quantassay.mutation.registers import unwritten
from reference.op import Kernel, get_op, kernels

load_wings()
SOURCES = sorted({one.source for one in catalogue()})
NUMBA = kernels(wing="numba")


@pytest.mark.parametrize("source", SOURCES)
def test_cuda_kernels(source: str) -> None:
    told = [one.defines for one in catalogue() if one.source == source]
    for defines in {tuple(sorted(one.items())) for one in told}:
        text = ptx(source, dict(defines))
        assert ".entry" in text
        assert unwritten(text) == {}


@pytest.mark.parametrize("kernel", NUMBA, ids=lambda kernel: f"{kernel.op}-{kernel.variant}")
def test_numba_kernels(kernel: Kernel) -> None:
    op, texts = get_op(kernel.op), []

    def tell(key: Key, compiled: Any) -> None:
        texts.append(compiled.module.text)

    inputs = op.build(op.hostile[0])
    with watched(tell), np.errstate(all="ignore"):
        kernel.function(*(inputs[arg.name] for arg in op.inputs), dialect=kernel.dialects[0])
    assert texts
    assert [unwritten(text) for text in texts] == [{}] * len(texts)


def test_one_that_does_is_found() -> None:
    text = (
        ".visible .entry sums(\n.param .u64 p\n)\n{\n"
        "ld.param.u64 %rd1, [p];\n"
        "ld.global.v2.f32 {%f1, %f2}, [%rd1];\n"
        "@%p1 add.rn.f32 %f3, %f1, %f9;  // %f7\n"
        "setp.gt.f32 %p2, %f3, %f2;\n"
        "st.global.f32 [%rd2], %f3;\n"
        "ret;\n}\n"
    )
    assert unwritten(text) == {
        "sums": {
            "%p1": "@%p1 add.rn.f32 %f3, %f1, %f9;",
            "%f9": "@%p1 add.rn.f32 %f3, %f1, %f9;",
            "%rd2": "st.global.f32 [%rd2], %f3;",
        }
    }
