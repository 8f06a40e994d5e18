"""The PTX parser: layout of parameters and variables, source positions, and what it refuses."""

from __future__ import annotations

import ctypes
import re

import pytest

from emulator import flow, lower, program, ptx
from emulator.ptx import UnsupportedPTX

HEAD = ".version 8.8\n.target sm_80\n.address_size 64\n"


def body(*lines: str, params: str = "") -> str:
    """A module with one kernel `k`; its first body line is PTX line 7."""
    return "\n".join([HEAD + f".visible .entry k({params})", "", "{", *lines, "}"]) + "\n"


def lower_text(text: str) -> lower.CompiledKernel:
    return lower.compile_kernel(ptx.parse(text), "k")


def test_parameters_lie_at_their_alignment() -> None:
    params = (
        ".param .u8 a, .param .u64 .ptr .global .align 16 b, .param .align 4 .b8 c[6],.param .f32 d"
    )
    entry = ptx.parse(body("ret;", params=params)).entries["k"]
    assert [(p.name, p.offset, p.size, p.align) for p in entry.params] == [
        ("a", 0, 1, 1),
        ("b", 8, 8, 8),
        ("c", 16, 6, 4),
        ("d", 24, 4, 4),
    ]


def test_globals_have_memory_with_their_initial_values() -> None:
    text = HEAD + (
        ".const .align 4 .b8 table[8] = {1, 2, 0xff};\n"
        ".global .align 8 .u64 pointer[2] = {generic(table), table+4};\n"
        ".global .f32 half = 0f3F000000;\n.common .global .u32 zero;\n"
        ".visible .entry k() { ret; }\n"
    )
    module = ptx.parse(text)
    table = module.globals["table"]
    assert ctypes.string_at(table.address, 8) == bytes([1, 2, 255, 0, 0, 0, 0, 0])
    words = (ctypes.c_uint64 * 2).from_address(module.globals["pointer"].address)
    assert list(words) == [table.address, table.address + 4]
    assert ctypes.c_float.from_address(module.globals["half"].address).value == 0.5
    assert module.globals["zero"].size == 4
    assert all(v.address % 256 == 0 for v in module.globals.values())


def test_shared_memory_of_a_kernel_is_what_it_names() -> None:
    text = HEAD + (
        ".shared .align 4 .b8 used[20];\n.shared .align 4 .b8 unused[400];\n"
        ".extern .shared .align 64 .b8 dynamic[];\n"
        ".visible .entry k() { .shared .align 8 .b8 own[8]; .reg .b32 r<3>;\n"
        "mov.u32 r0, used; mov.u32 r1, own; mov.u32 r2, dynamic; ret; }\n"
    )
    code = lower_text(text)
    assert code.shared_static_size == 28  # own at 0, used at 8
    assert code.dynamic_offset == 64
    assert code.uses_dynamic


def test_source_lines_come_from_loc() -> None:
    text = body(
        ".loc 1 12 3",
        ".reg .b32 r<2>;",
        "mov.u32 r0, 1; // a comment; with a semicolon",
        ".loc 2 7 1, function_name $L__info_string0, inlined_at 1 13 5",
        "mov.u32 r1, 2;",
        ".loc 1 0 0",
        "ret;",
    )
    text += '.file 1 "/src/kernel.cu"\n.file 2 "warp.cuh"\n.section .debug_str\n{\n.b8 1,2\n}\n'
    sites = lower_text(text).sites
    assert [(s.ptx_line, s.source) for s in sites] == [
        (9, "/src/kernel.cu:12"),
        (11, "warp.cuh:7 (inlined at /src/kernel.cu:13)"),
        (13, "warp.cuh:7 (inlined at /src/kernel.cu:13)"),
    ]
    assert sites[0].text == "mov.u32 r0, 1"


def test_names_of_an_inner_scope_hide_the_outer_ones() -> None:
    text = body(
        ".reg .b32 r<3>;",
        "{ .reg .b16 r0; mov.b16 r0, 1; $L: bra $L2; $L2: }",
        "{ .reg .b64 r0; mov.b64 r0, 1; $L: bra $L2; $L2: }",
        "mov.b32 r0, 2; ret;",
    )
    module = ptx.parse(text)
    flat = program.flatten(module, module.entries["k"])
    used = [flat.registers[next(iter(flow._registers(i.operands[0])))].bits
            for i in flat.instructions if i.root == "mov"]  # fmt: skip
    assert used == [16, 64, 32]


def test_calls_are_inlined_each_time() -> None:
    text = HEAD + (
        ".func (.param .b32 out) twice(.param .b32 in)\n"
        "{ .reg .b32 r<2>; ld.param.b32 r0, [in]; add.s32 r1, r0, r0; "
        "st.param.b32 [out], r1; ret; }\n"
        ".visible .entry k() { .reg .b32 r<4>;\n"
        "{ .param .b32 p; st.param.b32 [p], 3; .param .b32 q; call (q), twice, (p); "
        "ld.param.b32 r0, [q]; }\n"
        "{ .param .b32 p; st.param.b32 [p], r0; .param .b32 q; call.uni (q), twice, (p); "
        "ld.param.b32 r1, [q]; }\n"
        "ret; }\n"
    )
    module = ptx.parse(text)
    flat = program.flatten(module, module.entries["k"])
    assert [i.line for i in flat.instructions if i.root == "add"] == [5, 5]
    assert len(flat.slots) == 4


def test_only_registers_that_outlive_a_barrier_are_kept_in_the_frame() -> None:
    text = body(
        ".reg .b32 kept; .reg .b32 gone; .reg .b32 r<2>;",
        "mov.u32 kept, %tid.x; mov.u32 gone, 3; add.u32 r0, gone, kept;",
        "bar.sync 0;",
        "add.u32 r1, kept, 1; ret;",
    )
    module = ptx.parse(text)
    flat = program.flatten(module, module.entries["k"])
    resident = flow.analyse(flat).resident
    names = {r.name for i, r in enumerate(flat.registers) if resident >> i & 1}
    assert names == {"kept"}


