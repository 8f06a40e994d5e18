"""Argument checks of the oracle and of both wings: one validation, written once.

Contract: every message names the argument, what was got and what is allowed. Nothing is clamped,
copied or converted. A wrong dtype or something that is no array is a TypeError; a wrong rank,
size, layout or value a ValueError. Arrays are duck-typed (`dtype`, `shape`, `strides`), so that
NumPy and CuPy arrays pass the same checks; only `check_static` reads values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from reference.dialects import CORE, DIALECTS, Dialect, dialect
from reference.numerics import RANGES, dtype_name, k_limit

FLOATS = ("fp32", "fp16", "bf16")
K_MAX = k_limit(RANGES["s8"], RANGES["s8"])


def check_array(name: str, array: Any, dtypes: Sequence[str], rank: int) -> tuple[int, ...]:
    """An array of one of `dtypes`, of this rank, C-contiguous and not empty. Returns its shape."""
    parts = (getattr(array, part, None) for part in ("dtype", "shape", "strides"))
    if any(part is None for part in parts) or not isinstance(array.shape, tuple):
        raise TypeError(f"{name}: got {type(array).__name__}; allowed: a NumPy or CuPy array")
    if dtype_name(array.dtype) not in dtypes:
        raise TypeError(f"{name}: got dtype {array.dtype}; allowed: {', '.join(dtypes)}")
    shape = tuple(int(side) for side in array.shape)
    if len(shape) != rank:
        raise ValueError(f"{name}: got {len(shape)} dimensions, shape {shape}; allowed: {rank}")
    if 0 in shape:
        raise ValueError(f"{name}: got the empty shape {shape}; allowed: every size >= 1")
    if not _contiguous(shape, array):
        raise ValueError(
            f"{name}: got strides {tuple(array.strides)} for shape {shape}; "
            f"allowed: C-contiguous (see numpy.ascontiguousarray)"
        )
    return shape


def _contiguous(shape: tuple[int, ...], array: Any) -> bool:
    expected = array.dtype.itemsize
    for side, stride in zip(reversed(shape), reversed(array.strides), strict=True):
        if side != 1 and stride != expected:
            return False
        expected *= side
    return True


def check_vector(name: str, array: Any, lengths: dict[int, str]) -> None:
    """A contiguous fp32 vector whose length is a key of `lengths` (length -> what it means)."""
    (got,) = check_array(name, array, ("fp32",), 1)
    if got not in lengths:
        allowed = " or ".join(f"{size} ({why})" for size, why in lengths.items())
        raise ValueError(f"{name}: got {got} elements; allowed: {allowed}")


def check_dialect(name: str, allowed: Sequence[str]) -> Dialect:
    """The dialect of that name, if it is one of `allowed`. Raises ValueError."""
    if name not in allowed:
        raise ValueError(f"dialect: got {name!r}; allowed: {', '.join(allowed)}")
    return dialect(name)


def check_out_dtype(out_dtype: Any) -> None:
    if out_dtype not in FLOATS:
        raise ValueError(f"out_dtype: got {out_dtype!r}; allowed: {', '.join(FLOATS)}")


def check_quantize(
    x: Any, dialect_name: str, name: str = "x", allowed: Sequence[str] = tuple(DIALECTS)
) -> Dialect:
    """x: fp32, fp16 or bf16 (rows, columns), of a dtype that the dialect accepts.

    allowed: the dialects that the op speaks.
    """
    spoken = check_dialect(dialect_name, allowed)
    check_array(name, x, FLOATS, 2)
    if dtype_name(x.dtype) not in spoken.inputs:
        raise TypeError(
            f"{name}: got dtype {x.dtype}; allowed in dialect {spoken.name}: "
            f"{', '.join(spoken.inputs)}"
        )
    return spoken


def check_static(
    x: Any, scales: Any, dialect_name: str, allowed: Sequence[str] = tuple(DIALECTS)
) -> Dialect:
    """As `check_quantize`, and scales: fp32, one for all or one per row, finite and > 0."""
    spoken = check_quantize(x, dialect_name, allowed=allowed)
    _check_scales("scales", scales, int(x.shape[0]))
    check_kept("scales", check_positive("scales", scales), x, spoken)
    return spoken


def check_kept(name: str, values: Any, x: Any, spoken: Dialect) -> None:
    """Every element a value of x's dtype, in a dialect that computes in it."""
    if spoken.arithmetic != "input":
        return
    inexact = np.argwhere(values.astype(x.dtype).astype(np.float32) != values)
    if inexact.size:
        where = tuple(int(i) for i in inexact[0])
        index = where[0] if len(where) == 1 else where
        raise ValueError(
            f"{name}: got {values[where]} at index {index}; allowed in dialect {spoken.name}: "
            f"values of {dtype_name(x.dtype)}, the dtype that it stores them in"
        )


