"""Every peer, and what agreeing with each of them gave: docs/packages.md.

    python -m tests.packages.catalogue [--write]

Contract: exit status 1 where a difference is unexplained. The table names package, version,
function, op, dialect, elements and differences, and below it the reason of each known difference.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.packages import (
    peers_compressed_tensors,
    peers_onnx,
    peers_others,
    peers_smoothquant,
    peers_torch,
    peers_torchao,
)
from tests.packages.peer import ELEMENTS, Agreement, Peer, agree

PEERS: tuple[Peer, ...] = tuple(
    peer
    for module in (
        peers_torch,
        peers_torchao,
        peers_compressed_tensors,
        peers_onnx,
        peers_others,
        peers_smoothquant,
    )
    for peer in module.peers()
)
PAGE = Path(__file__).parents[2] / "docs" / "packages.md"
HEAD = f"""# Dialects against the packages that define them

Written by `make packages` (`python -m tests.packages.catalogue --write`), on a CPU. Each row
compares the oracle with a function of a real package, output by output and byte by byte (any NaN
equals any NaN), on the op's hostile inputs and on inputs of every kind of reference/recipes.py:
ties, near ties, subnormal and huge values, NaN, infinities, zero rows and others; at least
{ELEMENTS:,} elements a row. A difference counts as known where a rule says why it is no error of
the oracle; the rules are below. An unexplained one fails the run.

| package | function | op | dialect | elements | differences | known | unexplained |
|---|---|---|---|---:|---:|---:|---:|
"""


def page(results: list[tuple[Peer, Agreement]]) -> str:
    """docs/packages.md."""
    rows, reasons = [], []
    for peer, found in results:
        known = sum(found.known.values())
        rows.append(
            f"| {peer.package} {peer.version} | {peer.call} | {peer.op} | {peer.dialect} | "
            f"{found.elements:,} | {found.differences:,} | {known:,} | {found.unexplained:,} |"
        )
        for words, count in sorted(found.known.items()):
            reasons.append(
                f"- {peer.package}, {peer.call}, {peer.op}: {words} ({count:,} elements)"
            )
    total = sum(found.elements for _, found in results)
    tail = f"\n\n{len(results)} functions, {total:,} elements.\n"
    listed = "\n## Known differences\n\n" + "\n".join(reasons) + "\n" if reasons else ""
    return HEAD + "\n".join(rows) + tail + listed


def main() -> int:
    """Runs every peer. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Cross-check with the packages.")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    write = parser.parse_args().write
    results = []
    for peer in PEERS:
        found = agree(peer)
        results.append((peer, found))
        print(
            f"{peer.package} {peer.call}, {peer.op}: {found.elements:,} elements, "
            f"{found.differences:,} differences, {found.unexplained:,} unexplained"
        )
        for example in found.examples:
            print(f"    {example}")
    if peers_smoothquant.source() is None:
        print("smoothquant: not run, its file is not there (see peers_smoothquant.py)")
        if write:
            print(f"{PAGE.name} is not written: it would lack a row")
            return 1
    if write:
        PAGE.write_text(page(results), encoding="utf-8")
    return int(any(found.unexplained for _, found in results))


if __name__ == "__main__":
    sys.exit(main())
