"""Triton kernels that installed packages bring: torchao's int8 GEMMs, bitsandbytes, PyTorch.

Contract: data is chosen so that all arithmetic is exact (whole numbers, powers of two), so every
expected value is one, whatever a GPU's `div.full` or order of sums; NumPy formulas are our own. The
packages' files are read, not imported (triton_build.py).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.foreign import triton_build
from bench.foreign.case import Case, Tally

F32 = np.float32
# Quantiles of the normal distribution (Dettmers et al., "QLoRA", 2023, appendix E).
NF4 = np.array(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ],
    F32,
)


def source(file: str) -> Any:
    """The kernels of a package's file. Raises ModuleNotFoundError, FileNotFoundError."""
    package, _, rest = file.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"package {package}")
    if importlib.util.find_spec("triton") is None:
        raise ModuleNotFoundError("package triton")
    path = Path(spec.origin).parent / rest
    if not path.is_file():
        raise FileNotFoundError(f"{package} without {rest}")
    return triton_build.functions(path)


def build(
    function: Any, arch: int, constants: dict[str, Any], types: str, **options: Any
) -> triton_build.Built:
    """types: "x:*fp16 n:i32"; pointers are multiples of 16."""
    signature = dict(part.split(":") for part in types.split())
    aligned = [name for name, kind in signature.items() if kind.startswith("*")]
    return triton_build.build(function, signature, constants, arch, aligned=aligned, **options)


