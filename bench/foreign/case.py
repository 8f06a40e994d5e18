"""One foreign kernel, its launch, and what came of it.

Contract: a Case says where a kernel is from and how to run it; `run()` launches it on the emulator
and returns a Tally of compared elements. `judge(case)` turns what happens into a Row of the table:
  bit-exact             every element has the expected bits
  within BOUND          the kernel uses operations whose last bits PTX leaves open; the case derives
                        the bound from their documented errors and says how
  refused: ...          the emulator does not know an instruction, quoted
  finding: ...          the emulator's checks stopped the kernel
  WRONG: ...            elements differ: a bug of the emulator until shown otherwise
  not there: ...        a package or a source file is missing
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

import emulator


@dataclass
class Tally:
    """What a run compared. `compare` and `close` may be called several times."""

    elements: int = 0
    wrong: int = 0
    worst: str = ""  # the first wrong element
    bounds: list[str] = field(default_factory=list)
    instructions: int = 0
    opcodes: set[str] = field(default_factory=set)

    def ran(self, stats: emulator.Stats) -> None:
        """Count a launch."""
        self.instructions += stats.instructions
        self.opcodes |= set(stats.opcodes)

    def _count(self, name: str, right: np.ndarray, got: np.ndarray, want: np.ndarray) -> None:
        self.elements += right.size
        bad = np.flatnonzero(~right.ravel())
        self.wrong += len(bad)
        if len(bad) and not self.worst:
            at = int(bad[0])
            self.worst = f"{name}[{at}]: got {got.flat[at]!r}, expected {want.flat[at]!r}"

    def compare(self, name: str, got: np.ndarray, want: np.ndarray) -> None:
        """Every byte the same; both arrays of one dtype and shape."""
        if got.dtype != want.dtype or got.shape != want.shape:
            raise ValueError(f"{name}: {got.dtype} {got.shape} against {want.dtype} {want.shape}")
        unsigned = np.dtype(f"u{got.dtype.itemsize}")
        bits = [np.ascontiguousarray(array).view(unsigned) for array in (got, want)]
        right = bits[0] == bits[1]
        self._count(name, right, got, want)

    def close(
        self, name: str, got: np.ndarray, want: np.ndarray, bound: np.ndarray | float, why: str
    ) -> None:
        """abs(got - want) <= bound, element by element, in float64. why: the bound in words."""
        difference = np.abs(got.astype(np.float64) - want.astype(np.float64))
        self._count(name, difference <= bound, got, want)
        if why not in self.bounds:
            self.bounds.append(why)


@dataclass(frozen=True)
class Case:
    """name: the kernel's own, and the data it runs on. origin: package or repository, and file."""

    name: str
    origin: str
    arch: str
    run: Callable[[], Tally]


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    origin: str
    arch: str
    instructions: int
    elements: int
    verdict: str
    opcodes: frozenset[str] = frozenset()

    @property
    def good(self) -> bool:
        return self.verdict.startswith(("bit-exact", "within", "not there"))


def judge(case: Case) -> Row:
    """Run a case."""
    try:
        tally = case.run()
    except (ModuleNotFoundError, FileNotFoundError) as missing:
        return Row(case.name, case.origin, case.arch, 0, 0, f"not there: {missing}")
    except emulator.UnsupportedPTX as refused:
        words = " ".join(refused.text.split())
        return Row(case.name, case.origin, case.arch, 0, 0, f"refused: {words}")
    except emulator.EmulatorError as finding:
        words = str(finding).splitlines()[0]
        return Row(case.name, case.origin, case.arch, 0, 0, f"finding: {words}")
    if tally.wrong:
        verdict = f"WRONG: {tally.wrong} of {tally.elements}; {tally.worst}"
    else:
        verdict = "within " + "; ".join(tally.bounds) if tally.bounds else "bit-exact"
    return Row(
        case.name, case.origin, case.arch, tally.instructions, tally.elements, verdict,
        frozenset(tally.opcodes),
    )  # fmt: skip


def table(rows: Iterable[Row]) -> str:
    """Markdown."""
    lines = [
        "| kernel | origin | architecture | PTX instructions run | elements compared | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        words = row.verdict.replace("|", "\\|")
        lines.append(
            f"| {row.name} | {row.origin} | {row.arch} | {row.instructions:,} | "
            f"{row.elements:,} | {words} |"
        )
    return "\n".join(lines) + "\n"
