"""Logic, shifts, bit fields, byte permutation, comparison, selection and moves.

Shift amounts of the width or more clamp; bfind of no bit gives 0xffffffff; a NaN in slct selects
the second operand. Predicates are i1, `set` gives all ones or 1.0f.

Source: PTX ISA 9.0, sections 9.7.6 (comparison and selection), 9.7.8 (logic and shift), 9.7.9 (mov,
prmt), 9.7.1 (bfe, bfi, bfind, bmsk, szext).
"""

from __future__ import annotations

from emulator.lower_float import FLOATS, compare_float, flush
from emulator.lower_integer import INTEGERS
from emulator.lowering import Lowering, Modifiers, lowers, only_type
from emulator.operands import Imm, Sink
from emulator.program import Instruction
from emulator.ptx import BITS

UNTYPED = ("pred", "b16", "b32", "b64")
MOVES = (*UNTYPED, *INTEGERS, "f32", "f64", "f16", "bf16", "f16x2", "bf16x2")
COMPARE = {
    "eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge",
    "lo": "ult", "ls": "ule", "hi": "ugt", "hs": "uge",
}  # fmt: skip
UNORDERED = ("equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan")


# -- logic, shifts, bit fields --------------------------------------------------------------------


@lowers("and", "or", "xor")
def logic(low: Lowering, ins: Instruction) -> None:
    _, width = only_type(ins, UNTYPED)
    a, b = low.sources(ins, width)
    low.write(ins.operands[0], low.value(f"{ins.root} i{width} {a}, {b}"), width)


@lowers("not", "cnot")
def invert(low: Lowering, ins: Instruction) -> None:
    _, width = only_type(ins, UNTYPED if ins.root == "not" else UNTYPED[1:])
    value = low.read(ins.operands[1], width)
    if ins.root == "not":
        result = low.value(f"xor i{width} {value}, -1")
    else:
        result = low.resize(low.value(f"icmp eq i{width} {value}, 0"), 1, width)
    low.write(ins.operands[0], result, width)


@lowers("lop3")
def lop3(low: Lowering, ins: Instruction) -> None:
    only_type(ins, ("b32",))
    a, b, c = (low.read(operand, 32) for operand in ins.operands[1:4])
    table = ins.operands[4].bits(8) if isinstance(ins.operands[4], Imm) else None
    if table is None:
        raise ins.unsupported("lop3 needs a literal table")
    inverted = [low.value(f"xor i32 {x}, -1") for x in (a, b, c)]
    result = "0"
    for row in range(8):
        if table >> row & 1:
            x, y, z = (
                plain if row >> (2 - i) & 1 else inverted[i] for i, plain in enumerate((a, b, c))
            )
            term = low.value(f"and i32 {low.value(f'and i32 {x}, {y}')}, {z}")
            result = low.value(f"or i32 {result}, {term}")
    low.write(ins.operands[0], result, 32)


@lowers("shl", "shr")
def shift(low: Lowering, ins: Instruction) -> None:
    """Amounts of the width or more clamp: zero, or copies of the sign for shr.s."""
    types = UNTYPED[1:] if ins.root == "shl" else (*UNTYPED[1:], *INTEGERS)
    data, width = only_type(ins, types)
    kind = f"i{width}"
    value, amount = low.read(ins.operands[1], width), low.read(ins.operands[2], 32)
    far = low.value(f"icmp uge i32 {amount}, {width}")
    signed = ins.root == "shr" and data[0] == "s"
    limited = low.value(f"select i1 {far}, i32 {width - 1 if signed else 0}, i32 {amount}")
    limited = low.resize(limited, 32, width)
    operation = "shl" if ins.root == "shl" else "ashr" if signed else "lshr"
    result = low.value(f"{operation} {kind} {value}, {limited}")
    if not signed:
        result = low.value(f"select i1 {far}, {kind} 0, {kind} {result}")
    low.write(ins.operands[0], result, width)


def funnel(low: Lowering, a: str, b: str) -> str:
    """b:a as i64."""
    high = low.value(f"shl i64 {low.resize(b, 32, 64)}, 32")
    return low.value(f"or i64 {high}, {low.resize(a, 32, 64)}")


