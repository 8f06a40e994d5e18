"""Floating point: arithmetic, min, max, abs, neg, copysign, testp, approximate functions.

Contract: every result is the correctly rounded one (to nearest, ties to even, unless .rz, .rm or
.rp says otherwise: lower_round.py has those), subnormals kept unless .ftz is given. Approximate
instructions (.approx, .full) are refused unless their opcode was allowed by name: then they compute
the correctly rounded or double-precision result, whose last bits a GPU does not share.

NaN results are canonical: f32 0x7fffffff, f16 and bf16 0x7fff. For f64 a NaN operand (the first,
then the second, then the third) is returned quieted, an invalid operation gives
0xfff8000000000000. min and max return the other operand for one NaN, canonical NaN for two; -0 <
+0; with .NaN any NaN gives canonical NaN. abs and neg of a NaN give the canonical one (PTX leaves
that open; ptxas makes additions of them), but for f64 only the sign bit changes; copysign always
works on bits. .sat clamps to [+0, 1], NaN gives +0. .ftz turns subnormal inputs and subnormal
(after rounding) results into zeros of their sign.

f16 is computed in f32 and rounded once more, which is innocuous for +, -, * (24 >= 2 * 11 + 2);
bf16 products and every f16/bf16 fma go through f64 with rounding to odd, which is exact.

Source: PTX ISA 9.0, sections 9.7.3-9.7.5.
"""

from __future__ import annotations

from typing import Any

from emulator import lower_round
from emulator.lowering import Lowering, Modifiers, lowers
from emulator.program import Instruction
from emulator.ptx import BITS

FLOATS = ("f16", "f16x2", "bf16", "bf16x2", "f32", "f64")
NAN = {"f16": 0x7FFF, "bf16": 0x7FFF, "f32": 0x7FFFFFFF}
F64_INVALID = -0x8000000000000  # 0xfff8000000000000
F64_QUIET = 0x8000000000000
EXPONENT = {"f16": 0x7C00, "bf16": 0x7F80, "f32": 0x7F800000, "f64": 0x7FF0000000000000}
MANTISSA = {"f16": 10, "bf16": 7, "f32": 23, "f64": 52}
ORDER = {
    "eq": "oeq", "ne": "one", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "equ": "ueq",
    "neu": "une", "ltu": "ult", "leu": "ule", "gtu": "ugt", "geu": "uge",
    "num": "ord", "nan": "uno",
}  # fmt: skip


def signed_literal(value: int, width: int) -> str:
    return str(value - (1 << width) if value >> (width - 1) else value)


def flush(low: Lowering, data: str, bits: str) -> str:
    """Subnormal -> zero of the same sign, on the bits."""
    kind = f"i{BITS[data]}"
    exponent = low.value(f"and {kind} {bits}, {EXPONENT[data]}")
    small = low.value(f"icmp eq {kind} {exponent}, 0")
    sign = low.value(f"and {kind} {bits}, {signed_literal(1 << (BITS[data] - 1), BITS[data])}")
    return low.value(f"select i1 {small}, {kind} {sign}, {kind} {bits}")


def wide_type(data: str) -> str:
    """LLVM type in which values of `data` are handled."""
    return "double" if data == "f64" else "float"


def widen(low: Lowering, data: str, bits: str) -> str:
    """Bits -> a float (f16, bf16, f32) or double, exactly."""
    if data == "f16":
        return low.value(f"fpext half {low.value(f'bitcast i16 {bits} to half')} to float")
    if data == "bf16":
        up = low.value(f"shl i32 {low.resize(bits, 16, 32)}, 16")
        return low.value(f"bitcast i32 {up} to float")
    return low.value(f"bitcast i{BITS[data]} {bits} to {wide_type(data)}")


def narrow(low: Lowering, data: str, value: str) -> str:
    """A float (double for f64) -> bits, rounded to nearest even, NaN canonical (f64: as it is)."""
    if data == "f64":
        return low.value(f"bitcast double {value} to i64")
    if data == "bf16":
        return low.helper("i16", "bf16_from_f32", ("float", value))
    if data == "f16":
        half = low.value(f"fptrunc float {value} to half")
        bits = low.value(f"bitcast half {half} to i16")
    else:
        bits = low.value(f"bitcast float {value} to i32")
    nan = low.value(f"fcmp uno float {value}, {value}")
    kind = f"i{BITS[data]}"
    return low.value(f"select i1 {nan}, {kind} {NAN[data]}, {kind} {bits}")


