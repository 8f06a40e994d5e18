"""The steps of a norm on one chunk of a row, as device functions.

Contract: as int8_norm.py, whose kernels are made of these; chunks as chunk.py has them. Each step
is one `_rn` function, so one rounding, and where the dialect asks one more to x's dtype.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from kernels_numba.chunk import CHUNK, code_storer, own_chunk, part_loader, part_storer
from kernels_numba.device import (
    ALL_LANES,
    Device,
    DeviceFunction,
    cuda,
    device,
    float32,
    fused_multiply_add,
    libdevice,
    magnitude,
    narrow,
    uint32,
    uint64,
    widen,
)
from kernels_numba.dialect import code_function, factor_function, scale_function
from reference.dialects import Dialect


@dataclass(frozen=True)
class Norm:
    """What a kernel is compiled for."""

    name: str  # "rms_norm", "add_rms_norm" or "layer_norm"
    static: bool
    dtype: str
    wide: bool

    @property
    def adds(self) -> bool:
        return self.name == "add_rms_norm"

    @property
    def centres(self) -> bool:
        return self.name == "layer_norm"


@dataclass(frozen=True)
class Steps:
    """Device functions on one chunk, values[at] .. values[at + 7]; made by `steps_of`."""

    read: DeviceFunction
    add: DeviceFunction
    squares: DeviceFunction
    normalize: DeviceFunction
    largest: DeviceFunction
    store: DeviceFunction
    inverse: DeviceFunction
    own_factor: DeviceFunction
    given_factor: DeviceFunction


@functools.cache
def _rounded(dtype: str) -> DeviceFunction:
    """Device function: float32 -> the nearest value of `dtype`."""
    to_float, to_bits = widen(dtype), narrow(dtype)

    @device
    def through(value: Any) -> Any:
        return to_float(to_bits(value))

    return through


@device
def _as_it_is(value: Any) -> Any:
    return value


def _reader(norm: Norm) -> DeviceFunction:
    """Device function: (x, residual, total, row, columns, chunk, values, at, stores): what is
    normalised; of add_rms_norm the sum, stored as well if `stores`.
    """
    load, own = part_loader(norm.dtype, norm.wide), own_chunk(norm.dtype, norm.wide)
    put, through = part_storer(norm.dtype, norm.wide), _rounded(norm.dtype)

    @device
    def alone(
        x: Device, residual: Device, total: Device, row: Any, columns: Any, chunk: Any,
        values: Device, at: Any, stores: Any,
    ) -> None:  # fmt: skip
        load(x, row, columns, chunk, values, at)
        own(values, at)

    @device
    def summed(
        x: Device, residual: Device, total: Device, row: Any, columns: Any, chunk: Any,
        values: Device, at: Any, stores: Any,
    ) -> None:  # fmt: skip
        other = cuda.local.array(CHUNK, float32)
        load(x, row, columns, chunk, values, at)
        load(residual, row, columns, chunk, other, 0)
        for i in range(CHUNK):
            values[at + i] = through(libdevice.fadd_rn(values[at + i], other[i]))
        if stores:
            put(total, row, columns, chunk, values, at)
        own(values, at)

    return summed if norm.adds else alone


@device
def _add(values: Device, at: Any, total: Any) -> Any:
    """Elements beyond the row are 0: they change no sum, which is never -0."""
    for i in range(CHUNK):
        total = libdevice.fadd_rn(total, values[at + i])
    return total


def _squares(norm: Norm) -> DeviceFunction:
    """Device function: (values, at, chunk, columns, mean, total) -> total with the squares."""
    centres = norm.centres

    @device
    def add(values: Device, at: Any, chunk: Any, columns: Any, mean: Any, total: Any) -> Any:
        for i in range(CHUNK):
            d = values[at + i]
            if centres:
                inside = chunk * uint64(CHUNK) + uint64(i) < columns
                d = libdevice.fsub_rn(d, mean) if inside else float32(0)
            total = fused_multiply_add(d, d, total)
        return total

    return add


def _normalizer(norm: Norm, step: DeviceFunction) -> DeviceFunction:
    """Device function: (weight, bias, columns, chunk, values, at, mean, inverse): x becomes z."""
    load, own = part_loader(norm.dtype, norm.wide), own_chunk(norm.dtype, norm.wide)
    centres = norm.centres

    @device
    def normalize(
        weight: Device, bias: Device, columns: Any, chunk: Any, values: Device, at: Any,
        mean: Any, inverse: Any,
    ) -> None:  # fmt: skip
        vector = cuda.local.array(CHUNK, float32)
        load(weight, uint64(0), columns, chunk, vector, 0)
        own(vector, 0)
        for i in range(CHUNK):
            d = values[at + i]
            if centres:
                d = libdevice.fsub_rn(d, mean)
            y = step(libdevice.fmul_rn(d, inverse))
            values[at + i] = step(libdevice.fmul_rn(y, vector[i]))
        if centres:
            load(bias, uint64(0), columns, chunk, vector, 0)
            own(vector, 0)
            for i in range(CHUNK):
                values[at + i] = step(libdevice.fadd_rn(values[at + i], vector[i]))

    return normalize


def _largest(spoken: Dialect) -> DeviceFunction:
    """Device function: (values, at, chunk, columns, amax) -> bits of the largest |z| so far."""
    size_of = magnitude("fp32", {"propagate": False, "skip": True}[spoken.nan])

    @device
    def largest(values: Device, at: Any, chunk: Any, columns: Any, amax: Any) -> Any:
        for i in range(CHUNK):
            if chunk * uint64(CHUNK) + uint64(i) < columns:
                amax = max(amax, size_of(uint32(libdevice.float_as_int(values[at + i]))))
        return amax

    return largest


@device
def _inverse(squares: Any, count: Any, eps: Any) -> Any:
    """1 / sqrt(mean square + eps)."""
    total = libdevice.fadd_rn(libdevice.fdiv_rn(squares, count), eps)
    return libdevice.fdiv_rn(float32(1), libdevice.fsqrt_rn(total))


def steps_of(norm: Norm, spoken: Dialect) -> Steps:
    """The steps of one norm in one dialect; of the two factors a kernel uses one."""
    rounds = {"fp32": False, "input": True}[spoken.intermediate]
    step = _rounded(norm.dtype) if rounds and norm.dtype != "fp32" else _as_it_is
    multiplier = spoken.static_multiplier if norm.static else spoken.multiplier
    scale_of, factor_of = scale_function("fp32", spoken), factor_function("fp32", spoken)
    inverts = {"x/s": False, "x*(1/s)": True}[spoken.static_multiplier]

    @device
    def own_factor(amax_bits: Any, scales: Device, row: Any) -> Any:
        amax = libdevice.int_as_float(amax_bits)
        scale = scale_of(amax)
        if cuda.threadIdx.x == 0:
            scales[row] = scale
        return factor_of(amax, scale)

    @device
    def given_factor(scales: Device) -> Any:
        mine = scales[0] if cuda.laneid == 0 else float32(0)  # one load a warp
        scale = cuda.shfl_sync(uint32(ALL_LANES), mine, 0)
        return libdevice.fdiv_rn(float32(1), scale) if inverts else scale

    return Steps(
        _reader(norm), _add, _squares(norm), _normalizer(norm, step), _largest(spoken),
        code_storer(code_function("fp32", spoken, multiplier), norm.wide),
        _inverse, own_factor, given_factor,
    )  # fmt: skip
