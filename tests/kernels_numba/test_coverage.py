"""Every basic block of every kernel of this wing runs, and gives the oracle's bytes.

The shapes are those that reach all blocks of all specialisations: rows that end inside a vector, a
warp and a block; whole and partial tiles; operands that allow 16-byte accesses and ones that do
not; with bias and without.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import emulator
import kernels_numba  # noqa: F401  (registers the kernels)
from emulator.recording import Launch
from kernels_numba import launch
from reference.op import Kernel, Op, as_tuple, get_op, kernels, recipe

ROWS = ((3, 5000), (2, 4096), (1, 1), (40, 7))
TILES = ((65, 66, 80), (65, 66, 67), (3, 5, 16), (1, 1, 1))
PAIRS = [(kernel, dialect) for kernel in kernels(wing="numba") for dialect in kernel.dialects]


def calls(op: Op, dialect: str) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """(inputs, options): every dtype, output dtype and shape; seeds 1 and 3 differ in bias."""
    shapes = TILES if "N" in op.dims and "M" in op.dims else ROWS
    for dtype in op.dtypes:
        for out_dtype in op.options.get("out_dtype", ("",)):
            for shape in shapes if op.allows(dtype, dialect) else ():
                for seed in (1, 3):
                    sizes = dict(zip(op.dims, shape, strict=False))
                    made = recipe("normal", seed=seed, dtype=dtype, **sizes)
                    output = {"out_dtype": out_dtype} if out_dtype else {}
                    yield op.build(made), {"dialect": dialect, **output}


def missed_blocks(launches: list[Launch]) -> dict[str, tuple[int, ...]]:
    """Module -> PTX lines of blocks that never ran, of every kernel that these launches used."""
    used = {launch.module_label(one.kernel, one.constants) for one in launches}
    seen = {name: found for (name, _), found in emulator.coverage().items()}
    of_launches = {name: seen[name] for name in seen if name.rpartition(" ")[0] in used}
    assert len(of_launches) >= len(used)
    return {name: found.missed for name, found in of_launches.items() if found.missed}


@pytest.mark.parametrize(
    ("kernel", "dialect"), PAIRS, ids=[f"{one.op}-{one.label}-{name}" for one, name in PAIRS]
)
def test_results_and_blocks(kernel: Kernel, dialect: str) -> None:
    op = get_op(kernel.op)
    with launch.recording() as session:
        for inputs, options in calls(op, dialect):
            got = as_tuple(kernel.function(*(inputs[arg.name] for arg in op.inputs), **options))
            for one, expected in zip(got, op.expected(inputs, **options), strict=True):
                assert (one.dtype, one.tobytes()) == (expected.dtype, expected.tobytes())
    assert missed_blocks(session.launches) == {}
