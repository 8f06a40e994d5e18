"""What campaigns found, as docs/mutation.json keeps it, and the mutants shown equivalent in words.

Contract: one record per file: the hash of the source it was had with, how many mutants there are,
whether all were judged, and the verdict on each by its id; of survivors the change and its line as
well. An entry of equivalent.toml belongs to every mutant of its file whose source line, operator
and change are those that it names; where none is left, `stale` lists it.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quantassay.mutation.build import ROOT
from quantassay.mutation.judge import COUNTERS, FAULT, OUTPUT, REFUSED, TIMEOUT, Verdict
from quantassay.mutation.mutant import Mutant
from reference.storage import replace

FILE = ROOT / "docs" / "mutation.json"
EQUIVALENT = Path(__file__).with_name("equivalent.toml")
KINDS = (OUTPUT, FAULT, REFUSED, TIMEOUT, COUNTERS)
NOT_COUNTED = ("stillborn", "equivalent")


@dataclass
class Record:
    """One file's mutants. verdicts: id -> a kind of KINDS, one of NOT_COUNTED or "survived"."""

    file: str
    hash: str
    possible: int
    verdicts: dict[str, str] = field(default_factory=dict)
    survivors: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, mutant: Mutant, verdict: Verdict) -> None:
        """Takes in one verdict; an "error" of the tool is not one."""
        self.verdicts.pop(mutant.id, None)
        self.survivors.pop(mutant.id, None)
        if verdict.verdict == "error":
            return
        self.verdicts[mutant.id] = verdict.kind or verdict.verdict
        if verdict.verdict == "survived":
            self.survivors[mutant.id] = {
                "line": mutant.line,
                "operator": mutant.operator,
                "change": mutant.change,
                "text": mutant.text,
                "words": verdict.words,
            }

    def keep(self, known: Collection[str]) -> None:
        """Forgets mutants that the operators no longer make."""
        self.possible = len(known)
        self.verdicts = {one: told for one, told in self.verdicts.items() if one in known}
        self.survivors = {one: told for one, told in self.survivors.items() if one in known}

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.verdicts.values())

    @property
    def killed(self) -> int:
        return sum(self.counts[kind] for kind in KINDS)

    def plain(self) -> dict[str, Any]:
        return {
            "hash": self.hash,
            "possible": self.possible,
            "verdicts": dict(sorted(self.verdicts.items())),
            "survivors": dict(sorted(self.survivors.items())),
        }


def read(path: Path = FILE) -> dict[str, Record]:
    """The records by file; none where the file is missing."""
    if not path.is_file():
        return {}
    found = json.loads(path.read_text())
    return {name: Record(name, **fields) for name, fields in found.items()}


def write(records: Mapping[str, Record], path: Path = FILE) -> None:
    """Keeps them, a line per file and one per survivor."""
    rows = []
    for name in sorted(records):
        plain = records[name].plain()
        survivors = ",\n  ".join(
            f"{json.dumps(one)}: {json.dumps(told)}" for one, told in plain["survivors"].items()
        )
        verdicts = json.dumps(plain["verdicts"], separators=(",", ":"))
        head = f'"hash": {json.dumps(plain["hash"])}, "possible": {plain["possible"]}'
        rows.append(
            f'{json.dumps(name)}: {{{head},\n "verdicts": {verdicts},\n'
            f' "survivors": {{{survivors}}}}}'
        )
    replace(path, "{\n" + ",\n".join(rows) + "\n}\n")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Inside, no other process that asks for this has the file."""
    import fcntl

    with path.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Argument:
    """Why mutants are equivalent: those of a file with this source line, operator and change."""

    file: str
    text: str
    operator: str
    change: str
    why: str


def arguments(path: Path = EQUIVALENT) -> list[Argument]:
    """The entries of equivalent.toml. Raises TypeError where one lacks a field or has another."""
    return [Argument(**entry) for entry in tomllib.loads(path.read_text()).get("equivalent", [])]


def argument_for(file: str, told: Mapping[str, Any], known: Sequence[Argument]) -> Argument | None:
    """The entry that speaks of a survivor, if there is one."""
    words = (file, told["text"], told["operator"], told["change"])
    for one in known:
        if (one.file, one.text, one.operator, one.change) == words:
            return one
    return None


def stale(known: Iterable[Argument]) -> list[Argument]:
    """Entries whose line is no longer in their file."""
    texts: dict[str, set[str]] = {}
    for one in known:
        if one.file not in texts:
            path = ROOT / one.file
            lines = path.read_text().splitlines() if path.is_file() else []
            texts[one.file] = {line.strip() for line in lines}
    return [one for one in known if one.text not in texts[one.file]]
