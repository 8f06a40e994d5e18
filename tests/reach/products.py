"""Inputs of products that reach every block: M, N beside the tiles' edges, K by what it leaves.

Access widths follow from K % 16, % 4; tiles are 16, 32, 64 and 128 rows high; N % 8 and % 4 decide
how results leave.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from reference import recipe
from reference.op import Op

DEPTHS = (  # by K % 16: one for a pipeline, a short sum, rows long enough for unrolled loops
    (259, 67, 31, 1153),
    (258, 70, 30, 1154),
    (260, 68, 28, 1156),
    (264, 72, 24, 1160),
    (272, 80, 32, 1168, 1776),
)
ROWS = (9, 27, 57, 130)  # M: one for every height of a tile, the last with a partial tile below
COLUMNS = ((131, 130, 57), (136, 132, 64))  # N: odd and even, whole runs of 8 and of 4
SEEDS = (1, 0, 3)  # with a bias and without; without, and one scale for all columns


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    yield from products(op, dtype)


def products(
    op: Op,
    dtype: str,
    rows: Sequence[int] = ROWS,
    kinds: Sequence[str] = (),
    seeds: Sequence[int] = SEEDS,
    **sizes: int,
) -> Iterator[Iterator[dict[str, Any]]]:
    """A group per depth class, height and parity of N. kinds: besides "normal". sizes: further dims
    (B of a batch).
    """
    for depths in DEPTHS:
        for M in rows:
            for columns in COLUMNS:
                yield _group(op, dtype, (M, *columns), depths, (*kinds,), (*seeds,), sizes)


def _group(
    op: Op,
    dtype: str,
    shape: tuple[int, ...],
    depths: tuple[int, ...],
    kinds: tuple[str, ...],
    seeds: tuple[int, ...],
    sizes: dict[str, int],
) -> Iterator[dict[str, Any]]:
    M, *columns = shape

    def made(kind: str, N: int, K: int, seed: int) -> dict[str, Any]:
        return op.build(recipe(kind, M=M, N=N, K=K, seed=seed, dtype=dtype, **sizes))

    for seed in seeds:
        yield made("normal", columns[0], depths[0], seed)
    for K in depths[1:]:
        yield made("normal", columns[0], K, seeds[0])
    for N in columns[1:]:
        for seed in seeds[:2]:
            yield made("normal", N, depths[0], seed)
    for kind in kinds:
        yield made(kind, columns[0], depths[1], 0)
