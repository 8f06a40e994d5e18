"""A user's CUDA C++ to PTX, as nvcc would compile it, with what its compiler knows of the kernel.

Contract: C++17, every function that names no side is the device's too, and products and sums are
contracted to FMAs unless `fmad` is off: nvcc's defaults, not those of our own kernels. An entry is
a C++ expression ("quantize", "ns::quantize<float, 256>"). Host functions and headers in <> that are
not there are left out where the file does not compile with them, and `Built.notes` says so.
Raises UsageError with the compiler's log, whose lines are the file's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kernels_cupy.compile import CompileError, named, nvrtc_version
from quantassay.errors import UsageError
from quantassay.foreign import headers, host_code
from quantassay.foreign.types import CPP, Parameter

_TYPES = "quantassay_types"
_OWN = re.compile(
    r"^(?:quantassay|__nv_name_map)\(\d+\): .*?(?=^\S+\(\d+\): |^\d+ errors? |\Z)", re.M | re.S
)
_TABLE = re.compile(rf"^.*\b{_TYPES}\w*\[(\d+)\](?: = \{{([^}}]*)\}})?;$", re.M)
_PROBE = "\n".join(
    [
        "",
        '#line 1 "quantassay"',
        "struct __half; struct __nv_bfloat16;",
        "namespace quantassay_probe {",
        "template <class T> struct code { enum { is = 0 }; };",
        *(
            f"template <> struct code<{cpp}> {{ enum {{ is = {n} }}; }};"
            for n, (_, cpp) in CPP.items()
        ),
        "template <class T> struct kind { enum { is = code<T>::is }; };",
        "template <class T> struct kind<T*> { enum { is = 256 + code<T>::is }; };",
        "template <class T> struct kind<const T*> { enum { is = 512 + code<T>::is }; };",
        "template <class... A> struct table {",
        "    unsigned short word[sizeof...(A) + 1];",
        "    __device__ constexpr table()",
        "        : word{static_cast<unsigned short>(sizeof...(A)),",
        "               static_cast<unsigned short>(kind<A>::is)...} {}",
        "};",
        "template <class F> struct types;",
        "template <class... A> struct types<void (*)(A...)> { using list = table<A...>; };",
        "}",
        "",
    ]
)


@dataclass(frozen=True)
class Source:
    """A .cu file and how it is compiled."""

    path: Path
    text: str
    defines: tuple[tuple[str, str], ...] = ()
    includes: tuple[str, ...] = ()
    arch: str = "sm_80"
    fmad: bool = True
    fast_math: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        folders = (*self.includes, str(self.path.parent), *headers.folders())
        return (
            f"--gpu-architecture={self.arch.replace('sm_', 'compute_')}",
            "--std=c++17",
            "-lineinfo",
            "-default-device",
            "-w",
            *(["-use_fast_math"] if self.fast_math else [f"-fmad={str(self.fmad).lower()}"]),
            *(f"-I{folder}" for folder in folders),
            *(f"-D{name}={value}" for name, value in self.defines),
        )


@dataclass(frozen=True)
class Built:
    """PTX, the names in it of the entries, their parameters' C++ types, and what was left out."""

    ptx: str
    names: tuple[str, ...]
    codes: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]


def read(path: Path, option: str) -> str:
    """The text of a user's file. Raises UsageError."""
    if not path.is_file():
        raise UsageError(f"{option}: {path} is not a file")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{option}: {path} is not text in UTF-8") from None


def build(source: Source, entries: Sequence[str]) -> Built:
    """Compiles a file for its entries. Raises UsageError."""
    absent: list[str] = []
    left_out: list[str] = []
    names: tuple[str, ...] = ()
    text, ptx = source.text, ""
    while not ptx:
        try:
            ptx, names = _compiled(source, text, entries, absent)
        except CompileError as error:
            header = host_code.missing(error.log)
            if header and header not in absent:
                absent.append(header)
                continue
            if not left_out:
                text, left_out = host_code.without(source.text)
                if left_out:
                    continue
            raise _refused(source, text, error, entries, absent) from None
        except (ImportError, RuntimeError, OSError) as error:
            raise UsageError(
                f"--cu: NVRTC, which compiles it, cannot be used ({error}); install the extra "
                "cuda13 or cuda12, or compile it elsewhere (nvcc -ptx -lineinfo) and use --ptx"
            ) from None
    codes = [_numbers(*one) for one in _TABLE.findall(ptx)]
    notes = [f"host code is left out: {', '.join(left_out)}"] if left_out else []
    if absent:
        notes.append(f"headers that are not here are read as empty: {', '.join(absent)}")
    plain = _relative(_TABLE.sub("", ptx))
    return Built(plain, names, tuple(codes), tuple(notes))


