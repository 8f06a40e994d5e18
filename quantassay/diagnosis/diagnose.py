"""The reason of a mismatch, in words.

Contract: `diagnose(op, dialect, evidence)` turns one knob after another of a second
implementation of the op (variants.py) and names the first hypothesis that reproduces the kernel's
bytes on every element of every input in `evidence`, passing inputs included. If none does it
tries the op's other dialects, then pairs, then each output by itself; if none of those does
either, it states what all the wrong elements have in common. It never guesses: `exact` says which
of the two it is. NaN count as equal here whatever their bits; `nan_bits` words that difference.
Where the dialect divides approximately, a hypothesis in dialect words reproduces whatever lies in
its own allowed set (reference/approximate.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantassay.compare import Allowed, both_nan, differing
from quantassay.diagnosis import patterns, variants
from quantassay.diagnosis.hypotheses import differences, fields_of, hypotheses
from quantassay.values import show
from reference import approximate
from reference.dialects import FIELDS as DIALECT_FIELDS
from reference.numerics import canonical_nan
from reference.op import Op

Array = NDArray[Any]
PAIRED = 48  # hypotheses that are tried two at a time
PAIR_ELEMENTS = 64  # fewer elements than this can't tell pairs apart
RICH = 4096  # elements beyond which a run only costs more time
DIVIDING = {"multiplier", "static_multiplier", "scale", "arithmetic", "division"}
WORK = 1 << 18  # of one run that most pairs are refuted by: elements times what each sums over


@dataclass(frozen=True)
class Evidence:
    """What a kernel gave for one input. got, expected: one array per output, of equal form;
    bounds: what the dialect's division allows per output, if it is approximate."""

    inputs: Mapping[str, Any]
    options: Mapping[str, str]
    got: tuple[Array, ...]
    expected: tuple[Array, ...]
    bounds: Allowed = ()

    @property
    def failing(self) -> bool:
        return any(self.wrong(i).any() for i in range(len(self.expected)))

    def wrong(self, output: int) -> NDArray[np.bool_]:
        """The elements of one output that are wrong."""
        return unlike(self.got[output], self.expected[output], self.bounds, output)

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


@dataclass(frozen=True)
class _Search:
    """Evidence in the order in which it refutes soonest, and the outputs that count."""

    op: Op
    dialect: str
    evidence: Sequence[Evidence]
    outputs: tuple[int, ...]

    def equal(self, made: Sequence[Array], one: Evidence, bounds: Allowed = ()) -> bool:
        return all(
            made[i].dtype == one.got[i].dtype
            and made[i].shape == one.got[i].shape
            and not unlike(one.got[i], made[i], bounds, i).any()
            for i in self.outputs
        )

    def reproduced(self, knobs: Sequence[tuple[str, Any]]) -> bool:
        """Whether these knobs give the kernel's bytes on all evidence."""
        for one in self.evidence:
            base = variants.settings(self.op.name, self.dialect, one.options)
            made = variants.run(self.op.name, one.inputs, {**base, **dict(knobs)})
            if not self.equal(made, one, self._bounds(one, dict(knobs))):
                return False
        return True

    def _bounds(self, one: Evidence, knobs: Mapping[str, Any]) -> Allowed:
        """What is allowed under these knobs; nothing beyond the model's bits for others than words
        of dialects, or for another division, under which a wide set would explain too much."""
        words = variants.spoken(self.op.name, self.dialect)
        known = all(value in DIALECT_FIELDS.get(field, ()) for field, value in knobs.items())
        known &= not knobs.keys() & DIVIDING
        if not (known and approximate.concerns(self.op.name, self.dialect)):
            return ()
        try:
            return approximate.allowed_in(self.op.name, one.inputs, replace(words, **knobs))
        except ValueError:  # nothing is derived for this word beside an approximate division
            return ()


def unlike(got: Array, expected: Array, bounds: Allowed, output: int) -> NDArray[np.bool_]:
    """Where the bytes differ and the bounds of this output, if any, don't allow it."""
    wrong = differing(got, expected)
    one = bounds[output] if bounds else None
    return wrong if one is None else wrong & ~approximate.inside(got, one)


def diagnose(op: Op, dialect: str, evidence: Sequence[Evidence]) -> Diagnosis:
    """evidence: inputs on which the kernel ran, at least one of them failing."""
    same_nan = [replace(one, got=tuple(map(_canonical, one.got))) for one in evidence]
    failing = [one for one in same_nan if one.failing]
    ordered = failing + [one for one in same_nan if not one.failing]
    every = tuple(range(len(op.outputs)))
    found = _reason(_Search(op, dialect, ordered, every))
    if found:
        elements = sum(one.elements for one in ordered)
        return Diagnosis(found, f"reproduces all {elements} elements of {_inputs(len(ordered))}")
    apart = [_apart(_Search(op, dialect, ordered, (i,)), failing, len(every)) for i in every]
    return Diagnosis("; ".join(words for words in apart if words) or NOTHING)