def check_positive(name: str, array: Any) -> Any:
    """Every element finite and > 0. Returns the values as a NumPy array; reads device memory."""
    values = array.get() if hasattr(array, "get") else array
    bad = np.argwhere(~(np.isfinite(values) & (values > 0)))
    if bad.size:
        where = tuple(int(i) for i in bad[0])
        index = where[0] if len(where) == 1 else where
        raise ValueError(f"{name}: got {values[where]} at index {index}; allowed: finite and > 0")
    return values


def _check_scales(name: str, scales: Any, rows: int) -> None:
    check_vector(name, scales, {1: "per-tensor", rows: "one per row"})


def check_group_size(group_size: Any, depth: int, name: str = "x") -> int:
    """An int >= 1 that divides `depth`, the K of argument `name`. Returns the groups in a row."""
    if not isinstance(group_size, int) or isinstance(group_size, bool):
        raise TypeError(
            f"group_size: got {group_size!r}, a {type(group_size).__name__}; allowed: an int"
        )
    if group_size < 1 or depth % group_size:
        raise ValueError(
            f"group_size: got {group_size}; allowed: a divisor of K = {depth}, "
            f"the last axis of {name}"
        )
    return depth // group_size


def check_group_scales(name: str, scales: Any, rows: int, depth: int, of: str) -> int:
    """fp32 (1, Q) or (rows, Q), Q groups along the K = `depth` of argument `of`. Returns G."""
    got, groups = check_array(name, scales, ("fp32",), 2)
    if got not in (1, rows):
        raise ValueError(
            f"{name}: got {got} rows; allowed: 1 (the same for all) or {rows} (one per row of {of})"
        )
    if depth % groups:
        raise ValueError(
            f"{name}: got {groups} groups a row (its last axis); "
            f"allowed: a divisor of K = {depth}, the last axis of {of}"
        )
    return depth // groups


def check_dequantize(codes: Any, scales: Any, dialect_name: str, out_dtype: str) -> Dialect:
    """codes: s8 (M, K); scales: fp32 (1,) or (M,)."""
    rows, _ = check_array("codes", codes, ("s8",), 2)
    _check_scales("scales", scales, rows)
    check_out_dtype(out_dtype)
    return check_dialect(dialect_name, CORE)


def check_gemm(a: Any, b: Any, dialect_name: str, names: tuple[str, str] = ("a", "b")) -> Dialect:
    """a: s8 (M, K); b: s8 (N, K); K within int32 unless the dialect wraps."""
    first, second = names
    _, depth = check_array(first, a, ("s8",), 2)
    _, other = check_array(second, b, ("s8",), 2)
    _check_depth(first, depth, second, other)
    spoken = check_dialect(dialect_name, CORE)
    _check_overflow(first, depth, spoken)
    return spoken


def _check_depth(first: str, depth: int, second: str, other: int) -> None:
    if depth != other:
        raise ValueError(
            f"{second}: got K = {other} (its last axis); allowed: {depth}, the K of {first}"
        )


