"""Inputs that reach every block of GEMMs with an epilogue to codes: see products.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reference.op import Op
from tests.reach.products import products

EXTREME = (19, 4, 24)  # seeds with a scale of 2**-64 (all saturate), 3e38 and 2**-127 (no fast form)


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    yield from products(op, dtype, seeds=(1, *EXTREME))
