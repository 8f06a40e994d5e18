"""One small change of one source file.

Contract: a mutant is named by what does not move when other lines change: its file, the text of its
line and which one of equal lines it is, the operator, and the change. Applying one keeps the number
of lines, so that messages about lines stay right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Edit:
    """text[start:end] becomes `after`."""

    start: int
    end: int
    operator: str
    after: str


@dataclass(frozen=True)
class Mutant:
    """An edit of a file ("kernels_cupy/int8_gemm.cu") and where it is, for people."""

    id: str
    file: str
    line: int
    operator: str
    change: str  # "K + 1 -> K - 1", in one line
    text: str  # the source line, stripped
    edit: Edit

    def apply(self, source: str) -> str:
        """The mutated source."""
        edit = self.edit
        lost = source.count("\n", edit.start, edit.end) - edit.after.count("\n")
        return source[: edit.start] + edit.after + "\n" * lost + source[edit.end :]


def mutants_of(file: str, source: str, edits: Iterable[Edit]) -> list[Mutant]:
    """Mutants in order of place; two edits that give the same text are one."""
    lines = source.splitlines()
    earlier: dict[str, int] = {}  # equal lines above
    numbers = []
    for line in lines:
        numbers.append(earlier.get(line, 0))
        earlier[line] = numbers[-1] + 1
    found: dict[str, Mutant] = {}
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end, edit.operator, edit.after)):
        before = source[edit.start : edit.end]
        if before == edit.after:
            continue
        at = source.count("\n", 0, edit.start)
        column = edit.start - (source.rfind("\n", 0, edit.start) + 1)
        words = (file, lines[at], str(numbers[at]), str(column), before, edit.after)
        name = hashlib.sha256("\0".join(words).encode()).hexdigest()[:10]
        change = f"{_short(before)} -> {_short(edit.after) or 'nothing'}"
        one = Mutant(name, file, at + 1, edit.operator, change, lines[at].strip(), edit)
        found.setdefault(name, one)
    return list(found.values())


def sampled(mutants: Sequence[Mutant], count: int | None, seed: int) -> list[Mutant]:
    """All, or `count` of them in order: operators in turn, so that the rare ones are there too."""
    if count is None or count >= len(mutants):
        return list(mutants)
    rng = np.random.default_rng([seed, len(mutants)])
    shuffled = [mutants[i] for i in rng.permutation(len(mutants))]
    queues: dict[str, list[Mutant]] = {}
    for mutant in shuffled:
        queues.setdefault(mutant.operator, []).append(mutant)
    # Half by operators in turn, half as they come.
    chosen: dict[str, Mutant] = {}
    while len(chosen) < count // 2:
        for queue in queues.values():
            if queue and len(chosen) < count // 2:
                one = queue.pop()
                chosen[one.id] = one
    for one in shuffled:
        if len(chosen) == count:
            break
        chosen.setdefault(one.id, one)
    return sorted(chosen.values(), key=lambda one: (one.edit.start, one.edit.end, one.id))


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 60 else f"{words[:57]}..."
