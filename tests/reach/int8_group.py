"""Inputs that reach every block of the group kernels.

Access widths follow from G % 8, % 4, % 2; groups of up to 8 vectors go 4 to a lane, up to 512 to a
block; longer ones have up to 32 lanes, or a block, which keeps 4096 vectors in registers. Dialects
beyond CORE run the widest and the scalar accesses alone (kernels_cupy/configuration.py).
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

# (M, Q, G): short groups, several blocks of them; longer ones; a block's.
SHAPES = (
    *((29, 23, G) for G in (3, 6, 12, 24, 1, 2, 4, 8)),
    *((3, 7, G) for G in (11, 129, 22, 258, 44, 260, 72, 264)),
    *((1, 2, G) for G in (4099, 4102, 4108, 4104, 8200)),
    *((1, 1, G) for G in (12289, 12290, 24580, 49160, 20481, 40962, 40964, 40968)),
)
SCALES = (2.0**-80, 2.0**80, 1.0, 2.0**-149)
SATURATING = 2.0**-20  # a scale that fp16 has too


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    for shape in SHAPES:
        if spoken in CORE or shape[2] % 8 == 0 or shape[2] % 2:
            yield _groups(op, dtype, shape, spoken)
    yield from far_ties(op, dtype, "near_ties")


def _groups(
    op: Op, dtype: str, shape: tuple[int, int, int], spoken: str
) -> Iterator[dict[str, Any]]:
    M, Q, G = shape
    for number, kind in enumerate(op.kinds):
        yield op.build(recipe(kind, M=M, Q=Q, G=G, seed=number, dtype=dtype))
    if op.name == "int8.quantize_static_per_group":
        made = op.build(recipe("normal", M=M, Q=Q, G=G, dtype=dtype))
        others = SCALES if get_dialect(spoken).arithmetic == "fp32" else ()
        for scale in (SATURATING, *others):
            yield {**made, "scales": np.full((1, Q), scale, np.float32)}
