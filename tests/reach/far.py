"""Near ties under scales that the fast division is not used for: rounding shows in no other input.

Dynamic quantization in fp32 only: a power of two moves x and its scale and changes no quotient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from reference import recipe
from reference.op import Op

POWERS = (-80, 80)
LENGTH = 48


def far_ties(op: Op, dtype: str, kind: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Groups of one input each, so that every one is run. kind: "near_ties" or its like."""
    if dtype != "fp32" or any(arg.name == "scales" for arg in op.inputs):
        return
    sizes = {"K": LENGTH, "G": LENGTH, "Q": 3}
    dims = {symbol: sizes.get(symbol, 40) for symbol in op.dims}
    for power in POWERS:
        made = op.build(recipe(kind, seed=5, dtype=dtype, **dims))
        name = op.inputs[0].name
        yield iter([{**made, name: made[name] * np.float32(2.0**power)}])
