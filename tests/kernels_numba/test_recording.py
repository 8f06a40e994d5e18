"""What a launch leaves behind, in both wings: recorded statistics and NVTX ranges."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from emulator import recording as module
from emulator.recording import describe, emulator_options, nvtx_range, recording
from kernels_numba.int8_linear import linear_unfused
from kernels_numba.int8_quantize import quantize_per_token

X = np.ones((3, 64), np.float32)


def test_a_recording_holds_every_launch_in_order() -> None:
    w, scales = np.ones((2, 64), np.int8), np.ones(2, np.float32)
    with recording() as session:
        linear_unfused(X, w, scales)
    names = ["quantize_groups", "gemm_pipeline", "dequantize_sums"]
    assert [launch.kernel for launch in session.launches] == names
    assert {launch.wing for launch in session.launches} == {"numba"}
    assert session.launches[0].block == (8, 16, 1)  # 16 accesses of a row, for 16 rows
    assert session.launches[1].grid == (1, 1, 1)
    assert session.instructions == sum(one.stats.instructions for one in session.launches) > 0


def test_recordings_nest_and_inherit() -> None:
    assert emulator_options() == {}
    with recording(seed=5, trace=True) as outer:
        with recording(seed=9, checks=False) as inner:
            assert emulator_options() == {"seed": 9, "trace": True, "checks": False}
            quantize_per_token(X)
        assert emulator_options() == {"seed": 5, "trace": True, "checks": True}
        quantize_per_token(X)
    assert (len(inner.launches), len(outer.launches)) == (1, 2)
    assert outer.launches[0].stats.global_sectors > 0
    assert emulator_options() == {}


def test_a_recording_ends_with_an_error() -> None:
    with pytest.raises(TypeError, match="x: got list"), recording():
        quantize_per_token([1.0])
    assert emulator_options() == {}


class Domain:
    """An NVTX domain that a tool listens to."""

    def __init__(self) -> None:
        self.ranges: list[tuple[str, str, int]] = []
        self.depth = 0

    def push_range(self, message: str, category: str, payload: int) -> None:
        self.ranges.append((message, category, payload))
        self.depth += 1

    def pop_range(self) -> None:
        self.depth -= 1


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Domain:
    listening = Domain()
    monkeypatch.setattr(module, "_domain", lambda: listening)
    return listening


def test_every_public_function_runs_in_its_range(domain: Domain) -> None:
    w, scales = np.ones((2, 64), np.int8), np.ones(2, np.float32)
    linear_unfused(X, w, scales, dialect="vllm", out_dtype="fp16")
    assert domain.ranges == [
        ("int8.linear numba/unfused", "M=3 K=64 N=2 fp32", 3 * 64 * 4 + 2 * 64 + 8 + 3 * 2 * 2),
        ("int8.quantize_per_token numba", "M=3 K=64 fp32", 3 * 64 * 5 + 12),
        ("int8.gemm numba/pipeline", "M=3 K=64 N=2 s8", 5 * 64 + 3 * 2 * 4),
        ("int8.epilogue numba", "M=3 N=2 s32", 24 + 12 + 8 + 3 * 2 * 2),
    ]
    assert domain.depth == 0


def test_a_range_closes_when_the_function_fails(domain: Domain) -> None:
    with pytest.raises(TypeError, match="x: got dtype int8"):
        quantize_per_token(np.ones((2, 2), np.int8))
    assert (domain.ranges, domain.depth) == ([("int8.quantize_per_token numba", "", 0)], 0)


def test_without_a_tool_the_range_is_only_a_look_up() -> None:
    with nvtx_range("int8.gemm", "numba/tiled", {}):
        pass


@pytest.mark.parametrize(
    ("arguments", "sizes", "nbytes"),
    [
        ({"x": X.astype(ml_dtypes.bfloat16)}, "M=3 K=64 bf16", 3 * 64 * 3 + 12),
        ({"x": X[0]}, "", 0),
        ({"x": X.astype(np.float64)}, "", 0),
        ({"x": "text"}, "", 0),
        ({}, "", 0),
    ],
)
def test_describe_reads_the_declaration(arguments: dict[str, Any], sizes: str, nbytes: int) -> None:
    assert describe("int8.quantize_per_token", arguments) == (sizes, nbytes)
