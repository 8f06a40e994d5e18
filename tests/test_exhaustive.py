"""Small domains in full, through the compiled kernels of both wings, bit for bit.

Contract under test: every one of the 65,536 fp16 and 65,536 bf16 bit patterns (NaN, infinities,
-0 and subnormals included) as x, under given scales and under dynamic ones; every code and every
fp16 and bf16 scale in dequantize; every fp16 and bf16 value with the ties on both its sides, and
the fp32 neighbours of those, in the rounding of the outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

from quantassay.compare import compare
from quantassay.loading import load_wings
from reference import get_op
from reference.dialects import dialect as get_dialect
from reference.numerics import DTYPES
from reference.op import as_tuple, kernels

WINGS = ("cupy", "numba")
PATTERNS = np.arange(1 << 16, dtype=np.uint16)
NARROW = ("fp16", "bf16")

load_wings()


def spoken(op: str) -> list[tuple[str, str]]:
    """The op's dialects with the narrow dtypes that each takes."""
    pairs = product(get_op(op).options["dialect"], NARROW)
    return [(name, dtype) for name, dtype in pairs if dtype in get_dialect(name).inputs]


def every(dtype: str) -> np.ndarray:
    """All bit patterns of fp16 or bf16, (65536,)."""
    return PATTERNS.view(DTYPES[dtype])


def verify(op: str, wing: str, inputs: dict[str, Any], **options: str) -> int:
    """Runs the wing's kernel on the inputs; fails on any bit. Returns elements compared."""
    declared = get_op(op)
    (kernel,) = kernels(op=op, wing=wing)
    arrays = [np.ascontiguousarray(inputs[arg.name]) for arg in declared.inputs]
    got = as_tuple(kernel.function(*arrays, **options))
    expected = declared.expected(inputs, **options)
    mismatch = compare(declared, inputs, options, got, expected)
    assert mismatch is None, f"{wing} {options}: {mismatch.words if mismatch else ''}"
    return sum(array.size for array in expected)


# Around 1/2: a power of two makes quotients tie; 1/3 and 1/127 do not; the last two saturate most.
SCALES = (0.5, 1 / 3, 1 / 127, 2.0**-14, 3.0, 2.0**-24, 60000.0)


@pytest.mark.parametrize(("dialect", "dtype"), spoken("int8.quantize_static"))
@pytest.mark.parametrize("wing", WINGS)
def test_static_codes_of_every_value(wing: str, dialect: str, dtype: str) -> None:
    x = every(dtype).reshape(64, 1024)
    for scale in SCALES:
        scales = np.array([scale], dtype=DTYPES[dtype]).astype(np.float32)
        assert verify("int8.quantize_static", wing, {"x": x, "scales": scales}, dialect=dialect)
    per_row = np.resize(np.array(SCALES, DTYPES[dtype]).astype(np.float32), 64)
    verify("int8.quantize_static", wing, {"x": x, "scales": per_row}, dialect=dialect)


def rows_of(dtype: str) -> Iterator[np.ndarray]:
    """Every finite value in several rows with different amax; then infinities and NaN.

    Values are sorted by magnitude, 63 to a row; the 64th is an anchor of larger magnitude, nearer
    or further away, so that the same value meets scales from amax = itself to amax = the largest.
    """
    values = every(dtype)
    finite = values[np.isfinite(values.astype(np.float32))]
    finite = finite[np.argsort(np.abs(finite.astype(np.float32)), kind="stable")]
    count = -(-finite.size // 63)
    padded = np.resize(finite, count * 63)
    padded[finite.size :] = finite[-1]
    chunks = padded.reshape(count, 63)
    for further in (0, 1, 100, 300, count):
        anchors = chunks[np.minimum(np.arange(count) + further, count - 1), -1:]
        yield np.concatenate([anchors, chunks], axis=1)
    special = values[~np.isfinite(values.astype(np.float32))]
    rest = np.resize(finite, (special.size, 63)).copy()
    yield np.concatenate([rest[:, :32], special[:, None], rest[:, 32:]], axis=1)


@pytest.mark.parametrize(("dialect", "dtype"), spoken("int8.quantize_per_token"))
@pytest.mark.parametrize("wing", WINGS)
def test_dynamic_codes_of_every_value(wing: str, dialect: str, dtype: str) -> None:
    seen = 0
    for x in rows_of(dtype):
        seen += verify("int8.quantize_per_token", wing, {"x": x}, dialect=dialect)
    assert seen > 5 * 60_000


@pytest.mark.parametrize("out_dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("wing", WINGS)
def test_every_code_meets_every_narrow_scale(wing: str, out_dtype: str) -> None:
    codes = np.arange(-128, 128).astype(np.int8)
    for dtype in NARROW:
        scales = every(dtype).astype(np.float32)
        some = np.resize(codes, (scales.size, 8))  # row i holds codes 8 i ...
        inputs = {"codes": some, "scales": scales}
        verify("int8.dequantize", wing, inputs, dialect="ieee", out_dtype=out_dtype)
        few = scales[:: scales.size // 256].copy()
        inputs = {"codes": np.tile(codes, (few.size, 1)), "scales": few}
        verify("int8.dequantize", wing, inputs, dialect="ieee", out_dtype=out_dtype)


@pytest.mark.parametrize("out_dtype", NARROW)
@pytest.mark.parametrize("wing", WINGS)
def test_every_tie_of_the_output_format(wing: str, out_dtype: str) -> None:
    """Code 1 times a scale is the scale: what is left is the rounding of fp32 to the output."""
    values = every(out_dtype).astype(np.float32)
    finite = np.unique(values[np.isfinite(values) & (values >= 0)]).astype(np.float64)
    beyond = 2 * finite[-1] - finite[-2]  # what the next value would be: here infinity begins
    ties = (finite + np.append(finite[1:], beyond)) / 2
    exact = np.concatenate([finite, ties]).astype(np.float32)
    around = [exact, np.nextafter(exact, np.float32(np.inf)), np.nextafter(exact, np.float32(0))]
    scales = np.concatenate(around).astype(np.float32)
    inputs = {"codes": np.tile(np.array([1, -1], np.int8), (scales.size, 1)), "scales": scales}
    count = verify("int8.dequantize", wing, inputs, dialect="ieee", out_dtype=out_dtype)
    assert count > 2 * 3 * 60_000
