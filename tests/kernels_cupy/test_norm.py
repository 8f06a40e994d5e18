"""The norm kernels' geometry, access widths and traffic, in both wings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import kernels_numba
from emulator.recording import recording
from kernels_cupy import int8_norm
from kernels_cupy.geometry import ceil_div, row_geometry
from reference import get_op, recipe
from reference.op import as_tuple, kernels
from reference.reductions import CHUNK, KEPT, MAX_LANES, lanes

OPS = tuple(f"int8.{name}" for name in int8_norm.KERNELS)
assert kernels_numba.int8_norm  # registers its kernels


def build(op: str, dtype: str, M: int, K: int) -> dict[str, Any]:
    return get_op(op).build(recipe("normal", dtype=dtype, M=M, K=K, seed=1))


def traced(op: str, wing: str, inputs: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
    """Outputs and the only launch."""
    (kernel,) = kernels(op, wing)
    with recording(trace=True) as session:
        made = kernel.function(*(inputs[arg.name] for arg in get_op(op).inputs))
    (launch,) = session.launches
    return as_tuple(made), launch


def test_a_row_has_the_lanes_of_its_sums() -> None:
    for K in (*range(1, 3000), 4096, 8192, 31744, 31745, 32768, 32769, 200000):
        _, (threads, _) = row_geometry(1, ceil_div(K, CHUNK))
        assert threads == lanes(K)
        assert KEPT * CHUNK * threads >= K or threads == MAX_LANES


@pytest.mark.parametrize(
    ("K", "shift", "width"),
    [(40, 0, 8), (44, 0, 4), (42, 0, 1), (41, 0, 1), (40, 1, 1), (40, 4, 4), (40, 8, 8)],
)
def test_widths_follow_rows_and_addresses(K: int, shift: int, width: int) -> None:
    x = np.zeros(2 * K + shift + 64, np.float16)
    start = -x.ctypes.data % 64 // 2 + shift  # from a 64-byte boundary
    rows = x[start : start + 2 * K].reshape(2, K)
    with recording() as session:
        int8_norm.rms_norm_quantize(rows, np.ones(K, np.float16), 1e-5)
    assert ("VECTOR", width) in session.launches[0].constants


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("wing", ["cupy", "numba"])
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_each_byte_moves_once_in_whole_sectors(op: str, wing: str, dtype: str) -> None:
    """But weight and bias, which each row reads; and a given scale, which each warp reads."""
    M, K = 3, 4096
    inputs = build(op, dtype, M, K)
    outputs, launch = traced(op, wing, inputs)
    shared = sum(inputs[name].nbytes for name in ("weight", "bias") if name in inputs)
    rows = sum(inputs[name].nbytes for name in ("x", "residual") if name in inputs)
    given = 4 * M * lanes(K) // 32 if "scales" in inputs else 0
    assert launch.stats.global_load_bytes == rows + M * shared + given
    assert launch.stats.global_store_bytes == sum(one.nbytes for one in outputs)
    assert launch.stats.global_sectors == launch.stats.ideal_sectors
    assert launch.stats.shared_wavefronts == launch.stats.shared_ideal_wavefronts
