"""Inputs that reach every block of the linear layer: see products.py. Its GEMMs have their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reference.op import Op
from tests.reach.products import products


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    yield from products(op, dtype, rows=(65,), kinds=("subnormal", "nan", "zeros"))
