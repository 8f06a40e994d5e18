"""Inputs that reach every block of INT8 GEMMs and of the epilogue: see products.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reference.op import Op
from tests.reach.products import products


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    if "B" in op.dims:
        yield from products(op, dtype, B=2)
    elif "K" in op.dims:
        yield from products(op, dtype)
    else:
        yield from products(op, dtype, rows=(9, 130), seeds=(1, 0, 3, 10))
