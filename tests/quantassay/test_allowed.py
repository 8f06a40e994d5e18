"""Approximate divisions in the engine: what lies in the allowed set is counted, the rest is wrong.

Planted in NumPy, in dialect sglang (div.full, 2 ulp): kernels whose divisions are off by so many
float32 to either side.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from quantassay import check_kernel, cli
from quantassay.compare import compare
from reference import get_op, recipe
from reference.approximate import allowed
from reference.int8_quantize import half_away
from reference.numerics import canonical_nan, to_float32
from reference.op import Kernel

F32 = np.float32
TOKEN = get_op("int8.quantize_per_token")
SPOKEN = {"dialect": "sglang"}
Rounding = Callable[[Any], Any]


def off(values: Any, steps: int) -> Any:
    """The float32 so many steps from each finite positive value."""
    patterns = np.ascontiguousarray(values).view(np.int32)
    moved = np.maximum(patterns + steps, 0).view(F32)
    return np.where(np.isfinite(values) & (values > 0) & np.isfinite(moved), moved, values)


def planted(scale_steps: int = 0, factor_steps: int = 0, rounding: Rounding = half_away) -> Kernel:
    """SGLang's per_token_quant_int8 with divisions that are off."""

    def kernel(x: Any) -> Any:
        wide = to_float32(x)
        amax = np.fmax.reduce(np.abs(wide), axis=1, keepdims=True, initial=F32(1e-10))
        scale = off(canonical_nan(amax / F32(127)), scale_steps)
        quotient = rounding(wide * off(F32(127) / amax, factor_steps))
        codes = np.where(np.isnan(quotient), 0, np.clip(quotient, -128, 127))
        return codes.astype(np.int8), scale[:, 0].copy()

    return Kernel(TOKEN.name, "planted", "", ("sglang",), kernel)


def checked(kernel: Kernel) -> Any:
    return check_kernel(kernel, "sglang", examples=10, device="emulator")


def test_the_oracles_bits_need_no_allowance() -> None:
    result = checked(planted())
    assert (result.passed, result.allowed, result.approximate) == (True, 0, True)
    exact = Kernel(TOKEN.name, "exact", "", ("ieee",), lambda x: TOKEN.oracle(x, dialect="ieee"))
    assert not check_kernel(exact, "ieee", examples=0, device="emulator").approximate


@pytest.mark.parametrize("steps", [-2, -1, 1, 2])
def test_two_ulp_pass_and_are_counted(steps: int, capsys: pytest.CaptureFixture[str]) -> None:
    result = checked(planted(steps, steps))
    assert result.passed, result.counterexample
    assert result.mismatches == 0 < result.allowed < result.elements
    assert json.loads(json.dumps(cli.as_json([result], 10, 0)))["checks"][0]["allowed"] > 0
    cli.show([result])
    heading, row = capsys.readouterr().out.splitlines()[:2]
    assert heading.split()[-2:] == ["allowed", "seconds"]
    assert f"{result.allowed:,}" in row.split()


@pytest.mark.parametrize("steps", [-3, 3])
def test_a_factor_beyond_the_bound_is_wrong_where_a_code_changes(steps: int) -> None:
    result = checked(planted(0, steps))
    assert result.mismatches > 0
    words = str(result.counterexample)
    assert "codes[" in words
    assert ", allowed " in words
    shown = result.counterexample.mismatch["differences"][0]
    assert shown["allowed"].count(" to ") == 1
    assert "beside_ties(K=" in result.counterexample.case
    assert "instead of dividing" not in words  # a wider set explains nothing


@pytest.mark.parametrize("steps", [-3, 3])
def test_three_ulp_are_wrong_on_an_element_that_they_move(steps: int) -> None:
    """Elements a few float32 from a tie: some lie where 3 ulp of the factor reach and 2 do not."""
    x = TOKEN.build(recipe("near_ties", M=64, K=256, seed=1))["x"]
    nudged = off(np.abs(x), 1) - np.abs(x)  # one step, by an element's size
    x = x + nudged * np.random.default_rng(2).integers(-4, 5, x.shape).astype(F32)
    x = np.ascontiguousarray(x)
    bounds = allowed(TOKEN.name, {"x": x}, SPOKEN)
    expected = TOKEN.expected({"x": x}, **SPOKEN)

    def compared(steps: int) -> Any:
        got = planted(0, steps).function(x)
        return compare(TOKEN, {"x": x}, SPOKEN, got, expected, bounds)

    assert compared(steps // 3 * 2) is None
    mismatch = compared(steps)
    assert mismatch is not None
    assert mismatch.output == "codes"


@pytest.mark.parametrize("steps", [-12, 12])
def test_a_scale_beyond_the_bound_is_wrong(steps: int) -> None:
    result = checked(planted(steps, 0))
    assert not result.passed
    assert "scales[" in result.counterexample.words
    assert ", allowed " in result.counterexample.words


@pytest.mark.parametrize("steps", [0, 2])
def test_a_wrong_rounding_is_named_beside_an_approximate_division(steps: int) -> None:
    result = checked(planted(0, steps, np.trunc))
    assert not result.passed
    assert "truncates toward zero" in result.counterexample.reason
    assert "reproduces all" in result.counterexample.evidence
