"""A PTX text's entries: by name, their parameters, and what a GPU may do otherwise than PTX says.

Contract: an entry is asked for by its name in the PTX or by the C++ name that it was mangled from
("quantize" for "_Z8quantizePKfPaPfii"), if only one entry has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import emulator
from emulator.lower import unsuffixed_float_ops
from emulator.ptx import Module, Statement
from quantassay.errors import UsageError
from quantassay.foreign.types import Parameter

_PARAM = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)(\s*\.ptr)?")
_FLOAT = {"f16": "f16", "bf16": "bf16", "f32": "f32", "f64": "f64"}
_DEST = re.compile(r"^(?:@!?\S+\s+)?(mul|add|sub)\S*\s+(\S+?)\s*,(.*)$", re.S)
SHOWN = 3  # pairs that are named by their lines


def load(ptx: str, where: str) -> emulator.Module:
    """The emulator's module of a PTX text. Raises UsageError that names `where` it is from."""
    from quantassay.frameworks.approximations import approximations

    try:
        return emulator.compile(ptx, approximate=approximations(ptx))
    except emulator.UnsupportedPTX as error:
        raise UsageError(f"{where}: the emulator cannot read this PTX: {error}") from None


def entry(module: emulator.Module, name: str, where: str) -> str:
    """The name in the PTX of the entry that a user calls `name`; "" asks for the only one."""
    there = module.kernels
    listed = ", ".join(_shown(one) for one in there) or "none"
    if not name:
        if len(there) == 1:
            return there[0]
        raise UsageError(f"--entry: say which; entries of {where}: {listed}")
    if name in there:
        return name
    found = [one for one in there if readable(one) == name]
    if len(found) == 1:
        return found[0]
    what = "more than one entry has this name" if found else "unknown"
    raise UsageError(f"--entry: got {name!r}, {what}; entries of {where}: {listed}")


def _shown(name: str) -> str:
    """A PTX name and the C++ name behind it, if it is another."""
    plain = readable(name)
    return name if plain == name else f"{plain} ({name})"


def readable(name: str) -> str:
    """The C++ name of a mangled one, without parameters and template arguments ("ns::quantize");
    other names as they are. Source: Itanium C++ ABI, section 5.1.
    """
    nested = name.startswith("_ZN")
    rest = name[3 if nested else 2 :] if name.startswith("_Z") else ""
    parts = []
    while match := re.match(r"(\d+)", rest):
        start, size = len(match[1]), int(match[1])
        parts.append(rest[start : start + size])
        rest = rest[start + size :]
        if not nested:
            break
    return "::".join(parts) or name


def kernel(module: emulator.Module, name: str, where: str) -> emulator.Kernel:
    """The entry's kernel, compiled. Raises UsageError for what the emulator does not know."""
    made = module.kernel(name)
    try:
        made.compiled()
    except emulator.UnsupportedPTX as error:
        raise UsageError(
            f"{where}: the emulator cannot run {readable(name)}, right or wrong: {error}"
        ) from None
    return made


def parameters(made: emulator.Kernel) -> tuple[Parameter, ...]:
    """What PTX says of a kernel's parameters: sizes, and which are floats."""
    sizes = [one.size for one in made.compiled().params]
    head = re.search(rf"\.entry\s+{re.escape(made.name)}\s*\(([^)]*)\)", made.module.text)
    kinds = _PARAM.findall(head[1]) if head else []
    found = []
    for size, (kind, declared) in zip(sizes, kinds, strict=True):
        element = _FLOAT.get(kind, "")
        pointer = True if declared else None if size == 8 and not element else False
        shown = f".{kind}{' .ptr' if declared else ''}"
        found.append(Parameter(size, shown, pointer, element))
    return tuple(found)


def fusable(module: Module, name: str) -> list[str]:
    """Source or PTX lines of the sums whose product ptxas may fuse into them, in an entry."""
    unsuffixed = {line for line, _ in unsuffixed_float_ops(module)}
    return list(dict.fromkeys(_pairs(module, name, unsuffixed))) if unsuffixed else []


def _pairs(module: Module, name: str, unsuffixed: set[int]) -> Iterator[str]:
    products: set[str] = set()
    for statement in module.entries[name].body or ():
        match = _DEST.match(statement.text)
        if match is None or statement.line not in unsuffixed:
            continue
        root, target, operands = match.groups()
        if root == "mul":
            products.add(target)
        elif products & {word.strip() for word in operands.split(",")}:
            yield _place(statement)


def _place(statement: Statement) -> str:
    if statement.source:
        file, _, line = statement.source.rpartition(":")
        return f"{Path(file).name}:{line}"
    return f"PTX line {statement.line}"


def fusable_note(lines: list[str]) -> str:
    """What is said of them."""
    more = f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return (
        f"a product and a sum that ptxas may fuse into one FMA ({', '.join(lines[:SHOWN])}{more}): "
        "the emulator rounds both, as PTX says; __fmul_rn and __fadd_rn, or nvcc -fmad=false, rule "
        "the fusion out"
    )
