"""docs/mutation.md: what became of the mutants of every kernel file.

Contract: made from docs/mutation.json and equivalent.toml alone, and from the sources only to mark
what has changed since. `text(...)` is the whole file, so that a test can hold it to the records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from quantassay.mutation.build import ROOT
from quantassay.mutation.campaign import digest, files, mutants
from quantassay.mutation.judge import COUNTERS, FAULT, OUTPUT, REFUSED, TIMEOUT
from quantassay.mutation.results import NOT_COUNTED, Argument, Record, argument_for

FILE = ROOT / "docs" / "mutation.md"
WINGS = {"cupy": "CUDA C++", "numba": "Numba"}
_HEAD = """# Mutation testing

Made by `python -m quantassay.mutation --write` from `docs/mutation.json`; see
`quantassay/mutation/` for the operators and for how a mutant is judged.

A mutant is one small change of one kernel source: an operator, a constant, a bound, an index, a
rounding, a condition, a statement or a barrier left out. It is *killed* when one of the suite's
inputs gives another **output** than the oracle's, when the emulator has a finding (**fault**), when
a check **refuse**s the kernel (contraction, launch limits, ptxas, a register that nothing writes,
an instruction that our kernels never use), when it does not end (**time**), or when the recorded
**counters** of instructions, traffic and bank conflicts change: these are looked at once 12 seconds
of inputs have found nothing. Mutants that do not compile (stillborn) are not counted, nor those
whose PTX is what it was but for the numbers of registers (equivalent by the compiler), nor those
that `quantassay/mutation/equivalent.toml` shows to be equivalent in words. What is left
**survives**.

score = killed / (judged - stillborn - equivalent - shown equivalent); *without words* counts those
shown equivalent as survivors.

The inputs are those of `tests/reach`, the ops' hostile recipes, and for mutants that those miss the
sweep of `quantassay/cases.py` with 8 random cases, in the dialects ieee and vllm where an op speaks
them; up to 10 compilations that hold the mutant's line and 4 others, or all while
none has changed.
"""
_COLUMNS = (
    "file", "mutants", "judged", "stillborn", "equivalent", "shown equivalent", "output", "fault",
    "refused", "time", "counters", "survive", "score", "without words", "source",
)  # fmt: skip


def text(records: Mapping[str, Record], known: Sequence[Argument]) -> str:
    """The whole of docs/mutation.md."""
    parts = [_HEAD]
    for wing, title in WINGS.items():
        of_wing = [records[name] for name in files(wing) if name in records]
        parts.append(f"\n## {title}\n\n{_table(of_wing, known)}")
        missing = [Path(name).name for name in files(wing) if name not in records]
        missing = [name for name in missing if mutants(f"kernels_{wing}/{name}")[1]]
        if missing:
            parts.append(f"\nNot yet judged: {', '.join(missing)}.\n")
    parts.append(_listed(records, known))
    return "".join(parts)


def _table(records: Sequence[Record], known: Sequence[Argument]) -> str:
    rows = [_COLUMNS, tuple("---" if i == 0 else "---:" for i in range(len(_COLUMNS)))]
    rows += [_row(one, known) for one in records]
    if records:
        rows.append(_total(records, known))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _figures(record: Record, known: Sequence[Argument]) -> list[int]:
    counts, shown = record.counts, len(shown_equivalent(record, known))
    kinds = [counts[kind] for kind in (OUTPUT, FAULT, REFUSED, TIMEOUT, COUNTERS)]
    left_out = [counts[name] for name in NOT_COUNTED]
    alive = len(record.survivors) - shown
    return [record.possible, len(record.verdicts), *left_out, shown, *kinds, alive]


def _row(record: Record, known: Sequence[Argument]) -> tuple[str, ...]:
    path = ROOT / record.file
    same = path.is_file() and digest(path.read_text()) == record.hash
    figures = _figures(record, known)
    state = "as judged" if same else "changed since"
    return (f"`{Path(record.file).name}`", *map(str, figures), *_scores(figures), state)


def _total(records: Sequence[Record], known: Sequence[Argument]) -> tuple[str, ...]:
    figures = [sum(column) for column in zip(*(_figures(r, known) for r in records), strict=True)]
    return ("all", *map(str, figures), *_scores(figures), "")


def _scores(figures: Sequence[int]) -> tuple[str, str]:
    shown, killed, alive = figures[4], sum(figures[5:10]), figures[10]
    return _percent(killed, killed + alive), _percent(killed, killed + alive + shown)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"


def score(record: Record, known: Sequence[Argument]) -> float:
    """killed / counted, between 0 and 1; 1 where nothing counts."""
    alive = len(record.survivors) - len(shown_equivalent(record, known))
    return record.killed / (record.killed + alive) if record.killed + alive else 1.0


def shown_equivalent(record: Record, known: Sequence[Argument]) -> dict[str, Argument]:
    """By id, the entries that speak of the record's survivors."""
    found = {}
    for name, told in record.survivors.items():
        argument = argument_for(record.file, told, known)
        if argument is not None:
            found[name] = argument
    return found


def _listed(records: Mapping[str, Record], known: Sequence[Argument]) -> str:
    alive, shown = [], []
    for name in sorted(records):
        record = records[name]
        arguments = shown_equivalent(record, known)
        for one, told in sorted(record.survivors.items(), key=lambda item: item[1]["line"]):
            change = f"{told['operator']}: `{told['change']}` in `{told['text']}`"
            place = f"`{name}:{told['line']}` {change}"
            if one in arguments:
                shown.append(f"- {place}: {' '.join(arguments[one].why.split())}\n")
            else:
                alive.append(f"- {one} {place}\n")
    parts = [f"\n## Survivors\n\n{''.join(alive) or 'None.'}\n"]
    parts.append(f"\n## Shown equivalent\n\n{''.join(shown) or 'None.'}\n")
    return "".join(parts)
