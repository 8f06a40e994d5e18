"""SiLU-and-multiply and GELU with INT8 output, in Numba CUDA.

    silu_mul: z = silu(gate) * up, x = gate | up        gelu: z = gelu(x)
    z quantized as int8.quantize_per_token or int8.quantize_static

Contract: reference/int8_activation.py, whose bytes these kernels give in both dialects. The
functions are in functions.py, rows and their quantization in row_values.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels_numba import functions, launch
from kernels_numba.compile import Kernel
from kernels_numba.device import Device, device, libdevice, uint64
from kernels_numba.row_values import (
    KEPT,
    STATIC_EACH,
    Values,
    block,
    dynamic_function,
    floats_function,
    load_function,
    paired,
    per_access,
    plan,
    static_function,
    step_function,
)
from reference.dialects import Dialect
from reference.int8_activation import (
    check_gelu,
    check_gelu_static,
    check_silu_mul,
    check_silu_mul_static,
)
from reference.op import implements

GELU = {"gelu_erf": functions.gelu_erf, "gelu_tanh": functions.gelu_tanh}


def _values(activation: str, dtype: str, dialect: Dialect, wide: bool) -> Values:
    """sources: (bits of x, flat), a row holding K gates and K ups, or K elements."""
    return (
        _silu_mul(dtype, dialect, wide)
        if activation == "silu_mul"
        else _gelu(GELU[activation], dtype, dialect, wide)
    )


def _silu_mul(dtype: str, dialect: Dialect, wide: bool) -> Values:
    load, floats, per = (
        load_function(dtype, wide),
        floats_function(dtype, wide),
        per_access(dtype, wide),
    )
    step, silu = step_function(dtype, dialect.intermediate), functions.silu

    @device
    def load_both(sources: Any, row: Any, items: Any, i: Any, inside: Any) -> Any:
        gate = (row * uint64(2) * items + i) * uint64(per)
        up = gate + items * uint64(per)
        return load(sources[0], gate, inside), load(sources[0], up, inside)

    @device
    def product(gate: Any, up: Any) -> Any:
        return step(libdevice.fmul_rn(step(silu(gate)), up))

    products = paired(product, per)

    @device
    def compute(held: Any) -> Any:
        return products(floats(held[0]), floats(held[1]))

    return Values(load_both, compute)


def _gelu(gelu: Any, dtype: str, dialect: Dialect, wide: bool) -> Values:
    load, floats, per = (
        load_function(dtype, wide),
        floats_function(dtype, wide),
        per_access(dtype, wide),
    )
    step = step_function(dtype, dialect.intermediate)

    @device
    def load_one(sources: Any, row: Any, items: Any, i: Any, inside: Any) -> Any:
        return load(sources[0], (row * items + i) * uint64(per), inside)

    @device
    def of_first(x: Any, again: Any) -> Any:
        return step(gelu(x))

    every = paired(of_first, per)

    @device
    def compute(held: Any) -> Any:
        x = floats(held)
        return every(x, x)

    return Values(load_one, compute)


def _rows_kernel(activation: str, dtype: str, dialect: Dialect, wide: bool) -> Kernel:
    """One block per row."""
    values = _values(activation, dtype, dialect, wide)
    quantize = dynamic_function(values, dialect, per_access(dtype, wide))

    def activate_rows(x: Device, codes: Device, scales: Device, accesses: Any) -> None:
        """x: bits, flat; codes: s8 (M * K,); scales: fp32 (M,)."""
        quantize((x,), codes, scales, accesses)

    return activate_rows


def _static_kernel(activation: str, dtype: str, dialect: Dialect, wide: bool) -> Kernel:
    """One block per row; the scales are given."""
    values = _values(activation, dtype, dialect, wide)
    quantize = static_function(values, dialect, per_access(dtype, wide))

    def activate_static(x: Device, scales: Device, codes: Device, accesses: Any) -> None:
        """x: bits, flat; scales: fp32 (1,) or (M,); codes: s8 (M * K,)."""
        quantize((x,), scales, codes, accesses)

    return activate_static


@implements("int8.silu_mul_quantize", wing="numba")
@launch.entry("int8.silu_mul_quantize")
def silu_mul_quantize(x: Any, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """x: fp32, fp16 or bf16 (M, 2 * K), gate | up. Returns codes s8 (M, K), scales fp32 (M,)."""
    spoken = check_silu_mul(x, dialect)
    return _dynamic(x, x.shape[1] // 2, spoken, "silu_mul")


@implements("int8.silu_mul_quantize_static", wing="numba")
@launch.entry("int8.silu_mul_quantize_static")
def silu_mul_quantize_static(x: Any, scales: Any, *, dialect: str = "ieee") -> Any:
    """x: fp32, fp16 or bf16 (M, 2 * K), gate | up; scales: fp32 (1,) or (M,). Returns codes s8
    (M, K).
    """
    spoken = check_silu_mul_static(x, scales, dialect)
    return _static(x, x.shape[1] // 2, scales, spoken, "silu_mul")


@implements("int8.gelu_quantize", wing="numba")
@launch.entry("int8.gelu_quantize")
def gelu_quantize(x: Any, *, dialect: str = "ieee", form: str = "erf") -> tuple[Any, Any]:
    """x: fp32, fp16 or bf16 (M, K). Returns codes s8 (M, K), scales fp32 (M,)."""
    spoken = check_gelu(x, dialect, form)
    return _dynamic(x, x.shape[1], spoken, f"gelu_{form}")


@implements("int8.gelu_quantize_static", wing="numba")
@launch.entry("int8.gelu_quantize_static")
def gelu_quantize_static(x: Any, scales: Any, *, dialect: str = "ieee", form: str = "erf") -> Any:
    """x: fp32, fp16 or bf16 (M, K); scales: fp32 (1,) or (M,). Returns codes s8 (M, K)."""
    spoken = check_gelu_static(x, scales, dialect, form)
    return _static(x, x.shape[1], scales, spoken, f"gelu_{form}")


def _dynamic(x: Any, K: int, spoken: Dialect, activation: str) -> tuple[Any, Any]:
    codes, scales = launch.empty(x, (x.shape[0], K), "s8"), launch.empty(x, x.shape[:1], "fp32")
    dtype, wide, items = plan(x, K)
    launch.run(
        _rows_kernel, (activation, dtype, spoken, wide), (x.shape[0],), block(items, KEPT),
        launch.bits(x).reshape(-1), codes.reshape(-1), scales, np.int64(items),
    )  # fmt: skip
    return codes, scales


def _static(x: Any, K: int, scales: Any, spoken: Dialect, activation: str) -> Any:
    codes = launch.empty(x, (x.shape[0], K), "s8")
    dtype, wide, items = plan(x, K)
    launch.run(
        _static_kernel, (activation, dtype, spoken, wide), (x.shape[0],),
        block(items, STATIC_EACH), launch.bits(x).reshape(-1), scales, codes.reshape(-1),
        np.int64(items),
    )  # fmt: skip
    return codes
