"""Loads of shared memory that nobody wrote: right if the value is thrown away, else a finding.

The CUDA kernels are shaped like CUB's BlockReduce; the PTX kernels go through each gate. In those
`%v` is loaded from offset 4 * tid of `s`, of which only the first 20 words are written, and `%p` is
`tid < n`.
"""

from __future__ import annotations

import numpy as np
import pytest

import emulator
from emulator import EmulatorError, Fault, ptx
from emulator.lower import Driver
from emulator.program import flatten
from tests.emulator.conftest import compile_cuda
from tests.emulator.planted import Bug, expect

REDUCE = """
    extern "C" __global__ void k(const float* x, float* y, int unused) {
      __shared__ float s[32];
      float a = x[threadIdx.x];
      for (int o = 16; o; o /= 2) { float b = __shfl_xor_sync(~0u, a, o); a = a > b ? a : b; }
      if (threadIdx.x % 32 == 0) s[threadIdx.x / 32] = a;
      __syncthreads();
      if (threadIdx.x == 0) {
        #pragma unroll
        for (int w = 1; w < 32; w++) {
          float b = s[w];  // BUG
          a = (32 * w < blockDim.x + unused) ? (a > b ? a : b) : a;
        }
        y[0] = a;
      }
    }"""
MIX = """
    extern "C" __global__ void k(int* y, int n) {
      __shared__ int s[32];
      int i = threadIdx.x;
      if (i < 20) s[i] = 3 * i;
      __syncthreads();
      int v, a = __cvta_generic_to_shared(s + i);
      asm volatile("ld.shared.s32 %0, [%1];" : "=r"(v) : "r"(a) : "memory");  // BUG
      v = max(v + 1, 7) * 2;
      asm volatile("" : "+r"(v));  // not moved into a branch
      y[i] = i < n ? v : -i;
    }"""
HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n"


def deferred(text: str, name: str = "k") -> list[str]:
    """The loads of a kernel that may read what nobody wrote."""
    module = ptx.parse(text)
    program = flatten(module, module.entries[name])
    driver = Driver(module, program, checks=True, trace=False, approximate=frozenset())
    return [program.instructions[site].text for site in sorted(driver.taints.sites)]


@pytest.mark.parametrize("warps", [1, 2, 5, 32])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_reduction_over_warps_that_are_not_there(cuda, warps, seed):
    assert len(deferred(compile_cuda(REDUCE))) == 31
    x, y = np.random.default_rng(3).standard_normal(32 * warps, np.float32), np.zeros(1, np.float32)
    cuda(REDUCE).launch(1, 32 * warps, (x, y, np.int32(0)), seed=seed)
    assert y[0] == x.max()


def test_one_warp_too_many_is_found_at_its_load(cuda):
    x = np.ones(64, np.float32)
    message = "load of 4 bytes at offset 8 of shared memory, which nobody has written"
    bug = Bug(REDUCE, Fault.UNINITIALISED, message, threads=64, args=(x, x.copy(), np.int32(32)))
    assert "ld.shared" in expect(cuda, bug).ptx_text


def test_arithmetic_before_the_choice(cuda):
    assert len(deferred(compile_cuda(MIX))) == 1
    y, i = np.zeros(32, np.int32), np.arange(32)
    cuda(MIX).launch(1, 32, (y, np.int32(20)))
    np.testing.assert_array_equal(y, np.where(i < 20, np.maximum(3 * i + 1, 7) * 2, -i))
    args = (y, np.int32(23))
    error = expect(cuda, Bug(MIX, Fault.UNINITIALISED, "offset 80", thread=20, args=args))
    assert error.count == 3


def test_without_a_choice_the_load_itself_stops(cuda):
    source = MIX.replace("i < n ?", "true ?")
    assert not deferred(compile_cuda(source))
    args = (np.zeros(32, np.int32), np.int32(20))
    expect(cuda, Bug(source, Fault.UNINITIALISED, "offset 80", thread=20, args=args))


def test_other_findings_stay_at_the_load(cuda):
    args = (np.zeros(64, np.int32), np.int32(20))
    bounds = Bug(MIX, Fault.OUT_OF_BOUNDS, "offset 128", thread=32, threads=64, args=args)
    expect(cuda, bounds)
    source = MIX.replace("__syncthreads();", "").replace("(s + i)", "(s + max(i - 1, 0))")
    assert len(deferred(compile_cuda(source))) == 1
    expect(cuda, Bug(source, Fault.RACE, "race: load", thread=1, args=args))


def kernel(body: str) -> str:
    return (
        HEAD
        + """.visible .entry k(.param .u64 out, .param .u32 n)
{
  .reg .b32 %t, %n, %v, %w, %a, %d, %zero; .reg .b64 %o, %z; .reg .pred %p, %q, %r, %w20;
  .shared .align 4 .b8 s[128];
  ld.param.u64 %o, [out];
  ld.param.u32 %n, [n];
  mov.u32 %t, %tid.x;
  mov.u32 %zero, 0;
  mul.wide.u32 %z, %t, 4;
  add.u64 %o, %o, %z;
  shl.b32 %a, %t, 2;
  mov.u32 %d, s;
  add.u32 %a, %a, %d;
  setp.lt.u32 %w20, %t, 20;
  @%w20 st.shared.u32 [%a], %t;
  setp.lt.u32 %p, %t, %n;
  mov.u32 %d, 5;
  mov.u32 %w, 6;
  ld.shared.u32 %v, [%a];
"""
        + body
        + "\n  st.global.u32 [%o], %d;\n  ret;\n}\n"
    )


