"""Models of what foreign kernels brought in: min and max with .xorsign.abs (PTX ISA 9.7.3, 9.7.4).

The ISA's text: the signs' exclusive or becomes the result's sign unless the result is NaN; the
sizes of the operands are compared; one NaN gives the other operand, with .NaN any NaN gives NaN.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.emulator.opcode_case import Case
from tests.emulator.opcode_float import BF16, F16, F32, Format, flushed, is_nan, pool


def xorsign(f: Format, a: int, b: int, pick: Callable[..., int], nan: bool, ftz: bool) -> int:
    sign = (a ^ b) & f.sign
    if ftz:
        a, b = flushed(f, a), flushed(f, b)
    x, y = a & ~f.sign, b & ~f.sign
    a_nan, b_nan = is_nan(f, x), is_nan(f, y)
    if (a_nan and b_nan) or (nan and (a_nan or b_nan)):
        return f.nan
    size = y if a_nan else x if b_nan else pick(x, y)  # bits of sizes are in the order of values
    return size | sign


def case(name: str, f: Format, nan: bool, ftz: bool) -> Case:
    pick = {"min": min, "max": max}[name]
    opcode = f"{name}{'.ftz' if ftz else ''}{'.NaN' if nan else ''}.xorsign.abs.{f.name}"

    def model(a: int, b: int) -> int:
        return xorsign(f, a, b, pick, nan, ftz)

    pools = (pool(f), pool(f))
    body = f"{opcode} {{d}}, {{a}}, {{b}};"
    return Case(opcode, f.kind, (f.kind, f.kind), pools, body, model, arch="sm_86")


CASES = [
    case(name, f, nan, ftz)
    for name in ("min", "max")
    for f in (F32, F16, BF16)
    for nan in (False, True)
    for ftz in ((False, True) if f is not BF16 else (False,))
]
