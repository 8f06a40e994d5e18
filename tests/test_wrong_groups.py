"""Wrong group kernels in NumPy, each with one thing spoiled: the engine rejects every one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from quantassay import check_kernel
from reference import Kernel, int8_quantize
from reference.dialects import dialect
from reference.int8_group import (
    dequantize_per_group,
    quantize_per_group,
    quantize_static_per_group,
)
from reference.numerics import round_to, to_float32

f32 = np.float32


def _grouped(x: Any, amax: Any, name: str, floor: float = 0.0) -> tuple[Any, Any]:
    """Codes and scales of x (M, K) under amax (M, Q)."""
    spoken = dialect(name).under("group")
    groups = to_float32(x).reshape(*amax.shape, -1)
    with np.errstate(all="ignore"):
        scale = np.maximum(amax, f32(floor)) / f32(127)
        codes = int8_quantize.quantize_under(groups, scale[:, :, None], spoken)
    zero = np.where(scale[:, :, None] == 0, np.int8(0), codes)
    return zero.reshape(x.shape), round_to(scale, "fp32")


def _amax(x: Any, size: int, skip: bool = False) -> Any:
    groups = np.abs(to_float32(x)).reshape(x.shape[0], -1, size)
    return np.fmax.reduce(groups, axis=2) if skip else groups.max(axis=2)


def right(x: Any, group_size: int) -> Any:
    return _grouped(x, _amax(x, group_size), "ieee")


def late_boundary(x: Any, group_size: int) -> Any:
    """Takes the first element of each group with the group before it."""
    return _grouped(x, _amax(np.roll(x, -1, axis=1), group_size), "ieee")


def last_element_left_out(x: Any, group_size: int) -> Any:
    groups = x.reshape(x.shape[0], -1, group_size)[:, :, : max(1, group_size - 1)]
    return _grouped(x, _amax(groups.reshape(x.shape[0], -1), groups.shape[2]), "ieee")


def next_scale(x: Any, group_size: int) -> Any:
    """Stores each scale in the place of its neighbour."""
    codes, scales = quantize_per_group(x, group_size)
    return codes, np.roll(scales, 1, axis=1)


def transposed_scales(x: Any, group_size: int) -> Any:
    codes, scales = quantize_per_group(x, group_size)
    return codes, np.ascontiguousarray(scales.T).reshape(scales.shape)


def whole_row(x: Any, group_size: int) -> Any:
    amax = _amax(x, x.shape[1])
    return _grouped(x, np.repeat(amax, x.shape[1] // group_size, axis=1), "ieee")


def without_floor(x: Any, group_size: int) -> Any:
    return _grouped(x, _amax(x, group_size, skip=True), "vllm")


def floor_on_the_scale(x: Any, group_size: int) -> Any:
    return _grouped(x, _amax(x, group_size, skip=True), "vllm", floor=127 * 1e-10)


def rounded(x: Any, group_size: int) -> Any:
    """vLLM's formula, but to the nearest, as its per-token kernel."""
    _, scales = quantize_per_group(x, group_size, dialect="vllm")
    with np.errstate(all="ignore"):
        wide = to_float32(x).reshape(*scales.shape, -1) / scales[:, :, None]
        near = np.rint(np.fmin(np.fmax(wide, f32(-128)), f32(127))).astype(np.int8)
    return near.reshape(x.shape), scales


def nan_to_zero(x: Any, group_size: int) -> Any:
    codes, scales = quantize_per_group(x, group_size, dialect="vllm")
    return np.where(np.isnan(x), np.int8(0), codes), scales


WRONG = [
    (late_boundary, "ieee"),
    (last_element_left_out, "ieee"),
    (next_scale, "ieee"),
    (transposed_scales, "ieee"),
    (whole_row, "ieee"),
    (without_floor, "vllm"),
    (floor_on_the_scale, "vllm"),
    (rounded, "vllm"),
    (nan_to_zero, "vllm"),
]


def rejected(op: str, function: Callable[..., Any], name: str) -> bool:
    kernel = Kernel(op, "wrong", function.__name__, (name,), function)
    result = check_kernel(kernel, name, examples=24, device="emulator")
    assert result.passed == (result.mismatches == 0)
    return not result.passed


def test_the_right_one_passes() -> None:
    assert not rejected("int8.quantize_per_group", right, "ieee")


@pytest.mark.parametrize(("function", "name"), WRONG, ids=[one.__name__ for one, _ in WRONG])
def test_wrong_kernels_are_rejected(function: Callable[..., Any], name: str) -> None:
    assert rejected("int8.quantize_per_group", function, name)


def first_row(x: Any, scales: Any) -> Any:
    return quantize_static_per_group(x, scales[:1].copy())


def wrong_columns(codes: Any, scales: Any, *, out_dtype: str) -> Any:
    """Takes the scales as if groups lay Q apart."""
    spread = np.tile(scales, (1, codes.shape[1] // scales.shape[1]))
    return dequantize_per_group(codes, spread, out_dtype=out_dtype)


def test_wrong_given_scales_are_rejected() -> None:
    assert rejected("int8.quantize_static_per_group", first_row, "ieee")
    assert rejected("int8.dequantize_per_group", wrong_columns, "ieee")
