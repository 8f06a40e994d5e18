"""From a failing case to a counterexample: shrunk, run again in other thread orders, diagnosed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from quantassay.calling import Calling
from quantassay.cases import Case
from quantassay.compare import differing
from quantassay.diagnose import Diagnosis, Evidence, diagnose
from quantassay.results import Counterexample
from quantassay.running import Outcome, call, outcome, send
from quantassay.strategies import smallest
from reference.op import Arrays

ORDERS = (1, 2, 3, 4)  # further thread orders in which the smallest case is run

Run = Callable[[Case], Outcome]


def explain(
    calling: Calling,
    device: str,
    failing: Case,
    first: Outcome,
    run: Run,
    evidence: Sequence[Evidence],
    *,
    dialect: str,
    seed: int,
) -> Counterexample:
    """The smallest failing case below `failing`, and why it fails.

    first: what `failing` gave. run: gives a case's outcome. evidence: other runs of the kernel,
    which the reason must fit too.
    """
    op, seen = calling.op, {failing: first}

    def fails(case: Case) -> bool:
        if case not in seen:
            seen[case] = run(case)
        return seen[case].failed

    case = smallest(op, dialect, failing, fails, seed=seed, allowed=calling.allowed)
    found, inputs = seen[case], op.build(case.recipe)
    held = [one for one in (found.evidence, *evidence) if one is not None]
    known = Diagnosis("")
    if any(one.failing for one in held):
        known = diagnose(op, dialect, held)
    if found.error is not None:
        others = _other_faults(calling, device, case, inputs, found)
        reason = "; ".join([found.error, *others, *_hints(found)])
        if known.words:
            reason = f"{reason}; on other inputs: {known.words}"
        return Counterexample(str(case), found.error, reason, known.evidence)
    mismatch = found.mismatch
    assert mismatch is not None
    unsteady = _unsteady(calling, device, case, inputs)
    parts = [unsteady, mismatch.problem, known.words]
    reason = "; ".join(part for part in parts if part)
    return Counterexample(str(case), mismatch.words, reason, known.evidence, mismatch.as_dict())


def _other_faults(
    calling: Calling, device: str, case: Case, inputs: Arrays, found: Outcome
) -> list[str]:
    """What the emulator finds in other thread orders, if it is of another kind.

    A missing barrier shows as a race or as memory that nobody has written yet, by who runs first.
    """
    if not found.fault:
        return []
    others: dict[str, str] = {}
    for order in ORDERS:
        again = outcome(calling, inputs, case.keywords(), device, shift=case.shift, order=order)
        if again.fault not in ("", found.fault):
            others.setdefault(again.fault, f"in another order of the threads: {again.error}")
    return list(others.values())


def _hints(found: Outcome) -> list[str]:
    """What the emulator's finding leaves open."""
    if found.fault == "UNINITIALISED" and "shared memory" in str(found.error):
        return ["either nothing writes it, or a barrier is missing (__syncthreads) before the load"]
    return []


def _unsteady(calling: Calling, device: str, case: Case, inputs: Arrays) -> str:
    """Says so if the same input gives different bits from run to run."""
    runs = [
        call(calling, send(calling, inputs, device, case.shift), case.keywords(), order)
        for order in (case.order, case.order, *ORDERS)
    ]
    for again in runs[1:]:
        for first, other in zip(runs[0], again, strict=True):
            if not isinstance(first, np.ndarray) or first.shape != getattr(other, "shape", None):
                continue
            if differing(first, other).any():
                return "runs on this same input give different bits: a race, or unwritten memory"
    return ""
