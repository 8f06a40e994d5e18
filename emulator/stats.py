"""What one launch did: instructions by opcode, basic blocks, and traffic if it was traced."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from emulator import trace
from emulator.lower import CompiledKernel


@dataclass(frozen=True)
class Stats:
    """What one launch did. Everything from `traced_blocks` on is 0 or empty without `trace`.

    opcodes: PTX instructions executed, per opcode with its modifiers; a predicated one counts
    whether or not its predicate held. requests, sectors, wavefronts: see trace.py. Bank conflicts
    are shared_wavefronts - shared_ideal_wavefronts.
    """

    opcodes: dict[str, int]
    blocks_executed: int  # basic blocks that ran at least once
    blocks_total: int
    traced_blocks: int = 0  # thread blocks
    lines: tuple[trace.Line, ...] = field(default=(), repr=False)

    @property
    def instructions(self) -> int:
        """PTX instructions executed by all threads."""
        return sum(self.opcodes.values())

    def _sum(self, column: str, *, shared: bool, store: bool | None = None) -> int:
        return sum(
            getattr(line, column)
            for line in self.lines
            if line.shared == shared and store in (None, line.store)
        )

    @property
    def global_requests(self) -> int:
        return self._sum("requests", shared=False)

    @property
    def global_sectors(self) -> int:
        return self._sum("transactions", shared=False)

    @property
    def ideal_sectors(self) -> int:
        return self._sum("ideal", shared=False)

    @property
    def global_load_bytes(self) -> int:
        return self._sum("bytes", shared=False, store=False)

    @property
    def global_store_bytes(self) -> int:
        return self._sum("bytes", shared=False, store=True)

    @property
    def shared_requests(self) -> int:
        return self._sum("requests", shared=True)

    @property
    def shared_wavefronts(self) -> int:
        return self._sum("transactions", shared=True)

    @property
    def shared_ideal_wavefronts(self) -> int:
        return self._sum("ideal", shared=True)


def collect(code: CompiledKernel, counts: np.ndarray, totals: np.ndarray, traced: int) -> Stats:
    """Stats from block counters (blocks,) and traffic totals (sites, KINDS, COLUMNS)."""
    opcodes: dict[str, int] = {}
    for block, count in zip(code.blocks, counts, strict=True):
        for opcode, times in block.histogram.items():
            opcodes[opcode] = opcodes.get(opcode, 0) + times * int(count)
    executed = int(np.count_nonzero(counts))
    return Stats(opcodes, executed, len(counts), traced, trace.lines(totals, code.sites))
