"""Wrong kernels: subtly wrong twins that the engine must reject, with the reason in words.

Contract: each `Planted` is a kernel, the dialect in which it is wrong, and words that the reason
must contain. A CUDA twin is a .cu file of this folder with one define; the file without a define is
right, and in RIGHT: the tests hold that it passes, so that what is rejected is the planted line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kernels_cupy.launch import empty, run
from reference.numerics import dtype_name, round_to, to_float32
from reference.op import Kernel
from reference.validate import FLOATS

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Planted:
    """A wrong kernel. words: what the reason must contain, each of them.

    kind: its class of mistake, a key of kinds.KINDS; "" = the class that the words belong to.
    """

    name: str
    op: str
    function: Callable[..., Any]
    words: tuple[str, ...] = ()
    dialect: str = "ieee"
    wing: str = "cuda"
    kind: str = ""

    def kernel(self) -> Kernel:
        return Kernel(self.op, f"wrong-{self.wing}", self.name, (self.dialect,), self.function)


def _defines(define: str) -> dict[str, int]:
    return {define: 1} if define else {}


def _quantize(define: str, kernel: str = "quantize") -> Callable[..., Any]:
    def quantize_per_token(x: Any) -> tuple[Any, Any]:
        (M, K), form = x.shape, FLOATS.index(str(dtype_name(x.dtype)))
        codes, scales = empty(x, (M, K), "s8"), empty(x, (M,), "fp32")
        sizes = map(np.int32, (form, M, K))
        source = str(FOLDER / "quantize.cu")
        run(source, kernel, _defines(define), (M,), (128,), (x, codes, scales, *sizes))
        return codes, scales

    return quantize_per_token


def _tensor(define: str) -> Callable[..., Any]:
    def quantize_per_tensor(x: Any) -> tuple[Any, Any]:
        wide = np.ascontiguousarray(to_float32(x))
        codes, scale = empty(x, x.shape, "s8"), empty(x, (1,), "fp32")
        blocks = 4 if define == "LEAVES_EARLY" else min(4, -(-x.size // 64))
        args = wide, codes, scale, np.zeros(2, np.uint32), np.int32(x.size)
        source = str(FOLDER / "tensor.cu")
        run(source, "quantize", _defines(define), (blocks,), (64,), args, cooperative=True)
        return codes, scale

    return quantize_per_tensor


def _static(define: str) -> Callable[..., Any]:
    def quantize_static(x: Any, scales: Any) -> Any:
        (M, K), form = x.shape, FLOATS.index(str(dtype_name(x.dtype)))
        codes = empty(x, (M, K), "s8")
        sizes = map(np.int32, (form, M, K, scales.size))
        grid, source = (-(-M // 4),), str(FOLDER / "static.cu")
        run(source, "quantize", _defines(define), grid, (32, 4), (x, scales, codes, *sizes))
        return codes

    return quantize_static


def _dequantize(define: str) -> Callable[..., Any]:
    def dequantize(codes: Any, scales: Any) -> Any:
        M, K = codes.shape
        out = empty(codes, (M, K), "fp32")
        sizes = map(np.int32, (M, K, scales.size))
        grid, source = (-(-M // 4),), str(FOLDER / "static.cu")
        run(source, "dequantize", _defines(define), grid, (32, 4), (codes, scales, out, *sizes))
        return out

    return dequantize


def _epilogue(define: str, half: bool = False) -> Callable[..., Any]:
    def epilogue(acc: Any, a_scales: Any, b_scales: Any, bias: Any, out_dtype: str) -> Any:
        M, N = acc.shape
        name = "fp16" if half and out_dtype == "fp16" else "fp32"
        out = empty(acc, (M, N), name)
        defines = {**_defines(define), **({"HALF": 1} if name == "fp16" else {})}
        grid, source = (-(-N // 64), M), str(FOLDER / "epilogue.cu")
        # The kernel takes a scale per row and per column: one for all is spread here.
        spread = [np.resize(a_scales, M), np.resize(b_scales, N)]
        arrays = acc, *spread, bias, out
        run(source, "epilogue", defines, grid, (64,), (*arrays, np.int32(M), np.int32(N)))
        # Other dtypes are rounded on the host: the mistakes are elsewhere.
        return out if name == out_dtype else round_to(np.asarray(out), out_dtype)

    return epilogue


def _gemm(define: str, source: str = "gemm.cu") -> Callable[..., Any]:
    def gemm(a: Any, b: Any) -> Any:
        (M, K), N = a.shape, b.shape[0]
        out = empty(a, (M, N), "s32")
        tiled = source == "gemm.cu"
        grid = (-(-N // 16), -(-M // 16)) if tiled else (N, M)
        block = (16, 16) if tiled else (32,)
        sizes = map(np.int32, (M, N, K))
        run(str(FOLDER / source), "gemm", _defines(define), grid, block, (a, b, out, *sizes))
        return out

    return gemm


TOKEN, STATIC, DEQUANTIZE = "int8.quantize_per_token", "int8.quantize_static", "int8.dequantize"
TENSOR = "int8.quantize_per_tensor"
GEMM, EPILOGUE = "int8.gemm", "int8.epilogue"

RIGHT = (
    Planted("quantize", TOKEN, _quantize("")),
    Planted("quantize_vectors", TOKEN, _quantize("", "quantize_vectors")),
    Planted("tensor", TENSOR, _tensor("")),
    Planted("static", STATIC, _static("")),
    Planted("dequantize", DEQUANTIZE, _dequantize("")),
    Planted("epilogue", EPILOGUE, _epilogue("", half=True)),
    Planted("gemm", GEMM, _gemm("")),
    Planted("gemm_async", GEMM, _gemm("", "gemm_async.cu")),
)


def _token(define: str, *words: str) -> Planted:
    return Planted(define.lower(), TOKEN, _quantize(define), words)


def _product(define: str, *words: str) -> Planted:
    return Planted(define.lower(), GEMM, _gemm(define), words)


def _sum(define: str, *words: str, half: bool = False) -> Planted:
    return Planted(define.lower(), EPILOGUE, _epilogue(define, half), words)


CUDA = (
    # numerics of quantization
    _token("RECIPROCAL", "multiplies by the reciprocal", "instead of dividing"),
    _token("TRUNCATED", "truncates toward zero"),
    _token("HALF_AWAY", "rounds halves away from zero"),
    _token("HALF_UP", "rounds halves up"),
    _token("NO_CLAMP", "does not clamp"),
    _token("CLAMP_128", "clamps to -128..127", "-127..127"),
    _token("LEVELS_128", "amax/128 as the scale"),
    _token("SCALE_FP16", "rounds the scale to fp16"),
    _token("FLUSHED", "flushes subnormals"),
    _token("SIGNED_AMAX", "largest element, not the largest magnitude"),
    _token("NAN_IGNORED", "ignores NaN"),
    _token("ZERO_ROW_NAN", "zero row", "nan"),
    _token("ZERO_ROW_ONE", "zero row the scale 1"),
    # reductions and threads
    _token("FIRST_WARP", "first 32 lanes of 128"),
    _token("LOST_STEP", "shuffle step 16"),
    _token("SHUFFLE_MASK", "member mask"),
    _token("MISSING_BARRIER", "barrier is missing"),
    _token("UNINITIALISED_SHARED", "shared memory, which nobody has written"),
    # blocks of a cooperative launch
    Planted("no_meeting", TENSOR, _tensor("NO_MEETING"), ("different bits", "race between blocks")),
    Planted("leaves_early", TENSOR, _tensor("LEAVES_EARLY"), ("deadlock between blocks",)),
    # memory
    _token("PAST_THE_ROW", "out-of-bounds load", "the end of"),
    _token("UNWRITTEN_TAIL", "never written", "columns % 4"),
    _token("ZERO_ROW_SKIPPED", "never written"),
    _token("MODIFIES_INPUT", "modifies its input x"),
    Planted("misaligned", TOKEN, _quantize("MISALIGNED", "quantize_vectors"), ("misaligned load",)),
    # given scales
    Planted("wrong_row", STATIC, _static("WRONG_ROW"), ("scale of the wrong row", "of each 4")),
    Planted("no_clamp_static", STATIC, _static("NO_CLAMP"), ("does not clamp",)),
    Planted("clamp_128_static", STATIC, _static("CLAMP_128"), ("clamps to -128..127",)),
    Planted("unsigned_codes", DEQUANTIZE, _dequantize("UNSIGNED"), ("signed codes as unsigned",)),
    Planted("last_row", DEQUANTIZE, _dequantize("LAST_ROW"), ("never written", "last row")),
    # epilogue
    _sum("FMA", "FMA", "one rounding"),
    _sum("BIAS_FIRST", "adds the bias before the scales"),
    _sum("SCALES_FIRST", "multiplies the two scales first"),
    _sum("SWAPPED_AXES", "swaps the axes of the scales"),
    _sum("ACCUMULATOR_TRUNCATED", "accumulator to fp32 toward zero"),
    Planted(
        "epilogue_scale_fp16", EPILOGUE, _epilogue("SCALE_FP16"), ("rounds the scale sA to fp16",)
    ),
    _sum("HALF_TRUNCATED", "truncates toward zero when it rounds to the output", half=True),
    # GEMM
    _product("UNSIGNED_B", "signed codes of b as unsigned"),
    _product("SHORT_ACCUMULATOR", "int16 overflow"),
    _product("FLOAT_ACCUMULATOR", "in fp32"),
    _product("K_TAIL", "drops the tail of K", "K % 16"),
    _product("TILE_EDGE", "tile edge", "% 16 == 15"),
    _product("COLUMN_EDGE", "never written", "last column"),
    _product("TRANSPOSED", "transposed"),
    _product("STALE_TILE", "shared memory, which nobody has written"),
    _product("PAST_THE_ROWS", "out-of-bounds load"),
    Planted("missing_barrier_gemm", GEMM, _gemm("MISSING_BARRIER"), ("barrier is missing",)),
    _product("MISSING_SECOND_BARRIER", "race", "__syncthreads()"),
    _product("EARLY_RETURN", "barrier"),
    Planted(
        "missing_wait", GEMM, _gemm("MISSING_WAIT", "gemm_async.cu"), ("cp.async", "wait for it")
    ),
)
