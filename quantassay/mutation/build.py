"""The wings with one source file changed, and what of their PTX changes with it.

Contract: `serve_cuda` and `serve_numba` are for processes that live for one mutant: what they
change is not put back. Neither reads or writes the cache on disk from then on, so that nothing made
of a mutated source is ever kept. `watched` reports every compiled kernel that a launch asks for.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
NOWHERE = "/dev/null/quantassay"  # a cache folder that cannot be
Key = tuple[str, ...]  # wing, source or factory, kernel, what it was compiled for
ACCEPTED_ERRORS = ("ContractionError", "UnsupportedPTX")  # what our own checks say of a kernel
_SECTION = re.compile(r"^\.section.*?^\s*\}\s*$", re.M | re.S)
_LINE_INFO = re.compile(r"^\s*(?:\.loc\b|\.file\b|//|\$L__(?:tmp|func_|info_)\w*:).*\n?", re.M)
_COMMENT = re.compile(r"[ \t]*//[^\n]*")
_ENTRY = re.compile(r"^(?:\.visible\s+)?\.entry\s+([\w$]+)", re.M)
_DECLARED = re.compile(r"^\s*\.reg\b.*\n", re.M)
_REGISTER = re.compile(r"(%[a-z]+)\d+\b")
_LOC = re.compile(r"^\s*\.loc\s+(\d+)\s+(\d+)", re.M)
_FILE = re.compile(r'^\s*\.file\s+(\d+)\s+"([^"]+)"', re.M)


class DoesNotCompileError(BaseException):
    """A compiler refused a kernel. No Exception: whoever compares outputs must not catch it."""


@lru_cache(maxsize=512)
def entry(ptx: str, name: str) -> tuple[str, frozenset[tuple[str, int]]]:
    """(hash of a kernel's instructions and its module's variables, its source lines)."""
    digest = hashlib.sha256(_code(ptx, name).encode()).hexdigest()
    files = {number: _shown(path) for number, path in _FILE.findall(ptx)}
    raw = _ENTRY.split(ptx)
    own = dict(zip(raw[1::2], raw[2::2], strict=True)).get(name, ptx)
    lines = {(files.get(number, ""), int(line)) for number, line in _LOC.findall(own)}
    return digest, frozenset(lines)


def _code(ptx: str, name: str) -> str:
    """A kernel's instructions and its module's variables, without comments and lines."""
    plain = _COMMENT.sub("", _LINE_INFO.sub("", _SECTION.sub("", ptx)))
    parts = _ENTRY.split(plain)  # head, name, text, name, text, ...
    texts = dict(zip(parts[1::2], parts[2::2], strict=True))
    return f"{parts[0]}\0{texts.get(name, plain)}"


def same_but_for_names(one: str, other: str, name: str) -> bool:
    """Whether a kernel of two PTX texts differs in nothing but the registers' numbers."""
    return _numbered(_code(one, name)) == _numbered(_code(other, name))


def _numbered(code: str) -> str:
    known: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        return known.setdefault(found[0], f"{found[1]}{len(known)}")

    return _REGISTER.sub(number, _DECLARED.sub("", code))


def _shown(path: str) -> str:
    """A file's path in the checkout, with "/" between its parts."""
    for folder in ("kernels_cupy/", "kernels_numba/"):
        if folder in path:
            return folder + path.rpartition(folder)[2]
    return path


@contextmanager
def watched(tell: Callable[[Key, Any], None]) -> Iterator[None]:
    """Inside, `tell(key, emulator.Kernel)` for every kernel about to be launched."""
    import kernels_cupy.launch as cupy_launch

    numba_launch: Any = sys.modules.get("kernels_numba.launch")
    modules: list[tuple[str, Any]] = [("cupy", cupy_launch)]
    if numba_launch is not None:
        modules.append(("numba", numba_launch))
    kept = [(module, module._emulated) for _, module in modules]
    for wing, module in modules:
        module._emulated = _telling(wing, module._emulated, tell)
    try:
        yield
    finally:
        for module, function in kept:
            module._emulated = function


def _telling(
    wing: str, function: Callable[..., Any], tell: Callable[[Key, Any], None]
) -> Callable[..., Any]:
    def call(first: Any, *rest: Any) -> Any:
        try:
            kernel = function(first, *rest)
        except Exception as error:
            if type(error).__name__ in ACCEPTED_ERRORS:
                raise
            raise DoesNotCompileError(f"{type(error).__name__}: {error}") from error
        name = first if isinstance(first, str) else f"{first.__module__}.{first.__qualname__}"
        tell((wing, name, *map(repr, rest)), kernel)
        return kernel

    return call


def key_of_cuda(source: str, kernel: str, defines: Sequence[tuple[str, int]]) -> Key:
    """The key that `watched` tells for a launch of a CUDA kernel."""
    return ("cupy", source, repr(kernel), repr(tuple(defines)))


def forget_disk() -> None:
    """From here on nothing is read from the cache folder, and nothing kept."""
    os.environ["QUANTASSAY_CACHE"] = NOWHERE


def scratch_sources(folder: Path) -> Path:
    """A copy of the CUDA sources in `folder`, for `serve_cuda`."""
    copy = folder / "kernels_cupy"
    copy.mkdir(parents=True, exist_ok=True)
    for path in (ROOT / "kernels_cupy").glob("*.cu*"):
        (copy / path.name).write_text(path.read_text())
    return copy


def serve_cuda(copies: Path, file: str, text: str) -> None:
    """CUDA kernels are compiled from `copies`, where `file` now has `text`."""
    import kernels_cupy.launch as launch
    from kernels_cupy import compile as compiler

    forget_disk()
    (copies / Path(file).name).write_text(text)
    compiler.FOLDER = copies
    launch._emulated.cache_clear()


class _Served(importlib.machinery.SourceFileLoader):
    """Loads one module from a text in place of its file."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self.text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.text, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, name: str, path: Path, text: str) -> None:
        self.name, self.path, self.text = name, path, text

    def find_spec(
        self, fullname: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        loader = _Served(fullname, str(self.path), self.text)
        return importlib.util.spec_from_file_location(fullname, self.path, loader=loader)


def serve_numba(file: str, text: str) -> None:
    """Imports the Numba wing anew, with `text` in place of `file`; its kernels register again."""
    forget_disk()
    for name in [name for name in sys.modules if name.partition(".")[0] == "kernels_numba"]:
        del sys.modules[name]
    name = file.removesuffix(".py").replace("/", ".")
    sys.meta_path.insert(0, _Finder(name, ROOT / file, text))
    importlib.import_module("kernels_numba")
