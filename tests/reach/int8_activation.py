"""Inputs that reach every block of the kernels that quantize computed rows: activations, smoothing.

Access widths follow from K % 8, % 4, % 2; a thread holds 2 vectors of a row between its amax and
its codes, and a block has up to 1024 threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from reference import recipe
from reference.op import Op

ROW_LENGTHS = (1, 6, 24, 33, 257, 258, 264, 1032, 2100, 2104)
LONG_ROWS = (2200, 4501, 4502, 8300, 9000, 16600, 17000)
SCALES = (2.0**-80, 2.0**80, 1.0, 2.0**-149)


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    for K in (*ROW_LENGTHS, *LONG_ROWS):
        yield _rows(op, dtype, K)


def _rows(op: Op, dtype: str, K: int) -> Iterator[dict[str, Any]]:
    M = 1 if K in LONG_ROWS else 5
    for number, kind in enumerate(op.kinds):
        yield op.build(recipe(kind, M=M, K=K, seed=number, dtype=dtype))
    if "scales" in [arg.name for arg in op.inputs]:
        made = op.build(recipe("normal", M=M, K=K, dtype=dtype))
        for scale in SCALES:
            yield {**made, "scales": np.array([scale], np.float32)}
