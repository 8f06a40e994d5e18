"""CUDA C++ text -> PTX by NVRTC, without a GPU: for foreign sources, with any include folders.

Contract: `compile_cuda(text, arch, includes)` gives the PTX; floating-point contraction is off, so
that products and sums round where the source says. Raises RuntimeError with NVRTC's log.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from cuda.bindings import nvrtc


def package_folder(name: str) -> Path:
    """Raises ModuleNotFoundError."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"package {name}")
    return Path(spec.submodule_search_locations[0])


def toolkit_headers() -> Path:
    """cuda_fp16.h and the like, of the package nvidia-cuda-runtime."""
    for found in package_folder("nvidia").glob("*/include/cuda_fp16.h"):
        return found.parent
    raise FileNotFoundError("package nvidia-cuda-runtime without cuda_fp16.h")


def compile_cuda(
    text: str, arch: int, includes: Sequence[Path] = (), options: Sequence[str] = ()
) -> str:
    given = [f"--gpu-architecture=compute_{arch}", "-fmad=false", "-lineinfo", "--std=c++17"]
    given += [f"-I{folder}" for folder in (*includes, toolkit_headers())] + list(options)
    _, program = nvrtc.nvrtcCreateProgram(text.encode(), b"foreign.cu", 0, [], [])
    encoded = [option.encode() for option in given]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(encoded), encoded)
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        log = b" " * size
        nvrtc.nvrtcGetProgramLog(program, log)
        raise RuntimeError(log.rstrip(b"\0").decode())
    _, size = nvrtc.nvrtcGetPTXSize(program)
    ptx = b" " * size
    nvrtc.nvrtcGetPTX(program, ptx)
    nvrtc.nvrtcDestroyProgram(program)
    return ptx.rstrip(b"\0").decode()
