"""The checker bites: every planted wrong kernel is rejected, quickly and for the right reason."""

from __future__ import annotations

import pytest

from quantassay import CheckResult, check_kernel
from tests.wrong.host import HOST
from tests.wrong.planted import CUDA, RIGHT, Planted
from tests.wrong.planted_asymmetric import ASYMMETRIC
from tests.wrong.planted_dialects import DIALECTS, DIALECTS_RIGHT
from tests.wrong.planted_families import FAMILIES, FAMILIES_RIGHT
from tests.wrong.planted_numpy import FURTHER
from tests.wrong.planted_values import VALUES

SECONDS = 30.0  # compiling, finding, shrinking and explaining; a few at most on an idle core
WRONG = (*CUDA, *DIALECTS, *FAMILIES, *HOST, *FURTHER, *VALUES, *ASYMMETRIC)
NAMES = [one.name for one in WRONG]
TWINS = (*RIGHT, *DIALECTS_RIGHT, *FAMILIES_RIGHT)


def checked(planted: Planted) -> CheckResult:
    return check_kernel(planted.kernel(), planted.dialect, examples=24, seed=0, device="emulator")


@pytest.mark.parametrize("planted", WRONG, ids=NAMES)
def test_a_wrong_kernel_is_rejected_with_its_reason(planted: Planted) -> None:
    result = checked(planted)
    assert result.counterexample is not None
    assert result.mismatches > 0
    reason = result.counterexample.reason
    missing = [words for words in planted.words if words.lower() not in reason.lower()]
    assert not missing, f"{missing} not in: {reason}"
    assert result.seconds < SECONDS


@pytest.mark.parametrize("planted", TWINS, ids=[one.name for one in TWINS])
def test_without_the_planted_line_the_twin_is_right(planted: Planted) -> None:
    result = checked(planted)
    assert result.counterexample is None, str(result.counterexample)
    assert result.cases > 24


def test_there_are_enough_of_them_and_each_is_its_own() -> None:
    assert len(CUDA) >= 16
    assert len(FAMILIES) >= 20
    assert len(NAMES) >= 120
    assert len(set(NAMES)) == len(NAMES)
