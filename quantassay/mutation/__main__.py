"""python -m quantassay.mutation: judges mutants of kernel files and keeps the verdicts.

    --file FILE ...   kernels_cupy/int8_gemm.cu and the like; default: every file of both wings
    --sample N        that many mutants of a file (default: all)
    --seed S          of the sample
    --workers N       processes; a wing's files stay together
    --json FILE       where verdicts are kept, and looked up: what is there is not judged again
                      while the source is the same, but for survivors
    --merge FILE ...  takes the records of other files into docs/mutation.json, then as --write
    --write           docs/mutation.md anew from docs/mutation.json, and nothing else; without it
                      the table is written, too, where --json is docs/mutation.json

Exit status: 1 where a file's score is below 95%, 2 on bad usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from quantassay import workers
from quantassay.mutation import campaign, results, table
from quantassay.mutation.results import Record
from quantassay.mutation.work import judged

TARGET = 0.95


def main(words: Sequence[str]) -> int:
    """Returns the exit status."""
    told = _parser().parse_args(words)
    if told.merge:
        found = results.read()
        for path in told.merge:
            found |= {name: one for name, one in results.read(path).items() if one.verdicts}
        results.write(found)
    if told.write or told.merge:
        table.FILE.write_text(table.text(results.read(), results.arguments()))
        return 0
    chosen = told.file or [*campaign.files("cupy"), *campaign.files("numba")]
    try:
        wings = {name: campaign.wing_of(name) for name in chosen}
    except ValueError as error:
        print(error)
        return 2
    shares = _shares(wings, told.workers)
    calls = [(judged, (share, told.sample, told.seed, told.json)) for share in shares]
    workers.spread(calls, len(calls), None, lambda *news: print(*news, flush=True))
    if told.json == results.FILE:
        table.FILE.write_text(table.text(results.read(), results.arguments()))
    known, low = results.arguments(), []
    for name, record in results.read(told.json).items():
        if name in wings:
            print(_line(record, known))
            low += [name] if table.score(record, known) < TARGET else []
    return 1 if low else 0


def _parser() -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m quantassay.mutation", description=__doc__, formatter_class=plain
    )
    parser.add_argument("--file", nargs="+", default=[])
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path, default=results.FILE)
    parser.add_argument("--merge", type=Path, nargs="+", default=[])
    parser.add_argument("--write", action="store_true")
    return parser


def _shares(wings: dict[str, str], count: int) -> list[list[str]]:
    """Files for each worker: the wings apart, each dealt out in turn where there are more."""
    found = []
    of_wing = [[name for name in wings if wings[name] == wing] for wing in ("cupy", "numba")]
    each = max(1, count // 2) if all(of_wing) else max(1, count)
    for names in filter(None, of_wing):
        found += [names[i::each] for i in range(min(each, len(names)))]
    if count == 1 and len(found) > 1:
        return [[name for names in found for name in names]]
    return found


def _line(record: Record, known: Sequence[results.Argument]) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in sorted(record.counts.items()))
    return f"{record.file}: {100 * table.score(record, known):.1f}% ({counts})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
