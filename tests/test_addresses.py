"""Arrays that begin anywhere: every kernel gives the same bytes, by narrower accesses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantassay.loading import load_wings
from reference.op import Kernel, as_tuple, get_op, kernels, recipe
from tests.displaced import displaced

SIZES = {"M": 48, "N": 48, "K": 48, "Q": 3, "G": 16, "B": 2, "P": 6}

load_wings()
KERNELS = [kernel for wing in ("cupy", "numba") for kernel in kernels(wing=wing)]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k.op}-{k.label}")
@pytest.mark.parametrize("elements", [1, 2, 4])
def test_any_address(kernel: Kernel, elements: int) -> None:
    op = get_op(kernel.op)
    inputs = op.build(recipe(op.kinds[0], seed=1, **{s: SIZES[s] for s in op.dims}))
    moved: dict[str, Any] = {
        k: displaced(v, elements) if isinstance(v, np.ndarray) else v for k, v in inputs.items()
    }
    dialect = kernel.dialects[0]
    expected = op.expected(inputs, dialect=dialect)
    got = as_tuple(kernel.function(*moved.values(), dialect=dialect))
    for one, other in zip(got, expected, strict=True):
        assert np.asarray(one).tobytes() == other.tobytes()
