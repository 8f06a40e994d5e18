"""A worker's share of a campaign: some files, verdict by verdict, into one JSON file.

Contract: `judged` is called in a process that has loaded the wings (quantassay/workers.py). What
the JSON file has of a source that is still the same is not judged again, but for survivors.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from quantassay import workers
from quantassay.mutation import campaign, results
from quantassay.mutation.judge import Verdict
from quantassay.mutation.mutant import Mutant, sampled
from quantassay.mutation.plan import Plan
from quantassay.mutation.results import Record

ROUND = 12  # mutants of each file before the next round


def judged(names: Sequence[str], sample: int | None, seed: int, path: Path) -> None:
    """In a worker: judges the files' mutants, keeps every verdict as it comes.

    In rounds: some of each file, then twice as many, so that a campaign that is cut short has
    something of all.
    """
    plans = {wing: Plan(wing) for wing in ("cupy", "numba")}
    files = {name: campaign.mutants(name) for name in names}
    most = max(len(mutants) for _, mutants in files.values())
    count, again = min(ROUND, sample or most), True
    while again:
        for name, (source, mutants) in files.items():
            plan = plans[campaign.wing_of(name)]
            _some_of(plan, name, source, mutants, (count, seed), path, first=count <= ROUND)
        again = count < min(sample or most, most)
        count = min(2 * count, sample or most)


def _some_of(
    plan: Plan,
    name: str,
    source: str,
    mutants: Sequence[Mutant],
    wanted: tuple[int, int],
    path: Path,
    first: bool,
) -> None:
    """Judges a sample of one file: `wanted` are its size and seed. first: survivors once more."""
    record = results.read(path).get(name)
    if record is None or record.hash != campaign.digest(source):
        record = Record(name, campaign.digest(source), len(mutants))
    record.keep({one.id for one in mutants})
    settled = {one for one, verdict in record.verdicts.items() if verdict != "survived"}
    chosen = {one.id for one in sampled(mutants, *wanted)} | set(record.survivors)
    left_out = settled if first else {*settled, *record.survivors}
    left = [one for one in mutants if one.id in chosen - left_out]
    if left:
        workers.tell(f"{name}: {len(left)} of {len(mutants)} mutants")
        campaign.Campaign(plan).run(name, left, source, partial(_keep, record, path))


def _keep(record: Record, path: Path, mutant: Mutant, verdict: Verdict) -> None:
    record.add(mutant, verdict)
    with results.locked(path):
        results.write({**results.read(path), record.file: record}, path)
    if verdict.verdict in ("survived", "error"):
        change = f"{mutant.operator}: {mutant.change} in {mutant.text}"
        workers.tell(f"  {verdict.verdict} {mutant.id} {mutant.file}:{mutant.line} {change}")