@lowers("shf")
def shf(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    modifiers.type(("b32",))
    direction = modifiers.choice(("l", "r"))
    mode = modifiers.choice(("clamp", "wrap"))
    modifiers.finish()
    a, b, amount = low.sources(ins, 32)
    if mode == "wrap":
        amount = low.value(f"and i32 {amount}, 31")
    else:
        amount = low.call("i32", "llvm.umin.i32", ("i32", amount), ("i32", "32"))
    both, amount = funnel(low, a, b), low.resize(amount, 32, 64)
    if direction == "l":
        both = low.value(f"lshr i64 {low.value(f'shl i64 {both}, {amount}')}, 32")
    else:
        both = low.value(f"lshr i64 {both}, {amount}")
    low.write(ins.operands[0], low.resize(both, 64, 32), 32)


@lowers("bfe")
def bfe(low: Lowering, ins: Instruction) -> None:
    """Bits beyond the register are the sign bit for .s (of the field, or of the register)."""
    data, width = only_type(ins, ("u32", "s32", "u64", "s64"))
    value = low.read(ins.operands[1], width)
    start, length = (
        low.value(f"and i32 {low.read(operand, 32)}, 255") for operand in ins.operands[2:4]
    )
    kind, signed = f"i{width}", data[0] == "s"
    empty = low.value(f"icmp eq i32 {length}, 0")
    if signed:
        limit = (("i32", str(width - 1)),)
        start = low.call("i32", "llvm.umin.i32", ("i32", start), *limit)
        field = low.value(f"ashr {kind} {value}, {low.resize(start, 32, width)}")
        unused = low.value(f"sub i32 {width}, {length}")
        far = low.value(f"icmp sgt i32 {length}, {width - 1}")
        unused = low.value(f"select i1 {far}, i32 0, i32 {unused}")
        unused = low.value(f"select i1 {empty}, i32 0, i32 {unused}")
        unused = low.resize(unused, 32, width)
        result = low.value(f"ashr {kind} {low.value(f'shl {kind} {field}, {unused}')}, {unused}")
    else:
        far = low.value(f"icmp uge i32 {start}, {width}")
        limited = low.resize(low.value(f"select i1 {far}, i32 0, i32 {start}"), 32, width)
        field = low.value(f"lshr {kind} {value}, {limited}")
        field = low.value(f"select i1 {far}, {kind} 0, {kind} {field}")
        result = low.value(f"and {kind} {field}, {_ones(low, length, width)}")
    low.write(
        ins.operands[0], low.value(f"select i1 {empty}, i{width} 0, i{width} {result}"), width
    )


def _ones(low: Lowering, count: str, width: int) -> str:
    """The lowest `count` (i32) bits set; all of them from `width` on."""
    kind = f"i{width}"
    far = low.value(f"icmp uge i32 {count}, {width}")
    limited = low.value(f"select i1 {far}, i32 0, i32 {count}")
    bit = low.value(f"shl {kind} 1, {low.resize(limited, 32, width)}")
    return low.value(f"select i1 {far}, {kind} -1, {kind} {low.value(f'sub {kind} {bit}, 1')}")


def _shift_left(low: Lowering, value: str, count: str, width: int) -> str:
    kind = f"i{width}"
    far = low.value(f"icmp uge i32 {count}, {width}")
    limited = low.resize(low.value(f"select i1 {far}, i32 0, i32 {count}"), 32, width)
    return low.value(
        f"select i1 {far}, {kind} 0, {kind} {low.value(f'shl {kind} {value}, {limited}')}"
    )


@lowers("bfi")
def bfi(low: Lowering, ins: Instruction) -> None:
    _, width = only_type(ins, ("b32", "b64"))
    kind = f"i{width}"
    a, b = (low.read(operand, width) for operand in ins.operands[1:3])
    start, length = (
        low.value(f"and i32 {low.read(operand, 32)}, 255") for operand in ins.operands[3:5]
    )
    mask = _shift_left(low, _ones(low, length, width), start, width)
    moved = low.value(f"and {kind} {_shift_left(low, a, start, width)}, {mask}")
    kept = low.value(f"and {kind} {b}, {low.value(f'xor {kind} {mask}, -1')}")
    low.write(ins.operands[0], low.value(f"or {kind} {moved}, {kept}"), width)


@lowers("bmsk")
def bmsk(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    modifiers.type(("b32",))
    mode = modifiers.choice(("clamp", "wrap"))
    modifiers.finish()
    start, length = low.sources(ins, 32)
    if mode == "wrap":
        start, length = (low.value(f"and i32 {x}, 31") for x in (start, length))
    low.write(ins.operands[0], _shift_left(low, _ones(low, length, 32), start, 32), 32)


@lowers("szext")
def szext(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    data = modifiers.type(("u32", "s32"))
    mode = modifiers.choice(("clamp", "wrap"))
    modifiers.finish()
    value, count = low.sources(ins, 32)
    if mode == "wrap":
        count = low.value(f"and i32 {count}, 31")
    else:
        count = low.call("i32", "llvm.umin.i32", ("i32", count), ("i32", "32"))
    wide = low.resize(value, 32, 64)
    unused = low.resize(low.value(f"sub i32 63, {count}"), 32, 64)
    wide = low.value(f"shl i64 {low.value(f'shl i64 {wide}, {unused}')}, 1")
    down = "ashr" if data == "s32" else "lshr"
    wide = low.value(f"{down} i64 {low.value(f'{down} i64 {wide}, {unused}')}, 1")
    low.write(ins.operands[0], low.resize(wide, 64, 32), 32)


@lowers("bfind")
def bfind(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    data = modifiers.type(("u32", "s32", "u64", "s64"))
    as_shift = modifiers.flag("shiftamt")
    modifiers.finish()
    width = BITS[data]
    kind = f"i{width}"
    value = low.read(ins.operands[1], width)
    if data[0] == "s":
        sign = low.value(f"ashr {kind} {value}, {width - 1}")
        value = low.value(f"xor {kind} {value}, {sign}")
    zeros = low.call(kind, f"llvm.ctlz.{kind}", (kind, value), ("i1", "false"))
    zeros = low.resize(zeros, width, 32)
    result = zeros if as_shift else low.value(f"sub i32 {width - 1}, {zeros}")
    none = low.value(f"icmp eq {kind} {value}, 0")
    low.write(ins.operands[0], low.value(f"select i1 {none}, i32 -1, i32 {result}"), 32)


@lowers("clz", "popc", "brev")
def count(low: Lowering, ins: Instruction) -> None:
    _, width = only_type(ins, ("b32", "b64"))
    kind = f"i{width}"
    value = low.read(ins.operands[1], width)
    if ins.root == "clz":
        result = low.call(kind, f"llvm.ctlz.{kind}", (kind, value), ("i1", "false"))
    else:
        name = "ctpop" if ins.root == "popc" else "bitreverse"
        result = low.call(kind, f"llvm.{name}.{kind}", (kind, value))
    low.write(ins.operands[0], result, width)


# -- bytes, comparison, selection, moves ----------------------------------------------------------


def _selectors(low: Lowering, mode: str, control: str) -> list[str]:
    """The four 4-bit byte selectors of prmt as i32."""
    if mode == "default":
        return [low.value(f"lshr i32 {control}, {4 * i}") for i in range(4)]
    low_two = low.value(f"and i32 {control}, 3")
    if mode in ("f4e", "b4e"):
        step = "add" if mode == "f4e" else "sub"
        return [
            low.value(f"and i32 {low.value(f'{step} i32 {low_two}, {i}')}, 7") for i in range(4)
        ]
    if mode == "rc8":
        return [low_two] * 4
    if mode == "ecl":
        return [
            low.call("i32", "llvm.umax.i32", ("i32", low_two), ("i32", str(i))) for i in range(4)
        ]
    if mode == "ecr":
        return [
            low.call("i32", "llvm.umin.i32", ("i32", low_two), ("i32", str(i))) for i in range(4)
        ]
    half = low.value(f"shl i32 {low.value(f'and i32 {control}, 1')}, 1")
    return [half if i % 2 == 0 else low.value(f"or i32 {half}, 1") for i in range(4)]


@lowers("prmt")
def prmt(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    modifiers_left = [m for m in modifiers.left if m != "b32"]
    if "b32" not in modifiers.left:
        raise ins.unsupported("prmt needs .b32")
    modifiers.left = modifiers_left
    mode = modifiers.choice(("f4e", "b4e", "rc8", "ecl", "ecr", "rc16"), "default")
    modifiers.finish()
    a, b, control = low.sources(ins, 32)
    both, result = funnel(low, a, b), "0"
    for position, selector in enumerate(_selectors(low, mode, control)):
        byte = low.resize(low.value(f"and i32 {selector}, 7"), 32, 64)
        byte = low.value(f"lshr i64 {both}, {low.value(f'shl i64 {byte}, 3')}")
        byte = low.resize(byte, 64, 8)
        if mode == "default":
            sign = low.value(f"ashr i8 {byte}, 7")
            flag = low.value(f"icmp ne i32 {low.value(f'and i32 {selector}, 8')}, 0")
            byte = low.value(f"select i1 {flag}, i8 {sign}, i8 {byte}")
        moved = low.value(f"shl i32 {low.resize(byte, 8, 32)}, {8 * position}")
        result = low.value(f"or i32 {result}, {moved}")
    low.write(ins.operands[0], result, 32)


def compare(low: Lowering, ins: Instruction, how: str, data: str, ftz: bool) -> str:
    """i1 of operands 1 and 2."""
    if data in FLOATS:
        return compare_float(low, ins, how, data, ftz)
    if ftz or how not in COMPARE:
        raise ins.unsupported(f"comparison {how} of integers")
    width = BITS[data]
    code = COMPARE[how]
    if len(code) == 2 and code not in ("eq", "ne"):
        code = ("s" if data[0] == "s" else "u") + code
    a, b = (low.read(operand, width) for operand in ins.operands[1:3])
    return low.value(f"icmp {code} i{width} {a}, {b}")


_COMPARED = (*UNTYPED[1:], *INTEGERS, "f16", "bf16", "f32", "f64")


@lowers("setp")
def setp(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    data = modifiers.type(_COMPARED)
    how = modifiers.choice((*COMPARE, *UNORDERED))
    combine = modifiers.choice(("and", "or", "xor"), "none")
    ftz = modifiers.flag("ftz")
    modifiers.finish()
    result = compare(low, ins, how, data, ftz)
    first, second = low.pair(ins.operands[0])
    negated = "" if isinstance(second, Sink) else low.value(f"xor i1 {result}, true")
    if combine != "none":
        other = low.read(ins.operands[3], 1)
        result = low.value(f"{combine} i1 {result}, {other}")
        negated = low.value(f"{combine} i1 {negated}, {other}") if negated else ""
    low.write(first, result, 1)
    if negated:
        low.write(second, negated, 1)


@lowers("set")
def set_(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    data = modifiers.type(_COMPARED)
    target = modifiers.type(("u32", "s32", "f32"))
    how = modifiers.choice((*COMPARE, *UNORDERED))
    combine = modifiers.choice(("and", "or", "xor"), "none")
    ftz = modifiers.flag("ftz")
    modifiers.finish()
    result = compare(low, ins, how, data, ftz)
    if combine != "none":
        result = low.value(f"{combine} i1 {result}, {low.read(ins.operands[3], 1)}")
    yes = str(0x3F800000) if target == "f32" else "-1"
    low.write(ins.operands[0], low.value(f"select i1 {result}, i32 {yes}, i32 0"), 32)


@lowers("selp")
def selp(low: Lowering, ins: Instruction) -> None:
    _, width = only_type(ins, MOVES[1:])
    a, b = (low.read(operand, width) for operand in ins.operands[1:3])
    condition = low.read(ins.operands[3], 1)
    low.write(
        ins.operands[0], low.value(f"select i1 {condition}, i{width} {a}, i{width} {b}"), width
    )


@lowers("slct")
def slct(low: Lowering, ins: Instruction) -> None:
    """c >= 0 ? a : b; a NaN selects b."""
    modifiers = Modifiers(ins)
    by = modifiers.type(("s32", "f32"))
    data = modifiers.type(MOVES[1:])
    ftz = modifiers.flag("ftz")
    modifiers.finish()
    width = BITS[data]
    a, b = (low.read(operand, width) for operand in ins.operands[1:3])
    c = low.read(ins.operands[3], 32)
    if by == "s32":
        yes = low.value(f"icmp sge i32 {c}, 0")
    else:
        c = flush(low, "f32", c) if ftz else c
        yes = low.value(f"fcmp oge float {low.value(f'bitcast i32 {c} to float')}, 0.0")
    low.write(ins.operands[0], low.value(f"select i1 {yes}, i{width} {a}, i{width} {b}"), width)


@lowers("mov")
def mov(low: Lowering, ins: Instruction) -> None:
    _, width = only_type(ins, MOVES)
    low.write(ins.operands[0], low.read(ins.operands[1], width), width)
