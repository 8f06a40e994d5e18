"""Memory instructions, control flow and checks, in hand-written PTX.

Contract under test: state spaces and generic addresses, vector accesses, by-value parameters, calls
(with collectives inside), branch tables, guarded collectives, atomics, fuel, and which Fault a bad
access gives. Opcodes that only compute are in test_opcodes.py.
"""

from __future__ import annotations

import ctypes

import ml_dtypes
import numpy as np
import pytest

import emulator
from emulator import Fault

HEAD = ".version 8.8\n.target sm_80\n.address_size 64\n"
REGISTERS = (
    ".reg .pred p<9>; .reg .b16 h<9>; .reg .b32 r<33>; .reg .f32 f<9>; .reg .b64 w<17>;\n"
    "ld.param.u64 w0, [out]; mov.u32 r0, %tid.x; mul.wide.u32 w1, r0, 4; add.u64 w1, w0, w1;\n"
)


def kernel(body: str, *, before: str = "", params: str = "") -> str:
    """A kernel `k(out{, params})`; w0 is out, r0 the thread, w1 the address of out[thread]."""
    declared = ".param .u64 out" + (", " + params if params else "")
    return f"{HEAD}{before}\n.visible .entry k({declared}) {{\n{REGISTERS}{body}\nret;\n}}\n"


def run(text: str, *args: object, threads: int = 32, dtype: str = "uint32", **options: object):  # type: ignore[no-untyped-def]
    """out after one block of `threads`."""
    out = np.zeros(threads, dtype)
    emulator.compile(text).kernel("k").launch(1, threads, [out, *args], **options)  # type: ignore[arg-type]
    return out


def fault(text: str, *args: object, threads: int = 32, **options: object) -> emulator.EmulatorError:
    with pytest.raises(emulator.EmulatorError) as caught:
        run(text, *args, threads=threads, **options)
    return caught.value


THREAD = np.arange(32, dtype=np.uint32)


def test_local_memory_is_private_and_has_generic_addresses() -> None:
    text = kernel(
        ".local .align 16 .b8 depot[32];\n"
        "mov.u64 w2, depot; cvta.local.u64 w3, w2;\n"
        "st.local.u32 [depot+4], r0; mul.lo.u32 r1, r0, 3; st.u32 [w3+8], r1;\n"
        "bar.sync 0;\n"
        "ld.u32 r2, [w3+4]; ld.local.u32 r3, [w2+8]; add.u32 r4, r2, r3; st.global.u32 [w1], r4;"
    )
    np.testing.assert_array_equal(run(text), 4 * THREAD)


def test_vectors_move_in_order() -> None:
    text = kernel(
        "ld.param.u64 w3, [in]; mul.wide.u32 w2, r0, 16; add.u64 w2, w3, w2;\n"
        "ld.global.v4.u32 {r1, r2, r3, r4}, [w2]; sub.u32 r1, r4, r1; st.global.u32 [w1], r1;",
        params=".param .u64 in",
    )
    data = np.arange(128, dtype=np.uint32) ** 2
    want = (data.reshape(32, 4)[:, 3] - data.reshape(32, 4)[:, 0]).astype(np.uint32)
    np.testing.assert_array_equal(run(text, data), want)


def test_narrow_loads_extend_and_stores_truncate() -> None:
    text = kernel(
        "ld.param.u64 w2, [in]; cvt.u64.u32 w3, r0; add.u64 w2, w2, w3;\n"
        "ld.global.s8 r1, [w2]; ld.global.u8 r2, [w2]; mul.lo.u32 r3, r1, r2;\n"
        "st.global.u8 [w2], r3; st.global.u32 [w1], r3;",
        params=".param .u64 in",
    )
    data = np.arange(-16, 16).astype(np.int8)
    before = data.copy()
    got = run(text, data)
    want = (before.astype(np.int64) * before.view(np.uint8)).astype(np.uint32)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(data.view(np.uint8), want.astype(np.uint8))


