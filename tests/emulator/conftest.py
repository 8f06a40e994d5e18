"""CUDA C++ strings -> kernels of the emulator, for this folder's tests."""

from __future__ import annotations

from functools import cache

import pytest
from cuda.bindings import nvrtc

import emulator
from emulator import kernel_cache

OPTIONS = ("-fmad=false", "-lineinfo", "--std=c++17")


@cache
def compile_cuda(source: str, arch: str = "compute_80") -> str:
    """PTX of a CUDA C++ source, which NVRTC calls test.cu."""
    _, program = nvrtc.nvrtcCreateProgram(source.encode(), b"test.cu", 0, [], [])
    options = [option.encode() for option in (f"--gpu-architecture={arch}", *OPTIONS)]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        log = b" " * size
        nvrtc.nvrtcGetProgramLog(program, log)
        raise AssertionError(log.decode())
    _, size = nvrtc.nvrtcGetPTXSize(program)
    ptx = b" " * size
    nvrtc.nvrtcGetPTX(program, ptx)
    nvrtc.nvrtcDestroyProgram(program)
    return ptx.rstrip(b"\0").decode()


@pytest.fixture(autouse=True)
def from_source(request, monkeypatch):
    """Kernels are parsed and lowered anew, though the disk may have them whole."""
    if request.path.name != "test_kernel_cache.py":
        monkeypatch.setattr(kernel_cache, "load_module", lambda *_: None)
        monkeypatch.setattr(kernel_cache, "load_kernel", lambda *_, **options: None)


@pytest.fixture(scope="session")
def cuda():
    """cuda(source, name, arch) -> Kernel."""

    def kernel(source: str, name: str = "k", arch: str = "compute_80") -> emulator.Kernel:
        return emulator.compile(compile_cuda(source, arch)).kernel(name)

    return kernel
