"""CUDA C++ to PTX and CUBIN: the only place that calls NVRTC.

Contract: `ptx` and `cubin` compile one source file of ours with IEEE semantics: no contraction of
multiply and add (-fmad=false), no flush of subnormals, no fast-math, division and square root
correctly rounded. CuPy's own NVRTC path is never used: it always adds -ftz=true. Neither a GPU nor
a driver is needed.

Results are kept in the cache folder (reference/storage.py), one file per sha256 of source,
everything it includes, options and NVRTC's version.

With $QUANTASSAY_CUBINS set (the folder that `export` wrote), `cubin` takes its bytes from there
and never compiles: a CUBIN that is missing, or whose sha256 is not the manifest's, is an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from reference.storage import cache_folder, keep, replace

FOLDER = Path(__file__).parent
OPTIONS = ("-fmad=false", "-lineinfo", "--std=c++17", "-default-device")
ARCHS = ("sm_80", "sm_89", "sm_90a")  # the CUBINs that the audit covers
MANIFEST = "manifest.json"
_ROOT = "/quantassay/"  # stands for the checkout in line information
_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)

Defines = Mapping[str, int]


class CompileError(RuntimeError):
    """NVRTC refused a source. `log` holds what it said."""

    def __init__(self, source: str, log: str) -> None:
        super().__init__(f"NVRTC could not compile {source}:\n{log}")
        self.log = log


@dataclass(frozen=True)
class Binary:
    """What a compilation gave: PTX text or CUBIN bytes, the compiler's log, the cache key."""

    key: str
    data: bytes
    log: str


@dataclass(frozen=True)
class Job:
    """All that decides a compilation's result."""

    name: str
    text: str
    headers: tuple[tuple[str, str], ...]
    options: tuple[str, ...]
    kind: str  # "ptx" or "cubin"

    def key(self, nvrtc: str) -> str:
        parts = [self.name, self.text, self.headers, self.options, self.kind, nvrtc]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


_memory: dict[str, Binary] = {}


def ptx(source: str | Path, defines: Defines, arch: str = "sm_80") -> str:
    """PTX of `source` (a file of this folder, or a path) for `arch`, such as "sm_80".

    Raises CompileError with NVRTC's log, ValueError for an arch that is not "sm_...".
    """
    return compiled(source, defines, arch, "ptx").data.decode()


def cubin(source: str | Path, defines: Defines, arch: str) -> bytes:
    """CUBIN of `source` for `arch`. Raises as `ptx`, and FileNotFoundError or ValueError where
    $QUANTASSAY_CUBINS is set and lacks it or holds other bytes than its manifest says.
    """
    folder = os.environ.get("QUANTASSAY_CUBINS")
    if folder:
        return _prebuilt(Path(folder), source, defines, arch)
    return compiled(source, defines, arch, "cubin").data


def compiled(source: str | Path, defines: Defines, arch: str, kind: str) -> Binary:
    """As `ptx` or `cubin`, with log and key; from memory, disk or NVRTC, in this order."""
    job = _job(source, defines, arch, kind)
    key = job.key(nvrtc_version())
    if key not in _memory:
        found = _read(key, kind)
        if found is None:
            found = _compile(job, key)
            _write(found, kind)
        _memory[key] = found
    return _memory[key]


def cubin_path(source: str | Path, defines: Defines, arch: str) -> Path:
    """A file that holds `cubin(...)`: the cached or carried one, or a temporary copy."""
    data = cubin(source, defines, arch)
    carried = os.environ.get("QUANTASSAY_CUBINS")
    folder = Path(carried) if carried else cache_folder()
    key = cubin_key(source, defines, arch)
    path = folder / f"{key}.cubin"
    return path if path.is_file() else _temporary(key, data)


def cubin_key(source: str | Path, defines: Defines, arch: str) -> str:
    """The name under which this CUBIN is cached, carried and quoted as evidence."""
    carried = os.environ.get("QUANTASSAY_CUBINS")
    version = _manifest(Path(carried))["nvrtc"] if carried else nvrtc_version()
    return _job(source, defines, arch, "cubin").key(str(version))


