"""Integer arithmetic, and the opcodes that integers share with floats (add, mul, min, abs, ...).

What PTX leaves open, and the choice made here: quotient and remainder of a division by zero are
all ones (as in the code that ptxas makes of them); MIN / -1 wraps to MIN, its remainder is 0.
mul24/mad24 take the low 24 bits, sign-extended for s32.

Source: PTX ISA 9.0, sections 9.7.1 (integer), 9.7.2 (extended precision).
"""

from __future__ import annotations

from emulator.lower_float import FLOATS, arithmetic, sign_bits
from emulator.lowering import Lowering, Modifiers, lowers, only_type
from emulator.program import Instruction
from emulator.ptx import BITS

INTEGERS = ("u16", "s16", "u32", "s32", "u64", "s64")


def is_float(ins: Instruction) -> bool:
    return bool(ins.modifiers) and ins.modifiers[-1] in FLOATS


# -- extended precision ---------------------------------------------------------------------------


def add_with_carry(low: Lowering, ins: Instruction, a: str, b: str, width: int) -> str:
    """a + b (+ CC.CF for addc), setting CC.CF for .cc; subtraction keeps a borrow in CC.CF."""
    subtract = ins.root in ("sub", "subc")
    operation = "usub" if subtract else "uadd"
    kind = f"i{width}"

    def step(x: str, y: str) -> tuple[str, str]:
        name = f"llvm.{operation}.with.overflow.{kind}"
        both = low.call(f"{{{kind}, i1}}", name, (kind, x), (kind, y))
        pair = f"{{{kind}, i1}} {both}"
        return low.value(f"extractvalue {pair}, 0"), low.value(f"extractvalue {pair}, 1")

    total, out = step(a, b)
    carry = f"%r{low.program.carry}"
    tag = low.tag("frame") if low.program.carry in low.register_offset else ""
    if ins.root in ("addc", "subc", "madc"):
        carried = low.resize(low.value(f"load i1, ptr {carry}{tag}"), 1, width)
        total, second = step(total, carried)
        out = low.value(f"or i1 {out}, {second}")
    if "cc" in ins.modifiers:
        low.emit(f"store i1 {out}, ptr {carry}{tag}")
    return total


@lowers("add", "sub", "addc", "subc")
def add(low: Lowering, ins: Instruction) -> None:
    if is_float(ins):
        arithmetic(low, ins)
        return
    modifiers = Modifiers(ins)
    data = modifiers.type((*INTEGERS, "u16x2", "s16x2"))
    extended = modifiers.flag("cc") or ins.root in ("addc", "subc")
    saturate = modifiers.flag("sat")
    modifiers.finish()
    operation = ins.root[:3]
    if data.endswith("x2") or (saturate and data != "s32") or (extended and saturate):
        raise ins.unsupported(f"{ins.root} of this type")
    width = BITS[data]
    a, b = low.sources(ins, width)
    if extended:
        result = add_with_carry(low, ins, a, b, width)
    elif saturate:
        result = low.call("i32", f"llvm.s{operation}.sat.i32", ("i32", a), ("i32", b))
    else:
        result = low.value(f"{operation} i{width} {a}, {b}")
    low.write(ins.operands[0], result, width)


# -- multiplication and division ------------------------------------------------------------------


def _product(low: Lowering, data: str, part: str, a: str, b: str) -> tuple[str, int]:
    """(value, width) of the lo, hi or wide product."""
    width = BITS[data]
    if part == "lo":
        return low.value(f"mul i{width} {a}, {b}"), width
    how = data[0] == "s"
    wide = [low.resize(x, width, 2 * width, how) for x in (a, b)]
    full = low.value(f"mul i{2 * width} {wide[0]}, {wide[1]}")
    if part == "wide":
        return full, 2 * width
    return low.resize(low.value(f"lshr i{2 * width} {full}, {width}"), 2 * width, width), width


@lowers("mul", "mad", "madc")
def mul(low: Lowering, ins: Instruction) -> None:
    if is_float(ins):
        arithmetic(low, ins)
        return
    modifiers = Modifiers(ins)
    data = modifiers.type(INTEGERS)
    part = modifiers.choice(("lo", "hi", "wide"))
    extended = modifiers.flag("cc") or ins.root == "madc"
    saturate = modifiers.flag("sat")
    modifiers.finish()
    width = BITS[data]
    if (part == "wide" and width == 64) or (
        saturate and (ins.root, part, data) != ("mad", "hi", "s32")
    ):
        raise ins.unsupported("this form of multiplication")
    a, b = (low.read(operand, width) for operand in ins.operands[1:3])
    result, wide = _product(low, data, part, a, b)
    if ins.root != "mul":
        c = low.read(ins.operands[3], wide)
        if extended:
            result = add_with_carry(low, ins, result, c, wide)
        elif saturate:
            result = low.call("i32", "llvm.sadd.sat.i32", ("i32", result), ("i32", c))
        else:
            result = low.value(f"add i{wide} {result}, {c}")
    low.write(ins.operands[0], result, wide)


