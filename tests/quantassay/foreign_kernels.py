"""What the tests of `check --cu` share: a plain kernel, and how one is checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quantassay.engine import check_kernel
from quantassay.foreign import Request, load
from quantassay.results import CheckResult

STATIC, GEMM = "int8.quantize_static", "int8.gemm"
NORM = "int8.add_rms_norm_quantize"
# The inner part of a per-tensor scaled quantization in dialect ieee.
CODE = """
__device__ signed char code_of(float x, float scale) {
    if (scale == 0.0f) return 0;
    return max(-127, min(127, __float2int_rn(__fdiv_rn(x, scale))));
}
"""
BODY = """
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < M * K) codes[i] = code_of({x}, scales[S == 1 ? 0 : i / K]);
"""
PLAIN = CODE + (
    "__global__ void quantize(const float* x, const float* scales, signed char* codes,"
    " int M, int K, int S) {" + BODY.format(x="x[i]") + "}\n"
)
ARGS = "x, scales, codes, M, K, S"
GRID = "cdiv(M * K, 64)"


def request(folder: Path, text: str, **changes: Any) -> Request:
    """A request for a kernel of `text`, as the plain one has it unless `changes` say otherwise."""
    path = folder / ("kernel.ptx" if changes.get("ptx") else "kernel.cu")
    path.write_text(text)
    given = {
        "ptx": False, "op": STATIC, "dialects": ("ieee",), "grids": (GRID,), "blocks": ("64",),
        "args": (ARGS,), **changes,
    }  # fmt: skip
    return Request(path, **given)


def checked(folder: Path, text: str, **changes: Any) -> CheckResult:
    kernel = load(request(folder, text, **changes))
    return check_kernel(kernel, kernel.dialects[0], examples=8, device="emulator")


def passes(folder: Path, text: str, **changes: Any) -> CheckResult:
    result = checked(folder, text, **changes)
    assert result.counterexample is None, str(result.counterexample)
    assert result.elements > 1000
    return result
