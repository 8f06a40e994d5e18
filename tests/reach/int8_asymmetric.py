"""Inputs that reach every block of the asymmetric row kernels.

Access widths follow from the row length % 8, % 4, % 2, a group along K being a row; rows of up to 4
accesses a lane share a warp, of up to 128 have one, of up to 4096 stay in registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from reference import recipe
from reference.op import Op
from tests.reach.int8_quantize import LONG_ROWS, ROW_LENGTHS, SCALES


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    for length in (*ROW_LENGTHS, *LONG_ROWS):
        yield _rows(op, dtype, length, spoken)


def _rows(op: Op, dtype: str, length: int, spoken: str) -> Iterator[dict[str, Any]]:
    side = 1 if length in LONG_ROWS else 5
    dims = {op.dims[0]: side, "Q": 2, "G": length}
    if "G" not in op.dims:
        dims = {op.dims[0]: side, "K": length}
    for number, kind in enumerate(op.kinds_in(spoken)):
        yield op.build(recipe(kind, seed=number, dtype=dtype, **dims))
    if "static" in op.name:
        made = op.build(recipe("normal", dtype=dtype, **dims))
        for scale in SCALES:
            yield {**made, "scales": np.full_like(made["scales"], scale)}
