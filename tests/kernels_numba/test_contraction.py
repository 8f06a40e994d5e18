"""The contraction check bites: planted kernels whose float results the compiler may change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kernels_numba import launch
from kernels_numba.contraction import ContractionError, unsuffixed_float_ops
from kernels_numba.device import cuda, device, float32, fused_multiply_add, libdevice

HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\n"


def lines(*statements: str) -> list[str]:
    body = ".reg .f32 %f<9>; .reg .f64 %d<9>; .reg .b32 %r<9>; .reg .pred %p<3>;\n"
    return [
        text
        for _, text in unsuffixed_float_ops(HEAD + body + "\n".join(statements) + "\nret;\n}\n")
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "mul.f32 %f1, %f2, %f3;",
        "add.f32 %f1, %f2, %f3;",
        "sub.f64 %d1, %d2, %d3;",
        "@%p1 add.f32 %f1, %f2, %f3;",
        "fma.rn.f32 %f1, %f2, %f3, %f4;",
        "mul.rn.ftz.f32 %f1, %f2, %f3;",
        "div.approx.f32 %f1, %f2, %f3;",
        "div.full.f32 %f1, %f2, %f3;",
        "ex2.approx.f32 %f1, %f2;",
    ],
)
def test_reports_what_the_compiler_may_change(statement: str) -> None:
    assert lines(statement) == [statement]


@pytest.mark.parametrize(
    "statement",
    [
        "mul.rn.f32 %f1, %f2, %f3;",
        "add.rz.f32 %f1, %f2, %f3;",
        "div.rn.f32 %f1, %f2, %f3;",
        "mul.lo.s32 %r1, %r2, %r3;",
        "mad.lo.s32 %r1, %r2, %r3, %r4;",
        "// begin inline asm\nfma.rn.f32 %f1, %f2, %f3, %f4;\n// end inline asm",
        "neg.f32 %f1, %f2;",
    ],
)
def test_lets_fixed_roundings_and_integers_pass(statement: str) -> None:
    assert lines(statement) == []


def test_an_fma_after_inline_assembly_is_reported() -> None:
    by_hand = "// begin inline asm\nfma.rn.f32 %f1, %f2, %f3, %f4;\n// end inline asm"
    assert lines(by_hand, "fma.rn.f32 %f5, %f2, %f3, %f4;") == ["fma.rn.f32 %f5, %f2, %f3, %f4;"]


@device
def _plain_sum(a: Any, b: Any, c: Any) -> Any:
    return a * b + c


@device
def _plain_product(a: Any, b: Any, c: Any) -> Any:
    return libdevice.fadd_rn(a * b, c)


@device
def _divided(a: Any, b: Any, c: Any) -> Any:
    return libdevice.fast_fdividef(a, b)


@device
def _fixed(a: Any, b: Any, c: Any) -> Any:
    return libdevice.fadd_rn(libdevice.fmul_rn(a, b), c)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "a * b + c": _plain_sum,
    "fadd(a * b, c)": _plain_product,
    "a // b, fast": _divided,
    "fadd(fmul(a, b), c)": _fixed,
    "fma(a, b, c)": fused_multiply_add,
}


def planted(name: str) -> Callable[..., None]:
    function = FUNCTIONS[name]

    def kernel(x: Any, y: Any) -> None:
        i = cuda.grid(1)
        if i < x.shape[0]:
            y[i] = function(x[i], float32(3), float32(0.1))

    return kernel


@pytest.mark.parametrize(
    ("name", "opcode"),
    [
        ("a * b + c", "fma.rn.f32"),
        ("fadd(a * b, c)", "mul.f32"),
        ("a // b, fast", "div.approx.f32"),
    ],
)
def test_a_planted_kernel_is_refused_with_its_lines(name: str, opcode: str) -> None:
    x = np.ones(5, np.float32)
    with pytest.raises(ContractionError, match=rf"kernel: .*fmul_rn[^@]*PTX line \d+: {opcode} "):
        launch.run(planted, (name,), (1,), (32,), x, np.empty_like(x))


def test_fixed_kernels_run_as_they_are_written() -> None:
    x = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    twice = x * np.float32(3) + np.float32(0.1)
    once = (x.astype(np.float64) * 3 + np.float64(np.float32(0.1))).astype(np.float32)
    assert (once != twice).any(), "the input must tell one rounding from two"
    for name, expected in (("fadd(fmul(a, b), c)", twice), ("fma(a, b, c)", once)):
        y = np.empty_like(x)
        launch.run(planted, (name,), (2,), (32,), x, y)
        assert y.tobytes() == expected.tobytes()
