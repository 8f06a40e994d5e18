"""Directed rounding as CUDA C++ asks for it, through NVRTC; the opcodes are in opcode_round.py."""

from __future__ import annotations

import numpy as np

SOURCE = """
extern "C" __global__ void k(const float* x, const int* n, float* y, float* z, float* w) {
    int i = threadIdx.x;
    y[i] = roundf(x[i]);
    z[i] = __int2float_rz(n[i]);
    w[i] = __fsub_rd(x[i], x[i]);
}
"""


def test_roundf_and_the_rounding_intrinsics(cuda):
    """roundf is an add.rz.f32 of a half: 0.49999997 must not become 1."""
    x = np.array([0.5, -0.5, 1.5, 2.5, 0.49999997, -0.49999997, 8388609.0, 3e38], np.float32)
    n = np.array([0, 1, -1, 16777217, -16777217, 2**31 - 1, -(2**31), 33554435], np.int32)
    y, z, w = (np.empty(8, np.float32) for _ in range(3))
    kernel = cuda(SOURCE)
    kernel.launch(1, 8, [x, n, y, z, w])
    assert "add.rz.f32" in kernel.module.text
    np.testing.assert_array_equal(y, np.float32([1, -1, 2, 3, 0, -0.0, 8388609, 3e38]))
    np.testing.assert_array_equal(np.signbit(y), np.signbit(x))
    towards_zero = [0, 1, -1, 16777216, -16777216, 2147483520, -2147483648, 33554432]
    np.testing.assert_array_equal(z, np.float32(towards_zero))
    assert np.signbit(w).all()
