"""Inputs of products that reach every block: M, N beside the tiles' edges, K by what it leaves.

Access widths follow from K % 16, % 4; tiles are 16, 64 and 128 wide; N % 4 by how results leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reference import recipe
from reference.op import Op

DEPTHS = (  # by K % 16: a short sum, one for a pipeline, rows long enough for unrolled loops
    (67, 259, 1153),
    (70, 258, 1154),
    (68, 260, 1156),
    (72, 264, 1160),
    (80, 272, 1168, 1776),
)
SHAPES = ((65, 65), (57, 57), (130, 130), (63, 70))
EVEN_SHAPES = ((130, 132), (64, 64))  # N % 4 == 0


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    for depths in DEPTHS:
        for shapes in (SHAPES, EVEN_SHAPES):
            yield _products(op, dtype, depths, shapes)


def _products(
    op: Op, dtype: str, depths: tuple[int, ...], shapes: tuple[tuple[int, int], ...]
) -> Iterator[dict[str, Any]]:
    def made(kind: str, shape: tuple[int, int], K: int, seed: int) -> dict[str, Any]:
        M, N = shape
        return op.build(recipe(kind, M=M, N=N, K=K, seed=seed, dtype=dtype))

    yield made("normal", shapes[0], depths[0], 1)  # seeds: with a bias and without
    for K in depths[2:]:
        yield made("normal", (9, 8), K, 0)
    for shape in shapes:
        for K in depths[:2]:
            for seed in (0, 1):
                yield made("normal", shape, K, seed)
    for kind in ("subnormal", "nan", "zeros"):
        if kind in op.kinds:
            yield made(kind, shapes[0], depths[0], 0)