def saturate(low: Lowering, kind: str, value: str) -> str:
    """Clamp to [+0, 1]; NaN -> +0."""
    above = low.value(f"fcmp ogt {kind} {value}, 0.0")
    value = low.value(f"select i1 {above}, {kind} {value}, {kind} 0.0")
    beyond = low.value(f"fcmp ogt {kind} {value}, 1.0")
    return low.value(f"select i1 {beyond}, {kind} 1.0, {kind} {value}")


def compare_float(low: Lowering, ins: Instruction, how: str, data: str, ftz: bool) -> str:
    """i1 of operands 1 and 2 of a set or setp."""
    if how not in ORDER:
        raise ins.unsupported(f"comparison {how} of floats")
    values = []
    for operand in ins.operands[1:3]:
        bits = low.read(operand, BITS[data])
        values.append(widen(low, data, flush(low, data, bits) if ftz else bits))
    return low.value(f"fcmp {ORDER[how]} {wide_type(data)} {values[0]}, {values[1]}")


def _order_minimum(low: Lowering, operation: str, data: str, bits: list[str], nan: bool) -> str:
    """min or max on bits: -0 < +0, NaN as said in the head of this file."""
    kind, wide = f"i{BITS[data]}", wide_type(data)
    a, b = bits
    x, y = (widen(low, data, v) for v in bits)
    first = low.value(f"fcmp {'olt' if operation == 'min' else 'ogt'} {wide} {x}, {y}")
    y_nan = low.value(f"fcmp uno {wide} {y}, {y}")
    first = low.value(f"or i1 {first}, {y_nan}")
    result = low.value(f"select i1 {first}, {kind} {a}, {kind} {b}")
    # Equal values differ at most in the sign of zero: or gives -0, and gives +0.
    equal = low.value(f"fcmp oeq {wide} {x}, {y}")
    zero = low.value(f"{'or' if operation == 'min' else 'and'} {kind} {a}, {b}")
    result = low.value(f"select i1 {equal}, {kind} {zero}, {kind} {result}")
    # What is left NaN now: both were (or with .NaN, either was).
    if nan:
        lost = low.value(f"fcmp uno {wide} {x}, {y}")
    else:
        x_nan = low.value(f"fcmp uno {wide} {x}, {x}")
        lost = low.value(f"and i1 {x_nan}, {y_nan}")
    canonical = NAN.get(data, 0x7FFFFFFFFFFFFFFF)
    return low.value(f"select i1 {lost}, {kind} {canonical}, {kind} {result}")


def _f64_nan(low: Lowering, operands: list[str], result: str) -> str:
    """Bits of an f64 result with its NaN rule applied."""
    bits = low.value(f"bitcast double {result} to i64")
    chosen = str(F64_INVALID)
    for value in reversed(operands):
        raw = low.value(f"bitcast double {value} to i64")
        quiet = low.value(f"or i64 {raw}, {F64_QUIET}")
        nan = low.value(f"fcmp uno double {value}, {value}")
        chosen = low.value(f"select i1 {nan}, i64 {quiet}, i64 {chosen}")
    nan = low.value(f"fcmp uno double {result}, {result}")
    return low.value(f"select i1 {nan}, i64 {chosen}, i64 {bits}")


_INSTRUCTION = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}


def _compute(low: Lowering, operation: str, data: str, values: list[str]) -> str:
    """The operation in float or double, rounded so that `narrow` gives the correct result."""
    kind = wide_type(data)
    small = data in ("f16", "bf16")
    if small and (operation == "fma" or (operation == "mul" and data == "bf16")):
        doubles = [low.value(f"fpext float {v} to double") for v in values]
        if operation == "mul":
            exact = low.value(f"fmul double {doubles[0]}, {doubles[1]}")
        else:
            exact = low.helper("double", "fma_odd", *[("double", v) for v in doubles])
        return low.helper("float", "f32_odd_from_f64", ("double", exact))
    if operation in _INSTRUCTION:
        return low.value(f"{_INSTRUCTION[operation]} {kind} {values[0]}, {values[1]}")
    if operation == "rcp":
        return low.value(f"fdiv {kind} 1.0, {values[0]}")
    name = f"llvm.{operation}.{'f64' if kind == 'double' else 'f32'}"
    return low.call(kind, name, *[(kind, v) for v in values])


