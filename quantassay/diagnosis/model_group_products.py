"""Products whose scales go by group along K: the group GEMM and the weight-only linear, with knobs.

Contract: unturned knobs give the contracts of reference/int8_gemm_group.py and
int8_weight_only.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from quantassay.diagnosis.knobs import ACCUMULATES, FORMATS, Settings, narrow
from quantassay.diagnosis.model_products import operands
from quantassay.diagnosis.model_rows import Array, Inputs, Outputs, out_rounding, signed, spread
from quantassay.diagnosis.sums import sum_of
from reference.numerics import Float32, canonical_nan, dtype_name, fma32, to_float32

F32 = np.float32
LANES = 32  # of a weight-only row


def _fused(a: Array, b: Array, c: Array) -> Array:
    return fma32(*np.broadcast_arrays(a, b, c))


GROUP_ORDERS: dict[str, Callable[[Array, Array, Array, Array], Array]] = {
    "sum+acc*sB*sA": lambda total, acc, a, b: total + acc * b * a,
    "fma(acc*sA, sB, sum)": lambda total, acc, a, b: _fused(acc * a, b, total),
    "sum+acc*sA*sB": lambda total, acc, a, b: total + acc * a * b,
    "fma(acc*sB, sA, sum)": lambda total, acc, a, b: _fused(acc * b, a, total),
    "sum+acc*(sA*sB)": lambda total, acc, a, b: total + acc * (a * b),
    "fma(acc, sA*sB, sum)": lambda total, acc, a, b: _fused(acc, a * b, total),
    "sum+acc*sA": lambda total, acc, a, b: total + acc * (a + 0 * b),
    "sum+acc*sB": lambda total, acc, a, b: total + acc * (b + 0 * a),
}


def gemm_group(inputs: Inputs, knobs: Settings) -> Outputs:
    a, b = inputs["a"], inputs["b"]
    Q = inputs["a_scales"].shape[1]
    s_a, s_b = _scales(inputs["a_scales"], "a", knobs), _scales(inputs["b_scales"], "b", knobs)
    accs = [
        _accumulated(a[:, part], b[:, part], knobs)
        for part in (slice(g * a.shape[1] // Q, (g + 1) * a.shape[1] // Q) for g in range(Q))
    ]
    bias = inputs["bias"]
    total = _total(accs, s_a, s_b, bias, knobs)
    with_bias = bias is not None and knobs.get("bias") not in ("none", "first")
    total = total + bias if with_bias else total
    name = str(knobs["out_dtype"])
    return (narrow(canonical_nan(total), name, out_rounding(name, knobs)),)


def _scales(scales: Float32, which: str, knobs: Settings) -> Float32:
    """Scales (rows, Q) as the kernel finds them."""
    scales = FORMATS[knobs.get(f"{which}_scale_format", "fp32")](scales)
    rows, Q = scales.shape
    if knobs.get(f"{which}_scales_layout") == "QN":
        scales = scales.reshape(Q, rows).T
    if f"{which}_scale_at" in knobs:
        scales = scales[knobs[f"{which}_scale_at"](rows, Q)]
    if f"{which}_group_at" in knobs:
        scales = scales[:, knobs[f"{which}_group_at"](Q, rows)]
    return scales


def _accumulated(a: Array, b: Array, knobs: Settings) -> Float32:
    left, right = operands(a, b, knobs)
    return ACCUMULATES[knobs.get("accumulate", "int32")](left, right).astype(F32)


def _total(
    accs: list[Float32], s_a: Float32, s_b: Float32, bias: Float32 | None, knobs: Settings
) -> Float32:
    order, Q = str(knobs.get("group_order", "ascending")), len(accs)
    step = GROUP_ORDERS.get(str(knobs["group_epilogue"]))
    zero = np.zeros_like(accs[0])
    if step is None:  # "fp64"
        exact = sum(
            acc.astype(np.float64) * s_a[:, g, None] * s_b[None, :, g] for g, acc in enumerate(accs)
        )
        return np.asarray(exact).astype(F32)
    if order == "pairwise":
        return _pairs([step(zero, acc, s_a[:, g, None], s_b[None, :, g])
                       for g, acc in enumerate(accs)])  # fmt: skip
    if order == "first scales":
        return step(zero, sum(accs[1:], accs[0]), s_a[:, 0, None], s_b[None, :, 0])
    turns = {
        "ascending": range(Q),
        "descending": range(Q - 1, -1, -1),
        "without the last": range(Q - 1),
        "without the first": range(1, Q),
        "even, then odd": [*range(0, Q, 2), *range(1, Q, 2)],
        "the last alone": [Q - 1],
    }[order]
    total = zero if bias is None or knobs.get("bias") != "first" else zero + bias
    for g in turns:
        total = step(total, accs[g], s_a[:, g, None], s_b[None, :, g])
        if "sum_format" in knobs:
            total = FORMATS[knobs["sum_format"]](total)
    return np.asarray(total, F32)


def _pairs(parts: list[Any]) -> Float32:
    while len(parts) > 1:
        joined = [x + y for x, y in zip(parts[::2], parts[1::2], strict=False)]
        parts = joined + parts[len(joined) * 2 :]
    return np.asarray(parts[0], F32)


def weight_only(inputs: Inputs, knobs: Settings) -> Outputs:
    x, codes = inputs["x"], inputs["w_codes"]
    N, K = codes.shape
    form = FORMATS[str(dtype_name(x.dtype))]
    scales = FORMATS[knobs.get("scale_format", "fp32")](inputs["w_scales"])
    if knobs.get("scales_layout") == "QN":
        scales = scales.reshape(scales.shape[::-1]).T
    whole = signed(codes, knobs.get("b_type")).astype(F32)
    scale = spread(scales, N, K, knobs)
    late = knobs.get("scaled") == "after the sum"
    w = whole if late else canonical_nan(whole * scale)
    if knobs["intermediate"] == "input" and not late:
        w = form(w)
    wide = to_float32(x)
    if knobs.get("x_format"):
        wide = FORMATS[knobs["x_format"]](wide)
    if "k_of" in knobs:
        w, wide = w[:, knobs["k_of"](K)], wide[:, knobs["k_of"](K)]
    total = sum_of(wide[:, None, :], w[None], str(knobs["reduction"]), LANES)
    if late:
        total = total * scales[None, :, 0]
    bias = inputs["bias"]
    if bias is not None and knobs.get("bias") != "none":
        bias = FORMATS[knobs.get("bias_format", "fp32")](bias)
        name = str(knobs["out_dtype"])
        if knobs.get("bias") == "after rounding":
            total = FORMATS[name](canonical_nan(total))
        total = total + bias
    name = str(knobs["out_dtype"])
    return (narrow(canonical_nan(total), name, out_rounding(name, knobs)),)


MODELS: dict[str, Callable[[Inputs, Settings], Outputs]] = {
    "int8.gemm_group": gemm_group,
    "int8.weight_only_linear": weight_only,
}
