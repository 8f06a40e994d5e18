"""Which tile, and how many parts of K, for a product of M x N x K: pure functions of the sizes.

Contract: the same sizes give the same launch on every machine and in the emulator. Any choice gives
the same bits (int32 sums), so these only decide speed. SMS is that of an H100 or H200: a device
with fewer or more runs the same launches.
"""

from __future__ import annotations

from kernels_cupy.geometry import ceil_div
from kernels_cupy.launch import Dim

FIXED: dict[str, tuple[int, int, Dim]] = {  # variant -> rows and columns of its tile, block
    "naive": (16, 16, (16, 16)),
    "tiled": (16, 16, (16, 16)),
    "dp4a": (64, 64, (256,)),
    "mma": (128, 128, (128,)),
}
TILE_ROWS = (16, 32, 64, 128)  # of the other variants, the shapes of tile_mma.cuh
TILE_COLUMNS = 128
BLOCK = (128,)
DEPTH = 64  # codes of K per stage
SMS = 132
FEWEST_STAGES = 4  # of a part of K: below it, filling the pipeline costs more than it hides


def tile_rows(M: int) -> int:
    """Rows of the tile for M tokens: the smallest that holds them all, or the largest.

    A tile reads as many weights whatever its rows, and below 128 rows the weights' bytes are what
    a product takes its time for; beyond, the largest tile asks least of shared memory per product.
    """
    return next((rows for rows in TILE_ROWS if rows >= M), TILE_ROWS[-1])


def tiles(M: int, N: int, rows: int, columns: int = TILE_COLUMNS) -> int:
    """Number of tiles, that is, of blocks."""
    return ceil_div(M, rows) * ceil_div(N, columns)


def launch(family: str, variant: str, M: int, N: int) -> tuple[str, int, Dim]:
    """The kernel of a variant ("gemm", "pipeline": "gemm_pipeline_16"), its tiles and its block."""
    if variant in FIXED:
        rows, columns, block = FIXED[variant]
        return f"{family}_{variant}", tiles(M, N, rows, columns), block
    rows = tile_rows(M)
    return f"{family}_{variant}_{rows}", tiles(M, N, rows), BLOCK


def kernels(family: str, variant: str) -> list[str]:
    """All kernels of a variant."""
    name = f"{family}_{variant}"
    return [name] if variant in FIXED else [f"{name}_{rows}" for rows in TILE_ROWS]


def splits(M: int, N: int, K: int) -> int:
    """Parts into which split_k cuts K, none of them empty; 1 where the tiles fill the device.

    Weights stream from memory, and it takes all SMs, two blocks on each, to ask for them fast
    enough. So: enough parts for two blocks per SM where the tiles alone leave SMs idle, but none
    shorter than FEWEST_STAGES stages. Each part adds its M x N sums in L2, so not more than that.
    """
    blocks, stages = tiles(M, N, tile_rows(M)), ceil_div(K, DEPTH)
    if blocks >= SMS:
        return 1
    parts = max(1, min(2 * SMS // blocks, stages // FEWEST_STAGES))
    return ceil_div(stages, ceil_div(stages, parts))


def best_variant(M: int, N: int, K: int) -> str:
    """ "split_k" where it cuts K at all, else "pipeline"."""
    return "split_k" if splits(M, N, K) > 1 else "pipeline"