def scalar(
    low: Lowering,
    operation: str,
    data: str,
    bits: list[str],
    *,
    ftz: bool = False,
    sat: bool = False,
    nan: bool = False,
    relu: bool = False,
    rounding: str = "rn",
) -> str:
    """One operation on bits of a scalar type; returns bits."""
    if ftz:
        bits = [flush(low, data, b) for b in bits]
    if operation in ("min", "max"):
        return _order_minimum(low, operation, data, bits, nan)
    kind = wide_type(data)
    values = [widen(low, data, b) for b in bits]
    if rounding == "rn":
        value = _compute(low, operation, data, values)
    else:
        value = lower_round.compute(low, operation, data, values, rounding)
    if sat:
        value = saturate(low, kind, value)
    if relu:
        negative = low.value(f"fcmp olt {kind} {value}, 0.0")
        value = low.value(f"select i1 {negative}, {kind} 0.0, {kind} {value}")
    if data == "f64":
        return _f64_nan(low, values, value)
    result = narrow(low, data, value)
    return flush(low, data, result) if ftz else result


def _signs_apart(low: Lowering, operation: str, data: str, bits: list[str], **more: Any) -> str:
    """.xorsign.abs: min or max of the sizes, with the product of the signs unless it is NaN."""
    kind, top = f"i{BITS[data]}", 1 << (BITS[data] - 1)
    sizes = [low.value(f"and {kind} {value}, {top - 1}") for value in bits]
    result = scalar(low, operation, data, sizes, **more)
    signs = low.value(f"xor {kind} {bits[0]}, {bits[1]}")
    sign = low.value(f"and {kind} {signs}, {signed_literal(top, BITS[data])}")
    nan = low.value(f"icmp eq {kind} {result}, {NAN[data]}")
    sign = low.value(f"select i1 {nan}, {kind} 0, {kind} {sign}")
    return low.value(f"or {kind} {result}, {sign}")


def each_half(low: Lowering, data: str, words: list[str], one: object) -> str:
    """Apply `one(bits) -> bits` to both halves of packed words."""
    assert callable(one)
    halves = []
    for shift in (0, 16):
        parts = []
        for word in words:
            moved = low.value(f"lshr i32 {word}, {shift}") if shift else word
            parts.append(low.resize(moved, 32, 16))
        halves.append(low.resize(one(parts), 16, 32))
    return low.value(f"or i32 {low.value(f'shl i32 {halves[1]}, 16')}, {halves[0]}")


def approximate(low: Lowering, ins: Instruction) -> None:
    """Refuse an approximate instruction unless it was allowed by name."""
    if ins.opcode not in low.approximate:
        raise ins.unsupported(
            f"{ins.opcode} has no specified bits; allow it by name with approximate={{...}}"
        )


def arithmetic(low: Lowering, ins: Instruction) -> None:
    """add, sub, mul, mad, div, rcp, sqrt, fma, min, max of floats."""
    operation = "fma" if ins.root == "mad" else ins.root
    modifiers = Modifiers(ins)
    data = modifiers.type(FLOATS)
    ordered = operation in ("min", "max")
    nan = ordered and modifiers.flag("NaN")
    xorsign = ordered and modifiers.flag("xorsign")
    if xorsign and (not modifiers.flag("abs") or data == "f64"):
        raise ins.unsupported(f"xorsign of {data} (f32, f16, bf16, with .abs)")
    ftz = data != "f64" and not data.startswith("bf16") and modifiers.flag("ftz")
    sat = not ordered and data in ("f32", "f16", "f16x2") and modifiers.flag("sat")
    relu = operation == "fma" and data not in ("f32", "f64") and modifiers.flag("relu")
    rounding = "rn"
    if modifiers.flag("approx", "full"):
        approximate(low, ins)
    elif not ordered:
        exact = operation in ("add", "sub", "mul") or ins.opcode == "mad.f32"
        rounding = lower_round.take(modifiers, operation, data, required=not exact)
    modifiers.finish()
    if operation in ("div", "rcp", "sqrt") and data not in ("f32", "f64"):
        raise ins.unsupported(f"{operation} of {data}")
    words = [low.read(operand, BITS[data]) for operand in ins.operands[1:]]
    if len(words) != {"fma": 3, "rcp": 1, "sqrt": 1}.get(operation, 2):
        raise ins.unsupported(f"{len(words)} operands")
    base = data.removesuffix("x2")

    def one(bits: list[str]) -> str:
        more = {"ftz": ftz, "sat": sat, "nan": nan, "relu": relu}
        if xorsign:
            return _signs_apart(low, operation, base, bits, **more)
        return scalar(low, operation, base, bits, rounding=rounding, **more)

    result = each_half(low, data, words, one) if data.endswith("x2") else one(words)
    low.write(ins.operands[0], result, BITS[data])


