"""The disk cache of whole kernels: what is kept, damaged files, what a key depends on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import emulator
from emulator import kernel_cache, launch, lower, ptx

HEAD = ".version 8.8\n.target sm_80\n.address_size 64\n"
PTX = (
    HEAD
    + """.file 1 "k.cu"
.global .align 4 .u32 calls = 40;
.const .u32 table[2] = {7, 9};
.global .u64 pointer = generic(calls);
.visible .entry add(.param .u64 out, .param .u32 n)
.maxntid 64, 1, 1
{
  .reg .b32 r<9>; .reg .b64 w<5>; .reg .pred p;
  .shared .align 16 .b8 tile[256];
  .loc 1 12 3
  ld.param.u64 w0, [out];
  ld.param.u32 r1, [n];
  mov.u32 r0, %tid.x;
  ld.const.u32 r2, [table+4];
  setp.ge.u32 p, r0, r1;
  @p bra $END;
  mul.wide.u32 w1, r0, 4;
  add.u64 w1, w0, w1;
  ld.global.u64 w3, [pointer];
  atom.global.add.u32 r3, [w3], 1;
  .loc 1 14 3
  st.global.u32 [w1], r2;
$END:
  ret;
}
.visible .entry read(.param .u64 out)
{
  .reg .b32 r<3>; .reg .b64 w<2>;
  ld.param.u64 w0, [out];
  ld.global.u32 r0, [calls];
  st.global.u32 [w0], r0;
  ret;
}
"""
)


@pytest.fixture(autouse=True)
def directory(monkeypatch, tmp_path):
    monkeypatch.setenv("QUANTASSAY_CACHE", str(tmp_path))
    return tmp_path / "kernels"


@pytest.fixture
def no_front_end(monkeypatch):
    """Parsing and lowering are errors from now on."""

    def start():
        def refuse(*_args, **_options):
            raise AssertionError("parsed or lowered")

        monkeypatch.setattr(ptx, "parse", refuse)
        monkeypatch.setattr(lower, "compile_kernel", refuse)

    return start


def fresh(text: str = PTX, approximate: frozenset[str] = frozenset()) -> emulator.Module:
    """As in a new process."""
    return launch.Module(text, "", approximate)


def run(module: emulator.Module, **options: object) -> tuple[list[int], emulator.launch.Stats]:
    out = np.zeros(40, np.uint32)
    stats = module.kernel("add").launch(1, 64, [out, np.uint32(33)], **options)
    return out.tolist(), stats


def calls(module: emulator.Module) -> int:
    out = np.zeros(1, np.uint32)
    module.kernel("read").launch(1, 1, [out])
    return int(out[0])


@pytest.mark.parametrize("traced", [False, True])
def test_a_warm_process_neither_parses_nor_lowers(no_front_end, traced):
    first, stats = run(fresh(), trace=traced)
    no_front_end()
    module = fresh()
    again, warm_stats = run(module, trace=traced)
    assert first == again == [9] * 33 + [0] * 7
    assert module.kernels == ("add", "read")
    assert warm_stats.opcodes == stats.opcodes
    assert warm_stats.lines == stats.lines
    with pytest.raises(ValueError, match="kernel: got 'sub'; allowed in this module: add, read"):
        module.kernel("sub")


def test_every_field_comes_back():
    made, found = (fresh().kernel("add").compiled() for _ in range(2))
    own = {"step_address", "cached", "keepalive"}
    for field in dataclasses.fields(lower.CompiledKernel):
        if field.name not in own:
            assert getattr(made, field.name) == getattr(found, field.name), field.name
    assert not made.cached
    assert found.cached
    assert made.directives == ".maxntid 64, 1, 1"
    assert {s.source for s in found.sites} == {"k.cu:12", "k.cu:14"}


def test_faults_of_a_warm_kernel_name_their_line(no_front_end):
    fresh().kernel("add").compiled()
    no_front_end()
    with pytest.raises(emulator.EmulatorError) as caught:
        fresh().kernel("add").launch(1, 64, [np.zeros(8, np.uint32), np.uint32(33)])
    assert caught.value.source == "k.cu:14"
    assert caught.value.ptx_text == "st.global.u32 [w1], r2"


def test_variables_are_one_whether_a_kernel_is_warm_or_not():
    run(fresh())
    module = fresh()
    run(module)  # from disk; `read` is compiled now
    assert calls(module) == 40 + 33
    run(module)
    assert calls(module) == 40 + 66
    assert calls(fresh()) == 40  # now both from disk: a new module starts anew
    assert module.parsed.globals["calls"].address == module.variables.globals["calls"].address


def broken(kept: bytes, how: str) -> bytes:
    if how == "flipped":
        return kept[:-5] + bytes([kept[-5] ^ 1]) + kept[-4:]
    return {"empty": b"", "cut": kept[: len(kept) // 2], "foreign": b"{}" * 40}[how]


@pytest.mark.parametrize("suffix", ["module", "kernel", "o"])
@pytest.mark.parametrize("how", ["empty", "cut", "flipped", "foreign", "gone"])
def test_damaged_files_are_ignored_and_written_again(directory, no_front_end, suffix, how):
    run(fresh())
    (path,) = directory.glob(f"*.{suffix}")
    kept = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(broken(kept, how))
    assert run(fresh())[0] == [9] * 33 + [0] * 7
    assert len(path.read_bytes()) == len(kept)
    assert sorted(p.suffix for p in directory.iterdir()) == [".kernel", ".module", ".o"]
    no_front_end()
    assert run(fresh())[0] == [9] * 33 + [0] * 7


def test_without_a_cache_everything_still_works(monkeypatch, tmp_path, directory):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QUANTASSAY_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        module = fresh()
        assert run(module)[0] == [9] * 33 + [0] * 7
        assert not module.kernel("add").compiled().cached
    assert not directory.exists()


def test_keys_depend_on_everything(monkeypatch):
    keys = [
        kernel_cache.module_key(PTX),
        kernel_cache.module_key(PTX + "\n"),
        kernel_cache.module_key(PTX, ["ex2.approx.f32"]),
    ]
    monkeypatch.setattr(kernel_cache, "SOURCES", "another emulator")
    keys.append(kernel_cache.module_key(PTX))
    monkeypatch.setattr(kernel_cache.jit, "environment", lambda: "another machine")
    keys.append(kernel_cache.module_key(PTX))
    assert len(set(keys)) == len(keys)


def test_variants_of_a_kernel_are_kept_apart(directory):
    kernel = fresh().kernel("add")
    for checks in (True, False):
        for traced in (True, False):
            kernel.compiled(checks=checks, traced=traced)
    names = {k.compiled(checks=c).object_name for k in (kernel, fresh().kernel("add"))
             for c in (True, False)}  # fmt: skip
    assert len(names) == 2
    assert len(list(directory.glob("*.kernel"))) == 4


def test_what_is_refused_is_refused_again(directory):
    text = HEAD + ".visible .entry k() { .reg .f32 f<2>; ex2.approx.f32 f0, f1; ret; }\n"
    for _ in range(2):
        with pytest.raises(emulator.UnsupportedPTX, match="has no specified bits"):
            fresh(text).kernel("k").compiled()
        with pytest.raises(emulator.UnsupportedPTX, match="statement without ;"):
            fresh(HEAD + ".visible .entry k() { ret }")
    assert not list(directory.glob("*.kernel"))
    fresh(text, frozenset(["ex2.approx.f32"])).kernel("k").compiled()
