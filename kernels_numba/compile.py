"""Numba kernels to PTX, without a GPU: the only place of this wing that calls the compiler.

Contract: `program(factory, constants, signature, cc)` gives the PTX of the kernel function that
`factory(*constants)` returns. The compiler is Numba's NVVM with IEEE semantics (no fast-math) and
line information; the kernel is called by its Python name in the PTX. PTX in which the compiler may
still contract or approximate a float operation is refused (contraction.py).

Results are kept in memory and in the cache folder (reference/storage.py), one file per sha256 of:
the text of the factory's file and of all that it imports of this wing and of the oracle's
arithmetic (HOST_SIDE excepted), the factory's name and arguments, the signature, the target, and
the versions of numba, numba-cuda, llvmlite and NVVM.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from numba import cuda, types

from kernels_numba import contraction
from reference.storage import cache_folder, keep

FOLDER = Path(__file__).parent
# Of reference: what kernels need of it reaches them as constants.
HOST_SIDE = ("dialects", "op", "recipes", "storage", "validate")
EMULATED = (8, 0)  # the target whose PTX the emulator runs

Kernel = Callable[..., None]
Factory = Callable[..., Kernel]
Signature = tuple[types.Type, ...]
_ENTRY = re.compile(r"\.entry\s+([\w$]+)")
# A variable of each function, for exceptions that PTX cannot raise: never read.
_ENVIRONMENT = re.compile(r"^\.common \.global \.align 8 \.u64 _ZN08NumbaEnv[\w$]+;\n", re.M)
# Names of inlined functions in the line information: mangled, numbered by order of compilation.
_INLINED = re.compile(r"(\$L__info_string\d+:\n)((?:\.b8 [\d,]+\n)+)")
# Shared arrays, numbered likewise.
_SHARED = re.compile(r"_cudapy_smem_\d+")


@dataclass(frozen=True)
class Program:
    """One compiled kernel: its entry's name and the PTX."""

    name: str
    ptx: str


_memory: dict[tuple[Any, ...], Program] = {}


def bounded(threads: int, blocks: int) -> Callable[[Kernel], Kernel]:
    """Decorates a kernel: at most `threads` in a block, registers for `blocks` on a multiprocessor
    (`.maxntid` and `.minnctapersm` in the PTX).
    """

    def told(kernel: Kernel) -> Kernel:
        kernel.__dict__["launch_bounds"] = (threads, blocks)
        return kernel

    return told


def launch_bounds(kernel: Kernel) -> tuple[int, int] | None:
    """What `bounded` told of a kernel."""
    return getattr(kernel, "launch_bounds", None)


def program(
    factory: Factory,
    constants: tuple[Any, ...],
    signature: Signature,
    cc: tuple[int, int] = EMULATED,
) -> Program:
    """The PTX of `factory(*constants)` for argument types `signature`, from memory, disk or NVVM.

    `constants` must be hashable and their repr must tell them apart (no functions: a ValueError).
    Raises ContractionError as contraction.py says, and Numba's own errors for a kernel that does
    not compile.
    """
    key = (factory, constants, signature, cc)
    if key not in _memory:
        path = _path(factory, constants, signature, cc)
        found = _read(path)
        if found is None:
            found = _compile(factory(*constants), signature, cc)
            keep(path, found.ptx)
        _memory[key] = found
    return _memory[key]


def forget() -> None:
    """Empties the cache in memory (not the one on disk)."""
    _memory.clear()


def _compile(kernel: Kernel, signature: Signature, cc: tuple[int, int]) -> Program:
    found = compiled(kernel, signature, cc, launch_bounds=launch_bounds(kernel))
    contraction.check(found.name, found.ptx)
    return found


def compiled(
    kernel: Kernel, signature: Signature, cc: tuple[int, int] = EMULATED, **options: Any
) -> Program:
    """Any kernel function's PTX, made readable: it may round as it likes (no contraction check).

    options: those of `cuda.compile_ptx`. Raises Numba's own errors.
    """
    options = {"opt": True, "fastmath": False, "lineinfo": True, **options}
    text, _ = cuda.compile_ptx(kernel, types.void(*signature), cc=cc, **options)
    entry = _ENTRY.search(text)
    assert entry is not None, "Numba's PTX has one .entry"
    text = _ENVIRONMENT.sub("", text)
    text = text.replace(entry[1], kernel.__name__)
    text = _INLINED.sub(_plain_name, text)
    arrays: dict[str, str] = {}
    text = _SHARED.sub(lambda one: arrays.setdefault(one[0], f"shared_{len(arrays)}"), text)
    return Program(kernel.__name__, text)


def _plain_name(found: re.Match[str]) -> str:
    """A name of the line information without Numba's mangling: the function's own."""
    numbers = [int(number) for number in re.findall(r"\d+", found[2].replace("b8", ""))]
    rest, name = bytes(numbers).decode().removeprefix("_ZN"), "function"
    while size := re.match(r"\d+", rest):
        start = size.end()
        name, rest = rest[start : start + int(size[0])], rest[start + int(size[0]) :]
    return f"{found[1]}.b8 {','.join(map(str, [*name.encode(), 0]))}\n"


def _path(
    factory: Factory, constants: tuple[Any, ...], signature: Signature, cc: tuple[int, int]
) -> Path:
    if " at 0x" in repr(constants):
        raise ValueError(f"constants: got {constants}; allowed: values that their repr tells apart")
    parts = (
        *_sources(inspect.getsourcefile(factory) or ""),
        f"{factory.__module__}.{factory.__qualname__}",
        repr(constants),
        repr(signature),
        repr(cc),
        *_toolchain(),
    )
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return cache_folder() / f"{digest}.numba.ptx"


@cache
def _sources(file: str) -> tuple[str, ...]:
    """Text of `file`, of what it imports of this wing and of reference/, near and far, and of what
    every kernel passes through; in order of path.
    """
    found: set[Path] = set()
    ahead = {Path(__file__).resolve(), *([Path(file).resolve()] if Path(file).is_file() else [])}
    while ahead:
        path = ahead.pop()
        found.add(path)
        ahead |= _imports(path) - found
    return tuple(path.read_text() for path in sorted(found))


@cache
def _imports(path: Path) -> frozenset[Path]:
    """Files of this wing and of reference/ that a file imports by name."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(
        (FOLDER.parent / package / f"{name}.py").resolve()
        for package, _, name in (module.partition(".") for module in modules)
        if package == FOLDER.name or (package == "reference" and name not in HOST_SIDE)
        if (FOLDER.parent / package / f"{name}.py").is_file()
    )


@cache
def _toolchain() -> tuple[str, ...]:
    """What compiles: package versions, and the NVVM library by its place, size and time."""
    try:
        from cuda import pathfinder
    except ImportError as error:
        raise ImportError(
            "the Numba wing needs numba-cuda and NVVM: install quantassay[cuda13] or [cuda12]"
        ) from error
    library = Path(pathfinder.load_nvidia_dynamic_lib("nvvm").abs_path)
    facts = library.stat()
    names = ("numba", "numba-cuda", "llvmlite")
    return (*map(_version, names), str(library), str(facts.st_size), str(facts.st_mtime_ns))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _read(path: Path) -> Program | None:
    try:
        text = path.read_text()
    except OSError:
        return None
    entry = _ENTRY.search(text)
    return Program(entry[1], text) if entry else None
