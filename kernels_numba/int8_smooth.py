"""SmoothQuant's division by a factor per channel, with INT8 output, in Numba CUDA.

    z = x / smooth[k], quantized as int8.quantize_per_token or int8.quantize_static

Contract: reference/int8_smooth.py, whose bytes these kernels give in both dialects. Rows and their
quantization are in row_values.py. Every row reads the factors again, from L1 and L2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels_numba import launch
from kernels_numba.compile import Kernel
from kernels_numba.device import (
    ALL_LANES,
    Device,
    DeviceFunction,
    cuda,
    device,
    int32,
    libdevice,
    uint32,
    uint64,
)
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
from reference.int8_smooth import check_smooth, check_smooth_static
from reference.op import implements


@device
def _exchanged(odd: Any, first: Any, second: Any) -> Any:
    """One word: the even lane gives its second for the odd lane's first."""
    given = int32(first if odd else second)
    got = uint32(cuda.shfl_xor_sync(uint32(ALL_LANES), given, int32(1)))
    return (got, second) if odd else (first, got)


def _factors(per: int) -> DeviceFunction:
    """Device function: (smooth, accesses in a row, i, inside) -> the factors of access i, as words.

    Eight of them are two accesses of 16 bytes. Neighbouring lanes share theirs: the even one loads
    the lower half of both and the odd one the upper, and then they exchange, so that each request
    of a warp moves whole sectors.
    """
    load = load_function("fp32", per > 1)

    @device
    def own(smooth: Device, items: Any, i: Any, inside: Any) -> Any:
        return load(smooth, i * uint64(per), inside)

    @device
    def shared(smooth: Device, items: Any, i: Any, inside: Any) -> Any:
        odd = i % uint64(2) == uint64(1)
        even, half = i - i % uint64(2), i % uint64(2) * uint64(4)
        after = even + uint64(1)
        a = load(smooth, even * uint64(per) + half, even < items)
        b = load(smooth, after * uint64(per) + half, after < items)
        p, q = _exchanged(odd, a[0], b[0]), _exchanged(odd, a[1], b[1])
        r, s = _exchanged(odd, a[2], b[2]), _exchanged(odd, a[3], b[3])
        return (p[0], q[0], r[0], s[0]), (p[1], q[1], r[1], s[1])

    return shared if per == 8 else own


def _values(dtype: str, dialect: Dialect, wide: bool) -> Values:
    """sources: (bits of x, flat; bits of smooth)."""
    per = per_access(dtype, wide)
    load, floats, factors = load_function(dtype, wide), floats_function(dtype, wide), _factors(per)
    four = floats_function("fp32", per > 1)
    step = step_function(dtype, dialect.intermediate)

    @device
    def load_both(sources: Any, row: Any, items: Any, i: Any, inside: Any) -> Any:
        held = load(sources[0], (row * items + i) * uint64(per), inside)
        return held, factors(sources[1], items, i, inside)

    @device
    def quotient(x: Any, factor: Any) -> Any:
        return step(libdevice.fdiv_rn(x, factor))

    quotients = paired(quotient, per)

    @device
    def compute(held: Any) -> Any:
        return quotients(floats(held[0]), four(held[1]))

    @device
    def compute_eight(held: Any) -> Any:
        a, b = four(held[1][0]), four(held[1][1])
        return quotients(floats(held[0]), (a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]))

    return Values(load_both, compute_eight if per == 8 else compute)


def _rows_kernel(dtype: str, dialect: Dialect, wide: bool) -> Kernel:
    """One block per row."""
    quantize = dynamic_function(_values(dtype, dialect, wide), dialect, per_access(dtype, wide))

    def smooth_rows(
        x: Device, smooth: Device, codes: Device, scales: Device, accesses: Any
    ) -> None:
        """x: bits, flat; smooth: bits of fp32 (K,); codes: s8 (M * K,); scales: fp32 (M,)."""
        quantize((x, smooth), codes, scales, accesses)

    return smooth_rows


def _static_kernel(dtype: str, dialect: Dialect, wide: bool) -> Kernel:
    """One block per row; the scales are given."""
    quantize = static_function(_values(dtype, dialect, wide), dialect, per_access(dtype, wide))

    def smooth_static(
        x: Device, smooth: Device, scales: Device, codes: Device, accesses: Any
    ) -> None:
        """x: bits, flat; smooth: bits of fp32 (K,); scales: fp32 (1,) or (M,); codes: s8
        (M * K,).
        """
        quantize((x, smooth), scales, codes, accesses)

    return smooth_static


@implements("int8.smooth_quantize", wing="numba")
@launch.entry("int8.smooth_quantize")
def smooth_quantize(x: Any, smooth: Any, *, dialect: str = "ieee") -> tuple[Any, Any]:
    """x: fp32, fp16 or bf16 (M, K); smooth: fp32 (K,). Returns codes s8 (M, K), scales fp32
    (M,).
    """
    spoken = check_smooth(x, smooth, dialect)
    codes, scales = launch.empty(x, x.shape, "s8"), launch.empty(x, x.shape[:1], "fp32")
    dtype, wide, items = plan(x, x.shape[1], smooth)
    launch.run(
        _rows_kernel, (dtype, spoken, wide), (x.shape[0],), block(items, KEPT),
        launch.bits(x).reshape(-1), launch.bits(smooth), codes.reshape(-1), scales, np.int64(items),
    )  # fmt: skip
    return codes, scales


@implements("int8.smooth_quantize_static", wing="numba")
@launch.entry("int8.smooth_quantize_static")
def smooth_quantize_static(x: Any, smooth: Any, scales: Any, *, dialect: str = "ieee") -> Any:
    """x: fp32, fp16 or bf16 (M, K); smooth: fp32 (K,); scales: fp32 (1,) or (M,). Returns codes s8
    (M, K).
    """
    spoken = check_smooth_static(x, smooth, scales, dialect)
    codes = launch.empty(x, x.shape, "s8")
    dtype, wide, items = plan(x, x.shape[1], smooth)
    launch.run(
        _static_kernel, (dtype, spoken, wide), (x.shape[0],), block(items, STATIC_EACH),
        launch.bits(x).reshape(-1), launch.bits(smooth), scales, codes.reshape(-1), np.int64(items),
    )  # fmt: skip
    return codes
