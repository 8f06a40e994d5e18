"""cvt: between integers and floats of every width, and cvt.pack.

Contract: correctly rounded. Float to integer rounds as the modifier says, then clamps to the
destination type (with or without .sat, as PTX defines); NaN gives 0, or 1 << (bits - 1) where the
source is f64 or the destination has 64 bits. Conversions to floats round as the modifier says
(packed ones: .rn or .rz). Integers narrow by truncation, by clamping with .sat. NaN results are
canonical, but bf16 to f32 is a shift (as ptxas makes it) and widening to f64 keeps the payload
(quieted). FP8, FP6, FP4, tf32, and bf16 with 8- or 64-bit integers are refused.

A destination register wider than the type gets the sign- or zero-extended value.

Source: PTX ISA 9.0, section 9.7.9 (cvt, cvt.pack).
"""

from __future__ import annotations

from collections.abc import Sequence

from emulator import lower_round
from emulator.lower_float import flush, narrow, saturate, wide_type, widen
from emulator.lowering import Lowering, Modifiers, lowers
from emulator.operands import Operand
from emulator.program import Instruction
from emulator.ptx import BITS

INTEGERS = ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64")
SCALARS = ("f16", "bf16", "f32", "f64")
PACKED = ("f16x2", "bf16x2")
INTEGRAL = {"rni": "roundeven", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}
PRECISION = {"f16": 11, "bf16": 8, "f32": 24, "f64": 53}


