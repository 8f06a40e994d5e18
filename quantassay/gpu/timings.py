"""First timings: the CuPy wing beside torch._int_mm and the device's own copy, in one run.

Contract: every row names op, variant, sizes, cold or warm, microseconds, the achieved rate, and how
many of the very outputs that were timed differ from the oracle's: such a row carries no time.
Ceilings (copy bandwidth, torch's GEMM) are measured in the same run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.timing import COLD_BYTES, copies_for, replayed, summary
from reference.op import OPS, Kernel, as_tuple, get_op, kernels, recipe

GEMMS = [(4096, 4096, 4096), (8192, 8192, 8192), (16, 8192, 8192), (1, 8192, 8192)]
ROWS = [(4096, 8192), (16, 8192), (1, 4096)]
CHECKED = 4  # rows of a large output that the oracle recomputes


def measure() -> dict[str, Any]:
    """All rows and ceilings."""
    return {"ceilings": ceilings(), "rows": [*quantize_rows(), *gemm_rows()]}


def ceilings() -> dict[str, Any]:
    """Device-to-device copy (bytes read + written) in GB/s."""
    import cupy

    source = cupy.random.randint(0, 256, 1 << 30, dtype=np.uint8)
    timing, _ = replayed(lambda i: source.copy(), copies=1, calls=4, replays=7)
    rate = 2 * source.nbytes / timing.median_us / 1e3
    return {"copy_gb_per_s": rate, "bytes": 2 * source.nbytes, **timing.as_dict()}


def quantize_rows() -> list[dict[str, Any]]:
    """Per-token quantization of fp16."""
    found = []
    for M, K in ROWS:
        inputs = OPS["int8.quantize_per_token"].build(recipe("normal", dtype="fp16", M=M, K=K))
        for kernel in kernels("int8.quantize_per_token", "cupy"):
            for cold in (True, False):
                found.append(timed(kernel, inputs, {"M": M, "K": K}, cold=cold))
    return found


def gemm_rows() -> list[dict[str, Any]]:
    """The fused GEMM and the plain one, beside torch._int_mm."""
    found = []
    for M, N, K in GEMMS:
        dims = {"M": M, "N": N, "K": K}
        for op in ("int8.gemm", "int8.gemm_dequant"):
            inputs = OPS[op].build(recipe("normal", seed=1, M=M, N=N, K=K))
            for kernel in kernels(op, "cupy"):
                if kernel.variant in ("naive", "tiled") and M * N * K > 1 << 32:
                    continue
                for cold in (True, False):
                    found.append(timed(kernel, inputs, dims, cold=cold))
        found += torch_rows(M, N, K)
    return found


def timed(
    kernel: Kernel, inputs: dict[str, Any], dims: dict[str, int], *, cold: bool
) -> dict[str, Any]:
    """One kernel on one size."""
    import cupy

    op = get_op(kernel.op)
    nbytes = sum(array.nbytes for array in inputs.values() if array is not None)
    copies = copies_for(nbytes, cold)
    sets = [
        [None if inputs[arg.name] is None else cupy.asarray(inputs[arg.name]) for arg in op.inputs]
        for _ in range(copies)
    ]

    def call(i: int) -> Any:
        return kernel.function(*sets[i], dialect="ieee")

    timing, outputs = replayed(call, copies=copies)
    wrong = sum(_differs(op, inputs, output) for output in outputs)
    row = _row(kernel.op, kernel.label, dims, cold, nbytes * copies, wrong)
    if not wrong:
        row |= timing.as_dict()
        rates = {
            pipe: work / timing.median_us / 1e6 for pipe, work in op.operations(**dims).items()
        }
        row["tera_operations_per_s"] = rates
    return row


def _row(
    op: str, label: str, dims: dict[str, int], cold: bool, rotated: int, wrong: int
) -> dict[str, Any]:
    state = "cold" if cold and rotated >= COLD_BYTES else "warm" if not cold else "partly cold"
    return {"op": op, "kernel": label, "dims": dims, "cache": state, "wrong_outputs": wrong}


def _differs(op: Any, inputs: dict[str, Any], output: Any) -> bool:
    """Compares the first and last rows of a timed output with the oracle's."""
    rows = next(iter(inputs.values())).shape[0]
    chosen = sorted({0, rows - 1, *range(min(CHECKED, rows))})
    by_row = {arg.name for arg in op.inputs if arg.shape[0] == "M"}
    part = {
        name: np.ascontiguousarray(array[chosen]) if name in by_row else array
        for name, array in inputs.items()
    }
    expected = op.expected(part, dialect="ieee")
    got = [array[np.asarray(chosen)].get() for array in as_tuple(output)]
    return any(a.tobytes() != b.tobytes() for a, b in zip(got, expected, strict=True))


def torch_rows(M: int, N: int, K: int) -> list[dict[str, Any]]:
    """torch._int_mm on the same sizes, if torch is there; it refuses M <= 16."""
    try:
        import torch
    except ImportError:
        return []
    if M <= 16:
        return []
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-128, 128, (side, K), dtype=np.int8) for side in (M, N))
    found = []
    for cold in (True, False):
        copies = copies_for(a.nbytes + b.nbytes, cold)
        sets = [(torch.from_numpy(a).cuda(), torch.from_numpy(b).cuda().t()) for _ in range(copies)]
        found.append(_torch_row(torch, sets, (M, N, K), a, b, cold=cold))
    return found


def _torch_row(
    torch: Any, sets: list[Any], dims: tuple[int, int, int], a: Any, b: Any, *, cold: bool
) -> dict[str, Any]:
    M, N, K = dims
    count, times = max(20, len(sets)), []
    out = [torch._int_mm(*pair) for pair in sets]
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = [torch._int_mm(*sets[i % len(sets)]) for i in range(count)]
    for _ in range(15):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop) * 1e3 / count)
    expected = a[:1].astype(np.int64) @ b.T.astype(np.int64)
    wrong = int(not np.array_equal(out[0][:1].cpu().numpy(), expected))
    nbytes = (a.nbytes + b.nbytes) * len(sets)
    row = _row("int8.gemm", "torch._int_mm", {"M": M, "N": N, "K": K}, cold, nbytes, wrong)
    timing = summary(times, count)
    rate = 2 * M * N * K / timing.median_us / 1e6
    return {**row, **timing.as_dict(), "tera_operations_per_s": {"int8_tensor": rate}}