def test_a_struct_parameter_is_read_by_offset_and_by_address() -> None:
    text = kernel(
        "ld.param.v2.u32 {r1, r2}, [s]; mov.b64 w2, s; and.b32 r3, r0, 3; mul.wide.u32 w3, r3, 4;\n"
        "add.u64 w2, w2, w3; ld.param.u32 r4, [w2]; shl.b32 r1, r1, 16; or.b32 r4, r4, r1;\n"
        "st.global.u32 [w1], r4;",
        params=".param .align 8 .b8 s[16]",
    )
    words = np.array([5, 6, 7, 8], np.uint32)
    np.testing.assert_array_equal(run(text, words.tobytes()), (5 << 16) | words[THREAD & 3])


def test_constants_and_globals() -> None:
    before = ".const .align 4 .u32 table[4] = {10, 20, 30, 40};\n.global .u32 calls;\n"
    text = kernel(
        "and.b32 r1, r0, 3; mul.wide.u32 w2, r1, 4; mov.u64 w3, table; add.u64 w3, w3, w2;\n"
        "ld.const.u32 r2, [w3]; atom.global.add.u32 r3, [calls], 1; st.global.u32 [w1], r2;",
        before=before,
    )
    module = emulator.compile(text)
    out = np.zeros(32, np.uint32)
    for _ in range(2):
        module.kernel("k").launch(1, 32, [out])
    np.testing.assert_array_equal(out, np.array([10, 20, 30, 40])[THREAD & 3])
    assert ctypes.c_uint32.from_address(module.parsed.globals["calls"].address).value == 64


def test_generic_addresses_of_shared_memory() -> None:
    text = kernel(
        ".shared .align 4 .u32 s[32];\n"
        "mov.u64 w2, s; cvta.shared.u64 w3, w2; mul.wide.u32 w4, r0, 4; add.u64 w3, w3, w4;\n"
        "st.u32 [w3], r0; bar.sync 0; xor.b32 r1, r0, 1; mul.wide.u32 w4, r1, 4;\n"
        "add.u64 w2, w2, w4; ld.shared.u32 r2, [w2];\n"
        "cvta.to.shared.u64 w5, w3; cvt.u32.u64 r3, w5; isspacep.shared p1, w3;\n"
        "isspacep.shared p2, w1; selp.u32 r4, 1000, 0, p1; selp.u32 r5, 5000, 0, p2;\n"
        "add.u32 r2, r2, r4; add.u32 r2, r2, r5; mad.lo.u32 r2, r3, 10000, r2;\n"
        "st.global.u32 [w1], r2;"
    )
    np.testing.assert_array_equal(run(text), (THREAD ^ 1) + 1000 + 40000 * THREAD)


def test_dynamic_shared_memory_follows_the_static() -> None:
    text = kernel(
        ".shared .align 4 .b8 static[20];\n"
        "mov.u32 r1, static; mov.u32 r2, dynamic; mov.u32 r3, %dynamic_smem_size;\n"
        "mov.u32 r4, %total_smem_size; mad.lo.u32 r1, r2, 1000, r1;\n"
        "mad.lo.u32 r1, r3, 1000000, r1;\n"
        "st.global.u32 [w1], r1;",
        before=".extern .shared .align 32 .b8 dynamic[];",
    )
    assert run(text, threads=1, shared_bytes=64)[0] == 64 * 1000000 + 32 * 1000


def test_a_function_with_a_shuffle_inside_is_inlined_at_each_call() -> None:
    before = (
        ".func (.param .b32 result) total(.param .b32 value, .param .align 4 .b8 s[8])\n{\n"
        ".reg .b32 r<4>; .reg .pred p; ld.param.b32 r0, [value]; ld.param.b32 r3, [s+4];\n"
        "setp.eq.u32 p, r0, 7; @p bra $done;\n"
        "shfl.sync.bfly.b32 r1, r0, 1, 31, 0xffffff3f; add.u32 r0, r0, r1; add.u32 r0, r0, r3;\n"
        "$done: st.param.b32 [result+0], r0; @p ret; ret;\n}\n"
    )
    call = (
        "{{ .param .b32 a; st.param.b32 [a], {0}; .param .align 4 .b8 b[8];"
        "st.param.b32 [b], 0; st.param.b32 [b+4], 100;\n"
        ".param .b32 c; call.uni (c), total, (a, b); ld.param.b32 {1}, [c]; }}\n"
    )
    text = kernel(
        "mov.u32 r5, r0; setp.eq.u32 p1, r0, 6; @p1 mov.u32 r5, 7;\n"
        + call.format("r5", "r6")
        + "st.global.u32 [w1], r6;",
        before=before,
    )
    got = run(text)
    want = 100 + THREAD + (THREAD ^ 1)
    want[6:8] = 7
    np.testing.assert_array_equal(got, want)


