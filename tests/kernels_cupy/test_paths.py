"""Every access width, loop and edge of row kernels and tiled ones: the oracle's bytes.

A kernel is compiled per access width, which row length and base addresses decide. For each width
the shapes below run rows longer than what is kept in registers, short ones, whole and partial
tiles; every other row is out of the ordinary (zero, subnormal, infinite, NaN), with a bias and
without. Of row kernels every basic block of the PTX of every compilation used must have run
afterwards (for the others tests/test_coverage.py holds that).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import numpy as np
import pytest

import emulator
import kernels_cupy  # noqa: F401  (registers the kernels)
from kernels_cupy.launch import Recording, module_label, recording
from reference.numerics import DTYPES
from reference.op import as_tuple, get_op, kernels, recipe

# Rows beyond every unrolled loop, of which 16, 4 or 1 is the widest access.
LONG = {16: 1360, 4: 804, 1: 349}
ROW_KERNELS = [
    (kernel, dialect)
    for kernel in kernels(wing="cupy")
    for dialect in kernel.dialects
    if kernel.op.startswith(("int8.quantize", "int8.dequantize"))
]
TILE_KERNELS = [
    (kernel, dialect)
    for kernel in kernels(wing="cupy")
    for dialect in kernel.dialects
    if kernel.op in ("int8.gemm", "int8.epilogue", "int8.gemm_dequant", "int8.linear")
    and (kernel.op, kernel.variant) not in {("int8.linear", "unfused"), ("int8.linear", "fused")}
]


def ids(pairs: list[Any]) -> list[str]:
    return [f"{kernel.op}-{kernel.label}-{dialect}" for kernel, dialect in pairs]


def displaced(array: np.ndarray, elements: int) -> np.ndarray:
    """A C-contiguous copy whose address is that many elements past a multiple of 64."""
    space = np.empty(array.size + 64 // array.itemsize + elements, array.dtype)
    start = -space.ctypes.data % 64 // array.itemsize + elements
    copy = space[start : start + array.size].reshape(array.shape)
    copy[...] = array
    return copy


def rows(M: int, K: int, dtype: str, seed: int) -> np.ndarray:
    """Normal rows; rows 1, 3, 5, 7 are zero, subnormal, infinite, NaN."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((M, K)).astype(np.float32)
    x[1::8] = 0
    x[3::8] *= np.float32(1e-40) if dtype != "fp16" else np.float32(1e-7)
    x[5::8, K // 2] = np.inf
    x[7::8, K // 2] = np.nan
    return x.astype(DTYPES[dtype])


def row_shapes(widest: int) -> Iterator[tuple[int, int]]:
    """(M, K) for every access width: beyond the registers, a whole block, one warp."""
    width = widest
    while width:
        yield 8, width * (4 * 1024 + 41)
        yield 9, width * 131
        yield 5, width * 3
        width //= 2


def check(kernel: Any, inputs: dict[str, Any], **options: str) -> None:
    got = as_tuple(kernel.function(*inputs.values(), **options))
    expected = get_op(kernel.op).expected(inputs, **options)
    for name, one, other in zip(get_op(kernel.op).output_names(), got, expected, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes(), (name, options, np.argwhere(one != other)[:3])


def missed(session: Recording) -> dict[str, tuple[int, ...]]:
    """(compilation, kernel) -> PTX lines of blocks that never ran, of all kernels launched."""
    used = {
        (module_label(launch.constants[0], launch.constants[1:]), launch.kernel)
        for launch in session.launches
    }
    found = emulator.coverage()
    return {" ".join(key): found[key].missed for key in used if found[key].missed}


@pytest.mark.parametrize(("kernel", "dialect"), ROW_KERNELS, ids=ids(ROW_KERNELS))
def test_rows(kernel: Any, dialect: str) -> None:
    op = get_op(kernel.op)
    with recording() as session:
        for dtype in op.dtypes if len(op.dtypes) > 1 else op.options["out_dtype"]:
            if not op.allows(dtype, dialect):
                continue
            for M, K in row_shapes(16 // DTYPES[dtype].itemsize):
                if op.name == "int8.dequantize":
                    rng = np.random.default_rng(K)
                    codes = rng.integers(-128, 128, (M, K)).astype(np.int8)
                    for S in (1, M):
                        scales = rng.standard_normal(S).astype(np.float32)
                        inputs = {"codes": codes, "scales": scales}
                        check(kernel, inputs, dialect=dialect, out_dtype=dtype)
                    continue
                inputs = {op.inputs[0].name: rows(M, K, dtype, K)}
                if op.name == "int8.quantize_static":
                    for scales in ([0.0078125], [0.5, 2.0**-20] * M):
                        given = np.array(scales, np.float32)[: 1 if len(scales) == 1 else M]
                        check(kernel, {**inputs, "scales": given}, dialect=dialect)
                    if dialect != "article_torch":
                        tiny = np.full(1, 1e-41, np.float32)
                        check(kernel, {**inputs, "scales": tiny}, dialect=dialect)
                else:
                    check(kernel, inputs, dialect=dialect)
                    inputs = {op.inputs[0].name: rows(1, K, dtype, K)}
                    check(kernel, inputs, dialect=dialect)
                    inputs = {op.inputs[0].name: rows(1, 9 * K, dtype, K).reshape(9, K)}
                    check(kernel, inputs, dialect=dialect)
    assert missed(session) == {}


@pytest.mark.parametrize(("kernel", "dialect"), TILE_KERNELS, ids=ids(TILE_KERNELS))
def test_tiles(kernel: Any, dialect: str) -> None:
    op = get_op(kernel.op)
    out_dtypes = cycle(op.options.get("out_dtype", ("",)))
    dtypes = cycle(dtype for dtype in op.dtypes if op.allows(dtype, dialect))
    for depth in (16, 4, 1):
        out_dtype, dtype = next(out_dtypes), next(dtypes)
        options = {"dialect": dialect, **({"out_dtype": out_dtype} if out_dtype else {})}
        for M, N, K in (
            (130, 260, depth * 21),
            (57, 131, LONG[depth]),
            (27, 128, depth * 3),
            (1, 1, depth),
        ):
            for bias in (True, False):
                inputs = tile_inputs(op.name, M, N, K, dtype, bias)
                check(kernel, inputs, **options)


def tile_inputs(op: str, M: int, N: int, K: int, dtype: str, bias: bool) -> dict[str, Any]:
    rng = np.random.default_rng([M, N, K])
    a, b = (rng.integers(-128, 128, (side, K)).astype(np.int8) for side in (M, N))
    scales = {
        "a_scales": rng.random(M).astype(np.float32),
        "b_scales": rng.standard_normal(N).astype(np.float32),
    }
    added = {"bias": rng.standard_normal(N).astype(np.float32) if bias else None}
    if op == "int8.gemm":
        return {"a": a, "b": b}
    if op == "int8.epilogue":
        acc = rng.integers(-(2**31), 2**31, (M, N * 4 if K % 4 == 0 else N)).astype(np.int32)
        columns = acc.shape[1]
        stretched = {name: np.resize(v, columns) for name, v in scales.items() if name[0] == "b"}
        added = {"bias": np.resize(added["bias"], columns) if bias else None}
        return {"acc": acc, "a_scales": scales["a_scales"], **stretched, **added}
    if op == "int8.gemm_dequant":
        return {"a": a, "b": b, **scales, **added}
    return {"x": rows(M, K, dtype, K), "w_codes": b, "w_scales": scales["b_scales"], **added}


@pytest.mark.parametrize("kernel", kernels(wing="cupy"), ids=lambda k: f"{k.op}-{k.label}")
@pytest.mark.parametrize("elements", [1, 2, 4])
def test_any_address(kernel: Any, elements: int) -> None:
    """Arrays that begin anywhere: narrower accesses, the same bytes."""
    op = get_op(kernel.op)
    inputs = op.build(recipe(op.kinds[0], seed=1, **dict.fromkeys(op.dims, 48)))
    moved = {
        k: displaced(v, elements) if isinstance(v, np.ndarray) else v for k, v in inputs.items()
    }
    expected = op.expected(inputs)
    got = as_tuple(kernel.function(*moved.values()))
    for one, other in zip(got, expected, strict=True):
        assert one.tobytes() == other.tobytes()
