"""Matrices of a warp: mma.sync, ldmatrix, stmatrix.

Contract: each stores its operands in THREAD.args as layout.Yield says and returns; the scheduler
performs it (tensor.py, tensor_float.py, collectives.py). 8-bit integer mma is exact. mma of f16,
bf16 and tf32 runs only where its opcode was allowed by name: PTX leaves the order of its sums and
their roundings open; tensor_float.py says what is computed. tf32 ignores the low 13 bits of a
register. With f16 accumulators the f32 result is rounded once more. NaN results are canonical.

Source: PTX ISA 9.0, section 9.7.15 (mma, ldmatrix, stmatrix).
"""

from __future__ import annotations

from emulator.layout import Yield
from emulator.lower_check import guard
from emulator.lower_float import approximate, narrow, widen
from emulator.lower_memory import effective
from emulator.lowering import Lowering, Modifiers, lowers
from emulator.operands import Operand
from emulator.program import Instruction

TRANSPOSED = 8
FLOAT_A = {"m16n8k16": 4, "m16n8k8": 2, "m16n8k4": 2}  # registers of A; B has half as many


_MMA_SHAPES = {"m16n8k32": (4, 2, 4), "m16n8k16": (2, 1, 4)}  # registers of A, B, C
_MMA_TYPES = {("s8", "s8"): 0, ("u8", "s8"): 1, ("s8", "u8"): 2, ("u8", "u8"): 3}
_MMA: dict[tuple[str, ...], tuple[tuple[int, ...], int]] = {
    ("sync", "aligned", shape, "row", "col", "s32", *types, "s32"): (sizes, mode)
    for shape, sizes in _MMA_SHAPES.items()
    for types, mode in _MMA_TYPES.items()
}
CLAMPED = 4


@lowers("mma")
def mma(low: Lowering, ins: Instruction) -> None:
    """m16n8k16 is m16n8k32 with zeros in the upper half of K: the fragments agree."""
    if len(ins.modifiers) == 9 and ins.modifiers[5] in ("f16", "f32"):
        _mma_float(low, ins)
        return
    modifiers = tuple(name for name in ins.modifiers if name != "satfinite")
    sizes, mode = _MMA.get(modifiers, ((), 0))
    if len(modifiers) < len(ins.modifiers):
        mode |= CLAMPED
    if not sizes:
        known = ", ".join(".".join(("mma", *modifiers)) for modifiers in _MMA)
        raise ins.unsupported(f"supported are {known}, and floats")
    target, *sources = ins.operands
    if tuple(len(low.items(operand)) for operand in sources) != sizes:
        raise ins.unsupported(f"expected {sizes} source registers")
    words = []
    for operand, full in zip(sources, (4, 2, 4), strict=True):
        fragment = [low.read(item, 32) for item in low.items(operand)]
        words += fragment + ["0"] * (full - len(fragment))
    low.suspend(Yield.MMA_INT8, (*words, str(mode)))
    for position, item in enumerate(low.items(target)):
        low.write(item, low.result(position), 32)


def _mma_float(low: Lowering, ins: Instruction) -> None:
    """mma.sync.aligned.SHAPE.row.col.D.A.B.C; smaller K is m16n8k16 with zeros."""
    modifiers = Modifiers(ins)
    for name in ("sync", "aligned", "row", "col"):
        modifiers.choice((name,))
    accumulators = modifiers.type(("f32", "f16"))
    data = modifiers.type(("f16", "bf16", "tf32"))
    same = modifiers.type((data,)) == data and modifiers.type(("f32", "f16")) == accumulators
    sizes = ("m16n8k8", "m16n8k4") if data == "tf32" else ("m16n8k16", "m16n8k8")
    shape = modifiers.choice(sizes)
    modifiers.finish()
    if not same or (accumulators == "f16" and data != "f16"):
        raise ins.unsupported(f"accumulators of type {accumulators} for {data}")
    approximate(low, ins)
    registers = 4 if data == "tf32" and shape == "m16n8k8" else FLOAT_A[shape]
    target, a, b, c = ins.operands
    wanted = (registers, registers // 2, 4 if accumulators == "f32" else 2)
    if tuple(len(low.items(operand)) for operand in (a, b, c)) != wanted:
        raise ins.unsupported(f"expected {wanted} source registers")
    words = _floats(low, a, data, 8) + _floats(low, b, data, 4) + _floats(low, c, accumulators, 4)
    low.suspend(Yield.MMA_FLOAT, words)
    found = [low.value(f"bitcast i32 {low.result(i)} to float") for i in range(4)]
    halves = [narrow(low, accumulators, value) for value in found]
    if accumulators == "f16":
        wide = [low.resize(half, 16, 32) for half in halves]
        halves = [
            low.value(f"or i32 {low.value(f'shl i32 {wide[i + 1]}, 16')}, {wide[i]}")
            for i in (0, 2)
        ]
    for item, word in zip(low.items(target), halves, strict=True):
        low.write(item, word, 32)


def _floats(low: Lowering, operand: Operand, data: str, count: int) -> list[str]:
    """The fragment as f32 words, filled up with zeros; tf32: each beside a zero."""
    words: list[str] = []
    for item in low.items(operand):
        word = low.read(item, 32)
        if data == "f32":
            words.append(word)
        elif data == "tf32":
            words += [low.value(f"and i32 {word}, -8192"), "0"]
        else:
            for part in (word, low.value(f"lshr i32 {word}, 16")):
                value = widen(low, data, low.resize(part, 32, 16))
                words.append(low.value(f"bitcast float {value} to i32"))
    return words + ["0"] * (count - len(words))


@lowers("ldmatrix")
def ldmatrix(low: Lowering, ins: Instruction) -> None:
    target, address = ins.operands
    items = low.items(target)
    low.suspend(Yield.LDMATRIX, _rows(low, ins, address, len(items), "read"))
    for position, item in enumerate(items):
        low.write(item, low.result(position), 32)


@lowers("stmatrix")
def stmatrix(low: Lowering, ins: Instruction) -> None:
    address, source = ins.operands
    items = low.items(source)
    words = [low.read(item, 32) for item in items]
    rows = _rows(low, ins, address, len(items), "write")
    low.suspend(Yield.STMATRIX, (*rows, *words))


def _rows(
    low: Lowering, ins: Instruction, address: Operand, registers: int, action: str
) -> tuple[str, str]:
    """(mode, row): checks the row that this lane addresses, if the instruction uses it."""
    modifiers = Modifiers(ins)
    modifiers.type(("b16",))
    for name in (("sync",), ("aligned",), ("m8n8",)):
        modifiers.choice(name)
    count = int(modifiers.choice(("x1", "x2", "x4"))[1:])
    transposed = modifiers.flag("trans")
    modifiers.flag("shared", "shared::cta")
    modifiers.finish()
    if registers != count:
        raise ins.unsupported(f"{registers} registers for .x{count}")
    place = effective(low, address, "shared")
    used, done = low.fresh("row"), low.fresh("rows")
    low.branch(low.value(f"icmp ult i32 {low.thread('lane')}, {8 * count}"), used, done)
    low.label(used)
    guard(low, "shared", place, 16, action)
    low.jump(done)
    low.label(done)
    return str(count | (TRANSPOSED if transposed else 0)), low.resize(place, 64, 32)
