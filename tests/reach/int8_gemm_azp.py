"""Inputs that reach every block of GEMMs with a zero point, and of column sums: see products.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reference import recipe
from reference.op import Op
from tests.reach.products import DEPTHS, products


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    if "M" not in op.dims:
        for depths in DEPTHS:
            yield _sums(op, dtype, depths)
        return
    for seeds in ((0, 10), (1, 3)):  # u8, s8
        yield from products(op, dtype, seeds=seeds)


def _sums(op: Op, dtype: str, depths: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    for K in (depths[-1], 5 * 512 + depths[-1], depths[0], depths[2]):
        for N in (1, 13):
            yield op.build(recipe("normal", N=N, K=K, dtype=dtype))