def export(
    folder: Path,
    configurations: Iterable[tuple[str, Defines]],
    archs: Iterable[str] = ARCHS,
) -> int:
    """Writes the CUBINs of (source, defines) pairs and their manifest, for $QUANTASSAY_CUBINS.

    Returns how many there are. The manifest comes last: without it the folder is not used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted, entries = tuple(archs), {}
    for source, defines in configurations:
        for arch in wanted:
            binary = compiled(source, defines, arch, "cubin")
            replace(folder / f"{binary.key}.cubin", binary.data)
            entries[binary.key] = {
                "source": str(source),
                "defines": dict(sorted(defines.items())),
                "arch": arch,
                "sha256": hashlib.sha256(binary.data).hexdigest(),
            }
    manifest = {"nvrtc": nvrtc_version(), "cubins": entries}
    replace(folder / MANIFEST, json.dumps(manifest, indent=1))
    return len(entries)


@cache
def nvrtc_version() -> str:
    """NVRTC's full version, such as "13.0.88", as it signs its PTX; major.minor if it does not."""
    from cuda.bindings import nvrtc

    text = _nvrtc("", "version.cu", (), ("--gpu-architecture=compute_80",), "ptx")[0].decode()
    signed = re.search(r"release \S+, V([\d.]+)", text)
    _, major, minor = nvrtc.nvrtcVersion()
    return signed[1] if signed else f"{major}.{minor}"


def named(
    text: str,
    name: str,
    options: tuple[str, ...],
    headers: tuple[tuple[str, str], ...],
    expressions: tuple[str, ...],
) -> tuple[str, str, tuple[str, ...]]:
    """PTX of somebody else's source with exactly these options (not OPTIONS), the log, and the
    names in the PTX of `expressions`, such as "quantize<float>". headers: (name, text) pairs that
    an #include finds. Nothing is cached. Raises CompileError.
    """
    lowered: list[str] = []
    data, log = _nvrtc(text, name, headers, options, "ptx", expressions, lowered)
    return data.decode(errors="replace"), log, tuple(lowered)


def forget() -> None:
    """Empties the cache in memory (not the one on disk)."""
    _memory.clear()
    _manifest.cache_clear()


def _job(source: str | Path, defines: Defines, arch: str, kind: str) -> Job:
    if not arch.startswith("sm_"):
        raise ValueError(f"arch: got {arch!r}; allowed: sm_80, sm_89, sm_90a and the like")
    path = (FOLDER / source).resolve()
    target = arch.replace("sm_", "compute_") if kind == "ptx" else arch
    words = tuple(f"-D{name}={value}" for name, value in sorted(defines.items()))
    options = (f"--gpu-architecture={target}", *OPTIONS, *words)
    text = path.read_text()
    return Job(path.name, _named(path, text), _headers(text, path.parent), options, kind)


def _named(path: Path, text: str) -> str:
    """The text under its path in the checkout, so that line information, and with it the CUBIN's
    hash, is the same wherever the checkout lies and whatever the working directory.
    """
    inside = path.is_relative_to(FOLDER.parent)
    shown = f"{_ROOT}{path.relative_to(FOLDER.parent)}" if inside else str(path)
    return f'#line 1 "{shown}"\n{text}'


def _headers(text: str, folder: Path) -> tuple[tuple[str, str], ...]:
    """Every file that `text` includes, directly or not, by name; from its folder or from ours."""
    found: dict[str, str] = {}
    pending = _INCLUDE.findall(text)
    while pending:
        name = pending.pop()
        if name in found:
            continue
        path = folder / name if (folder / name).is_file() else FOLDER / name
        header = path.read_text()
        found[name] = _named(path, header)
        pending += _INCLUDE.findall(header)
    return tuple(sorted(found.items()))


