"""Inputs that reach every block of the row kernels.

Access widths follow from K % 8, % 4, % 2; a row in registers ends at 4 vectors a thread, a tensor
at 16 vectors for each of the emulated grid's 4 * 512 threads. Dialects beyond CORE run the widest
and the scalar accesses alone (kernels_cupy/configuration.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from reference import recipe
from reference.dialects import CORE
from reference.dialects import dialect as get_dialect
from reference.op import Op
from tests.reach.far import far_ties

ROW_LENGTHS = (1, 3, 6, 12, 24, 40, 33, 257, 258, 260, 264, 1032, 4099, 4100, 4102, 4104)
LONG_ROWS = (16500, 17001, 17002, 33001, 33002, 33004, 33008, 35000)
SCALES = (2.0**-80, 2.0**80, 1.0, 2.0**-149)
LARGE_TENSOR = 44001  # vectors: the rest, too, takes more than one turn of four loads


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    for K in (*ROW_LENGTHS, *LONG_ROWS):
        if spoken in CORE or K % 8 == 0 or K % 2:
            yield _rows(op, dtype, K, spoken)
    widths = (8, 4, 2, 1) if spoken in CORE else (8, 1)
    for width in widths if op.name == "int8.quantize_per_tensor" else ():
        yield iter([op.build(recipe("normal", M=1, K=LARGE_TENSOR * width, dtype=dtype))])
    yield from far_ties(op, dtype, "near_ties")


def _rows(op: Op, dtype: str, K: int, spoken: str) -> Iterator[dict[str, Any]]:
    rows, side = op.dims[0], 1 if K in LONG_ROWS else 5
    for number, kind in enumerate(op.kinds):
        yield op.build(recipe(kind, K=K, seed=number, dtype=dtype, **{rows: side}))
    if op.name == "int8.quantize_static" and get_dialect(spoken).arithmetic == "fp32":
        made = op.build(recipe("normal", K=K, dtype=dtype, **{rows: side}))
        for scale in SCALES:
            yield {**made, "scales": np.array([scale], np.float32)}
