"""Inputs that reach every block of GEMMs with an epilogue to codes: see products.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reference.op import Op
from tests.reach.products import products

# With a bias and without, each: an ordinary scale; 2**-64, where all saturate; one that has no fast
# form.
SEEDS = (1, 0, 19, 39, 4, 24)


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    yield from products(op, dtype, seeds=SEEDS)
