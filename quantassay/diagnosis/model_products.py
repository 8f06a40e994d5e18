"""Integer GEMMs, their epilogues and what is built of them, with knobs.

Contract: unturned knobs give the contracts of reference/int8_gemm.py, int8_gemm_azp.py,
int8_gemm_requantize.py, int8_gemm_packed.py, int8_pack.py and int8_linear.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from quantassay.diagnosis.knobs import ACCUMULATES, FORMATS, ORDERS, Settings, narrow
from quantassay.diagnosis.model_rows import (
    Array,
    Inputs,
    Outputs,
    out_rounding,
    quantize_rows,
    signed,
)
from reference.numerics import Float32, canonical_nan, dtype_name, to_float32

F32 = np.float32


def gemm(a: Array, b: Array, knobs: Settings) -> Array:
    """a: s8 or u8 (M, K), b: s8 (N, K) -> s32 (M, N)."""
    left, right = operands(a, b, knobs)
    acc = ACCUMULATES[knobs.get("accumulate", "int32")](left, right)
    if knobs.get("acc_layout") == "NM":
        acc = np.ascontiguousarray(acc.T).reshape(len(left), len(right))
    return acc


def operands(a: Array, b: Array, knobs: Settings) -> tuple[Array, Array]:
    """a and b as int64, as the kernel reads them."""
    (M, K), N = a.shape, b.shape[0]
    left, right = signed(a, knobs.get("a_type")), signed(b, knobs.get("b_type"))
    if knobs.get("b_layout") == "KN":
        right = right.reshape(K, N).T
    if knobs.get("a_layout") == "KM":
        left = left.reshape(K, M).T
    if "a_row" in knobs:
        left = left[knobs["a_row"](M, N)]
    if "b_row" in knobs:
        right = right[knobs["b_row"](N, M)]
    if "k_of" in knobs:
        kept = knobs["k_of"](K)
        left, right = left[:, kept], right[:, kept]
    return left, right


def epilogue(
    acc: Array, a_scales: Float32, b_scales: Float32, bias: Float32 | None, knobs: Settings
) -> Array:
    """acc: s32 (M, N); a_scales: (M,) or (1,); b_scales: (N,) or (1,); bias: (N,). Returns
    out_dtype (M, N).
    """
    M, N = acc.shape
    a_scales, b_scales = np.resize(a_scales, M), np.resize(b_scales, N)
    a = FORMATS[knobs.get("a_scale_format", "fp32")](a_scales)
    b = FORMATS[knobs.get("b_scale_format", "fp32")](b_scales)
    a, b = (
        _spread(a, M, N, knobs.get("a_scale_at")),
        _spread(b, N, M, knobs.get("b_scale_at")),
    )
    plus = None
    if bias is not None and knobs.get("bias", "") != "none":
        plus = FORMATS[knobs.get("bias_format", "fp32")](bias)
        plus = _spread(plus, N, M, knobs.get("bias_at")).T
    if knobs.get("acc_format") == "toward zero":
        base = narrow(acc.astype(np.float64), "fp32", "rz")
    else:
        base = FORMATS[knobs.get("acc_format", "fp32")](acc.astype(F32))
    out = ORDERS[knobs["epilogue"]](base, a, b.T, plus)
    name = str(knobs["out_dtype"])
    if knobs.get("bias") == "after rounding" and bias is not None:
        rounded = to_float32(narrow(ORDERS[knobs["epilogue"]](base, a, b.T, None), name))
        out = rounded + np.broadcast_to(plus if plus is not None else F32(0), out.shape)
    return narrow(out, name, out_rounding(name, knobs))


def _spread(vector: Float32, length: int, other: int, at: Any) -> Float32:
    """The vector as (length, 1), or with the index that `at` gives: (length, 1 or other)."""
    if at == "swapped":  # indexed by the other axis: element (i, j) takes entry j
        return np.broadcast_to(vector[np.arange(other) % length], (length, other))
    return vector[at(length, other)][:, None] if at is not None else vector[:, None]


def _gemm(inputs: Inputs, knobs: Settings) -> Outputs:
    return (gemm(inputs["a"], inputs["b"], knobs),)


def _batched(inputs: Inputs, knobs: Settings) -> Outputs:
    a, b = inputs["a"], inputs["b"]
    if "a_matrix" in knobs:
        a = a[knobs["a_matrix"](len(a), 1)]
    if "b_matrix" in knobs:
        b = b[knobs["b_matrix"](len(b), 1)]
    out = np.stack([gemm(one, other, knobs) for one, other in zip(a, b, strict=True)])
    if knobs.get("batch") == "summed":
        out = np.broadcast_to(out.sum(axis=0, dtype=np.int32), out.shape)
    if knobs.get("batch_layout") == "MBN":
        out = np.ascontiguousarray(out.transpose(1, 0, 2)).reshape(out.shape)
    return (out,)


def _epilogue(inputs: Inputs, knobs: Settings) -> Outputs:
    return (epilogue(inputs["acc"], *_vectors(inputs), knobs),)


def _vectors(inputs: Inputs) -> tuple[Any, Any, Any]:
    return inputs["a_scales"], inputs["b_scales"], inputs["bias"]


def _gemm_dequant(inputs: Inputs, knobs: Settings) -> Outputs:
    return (epilogue(gemm(inputs["a"], inputs["b"], knobs), *_vectors(inputs), knobs),)


def _linear(inputs: Inputs, knobs: Settings) -> Outputs:
    codes, scales = quantize_rows(inputs["x"], None, knobs)
    acc = gemm(codes, inputs["w_codes"], knobs)
    return (epilogue(acc, scales, inputs["w_scales"], inputs["bias"], knobs),)


# --- zero points


def _column_sums(inputs: Inputs, knobs: Settings) -> Outputs:
    b = inputs["b"]
    ones = np.ones((1, b.shape[1]), np.int8)
    if knobs.get("sums") == "of the other axis":
        by_column = signed(b, knobs.get("b_type")).sum(axis=0)
        return (np.resize(by_column, len(b)).astype(np.int32),)
    if knobs.get("sums") == "magnitudes":
        return (np.abs(signed(b, None)).sum(axis=1).astype(np.int32),)
    sums = np.ascontiguousarray(gemm(ones, b, knobs)[0])
    return (-sums if knobs.get("sums") == "negated" else sums,)


def _gemm_azp(inputs: Inputs, knobs: Settings) -> Outputs:
    a, b = inputs["a"], inputs["b"]
    (M, K), N = a.shape, len(b)
    kind = knobs.get("a_type")
    if kind == "other":
        kind = {"u8": "s8", "s8": "u8"}[str(dtype_name(a.dtype))]
    acc = gemm(a, b, {**knobs, "a_type": kind})
    zero_points = np.resize(inputs["zero_points"], M).astype(np.int64)
    sums = inputs["column_sums"].astype(np.int64)
    azp = _axis(zero_points, M, N, knobs.get("zero_point_row"))
    of_columns = _axis(sums, N, M, knobs.get("sums_at")).T
    how = str(knobs.get("azp", "subtracted"))
    if how == "in fp32":
        exact = acc.astype(F32) - azp.astype(F32) * of_columns.astype(F32)
        return (_float_epilogue(exact, inputs, knobs),)
    if how == "in fp32 fma":
        share = azp.astype(np.float64) * of_columns
        exact = (acc.astype(F32).astype(np.float64) - share).astype(F32)
        return (_float_epilogue(exact, inputs, knobs),)
    exact = AZPS[how](acc.astype(np.int64), azp, of_columns, K)
    return (epilogue(exact, *_vectors(inputs), knobs),)


def _axis(vector: Array, length: int, other: int, at: Any) -> Array:
    """As `_spread`, of integers."""
    if at == "swapped":
        return np.broadcast_to(vector[np.arange(other) % length], (length, other))
    return vector[at(length, other)][:, None] if at is not None else vector[:, None]


def _float_epilogue(exact: Float32, inputs: Inputs, knobs: Settings) -> Array:
    a, b, bias = _vectors(inputs)
    M, N = exact.shape
    out = ORDERS[knobs["epilogue"]](exact, np.resize(a, M)[:, None], np.resize(b, N)[None, :], bias)
    return narrow(canonical_nan(out), str(knobs["out_dtype"]))


def _int32(values: Array) -> Array:
    return values.astype(np.int32)


AZPS: dict[str, Callable[[Array, Array, Array, int], Array]] = {
    "subtracted": lambda acc, azp, sums, K: _int32(acc - azp * sums),
    "added": lambda acc, azp, sums, K: _int32(acc + azp * sums),
    "not at all": lambda acc, azp, sums, K: _int32(acc + 0 * azp * sums),
    "once": lambda acc, azp, sums, K: _int32(acc - azp + 0 * sums),
    "times K": lambda acc, azp, sums, K: _int32(acc - azp * K + 0 * sums),
    "sums alone": lambda acc, azp, sums, K: _int32(acc - sums + 0 * azp),
    "saturated": lambda acc, azp, sums, K: _int32(
        np.clip(acc - np.clip(azp * sums, -(2**31), 2**31 - 1), -(2**31), 2**31 - 1)
    ),
    "zero point in 8 bits": lambda acc, azp, sums, K: _int32(acc - azp.astype(np.int8) * sums),
    "zero point in unsigned 8 bits": lambda acc, azp, sums, K: _int32(
        acc - azp.astype(np.uint8).astype(np.int64) * sums
    ),
    "zero point in 16 bits": lambda acc, azp, sums, K: _int32(acc - azp.astype(np.int16) * sums),
}


# --- codes out


def _requantize(inputs: Inputs, knobs: Settings) -> Outputs:
    acc = gemm(inputs["a"], inputs["b"], knobs)
    value = epilogue(acc, *_vectors(inputs), {**knobs, "out_dtype": "fp32"})
    value = FORMATS[knobs.get("value_format", "fp32")](value)
    if knobs.get("out_scale") == "none":
        return (quantize_rows(value, np.ones(1, F32), knobs)[0],)
    if knobs.get("out_scale") == "with the scales":
        joined = np.resize(inputs["a_scales"], len(acc)) / inputs["out_scale"]
        vectors = joined, inputs["b_scales"], inputs["bias"]
        if inputs["bias"] is not None:
            vectors = *vectors[:2], inputs["bias"] / inputs["out_scale"]
        value = epilogue(acc, *vectors, {**knobs, "out_dtype": "fp32"})
        return (quantize_rows(value, np.ones(1, F32), knobs)[0],)
    return (quantize_rows(value, inputs["out_scale"], knobs)[0],)


# --- packed weights: pieces of 8 rows and 64 columns, row after row

ROWS, COLUMNS = 8, 64


def _transpose(inputs: Inputs, knobs: Settings) -> Outputs:
    w = inputs["w"]
    K, N = w.shape
    how = str(knobs.get("transpose", ""))
    if how == "copied":
        return (w.reshape(N, K).copy(),)
    if how.startswith("tiles of "):  # the tiles change places, their insides do not
        size = int(how[9:])
        k, n = np.arange(K)[None, :], np.arange(N)[:, None]
        from_k, from_n = k // size * size + n % size, n // size * size + k % size
        inside = (from_k < K) & (from_n < N)  # beyond: as it should be
        return (np.where(inside, w[from_k % K, from_n % N], w[k, n]),)
    out = np.empty((N, K), w.dtype)
    for at in range(K):
        out[:, at] = w[at]
    return (out,)


def _pack(inputs: Inputs, knobs: Settings) -> Outputs:
    w = inputs["w_codes"]
    N, K = w.shape
    chunks = -(-K // COLUMNS)
    place = np.arange(ROWS * COLUMNS)
    row, column = place // COLUMNS, place % COLUMNS
    how = str(knobs.get("pack", "rows"))
    if how == "columns":
        row, column = place % ROWS, place // ROWS
    elif how.startswith("words"):  # 4 neighbours at a time, rows within
        word, at = place // 4, place % 4
        row, column = word % ROWS, word // ROWS * 4 + at
    elif how == "halves swapped":
        column = column ^ 32
    k = np.arange(chunks)[None, :, None] * COLUMNS + column
    n = np.arange(N // ROWS)[:, None, None] * ROWS + row
    if how == "rows far apart":
        n = np.arange(N // ROWS)[:, None, None] + row * (N // ROWS)
    n, k = np.broadcast_arrays(n, k)
    beyond = str(knobs.get("beyond", "zeros"))
    inside = k < K
    if beyond == "the next row":
        flat = np.minimum(n * K + k, N * K - 1)
        return (w.ravel()[flat],)
    if beyond == "the last":
        return (w[n, np.minimum(k, K - 1)],)
    if beyond == "wrapped":
        return (w[n, k % K],)
    return (np.where(inside, w[n, np.minimum(k, K - 1)], np.int8(0)),)


def _packed(inputs: Inputs, knobs: Settings) -> Outputs:
    a, packed = inputs["a"], inputs["packed"]
    K, (P, C, _) = a.shape[1], packed.shape
    order = str(knobs.get("packed", "rows"))
    if order == "columns":
        pieces = packed.reshape(P, C, COLUMNS, ROWS).transpose(0, 3, 1, 2)
    elif order == "plain":
        pieces = packed.reshape(P, ROWS, C, COLUMNS)
    elif order == "chunks first":
        pieces = packed.reshape(C, P, ROWS, COLUMNS).transpose(1, 2, 0, 3)
    else:
        pieces = packed.reshape(P, C, ROWS, COLUMNS).transpose(0, 2, 1, 3)
    b = pieces.reshape(P * ROWS, C * COLUMNS)[:, :K]
    return (epilogue(gemm(a, b, knobs), *_vectors(inputs), knobs),)


MODELS: dict[str, Callable[[Inputs, Settings], Outputs]] = {
    "int8.gemm": _gemm,
    "int8.gemm_batched": _batched,
    "int8.epilogue": _epilogue,
    "int8.gemm_dequant": _gemm_dequant,
    "int8.linear": _linear,
    "int8.column_sums": _column_sums,
    "int8.gemm_azp": _gemm_azp,
    "int8.gemm_requantize": _requantize,
    "int8.transpose": _transpose,
    "int8.pack": _pack,
    "int8.gemm_packed": _packed,
}
