"""What a check gives: plain records, the same for the command line, the report and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from reference import approximate


@dataclass(frozen=True)
class Counterexample:
    """The smallest failing input found: `case` can be repeated, `words` says what differs there,
    `reason` why, `evidence` on how much that reason was held (empty where it is a description),
    and `mismatch` is `words` for machines (None where the kernel raised)."""

    case: str
    words: str
    reason: str
    evidence: str = ""
    mismatch: dict[str, Any] | None = None

    def __str__(self) -> str:
        evidence = f"\n  ({self.evidence})" if self.evidence else ""
        words = "" if self.reason.startswith(self.words) else f"{self.words}\n"
        return f"{self.case}\n{words}reason: {self.reason}{evidence}"


@dataclass(frozen=True)
class CheckResult:
    """What checking one kernel in one dialect gave.

    elements: outputs compared; mismatches: those that differ (all of a case's where the kernel
    raised). error: what the kernel raised on the smallest failing input, if it raised there.
    others: counterexamples of further ways in which it fails (wrong values beside a race, say).
    allowed: outputs that differ from the oracle's bits and are right all the same, inside the set
    that the dialect's own approximate division allows (reference/approximate.py). notes: what the
    runs left open, such as approximate instructions, in words.
    """

    op: str
    wing: str
    variant: str
    dialect: str
    device: str
    cases: int
    elements: int
    mismatches: int
    seconds: float
    counterexample: Counterexample | None = None
    error: str | None = None
    others: tuple[Counterexample, ...] = ()
    allowed: int = 0
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.counterexample is None

    @property
    def approximate(self) -> bool:
        """Whether the dialect allows more than the oracle's bits, or some were let pass."""
        return self.allowed > 0 or approximate.concerns(self.op, self.dialect)

    @property
    def counterexamples(self) -> tuple[Counterexample, ...]:
        """All of them, the gravest first; empty if the kernel passed."""
        return () if self.counterexample is None else (self.counterexample, *self.others)

    @property
    def label(self) -> str:
        """ "cupy/tiled"."""
        return f"{self.wing}/{self.variant}" if self.variant else self.wing

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with `passed`."""
        return {**asdict(self), "passed": self.passed}
