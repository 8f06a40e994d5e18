"""Inputs that reach every block of the asymmetric row kernels.

Access widths follow from the row length % 8, % 4, % 2, a group along K being a row; rows of up to 4
accesses a lane share a warp, of up to 128 have one, of up to 4096 stay in registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from reference import dialect as get_dialect
from reference import recipe
from reference.asymmetric import CHANNEL
from reference.numerics import DTYPES
from reference.op import Op
from tests.reach.far import far_ties
from tests.reach.int8_quantize import LONG_ROWS, ROW_LENGTHS, SCALES


def inputs(op: Op, dtype: str, spoken: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of inputs: those of a group reach the same compilations, the likelier first."""
    own = get_dialect(spoken)
    # One scale and one per row are two compilations in dialects that tell tensors from channels.
    two = op.name == "int8.asymmetric_static" and own != own.under(CHANNEL)
    for length in (*ROW_LENGTHS, *LONG_ROWS):
        yield _rows(op, dtype, length, spoken)
        if two:
            yield islice(_rows(op, dtype, length, spoken), 1, None)
    yield from far_ties(op, dtype, "azp_near_ties")


def _rows(op: Op, dtype: str, length: int, spoken: str) -> Iterator[dict[str, Any]]:
    side = 1 if length in LONG_ROWS else 5
    dims = {op.dims[0]: side, "Q": 2, "G": length}
    if "G" not in op.dims:
        dims = {op.dims[0]: side, "K": length}
    for number, kind in enumerate(op.kinds_in(spoken)):
        yield op.build(recipe(kind, seed=number, dtype=dtype, **dims))
    if "static" in op.name:
        made = op.build(recipe("normal", dtype=dtype, **dims))
        for scale in SCALES if get_dialect(spoken).arithmetic == "fp32" else _kept(dtype):
            yield {**made, "scales": np.full_like(made["scales"], scale)}


def _kept(dtype: str) -> list[float]:
    """The scales that are values of the dtype, in dialects that compute in it."""
    with np.errstate(over="ignore", under="ignore"):
        values = [float(np.float32(one).astype(DTYPES[dtype])) for one in SCALES]
    return [one for one in values if 0 < one < np.inf]