def _check_overflow(name: str, depth: int, spoken: Dialect) -> None:
    if spoken.k_overflow == "refuse" and depth > K_MAX:
        raise ValueError(
            f"{name}: got K = {depth}; allowed in dialect {spoken.name}: at most {K_MAX}, "
            "beyond which a sum of s8 products can leave int32"
        )


def check_epilogue(
    acc: Any, a_scales: Any, b_scales: Any, bias: Any, dialect_name: str, out_dtype: str
) -> Dialect:
    """acc: s32 (M, N); a_scales: fp32 (M,) or (1,); b_scales: fp32 (N,) or (1,); bias: fp32 (N,) or
    None.
    """
    rows, columns = check_array("acc", acc, ("s32",), 2)
    _check_epilogue_vectors(rows, columns, a_scales, b_scales, bias)
    check_out_dtype(out_dtype)
    return check_dialect(dialect_name, CORE)


def _check_epilogue_vectors(
    rows: int, columns: int, a_scales: Any, b_scales: Any, bias: Any
) -> None:
    check_vector("a_scales", a_scales, {1: "per-tensor", rows: "M, one per token"})
    _check_columns("b_scales", columns, b_scales, bias)


def _check_columns(name: str, columns: int, scales: Any, bias: Any) -> None:
    check_vector(name, scales, {1: "per-tensor", columns: "N, one per output channel"})
    if bias is not None:
        check_vector("bias", bias, {columns: "N, one per output channel"})


def check_gemm_vectors(
    rows: int,
    columns: int,
    depth: int,
    a_scales: Any,
    b_scales: Any,
    bias: Any,
    dialect_name: str,
) -> Dialect:
    """K of a, and a_scales: fp32 (M,) or (1,); b_scales: fp32 (N,) or (1,); bias: fp32 (N,)."""
    spoken = check_dialect(dialect_name, CORE)
    _check_overflow("a", depth, spoken)
    _check_epilogue_vectors(rows, columns, a_scales, b_scales, bias)
    return spoken


def check_gemm_batched(a: Any, b: Any, dialect_name: str) -> Dialect:
    """a: s8 (B, M, K); b: s8 (B, N, K); K as in `check_gemm`."""
    batch, _, depth = check_array("a", a, ("s8",), 3)
    others, _, other = check_array("b", b, ("s8",), 3)
    if others != batch:
        raise ValueError(
            f"b: got {others} matrices (its first axis); allowed: {batch}, as many as a has"
        )
    _check_depth("a", depth, "b", other)
    spoken = check_dialect(dialect_name, CORE)
    _check_overflow("a", depth, spoken)
    return spoken


def check_gemm_dequant(
    a: Any, b: Any, a_scales: Any, b_scales: Any, bias: Any, dialect_name: str, out_dtype: str
) -> Dialect:
    """As `check_gemm` and `check_epilogue` together."""
    spoken = check_gemm(a, b, dialect_name)
    _check_epilogue_vectors(int(a.shape[0]), int(b.shape[0]), a_scales, b_scales, bias)
    check_out_dtype(out_dtype)
    return spoken


def check_linear(
    x: Any, w_codes: Any, w_scales: Any, bias: Any, dialect_name: str, out_dtype: str
) -> Dialect:
    """x: fp32, fp16 or bf16 (M, K); w_codes: s8 (N, K); w_scales: fp32 (N,) or (1,); bias: fp32
    (N,) or None.
    """
    spoken = check_quantize(x, dialect_name, allowed=CORE)
    columns, depth = check_array("w_codes", w_codes, ("s8",), 2)
    _check_depth("x", int(x.shape[1]), "w_codes", depth)
    _check_overflow("x", depth, spoken)
    _check_columns("w_scales", columns, w_scales, bias)
    check_out_dtype(out_dtype)
    return spoken