def run(text: str, n: int) -> EmulatorError | None:
    try:
        emulator.compile(text).kernel("k").launch(1, 32, (np.zeros(32, np.uint32), np.uint32(n)))
    except EmulatorError as error:
        return error
    return None


# Every body is right for n = 20 and uses an unwritten word for n = 21.
GATES = {
    "selp": "selp.b32 %d, %v, %zero, %p;",
    "selp, the other way": "setp.ge.u32 %q, %t, %n; selp.b32 %d, %zero, %v, %q;",
    "selp with a negated choice": "setp.ge.u32 %q, %t, %n; selp.b32 %d, %v, %zero, !%q;",
    "two in a row": "selp.b32 %w, %v, %zero, %p; add.u32 %w, %w, 1; selp.b32 %d, %w, %w, %p;",
    "and.pred": "setp.gt.u32 %q, %v, 3; and.pred %r, %p, %q; selp.b32 %d, 1, 2, %r;",
    "and.pred, swapped": "setp.gt.u32 %q, %v, 3; and.pred %r, %q, %p; @%r mov.u32 %d, 9;",
    "or.pred": "setp.gt.u32 %q, %v, 3; not.pred %p, %p; or.pred %r, %p, %q; @%r mov.u32 %d, 9;",
    "setp.and": "setp.gt.and.u32 %q, %v, 3, %p; selp.b32 %d, 1, 2, %q;",
    "setp.or": "not.pred %p, %p; setp.gt.or.u32 %q, %v, 3, %p; selp.b32 %d, 1, 2, %q;",
    "a branch": "setp.gt.u32 %q, %v, 3; and.pred %r, %p, %q; @%r bra L; mov.u32 %d, 9; L:",
    "a store": "selp.b32 %v, %v, %zero, %p; st.global.u32 [%o], %v;",
    "a shuffle": "selp.b32 %v, %v, 0, %p; shfl.sync.idx.b32 %d, %v, 0, 31, -1;",
    "a value that outlives a barrier": "selp.b32 %w, %v, 0, %p; bar.sync 0; mov.u32 %d, %w;",
    "a value that outlives the block": "selp.b32 %d, %v, 0, %p; @%p bra L; add.u32 %t, %t, 1; L:",
    "overwritten where it is": "selp.b32 %w, %v, 0, %p; @%w20 mov.u32 %w, 3; mov.u32 %d, %w;",
}


@pytest.mark.parametrize("name", GATES)
def test_gate(name):
    text = kernel(GATES[name])
    assert deferred(text) == ["ld.shared.u32 %v, [%a]"]
    assert run(text, 20) is None
    error = run(text, 21)
    assert error is not None
    assert error.kind == Fault.UNINITIALISED
    assert error.ptx_text == "ld.shared.u32 %v, [%a]"
    assert "load of 4 bytes at offset 80 of shared memory" in error.message
    assert error.thread == (20, 0, 0)


# A choice, and a use that no choice stands before: as ever, a finding whatever n is.
USED = {
    "a store": "st.global.u32 [%o], %v; selp.b32 %d, %v, 0, %p;",
    "an address": "add.u32 %v, %v, %v; @!%p ld.shared.u32 %d, [%v]; selp.b32 %d, %v, 0, %p;",
    "the choice itself": "setp.gt.u32 %q, %v, 3; selp.b32 %d, 1, 2, %q;",
    "both sides": "add.u32 %w, %v, 1; selp.b32 %d, %v, %w, %p;",
    "two tainted predicates": "setp.gt.u32 %q, %v, 3; setp.lt.u32 %r, %v, 9; and.pred %q, %q, %r; "
    "@%q mov.u32 %d, 1; selp.b32 %w, %v, 0, %p;",
    "a predicate": "setp.gt.u32 %q, %v, 3; @%q mov.u32 %d, 1; selp.b32 %w, %v, 0, %p;",
    "behind a barrier": "bar.sync 0; selp.b32 %d, %v, 0, %p;",
    "in another block": "@%p bra L; mov.u32 %v, 0; L: selp.b32 %d, %v, 0, %p;",
    "nowhere": "",
}


@pytest.mark.parametrize("name", USED)
def test_use_without_a_choice(name):
    text = kernel(USED[name])
    assert not deferred(text)
    error = run(text, 20)
    assert error is not None
    assert error.kind == Fault.UNINITIALISED
    assert error.thread == (20, 0, 0)


def test_other_loads_fault_at_once():
    for load in ("@%p ld.shared.u32 %v, [%a]", "ld.volatile.shared.u32 %v, [%a]"):
        text = kernel("selp.b32 %d, %v, 0, %p;").replace("ld.shared.u32 %v, [%a]", load)
        assert not deferred(text)
    assert run(text, 20).kind == Fault.UNINITIALISED


def test_sixteen_bytes_and_single_bytes():
    wide = kernel(
        "and.b32 %t, %a, -16; bar.sync 0; ld.shared.v4.u32 {%v, %w, %n, %a}, [%t];"
        "selp.b32 %d, %n, %zero, %p;"
    ).replace("  ld.shared.u32 %v, [%a];\n", "")
    assert run(wide, 20) is None
    assert "load of 16 bytes at offset 80" in run(wide, 21).message
    byte = kernel("selp.b32 %d, %v, %zero, %p;").replace("ld.shared.u32 %v", "ld.shared.s8 %v")
    assert run(byte, 20) is None
    assert "load of 1 byte at offset 80" in run(byte, 21).message


def test_the_check_can_be_turned_off():
    text = kernel(GATES["selp"])
    out = np.zeros(32, np.uint32)
    emulator.compile(text).kernel("k").launch(1, 32, (out, np.uint32(21)), checks=False)
    assert out[19] == 19
