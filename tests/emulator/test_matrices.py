"""stmatrix against NumPy, and forms that change nothing: cache policies and their hints."""

from __future__ import annotations

import numpy as np
import pytest

import emulator

STMATRIX = """
extern "C" __global__ void k(const int* rows, const unsigned* values, unsigned short* out) {
  __shared__ alignas(16) unsigned short s[32 * 8];
  for (int i = threadIdx.x; i < 32 * 8; i += 32) s[i] = 7;
  __syncwarp();
  unsigned where = __cvta_generic_to_shared(s + rows[threadIdx.x] * 8), r[4];
  for (int i = 0; i < 4; i++) r[i] = values[i * 32 + threadIdx.x];
  asm volatile("stmatrix.sync.aligned.m8n8.FORM.shared.b16 [%0], {LIST};"
               :: "r"(where), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
  SYNC
  for (int i = 0; i < 8; i++) out[threadIdx.x * 8 + i] = s[threadIdx.x * 8 + i];
}
"""


def stmatrix(cuda, count: int, trans: bool = False, sync: str = "__syncwarp();"):
    form = f"x{count}" + (".trans" if trans else "")
    registers = ", ".join(f"%{i + 1}" for i in range(count))
    text = STMATRIX.replace("FORM", form).replace("LIST", registers).replace("SYNC", sync)
    kernel = cuda(text, arch="compute_90")
    random = np.random.default_rng(count)
    rows = random.permutation(32).astype(np.int32)
    values = random.integers(0, 2**32, (4, 32)).astype(np.uint32)
    out = np.zeros((32, 8), np.uint16)
    return kernel, rows, values, out


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("trans", [False, True])
def test_stmatrix(cuda, count: int, trans: bool) -> None:
    kernel, rows, values, out = stmatrix(cuda, count, trans)
    # Lane 4*i + j holds elements 2j and 2j+1 of row i.
    tiles = np.ascontiguousarray(values[:count]).view(np.uint16).reshape(count, 8, 8)
    tiles = tiles.transpose(0, 2, 1) if trans else tiles
    expected = np.full((32, 8), 7, np.uint16)
    expected[rows[: 8 * count]] = tiles.reshape(-1, 8)
    rows[8 * count :] = 1 << 20  # the other lanes' addresses are ignored
    kernel.launch(1, 32, (rows, values, out))
    np.testing.assert_array_equal(out, expected)
    rows[8 * count - 1] = 32
    with pytest.raises(emulator.EmulatorError, match="store of 16 bytes at offset 512 of shared"):
        kernel.launch(1, 32, (rows, values, out))


def test_reading_a_stored_matrix_without_a_barrier_is_a_race(cuda) -> None:
    kernel, rows, values, out = stmatrix(cuda, 4, sync="")
    with pytest.raises(emulator.EmulatorError) as caught:
        kernel.launch(1, 32, (rows, values, out))
    assert caught.value.kind == emulator.Fault.RACE


def test_cache_policies_change_nothing() -> None:
    ptx = """
    .version 8.8
    .target sm_80
    .address_size 64
    .visible .entry k(.param .u64 out, .param .u64 in) {
    .reg .b64 w<6>; .reg .b32 r<4>;
    ld.param.u64 w0, [out]; ld.param.u64 w1, [in];
    createpolicy.fractional.L2::evict_first.b64 w2, 1.0;
    createpolicy.fractional.L2::evict_last.b64 w3;
    ld.global.L1::evict_last.L2::cache_hint.v2.b32 {r0, r1}, [w1], w2;
    atom.global.add.L2::cache_hint.u32 r2, [w0], r1, w3;
    st.global.L2::cache_hint.u32 [w0 + 4], r0, w3;
    ret;
    }
    """
    out = np.array([5, 0], np.uint32)
    emulator.compile(ptx).kernel("k").launch(1, 1, [out, np.array([3, 4], np.uint32)])
    np.testing.assert_array_equal(out, [9, 3])
