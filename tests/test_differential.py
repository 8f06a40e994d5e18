"""Every registered kernel in every dialect that it names, against the oracle, bit for bit.

What is registered is what is tested: a new kernel needs no line here. Each meets the op's hostile
recipes and a few random ones, in SWEPT also every batch of 1 to 33 tokens at the hidden sizes of
quantassay/cases.py: a dialect changes arithmetic, not shapes. Dialects beyond FULL that compute in
fp32 whatever x is run in one input dtype each. `quantassay check --sweep --examples 1000` runs
more, and all dtypes.
"""

from __future__ import annotations

import pytest

from quantassay import CheckResult, get_op
from quantassay.cases import BATCHES, dtypes_of
from quantassay.loading import load_wings
from quantassay.parallel import run_parallel
from reference.dialects import DIALECTS
from reference.dialects import dialect as get_dialect
from reference.op import Kernel, kernels

EXAMPLES = 6
SWEPT = ("ieee",)
FULL = ("ieee", "vllm")  # in every input dtype
ALL = ("fp32", "fp16", "bf16")
WINGS = ("cupy", "numba")

load_wings()
CHECKS = [
    pytest.param(kernel, dialect, id=f"{kernel.op}-{kernel.label}-{dialect}")
    for wing in WINGS
    for kernel in kernels(wing=wing)
    for dialect in kernel.dialects
]


Results = dict[tuple[str, str, str, str], CheckResult]


def dtypes_here(dialect: str) -> tuple[str, ...]:
    """The input dtypes that a dialect is run in: one in turn if its words mean the same in all."""
    spoken = get_dialect(dialect)
    inputs = spoken.inputs
    if dialect in FULL or spoken.arithmetic != "fp32":
        return ALL
    turn = list(DIALECTS).index(dialect) % len(inputs)
    return inputs[turn : turn + 1]


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Results:
    """What the selected tests need, on all cores."""
    here = [item for item in request.session.items if item.path == request.path]
    calls = [getattr(item, "callspec", None) for item in here]
    wanted = [one.params for one in calls if one is not None and "kernel" in one.params]
    found = []
    for dtypes in {dtypes_here(params["dialect"]) for params in wanted}:
        for sweep in (True, False):
            chosen = [
                params
                for params in wanted
                if (params["dialect"] in SWEPT) == sweep
                and dtypes_here(params["dialect"]) == dtypes
            ]
            if chosen:
                found += run_parallel(
                    sorted({params["kernel"].op for params in chosen}),
                    sorted({params["kernel"].wing for params in chosen}),
                    sorted({params["dialect"] for params in chosen}),
                    examples=EXAMPLES,
                    seed=2026,
                    sweep=sweep,
                    dtypes=dtypes,
                    device="emulator",
                )
    return {(one.op, one.wing, one.variant, one.dialect): one for one in found}


@pytest.mark.parametrize(("kernel", "dialect"), CHECKS)
def test_every_bit_equals_the_oracle(results: Results, kernel: Kernel, dialect: str) -> None:
    result = results[kernel.op, kernel.wing, kernel.variant, dialect]
    assert result.counterexample is None, f"{kernel.label} {dialect}: {result.counterexample}"
    assert result.mismatches == result.allowed == 0
    op = get_op(kernel.op)
    dtypes = dtypes_of(op, dialect, {"dtype": dtypes_here(dialect)} if len(op.dtypes) > 1 else {})
    kinds = op.kinds_in(dialect)
    hostile = [made for made in op.hostile if made.dtype in dtypes and made.kind in kinds]
    swept = len(BATCHES) // 3 if dialect in SWEPT else 0
    assert result.cases >= len(hostile) + swept + EXAMPLES
    assert result.elements > (1000 if swept else 100)


@pytest.mark.parametrize("wing", WINGS)
def test_both_wings_implement_every_op(wing: str) -> None:
    from reference import OPS

    assert {kernel.op for kernel in kernels(wing=wing)} >= {o for o in OPS if o.startswith("int8.")}
