"""Inputs that reach every block of the linear layer: see products.py. Its GEMMs have their own.

The kernel that quantizes on its way is compiled by how x may be read, and asks while it runs how
w_codes may be: only arrays at odd addresses bring every pair of the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reference import recipe
from reference.op import Op
from tests.displaced import displaced
from tests.reach.products import products

DEPTHS = (112, 100)  # a multiple of 16 and one of 4


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    yield from products(op, dtype, rows=(65,), kinds=("subnormal", "nan", "zeros"))
    yield _at_odd_address(op, dtype, "x")
    yield _at_odd_address(op, dtype, "w_codes")


def _at_odd_address(op: Op, dtype: str, name: str) -> Iterator[dict[str, Any]]:
    for K in DEPTHS:
        made = op.build(recipe("normal", M=65, N=131, K=K, dtype=dtype))
        yield {**made, name: displaced(made[name], 1)}