def test_branch_tables() -> None:
    text = kernel(
        "and.b32 r1, r0, 3; min.u32 r1, r1, 2; mov.u32 r2, 0;\n"
        "$table: .branchtargets $a, $b, $c;\n"
        "brx.idx r1, $table;\n"
        "$a: mov.u32 r2, 11; bra $end;\n$b: mov.u32 r2, 22; bra $end;\n$c: mov.u32 r2, 33;\n"
        "$end: st.global.u32 [w1], r2;"
    )
    want = np.array([11, 22, 33, 33])[THREAD & 3]
    np.testing.assert_array_equal(run(text), want)


def test_values_survive_a_guarded_barrier_in_a_loop() -> None:
    text = kernel(
        "mov.u32 r1, 0; mov.u32 r2, 1; setp.lt.u32 p1, r0, 64;\n"
        "$loop: mad.lo.u32 r2, r2, 3, r0; @p1 bar.sync 0; add.u32 r1, r1, 1;\n"
        "setp.lt.u32 p2, r1, 5; @p2 bra $loop;\n"
        "st.global.u32 [w1], r2;"
    )
    want = np.ones(64, np.uint32)
    for _ in range(5):
        want = want * 3 + np.arange(64, dtype=np.uint32)
    np.testing.assert_array_equal(run(text, threads=64, seed=3), want)


@pytest.mark.parametrize(
    ("operation", "start", "value", "want"),
    [
        ("add.u32", 5, 3, 5 + 32 * 3),
        ("max.s32", 0xFFFFFFF0, 7, 7),
        ("max.u32", 0xFFFFFFF0, 7, 0xFFFFFFF0),
        ("min.s32", 3, 0xFFFFFFFB, 0xFFFFFFFB),
        ("and.b32", 0xFF, 0x3C, 0x3C),
        ("or.b32", 1, 6, 7),
        ("xor.b32", 9, 1, 9),
        ("exch.b32", 9, 4, 4),
        ("inc.u32", 3, 6, (3 + 32) % 7),
        ("dec.u32", 3, 6, (3 - 32) % 7),
    ],
)
@pytest.mark.parametrize("space", ["global", "shared", ""])
def test_integer_atomics(operation: str, start: int, value: int, want: int, space: str) -> None:
    text = kernel(
        ".shared .align 4 .u32 s;\n"
        f"mov.u64 w2, s; setp.eq.u32 p1, r0, 0; @p1 st.shared.u32 [s], {start};\n"
        "bar.sync 0;\n"
        + ("" if space == "shared" else "ld.param.u64 w2, [in];\n")
        + f"atom{'.' + space if space else ''}.{operation} r1, [w2], {value};\n"
        "bar.sync 0; ld.shared.u32 r2, [s]; st.global.u32 [w1], r2;",
        params=".param .u64 in",
    )
    cell = np.array([start], np.uint32)
    out = run(text, cell)
    assert (out[0] if space == "shared" else cell[0]) == want


def test_compare_and_swap_lets_others_run() -> None:
    """A lock that thread 0 holds over a barrier-free stretch; every thread adds one."""
    text = kernel(
        ".shared .align 4 .u32 lock; .shared .align 4 .u32 sum;\n"
        "setp.eq.u32 p1, r0, 0; @p1 st.shared.u32 [lock], 0; @p1 st.shared.u32 [sum], 0;\n"
        "bar.sync 0;\n"
        "$spin: atom.shared.cas.b32 r1, [lock], 0, 1; setp.ne.u32 p2, r1, 0; @p2 bra $spin;\n"
        "ld.volatile.shared.u32 r2, [sum]; add.u32 r2, r2, 1; st.volatile.shared.u32 [sum], r2;\n"
        "atom.shared.exch.b32 r3, [lock], 0;\n"
        "bar.sync 0; ld.shared.u32 r4, [sum]; st.global.u32 [w1], r4;"
    )
    np.testing.assert_array_equal(run(text, threads=64, seed=5), np.full(64, 64))


