"""Norms that are wrong by one step are rejected by the checker, and the right one is not."""

from __future__ import annotations

import pytest

from quantassay import check_kernel
from tests.wrong.norm import RIGHT, WRONG
from tests.wrong.planted import Planted


@pytest.mark.parametrize("planted", WRONG, ids=[one.name for one in WRONG])
def test_a_wrong_norm_is_rejected(planted: Planted) -> None:
    result = check_kernel(planted.kernel(), planted.dialect, examples=24, seed=0, device="emulator")
    assert result.mismatches > 0
    assert result.error is None


def test_the_right_norm_passes() -> None:
    result = check_kernel(RIGHT.kernel(), "ieee", examples=24, seed=0, device="emulator")
    assert result.mismatches == 0, str(result.counterexample)
