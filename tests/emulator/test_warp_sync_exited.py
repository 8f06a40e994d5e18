"""bar.warp.sync does not wait for lanes that have exited; its mask may name them.

Contract under test: CUDA C++ Programming Guide, "Synchronization Functions": all non-exited threads
named in the mask must execute the same __syncwarp. numba.cuda.reduce relies on it.
"""

from __future__ import annotations

import numpy as np
import pytest

from emulator import EmulatorError, Fault

SOURCE = """
extern "C" __global__ void k(int* out) {
  __shared__ int s[32];
  s[threadIdx.x] = threadIdx.x;
  __syncwarp();
  if (threadIdx.x >= 2) return;
  s[threadIdx.x] += s[threadIdx.x + 2];
  SYNC
  if (threadIdx.x == 0) out[0] = s[0] + s[1];
}
"""


def test_the_others_have_left(cuda) -> None:
    out = np.zeros(1, np.int32)
    for seed in (0, 1, 2):
        source = SOURCE.replace("SYNC", "__syncwarp();")
        cuda(source).launch(1, 32, [out], seed=seed)
        assert out[0] == 0 + 2 + 1 + 3


def test_it_still_orders_those_that_stay(cuda) -> None:
    with pytest.raises(EmulatorError) as caught:
        cuda(SOURCE.replace("SYNC", "")).launch(1, 32, [np.zeros(1, np.int32)])
    assert caught.value.kind == Fault.RACE


def test_a_lane_that_waits_elsewhere_is_waited_for(cuda) -> None:
    source = """
    extern "C" __global__ void k(int* out) {
      if (threadIdx.x == 3) __syncthreads(); else __syncwarp();
      out[threadIdx.x] = 1;
    }"""
    with pytest.raises(EmulatorError) as caught:
        cuda(source).launch(1, 64, [np.zeros(64, np.int32)])
    assert caught.value.kind == Fault.DEADLOCK