@lowers("cvt")
def cvt(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    if modifiers.flag("pack"):
        _pack(low, ins, modifiers)
        return
    source = modifiers.type((*INTEGERS, *SCALARS))
    target = modifiers.type((*INTEGERS, *SCALARS, *PACKED))
    if target in PACKED:
        _packed(low, ins, modifiers, target, source)
        return
    if len(ins.operands) != 2:
        raise ins.unsupported(f"{len(ins.operands)} operands")
    value = low.read(ins.operands[1], BITS[source])
    if source in INTEGERS and target in INTEGERS:
        result = _integers(low, modifiers, target, source, value)
    elif source in INTEGERS:
        result = _from_integer(low, modifiers, target, source, value)
    elif target in INTEGERS:
        result = _to_integer(low, modifiers, target, source, value)
    else:
        result = _floats(low, modifiers, target, source, value)
    modifiers.finish()
    low.write(ins.operands[0], result, BITS[target], signed=target[0] == "s")


def _bounds(data: str) -> tuple[int, int]:
    width = BITS[data]
    return (
        (-(1 << (width - 1)), (1 << (width - 1)) - 1) if data[0] == "s" else (0, (1 << width) - 1)
    )


def clamp_integer(low: Lowering, value: str, source: str, target: str) -> str:
    """An integer of type `source`, clamped to `target`'s range and width."""
    wide = 128
    value = low.resize(value, BITS[source], wide, source[0] == "s")
    least, most = _bounds(target)
    kind = f"i{wide}"
    value = low.call(kind, f"llvm.smax.{kind}", (kind, value), (kind, str(least)))
    value = low.call(kind, f"llvm.smin.{kind}", (kind, value), (kind, str(most)))
    return low.resize(value, wide, BITS[target])


def _integers(low: Lowering, modifiers: Modifiers, target: str, source: str, value: str) -> str:
    if modifiers.flag("sat"):
        return clamp_integer(low, value, source, target)
    return low.resize(value, BITS[source], BITS[target], source[0] == "s")


def _to_integer(low: Lowering, modifiers: Modifiers, target: str, source: str, bits: str) -> str:
    rounding = INTEGRAL[modifiers.choice(tuple(INTEGRAL))]
    if source != "bf16":
        modifiers.flag("sat")
    elif BITS[target] == 8:
        raise low.now.unsupported("bf16 to 8-bit integers")
    if source == "f32" and modifiers.flag("ftz"):
        bits = flush(low, source, bits)
    value, kind = widen(low, source, bits), wide_type(source)
    suffix = "f64" if kind == "double" else "f32"
    whole = low.call(kind, f"llvm.{rounding}.{suffix}", (kind, value))
    width = BITS[target]
    name = f"llvm.fpto{'s' if target[0] == 's' else 'u'}i.sat.i{width}.{suffix}"
    result = low.call(f"i{width}", name, (kind, whole))
    if source != "f64" and width != 64:
        return result
    nan = low.value(f"fcmp uno {kind} {value}, {value}")
    return low.value(f"select i1 {nan}, i{width} {-(1 << (width - 1))}, i{width} {result}")


def _from_integer(low: Lowering, modifiers: Modifiers, target: str, source: str, value: str) -> str:
    rounding = modifiers.choice(("rn", "rz", "rm", "rp"))
    signed, width = source[0] == "s", BITS[source]
    convert = "sitofp" if signed else "uitofp"
    sat = modifiers.flag("sat")
    if target == "f32":
        modifiers.flag("ftz")
    if target == "bf16" and width in (8, 64):
        raise low.now.unsupported(f"{width}-bit integers to bf16")
    kind = wide_type(target)
    if rounding != "rn":
        number = lower_round.from_integer(low, target, source, value, rounding)
        return narrow(low, target, saturate(low, kind, number) if sat else number)
    if target in ("f32", "f64"):
        number = low.value(f"{convert} i{width} {value} to {kind}")
        return narrow(low, target, saturate(low, kind, number) if sat else number)
    if width == 64:
        # Beyond 2^20 every f16 is infinite: clamp to what f64 holds exactly.
        value = clamp_integer(low, value, source, "s32")
        convert, width = "sitofp", 32
    exact = low.value(f"{convert} i{width} {value} to double")
    number = low.helper("float", "f32_odd_from_f64", ("double", exact))
    return narrow(low, target, saturate(low, "float", number) if sat else number)


def _floats(low: Lowering, modifiers: Modifiers, target: str, source: str, bits: str) -> str:
    narrowing = PRECISION[target] < PRECISION[source] or (source, target) == ("f16", "bf16")
    integral = "" if narrowing else modifiers.choice(tuple(INTEGRAL), "")
    inexact = narrowing or (source, target) == ("bf16", "f16")
    rounding = _rounding(low, modifiers, lower_round.ROUNDING) if inexact else "rn"
    ftz = "f32" in (source, target) and modifiers.flag("ftz")
    sat = modifiers.flag("sat")
    relu = target in ("f16", "bf16") and source == "f32" and modifiers.flag("relu")
    if (source, target) == ("bf16", "f32") and not (integral or ftz or sat):
        return low.value(f"shl i32 {low.resize(bits, 16, 32)}, 16")
    if ftz and source == "f32":
        bits = flush(low, source, bits)
    value, kind = widen(low, source, bits), wide_type(source)
    if integral:
        suffix = "f64" if kind == "double" else "f32"
        value = low.call(kind, f"llvm.{INTEGRAL[integral]}.{suffix}", (kind, value))
    if target == "f64" and kind == "float":
        value, kind = low.value(f"fpext float {value} to double"), "double"
    if sat:
        value = saturate(low, kind, value)
    if relu:
        value = clamp_negative(low, kind, value)
    if rounding != "rn":
        value = lower_round.to_format(low, target, kind, value, rounding)
    elif kind == "double" and target != "f64":
        if target == "f32":
            value = low.value(f"fptrunc double {value} to float")
        else:
            value = low.helper("float", "f32_odd_from_f64", ("double", value))
    result = narrow(low, target, value)
    return flush(low, target, result) if ftz and target == "f32" else result


def clamp_negative(low: Lowering, kind: str, value: str) -> str:
    """.relu: negative values become +0."""
    negative = low.value(f"fcmp olt {kind} {value}, 0.0")
    return low.value(f"select i1 {negative}, {kind} 0.0, {kind} {value}")


def _rounding(low: Lowering, modifiers: Modifiers, known: Sequence[str]) -> str:
    rounding = modifiers.choice((*lower_round.ROUNDING, "rna", "rs"))
    if rounding not in known:
        raise low.now.unsupported(f"rounding .{rounding} is not supported")
    return rounding


def _packed(
    low: Lowering, ins: Instruction, modifiers: Modifiers, target: str, source: str
) -> None:
    """cvt.rn{.relu}.f16x2.f32 d, a, b: a goes to the upper half."""
    rounding = _rounding(low, modifiers, ("rn", "rz"))
    relu = modifiers.flag("relu")
    modifiers.finish()
    if source != "f32" or len(ins.operands) != 3:
        raise ins.unsupported("packed conversion takes two f32")
    base = target.removesuffix("x2")

    def half(operand: Operand) -> str:
        value = widen(low, "f32", low.read(operand, 32))
        if relu:
            value = clamp_negative(low, "float", value)
        if rounding != "rn":
            value = lower_round.to_format(low, base, "float", value, rounding)
        return low.resize(narrow(low, base, value), 16, 32)

    upper, lower = (half(operand) for operand in ins.operands[1:])
    word = low.value(f"or i32 {low.value(f'shl i32 {upper}, 16')}, {lower}")
    low.write(ins.operands[0], word, 32)


def _pack(low: Lowering, ins: Instruction, modifiers: Modifiers) -> None:
    """cvt.pack.sat: clamp a and b, put b lowest, a above it, then the low bits of c."""
    if not modifiers.flag("sat"):
        raise ins.unsupported("cvt.pack needs .sat")
    third = len(ins.operands) == 4
    if third:
        modifiers.type(("b32",))
    modifiers.type(("s32",))
    target = modifiers.type(("u8", "s8") if third else ("u16", "s16"))
    modifiers.finish()
    width = BITS[target]
    parts = []
    for operand in ins.operands[1:3]:
        small = clamp_integer(low, low.read(operand, 32), "s32", target)
        parts.append(low.resize(small, width, 32))
    word = low.value(f"or i32 {low.value(f'shl i32 {parts[0]}, {width}')}, {parts[1]}")
    if third:
        rest = low.value(f"shl i32 {low.read(ins.operands[3], 32)}, {2 * width}")
        word = low.value(f"or i32 {word}, {rest}")
    low.write(ins.operands[0], word, 32)