def test_float_atomics_flush_in_global_memory_only() -> None:
    tiny = np.float32(1e-40)
    text = kernel(
        ".shared .align 4 .f32 s;\n"
        "ld.param.u64 w2, [in]; ld.param.f32 f1, [x]; st.shared.f32 [s], f1;\n"
        "red.global.add.f32 [w2], f1; red.shared.add.f32 [s], f1; ld.shared.f32 f2, [s];\n"
        "st.global.f32 [w1], f2;",
        params=".param .u64 in, .param .f32 x",
    )
    cell = np.array([1e-39], np.float32)
    got = run(text, cell, tiny, threads=1, dtype="float32")
    assert got[0] == tiny + tiny
    assert cell.view(np.uint32)[0] == 0


def test_packed_half_atomics() -> None:
    text = kernel(
        "ld.param.u64 w2, [in]; mov.b32 r1, 0x3e003c00;\n"
        "red.global.add.noftz.f16x2 [w2], r1; add.u64 w2, w2, 4;\n"
        "mov.b32 r2, 0x40003f80; red.global.add.noftz.bf16x2 [w2], r2;",
        params=".param .u64 in",
    ).replace("sm_80", "sm_90")
    cells = np.zeros(2, np.uint32)
    run(text, cells)
    np.testing.assert_array_equal(cells[:1].view(np.float16), [32, 48])
    np.testing.assert_array_equal(cells[1:].view(ml_dtypes.bfloat16).astype(float), [32, 64])


