"""`make races`: every kernel of both wings, watched for races on global memory.

Contract: runs each registered kernel on the hostile cases of its op, in its first dialect, with the
check of emulator/global_races.py on. Prints a line per kernel; exit status 1 if one is wrong.
Words narrow it down to kernels whose op or variant has one of them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import emulator
from quantassay.engine import check_kernel
from quantassay.loading import load_wings
from reference.op import kernels


def main(words: Sequence[str]) -> int:
    load_wings()
    chosen = [
        one
        for one in kernels()
        if not words or any(word in f"{one.op} {one.label}" for word in words)
    ]
    wrong, cases = 0, 0
    for one in chosen:
        started = time.perf_counter()
        with emulator.watch_races():
            result = check_kernel(one, one.dialects[0], examples=0, device="emulator")
        cases += result.cases
        wrong += not result.passed
        verdict = "ok" if result.passed else f"WRONG: {result.counterexample}"
        seconds = time.perf_counter() - started
        print(f"{one.op} {one.label}: {result.cases} cases, {seconds:.1f} s, {verdict}", flush=True)
    print(f"{len(chosen)} kernels, {cases} cases: {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
