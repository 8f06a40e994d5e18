"""Numba's simulator beside the emulator: one kernel, the same data, equal outputs.

    python -m bench.numba_simulator [M N K]

The kernel is a naive INT8 GEMM, a thread per output: the simulator has no warp shuffles, and runs
every thread as a Python thread. It runs in a subprocess (NUMBA_ENABLE_CUDASIM=1 must be set before
numba is imported), which times the launch alone; the emulator's launch is timed warm, machine code
made, all checks on. Both outputs are compared with each other and with NumPy's.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba.cuda
import numpy as np

SIDE = 16
SIZES = (64, 64, 128)
ROUNDS = 5

# Numba's annotations describe the host's side; inside kernels these names mean something else.
cuda: Any = numba.cuda
int32: Any = numba.int32


@dataclass(frozen=True)
class Comparison:
    """Seconds of one launch in each, and the PTX instructions that the emulator executed."""

    sizes: tuple[int, int, int]
    simulator_seconds: float
    emulator_seconds: float
    instructions: int

    @property
    def ratio(self) -> float:
        return self.simulator_seconds / self.emulator_seconds

    def __str__(self) -> str:
        M, N, K = self.sizes
        rate = self.instructions / self.emulator_seconds / 1e9
        return (
            f"naive INT8 GEMM {M}x{N}x{K}, {M * N} threads, on this CPU ({platform.machine()}):"
            f"\n  Numba simulator  {self.simulator_seconds:10.4f} s"
            f"\n  emulator         {self.emulator_seconds:10.4f} s, all checks on, "
            f"{self.instructions / 1e6:.1f} M PTX instructions, {rate:.2f} G/s"
            f"\n  ratio            {self.ratio:10.0f}, outputs equal"
        )


def naive_gemm() -> Callable[..., None]:
    """The kernel. a: s8 (M, K); b: s8 (N, K); acc: s32 (M, N)."""

    def kernel(a: Any, b: Any, acc: Any) -> None:
        n, m = cuda.grid(2)
        if m < acc.shape[0] and n < acc.shape[1]:
            total = int32(0)
            for k in range(a.shape[1]):
                total = int32(total + int32(a[m, k]) * int32(b[n, k]))
            acc[m, n] = total

    return kernel


def compare(M: int, N: int, K: int) -> Comparison:
    """Runs both. AssertionError where outputs differ, RuntimeError where the simulator fails."""
    rng = np.random.default_rng(0)
    a = rng.integers(-128, 128, (M, K), dtype=np.int8)
    b = rng.integers(-128, 128, (N, K), dtype=np.int8)
    simulated, simulator_seconds = _simulator(a, b)
    emulated, emulator_seconds, instructions = _emulator(a, b)
    assert np.array_equal(emulated, simulated), "emulator and simulator disagree"
    assert np.array_equal(emulated, a.astype(np.int32) @ b.astype(np.int32).T), "both are wrong"
    return Comparison((M, N, K), simulator_seconds, emulator_seconds, instructions)


def _grid(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    return -(-b.shape[0] // SIDE), -(-a.shape[0] // SIDE)


def _emulator(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float, int]:
    """(output, seconds of the fastest of ROUNDS warm launches, instructions of one)."""
    from kernels_numba import launch

    acc = np.empty((a.shape[0], b.shape[0]), np.int32)
    with launch.recording() as session:
        times = []
        for _ in range(1 + ROUNDS):
            start = time.perf_counter()
            launch.run(naive_gemm, (), _grid(a, b), (SIDE, SIDE), a, b, acc)
            times.append(time.perf_counter() - start)
    return acc, min(times[1:]), session.launches[0].stats.instructions


def _simulator(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float]:
    """(output, seconds of one launch) from a subprocess."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
        np.savez(inputs, a=a, b=b)
        root = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        done = subprocess.run(
            [sys.executable, "-m", "bench.numba_simulator", "--simulate", inputs, outputs],
            env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"Numba's simulator failed:\n{done.stderr}")
        with np.load(outputs) as result:
            return result["acc"], float(result["seconds"])


def _simulate(inputs: str, outputs: str) -> None:
    """In the subprocess: the kernel in the simulator."""
    with np.load(inputs) as arrays:
        a, b = arrays["a"], arrays["b"]
    acc = np.zeros((a.shape[0], b.shape[0]), np.int32)
    kernel = cuda.jit(naive_gemm())
    start = time.perf_counter()
    kernel[_grid(a, b), (SIDE, SIDE)](a, b, acc)
    np.savez(outputs, acc=acc, seconds=time.perf_counter() - start)


def main(words: list[str]) -> None:
    if words[:1] == ["--simulate"]:
        _simulate(*words[1:])
        return
    if words and (len(words) != 3 or not all(word.isdigit() and int(word) for word in words)):
        print(
            f"usage: python -m bench.numba_simulator [M N K], sizes >= 1; got {words}",
            file=sys.stderr,
        )
        sys.exit(2)
    M, N, K = map(int, words) if words else SIZES
    print(compare(M, N, K))


if __name__ == "__main__":
    main(sys.argv[1:])
