"""Group kernels of both wings move every byte once, in whole sectors, and spill nothing.

Contract: bytes are what the emulator's trace counts for the PTX, against the op's declaration, at
M = 64, K = 4096, fp16; registers are what ptxas made of the CUDA C++ kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import kernels_cupy.int8_group
import kernels_numba.int8_group
from emulator.recording import recording
from kernels_cupy.compile import ARCHS
from reference import get_op, recipe
from reference.int8_group import quantize_per_group, quantize_static_per_group
from roofline.audit import audit, problems

WINGS = {"cupy": kernels_cupy.int8_group, "numba": kernels_numba.int8_group}
M, K = 64, 4096


@pytest.mark.parametrize("wing", list(WINGS))
@pytest.mark.parametrize("G", [32, 64, 128, 4096])
def test_every_byte_moves_once(wing: str, G: int) -> None:
    kernels = WINGS[wing]
    op = get_op("int8.quantize_per_group")
    x = op.build(recipe("normal", M=M, Q=K // G, G=G, dtype="fp16"))["x"]
    codes, scales = quantize_per_group(x, G)
    calls = {
        "quantize_per_group": (codes, (x, G), {}),
        "quantize_static_per_group": (codes, (x, scales), {}),
        "dequantize_per_group": (None, (codes, scales), {"out_dtype": "fp16"}),
    }
    for name, (expected, arguments, options) in calls.items():
        with recording(trace=True) as seen:
            found: Any = getattr(kernels, name)(*arguments, **options)
        if expected is not None:
            got = found[0] if isinstance(found, tuple) else found
            assert got.tobytes() == expected.tobytes()
        (launch,) = seen.launches
        declared = get_op(f"int8.{name}").traffic(
            {"M": M, "Q": K // G, "G": G, "S": M}, {"x": "fp16", "out": "fp16"}
        )
        moved = launch.stats.global_load_bytes + launch.stats.global_store_bytes
        assert declared.total <= moved <= 1.002 * declared.total, name
        assert 32 * launch.stats.global_sectors <= 1.025 * declared.total, name
        assert launch.stats.shared_wavefronts == launch.stats.shared_ideal_wavefronts


@pytest.mark.parametrize("G", [96, 100, 129])
def test_odd_groups_move_every_byte_once_too(G: int) -> None:
    x = np.random.default_rng(G).standard_normal((7, 5 * G)).astype(np.float16)
    for kernels in WINGS.values():
        with recording(trace=True) as seen:
            _, scales = kernels.quantize_per_group(x, G, dialect="vllm")
        (launch,) = seen.launches
        declared = get_op("int8.quantize_per_group").traffic(
            {"M": 7, "Q": 5, "G": G}, {"x": "fp16"}
        )
        moved = launch.stats.global_load_bytes + launch.stats.global_store_bytes
        assert moved == declared.total
        codes = kernels.quantize_static_per_group(x, scales, dialect="vllm")
        expected = quantize_static_per_group(x, np.asarray(scales), dialect="vllm")
        assert codes.tobytes() == expected.tobytes()


def test_no_spills_and_wide_accesses() -> None:
    chosen = [
        one
        for one in kernels_cupy.int8_group.configurations(False)
        if one.path in ("fp16 x8", "bf16 x8", "fp32 x4")
    ]
    rows = audit(ARCHS, chosen)
    assert [words for row in rows for words in problems(row)] == []
    assert max(row.registers for row in rows) <= 64
    for row in rows:
        if row.path == "fp16 x8" and row.kernel.endswith("_groups") and "INPUT" in row.defines:
            assert row.loads["LDG.128"] >= 4
            assert row.stores["STG.64"] >= 4
