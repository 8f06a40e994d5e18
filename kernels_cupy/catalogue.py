"""Every way in which this wing's kernels are compiled: for the audit and for carried CUBINs.

Contract: `catalogue(full=True)` holds every (source, defines) that a launcher can ask for, so that
a folder exported from it serves any call; `catalogue()` is a representative choice: every kernel,
vector path and dtype once, in the dialects that differ most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kernels_cupy import int8_gemm, int8_linear, int8_quantize
from reference.dialects import DIALECTS, Dialect
from reference.numerics import DTYPES
from reference.validate import FLOATS

COPIES = (16, 4, 1)
ROW_KERNELS = {  # kernel in int8_quantize.cu -> op
    "quantize_rows": "int8.quantize_per_token",
    "tensor_maximum": "int8.quantize_per_tensor",
    "quantize_tensor": "int8.quantize_per_tensor",
    "quantize_static": "int8.quantize_static",
}


@dataclass(frozen=True)
class Configuration:
    """One kernel of one compilation. `path` says in words which access width and formats."""

    op: str
    variant: str
    source: str
    kernel: str
    defines: Mapping[str, int]
    dialect: str
    path: str


def catalogue(full: bool = False) -> list[Configuration]:
    """The configurations; see the head of this file."""
    found = (*_quantize(full), *_dequantize(full), *_gemm(full), *_epilogue(full), *_linear(full))
    return list(found)


def _speaking(full: bool, *names: str) -> list[Dialect]:
    return [spoken for name, spoken in DIALECTS.items() if full or name in names]


def _widths(dtype: str) -> list[int]:
    """Elements per access from 16 bytes down to one element."""
    widths = [16 // DTYPES[dtype].itemsize]
    while widths[-1] > 1:
        widths.append(widths[-1] // 2)
    return widths


def _quantize(full: bool) -> Iterator[Configuration]:
    for spoken in _speaking(full, "ieee", "vllm", "article_torch"):
        for dtype in spoken.inputs:
            for vector in _widths(dtype):
                if not full and not _typical(spoken.name, dtype, vector):
                    continue
                told = int8_quantize.defines(spoken, dtype, vector)
                path = f"{dtype} x{vector}"
                for kernel, op in ROW_KERNELS.items():
                    source = int8_quantize.SOURCE
                    yield Configuration(op, "", source, kernel, told, spoken.name, path)


def _typical(dialect: str, dtype: str, vector: int) -> bool:
    """Every dtype at its widest in ieee; fp16 also narrower and in the other dialects."""
    widest = vector == _widths(dtype)[0]
    if dialect == "ieee":
        return widest or (dtype == "fp16" and vector in (4, 1))
    return widest and dtype == "fp16"


def _dequantize(full: bool) -> Iterator[Configuration]:
    for out_dtype in FLOATS:
        widths = _widths(out_dtype)
        for vector in widths if full else (widths[0], 1):
            told = int8_quantize.dequantize_defines(out_dtype, vector)
            path = f"{out_dtype} x{vector}"
            source = int8_quantize.DEQUANTIZE
            yield Configuration("int8.dequantize", "", source, "dequantize", told, "", path)


def _gemm(full: bool) -> Iterator[Configuration]:
    source = int8_gemm.SOURCE
    for copy in COPIES:
        told = int8_gemm.gemm_defines(copy)
        for kernel in int8_gemm.TILES:
            if kernel == "gemm_naive" and copy > 1:
                continue
            variant = kernel.removeprefix("gemm_")
            yield Configuration("int8.gemm", variant, source, kernel, told, "", f"copy {copy}")
    for spoken in _speaking(full, "ieee", "vllm"):
        for out_dtype in FLOATS if full else ("fp32", "fp16"):
            for copy in COPIES if full else (16,):
                told = int8_gemm.fused_defines(spoken, out_dtype, copy)
                for variant in ("tiled", "mma"):
                    path = f"copy {copy} to {out_dtype}"
                    op, kernel = "int8.gemm_dequant", f"gemm_{variant}"
                    yield Configuration(op, variant, source, kernel, told, spoken.name, path)


def _epilogue(full: bool) -> Iterator[Configuration]:
    for spoken in _speaking(full, "ieee", "vllm"):
        for out_dtype in FLOATS:
            for vector in (4, 1):
                told = int8_gemm.epilogue_defines(spoken, out_dtype, vector)
                path = f"{out_dtype} x{vector}"
                source = int8_gemm.EPILOGUE
                yield Configuration(
                    "int8.epilogue", "", source, "epilogue", told, spoken.name, path
                )


def _linear(full: bool) -> Iterator[Configuration]:
    for spoken in _speaking(full, "ieee", "vllm"):
        for dtype in spoken.inputs if full else ("fp16",):
            for level in int8_linear.levels(dtype):
                for out_dtype in FLOATS if full else (dtype,):
                    told = int8_linear.defines(spoken, dtype, level, out_dtype)
                    path = f"{dtype} x{level[0]} copy {level[1]} to {out_dtype}"
                    op, kernel, source = "int8.linear", "linear_prologue", int8_linear.SOURCE
                    yield Configuration(op, "prologue", source, kernel, told, spoken.name, path)
