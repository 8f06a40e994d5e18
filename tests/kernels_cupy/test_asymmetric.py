"""The asymmetric kernels of both wings: small domains in full, quotients beside every tie, and what
the compiler made of the CUDA C++ ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from emulator.recording import recording
from kernels_cupy import int8_asymmetric as launcher
from kernels_numba import rows
from quantassay.compare import compare
from quantassay.loading import load_wings
from reference import get_op
from reference.numerics import DTYPES
from reference.op import as_tuple, kernels
from roofline.audit import AuditRow, audit, problems

load_wings()
WINGS, SPOKEN, CODES = ("cupy", "numba"), ("ieee", "vllm"), ("u8", "s8")
PATTERNS = np.arange(1 << 16, dtype=np.uint16)


def verify(name: str, wing: str, inputs: dict[str, Any], **options: str) -> None:
    """Runs the wing's kernel on the inputs; fails on any bit."""
    op = get_op(f"int8.asymmetric_{name}")
    (kernel,) = kernels(op=op.name, wing=wing)
    got = as_tuple(kernel.function(*inputs.values(), **options))
    mismatch = compare(op, inputs, options, got, op.expected(inputs, **options))
    assert mismatch is None, f"{wing} {options}: {mismatch.words if mismatch else ''}"


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("spoken", SPOKEN)
@pytest.mark.parametrize("wing", WINGS)
def test_every_value_of_16_bits(wing: str, spoken: str, dtype: str) -> None:
    """All bit patterns, under given scales and zero points and under those of sorted rows."""
    x = PATTERNS.view(DTYPES[dtype])
    scales = np.resize(np.array([0.5, 1 / 3, 2.0**-24, 3.0, 2.0**-140, 1e-3], np.float32), 64)
    extremes = (-128, 255, 0, 7) if spoken == "ieee" else (-25628, -(2**31), 2**31 - 1, 0, 9)
    zero_points = np.resize(np.array(extremes, np.int32), 64)
    given = {"x": x.reshape(64, 1024), "scales": scales, "zero_points": zero_points}
    finite = x[np.isfinite(x.astype(np.float32))]
    ordered = np.sort(finite.astype(np.float32)).astype(x.dtype)
    for codes in CODES:
        options = {"dialect": spoken, "code_dtype": codes}
        verify("static", wing, given, **options)
        verify("per_token", wing, {"x": np.resize(ordered, (x.size // 64, 64))}, **options)
        verify("per_token", wing, {"x": x.reshape(-1, 8)}, **options)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("spoken", ["torchao", "compressed_tensors"])
@pytest.mark.parametrize("wing", WINGS)
def test_every_value_of_16_bits_in_its_own_dtype(wing: str, spoken: str, dtype: str) -> None:
    """The same where scales are made in x's dtype and given ones are values of it."""
    x = PATTERNS.view(DTYPES[dtype])
    scales = np.array([0.5, 1 / 3, 2.0**-24, 3.0, 2.0**-17, 1e-3, 0.01171875, 65504]).astype(
        x.dtype
    )
    given = {
        "x": x.reshape(64, 1024),
        "scales": np.resize(scales.astype(np.float32), 64),
        "zero_points": np.resize(np.array([-128, 255, 0, 7, -1, 127, 100], np.int32), 64),
    }
    finite = x[np.isfinite(x.astype(np.float32))]
    ordered = np.sort(finite.astype(np.float32)).astype(x.dtype)
    for codes in CODES:
        options = {"dialect": spoken, "code_dtype": codes}
        verify("static", wing, given, **options)
        verify("per_token", wing, {"x": np.resize(ordered, (x.size // 64, 64))}, **options)
        verify("per_token", wing, {"x": x.reshape(-1, 8)}, **options)


@pytest.mark.parametrize("out_dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("wing", WINGS)
def test_every_code_meets_every_clamped_zero_point(wing: str, out_dtype: str) -> None:
    zero_points = np.arange(-128, 256, dtype=np.int32)
    scales = np.linspace(1e-3, 300, zero_points.size).astype(np.float32)
    codes = np.tile(np.arange(256).astype(np.uint8), (zero_points.size, 1))
    for one in (codes, codes.view(np.int8)):
        inputs = {"codes": one, "scales": scales, "zero_points": zero_points}
        verify("dequantize", wing, inputs, dialect="ieee", out_dtype=out_dtype)
        verify("dequantize", wing, inputs, dialect="torchao", out_dtype=out_dtype)


@pytest.mark.parametrize("seed", range(3))
def test_static_codes_beside_every_tie(seed: int) -> None:
    """(k + 1/2) s, give or take 3 ulps, for every k that a zero point of -128..255 leaves within
    the codes, under scales on both sides of what the fast division takes.
    """
    rng = np.random.default_rng(seed)
    scales = np.ldexp(rng.uniform(1, 2, 128), rng.integers(-66, 66, 128)).astype(np.float32)
    ties = scales[:, None] * (np.arange(-384, 384) + np.float32(0.5)).astype(np.float32)
    x = (ties.view(np.int32) + rng.integers(-3, 4, ties.shape, np.int32)).view(np.float32)
    zero_points = rng.choice(np.array([-128, 0, 127, 255], np.int32), 128)
    inputs = {"x": x, "scales": scales, "zero_points": zero_points}
    for codes in CODES:
        for spoken in ("ieee", "onnx", "compressed_tensors", "pytorch"):
            verify("static", "cupy", inputs, dialect=spoken, code_dtype=codes)


@pytest.mark.parametrize("seed", range(3))
def test_dynamic_codes_beside_every_tie(seed: int) -> None:
    """The same under the row's own scale: 255 s wide, from 0 or to 0."""
    rng = np.random.default_rng(seed)
    width = np.ldexp(rng.uniform(1, 2, (128, 1)), rng.integers(-66, 66, (128, 1)))
    width = width.astype(np.float32)
    ties = (width / np.float32(255)) * (np.arange(255) + np.float32(0.5)).astype(np.float32)
    near = (ties.view(np.int32) + rng.integers(-3, 4, ties.shape, np.int32)).view(np.float32)
    x = np.concatenate([width, np.minimum(near, width)], axis=1)
    x *= rng.choice(np.array([-1, 1], np.float32), (128, 1))
    for codes in CODES:
        verify("per_token", "cupy", {"x": x}, dialect="ieee", code_dtype=codes)
        verify("per_token", "cupy", {"x": x}, dialect="compressed_tensors", code_dtype=codes)


MADE: dict[str, dict[str, Any]] = {
    "per_token": {"x": (64, 4096)},
    "per_group": {"x": (64, 4096), "group_size": 128},
    "static": {"x": (64, 4096), "scales": (64,), "zero_points": (64,)},
    "static_per_group": {"x": (64, 4096), "scales": (64, 32), "zero_points": (64, 32)},
    "dequantize": {"codes": (64, 4096), "scales": (64,), "zero_points": (64,)},
    "dequantize_per_group": {"codes": (64, 4096), "scales": (64, 32), "zero_points": (64, 32)},
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("wing", WINGS)
def test_each_byte_moves_once(wing: str, name: str) -> None:
    op = get_op(f"int8.asymmetric_{name}")
    dtypes = {"x": "fp16", "scales": "fp32", "zero_points": "s32", "codes": "u8"}
    inputs = {
        key: shape if isinstance(shape, int) else np.ones(shape, DTYPES[dtypes[key]])
        for key, shape in MADE[name].items()
    }
    options = {"out_dtype": "fp16"} if "dequantize" in name else {}
    with recording(trace=True) as session:
        (kernel,) = kernels(op=op.name, wing=wing)
        kernel.function(*inputs.values(), **options)
    (launch,) = session.launches
    dims = {"M": 64, "K": 4096, "Q": 32, "G": 128, "S": 64}
    ideal = op.traffic(dims, {"out": "fp16"} if "dequantize" in name else {"x": "fp16"}).total
    moved = launch.stats.global_load_bytes + launch.stats.global_store_bytes
    assert ideal == moved
    assert 32 * launch.stats.global_sectors <= 1.01 * ideal


def test_geometry_is_the_same_in_both_wings() -> None:
    for length in (1, 2, 7, 8, 31, 32, 33, 96, 128, 129, 516, 1000, 4096, 40000):
        for per in (each for each in (1, 2, 4, 8) if length % each == 0):
            for count in (1, 3, 32, 100, 4097):
                grid, (lanes, together) = launcher.geometry(count, length, per)
                assert rows.geometry(count, length, per) == (grid, (lanes, together))
                assert lanes * together % 32 == 0
                assert lanes * together <= 1024
                assert lanes * 4 >= length // per or lanes == 1024
                assert lanes * per >= 32 or lanes >= length // per
                assert grid[0] * together >= count > (grid[0] - 1) * together
                assert (lanes & (lanes - 1) == 0) if lanes < 32 else (lanes % 32 == 0)
                assert together == 1 or lanes <= 32


@pytest.fixture(scope="module")
def audited() -> list[AuditRow]:
    wanted = {"ieee fp16 x8", "vllm fp16 x8", "ieee fp32 x4", " fp16 x8", " fp32 x4",
              "compressed_tensors fp16 x8"}  # fmt: skip
    chosen = [
        one for one in launcher.configurations(False) if f"{one.dialect} {one.path}" in wanted
    ]
    assert len(chosen) == 4 * len(launcher.KERNELS) + 2
    return audit(configurations=chosen)


def test_no_spills_and_wide_accesses(audited: list[AuditRow]) -> None:
    assert [words for row in audited for words in problems(row)] == []
    assert all(0 < row.registers <= 64 for row in audited)


def test_the_common_path_does_not_divide(audited: list[AuditRow]) -> None:
    """Per element at most 12 slots of the row kernel's loop in ieee, 9 in vllm."""
    for row in audited:
        if row.kernel != "asymmetric_rows" or "fp16" not in row.path:
            continue
        if row.dialect == "compressed_tensors":
            assert row.hot_loop is not None
            assert row.hot_loop.calls == 0
            continue
        loop = row.hot_loop
        assert loop is not None
        assert (loop.load_bytes, loop.store_bytes, loop.calls) == (16, 8, 0)
        assert loop.issue_slots <= 8 * (12 if row.dialect == "ieee" else 9)
