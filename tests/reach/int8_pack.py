"""Inputs that reach every block of transpose and pack: sides beside 64, K by K % 16 and % 4."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reference import recipe
from reference.op import Op


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    rows = op.dims[0]
    for K in (80, 68, 67, 70):
        yield (
            op.build(recipe("normal", K=K + more, **{rows: count}))
            for more in (0, 64)
            for count in (9, 68, 67)
        )
