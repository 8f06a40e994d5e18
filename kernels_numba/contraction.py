"""The check against contraction: no float operation is left to the compiler's taste.

Contract: PTX `mul.f32` and `add.f32` without a rounding modifier may be fused by ptxas into one
operation with one rounding; with `.rn` they may not. Numba has no flag against it, and its NVVM
also fuses on its own. So kernels spell float arithmetic with libdevice's `_rn` functions, and this
check refuses PTX in which

- a float add, sub or mul has no rounding modifier, or any float operation flushes subnormals
  (`.ftz`) or approximates (`.approx`, `.full`);
- a float fma or mad stands outside inline assembly: there the compiler made it. A kernel that
  wants one writes `device.fused_multiply_add`, which is inline assembly.

Source: PTX ISA, "Floating Point Instructions": add, sub, mul without a rounding modifier "may be
optimized aggressively by the code optimizer ... contracted into fma".
"""

from __future__ import annotations

import re

_FLOATS = {"f16", "f16x2", "bf16", "bf16x2", "f32", "f32x2", "f64"}
_ROUNDINGS = {"rn", "rz", "rm", "rp"}
_INEXACT = {"ftz", "approx", "full"}
_OPCODE = re.compile(r"^\s*(?:@!?%?\w+\s+)?([a-z][\w.]*)")


class ContractionError(ValueError):
    """A kernel whose float results the compiler may change; `lines` are (PTX line, text)."""

    def __init__(self, kernel: str, lines: list[tuple[int, str]]) -> None:
        shown = "\n".join(f"  PTX line {line}: {text}" for line, text in lines)
        super().__init__(
            f"{kernel}: float operations without a fixed rounding; write libdevice.fmul_rn, "
            f"fadd_rn, fsub_rn, fdiv_rn or device.fused_multiply_add:\n{shown}"
        )
        self.lines = lines


def unsuffixed_float_ops(ptx: str) -> list[tuple[int, str]]:
    """(PTX line, text) of every float operation whose rounding the PTX does not fix."""
    found = []
    by_hand = False
    for number, line in enumerate(ptx.splitlines(), 1):
        if line.lstrip().startswith("// begin inline asm"):
            by_hand = True
        elif line.lstrip().startswith("// end inline asm"):
            by_hand = False
        opcode = _OPCODE.match(line)
        if opcode and _loose(opcode[1].split("."), by_hand):
            found.append((number, " ".join(line.split())))
    return found


def check(kernel: str, ptx: str) -> None:
    """Raises ContractionError that quotes the lines."""
    lines = unsuffixed_float_ops(ptx)
    if lines:
        raise ContractionError(kernel, lines)


def _loose(parts: list[str], by_hand: bool) -> bool:
    operation, modifiers = parts[0], set(parts[1:])
    if not modifiers & _FLOATS:
        return False
    if modifiers & _INEXACT:
        return True
    if operation in ("fma", "mad"):
        return not by_hand or not modifiers & _ROUNDINGS
    return operation in ("add", "sub", "mul") and not modifiers & _ROUNDINGS
