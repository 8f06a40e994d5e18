"""Tiles of the tensor-core GEMMs and the warps that share them, by M.

    LARGE, 4 warps        MIDDLE, 4 warps       SMALL, 4 warps
    64 x 64 | 64 x 64     32 x 64 | 32 x 64     32 x 32 | 32 x 32 | 32 x 32 | 32 x 32
    64 x 64 | 64 x 64     32 x 64 | 32 x 64

The larger a warp's part, the fewer bytes of shared memory it reads for each product. Static shared
memory ends at 48 KB, and Numba has no way to ask for more: that bounds rows and stages.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels_numba.tile import DEPTH

COLUMNS = 128  # of every tile
WARP_COLUMNS = 32  # of a warp, if a shape says nothing else
PAIRS = WARP_COLUMNS // 8  # mma tiles across such a warp


@dataclass(frozen=True)
class Shape:
    """A block's tile: `rows` x COLUMNS results, by warps of `warp_rows` x `warp_columns`."""

    name: str
    rows: int
    warp_rows: int
    stages: int
    blocks: int  # of them on a multiprocessor, for which registers are bounded
    warp_columns: int = WARP_COLUMNS

    @property
    def across(self) -> int:
        """Warps side by side: 2 or 4."""
        return COLUMNS // self.warp_columns

    @property
    def threads(self) -> int:
        return self.rows // self.warp_rows * self.across * 32

    @property
    def pairs(self) -> int:
        """mma tiles across a warp."""
        return self.warp_columns // 8

    @property
    def sums(self) -> int:
        """Of a lane."""
        return self.warp_rows // 16 * self.pairs * 4

    @property
    def stage_bytes(self) -> int:
        return (self.rows + COLUMNS) * DEPTH

    @property
    def staging(self) -> int:
        """Words of a row on its way out."""
        return self.warp_columns + 8

    @property
    def shared_bytes(self) -> int:
        """Of the stages, or of the results on their way out."""
        return max(self.stages * self.stage_bytes, self.threads // 32 * 16 * self.staging * 4)


LARGE = Shape("128x128", rows=128, warp_rows=64, stages=3, blocks=2, warp_columns=64)
MIDDLE = Shape("64x128", rows=64, warp_rows=32, stages=4, blocks=3, warp_columns=64)
SMALL = Shape("32x128", rows=32, warp_rows=32, stages=4, blocks=4)
ONE_STAGE = Shape("128x128, one stage", rows=128, warp_rows=64, stages=1, blocks=2)


def shape_for(rows: int) -> Shape:
    """The tile for M rows: the smallest that holds them, or the largest."""
    return next((shape for shape in (SMALL, MIDDLE) if rows <= shape.rows), LARGE)