@lowers("fma", "rcp", "sqrt")
def fma(low: Lowering, ins: Instruction) -> None:
    arithmetic(low, ins)


def sign_bits(low: Lowering, ins: Instruction) -> None:
    """abs and neg."""
    modifiers = Modifiers(ins)
    data = modifiers.type(FLOATS)
    ftz = data in ("f32", "f16", "f16x2") and modifiers.flag("ftz")
    modifiers.finish()
    base, width = data.removesuffix("x2"), BITS[data]

    def one(bits: list[str]) -> str:
        value = flush(low, base, bits[0]) if ftz else bits[0]
        top = 1 << (BITS[base] - 1)
        kind = f"i{BITS[base]}"
        size = low.value(f"and {kind} {value}, {top - 1}")
        result = size
        if ins.root == "neg":
            result = low.value(f"xor {kind} {value}, {signed_literal(top, BITS[base])}")
        if base == "f64":
            return result
        is_nan = low.value(f"icmp ugt {kind} {size}, {EXPONENT[base]}")
        return low.value(f"select i1 {is_nan}, {kind} {NAN[base]}, {kind} {result}")

    words = [low.read(ins.operands[1], width)]
    result = each_half(low, data, words, one) if data.endswith("x2") else one(words)
    low.write(ins.operands[0], result, width)


@lowers("copysign")
def copysign(low: Lowering, ins: Instruction) -> None:
    """The magnitude of the second source with the sign of the first."""
    modifiers = Modifiers(ins)
    data = modifiers.type(("f32", "f64"))
    modifiers.finish()
    width = BITS[data]
    a, b = (low.read(operand, width) for operand in ins.operands[1:])
    top = 1 << (width - 1)
    sign = low.value(f"and i{width} {a}, {signed_literal(top, width)}")
    size = low.value(f"and i{width} {b}, {top - 1}")
    low.write(ins.operands[0], low.value(f"or i{width} {sign}, {size}"), width)


@lowers("testp")
def testp(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    data = modifiers.type(("f32", "f64"))
    kinds = ("finite", "infinite", "number", "notanumber", "normal", "subnormal")
    what = modifiers.choice(kinds)
    modifiers.finish()
    width = BITS[data]
    size = low.value(f"and i{width} {low.read(ins.operands[1], width)}, {(1 << (width - 1)) - 1}")
    top, least = EXPONENT[data], 1 << MANTISSA[data]
    tests = {
        "finite": f"icmp ult i{width} {size}, {top}",
        "infinite": f"icmp eq i{width} {size}, {top}",
        "number": f"icmp ule i{width} {size}, {top}",
        "notanumber": f"icmp ugt i{width} {size}, {top}",
    }
    if what in tests:
        result = low.value(tests[what])
    else:
        small = low.value(f"icmp ult i{width} {size}, {least}")
        result = low.value(f"and i1 {small}, {low.value(f'icmp ne i{width} {size}, 0')}")
        if what == "normal":  # zeros count as normal (PTX ISA, testp)
            finite = low.value(tests["finite"])
            result = low.value(f"and i1 {finite}, {low.value(f'xor i1 {result}, true')}")
    low.write(ins.operands[0], result, 1)


@lowers("ex2", "lg2", "sin", "cos", "rsqrt", "tanh")
def transcendental(low: Lowering, ins: Instruction) -> None:
    """Approximate by definition: only where allowed by name, then the f32 of a double result."""
    modifiers = Modifiers(ins)
    data = modifiers.type(("f32",))
    modifiers.choice(("approx",))
    ftz = modifiers.flag("ftz")
    modifiers.finish()
    approximate(low, ins)
    bits = low.read(ins.operands[1], 32)
    value = widen(low, data, flush(low, data, bits) if ftz else bits)
    wide = low.value(f"fpext float {value} to double")
    if ins.root == "rsqrt":
        root = low.call("double", "llvm.sqrt.f64", ("double", wide))
        wide = low.value(f"fdiv double 1.0, {root}")
    elif ins.root == "tanh":
        raise ins.unsupported("tanh is not emulated")
    else:
        name = {"ex2": "exp2", "lg2": "log2", "sin": "sin", "cos": "cos"}[ins.root]
        wide = low.call("double", f"llvm.{name}.f64", ("double", wide))
    result = narrow(low, data, low.value(f"fptrunc double {wide} to float"))
    low.write(ins.operands[0], flush(low, data, result) if ftz else result, 32)
