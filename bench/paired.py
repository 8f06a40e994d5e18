"""Two callables timed side by side: A B B A ..., the ratio of each pair, a bootstrap interval.

Contract: a speed claim of this project is such a ratio, measured in one run on one machine. The
host clock is used: for work on the CPU. Nothing here asserts a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Ratio:
    """Candidate over baseline: below 1 the candidate is faster. Times in seconds (medians)."""

    candidate: float
    baseline: float
    ratio: float
    low: float  # 95% bootstrap interval of the median ratio
    high: float
    pairs: int

    def __str__(self) -> str:
        return (
            f"{self.candidate * 1e3:.2f} ms against {self.baseline * 1e3:.2f} ms: "
            f"x{self.ratio:.2f} [{self.low:.2f}, {self.high:.2f}] over {self.pairs} pairs"
        )


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def paired(candidate: Callable[[], Any], baseline: Callable[[], Any], pairs: int = 15) -> Ratio:
    """Runs both once to warm up, then `pairs` pairs in alternating order."""
    if pairs < 3:
        raise ValueError(f"pairs: got {pairs}; allowed: >= 3")
    candidate()
    baseline()
    times = np.empty((pairs, 2))
    for number in range(pairs):
        order = (0, 1) if number % 2 else (1, 0)
        for which in order:
            times[number, which] = _seconds((candidate, baseline)[which])
    ratios = times[:, 0] / times[:, 1]
    draws = np.random.default_rng(0).choice(ratios, (2000, pairs))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    middle = np.median(times, axis=0)
    return Ratio(
        candidate=float(middle[0]),
        baseline=float(middle[1]),
        ratio=float(np.median(ratios)),
        low=float(low),
        high=float(high),
        pairs=pairs,
    )
