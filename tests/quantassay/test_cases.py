"""The inputs: bounded, repeatable, varied; and the search for the smallest that fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantassay import check_kernel
from quantassay.cases import HIDDEN, LIMIT, Case, cases, options_of, swept
from quantassay.strategies import size, smallest
from reference import Kernel, get_op, recipe

TOKEN, GEMM, EPILOGUE = "int8.quantize_per_token", "int8.gemm", "int8.epilogue"


def kernel(op: str, function: Callable[..., Any], dialects: tuple[str, ...] = ("ieee",)) -> Kernel:
    return Kernel(op, "test", function.__name__, dialects, function)


def check(op: str, function: Callable[..., Any], dialect: str = "ieee", **options: Any) -> Any:
    return check_kernel(kernel(op, function, (dialect,)), dialect, device="emulator", **options)


# --- cases


@pytest.mark.parametrize("name", ["int8.linear", "int8.dequantize", GEMM, TOKEN])
def test_cases_are_bounded_repeatable_and_varied(name: str) -> None:
    op = get_op(name)
    first, second = (list(cases(op, "ieee", examples=60, seed=3)) for _ in range(2))
    assert first == second
    random = first[-60:]
    assert len({case.recipe for case in random}) > 50
    assert {case.recipe.kind for case in random} == set(op.kinds)
    for case in random:
        assert np.prod([side for _, side in case.recipe.dims]) <= LIMIT
    assert {case.keywords()["dialect"] for case in first} == {"ieee"}


def test_a_dialect_meets_only_dtypes_that_it_accepts() -> None:
    made = list(cases(get_op(TOKEN), "article_torch", examples=20, seed=0))
    assert {case.recipe.dtype for case in made} == {"fp16"}


def test_dialects_that_wrap_meet_sums_beyond_int32() -> None:
    op = get_op(GEMM)
    deepest = {
        dialect: max(case.recipe.dim("K") for case in cases(op, dialect, examples=0, seed=0))
        for dialect in ("ieee", "vllm")
    }
    assert deepest["vllm"] > 131_071 > deepest["ieee"] > 1024


def test_a_case_prints_what_repeats_it() -> None:
    case = Case(recipe("ties", M=2, K=3, seed=7), (("dialect", "ieee"), ("out_dtype", "fp16")))
    assert str(case) == (
        "ties(K=3, M=2, fp32, seed=7), out_dtype=fp16, inputs off a 16-byte boundary by one element"
    )


# --- the smallest


@pytest.mark.parametrize(
    ("fails", "dims"),
    [
        (lambda d: d["M"] > 5 and d["N"] > 11, {"M": 6, "N": 12, "K": 1}),
        (lambda d: d["K"] % 16 == 5, {"M": 1, "N": 1, "K": 5}),
        (lambda d: d["M"] * d["K"] > 100, None),
        (lambda d: d["K"] == 97 and d["M"] == 31, {"M": 31, "N": 1, "K": 97}),
    ],
)
def test_smallest_finds_the_least_sizes(fails: Any, dims: dict[str, int] | None) -> None:
    op = get_op(GEMM)
    start = Case(recipe("normal", M=31, N=40, K=97, seed=999), options_of(op, "ieee")[0])
    runs = []

    def failing(case: Case) -> bool:
        runs.append(case)
        return fails(dict(case.recipe.dims)) or case == start

    found = smallest(op, "ieee", start, failing)
    if dims is not None:
        assert dict(found.recipe.dims) == dims
    else:
        assert 100 < found.recipe.dim("M") * found.recipe.dim("K") <= 110  # 1 x 101 at best
        assert found.recipe.dim("N") == 1
    assert size(op, found) <= size(op, start)
    assert found.recipe.seed == 0
    assert len(runs) < 1000
    assert smallest(op, "ieee", start, failing) == found


def test_a_failure_that_nothing_else_shows_is_kept() -> None:
    op = get_op(GEMM)
    start = Case(recipe("ramp", M=3, N=4, K=9, seed=12), options_of(op, "ieee")[0])
    assert smallest(op, "ieee", start, lambda case: case == start) == start


def test_the_search_writes_nothing(tmp_path: Path) -> None:
    code = (
        "import numpy as np\n"
        "from quantassay import check_kernel, Kernel\n"
        "from reference.int8_gemm import gemm\n"
        "def rare(a, b):\n"
        "    out = gemm(a, b)\n"
        "    return out + (out % 1000 == 7).astype(np.int32)\n"
        "k = Kernel('int8.gemm', 't', '', ('ieee',), rare)\n"
        "assert not check_kernel(k, 'ieee', device='emulator').passed\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {"PYTHONPATH": str(root), "PATH": "", "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


def test_the_sweep_has_every_batch_and_every_hidden_size() -> None:
    for name in ("int8.quantize_per_token", "int8.gemm", "int8.epilogue"):
        op = get_op(name)
        made = swept(op)
        assert {one.dim("M") for one in made} >= set(range(1, 34))
        wide = "K" if "K" in op.dims else "N"
        assert {one.dim(wide) for one in made} == set(HIDDEN)
        assert {one.kind for one in made} == set(op.kinds)
    deep = [one for one in swept(get_op("int8.gemm")) if one.dim("K") == 4096]
    assert max(one.dim("N") for one in deep) > 33
    grouped = swept(get_op("int8.gemm_group"))
    assert {one.dim("Q") * one.dim("G") for one in grouped} == set(HIDDEN)
    with_sweep = list(cases(get_op("int8.gemm"), "ieee", examples=3, seed=1, sweep=True))
    without = list(cases(get_op("int8.gemm"), "ieee", examples=3, seed=1))
    assert len(with_sweep) == len(without) + len(made)
    assert with_sweep[-3:] == without[-3:]
