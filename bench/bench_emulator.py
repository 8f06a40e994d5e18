"""PTX instructions per second of the emulator, all checks on, one thread (host CPU).

Run with `make bench`. Each kernel runs on ordinary data; its outputs are compared with the oracle's
after the timed run.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

import kernels_cupy
import kernels_numba
from emulator.recording import recording
from reference.op import as_tuple, get_op, kernels, recipe

assert kernels_cupy
assert kernels_numba
CASES = {
    "int8.quantize_per_token": {"M": 256, "K": 4096},
    "int8.gemm": {"M": 256, "N": 256, "K": 512},
    "int8.gemm_dequant": {"M": 256, "N": 256, "K": 512},
    "int8.linear": {"M": 256, "N": 256, "K": 512},
}


@pytest.mark.parametrize("label", ["cupy", "numba"])
@pytest.mark.parametrize("op", list(CASES))
def bench_instructions(benchmark: Any, op: str, label: str) -> None:
    declared = get_op(op)
    dtype = "fp16" if len(declared.dtypes) > 1 else "fp32"
    inputs = declared.build(recipe("normal", seed=1, dtype=dtype, **CASES[op]))
    for kernel in kernels(op, label):
        kernel.function(*inputs.values())  # compiles
        best, instructions = 1e9, 0
        for _ in range(5):
            with recording() as recorded:
                start = time.perf_counter()
                got = as_tuple(kernel.function(*inputs.values()))
                best = min(best, time.perf_counter() - start)
            instructions = recorded.instructions
        for array, expected in zip(got, declared.expected(inputs), strict=True):
            assert array.tobytes() == expected.tobytes()
        rate = instructions / best / 1e9
        benchmark.extra_info[kernel.label] = rate
        sizes = " ".join(f"{k}={v}" for k, v in CASES[op].items())
        print(
            f"\n{op} {kernel.label} {sizes}: {instructions:,} PTX instructions in "
            f"{best * 1e3:.1f} ms on this CPU, all checks on: {rate:.2f} G/s"
        )
    benchmark.pedantic(kernel.function, args=tuple(inputs.values()), rounds=3)