def test_blocks_count_instructions_by_opcode() -> None:
    text = body(
        ".reg .b32 r<2>; .reg .pred p;",
        "mov.u32 r0, 0;",
        "$L: add.u32 r0, r0, 1; setp.lt.u32 p, r0, 5; @p bra $L;",
        "ret;",
    )
    blocks = lower_text(text).blocks
    assert [b.histogram for b in blocks] == [
        {"mov.u32": 1},
        {"add.u32": 1, "setp.lt.u32": 1, "bra": 1},
        {"ret": 1},
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("frobnicate.u32 r0, r1;", "opcode 'frobnicate'"),
        ("add.wrap.u32 r0, r1, r2;", "modifier .wrap"),
        ("add.u24 r0, r1, r2;", "type 'u24'"),
        ("add.u32 r0, r1, r99;", "operand 'r99'"),
        ("add.rz.f16 h0, h0, h1;", "rounding .rz"),
        ("div.rm.f64 w0, w0, w1;", "rounding .rm"),
        ("cvt.rp.f16x2.f32 r0, f1, f2;", "rounding .rp"),
        ("cvt.rna.f16.f32 h0, f1;", "rounding .rna"),
        ("mul.hi.sat.s32 r0, r1, r2;", "this form of multiplication"),
        ("ex2.approx.f32 f0, f1;", "has no specified bits; allow it by name"),
        ("div.approx.f32 f0, f1, f2;", "has no specified bits; allow it by name"),
        ("div.full.f32 f0, f1, f2;", "has no specified bits; allow it by name"),
        ("sqrt.f32 f0, f1;", "needs one of rn"),
        ("ld.global.v3.u32 {r0, r1, r2}, [w0];", "modifier .v3"),
        ("ld.shared::cluster.u32 r0, [w0];", "modifier .shared::cluster"),
        ("mma.sync.aligned.m16n8k32.row.col.s32.s4.s4.s32 "
         "{r0,r0,r0,r0}, {r0,r0,r0,r0}, {r0,r0}, {r0,r0,r0,r0};", "supported are mma.sync"),
        ("shfl.bfly.b32 r0, r1, 1, 31;", "needs one of sync"),
        ("atom.global.mul.u32 r0, [w0], r1;", "needs one of add"),
        ("bar.arrive 0, 64;", "needs one of sync, red"),
        ("mov.u32 r0, %envreg3;", "special register %envreg3"),
        ("call (r0), nowhere, ();", "'nowhere', which has no body"),
        ("call (r0), r1, (r2), prototype;", "indirect call"),
        ("@r0 bra $L;", "guard 'r0' is no predicate"),
        ("bra $M;", "unknown label '$M'"),
        ("setp.lo.f32 p0, f0, f1;", "comparison lo of floats"),
        (".weird r0;", "directive"),
        ("ld.param.u32 r0, [a+4];", "4 bytes at 4 of a"),
    ],
)  # fmt: skip
def test_refusals_name_the_ptx_line(line: str, message: str) -> None:
    registers = ".reg .b32 r<4>; .reg .f32 f<4>; .reg .b64 w<2>; .reg .pred p<2>; .reg .b16 h<2>;"
    text = body(registers, line, "$L: ret;", params=".param .u32 a")
    with pytest.raises(UnsupportedPTX, match=re.escape(message)) as caught:
        lower_text(text)
    assert caught.value.line == 8
    assert line.rstrip(";").split()[0] in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD.replace("64", "32") + ".entry k() { ret; }", "only .address_size 64"),
        (HEAD + ".entry k() { ret; ", "function without }"),
        (HEAD + ".entry k() { ret }", "statement without ;"),
        (HEAD + ".global .u32 x = {y};.entry k() { ret; }", "initialiser names 'y'"),
        (HEAD + ".global .u99 x;", "declaration"),
        (HEAD + ".entry k(.reg .u32 a) { ret; }", "only .param parameters"),
    ],
)
def test_malformed_modules(text: str, message: str) -> None:
    with pytest.raises(UnsupportedPTX, match=re.escape(message)):
        ptx.parse(text)


def test_recursion_is_refused() -> None:
    text = HEAD + ".func f() { call f; ret; }\n.entry k() { call f; ret; }"
    with pytest.raises(UnsupportedPTX, match="recursive call of 'f'"):
        lower_text(text)


def test_unknown_entry_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no entry 'x' in this module; it has: k"):
        lower.compile_kernel(ptx.parse(body("ret;")), "x")


def test_approximate_instructions_run_when_named() -> None:
    text = body(".reg .f32 f<2>;", "ex2.approx.f32 f0, f1;", "ret;")
    lower.compile_kernel(ptx.parse(text), "k", approximate=frozenset(["ex2.approx.f32"]))


def test_operations_that_ptxas_may_contract_are_listed() -> None:
    text = body(
        ".reg .f32 f<4>; .reg .b32 r<3>; .reg .pred p;",
        "mul.f32 f0, f1, f2;",
        "@!p add.ftz.f32 f0, f0, f3;",
        "mul.rn.f32 f0, f1, f2; add.s32 r0, r1, r2; sub.f16x2 r0, r1, r2;",
        "ret;",
    )
    assert lower.unsuffixed_float_ops(ptx.parse(text)) == [
        (8, "mul.f32 f0, f1, f2"),
        (9, "@!p add.ftz.f32 f0, f0, f3"),
        (10, "sub.f16x2 r0, r1, r2"),
    ]