NOTHING = "no known mistake reproduces these values"


def _apart(search: _Search, failing: Sequence[Evidence], count: int) -> str:
    """The reason for one output by itself; empty if it is right."""
    (output,) = search.outputs
    wrong = [
        patterns.Wrong(one.got[output], one.expected[output], np.asarray(mask))
        for one in failing
        if (mask := one.wrong(output)).any()
    ]
    if not wrong:
        return ""
    found = _reason(search) if count > 1 else ""
    words = found or "; ".join(patterns.describe(wrong)) or NOTHING
    return f"{search.op.outputs[output].name}: {words}" if count > 1 else words


def nan_bits(evidence: Sequence[Evidence]) -> str:
    """Words for NaN of other bits than the canonical ones; empty if there are none."""
    for one in evidence:
        for got, expected in zip(one.got, one.expected, strict=True):
            mask = both_nan(got, expected) & differing(got, expected)
            if mask.any():
                at = tuple(np.argwhere(mask)[0])
                return (
                    f"a NaN has other bits than the GPU's canonical ones: {show(got[at])} where "
                    f"the contract has {show(expected[at])} (reference.numerics.canonical_nan)"
                )
    return ""


def _canonical(array: Array) -> Array:
    return array if array.dtype.kind in "iub" else canonical_nan(array)


def _inputs(count: int) -> str:
    return "1 input" if count == 1 else f"{count} inputs"


def _reason(search: _Search) -> str:
    """What reproduces all evidence, in words; empty if nothing known does."""
    return _single(search) or _dialects(search) or _pair(search)


def _single(search: _Search) -> str:
    for one in hypotheses(search.op.name, search.dialect):
        if search.reproduced(one.knobs):
            names = _matching_dialects(search)
            also = f" (as dialect {' and '.join(names)} has it)" if names else ""
            return f"the kernel {one.words}{also}"
    return ""


def _matching_dialects(search: _Search) -> list[str]:
    return [
        name
        for name in search.op.options.get("dialect", ())
        if name != search.dialect and all(_speaks(search, name, one) for one in search.evidence)
    ]


def _speaks(search: _Search, dialect: str, one: Evidence) -> bool:
    """Whether the oracle gives the kernel's bytes in this dialect; no if it refuses the input."""
    options = {**one.options, "dialect": dialect}
    try:
        made = search.op.expected(dict(one.inputs), **options)
    except (TypeError, ValueError):
        return False
    return search.equal(made, one, approximate.allowed(search.op.name, one.inputs, options))


def _dialects(search: _Search) -> str:
    names = _matching_dialects(search)
    if not names:
        return ""
    fields, pairs = (
        fields_of(search.op.name),
        differences(search.op.name, names[0], search.dialect),
    )
    changed = "; ".join(
        f"{field}: {theirs} where {search.dialect} has {ours}"
        for field, (theirs, ours) in pairs.items()
        if field in fields or not fields
    )
    return f"the kernel speaks dialect {names[0]}, not {search.dialect} ({changed})"


def _pair(search: _Search) -> str:
    """Two hypotheses that reproduce everything together.

    The richest failure that is no great work comes first: most pairs are refuted by this one run.
    """
    failing = [one for one in search.evidence if one.failing]
    if sum(one.elements for one in failing) < PAIR_ELEMENTS:
        return ""
    cheap = [one for one in failing if _work(search.op, one) <= WORK]
    cheap = cheap or [min(failing, key=lambda one: _work(search.op, one))]
    richest = max(cheap, key=lambda one: min(one.elements, RICH))
    rest = [one for one in search.evidence if one is not richest]
    ordered = replace(search, evidence=[richest, *rest])
    for a, b in combinations(hypotheses(search.op.name, search.dialect)[:PAIRED], 2):
        if not a.touches() & b.touches() and ordered.reproduced(a.knobs + b.knobs):
            return f"two things at once: the kernel {a.words}; and it {b.words}"
    return ""


def _work(op: Op, one: Evidence) -> int:
    """Elements times the length of what each is a sum over: input axes that no output has."""
    kept = {side for arg in op.outputs for side in arg.shape}
    summed = [1]
    for arg in op.arrays():
        array = one.inputs.get(arg.name)
        if array is not None:
            sides = zip(arg.shape, array.shape, strict=True)
            summed.append(prod(length for side, length in sides if side not in kept))
    return one.elements * max(summed)