@pytest.mark.parametrize("k", [16, 32])
def test_mma_s8(k: int) -> None:
    """One warp multiplies 16 x k by k x 8; fragments as the ISA's figures number them."""
    rng = np.random.default_rng(k)
    a, b = (rng.integers(-128, 128, s).astype(np.int8) for s in ((16, k), (8, k)))
    c = rng.integers(-(1 << 31), 1 << 31, (16, 8)).astype(np.int32)
    words = []
    for lane in range(32):
        group, part = lane >> 2, lane & 3
        rows = [(group, 0), (group + 8, 0), (group, 16), (group + 8, 16)][: k // 8]
        word = [a[row, col + 4 * part : col + 4 * part + 4] for row, col in rows]
        word += [b[group, col + 4 * part : col + 4 * part + 4] for col in range(0, k, 16)]
        tail = [c[group + 8 * (i >> 1), 2 * part + (i & 1)] for i in range(4)]
        packed = np.concatenate(word).view(np.uint32).tolist()
        words += packed + np.array(tail, np.int32).view(np.uint32).tolist()
    count, na = len(words) // 32, k // 8
    names = [f"r{10 + i}" for i in range(count)]
    loads = "".join(f"ld.global.u32 {name}, [w2+{4 * i}];\n" for i, name in enumerate(names))
    text = kernel(
        f"ld.param.u64 w2, [in]; mul.wide.u32 w3, r0, {4 * count}; add.u64 w2, w2, w3;\n{loads}"
        f"mma.sync.aligned.m16n8k{k}.row.col.s32.s8.s8.s32 {{r1, r2, r3, r4}}, "
        f"{{{', '.join(names[:na])}}}, {{{', '.join(names[na : na + na // 2])}}}, "
        f"{{{', '.join(names[na + na // 2 :])}}};\n"
        "ld.param.u64 w4, [res]; mul.wide.u32 w5, r0, 16; add.u64 w4, w4, w5;\n"
        "st.global.v4.u32 [w4], {r1, r2, r3, r4};",
        params=".param .u64 in, .param .u64 res",
    )
    got = np.zeros(128, np.int32)
    run(text, np.array(words, np.uint32), got)
    want = (a.astype(np.int64) @ b.astype(np.int64).T + c).astype(np.int32)
    for lane in range(32):
        group, part = lane >> 2, lane & 3
        np.testing.assert_array_equal(got[4 * lane : 4 * lane + 2], want[group, 2 * part :][:2])
        np.testing.assert_array_equal(
            got[4 * lane + 2 : 4 * lane + 4], want[group + 8, 2 * part :][:2]
        )


SHARED = ".shared .align 16 .b8 s[64];\n"
FAULTS = [
    ("st.global.u32 [w1+4], r0;", Fault.OUT_OF_BOUNDS),
    ("st.global.u32 [w1+-4], r0;", Fault.OUT_OF_BOUNDS),
    ("ld.global.u32 r1, [w1+0x7fffffff0000];", Fault.OUT_OF_BOUNDS),
    ("st.global.v2.u32 [w1+4], {r0, r0};", Fault.MISALIGNED),
    ("st.global.u32 [w1+2], r0;", Fault.MISALIGNED),
    ("ld.u32 r1, [w1+4];", Fault.OUT_OF_BOUNDS),
    ("mov.u32 r1, 64; st.shared.u32 [r1], r0;", Fault.OUT_OF_BOUNDS),
    ("mov.u32 r1, 61; st.shared.u32 [r1], r0;", Fault.MISALIGNED),
    ("mov.u64 w2, -4; st.shared.u32 [w2], r0;", Fault.OUT_OF_BOUNDS),
    ("st.shared.v4.u32 [s+8], {r0, r0, r0, r0};", Fault.MISALIGNED),
    ("ld.shared.u32 r1, [s];", Fault.UNINITIALISED),
    ("st.shared.u8 [s], r0; ld.shared.u32 r1, [s];", Fault.UNINITIALISED),
    (".local .align 4 .b8 d[8]; mov.u64 w2, d; st.local.u32 [w2+8], r0;", Fault.OUT_OF_BOUNDS),
    ("mov.u64 w2, out; ld.param.u64 w3, [w2+8];", Fault.OUT_OF_BOUNDS),
    ("$l: bra $l;", Fault.FUEL),
    ("trap;", Fault.TRAP),
]


@pytest.mark.parametrize(("body", "kind"), FAULTS)
def test_one_thread_faults(body: str, kind: Fault) -> None:
    error = fault(kernel(SHARED + body), threads=1, fuel=1000)
    assert error.kind == kind
    assert error.ptx_line == 9


def test_a_fault_names_the_instruction_and_stops_the_thread() -> None:
    text = kernel("st.global.u32 [w1], 1;\nst.global.u32 [w1+128], 2;\nst.global.u32 [w1], 3;")
    error = fault(text)
    assert (error.kind, error.ptx_line) == (Fault.OUT_OF_BOUNDS, 9)
    assert error.ptx_text.rstrip(";") == "st.global.u32 [w1+128], 2"


RACES = [
    # two threads of one warp, nothing in between
    ("st.shared.u32 [s], r0;", True),
    # a neighbour's word, without and with a warp barrier
    ("st.shared.u32 [r2], r0; bar.sync 0; st.shared.u32 [r2], 1; ld.shared.u32 r4, [r3];", True),
    ("st.shared.u32 [r2], r0; bar.warp.sync -1; ld.shared.u32 r4, [r3];", False),
    ("st.shared.u32 [r2], r0; bar.sync 0; ld.shared.u32 r4, [r3];", False),
    # write after read
    ("st.shared.u32 [r2], 1; bar.sync 0; ld.shared.u32 r4, [r3]; st.shared.u32 [r2], 2;", True),
    ("st.shared.u32 [r2], 1; bar.sync 0; ld.shared.u32 r4, [r3]; bar.sync 0;"
     "st.shared.u32 [r2], 2;", False),
    # all read one word, then one of them writes it
    ("@p1 st.shared.u32 [s], 1; bar.sync 0; ld.shared.u32 r4, [s];"
     "@p1 st.shared.u32 [s], 2;", True),
    ("@p1 st.shared.u32 [s], 1; bar.sync 0; ld.shared.u32 r4, [s]; bar.sync 0;"
     "@p1 st.shared.u32 [s], 2;", False),
    # atomics among themselves, and against a plain read
    ("@p1 st.shared.u32 [s], 0; bar.sync 0; red.shared.add.u32 [s], 1;", False),
    ("@p1 st.shared.u32 [s], 0; bar.sync 0; red.shared.add.u32 [s], 1;"
     "ld.shared.u32 r4, [s];", True),
    # bytes of one word are different places
    ("st.shared.u8 [r5], r0;", False),
]  # fmt: skip


@pytest.mark.parametrize(("body", "races"), RACES)
@pytest.mark.parametrize("seed", [0, 1])
def test_races_in_one_warp(body: str, races: bool, seed: int) -> None:
    text = kernel(
        ".shared .align 16 .b8 s[128]; setp.eq.u32 p1, r0, 0; mov.u32 r1, s;\n"
        "mad.lo.u32 r2, r0, 4, r1; xor.b32 r3, r2, 4; add.u32 r5, r0, r1;\n" + body
    )
    if races:
        assert fault(text, seed=seed).kind == Fault.RACE
    else:
        run(text, seed=seed)


@pytest.mark.parametrize("order", ["bar.warp.sync -1;", "bar.sync 0;"])
def test_a_warp_barrier_does_not_order_warps(order: str) -> None:
    text = kernel(
        ".shared .align 16 .b8 s[256]; mov.u32 r1, s; mad.lo.u32 r2, r0, 4, r1;\n"
        "xor.b32 r3, r2, 128; st.shared.u32 [r2], r0; bar.sync 0;\n"
        f"st.shared.u32 [r2], 1; {order} ld.shared.u32 r4, [r3];"
    )
    if "warp" in order:
        assert fault(text, threads=64).kind == Fault.RACE
    else:
        run(text, threads=64)


def test_earlier_readers_are_not_forgotten() -> None:
    """Threads 0 and 40 read, then thread 0 reads again and writes: 40's read still counts."""
    text = kernel(
        ".shared .align 4 .u32 s; setp.eq.u32 p1, r0, 0; setp.eq.u32 p2, r0, 40;\n"
        "@p1 st.shared.u32 [s], 1; bar.sync 0; @p2 ld.shared.u32 r4, [s];\n"
        "@p1 ld.shared.u32 r4, [s]; @p1 st.shared.u32 [s], 5;"
    )
    for seed in range(4):
        assert fault(text, threads=64, seed=seed).kind == Fault.RACE


def test_reads_of_memory_that_nobody_wrote() -> None:
    text = kernel(
        "ld.param.u64 w2, [in]; ld.global.u32 r1, [w2+4]; st.global.u32 [w1], r1;",
        params=".param .u64 in",
    )
    data = emulator.empty(4, np.uint32)
    assert fault(text, data, threads=1).kind == Fault.UNINITIALISED
    emulator.mark_written(data[1:2])
    assert run(text, data, threads=1)[0] == 0xA5A5A5A5


def test_unchecked_code_gives_the_same_results() -> None:
    text = kernel("mul.lo.u32 r1, r0, r0; st.global.u32 [w1], r1;")
    np.testing.assert_array_equal(run(text, checks=False), THREAD**2)


def test_printf_and_assert() -> None:
    before = (
        ".extern .func (.param .b32 r) vprintf(.param .b64 a, .param .b64 b);\n"
        ".extern .func __assertfail(.param .b64 a) .noreturn;\n"
    )
    printing = (
        "{ .param .b64 a; st.param.b64 [a], w0; .param .b64 b; st.param.b64 [b], w0;\n"
        ".param .b32 c; call.uni (c), vprintf, (a, b); ld.param.b32 r1, [c]; }\n"
        "st.global.u32 [w1], r1;\n"
    )
    np.testing.assert_array_equal(run(kernel(printing, before=before)), 0 * THREAD)
    failing = "{ .param .b64 a; st.param.b64 [a], w0; call.uni __assertfail, (a); }"
    assert fault(kernel(failing, before=before)).kind == Fault.TRAP


def test_instructions_are_counted_once_per_execution() -> None:
    """A block that waits inside is entered once."""
    text = kernel(
        "mov.u32 r1, 0; bar.sync 0; add.u32 r1, r1, 1; bar.sync 0; st.global.u32 [w1], r1;"
    )
    out = np.zeros(64, np.uint32)
    stats = emulator.compile(text).kernel("k").launch(1, 64, [out])
    assert stats.opcodes["bar.sync"] == 128
    assert stats.opcodes["ret"] == 64
    assert stats.instructions == 64 * 10