@lowers("mul24", "mad24")
def mul24(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    data = modifiers.type(("u32", "s32"))
    part = modifiers.choice(("lo", "hi"))
    modifiers.finish()
    shift = "ashr" if data == "s32" else "lshr"
    wide = []
    for operand in ins.operands[1:3]:
        up = low.value(f"shl i32 {low.read(operand, 32)}, 8")
        wide.append(low.resize(low.value(f"{shift} i32 {up}, 8"), 32, 64, data == "s32"))
    result = low.value(f"mul i64 {wide[0]}, {wide[1]}")
    if part == "hi":
        result = low.value(f"lshr i64 {result}, 16")
    result = low.resize(result, 64, 32)
    if ins.root == "mad24":
        result = low.value(f"add i32 {result}, {low.read(ins.operands[3], 32)}")
    low.write(ins.operands[0], result, 32)


@lowers("div", "rem")
def div(low: Lowering, ins: Instruction) -> None:
    if is_float(ins):
        arithmetic(low, ins)
        return
    data, width = only_type(ins, INTEGERS)
    a, b = low.sources(ins, width)
    kind = f"i{width}"
    zero = low.value(f"icmp eq {kind} {b}, 0")
    safe = low.value(f"select i1 {zero}, {kind} 1, {kind} {b}")
    sign = "s" if data[0] == "s" else "u"
    if sign == "s":
        # MIN / -1 overflows in LLVM: divide by 1 and negate.
        minus = low.value(f"icmp eq {kind} {b}, -1")
        safe = low.value(f"select i1 {minus}, {kind} 1, {kind} {safe}")
    result = low.value(f"{sign}{ins.root} {kind} {a}, {safe}")
    if sign == "s" and ins.root == "div":
        negated = low.value(f"sub {kind} 0, {result}")
        result = low.value(f"select i1 {minus}, {kind} {negated}, {kind} {result}")
    low.write(ins.operands[0], low.value(f"select i1 {zero}, {kind} -1, {kind} {result}"), width)


@lowers("dp4a", "dp2a")
def dot(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    b_type, a_type = modifiers.type(("u32", "s32")), modifiers.type(("u32", "s32"))
    high = ins.root == "dp2a" and modifiers.choice(("lo", "hi")) == "hi"
    modifiers.finish()
    a, b, total = low.sources(ins, 32)
    count, a_bits = (4, 8) if ins.root == "dp4a" else (2, 16)
    for i in range(count):
        x = low.resize(low.value(f"lshr i32 {a}, {a_bits * i}"), 32, a_bits)
        y = low.resize(low.value(f"lshr i32 {b}, {8 * i + (16 if high else 0)}"), 32, 8)
        x = low.resize(x, a_bits, 32, a_type == "s32")
        y = low.resize(y, 8, 32, b_type == "s32")
        total = low.value(f"add i32 {total}, {low.value(f'mul i32 {x}, {y}')}")
    low.write(ins.operands[0], total, 32)


@lowers("sad")
def sad(low: Lowering, ins: Instruction) -> None:
    data, width = only_type(ins, INTEGERS)
    a, b, c = low.sources(ins, width)
    kind, sign = f"i{width}", data[0]
    more = low.call(kind, f"llvm.{sign}max.{kind}", (kind, a), (kind, b))
    less = low.call(kind, f"llvm.{sign}min.{kind}", (kind, a), (kind, b))
    far = low.value(f"sub {kind} {more}, {less}")
    low.write(ins.operands[0], low.value(f"add {kind} {c}, {far}"), width)


@lowers("abs", "neg")
def absolute(low: Lowering, ins: Instruction) -> None:
    if is_float(ins):
        sign_bits(low, ins)
        return
    _, width = only_type(ins, ("s16", "s32", "s64"))
    kind = f"i{width}"
    value = low.read(ins.operands[1], width)
    if ins.root == "abs":
        result = low.call(kind, f"llvm.abs.{kind}", (kind, value), ("i1", "false"))
    else:
        result = low.value(f"sub {kind} 0, {value}")
    low.write(ins.operands[0], result, width)


@lowers("min", "max")
def minimum(low: Lowering, ins: Instruction) -> None:
    if is_float(ins):
        arithmetic(low, ins)
        return
    modifiers = Modifiers(ins)
    data = modifiers.type(INTEGERS)
    relu = data == "s32" and modifiers.flag("relu")
    modifiers.finish()
    kind = f"i{BITS[data]}"
    a, b = low.sources(ins, BITS[data])
    result = low.call(kind, f"llvm.{data[0]}{ins.root}.{kind}", (kind, a), (kind, b))
    if relu:
        result = low.call(kind, f"llvm.smax.{kind}", (kind, result), (kind, "0"))
    low.write(ins.operands[0], result, BITS[data])