def _compile(job: Job, key: str) -> Binary:
    data, log = _nvrtc(job.text, job.name, job.headers, job.options, job.kind)
    if job.kind == "ptx":  # for readers of messages: kernels_cupy/int8_gemm.cu:75
        data = data.replace(f'"{_ROOT}'.encode(), b'"')
    return Binary(key, data, log)


def _nvrtc(
    text: str,
    name: str,
    headers: tuple[tuple[str, str], ...],
    options: tuple[str, ...],
    kind: str,
    expressions: tuple[str, ...] = (),
    lowered: list[str] | None = None,
) -> tuple[bytes, str]:
    from cuda.bindings import nvrtc

    names = [name.encode() for name, _ in headers]
    texts = [text.encode() for _, text in headers]
    error, program = nvrtc.nvrtcCreateProgram(
        text.encode(), name.encode(), len(headers), texts, names
    )
    _check(nvrtc, error)
    try:
        for expression in expressions:
            _check(nvrtc, nvrtc.nvrtcAddNameExpression(program, expression.encode())[0])
        words = [option.encode() for option in options]
        (failed,) = nvrtc.nvrtcCompileProgram(program, len(words), words)
        log = _fetch(nvrtc, program, "ProgramLog").decode(errors="replace").strip("\0\n ")
        if failed == nvrtc.nvrtcResult.NVRTC_ERROR_COMPILATION:
            raise CompileError(name, log)
        if failed != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise CompileError(name, f"{failed.name}; options: {' '.join(options)}\n{log}")
        data = _fetch(nvrtc, program, "PTX" if kind == "ptx" else "CUBIN")
        if lowered is not None:
            for expression in expressions:
                error, found = nvrtc.nvrtcGetLoweredName(program, expression.encode())
                _check(nvrtc, error)
                lowered.append(found.decode())
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return (data.rstrip(b"\0"), log) if kind == "ptx" else (data, log)


def _fetch(nvrtc: object, program: object, what: str) -> bytes:
    error, size = getattr(nvrtc, f"nvrtcGet{what}Size")(program)
    _check(nvrtc, error)
    data = bytearray(size)
    (error,) = getattr(nvrtc, f"nvrtcGet{what}")(program, data)
    _check(nvrtc, error)
    return bytes(data)


def _check(nvrtc: object, error: object) -> None:
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:  # type: ignore[attr-defined]
        raise RuntimeError(f"NVRTC: {error}")


def _read(key: str, kind: str) -> Binary | None:
    try:
        data = (cache_folder() / f"{key}.{kind}").read_bytes()
        log = (cache_folder() / f"{key}.log").read_text()
    except OSError:
        return None
    return Binary(key, data, log)


def _write(binary: Binary, kind: str) -> None:
    """Log first: a result counts as cached only when both are there."""
    if keep(cache_folder() / f"{binary.key}.log", binary.log):
        keep(cache_folder() / f"{binary.key}.{kind}", binary.data)


def _temporary(key: str, data: bytes) -> Path:
    path = Path(_scratch().name) / f"{key}.cubin"
    if not path.is_file():
        replace(path, data)
    return path


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder that lives as long as the process."""
    return tempfile.TemporaryDirectory(prefix="quantassay-")


def _prebuilt(folder: Path, source: str | Path, defines: Defines, arch: str) -> bytes:
    key = cubin_key(source, defines, arch)
    entry = _manifest(folder)["cubins"].get(key)
    if entry is None:
        raise FileNotFoundError(
            f"QUANTASSAY_CUBINS={folder} holds no CUBIN of {source} for {arch} with "
            f"{dict(sorted(defines.items()))} (key {key[:16]}): built from other sources?"
        )
    data = (folder / f"{key}.cubin").read_bytes()
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise ValueError(f"{folder / key}.cubin is not the file that {MANIFEST} describes")
    return data


@cache
def _manifest(folder: Path) -> dict[str, dict[str, dict[str, str]]]:
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"QUANTASSAY_CUBINS={folder} has no {MANIFEST}; see compile.export")
    manifest: dict[str, dict[str, dict[str, str]]] = json.loads(path.read_text())
    return manifest
