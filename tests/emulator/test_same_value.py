"""Lanes of a warp that store the same value at one place are no race; everything near it is.

Contract under test: emulator/prelude_same.py. Triton's reductions rely on it.
"""

from __future__ import annotations

import numpy as np
import pytest

from emulator import EmulatorError, Fault

SOURCE = """
extern "C" __global__ void k(int* out) {
  __shared__ __align__(16) TYPE s[64];
  int lane = threadIdx.x % 32;
  BODY
  __syncthreads();
  out[threadIdx.x] = (int)s[lane / 8];
}
"""
WIDE = """
extern "C" __global__ void k(int* out) {
  __shared__ __align__(16) int4 s[4];
  int lane = threadIdx.x % 32;
  s[lane / 8] = make_int4(lane / 8, 1, 2, LAST);
  __syncthreads();
  out[threadIdx.x] = s[lane / 8].x;
}
"""


def run(cuda, source: str, threads: int = 32) -> np.ndarray:
    out = np.zeros(threads, np.int32)
    cuda(source).launch(1, threads, [out])
    return out


@pytest.mark.parametrize("kind", ["unsigned char", "short", "int", "long long"])
def test_the_same_value_from_lanes_of_a_warp(cuda, kind: str) -> None:
    source = SOURCE.replace("TYPE", kind).replace("BODY", "s[lane / 8] = (TYPE)(lane / 8 + 3);")
    out = run(cuda, source.replace("TYPE", kind))
    np.testing.assert_array_equal(out, np.arange(32) // 8 + 3)


def test_the_same_vector_from_lanes_of_a_warp(cuda) -> None:
    np.testing.assert_array_equal(run(cuda, WIDE.replace("LAST", "9")), np.arange(32) // 8)


@pytest.mark.parametrize(
    ("body", "threads"),
    [
        ("s[lane / 8] = lane;", 32),  # different values
        ("s[lane / 8] = 5;", 64),  # of different warps
    ],
)
def test_what_stays_a_race(cuda, body: str, threads: int) -> None:
    with pytest.raises(EmulatorError) as caught:
        run(cuda, SOURCE.replace("TYPE", "int").replace("BODY", body), threads)
    assert caught.value.kind == Fault.RACE


def test_one_other_word_of_a_vector_stays_a_race(cuda) -> None:
    with pytest.raises(EmulatorError) as caught:
        run(cuda, WIDE.replace("LAST", "lane"))
    assert caught.value.kind == Fault.RACE
