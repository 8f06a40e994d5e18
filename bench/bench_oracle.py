"""The oracle's integer GEMM beside NumPy's float32 GEMM of the same shape (host CPU).

Run with `make bench`. The float32 operands are converted beforehand, outside the time; the
oracle's time holds its own conversion. Results are checked on the buffers that were timed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.paired import paired
from reference.numerics import int_gemm

SHAPES = [(1024, 1024, 1024), (1, 28672, 8192), (16, 4096, 4096), (256, 4096, 4096)]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def bench_int_gemm(benchmark: Any, shape: tuple[int, int, int]) -> None:
    M, N, K = shape
    rng = np.random.default_rng(0)
    a = rng.integers(-128, 128, (M, K), dtype=np.int8)
    b = rng.integers(-128, 128, (N, K), dtype=np.int8)
    wide_a, wide_b = a.astype(np.float32), b.astype(np.float32)
    ratio = paired(lambda: int_gemm(a, b), lambda: wide_a @ wide_b.T)
    benchmark.extra_info["ratio to float32 GEMM"] = ratio.ratio
    out = benchmark.pedantic(int_gemm, args=(a, b), rounds=5)
    sample = rng.integers(0, N, 16)
    assert np.array_equal(out[:, sample], a.astype(np.int64) @ b[sample].T.astype(np.int64))
    print(f"\nint_gemm {M}x{N}x{K} on this CPU, against float32 GEMM: {ratio}")
