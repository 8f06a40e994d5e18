"""Rounding to fp16 and bf16, and fma32, against torch and gfloat: two other implementations."""

from __future__ import annotations

import gfloat
import gfloat.formats
import numpy as np
import pytest
import torch

from reference.numerics import fma32, round_to
from tests.packages.tensors import array, tensor

PATTERNS = 10_000_000
TORCH = {"fp16": torch.float16, "bf16": torch.bfloat16}
GFLOAT = {"fp16": gfloat.formats.format_info_binary16, "bf16": gfloat.formats.format_info_bfloat16}


def _floats(count: int) -> np.ndarray:
    """fp32 of all exponents, every third within a step of a tie of either format."""
    rng = np.random.default_rng(11)
    bits = rng.integers(0, 1 << 32, count, dtype=np.uint64).astype(np.uint32)
    for step, keep in ((0, 16), (1, 13)):
        near = bits[step::3]
        near &= np.uint32(0xFFFFFFFF << keep & 0xFFFFFFFF)
        near += np.uint32(1 << keep - 1)
        near += rng.integers(-1, 2, near.size).astype(np.uint32)
        bits[step::3] = near
    return bits.view(np.float32)


@pytest.mark.parametrize("name", TORCH)
def test_rounding_is_torch_s(name: str) -> None:
    x = _floats(PATTERNS)
    ours, theirs = round_to(x, name), array(tensor(x).to(TORCH[name]))
    same = (ours.view(np.uint16) == theirs.view(np.uint16)) | (np.isnan(ours) & np.isnan(theirs))
    assert same.all(), x[~same][:5]


@pytest.mark.parametrize("name", GFLOAT)
def test_rounding_is_gfloat_s(name: str) -> None:
    x = _floats(200_000)
    x = x[np.isfinite(x)]
    theirs = gfloat.round_ndarray(GFLOAT[name], x.astype(np.float64))
    np.testing.assert_array_equal(round_to(x, name).astype(np.float64), theirs)


def test_fma_is_torch_s() -> None:
    """torch.addcmul in float64 of exact products, where no second rounding can show."""
    rng = np.random.default_rng(12)
    a, b, c = (rng.integers(-(2**11), 2**11, PATTERNS).astype(np.float32) for _ in range(3))
    wide = torch.addcmul(*(tensor(v).double() for v in (c, a, b)))
    np.testing.assert_array_equal(fma32(a, b, c), array(wide.float()))
