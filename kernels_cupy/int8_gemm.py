"""Launchers of int8_gemm.cu and int8_epilogue.cu: the GEMM ladder, the epilogue, both fused.

Shapes, dtypes and errors are those of reference/int8_gemm.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from kernels_cupy import tiling
from kernels_cupy.configuration import COPIES, Configuration
from kernels_cupy.geometry import S32, copy_width, format_code, row_geometry, vector_width
from kernels_cupy.launch import empty, kernel, run, zeros
from reference.validate import (
    FLOATS,
    check_epilogue,
    check_gemm,
    check_gemm_batched,
    check_gemm_dequant,
)

SOURCE = "int8_gemm.cu"
EPILOGUE = "int8_epilogue.cu"
FAMILY = "gemm"
BYTEWISE = ("naive", "tiled")  # variants that load codes one by one
SCALED = ("dp4a", "pipeline", "split_k")  # variants with the dequant epilogue


class Vectors(NamedTuple):
    """What the dequant epilogue reads besides accumulators; all None for plain sums."""

    a_scales: Any = None
    b_scales: Any = None
    bias: Any = None


def told_scales(vectors: Vectors, rule: int) -> tuple[np.int32, ...]:
    """The kernels' arguments a_stride, b_stride and rule. A scale for all has stride 0."""
    scales = vectors.a_scales, vectors.b_scales
    strides = (0 if scale is None or scale.size == 1 else 1 for scale in scales)
    return (*map(np.int32, strides), np.int32(rule))


def gemm_defines(copy: int, out_dtype: str = "") -> dict[str, int]:
    """The defines of int8_gemm.cu: for plain sums, or for the dequant epilogue to `out_dtype`."""
    return {"COPY": copy, "OUTPUT": format_code(out_dtype) if out_dtype else S32}


class Product(NamedTuple):
    """One product, or a batch: its factors, what the epilogue reads, and its rule."""

    a: Any
    b: Any
    vectors: Vectors = Vectors()
    rule: int = 0
    out_dtype: str = ""

    @property
    def sizes(self) -> tuple[int, int, int]:
        return int(self.a.shape[-2]), int(self.b.shape[-2]), int(self.a.shape[-1])

    @property
    def batch(self) -> int:
        return int(self.a.shape[0]) if len(self.a.shape) == 3 else 1

    @property
    def defines(self) -> dict[str, int]:
        return gemm_defines(copy_width(self.sizes[2], self.a, self.b), self.out_dtype)

    def arguments(self, out: Any) -> tuple[Any, ...]:
        """The kernels' arguments but split_k's last two."""
        sizes = map(np.int32, self.sizes)
        return (self.a, self.b, *self.vectors, out, *sizes, *told_scales(self.vectors, self.rule))

    def out(self) -> Any:
        shape = (*self.a.shape[:-1], self.sizes[1])
        return empty(self.a, shape, self.out_dtype or "s32")


def _run(variant: str, product: Product) -> Any:
    (M, N, _), out = product.sizes, product.out()
    name, tiles, block = tiling.launch(FAMILY, variant, M, N)
    told = gemm_defines(1) if variant in BYTEWISE else product.defines
    run(SOURCE, name, told, (product.batch * tiles,), block, product.arguments(out))
    return out


def _run_split_k(product: Product) -> Any:
    M, N, K = product.sizes
    (name, tiles, block), parts = tiling.launch(FAMILY, "split_k", M, N), tiling.splits(M, N, K)
    if product.out_dtype:  # sums and one ticket per tile
        out, sums = product.out(), zeros(product.a, (M * N + tiles,), "s32")
    else:
        out = sums = zeros(product.a, (M, N), "s32")
    arguments = (*product.arguments(out), np.int32(parts), sums)
    run(SOURCE, name, product.defines, (tiles * parts,), block, arguments)
    return out


def _plain(a: Any, b: Any, dialect: str) -> Product:
    check_gemm(a, b, dialect)  # the dialect's K rule is the check's, and all that it says here
    return Product(a, b)


