"""Warp collectives and barriers against NumPy models written from the CUDA programming guide."""

from __future__ import annotations

import numpy as np
import pytest

import emulator

FULL = 0xFFFFFFFF
LANES = np.arange(32)

SHUFFLE = """
extern "C" __global__ void k(int mode, unsigned mask, int width, const int* v, const int* d,
                             int* out) {
  int lane = threadIdx.x;
  if (!(mask >> lane & 1)) return;
  int x = v[lane], y = d[lane], r;
  if (mode == 0) r = __shfl_up_sync(mask, x, y, width);
  if (mode == 1) r = __shfl_down_sync(mask, x, y, width);
  if (mode == 2) r = __shfl_xor_sync(mask, x, y, width);
  if (mode == 3) r = __shfl_sync(mask, x, y, width);
  out[lane] = r;
}
"""
UP, DOWN, XOR, INDEX = range(4)


def shuffle_source(mode: int, width: int, delta: np.ndarray) -> np.ndarray:
    """Which lane each lane reads (CUDA programming guide, "Warp Shuffle Functions")."""
    place = LANES % width
    first = LANES - place
    if mode == UP:
        return np.where(place >= delta, LANES - delta, LANES)
    if mode == DOWN:
        return np.where(place + delta < width, LANES + delta, LANES)
    if mode == XOR:  # earlier groups may be read, later ones give the own value
        target = LANES ^ delta
        return np.where(target // width <= LANES // width, target, LANES)
    return first + delta % width


@pytest.mark.parametrize("width", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("mode", [UP, DOWN, XOR, INDEX], ids=["up", "down", "xor", "index"])
def test_shuffle_reads_the_lane_that_the_guide_names(cuda, mode, width):
    kernel = cuda(SHUFFLE)
    rng = np.random.default_rng(mode * 100 + width)
    values = rng.integers(-(2**31), 2**31, 32).astype(np.int32)
    uniform = [np.full(32, n) for n in range(32)]
    for delta in (*uniform, *(rng.integers(0, 32, 32) for _ in range(8))):
        out = emulator.empty(32, np.int32)
        args = (np.int32(mode), np.uint32(FULL), np.int32(width), values, delta.astype(np.int32))
        kernel.launch(1, 32, (*args, out), seed=int(delta[0]))
        np.testing.assert_array_equal(out, values[shuffle_source(mode, width, delta)])


def test_shuffle_among_the_lanes_of_a_mask(cuda):
    values = np.arange(32, dtype=np.int32) * 3
    delta = np.full(32, 1, np.int32)
    out = np.full(32, -1, np.int32)
    args = (np.int32(XOR), np.uint32(0x0000FF00), np.int32(32), values, delta, out)
    cuda(SHUFFLE).launch(1, 32, args)
    expected = np.where((LANES >= 8) & (LANES < 16), (LANES ^ 1) * 3, -1)
    np.testing.assert_array_equal(out, expected)


def test_members_may_meet_at_different_instructions(cuda):
    source = """
    extern "C" __global__ void k(int* out) {
      int lane = threadIdx.x, r;
      if (lane < 16) asm volatile("shfl.sync.bfly.b32 %0, %1, 16, 31, -1;" : "=r"(r) : "r"(lane));
      else asm volatile("shfl.sync.bfly.b32 %0, %1, 16, 31, -1;" : "=r"(r) : "r"(lane * 100));
      out[lane] = r;
    }
    """
    out = emulator.empty(32, np.int32)
    cuda(source).launch(1, 32, (out,), seed=5)
    np.testing.assert_array_equal(out, np.where(LANES < 16, (LANES ^ 16) * 100, LANES ^ 16))


def test_disjoint_groups_of_a_warp_do_not_wait_for_each_other(cuda):
    source = """
    extern "C" __global__ void k(int* out) {
      int lane = threadIdx.x, group = lane / 8, sum = lane;
      unsigned mask = 0xffu << 8 * group;
      for (int n = 0; n < 3 * group; n++)   // groups loop for different times
        sum += __shfl_sync(mask, sum, lane % 8 == 7 ? lane - 7 : lane + 1);
      out[lane] = sum;
    }
    """
    expected = LANES.copy()
    for group in range(4):
        members = slice(8 * group, 8 * group + 8)
        for _ in range(3 * group):
            expected[members] += np.roll(expected[members], -1)
    for seed in range(3):
        out = emulator.empty(32, np.int32)
        cuda(source).launch(1, 32, (out,), seed=seed)
        np.testing.assert_array_equal(out, expected)


SHUFFLE_PREDICATE = """
extern "C" __global__ void k(const int* b, const int* c, int* value, int* inside) {
  int lane = threadIdx.x, v, p;
  asm volatile("{ .reg .pred q; shfl.sync.MODE.b32 %0|q, %2, %3, %4, 0xffffffff;"
               " selp.s32 %1, 1, 0, q; }" : "=r"(v), "=r"(p)
               : "r"(lane), "r"(b[lane]), "r"(c[lane]));
  value[lane] = v; inside[lane] = p;
}
"""


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
def test_shuffle_with_any_clamp_and_segment_mask(cuda, mode):
    """PTX ISA, shfl.sync, pseudocode; b and c differ from lane to lane."""
    rng = np.random.default_rng(7)
    kernel = cuda(SHUFFLE_PREDICATE.replace("MODE", mode))
    for _ in range(50):
        b = rng.integers(0, 2**31, 32).astype(np.int32)
        c = rng.integers(0, 2**13, 32).astype(np.int32)
        value, inside = emulator.empty(32, np.int32), emulator.empty(32, np.int32)
        kernel.launch(1, 32, (b, c, value, inside))
        segment, clamp, amount = c >> 8 & 31, c & 31, b & 31
        highest = (LANES & segment) | (clamp & ~segment)
        source = {
            "up": LANES - amount,
            "down": LANES + amount,
            "bfly": LANES ^ amount,
            "idx": (LANES & segment) | (amount & ~segment),
        }[mode]
        fine = source >= highest if mode == "up" else source <= highest
        np.testing.assert_array_equal(inside, fine)
        np.testing.assert_array_equal(value, np.where(fine, source, LANES))


VOTE = """
extern "C" __global__ void k(unsigned mask, const int* p, unsigned* out) {
  int lane = threadIdx.x, uni;
  if (!(mask >> lane & 1)) return;
  asm volatile("{ .reg .pred a, r; setp.ne.s32 a, %1, 0; vote.sync.uni.pred r, a, %2;"
               " selp.s32 %0, 1, 0, r; }" : "=r"(uni) : "r"(p[lane]), "r"(mask));
  out[lane * 4] = __all_sync(mask, p[lane]);
  out[lane * 4 + 1] = __any_sync(mask, p[lane]);
  out[lane * 4 + 2] = uni;
  out[lane * 4 + 3] = __ballot_sync(mask, p[lane]);
}
"""


@pytest.mark.parametrize("mask", [FULL, 0x1, 0x80000000, 0x0F0F00F0])
def test_votes(cuda, mask):
    kernel = cuda(VOTE)
    members = (mask >> LANES & 1).astype(bool)
    rng = np.random.default_rng(mask)
    cases = [np.zeros(32), np.ones(32), LANES == 31, *(rng.integers(0, 2, 32) for _ in range(6))]
    for case in cases:
        predicate = case.astype(np.int32) * 5
        out = np.full((32, 4), 77, np.uint32)
        kernel.launch(1, 32, (np.uint32(mask), predicate, out))
        held = predicate[members] != 0
        ballot = sum(1 << int(lane) for lane in LANES[members][held])
        expected = [held.all(), held.any(), held.all() or not held.any(), ballot]
        np.testing.assert_array_equal(out[members], np.tile(expected, (members.sum(), 1)))
        assert (out[~members] == 77).all()


REDUX = """
extern "C" __global__ void k(unsigned mask, const unsigned* v, unsigned* out) {
  unsigned lane = threadIdx.x, x = v[lane];
  if (!(mask >> lane & 1)) return;
  unsigned* o = out + lane * 8;
  o[0] = __reduce_add_sync(mask, x); o[1] = __reduce_min_sync(mask, x);
  o[2] = __reduce_max_sync(mask, x); o[3] = __reduce_and_sync(mask, x);
  o[4] = __reduce_or_sync(mask, x);  o[5] = __reduce_xor_sync(mask, x);
  o[6] = __reduce_min_sync(mask, (int)x); o[7] = __reduce_max_sync(mask, (int)x);
}
"""


@pytest.mark.parametrize("mask", [FULL, 0x00010000, 0x55555555])
def test_redux(cuda, mask):
    members = (mask >> LANES & 1).astype(bool)
    values = np.random.default_rng(3).integers(0, 2**32, 32).astype(np.uint32)
    values[members.nonzero()[0][-1]] = 0x80000000
    out = np.zeros((32, 8), np.uint32)
    cuda(REDUX).launch(1, 32, (np.uint32(mask), values, out))
    chosen = values[members]
    expected = [
        np.uint32(int(chosen.astype(np.uint64).sum()) % 2**32),
        chosen.min(),
        chosen.max(),
        np.bitwise_and.reduce(chosen),
        np.bitwise_or.reduce(chosen),
        np.bitwise_xor.reduce(chosen),
        chosen.view(np.int32).min().view(np.uint32),
        chosen.view(np.int32).max().view(np.uint32),
    ]
    np.testing.assert_array_equal(out[members], np.tile(expected, (members.sum(), 1)))


MATCH = """
extern "C" __global__ void k(unsigned mask, const TYPE* v, unsigned* out) {
  int lane = threadIdx.x, same;
  if (!(mask >> lane & 1)) return;
  out[lane * 3] = __match_any_sync(mask, v[lane]);
  out[lane * 3 + 1] = __match_all_sync(mask, v[lane], &same);
  out[lane * 3 + 2] = same;
}
"""


@pytest.mark.parametrize("name", ["unsigned", "unsigned long long"])
@pytest.mark.parametrize("different", [1, 3, 32])
def test_match(cuda, name, different):
    dtype = np.uint32 if name == "unsigned" else np.uint64
    kernel = cuda(MATCH.replace("TYPE", name))
    values = np.random.default_rng(different).integers(0, different, 32).astype(dtype)
    if dtype == np.uint64:
        values = values << np.uint64(32) | np.uint64(9)
    for mask in (FULL, 0x00FF00FF):
        members = (mask >> LANES & 1).astype(bool)
        out = np.zeros((32, 3), np.uint32)
        kernel.launch(1, 32, (np.uint32(mask), values, out))
        for lane in LANES[members]:
            same = sum(1 << int(n) for n in LANES[members & (values == values[lane])])
            everyone = len(set(values[members])) == 1
            assert out[lane].tolist() == [same, mask if everyone else 0, int(everyone)]


def test_activemask_names_the_lanes_that_are_there(cuda):
    source = """
    extern "C" __global__ void k(unsigned* out) {
      if (threadIdx.x % 3 == 0) out[threadIdx.x] = __activemask();
      else { unsigned m = __activemask(); out[threadIdx.x] = __ballot_sync(m, 1); }
    }
    """
    thirds = sum(1 << int(n) for n in LANES[LANES % 3 == 0])
    expected = np.where(LANES % 3 == 0, thirds, FULL & ~thirds)
    for seed in range(4):
        out = emulator.empty(32, np.uint32)
        cuda(source).launch(1, 32, (out,), seed=seed)
        np.testing.assert_array_equal(out, expected)


def test_masks_of_a_partial_warp_may_name_lanes_that_do_not_exist(cuda):
    source = """
    extern "C" __global__ void k(int* out) {
      out[threadIdx.x] = __reduce_add_sync(0xffffffffu, 1);
    }
    """
    out = emulator.empty(48, np.int32)
    cuda(source).launch(1, 48, (out,))
    assert out.tolist() == [32] * 32 + [16] * 16


MMA = """
extern "C" __global__ void k(const signed char* A, const signed char* B, const int* C, int* D) {
  int g = threadIdx.x / 4, q = threadIdx.x % 4;   // A (16, 32), B (8, 32) = B^T, C and D (16, 8)
  const int *a = (const int*)A, *b = (const int*)B;
  int a0 = a[g * 8 + q], a1 = a[(g + 8) * 8 + q];
  int a2 = a[g * 8 + 4 + q], a3 = a[(g + 8) * 8 + 4 + q];
  int b0 = b[g * 8 + q], b1 = b[g * 8 + 4 + q];
  const int *c = C + g * 8 + 2 * q;
  int *d = D + g * 8 + 2 * q;
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7},"
               " {%8,%9}, {%10,%11,%12,%13};"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[64]), "=r"(d[65])
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1),
                 "r"(c[0]), "r"(c[1]), "r"(c[64]), "r"(c[65]));
}
"""


def test_mma_s8_is_exact_and_wraps(cuda):
    kernel = cuda(MMA)
    rng = np.random.default_rng(11)
    for low, high, huge in ((-128, 128, 2**31), (-128, -127, 2**31), (127, 128, 10), (-1, 2, 2)):
        a = rng.integers(low, high, (16, 32)).astype(np.int8)
        b = rng.integers(low, high, (8, 32)).astype(np.int8)
        c = rng.integers(-huge, huge, (16, 8)).astype(np.int32)
        c[0, 0] = 2**31 - 1
        d = emulator.empty((16, 8), np.int32)
        kernel.launch(1, 32, (a, b, c, d))
        exact = c.astype(np.int64) + a.astype(np.int64) @ b.astype(np.int64).T
        np.testing.assert_array_equal(d, exact.astype(np.int32))


LDMATRIX = """
extern "C" __global__ void k(const int* rows, const unsigned short* m, unsigned* out) {
  __shared__ alignas(16) unsigned short s[32 * 8];
  for (int i = threadIdx.x; i < 32 * 8; i += 32) s[i] = m[i];
  __syncwarp();
  unsigned where = __cvta_generic_to_shared(s + rows[threadIdx.x] * 8), r[4] = {0, 0, 0, 0};
  asm volatile("ldmatrix.sync.aligned.m8n8.FORM.shared.b16 {LIST}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(where));
  for (int i = 0; i < COUNT; i++) out[i * 32 + threadIdx.x] = r[i];
}
"""


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("trans", [False, True])
def test_ldmatrix(cuda, count, trans):
    form = f"x{count}" + (".trans" if trans else "")
    registers = ", ".join(f"%{i}" for i in range(count))
    source = LDMATRIX.replace("FORM", form).replace("LIST", registers)
    kernel = cuda(source.replace("COUNT", str(count)))
    rng = np.random.default_rng(count)
    matrix = rng.integers(0, 2**16, (32, 8)).astype(np.uint16)
    rows = rng.permutation(32).astype(np.int32)
    tiles = matrix[rows].reshape(4, 8, 8)[:count]
    rows[8 * count :] = 1 << 20  # the other lanes' addresses are ignored
    out = emulator.empty((count, 32), np.uint32)
    kernel.launch(1, 32, (rows, matrix, out))
    tiles = tiles.transpose(0, 2, 1) if trans else tiles
    # Lane 4*i + j holds elements 2j and 2j+1 of row i.
    expected = np.ascontiguousarray(tiles).view(np.uint32).reshape(count, 32)
    np.testing.assert_array_equal(out, expected)
    rows[8 * count - 1] = 32
    with pytest.raises(emulator.EmulatorError, match="load of 16 bytes at offset 512 of shared"):
        kernel.launch(1, 32, (rows, matrix, out))


def test_block_wide_reductions(cuda):
    source = """
    extern "C" __global__ void k(const int* p, int* out) {
      int x = p[threadIdx.x];
      out[threadIdx.x * 3] = __syncthreads_count(x);
      out[threadIdx.x * 3 + 1] = __syncthreads_and(x) != 0;
      out[threadIdx.x * 3 + 2] = __syncthreads_or(x) != 0;
    }
    """
    rng = np.random.default_rng(5)
    for values in (np.zeros(80), np.ones(80), rng.integers(0, 2, 80)):
        held = values.astype(np.int32) * 4
        out = emulator.empty((80, 3), np.int32)
        cuda(source).launch(1, 80, (held, out), seed=1)
        expected = [(held != 0).sum(), (held != 0).all(), (held != 0).any()]
        np.testing.assert_array_equal(out, np.tile(expected, (80, 1)))


NAMED = """
extern "C" __global__ void k(int* out) {   // warps 0-1 and 2-3 hand a value over, pair by pair
  __shared__ int s[128];
  int pair = threadIdx.x / 64, other = threadIdx.x ^ 32;
  s[threadIdx.x] = threadIdx.x;
  asm volatile("bar.sync %0, 64;" :: "r"(pair + 1) : "memory");
  out[threadIdx.x] = s[other];
}
"""


def test_named_barriers_with_counts(cuda):
    for seed in range(5):
        out = emulator.empty(128, np.int32)
        cuda(NAMED).launch(1, 128, (out,), seed=seed)
        np.testing.assert_array_equal(out, np.arange(128) ^ 32)


def test_a_named_barrier_counts_a_partial_last_warp_as_whole(cuda):
    source = """
    extern "C" __global__ void k(int* out) {
      __shared__ int s[16];
      if (threadIdx.x >= 96) s[threadIdx.x - 96] = threadIdx.x;
      if (threadIdx.x >= 64) asm volatile("bar.sync 3, 64;" ::: "memory");
      out[threadIdx.x] = threadIdx.x >= 64 ? s[threadIdx.x % 16] : 0;
    }
    """
    out = emulator.empty(112, np.int32)
    cuda(source).launch(1, 112, (out,))
    assert out.tolist() == [0] * 64 + list(range(96, 112)) * 3
