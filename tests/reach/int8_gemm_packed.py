"""Inputs that reach every block of the GEMM with packed weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reference import recipe
from reference.op import Op

DEPTHS = ((400, 48, 1040), (404, 36, 1044), (401, 33, 1041))  # by K % 16, % 4; chunks to spare


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    for depths in DEPTHS:
        yield (
            op.build(recipe("normal", M=M, P=P, K=K, seed=seed))
            for K in depths
            for M, P in ((17, 5), (33, 4))
            for seed in (1, 0, 3, 2)
        )
