"""What a kernel speaks that speaks no dialect: one with a word changed, or with a known slip.

Contract: `hybrids` gives the changes under which a dialect gives the kernel's results on every
input that it takes: one field of reference.dialects.FIELDS with another of its words; else, of the
nearest few dialects, one known slip (quantassay/diagnosis); else one field of a dialect whose own
division is approximate, with all that this allows; else two fields. Those held against more
elements come first. Empty if nothing fits. The changed dialect is run by the oracle itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from quantassay.diagnosis import variants
from quantassay.diagnosis.diagnose import DIVIDING
from quantassay.diagnosis.hypotheses import hypotheses
from quantassay.identify.probes import Pool, Results, elements, results
from quantassay.identify.ranking import Run, Standing, fits
from reference.dialects import DIALECTS, FIELDS, Dialect, dialect

NEAREST = 3  # dialects whose slips and pairs of words are tried
Changes = Mapping[str, str]


@dataclass(frozen=True)
class Hybrid:
    """A dialect and what to change: fields as (field, own word, the kernel's), or a slip in words
    that complete "the kernel ..."."""

    dialect: str
    fields: tuple[tuple[str, str, str], ...] = ()
    slip: str = ""

    @property
    def words(self) -> str:
        if self.slip:
            return f"{self.dialect}, except that the kernel {self.slip.partition(';')[0]}"
        changed = [f"{field} {new!r} in place of {own!r}" for field, own, new in self.fields]
        return f"{self.dialect} with {' and '.join(changed)}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        fields = [{"field": f, "dialect": own, "kernel": new} for f, own, new in self.fields]
        return {"dialect": self.dialect, "fields": fields, "slip": self.slip, "words": self.words}


def hybrids(
    pool: Pool, runs: Sequence[Run], ranked: Sequence[Standing], bits_alone: bool = False
) -> list[Hybrid]:
    """runs: of the kernel; ranked: all dialects, the nearest first, none of which fits bit for bit.
    bits_alone: no more than one change, under which every bit is the kernel's."""
    usable = [one.dialect for one in ranked if one.total]
    size = {one.dialect: one.total for one in ranked}
    few = usable[:NEAREST]
    searches = [(_words, usable, True), (_slips, few, True)]
    searches += [] if bits_alone else [(_words, usable, False), (_pairs, few, True)]
    for search, names, bits in searches:
        found = [
            one for name in names for one in search(pool, _telling(pool, runs, name), name, bits)
        ]
        if found:
            return sorted(found, key=lambda one: -size[one.dialect])
    return []


def _telling(pool: Pool, runs: Sequence[Run], name: str) -> list[Run]:
    """The runs that a dialect has a result for; first those that refute it, small ones before."""
    held = [one for one in runs if not one.raised and pool.results(one.probe, name) is not None]
    wrong: dict[int, bool] = {}
    for one in held:
        want = pool.results(one.probe, name)
        wrong[id(one)] = want is not None and not fits(one, want)
    return sorted(held, key=lambda one: (not wrong[id(one)], elements(one.probe)))


def _words(pool: Pool, runs: Sequence[Run], name: str, bits: bool) -> Iterator[Hybrid]:
    for changes in _changes(pool, name):
        if not bits and changes.keys() & DIVIDING:
            continue  # under another division a wide set would hold too much
        if _spoken(pool, runs, name, changes, bits):
            yield _hybrid(pool, name, changes)


def _pairs(pool: Pool, runs: Sequence[Run], name: str, bits: bool) -> Iterator[Hybrid]:
    for a, b in combinations(_changes(pool, name), 2):
        if not set(a) & set(b) and _spoken(pool, runs, name, {**a, **b}, bits):
            yield _hybrid(pool, name, {**a, **b})
            return


def _slips(pool: Pool, runs: Sequence[Run], name: str, bits: bool) -> Iterator[Hybrid]:
    for slip in hypotheses(pool.op.name, name):
        if _reproduced(pool, runs, name, dict(slip.knobs)):
            yield Hybrid(name, slip=slip.words)
            return


def _changes(pool: Pool, name: str) -> list[Changes]:
    """Every other word of every field."""
    own = variants.spoken(pool.op.name, name)
    return [
        {field: word}
        for field, words in FIELDS.items()
        for word in words
        if word != getattr(own, field) and field != "division"  # the oracle's bits don't show it
    ]


def _hybrid(pool: Pool, name: str, changes: Changes) -> Hybrid:
    own = variants.spoken(pool.op.name, name)
    return Hybrid(name, tuple((f, getattr(own, f), word) for f, word in changes.items()))


def _spoken(pool: Pool, runs: Sequence[Run], name: str, changes: Changes, bits: bool) -> bool:
    """Whether the dialect with these words gives the kernel's results on all runs. bits: the
    oracle's own, or whatever lies in the allowed set as well."""

    def made(one: Run) -> Results | None:
        want = results(pool.op, one.probe, name)
        return Results(want.outputs, ()) if want is not None and bits else want

    try:
        with speaking(altered(dialect(name), changes)):
            return _all_fit(runs, made)
    except (ValueError, KeyError):  # words that do not go together, or that the op does not speak
        return False


def _reproduced(pool: Pool, runs: Sequence[Run], name: str, knobs: Mapping[str, Any]) -> bool:
    """Whether the second implementation gives the kernel's results under these knobs."""

    def made(one: Run) -> Results | None:
        options = {**dict(one.probe.options), "dialect": name}
        base = variants.settings(pool.op.name, name, options)
        outputs = variants.run(pool.op.name, one.probe.inputs, {**base, **knobs})
        return Results(outputs, ())

    return pool.op.name in variants.MODELS and _all_fit(runs, made)


def _all_fit(runs: Sequence[Run], made: Callable[[Run], Results | None]) -> bool:
    for one in runs:
        want = made(one)
        if want is None or not fits(one, want):
            return False
    return bool(runs)


def altered(spoken: Dialect, changes: Changes) -> Dialect:
    """A dialect with these words in every family. Raises ValueError for an unknown word."""
    overrides = tuple(
        (family, tuple(pair for pair in pairs if pair[0] not in changes))
        for family, pairs in spoken.overrides
    )
    kept: dict[str, Any] = dict(changes)
    return replace(spoken, **kept, overrides=overrides)


@contextmanager
def speaking(changed: Dialect) -> Iterator[None]:
    """The oracle speaks `changed` under its name, for the calls inside (of this thread alone)."""
    own = DIALECTS[changed.name]
    DIALECTS[changed.name] = changed
    try:
        yield
    finally:
        DIALECTS[changed.name] = own
