"""`quantassay check --cu` and `--ptx` on what cannot be used, and the parts that read it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quantassay.cli import app
from quantassay.errors import UsageError
from quantassay.foreign import grammar, load
from quantassay.foreign.formulas import Formula
from quantassay.foreign.host_code import kernels, without
from reference.op import OPS
from tests.quantassay.foreign_kernels import ARGS, GEMM, GRID, PLAIN, STATIC, request

# Bad usage -----------------------------------------------------------------------------------

SEVERAL = "__global__ void one(int* x) {}\ntemplate <class T> __global__ void two(T* x) {}\n"


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        (None, {}, "--cu: .*kernel.cu is not a file"),
        (PLAIN, {"op": "int8.gem"}, "--op: got 'int8.gem'; known: int8.add_rms_norm_quantize"),
        (PLAIN, {"op": None}, "--op: say which op the kernel is; known: int8.add"),
        (PLAIN, {"dialect": "iee"}, "--dialect: got 'iee'; int8.quantize_static has: ieee, vllm"),
        (PLAIN, {"dialect": None}, "--dialect: say which dialect the kernel speaks; int8.quantize"),
        (PLAIN, {"grid": None}, '--grid is missing; such as --grid "M"'),
        (PLAIN, {"args": None}, "--args is missing; such as --args"),
        (PLAIN, {"block": "0"}, "--block: got 0; allowed: sides from 1, in all up to 1024 threads"),
        (PLAIN, {"block": "64, 32"}, "--block: got 64, 32; allowed: .*up to 1024 threads"),
        (PLAIN, {"grid": "P"}, "--grid: 'P' names P; known: K, M, S"),
        (PLAIN, {"grid": "M ** 2"}, r"--grid: got 'M \*\* 2'; allowed: integers, names, \+ -"),
        (PLAIN, {"grid": "M,"}, "--grid: got 'M,'; allowed: 1 to 3 formulas, by commas"),
        (PLAIN, {"grid": "open('x')"}, r"--grid: got \"open\('x'\)\"; allowed: integers"),
        (PLAIN, {"args": ARGS + ", 0"}, "--args: got 7 for quantize, which has 6 parameters; "
         "got: x, scales, codes, M, K, S, 0; quantize takes: 0: const float[*] [(]8 bytes[)]; "
         "1: const float[*] .*; 2: signed char[*] .*; 3: int [(]4 bytes[)]; 4: int .*; 5: int"),
        (PLAIN, {"args": "x, scales, code, M, K, S"}, "--args: got 'code'; int8.quantize_static has"
         " inputs x, scales; outputs: codes; sizes M, K, S; also null"),
        (PLAIN, {"args": "x, scales, null, M, K, S"}, "--args: nothing is given for codes, of"),
        (PLAIN, {"args": "M, scales, codes, x, K, S"}, "--args: M is a number; parameter 0 of "
         "quantize is const float"),
        (PLAIN, {"args": "x, scales, codes, M:i64, K, S"}, "--args: M:i64 is i64, 8 bytes; "
         "parameter 3 of quantize is int"),
        (PLAIN, {"args": "x, scales, codes, 1.5:f32, K, S"}, "1.5:f32 is f32; parameter 3"),
        (PLAIN, {"args": "x, scales, codes, M:int3, K, S"}, "'M:int3': allowed types: i8, u8"),
        (PLAIN, {"args": "x, scales?, codes, M, K, S"}, "scales is no optional input; .* none"),
        (PLAIN, {"args": "x, scales, codes=x, M, K, S"}, "x has not the shape or the dtypes of co"),
        (PLAIN, {"args": "x, scales, x=0, M, K, S"}, "'x=0': x is no output; outputs: codes"),
        (PLAIN, {"args": "x, scales, codes, t:f32[Z], K, S"}, "--args: 'Z' names Z; known: K, M"),
        (PLAIN, {"dtype": "fp16"}, "x is fp16, and the kernel's parameter const float"),
        (PLAIN, {"dtype": "int8"}, "--dtype: got 'int8'; int8.quantize_static has: fp32, fp16"),
        (PLAIN, {"option": "form=tanh"}, "--option: got 'form=tanh'; int8.quantize_static has: no"),
        (PLAIN, {"entry": "quantise"}, '--entry: quantise: identifier "quantise" is undefined; '
         "__global__ functions of .*kernel.cu: quantize"),
        (SEVERAL, {}, "--entry: say which; __global__ functions of .*kernel.cu: one, two"),
        (SEVERAL, {"entry": "two"}, "--entry: two: cannot determine which instance of .*: one, tw"),
        (PLAIN, {"entry": "quantize<{T}>"}, "--entry, --define: got {T}; allowed: {dtype}"),
        (PLAIN, {"define": "2=3"}, "--define: got '2=3'; allowed: NAME or NAME=VALUE"),
        (PLAIN, {"arch": "80"}, "--arch: got '80'; allowed: sm_80, sm_89"),
        (PLAIN, {"arch": "sm_999"}, "--arch: got 'sm_999', which NVRTC [0-9.]+ has not"),
        (PLAIN, {"device": "gpu"}, "--device: |device: got 'gpu', but"),
        (PLAIN, {"wing": "cupy"}, "--wing: not with --cu, which is the only kernel"),
        (PLAIN, {"kernels": "x.py"}, "--kernels: not with --cu, which is the only kernel"),
        (PLAIN, {"function": "f"}, "--cu, --function: one kernel at a time; allowed: one of them"),
        (PLAIN.replace("scale == 0.0f", "scales == 0.0f"), {}, r"does not compile:\s.*kernel.cu\(3"
         r'\): error: identifier "scales" is undefined'),
        ('#include "mine.cuh"\n' + PLAIN, {}, "does not compile: .*mine.cuh.* with --include"),
        (PLAIN + "int main() {", {}, "kernel.cu does not compile: At end of source: error: expec"),
        ("", {}, "--entry: say which; __global__ functions of .*kernel.cu: none"),
        (PLAIN.replace("if (i <", 'asm volatile("no.such;"); if (i <'), {}, "kernel.cu: the emula"
         r"tor cannot run quantize, right or wrong: .* \(PTX line \d+: no.such\)"),
    ],
)  # fmt: skip
def test_bad_usage_is_said_and_exits_2(
    tmp_path: Path, text: str | None, changes: dict[str, str | None], message: str
) -> None:
    path = tmp_path / "kernel.cu"
    if text is not None:
        path.write_text(text)
    options = {
        "cu": str(path), "op": STATIC, "dialect": "ieee", "grid": GRID, "block": "64",
        "args": ARGS, "examples": "0", **changes,
    }  # fmt: skip
    words = [f"--{name}={value}" for name, value in options.items() if value is not None]
    result = CliRunner().invoke(app, ["check", *words])
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.startswith("quantassay: ")
    assert re.search(message, " ".join(result.stderr.split())), result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grid", "M"], "--grid: only with --cu or --ptx"),
        (["--dtype", "fp32"], "--dtype: only with --cu, --ptx or --function"),
        (["--framework", "numpy"], "--framework: only with --function"),
        (["--function", "f"], "--op: say which op the kernel is"),
        (["--function", "f", "--op", GEMM, "--dialect", "ieee"], "--function: say the file that"),
        (["--ptx", "a.ptx", "--define", "A=1"], "--define: only with --cu; PTX is compiled"),
    ],
)
def test_options_that_do_not_go_together(words: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["check", *words])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"quantassay: {message}")


@pytest.mark.parametrize(
    ("text", "entries", "message"),
    [
        ("not ptx", (), "the emulator cannot read this PTX|--entry: .* none"),
        (".version 8.0\n.target sm_80\n.address_size 64\n", (), "--entry: say which; .*: none"),
        (".version 8.0\n.target sm_80\n.address_size 64\n", ("f",), "got 'f', unknown; .*: none"),
    ],
)
def test_ptx_that_cannot_be_used(
    tmp_path: Path, text: str, entries: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load(request(tmp_path, text, ptx=True, entries=entries, dtypes=("fp32",)))


# Parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(N + 127) // 128", 3), ("(N + 127) / 128", 3), ("cdiv(N, 128)", 3), ("-N + 301", 1),
        ("min(N, 7, M) * 2", 8), ("max(M, N) % 7", 6), ("2", 2), ("+M", 4),
    ],
)  # fmt: skip
def test_formulas(text: str, value: int) -> None:
    assert Formula(text, "--grid").value({"N": 300, "M": 4}) == value


@pytest.mark.parametrize(
    "text", ["", "M +", "M ** 2", "1.5", "True", "'a'", "M if M else 1", "f(M)", "cdiv(M)", "M.x",
             "+".join("M" * 9000), "[M]", "M < 2", "min()", "min(M, *N)",
             "(" * 500 + "M" + ")" * 500, "\0"],
)  # fmt: skip
def test_formulas_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"--grid: got .*; allowed: integers, names"):
        Formula(text, "--grid")


def test_every_op_tells_its_sizes() -> None:
    """Of all inputs that an op builds, the kernel's formulas find every size that they may name."""
    from quantassay.foreign.binding import dims_of

    for op in OPS.values():
        for made in op.hostile[:6]:
            dims = dims_of(op, op.build(made))
            assert set(grammar.sizes(op)) <= set(dims), (op.name, dims)
            assert all(dims[name] == made.dim(name) for name in op.dims), op.name


def test_kernels_and_host_functions_are_found() -> None:
    text = (
        "// __global__ void hidden(int) {}\n"
        '#define X __global__ void macro()\nextern "C" {\n'
        "__global__ void __launch_bounds__(64, 2) first(int* a) { int b[] = {1}; }\n}\n"
        "namespace a { struct S { int f() { return 1; } };\n"
        "template <typename T>\n__global__ void second(T a) { }\n"
        "int host(int x) { if (x) { return 1; } return 0; }\n"
        "constexpr int kept() { return 1; }\n"
        "__device__ int also() { return '}'; }\n}\n"
    )
    assert kernels(text) == ["first", "second"]
    plain, left_out = without(text)
    assert left_out == ["host (line 9)"]
    assert plain.count("\n") == text.count("\n")
    assert "host(" not in plain
    for word in ("struct S", "second", "kept", "also", "first"):
        assert word in plain
