"""Every registered kernel in every dialect that it names, against the oracle, bit for bit.

What is registered is what is tested: a new kernel needs no line here. Each meets the op's hostile
recipes and a few random ones; `quantassay check --examples 1000` runs more.
"""

from __future__ import annotations

import pytest

from quantassay import check_kernel, get_op
from quantassay.loading import load_wings
from reference.op import Kernel, kernels

EXAMPLES = 6
WINGS = ("cupy", "numba")

load_wings()
CHECKS = [
    pytest.param(kernel, dialect, id=f"{kernel.op}-{kernel.label}-{dialect}")
    for wing in WINGS
    for kernel in kernels(wing=wing)
    for dialect in kernel.dialects
]


@pytest.mark.parametrize(("kernel", "dialect"), CHECKS)
def test_every_bit_equals_the_oracle(kernel: Kernel, dialect: str) -> None:
    result = check_kernel(kernel, dialect, examples=EXAMPLES, seed=2026, device="emulator")
    assert result.counterexample is None, f"{kernel.label} {dialect}: {result.counterexample}"
    assert result.mismatches == 0
    hostile = [made for made in get_op(kernel.op).hostile if made.dtype == "fp16"]
    assert result.cases >= len(hostile) + EXAMPLES
    assert result.elements > 1000


@pytest.mark.parametrize("wing", WINGS)
def test_both_wings_implement_every_op(wing: str) -> None:
    from reference import OPS

    assert {kernel.op for kernel in kernels(wing=wing)} >= {o for o in OPS if o.startswith("int8.")}
