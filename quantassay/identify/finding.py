"""What identifying a kernel gave, and the verdict in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quantassay.identify.examples import Example
from quantassay.identify.hybrids import Hybrid
from quantassay.identify.ranking import Standing

SHOWN = 3  # hybrids that are named
EXACT, HYBRID, UNKNOWN, RAISES = "exact", "hybrid", "unknown", "raises"


@dataclass(frozen=True)
class Finding:
    """One kernel, under one dialect= if it takes that. The nearest dialect is standings[0].

    inputs: what it ran on; raised: of these, where it raised, first `reason`. alike: dialects that
    no input told apart from the nearest. hybrids: changes of a dialect that fit where none does, or
    none bit for bit.
    """

    op: str
    wing: str
    variant: str
    passed_dialect: str
    device: str
    inputs: int
    raised: int
    reason: str
    standings: tuple[Standing, ...]
    alike: tuple[str, ...]
    hybrids: tuple[Hybrid, ...]
    examples: tuple[Example, ...]

    @property
    def label(self) -> str:
        """ "mine/fast", and the dialect= that it was passed."""
        name = f"{self.wing}/{self.variant}" if self.variant else self.wing
        return f"{name}, dialect={self.passed_dialect}" if self.passed_dialect else name

    @property
    def kind(self) -> str:
        """ "exact", "hybrid", "unknown", or "raises" if it gave no result at all."""
        if self.raised == self.inputs:
            return RAISES
        if self.standings[0].fits:
            return EXACT
        return HYBRID if self.hybrids else UNKNOWN

    @property
    def dialects(self) -> tuple[str, ...]:
        """Those that fit exactly: the first, and the ones that no input told apart from it."""
        first = self.standings[0]
        return (first.dialect, *self.alike) if first.fits else ()

    @property
    def others(self) -> tuple[str, ...]:
        """Dialects that fit as well, though an input that the kernel does not take parts them."""
        fitting = [one.dialect for one in self.standings if one.fits]
        return tuple(name for name in fitting if name not in self.dialects)

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.kind == RAISES:
            return f"gives no result on any of {self.inputs} inputs: {self.reason}"
        first = self.standings[0]
        if self.kind == EXACT:
            fit = "within what its own division allows" if first.allowed else "exactly"
            return "; ".join([f"speaks {first.dialect} {fit}: {_none(first)}", *self._notes()])
        if self.kind == HYBRID:
            of = next(one for one in self.standings if one.dialect == self.hybrids[0].dialect)
            return f"no dialect known here fits; what does is {self._changed()}: {_none(of)}"
        near = [f"{w:,} of {n:,} {name}" for name, (w, n) in first.outputs.items()]
        nearest = f"nearest: {first.dialect}, {' and '.join(near)} differ"
        unknown = "a dialect that is not known here, or a wrong kernel"
        return "; ".join([f"{nearest}: {unknown}", *self._by_output()])

    def _by_output(self) -> list[str]:
        """Outputs that are some dialects' by themselves, where no dialect has all of them."""
        found = []
        for name in self.standings[0].outputs:
            fitting = [one.dialect for one in self.standings if one.outputs[name][1]
                       and not one.outputs[name][0]]  # fmt: skip
            if fitting:
                found.append(f"its {name} alone are those of {', '.join(fitting)}")
        return found

    def _changed(self) -> str:
        return "; or ".join(one.words for one in self.hybrids[:SHOWN])

    def _notes(self) -> list[str]:
        first, notes = self.standings[0], []
        if first.allowed:
            notes.append(f"{first.allowed:,} of them have other bits than the oracle")
        if self.hybrids:
            notes.append(f"bit for bit it is {self._changed()}")
        if first.nan_bits:
            notes.append(f"{first.nan_bits:,} NaN have other bits than the canonical ones")
        if self.alike:
            names = ", ".join(self.alike)
            notes.append(f"cannot be told apart from {names} on any valid input that was tried")
        if self.others:
            names = ", ".join(self.others)
            notes.append(f"fits as well: {names} (on no input that the kernel takes do they part)")
        beyond = self.inputs - self.raised - first.inputs
        if beyond:
            notes.append(f"the dialect does not take {beyond} other inputs on which the kernel ran")
        if first.refused:
            notes.append(f"raises on {first.refused} inputs that the dialect takes: {self.reason}")
        return notes

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "op": self.op, "wing": self.wing, "variant": self.variant,
            "passed_dialect": self.passed_dialect, "kind": self.kind, "verdict": self.verdict,
            "dialects": list(self.dialects), "inputs": self.inputs, "raised": self.raised,
            "reason": self.reason, "alike": list(self.alike), "others": list(self.others),
            "ranking": [one.as_dict() for one in self.standings],
            "hybrids": [one.as_dict() for one in self.hybrids],
            "examples": [one.as_dict() for one in self.examples],
        }  # fmt: skip


def _none(one: Standing) -> str:
    return f"none of {one.total:,} elements differ, on {one.inputs} inputs"