@kernel("int8.gemm", "naive")
def gemm_naive(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a: s8 (M, K); b: s8 (N, K). Returns s32 (M, N). A thread per result."""
    return _run("naive", _plain(a, b, dialect))


@kernel("int8.gemm", "tiled")
def gemm_tiled(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a: s8 (M, K); b: s8 (N, K). Returns s32 (M, N). Shared-memory tiles, a product at a time."""
    return _run("tiled", _plain(a, b, dialect))


@kernel("int8.gemm", "dp4a")
def gemm_dp4a(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a: s8 (M, K); b: s8 (N, K). Returns s32 (M, N). Larger tiles, four products at a time."""
    return _run("dp4a", _plain(a, b, dialect))


@kernel("int8.gemm", "mma")
def gemm_mma(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a: s8 (M, K); b: s8 (N, K). Returns s32 (M, N). Tensor cores, one stage, plain loads."""
    return _run("mma", _plain(a, b, dialect))


@kernel("int8.gemm", "pipeline")
def gemm_pipeline(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a: s8 (M, K); b: s8 (N, K). Returns s32 (M, N). cp.async stages, tile rows by M."""
    return _run("pipeline", _plain(a, b, dialect))


@kernel("int8.gemm", "split_k")
def gemm_split_k(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a: s8 (M, K); b: s8 (N, K). Returns s32 (M, N). As pipeline, K split over blocks."""
    return _run_split_k(_plain(a, b, dialect))


def gemm(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """The int8.gemm variant that suits the sizes."""
    chosen = {"pipeline": gemm_pipeline, "split_k": gemm_split_k}
    return chosen[tiling.best_variant(a.shape[0], b.shape[0], a.shape[1])](a, b, dialect=dialect)


@kernel("int8.gemm_batched", "naive")
def gemm_batched_naive(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a: s8 (B, M, K); b: s8 (B, N, K). Returns s32 (B, M, N). A thread per result."""
    check_gemm_batched(a, b, dialect)
    return _run("naive", Product(a, b))


@kernel("int8.gemm_batched", "pipeline")
def gemm_batched_pipeline(a: Any, b: Any, *, dialect: str = "ieee") -> Any:
    """a: s8 (B, M, K); b: s8 (B, N, K). Returns s32 (B, M, N). B times the pipeline's blocks."""
    check_gemm_batched(a, b, dialect)
    return _run("pipeline", Product(a, b))


def epilogue_defines(out_dtype: str, vector: int) -> dict[str, int]:
    """The defines of int8_epilogue.cu."""
    return {"OUTPUT": format_code(out_dtype), "VECTOR": vector}


@kernel("int8.epilogue")
def epilogue(
    acc: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """acc: s32 (M, N); a_scales: fp32 (M,) or (1,); b_scales: fp32 (N,) or (1,); bias: fp32 (N,)
    or None. Returns out_dtype (M, N).
    """
    spoken = check_epilogue(acc, a_scales, b_scales, bias, dialect, out_dtype)
    (M, N), out = acc.shape, empty(acc, acc.shape, out_dtype)
    vectors = Vectors(a_scales, b_scales, bias)
    by_column = [b_scales] if b_scales.size > 1 else []
    loaded = [array for array in (acc, *by_column, bias) if array is not None]
    told = epilogue_defines(out_dtype, 4 if vector_width(N, loaded, 4) == 4 else 1)
    grid, block = row_geometry(M, N // told["VECTOR"])
    scalars = np.int32(M), np.int32(N), *told_scales(vectors, spoken.code("epilogue"))
    run(EPILOGUE, "epilogue", told, grid, block, (acc, *vectors, out, *scalars))
    return out


def _scaled(a: Any, b: Any, vectors: Vectors, dialect: str, out_dtype: str) -> Product:
    spoken = check_gemm_dequant(a, b, *vectors, dialect, out_dtype)
    return Product(a, b, vectors, spoken.code("epilogue"), out_dtype)


@kernel("int8.gemm_dequant", "dp4a")
def gemm_dequant_dp4a(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """a: s8 (M, K); b: s8 (N, K); a_scales: fp32 (M,) or (1,); b_scales: fp32 (N,) or (1,); bias:
    fp32 (N,) or None. Returns out_dtype (M, N).
    """
    product = _scaled(a, b, Vectors(a_scales, b_scales, bias), dialect, out_dtype)
    return _run("dp4a", product)


@kernel("int8.gemm_dequant", "pipeline")
def gemm_dequant_pipeline(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """As gemm_dequant_dp4a, by tensor cores."""
    return _run("pipeline", _scaled(a, b, Vectors(a_scales, b_scales, bias), dialect, out_dtype))


@kernel("int8.gemm_dequant", "split_k")
def gemm_dequant_split_k(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """As gemm_dequant_dp4a, by tensor cores, K split over blocks; the last one of a tile scales."""
    return _run_split_k(_scaled(a, b, Vectors(a_scales, b_scales, bias), dialect, out_dtype))


def gemm_dequant(
    a: Any,
    b: Any,
    a_scales: Any,
    b_scales: Any,
    bias: Any = None,
    *,
    dialect: str = "ieee",
    out_dtype: str = "fp32",
) -> Any:
    """The int8.gemm_dequant variant that suits the sizes."""
    chosen = {"pipeline": gemm_dequant_pipeline, "split_k": gemm_dequant_split_k}
    variant = tiling.best_variant(a.shape[0], b.shape[0], a.shape[1])
    told = {"dialect": dialect, "out_dtype": out_dtype}
    return chosen[variant](a, b, a_scales, b_scales, bias, **told)


def configurations(full: bool) -> Iterator[Configuration]:
    """See configuration.py. No dialect has compilations of its own."""
    ladder = ("dp4a", "mma", "pipeline", "split_k")
    for copy in COPIES:
        told, path = gemm_defines(copy), f"copy {copy}"
        for variant in (*BYTEWISE, *ladder) if copy == 1 else ladder:
            for name in tiling.kernels(FAMILY, variant):
                yield Configuration("int8.gemm", variant, SOURCE, name, told, "", path)
    for out_dtype in FLOATS if full else ("fp32", "fp16"):
        for copy in COPIES if full else (16,):
            told, path = gemm_defines(copy, out_dtype), f"copy {copy} to {out_dtype}"
            for variant in SCALED:
                for name in tiling.kernels(FAMILY, variant):
                    yield Configuration("int8.gemm_dequant", variant, SOURCE, name, told, "", path)
    for out_dtype in FLOATS:
        for vector in (4, 1):
            told, path = epilogue_defines(out_dtype, vector), f"{out_dtype} x{vector}"
            yield Configuration("int8.epilogue", "", EPILOGUE, "epilogue", told, "", path)