def _compiled(
    source: Source, text: str, entries: Sequence[str], absent: Sequence[str]
) -> tuple[str, tuple[str, ...]]:
    """PTX, and the entries' names in it. Raises CompileError."""
    probes = [
        f'extern "C" __device__ quantassay_probe::types<decltype(&{entry})>::list {_TYPES}{n}{{}};'
        for n, entry in enumerate(entries)
    ]
    own = (*headers.STANDARD, *((name, "") for name in absent))
    whole = "\n".join([text, _PROBE, *probes]) if entries else text
    ptx, _, names = named(whole, str(source.path), source.options, own, tuple(entries))
    return ptx, names


def _numbers(size: str, words: str) -> tuple[int, ...]:
    """The 16-bit numbers of a table, without the first, their count. PTX has its bytes, without the
    zeros at the end."""
    table = bytes(int(word) for word in words.split(",") if word).ljust(int(size), b"\0")
    return tuple(low + 256 * high for low, high in zip(table[2::2], table[3::2], strict=True))


def _relative(ptx: str) -> str:
    """Source files under the working directory by their relative names."""
    return re.sub(
        r'(?m)^(\s*\.file\s+\d+\s+")([^"]*)"',
        lambda match: f'{match[1]}{match[2].removeprefix(os.getcwd() + "/")}"',
        ptx,
    )


def parameters(codes: Sequence[int], sizes: Sequence[int]) -> tuple[Parameter, ...]:
    """What the probe's numbers and the PTX's sizes say of a kernel's parameters."""
    found = []
    for code, size in zip(codes, sizes, strict=True):
        kind, number = divmod(code, 256)
        element, cpp = CPP.get(number, ("", ""))
        words = ["", "*", "*"][kind]
        if kind:
            const = "const " if kind == 2 else ""
            found.append(Parameter(size, f"{const}{cpp or 'T'}{words}", True, element))
        else:
            shown = cpp or "a struct or enum"
            found.append(Parameter(size, shown, False, element))
    return tuple(found)


def _refused(
    source: Source, text: str, error: CompileError, entries: Sequence[str], absent: Sequence[str]
) -> UsageError:
    """The compiler's refusal in words: an entry that is not there, or the log."""
    if "--gpu-architecture" in error.log:
        return UsageError(f"--arch: got {source.arch!r}, which NVRTC {nvrtc_version()} has not")
    own = "".join(_OWN.findall(error.log))
    log = _OWN.sub("", error.log)
    if own and ": error: " not in log:
        try:  # is it the entry, or the end of the file?
            _compiled(source, text, (), absent)
        except CompileError as alone:
            log = alone.log
        else:
            there = ", ".join(host_code.kernels(source.text)) or "none"
            reason = re.search(r"error: (.*)", own)
            return UsageError(
                f"--entry: {', '.join(entries)}: {reason[1] if reason else 'not found'}; "
                f"__global__ functions of {source.path}: {there}"
            )
    hint = _hint(log)
    lacking = f"\nheaders that are not here: {', '.join(absent)}" if absent else ""
    return UsageError(f"--cu: {source.path} does not compile:\n{log.strip()}{lacking}{hint}")


def _hint(log: str) -> str:
    if "cannot open source file" in log:
        return "\nname the folder of the header with --include"
    if (
        "host function" in log
        or "cublas" in log
        or "cudaDeviceSynchronize" in log
        or "std::" in log
    ):
        return (
            "\nonly device code can be compiled here: put host code between #ifndef __CUDACC_RTC__ "
            "and #endif, or check the PTX that nvcc makes of it (nvcc -ptx -lineinfo) with --ptx"
        )
    return ""
