"""The differential engine: runs kernels against the oracle and finds the smallest wrong input.

Contract: `check_kernel` runs one kernel in one dialect over hostile and seeded random inputs and
compares every output bit by bit. A kernel fails where an output differs, where it raises on valid
input, and where it modifies its input. A failure comes with the smallest input found and with the
reason in words. Results are the same for the same seed; only after a failure may the sweep end
early (`FAILURES` failing cases or `PATIENCE` seconds), and then the counts are of what was run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from quantassay import devices, notes
from quantassay.calling import Calling
from quantassay.cases import Case, cases, planned
from quantassay.diagnosis.diagnose import Evidence
from quantassay.errors import UsageError
from quantassay.results import CheckResult, Counterexample
from quantassay.running import Outcome, outcome
from reference.arguments import check_int, check_kind, check_list, check_names
from reference.op import OPS, Kernel, get_op
from reference.op import kernels as registered

__all__ = ["CheckResult", "Counterexample", "check_kernel", "run_checks", "select"]

Progress = Callable[[str, int, int], None]  # (what runs, cases done, cases in all)
FAILURES = 48
PATIENCE = 4.0  # seconds
EVIDENCE = 32  # failing and as many passing cases that the diagnosis is held against


def check_kernel(
    kernel: Kernel,
    dialect: str,
    *,
    examples: int = 100,
    seed: int = 0,
    sweep: bool = False,
    device: str = "auto",
    on_case: Callable[[], None] | None = None,
) -> CheckResult:
    """Hostile cases, with `sweep` those of served sizes, then `examples` random ones from `seed`;
    shrinks and explains a failure.

    Raises UsageError (a ValueError) for a dialect that the kernel does not name, a registration
    that contradicts the function's signature, or a device that is unknown or not usable.
    """
    check_kind("kernel", kernel, Kernel, "a Kernel")
    _check_amounts(examples, seed, sweep)
    calling, place = Calling(kernel, get_op(kernel.op), dialect), devices.choose(device)
    start, tally, texts = time.perf_counter(), _Tally(), dict.fromkeys(calling.conditions)

    def run(case: Case) -> Outcome:
        inputs = calling.op.build(case.recipe)
        shift, order = case.shift, case.order
        with notes.collected() as noted:
            found = outcome(calling, inputs, case.keywords(), place, shift=shift, order=order)
        texts.update(noted)
        return found

    lost = devices.lost(place)
    allowed = calling.narrowed
    for case in cases(
        calling.op, dialect, examples=examples, seed=seed, sweep=sweep, allowed=allowed
    ):
        if lost or tally.enough():
            break
        found = run(case)
        tally.add(case, found)
        if on_case is not None:
            on_case()
        if found.error is not None:
            lost = devices.lost(place)
    shown = _explained(calling, place, tally, run, seed, lost)
    example = shown[0] if shown else None
    return CheckResult(
        op=kernel.op,
        wing=kernel.wing,
        variant=kernel.variant,
        dialect=dialect,
        device=devices.name(place),
        cases=tally.cases,
        elements=tally.elements,
        mismatches=tally.mismatches,
        seconds=time.perf_counter() - start,
        counterexample=example,
        error=example.words if example is not None and example.mismatch is None else None,
        others=shown[1:],
        allowed=tally.allowed,
        notes=tuple(texts),
    )


def _explained(
    calling: Calling,
    device: str,
    tally: _Tally,
    run: Callable[[Case], Outcome],
    seed: int,
    lost: str,
) -> tuple[Counterexample, ...]:
    """The counterexamples; where the device is lost, the failing case as it is."""
    if lost and not tally.first:
        return (Counterexample("no input", lost, f"not run: {lost}"),)
    if lost:
        case, found = list(tally.first.values())[-1]
        return (Counterexample(str(case), str(found.error), f"{found.error}; {lost}"),)
    if not tally.first:
        return ()
    from quantassay.explain import explain  # loads Hypothesis

    evidence = [*tally.failing, *tally.passing]
    return explain(calling, device, tally.first, run, evidence, seed=seed)


def run_checks(
    ops: Sequence[str] | None = None,
    wings: Sequence[str] | None = None,
    dialects: Sequence[str] | None = None,
    *,
    device: str = "auto",
    examples: int = 100,
    seed: int = 0,
    sweep: bool = False,
    kernels: Sequence[Kernel] | None = None,
    on_progress: Progress | None = None,
) -> list[CheckResult]:
    """Checks every registered kernel (or those in `kernels`) that the three filters let through.

    None filters nothing. Raises UsageError where a name is unknown or nothing is left.
    """
    _check_amounts(examples, seed, sweep)
    chosen = select(ops, wings, dialects, kernels)
    devices.choose(device)
    totals = [planned(get_op(kernel.op), examples, sweep) for kernel, _ in chosen]
    done, results = 0, []
    for (kernel, dialect), total in zip(chosen, totals, strict=True):
        label, end = f"{kernel.op} {kernel.label} {dialect}", done + total

        def step(label: str = label, end: int = end) -> None:
            nonlocal done
            done = min(done + 1, end)
            if on_progress is not None:
                on_progress(label, done, sum(totals))

        options: dict[str, Any] = {"examples": examples, "seed": seed, "sweep": sweep}
        results.append(check_kernel(kernel, dialect, device=device, on_case=step, **options))
        done = end - 1  # a sweep may be shorter than planned
        step()
    return results


def select(
    ops: Sequence[str] | None = None,
    wings: Sequence[str] | None = None,
    dialects: Sequence[str] | None = None,
    kernels: Sequence[Kernel] | None = None,
) -> list[tuple[Kernel, str]]:
    """(kernel, dialect) pairs that the filters let through.

    Raises UsageError for an unknown name, listing the known ones, and where nothing is left.
    """
    if kernels is not None:
        check_list("kernels", kernels, Kernel, "a Kernel")
    for name, names in (("ops", ops), ("wings", wings), ("dialects", dialects)):
        if names is not None:
            check_names(name, names)
    pool = list(registered() if kernels is None else kernels)
    _known("op", ops, OPS)
    _known("dialect", dialects, {d for op in OPS.values() for d in op.options.get("dialect", ())})
    _known("wing", wings, {kernel.wing for kernel in pool})
    chosen = [
        (kernel, dialect)
        for kernel in pool
        if (not ops or kernel.op in ops) and (not wings or kernel.wing in wings)
        for dialect in kernel.dialects
        if not dialects or dialect in dialects
    ]
    if not chosen:
        raise UsageError(
            "no kernel is left to check: "
            f"op {_words(ops)}, wing {_words(wings)}, dialect {_words(dialects)}, "
            f"of {len(pool)} registered kernels"
        )
    return chosen


def _check_amounts(examples: int, seed: int, sweep: bool) -> None:
    check_int("examples", examples, 0)
    check_int("seed", seed, 0)
    check_kind("sweep", sweep, bool, "True or False")


def _known(what: str, names: Sequence[str] | None, allowed: Iterable[str]) -> None:
    listed = sorted(allowed)
    for name in names or ():
        if name not in listed:
            raise UsageError(f"{what}: got {name!r}; known: {', '.join(listed) or 'none'}")


def _words(names: Sequence[str] | None) -> str:
    return ", ".join(names) if names else "any"


@dataclass
class _Tally:
    """Counts, the first case that fails in each way, and runs to hold a diagnosis against."""

    cases: int = 0
    elements: int = 0
    mismatches: int = 0
    allowed: int = 0
    failures: int = 0
    first: dict[str, tuple[Case, Outcome]] = field(default_factory=dict)
    since: float = 0.0
    failing: list[Evidence] = field(default_factory=list)
    passing: list[Evidence] = field(default_factory=list)

    def add(self, case: Case, found: Outcome) -> None:
        self.cases += 1
        self.elements += found.elements
        self.mismatches += found.wrong
        self.allowed += found.allowed
        if found.failed:
            self.failures += 1
            self.since = self.since or time.perf_counter()
            for way in found.ways:
                self.first.setdefault(way, (case, found))
        kept = self.failing if found.failed else self.passing
        if found.evidence is not None and len(kept) < EVIDENCE:
            kept.append(found.evidence)

    def enough(self) -> bool:
        waited = bool(self.first) and time.perf_counter() - self.since > PATIENCE
        return waited or self.failures >= FAILURES