def scaled_int8_mm(arch: int, tile: tuple[int, int, int], even: bool) -> Tally:
    kernels = source("torchao/prototype/quantized_training/int8_mm.py")
    constants = dict(zip(("BLOCK_M", "BLOCK_N", "BLOCK_K"), tile, strict=True))
    constants |= {"GROUP_M": 8, "EVEN_K": even, "COL_SCALE_SCALAR": False}
    constants |= {"stride_ak": 1, "stride_bk": 1, "stride_cn": 1}
    types = "A_ptr:*i8 B_ptr:*i8 C_ptr:*fp32 row_scale_ptr:*fp32 col_scale_ptr:*fp32"
    types += " M:i32 N:i32 K:i32 stride_am:i32 stride_bn:i32 stride_cm:i32"
    kernel = build(kernels._scaled_int8_mm_kernel, arch, constants, types, stages=3)
    m, n, k = 80, 72, 128 if even else 112
    random, tally = np.random.default_rng(21), Tally()
    a = random.integers(-128, 128, (m, k)).astype(np.int8)
    b = random.integers(-128, 128, (n, k)).astype(np.int8)
    rows, columns = (2.0 ** random.integers(-8, 8, size).astype(F32) for size in (m, n))
    c = np.zeros((m, n), F32)
    grid = -(-m // tile[0]) * -(-n // tile[1])
    sizes = [np.int32(v) for v in (m, n, k, k, k, n)]
    tally.ran(kernel.launch(grid, [a, b, c, rows, columns, *sizes]))
    total = a.astype(np.int64) @ b.astype(np.int64).T  # below 2^24: exact in f32
    tally.compare("c", c, total.astype(F32) * rows[:, None] * columns)
    return tally


def int8_mm_row_scale(arch: int) -> Tally:
    kernels = source("torchao/kernel/intmm_triton.py")
    constants: dict[str, Any] = {"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 32, "GROUP_M": 8}
    constants |= {"EVEN_K": True, "stride_ak": 1, "stride_bn": 1, "stride_cn": 1, "stride_s1n": 1}
    constants["ACC_TYPE"] = _int32()
    types = "a_ptr:*i8 b_ptr:*i8 c_ptr:*fp32 s1_ptr:*fp32"
    types += " M:i32 N:i32 K:i32 stride_am:i32 stride_bk:i32 stride_cm:i32 stride_s1m:i32"
    function = kernels.scaled_matmul_kernel_with_block_pointers
    kernel = build(function, arch, constants, types, stages=2)
    random, tally, (m, n, k) = np.random.default_rng(22), Tally(), (96, 80, 64)
    a = random.integers(-128, 128, (m, k)).astype(np.int8)
    b = random.integers(-128, 128, (k, n)).astype(np.int8)
    scales, c = 2.0 ** random.integers(-8, 8, m).astype(F32), np.zeros((m, n), F32)
    sizes = [np.int32(v) for v in (m, n, k, k, n, n, 1)]
    tally.ran(kernel.launch(3 * 2, [a, b, c, scales, *sizes]))
    total = a.astype(np.int64) @ b.astype(np.int64)
    tally.compare("c", c, total.astype(F32) * scales[:, None])
    return tally


def _int32() -> Any:
    import triton.language as tl

    return tl.int32


def _blocks(blocks: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(values (blocks, size), scales (blocks,)): whole multiples of 2^-10 of powers of two."""
    random = np.random.default_rng(seed)
    values = random.integers(-1023, 1024, (blocks, size)).astype(F32) / F32(1024)
    values[np.arange(blocks), random.integers(0, size, blocks)] = random.choice((-1, 1), blocks)
    scales = 2.0 ** random.integers(-6, 7, blocks).astype(F32)
    return values * scales[:, None], scales


def quantize_nf4(arch: int) -> Tally:
    kernels = source("bitsandbytes/backends/triton/kernels_4bit.py")
    kernel = build(
        kernels.quantize_nf4_blockwise_kernel, arch, {"BLOCK_SIZE": 64, "SPLIT_NUM_BLOCKS": 4},
        "A_ptr:*fp32 absmax_ptr:*fp32 out_ptr:*u8 n_elements:i32 absmax_elements:i32",
    )  # fmt: skip
    tally, blocks = Tally(), 24
    x, scales = _blocks(blocks, 64, 23)
    absmax, out = np.zeros(blocks, F32), np.zeros(blocks * 32, np.uint8)
    tally.ran(kernel.launch(3, [x, absmax, out, np.int32(x.size), np.int32(blocks)]))
    codes = np.searchsorted((NF4[1:] + NF4[:-1]) / 2, x / scales[:, None]).ravel()
    tally.compare("absmax", absmax, scales)
    tally.compare("out", out, (codes[::2] << 4 | codes[1::2]).astype(np.uint8))
    return tally


def dequantize_nf4(arch: int) -> Tally:
    kernels = source("bitsandbytes/backends/triton/kernels_4bit.py")
    kernel = build(
        kernels.dequant_nf4_kernel, arch, {"QUANT_BLOCK": 64, "SPLIT_SIZE": 256},
        "a_ptr:*u8 c_ptr:*fp32 absmax_ptr:*fp32 num_paired_elements:i32 num_output_elements:i32",
    )  # fmt: skip
    random, tally, pairs = np.random.default_rng(24), Tally(), 32 * 24
    packed = random.integers(0, 256, pairs).astype(np.uint8)
    scales, out = 2.0 ** random.integers(-6, 7, 24).astype(F32), np.zeros(2 * pairs, F32)
    tally.ran(kernel.launch(3, [packed, out, scales, np.int32(pairs), np.int32(2 * pairs)]))
    codes = np.stack([packed >> 4, packed & 15], axis=1).ravel()
    tally.compare("c", out, NF4[codes] * np.repeat(scales, 64))
    return tally


def _code() -> np.ndarray:
    """256 increasing levels in [-1, 1], multiples of 2^-11."""
    picks = np.random.default_rng(25).choice(np.arange(-2047, 2048), 254, replace=False)
    return np.sort(np.concatenate([picks, [-2048, 2048]])).astype(F32) / F32(2048)


def quantize_8bit(arch: int) -> Tally:
    kernels = source("bitsandbytes/backends/triton/kernels_8bit_quant.py")
    constants = {"BLOCK_SIZE": 256, "CODE_SIZE": 256, "SPLIT_NUM_BLOCKS": 1}
    types = "A_ptr:*fp32 code_ptr:*fp32 absmax_ptr:*fp32 out_ptr:*u8 n_elements:i32"
    kernel = build(kernels.quantize_8bit_blockwise_kernel, arch, constants, types)
    tally, blocks, code = Tally(), 9, _code()
    x, scales = _blocks(blocks, 256, 26)
    absmax, out = np.zeros(blocks, F32), np.zeros(x.shape, np.uint8)
    tally.ran(kernel.launch(blocks, [x, code, absmax, out, np.int32(x.size)]))
    normal = x / scales[:, None]
    lower = np.maximum(np.searchsorted(code, normal, side="left") - 1, 0)
    nearer = np.abs(normal - code[lower]) <= np.abs(normal - code[lower + 1])
    tally.compare("absmax", absmax, scales)
    tally.compare("out", out, np.where(nearer, lower, lower + 1).astype(np.uint8))
    return tally


def dequantize_8bit(arch: int) -> Tally:
    kernels = source("bitsandbytes/backends/triton/kernels_8bit_quant.py")
    constants = {"QUANT_BLOCK": 64, "SPLIT_SIZE": 256}
    types = "a_ptr:*u8 out_ptr:*fp32 code_ptr:*fp32 absmax_ptr:*fp32 n:i32"
    kernel = build(kernels.dequant_8bit_kernel, arch, constants, types)
    random, tally, count = np.random.default_rng(27), Tally(), 64 * 21
    codes, code = random.integers(0, 256, count).astype(np.uint8), _code()
    scales, out = 2.0 ** random.integers(-6, 7, 21).astype(F32), np.zeros(count, F32)
    tally.ran(kernel.launch(6, [codes, out, code, scales, np.int32(count)]))
    tally.compare("out", out, code[codes] * np.repeat(scales, 64))
    return tally


def outer_product(arch: int) -> Tally:
    kernels = source("torch/_native/ops/bmm_outer_product/triton_kernels.py")
    function = kernels._bmm_outer_product_kernel
    given = {"BLOCK_M": 32, "BLOCK_N": 64}
    pointers, sizes = ["A_ptr", "B_ptr", "OUT_ptr"], {}
    random, tally, (b, m, n) = np.random.default_rng(28), Tally(), (3, 45, 100)
    sizes = {"B": b, "B_dim": b, "M": m, "N": n, "stride_ab": m, "stride_am": 1, "stride_bb": n}
    sizes |= {"stride_bn": 1, "stride_ob": m * n, "stride_om": n, "stride_on": 1}
    names = [name for name in function.arg_names if name not in (*pointers, *given)]
    types = " ".join([f"{p}:*fp32" for p in pointers] + [f"{name}:i32" for name in names])
    kernel = build(function, arch, given, types)
    x, y = (random.standard_normal((b, size)).astype(F32) for size in (m, n))
    out = np.zeros((b, m, n), F32)
    grid = b * -(-m // 32) * -(-n // 64)
    tally.ran(kernel.launch(grid, [x, y, out, *(np.int32(sizes[name]) for name in names)]))
    tally.compare("out", out, x[:, :, None] * y[:, None, :])
    return tally


Run = Callable[..., Tally]
KERNELS: tuple[tuple[str, str, Run], ...] = (
    ("torchao prototype/quantized_training/int8_mm.py", "_scaled_int8_mm_kernel, even K",
     partial(scaled_int8_mm, tile=(32, 64, 64), even=True)),
    ("torchao prototype/quantized_training/int8_mm.py", "_scaled_int8_mm_kernel, K of 112",
     partial(scaled_int8_mm, tile=(32, 32, 64), even=False)),
    ("torchao prototype/quantized_training/int8_mm.py", "_scaled_int8_mm_kernel, rows of 64",
     partial(scaled_int8_mm, tile=(64, 64, 64), even=True)),
    ("torchao kernel/intmm_triton.py", "scaled_matmul_kernel_with_block_pointers",
     int8_mm_row_scale),
    ("bitsandbytes backends/triton/kernels_4bit.py", "quantize_nf4_blockwise_kernel", quantize_nf4),
    ("bitsandbytes backends/triton/kernels_4bit.py", "dequant_nf4_kernel", dequantize_nf4),
    ("bitsandbytes backends/triton/kernels_8bit_quant.py", "quantize_8bit_blockwise_kernel",
     quantize_8bit),
    ("bitsandbytes backends/triton/kernels_8bit_quant.py", "dequant_8bit_kernel", dequantize_8bit),
    ("torch _native/ops/bmm_outer_product/triton_kernels.py", "_bmm_outer_product_kernel",
     outer_product),
)  # fmt: skip


def cases() -> list[Case]:
    return [
        Case(name, origin, f"sm_{arch}", partial(run, arch))
        for origin, name, run in KERNELS
        for arch in (80, 90)
    ]
