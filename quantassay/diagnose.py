"""The reason of a mismatch, in words.

Contract: `diagnose(op, dialect, evidence)` turns one knob after another of a second
implementation of the op (variants.py) and names the first hypothesis that reproduces the kernel's
bytes on every element of every input in `evidence`, passing inputs included. If none does it
tries the op's other dialects and then pairs; if none of those does either, it states what all the
wrong elements have in common. It never guesses: `exact` says which of the two it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantassay import patterns, variants
from quantassay.compare import differing
from quantassay.hypotheses import FIELDS, STAGES, hypotheses
from reference.dialects import differences
from reference.op import Op

Array = NDArray[Any]
PAIRED = 48  # hypotheses that are tried two at a time
PAIR_ELEMENTS = 64  # fewer elements than this can't tell pairs apart
RICH = 4096  # elements beyond which a run only costs more time


@dataclass(frozen=True)
class Evidence:
    """What a kernel gave for one input. got, expected: one array per output, of equal form."""

    inputs: Mapping[str, Any]
    options: Mapping[str, str]
    got: tuple[Array, ...]
    expected: tuple[Array, ...]

    @property
    def failing(self) -> bool:
        return any(differing(a, b).any() for a, b in zip(self.got, self.expected, strict=True))

    @property
    def elements(self) -> int:
        return sum(array.size for array in self.expected)


@dataclass(frozen=True)
class Diagnosis:
    """`words`: the reason. `evidence`: on how much a hypothesis reproduces every byte; empty where
    none does and `words` only states what the wrong elements have in common."""

    words: str
    evidence: str = ""

    @property
    def exact(self) -> bool:
        return bool(self.evidence)


def diagnose(op: Op, dialect: str, evidence: Sequence[Evidence]) -> Diagnosis:
    """evidence: inputs on which the kernel ran, at least one of them failing."""
    failing = [one for one in evidence if one.failing]
    ordered = failing + [one for one in evidence if not one.failing]
    found = _single(op, dialect, ordered) or _dialects(op, dialect, ordered)
    found = found or _pair(op, dialect, ordered)
    if found:
        elements = sum(one.elements for one in ordered)
        return Diagnosis(found, f"reproduces all {elements} elements of {_inputs(len(ordered))}")
    facts = patterns.describe(_wrong(failing))
    return Diagnosis("; ".join(facts) or "no known mistake reproduces these values")


def _inputs(count: int) -> str:
    return "1 input" if count == 1 else f"{count} inputs"


def _single(op: Op, dialect: str, evidence: Sequence[Evidence]) -> str:
    """The first single hypothesis that reproduces everything, in words; empty if none does."""
    for one in hypotheses(op.name, dialect):
        if _reproduces(op, dialect, one.knobs, evidence):
            names = _matching_dialects(op, dialect, evidence)
            also = f" (as dialect {' and '.join(names)} has it)" if names else ""
            return f"the kernel {one.words}{also}"
    return ""


def _reproduces(
    op: Op, dialect: str, knobs: Sequence[tuple[str, Any]], evidence: Sequence[Evidence]
) -> bool:
    for one in evidence:
        base = variants.settings(dialect, one.options.get("out_dtype", "fp32"))
        if not _equal(variants.run(op.name, one.inputs, {**base, **dict(knobs)}), one.got):
            return False
    return True


def _equal(made: Sequence[Array], got: Sequence[Array]) -> bool:
    return all(
        a.dtype == b.dtype and a.shape == b.shape and not differing(a, b).any()
        for a, b in zip(made, got, strict=True)
    )


def _matching_dialects(op: Op, dialect: str, evidence: Sequence[Evidence]) -> list[str]:
    found = []
    for name in op.options.get("dialect", ()):
        if name != dialect and all(_speaks(op, name, one) for one in evidence):
            found.append(name)
    return found


def _speaks(op: Op, dialect: str, one: Evidence) -> bool:
    """Whether the oracle gives the kernel's bytes in this dialect; no if it refuses the input."""
    try:
        made = op.expected(dict(one.inputs), **{**one.options, "dialect": dialect})
    except (TypeError, ValueError):
        return False
    return _equal(made, one.got)


def _dialects(op: Op, dialect: str, evidence: Sequence[Evidence]) -> str:
    names = _matching_dialects(op, dialect, evidence)
    if not names:
        return ""
    fields = {field for stage in STAGES.get(op.name, ()) for field in FIELDS[stage]}
    changed = "; ".join(
        f"{field}: {theirs} where {dialect} has {ours}"
        for field, (theirs, ours) in differences(names[0], dialect).items()
        if field in fields or not fields
    )
    return f"the kernel speaks dialect {names[0]}, not {dialect} ({changed})"


def _pair(op: Op, dialect: str, evidence: Sequence[Evidence]) -> str:
    """Two hypotheses that reproduce everything together, in words; empty if no two do.

    The richest failure comes first, so that most pairs are refuted by one run.
    """
    failing = [one for one in evidence if one.failing]
    if sum(one.elements for one in failing) < PAIR_ELEMENTS:
        return ""
    richest = max(failing, key=lambda one: min(one.elements, RICH))
    ordered = [richest, *(one for one in evidence if one is not richest)]
    for a, b in combinations(hypotheses(op.name, dialect)[:PAIRED], 2):
        if a.touches() & b.touches():
            continue
        if _reproduces(op, dialect, a.knobs + b.knobs, ordered):
            return f"two things at once: the kernel {a.words}; and it {b.words}"
    return ""


def _wrong(failing: Sequence[Evidence]) -> list[patterns.Wrong]:
    """The first output that differs, of each failing input."""
    found = []
    for one in failing:
        for got, expected in zip(one.got, one.expected, strict=True):
            mask = differing(got, expected)
            if mask.any():
                found.append(patterns.Wrong(got, expected, np.asarray(mask)))
                break
    return found
