"""Directed rounding (.rz, .rm, .rp): arithmetic and conversions, each rounded once.

Contract: f32 arithmetic is done in f64, where its result is exact, rounded to odd (sums and fma),
or too close to no f32 value to be mistaken for it (a quotient or root of 24-bit numbers is either
one of 24 bits or differs from it in the first 49), and then rounded as asked. f64 has add, sub and
mul; other f64 instructions, and f16 and bf16 arithmetic, round to nearest only (as in PTX for the
latter). Conversions go through values that keep every comparison with the narrower format's
numbers, so that two roundings in one direction are one.

Source: PTX ISA 9.0, sections 9.7.3, 9.7.9; IEEE 754-2019, section 4.3.
"""

from __future__ import annotations

from emulator.lowering import Lowering, Modifiers
from emulator.ptx import BITS

ROUNDING = ("rn", "rz", "rm", "rp")


def take(modifiers: Modifiers, operation: str, data: str, *, required: bool) -> str:
    """The rounding modifier of an arithmetic instruction."""
    rounding = modifiers.choice(ROUNDING, None if required else "rn")
    known = data == "f32" or (data == "f64" and operation in ("add", "sub", "mul"))
    if rounding != "rn" and not known:
        raise modifiers.instruction.unsupported(f"rounding .{rounding} is not supported")
    return rounding


def compute(low: Lowering, operation: str, data: str, values: list[str], rounding: str) -> str:
    """One operation on values of type float (f32) or double (f64); NaN results are just NaN."""
    if data == "f64":
        return _double(low, operation, values, rounding)
    wide = [low.value(f"fpext float {value} to double") for value in values]
    if operation in ("add", "sub", "fma"):
        result = _sum(low, operation, wide, rounding)
    elif operation == "sqrt":
        result = low.call("double", "llvm.sqrt.f64", ("double", wide[0]))
    elif operation == "rcp":
        result = low.value(f"fdiv double 1.0, {wide[0]}")
    else:
        result = low.value(f"f{operation} double {wide[0]}, {wide[1]}")
    return low.helper("float", f"f32_{rounding}_from_f64", ("double", result))


def _sum(low: Lowering, operation: str, wide: list[str], rounding: str) -> str:
    """a * b + c rounded to odd in f64; rm of it is computed as -rp of its negative."""
    a, b, c = wide if operation == "fma" else (wide[0], "1.0", wide[1])
    if rounding == "rm":
        a = low.value(f"fneg double {a}")
    if (rounding == "rm") != (operation == "sub"):
        c = low.value(f"fneg double {c}")
    result = low.helper("double", "fma_odd", ("double", a), ("double", b), ("double", c))
    return low.value(f"fneg double {result}") if rounding == "rm" else result


def _double(low: Lowering, operation: str, values: list[str], rounding: str) -> str:
    a, b = values
    if operation == "mul":
        return low.helper("double", f"f64_{rounding}_mul", ("double", a), ("double", b))
    if rounding == "rm":
        a = low.value(f"fneg double {a}")
    if (rounding == "rm") != (operation == "sub"):
        b = low.value(f"fneg double {b}")
    name = "f64_rp_add" if rounding == "rm" else f"f64_{rounding}_add"
    result = low.helper("double", name, ("double", a), ("double", b))
    return low.value(f"fneg double {result}") if rounding == "rm" else result


def to_format(low: Lowering, target: str, kind: str, value: str, rounding: str) -> str:
    """A float or double (`kind`) as a float that f32, f16 or bf16 holds exactly."""
    if kind == "double":
        value = low.helper("float", f"f32_{rounding}_from_f64", ("double", value))
    if target == "f32":
        return value
    return low.helper("float", f"{target}_{rounding}_from_f32", ("float", value))


def from_integer(low: Lowering, target: str, source: str, value: str, rounding: str) -> str:
    """An integer as a float (a double for f64) that `target` holds exactly."""
    signed, width = source[0] == "s", BITS[source]
    if width < 64:
        convert = "sitofp" if signed else "uitofp"
        number = low.value(f"{convert} i{width} {value} to double")
    else:
        number = _from_64_bits(low, value, signed, rounding if target == "f64" else "odd")
    return number if target == "f64" else to_format(low, target, "double", number, rounding)


def _from_64_bits(low: Lowering, value: str, signed: bool, rounding: str) -> str:
    """The size as a double, rounded, then the sign."""
    if not signed:
        name = "away" if rounding == "rp" else "rz" if rounding == "rm" else rounding
        return low.helper("double", f"f64_{name}_from_u64", ("i64", value))
    negative = low.value(f"icmp slt i64 {value}, 0")
    size = low.call("i64", "llvm.abs.i64", ("i64", value), ("i1", "false"))
    if rounding in ("rm", "rp"):
        away = low.helper("double", "f64_away_from_u64", ("i64", size))
        cut = low.helper("double", "f64_rz_from_u64", ("i64", size))
        below, above = (away, cut) if rounding == "rm" else (cut, away)
        number = low.value(f"select i1 {negative}, double {below}, double {above}")
    else:
        number = low.helper("double", f"f64_{rounding}_from_u64", ("i64", size))
    minus = low.value(f"fneg double {number}")
    return low.value(f"select i1 {negative}, double {minus}, double {number}")
