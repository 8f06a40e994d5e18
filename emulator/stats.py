"""What one launch did: instructions by opcode, basic blocks, and traffic if it was traced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from emulator import trace
from emulator.lower import BlockInfo


@dataclass
class SourceLine:
    """Traffic of one source line over all traced blocks; columns as in trace.py.

    source: "file:line", with the place where it was inlined; "" for PTX without line information.
    """

    source: str
    shared_requests: int = 0
    shared_wavefronts: int = 0
    shared_ideal_wavefronts: int = 0
    shared_bytes: int = 0
    global_requests: int = 0
    global_sectors: int = 0
    ideal_sectors: int = 0
    global_load_bytes: int = 0
    global_store_bytes: int = 0

    @property
    def bank_conflicts(self) -> int:
        return self.shared_wavefronts - self.shared_ideal_wavefronts

    def add(self, line: trace.Line) -> None:
        """Count one PTX instruction's traffic."""
        if line.shared:
            self.shared_requests += line.requests
            self.shared_wavefronts += line.transactions
            self.shared_ideal_wavefronts += line.ideal
            self.shared_bytes += line.bytes
            return
        self.global_requests += line.requests
        self.global_sectors += line.transactions
        self.ideal_sectors += line.ideal
        if line.store:
            self.global_store_bytes += line.bytes
        else:
            self.global_load_bytes += line.bytes


@dataclass(frozen=True, eq=False)
class Stats:
    """What one launch did. Everything from `traced_blocks` on is 0 or empty without `trace`.

    requests, sectors, wavefronts: see trace.py. Bank conflicts are
    shared_wavefronts - shared_ideal_wavefronts.
    """

    blocks: Sequence[BlockInfo] = field(repr=False)  # the kernel's basic blocks
    counts: np.ndarray = field(repr=False)  # uint64 (blocks,): times each was entered
    traced_blocks: int = 0  # thread blocks
    lines: tuple[trace.Line, ...] = field(default=(), repr=False)

    @cached_property
    def opcodes(self) -> dict[str, int]:
        """PTX instructions executed by all threads, per opcode with its modifiers.

        A predicated instruction counts whether or not its predicate held.
        """
        found: dict[str, int] = {}
        for block, count in zip(self.blocks, self.counts.tolist(), strict=True):
            for opcode, times in block.histogram.items() if count else ():
                found[opcode] = found.get(opcode, 0) + times * count
        return found

    @property
    def instructions(self) -> int:
        """PTX instructions executed by all threads."""
        return sum(self.opcodes.values())

    @property
    def blocks_executed(self) -> int:
        """Basic blocks that ran at least once."""
        return int(np.count_nonzero(self.counts))

    @property
    def blocks_total(self) -> int:
        return len(self.blocks)

    def source_lines(self) -> tuple[SourceLine, ...]:
        """`lines` by source line, in program order: a line may be many PTX instructions."""
        found: dict[str, SourceLine] = {}
        for line in self.lines:
            found.setdefault(line.source, SourceLine(line.source)).add(line)
        return tuple(found.values())

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
