"""The check against contraction: no float operation is left to the compiler's taste.

Contract: PTX `mul.f32` and `add.f32` without a rounding modifier may be fused by ptxas into one
operation with one rounding; with `.rn` they may not. Numba has no flag against it, and its NVVM
also fuses on its own. So kernels spell float arithmetic with libdevice's `_rn` functions, and this
check refuses PTX in which

- a float add, sub, mul or mad has no rounding modifier (the emulator's rule);
- a float operation flushes subnormals (`.ftz`) or approximates (`.approx`, `.full`);
- a float fma stands outside inline assembly: there the compiler made it. A kernel that wants one
  writes `device.fused_multiply_add`, which is inline assembly.

Source: PTX ISA, "Floating Point Instructions"; NVVM marks inline assembly by two comment lines.
"""

from __future__ import annotations

import re

from emulator import lower
from emulator.ptx import parse

_FLOATS = {"f16", "f16x2", "bf16", "bf16x2", "f32", "f32x2", "f64"}
_INEXACT = {"ftz", "approx", "full"}
_OPCODE = re.compile(r"\s*(?:@!?%\w+\s+)?([a-z]\w*(?:\.[\w:]+)+)\s")


class ContractionError(ValueError):
    """A kernel whose float results the compiler may change; `lines` are (PTX line, text)."""

    def __init__(self, kernel: str, lines: list[tuple[int, str]]) -> None:
        shown = "\n".join(f"  PTX line {line}: {text}" for line, text in lines)
        super().__init__(
            f"{kernel}: float operations without a fixed rounding; write libdevice.fmul_rn, "
            f"fadd_rn, fsub_rn, fdiv_rn or device.fused_multiply_add:\n{shown}"
        )
        self.lines = lines


def check(kernel: str, ptx: str) -> None:
    """Raises ContractionError that quotes the lines."""
    lines = unsuffixed_float_ops(ptx)
    if lines:
        raise ContractionError(kernel, lines)


def unsuffixed_float_ops(ptx: str) -> list[tuple[int, str]]:
    """(PTX line, text) of every float operation whose rounding the PTX does not fix."""
    numbers = {line for line, _ in lower.unsuffixed_float_ops(parse(ptx))}
    text = ptx.splitlines()
    numbers |= _fused_or_inexact(text)
    return [(line, " ".join(text[line - 1].split())) for line in sorted(numbers)]


def _fused_or_inexact(text: list[str]) -> set[int]:
    found = set()
    by_hand = False
    for number, line in enumerate(text, 1):
        if "inline asm" in line:
            by_hand = line.split()[:2] == ["//", "begin"]
        opcode = _OPCODE.match(line)
        if opcode:
            operation, *modifiers = opcode[1].split(".")
            made = operation == "fma" and not by_hand
            if _FLOATS.intersection(modifiers) and (made or _INEXACT.intersection(modifiers)):
                found.add(number)
    return found
