"""Inputs of the asymmetric ops, from recipes (recipes.py): what int8_asymmetric.py declares.

Contract: as recipes.py. Given scales are finite and > 0 and, for fp16 and bf16, values of x's
dtype; given zero points are -128 to 255, but for the kind LARGE, which has int32's ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import recipes
from reference.asymmetric import FAMILY, ZERO_POINTS, ZeroPoints, quantize_rows
from reference.dialects import dialect as get_dialect
from reference.numerics import INT32_MAX, Float32
from reference.op import Recipe

LARGE = "large_zero_points"  # a kind of static quantization, where zero points are not clamped


def _zero_points(made: Recipe, shape: tuple[int, ...], ends: tuple[int, ...]) -> ZeroPoints:
    """s32: one of `ends` or anything between the first and the last of them."""
    rng = np.random.default_rng([6, made.seed])
    values = rng.integers(ends[0], ends[-1] + 1, shape)
    return np.where(rng.random(shape) < 0.5, rng.choice(ends, shape), values).astype(np.int32)


def _given(made: Recipe, x: NDArray[Any], S: int) -> tuple[Float32, ZeroPoints]:
    """Scales near x's own, and zero points that every dialect and code dtype takes; or vLLM's own
    of rows far from 0, some of them int32's ends.
    """
    if made.kind == LARGE:
        _, own, points = quantize_rows(x, get_dialect("vllm").under(FAMILY), "s8")
        ends = _zero_points(made, (S,), (-INT32_MAX - 1, INT32_MAX))
        kept = np.arange(S) % 4 > 0
        return np.where(own[:S] > 0, own[:S], np.float32(1)), np.where(kept, points[:S], ends)
    scales = recipes.static_scales(made, x, S)
    return scales, _zero_points(made, (S,), (ZERO_POINTS[0], -1, 0, 127, 128, ZERO_POINTS[1]))


def _static_floats(made: Recipe, rows: int, columns: int) -> NDArray[Any]:
    made = replace(made, kind="offset") if made.kind == LARGE else made
    return recipes.floats(made, rows, columns)


def build_rows(name: str, rows: str) -> Callable[[Recipe], dict[str, Any]]:
    return lambda made: {name: recipes.floats(made, made.dim(rows), made.dim("K"))}


def build_groups(made: Recipe) -> dict[str, Any]:
    M, Q, G = (made.dim(symbol) for symbol in "MQG")
    return {"x": recipes.floats(made, M * Q, G).reshape(M, Q * G), "group_size": G}


def build_static(made: Recipe) -> dict[str, Any]:
    x = _static_floats(made, made.dim("M"), made.dim("K"))
    scales, zero_points = _given(made, x, len(x) if made.seed % 2 else 1)
    return {"x": x, "scales": scales, "zero_points": zero_points}


def build_static_groups(made: Recipe) -> dict[str, Any]:
    M, Q, G = (made.dim(symbol) for symbol in "MQG")
    x, S = _static_floats(made, M * Q, G), M if made.seed % 2 else 1
    given = _given(made, x, M * Q)
    scales, zero_points = (one.reshape(M, Q)[:S].copy() for one in given)
    return {"x": x.reshape(M, Q * G), "scales": scales, "zero_points": zero_points}


def build_codes(made: Recipe) -> dict[str, Any]:
    """Codes of either dtype under any scales and zero points, int32's ends among them."""
    sizes = dict(made.dims)
    M, Q = sizes["M"], sizes.get("Q")
    codes = recipes.codes(made, M, sizes["K"] if Q is None else Q * sizes["G"])
    S = M if made.seed % 2 else 1
    shape = (S,) if Q is None else (S, Q)
    ends = (-INT32_MAX - 1, -(1 << 24) - 1, -25628, -128, 0, 128, 255, INT32_MAX)
    return {
        "codes": codes.view(np.uint8) if made.seed % 4 < 2 else codes,
        "scales": recipes.scales(made, S * (Q or 1)).reshape(shape),
        "zero_points": _zero_points(made, shape, ends),
    }
