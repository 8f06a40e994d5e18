"""Inputs that reach every block of the weight-only linear layer.

Access widths follow from K % 8, % 4; groups hold whole chunks of 8 or not; a warp takes 1, 4 or 8
rows of x, and 1024, 512 or 256 columns at once, where rows have as many.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reference import recipe
from reference.op import Op

# (Q, G) by the access width that Q * G allows.
GROUPS = (((3, 520), (1, 2056), (2, 260), (2, 8), (4, 2), (2, 512)), ((1, 268), (3, 92), (1, 4)),
          ((1, 263), (3, 93), (1, 3)))  # fmt: skip
SHAPES = ((1, 19), (3, 5), (9, 18), (8, 4))


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    for groups in GROUPS:
        for M, N in SHAPES:
            yield _layers(op, dtype, groups, M, N)


def _layers(
    op: Op, dtype: str, groups: tuple[tuple[int, int], ...], M: int, N: int
) -> Iterator[dict[str, Any]]:
    for seed in (1, 0):  # with a bias and without
        for Q, G in groups:
            yield op.build(recipe("normal", M=M, N=N, Q=Q, G=G, seed=seed, dtype=dtype))
