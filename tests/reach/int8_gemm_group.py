"""Inputs that reach every block of GEMMs with scales per group.

Access widths follow from G % 16, % 4; tiles have 16, 64 and 128 rows or columns; a group ends in
either half of a tile of 64 codes, and up to G = 256 converts another way; N % 8, % 4 and % 2 decide
how results leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reference import recipe
from reference.op import Op

# G by the access width it allows, each with enough groups for the loops over them.
SIZES = (
    ((96, 5), (288, 3), (32, 9), (64, 4)),
    ((16, 3), (80, 2)),
    ((132, 3), (4, 5)),
    ((135, 3), (7, 5)),
)
SHAPES = ((9, 130), (65, 136), (66, 67), (12, 136), (16, 132), (130, 65), (64, 128))


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    for sizes in SIZES:
        for few in (True, False):  # rows: they choose the pipeline's tile
            yield _products(op, dtype, sizes, [pair for pair in SHAPES if (pair[0] <= 16) == few])


def _products(
    op: Op, dtype: str, sizes: tuple[tuple[int, int], ...], shapes: list[tuple[int, int]]
) -> Iterator[dict[str, Any]]:
    for M, N in shapes:
        for seed in (1, 0):  # with a bias and without
            for G, Q in sizes:
                yield op.build(recipe("normal", M=M, N=N, Q=Q, G=G, seed=seed, dtype=dtype))
