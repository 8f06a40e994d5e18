"""Which basic blocks of each kernel have run, over all launches since the last reset.

Contract: `coverage()` maps (module name, kernel name) to a Coverage; a kernel appears with its
first launch. A module is named by its caller or by the hash of its PTX.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emulator.lower import BlockInfo


@dataclass(frozen=True)
class Coverage:
    """Basic blocks of one kernel. lines: the first PTX line of each; executed: did it ever run?"""

    lines: tuple[int, ...]
    executed: tuple[bool, ...]

    @property
    def missed(self) -> tuple[int, ...]:
        """First PTX lines of the blocks that never ran."""
        return tuple(n for n, ran in zip(self.lines, self.executed, strict=True) if not ran)


_seen: dict[tuple[str, str], tuple[tuple[int, ...], np.ndarray]] = {}


def add(module: str, kernel: str, blocks: Sequence[BlockInfo], counts: np.ndarray) -> None:
    """Merge one launch's counts (blocks,)."""
    known = _seen.get((module, kernel))
    if known is None:
        lines = tuple(block.ptx_line for block in blocks)
        _seen[module, kernel] = (lines, counts != 0)
    else:
        np.logical_or(known[1], counts, out=known[1])


def coverage() -> dict[tuple[str, str], Coverage]:
    """What has run so far, by (module, kernel)."""
    return {
        key: Coverage(lines, tuple(bool(ran) for ran in executed))
        for key, (lines, executed) in _seen.items()
    }


def coverage_reset() -> None:
    """Forget every launch so far."""
    _seen.clear()
