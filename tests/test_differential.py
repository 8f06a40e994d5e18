"""Every registered kernel in every dialect that it names, against the oracle, bit for bit.

What is registered is what is tested: a new kernel needs no line here. Each meets the op's hostile
recipes, every batch of 1 to 33 tokens at the hidden sizes of quantassay/cases.py, and a few random
ones; `quantassay check --sweep --examples 1000` runs more.
"""

from __future__ import annotations

import pytest

from quantassay import CheckResult, get_op
from quantassay.cases import BATCHES, dtypes_of
from quantassay.loading import load_wings
from quantassay.parallel import run_parallel
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


Results = dict[tuple[str, str, str, str], CheckResult]


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Results:
    """What the selected tests need, on all cores."""
    here = [item for item in request.session.items if item.path == request.path]
    calls = [getattr(item, "callspec", None) for item in here]
    wanted = [one.params for one in calls if one is not None and "kernel" in one.params]
    found = run_parallel(
        sorted({params["kernel"].op for params in wanted}),
        sorted({params["kernel"].wing for params in wanted}),
        sorted({params["dialect"] for params in wanted}),
        examples=EXAMPLES,
        seed=2026,
        sweep=True,
        device="emulator",
    )
    return {(one.op, one.wing, one.variant, one.dialect): one for one in found}


@pytest.mark.parametrize(("kernel", "dialect"), CHECKS)
def test_every_bit_equals_the_oracle(results: Results, kernel: Kernel, dialect: str) -> None:
    result = results[kernel.op, kernel.wing, kernel.variant, dialect]
    assert result.counterexample is None, f"{kernel.label} {dialect}: {result.counterexample}"
    assert result.mismatches == result.allowed == 0
    op = get_op(kernel.op)
    dtypes, kinds = dtypes_of(op, dialect), op.kinds_in(dialect)
    hostile = [made for made in op.hostile if made.dtype in dtypes and made.kind in kinds]
    assert result.cases >= len(hostile) + len(BATCHES) // 3 + EXAMPLES
    assert result.elements > 1000


@pytest.mark.parametrize("wing", WINGS)
def test_both_wings_implement_every_op(wing: str) -> None:
    from reference import OPS

    assert {kernel.op for kernel in kernels(wing=wing)} >= {o for o in OPS if o.startswith("int8.")}
