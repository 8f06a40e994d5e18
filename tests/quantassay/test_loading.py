"""How kernels come in: selection by name, users' files, wings; and what importing costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quantassay import check_kernel, run_checks
from quantassay.engine import select
from quantassay.errors import LoadError, UsageError
from quantassay.loading import load_file, load_wings
from reference import Kernel, int8_gemm, kernels
from reference.op import forget

TOKEN, GEMM, EPILOGUE = "int8.quantize_per_token", "int8.gemm", "int8.epilogue"


def kernel(op: str, function: Callable[..., Any], dialects: tuple[str, ...] = ("ieee",)) -> Kernel:
    return Kernel(op, "test", function.__name__, dialects, function)


def check(op: str, function: Callable[..., Any], dialect: str = "ieee", **options: Any) -> Any:
    return check_kernel(kernel(op, function, (dialect,)), dialect, device="emulator", **options)


# --- selection and loading


def test_select_filters_and_names_what_is_known() -> None:
    load_wings()
    chosen = select([GEMM], ["numba"], ["ieee", "vllm"])
    assert {(k.op, k.wing, d) for k, d in chosen} == {
        (GEMM, "numba", "ieee"),
        (GEMM, "numba", "vllm"),
    }
    for arguments, message in (
        ((["int8.gem"], None, None), r"op: got 'int8.gem'; known: .*int8.dequantize, .*int8.gemm"),
        ((None, ["triton"], None), r"wing: got 'triton'; known: cupy, numba"),
        ((None, None, ["iee"]), r"dialect: got 'iee'; known: article_cuda, article_torch, .*ieee"),
    ):
        with pytest.raises(UsageError, match=message):
            select(*arguments)


def test_nothing_left_to_check_is_an_error() -> None:
    own = kernel(GEMM, int8_gemm.gemm)
    with pytest.raises(UsageError, match=r"no kernel is left to check: op int8.gemm, .* vllm"):
        select([GEMM], None, ["vllm"], [own])


def test_progress_counts_up_to_the_total() -> None:
    steps = []
    run_checks(
        kernels=[kernel(GEMM, int8_gemm.gemm)],
        examples=4,
        device="emulator",
        on_progress=lambda *step: steps.append(step),
    )
    assert steps[-1][1] == steps[-1][2]
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)
    assert steps[0][0] == "int8.gemm test/gemm ieee"


FILE = """
from quantassay import implements
from reference import int8_gemm

@implements("int8.gemm", wing="mine", dialects=["ieee"])
def gemm(a, b):
    return int8_gemm.gemm(a, b)
"""


def test_a_file_registers_its_kernels(tmp_path: Path) -> None:
    file = tmp_path / "my kernels.py"
    file.write_text(FILE)
    try:
        (found,) = load_file(file)
        assert (found.op, found.wing) == (GEMM, "mine")
        assert found in kernels(wing="mine")
        assert check_kernel(found, "ieee", examples=2, device="emulator").passed
    finally:
        forget("mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", r"registers no kernel; decorate a function with @quantassay.implements"),
        ("def f(:\n", r"fails: SyntaxError: .* \(line 1\)"),
        ("import no_such_package\n", r"fails: ModuleNotFoundError: .*no_such_package.* \(line 1\)"),
        ("\nraise SystemExit('stop')\n", r"fails: SystemExit: stop \(line 2\)"),
        (FILE.replace("int8.gemm", "int8.gen"), r"fails: ValueError: op: got 'int8.gen'; known: "),
        (FILE.replace('["ieee"]', '["iee"]'), r"ValueError: dialects: got 'iee'; allowed for int8"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.py"
    file.write_text(text)
    with pytest.raises(LoadError, match=message):
        load_file(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"--kernels: .*none.py is not a file"):
        load_file(tmp_path / "none.py")
    (tmp_path / "text.txt").write_text("")
    with pytest.raises(LoadError, match=r"its name must end in .py"):
        load_file(tmp_path / "text.txt")


def test_a_wing_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from quantassay import loading

    monkeypatch.setitem(loading.BUILT_IN, "lost", "no_such_wing")
    with pytest.raises(LoadError, match=r"wing lost \(no_such_wing\) cannot be imported: Module"):
        load_wings()


def test_importing_quantassay_is_cheap() -> None:
    code = (
        "import sys, quantassay; quantassay.implements; quantassay.run_checks\n"
        "heavy = {'hypothesis', 'numba', 'llvmlite', 'cupy', 'emulator', 'rich', 'typer'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_only_the_wings_that_are_wanted_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    from quantassay import loading

    monkeypatch.setitem(loading.BUILT_IN, "lost", "no_such_wing")
    load_wings(["cupy"])
    with pytest.raises(LoadError, match="no_such_wing"):
        load_wings(["cupy", "lost"])
    with pytest.raises(LoadError, match="no_such_wing"):
        load_wings(["somebody's"])
