"""From a failing case to a counterexample: shrunk, run again in other thread orders, diagnosed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from quantassay.calling import Calling
from quantassay.cases import Case
from quantassay.compare import differing
from quantassay.diagnosis.diagnose import Diagnosis, Evidence, diagnose, nan_bits
from quantassay.results import Counterexample
from quantassay.running import NAN_BITS, VALUES, Outcome, outcome
from quantassay.strategies import smallest
from reference.op import Arrays

WAYS = 3  # ways to fail that are shown
UNSTEADY = "runs on this same input give different bits: a race, or unwritten memory"
BETWEEN_BLOCKS = (
    "runs on this same input in other orders of threads and blocks give different bits: a race "
    "between blocks (a missing grid barrier, or memory that several blocks write, or write and "
    "read, without an atomic), or unwritten memory"
)
ORDERS = (1, 2, 3, 4)  # further thread orders in which the smallest case is run

Run = Callable[[Case], Outcome]


def explain(
    calling: Calling,
    device: str,
    first: Mapping[str, tuple[Case, Outcome]],
    run: Run,
    evidence: Sequence[Evidence],
    *,
    seed: int,
) -> tuple[Counterexample, ...]:
    """For each way to fail the smallest case found and the reason, the gravest way first.

    first: way -> a failing case and what it gave. run: gives a case's outcome. evidence: other runs
    of the kernel, which the reason must fit too.
    """
    op, dialect, seen = calling.op, calling.dialect, dict(first.values())
    found = []
    for way in sorted(first, key=_gravity)[:WAYS]:

        def fails(case: Case, way: str = way) -> bool:
            if case not in seen:
                seen[case] = run(case)
            return way in seen[case].ways

        start, _ = first[way]
        case = smallest(op, dialect, start, fails, seed=seed, allowed=calling.narrowed)
        found.append(_example(calling, device, case, seen[case], way, evidence))
    return tuple(found)


def _gravity(way: str) -> int:
    """Exceptions first, then what is missing, wrong values, and NaN of other bits."""
    order = ("form", "unwritten", VALUES, NAN_BITS)
    return order.index(way) if way in order else -1


def _example(
    calling: Calling,
    device: str,
    case: Case,
    found: Outcome,
    way: str,
    evidence: Sequence[Evidence],
) -> Counterexample:
    """What the smallest case of one way to fail shows."""
    inputs = calling.op.build(case.recipe)
    if found.error is not None:
        others = _other_faults(calling, device, case, inputs, found)
        reason = "; ".join([found.error, *others, *_hints(found)])
        return Counterexample(str(case), found.error, reason)
    mismatch = found.mismatch
    assert mismatch is not None
    held = [one for one in (found.evidence, *evidence) if one is not None]
    known = Diagnosis("")
    if way == NAN_BITS:
        known = Diagnosis(nan_bits(held))
    elif found.evidence is not None:
        known = diagnose(calling.op, calling.dialect, held)
    unsteady = _unsteady(calling, device, case, inputs)
    reason = "; ".join(part for part in (unsteady, mismatch.problem, known.words) if part)
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
    """Says so if the same input gives different bits, or a finding, from run to run."""
    runs = [
        outcome(calling, inputs, case.keywords(), device, shift=case.shift, order=order)
        for order in (case.order, case.order, *ORDERS)
    ]
    for run in runs:
        if run.error is not None:
            return f"in another order of the threads: {run.error}"
    gots = [run.evidence.got for run in runs if run.evidence is not None]
    for number, got in enumerate(gots[1:], 1):
        if any(differing(a, b).any() for a, b in zip(gots[0], got, strict=True)):
            return UNSTEADY if number == 1 or device != "emulator" else BETWEEN_BLOCKS
    return ""
