"""Which tile, and how many parts of K, for a product of M x N x K: pure functions of the sizes.

Contract: the same sizes give the same launch on every machine and in the emulator. Any choice gives
the same bits (int32 sums), so these only decide speed. `sms` is that of an H100 or H200 unless
said otherwise: a device with fewer or more runs the same launches.
"""

from __future__ import annotations

from kernels_cupy.geometry import ceil_div

TILE_ROWS = (16, 32, 64, 128)  # the shapes of tile_mma.cuh, all of them TILE_COLUMNS wide
TILE_COLUMNS = 128
THREADS = 128
DEPTH = 64  # codes of K per stage
SMS = 132
FEWEST_STAGES = 4  # of a part of K: below it, filling the pipeline costs more than it hides


def tile_rows(M: int) -> int:
    """Rows of the tile for M tokens: the smallest that holds them all, or the largest.

    A tile reads as many weights whatever its rows, and below 128 rows the weights' bytes are what
    a product takes its time for; beyond, the largest tile asks least of shared memory per product.
    """
    return next((rows for rows in TILE_ROWS if M <= rows), TILE_ROWS[-1])


def tiles(M: int, N: int, rows: int, columns: int = TILE_COLUMNS) -> int:
    """Number of tiles, that is, of blocks."""
    return ceil_div(M, rows) * ceil_div(N, columns)


def splits(M: int, N: int, K: int, sms: int = SMS) -> int:
    """Parts into which split_k cuts K, none of them empty; 1 where the tiles fill the device.

    Weights stream from memory, and it takes all SMs, two blocks on each, to ask for them fast
    enough. So: enough parts for two blocks per SM where the tiles alone leave SMs idle, but none
    shorter than FEWEST_STAGES stages. Each part adds its M x N sums in L2, so not more than that.
    """
    blocks, stages = tiles(M, N, tile_rows(M)), ceil_div(K, DEPTH)
    if blocks >= sms:
        return 1
    parts = max(1, min(2 * sms // blocks, stages // FEWEST_STAGES))
    return ceil_div(stages, ceil_div(stages, parts))


def best_variant(M: int, N: int, K: int) -> str:
    """"split_k" where it cuts K at all, else "pipeline"."""
    return "split_k" if splits(M, N, K) > 1 else "pipeline"
