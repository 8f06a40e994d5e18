"""Inputs that reach every block of the norm kernels.

Access widths follow from K % 8 and % 4; rows are held in registers up to K = 32768 (1024 lanes of 4
chunks), a lane has 4 chunks at K = 1024, and the butterfly over warps begins beyond. Scales: slow
division below 2**-64 and above 2**64; saturation before the division where |z| >= 256 scales.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from reference import recipe
from reference.op import Op

ROW_LENGTHS = (1, 4, 8, 12, 40, 257, 260, 264, 1024, 1032, 1033, 1036)
LONG_ROWS = (32776,)
SCALES = (2.0**-80, 2.0**80, 2.0**-20)


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    for K in (*ROW_LENGTHS, *LONG_ROWS):
        yield _rows(op, dtype, K)


def _rows(op: Op, dtype: str, K: int) -> Iterator[dict[str, Any]]:
    rows = 1 if K in LONG_ROWS else 5
    for number, kind in enumerate(("normal", "zeros", "nan", "inf", "huge", "subnormal")):
        yield op.build(recipe(kind, K=K, M=rows, seed=number, dtype=dtype))
    if op.name.endswith("_static"):
        made = op.build(recipe("normal", K=K, M=rows, dtype=dtype))
        for scale in SCALES:
            yield {**made, "scales": np.array([scale], np.float32)}
