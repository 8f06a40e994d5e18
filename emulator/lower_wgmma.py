"""wgmma: mma_async, fence, commit_group, wait_group.

Contract: mma_async m64nNk16 of f16 and bf16, k8 of tf32 (into f32, allowed by name as mma.sync is)
and k32 of s8 and u8 (into s32, .satfinite), with B in shared memory and A there or in registers
(wgmma.py). The product is formed at once, from what shared memory then holds; the accumulator
registers hold POISON until the wait that covers their group. A write to A or B before that wait is
not found by itself. Each warp of the four works by itself. fence and fence.proxy have no effect;
their lack is not found.

Source: PTX ISA 9.0, section 9.7.16 (wgmma).
"""

from __future__ import annotations

import re

from emulator import wgmma
from emulator.accumulators import COMMITTED, GROUP, IN_FLIGHT, VALUES, registers, slots
from emulator.layout import Yield
from emulator.lower_float import approximate
from emulator.lowering import Lowering, Modifiers, lowers
from emulator.operands import Imm, Reg
from emulator.program import Instruction

POISON = -0x5A5A5A5B  # 0xa5a5a5a5
K = {"f16": 16, "bf16": 16, "tf32": 8, "s8": 32, "u8": 32}
KINDS = {"f16": wgmma.F16, "bf16": wgmma.BF16, "tf32": wgmma.TF32, "s8": 3, "u8": 3}


def start(low: Lowering) -> list[str]:
    """IR for a thread's first entry: nothing is committed or in flight."""
    found = slots(low.program)
    words = [COMMITTED, *(at + IN_FLIGHT for at in found.values())] if found else []
    lines = []
    for word in words:
        where = low.accumulators_at + word
        lines += [
            f"%wgmma.{word} = getelementptr i8, ptr %frame, i64 {where}",
            f"store i32 0, ptr %wgmma.{word}{low.tag('frame')}",
        ]
    return lines


@lowers("wgmma")
def lower(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    what = modifiers.choice(("mma_async", "fence", "commit_group", "wait_group"))
    modifiers.choice(("sync",))
    modifiers.choice(("aligned",))
    if what == "mma_async":
        _multiply(low, ins, modifiers)
        return
    modifiers.finish()
    if what == "commit_group":
        _store(low, low.value(f"add i32 {_load(low, COMMITTED)}, 1"), COMMITTED)
    elif what == "wait_group":
        _wait(low, ins)


def _load(low: Lowering, word: int) -> str:
    return low.load("i32", "%frame", low.accumulators_at + word, "frame")


def _store(low: Lowering, value: str, word: int) -> None:
    low.store("i32", value, "%frame", low.accumulators_at + word, "frame")


def _wait(low: Lowering, ins: Instruction) -> None:
    """Groups before committed - N are done: their accumulators become readable."""
    pending = ins.operands[0].bits(32) if isinstance(ins.operands[0], Imm) else None
    if pending is None:
        raise ins.unsupported("wait_group needs a literal")
    first = low.value(f"sub i32 {_load(low, COMMITTED)}, {pending}")
    for names, at in slots(low.program).items():
        flying = low.value(f"icmp ne i32 {_load(low, at + IN_FLIGHT)}, 0")
        done = low.value(f"icmp slt i32 {_load(low, at + GROUP)}, {first}")
        landed, on = low.fresh("landed"), low.fresh("waited")
        low.branch(low.value(f"and i1 {flying}, {done}"), landed, on)
        low.label(landed)
        for position, index in enumerate(names):
            low.write(Reg(index), _load(low, at + VALUES + 4 * position), 32)
        _store(low, "0", at + IN_FLIGHT)
        low.jump(on)
        low.label(on)


def _mode(low: Lowering, ins: Instruction, modifiers: Modifiers) -> tuple[int, int]:
    """(mode, N), all modifiers taken."""
    clamped = modifiers.flag("satfinite")
    b = modifiers.type(tuple(K))
    a = modifiers.type(("s8", "u8") if b in ("s8", "u8") else (b,))
    integers = a in ("s8", "u8")
    if clamped and not integers:
        raise ins.unsupported("satfinite of floats")
    modifiers.choice(("s32",) if integers else ("f32",))
    shape = re.fullmatch(rf"m64n(\d+)k{K[a]}", modifiers.left[0] if modifiers.left else "")
    if not shape or not 8 <= int(shape[1]) <= 256 or int(shape[1]) % 8:
        raise ins.unsupported(f"shape: m64nNk{K[a]} with N a multiple of 8 up to 256")
    modifiers.left.pop(0)
    modifiers.finish()
    mode = KINDS[a] | (wgmma.CLAMPED if clamped else 0)
    mode |= (wgmma.A_UNSIGNED if a == "u8" else 0) | (wgmma.B_UNSIGNED if b == "u8" else 0)
    if not integers:
        approximate(low, ins)
        signs_only = K[a] != 16
        mode |= _immediates(ins, 2 if signs_only else 4 if isinstance(ins.operands[1], Reg) else 3)
    return mode, int(shape[1])


def _immediates(ins: Instruction, count: int) -> int:
    """imm-scale-a, imm-scale-b; for 16-bit types imm-trans-a (A in memory) and imm-trans-b."""
    words = ins.operands[4:]
    values = [word.text for word in words if isinstance(word, Imm)]
    if len(values) != count or len(words) != count:
        raise ins.unsupported(f"expected {count} literals behind scale-d")
    turned = (wgmma.A_ALONG_M, wgmma.B_ALONG_N)
    bits = (wgmma.A_NEGATED, wgmma.B_NEGATED, *(turned[1:] if count == 3 else turned))
    mode = 0
    for position, value in enumerate(values):
        if value not in (("1", "-1") if position < 2 else ("0", "1")):
            raise ins.unsupported(f"literal {value}")
        mode |= bits[position] if value == ("-1" if position < 2 else "1") else 0
    return mode


def _multiply(low: Lowering, ins: Instruction, modifiers: Modifiers) -> None:
    target, a, b, scale = ins.operands[:4]
    mode, columns = _mode(low, ins, modifiers)
    fragment: list[str] = []
    if not isinstance(a, Reg):
        mode |= wgmma.A_IN_REGISTERS
        fragment = [low.read(item, 32) for item in low.items(a)]
        if len(fragment) != 4:
            raise ins.unsupported("expected 4 registers of A")
    names = registers(target)
    if len(names) != columns // 2:
        raise ins.unsupported(f"expected {columns // 2} accumulator registers")
    at = slots(low.program)[names]
    fresh, on = low.fresh("fresh"), low.fresh("issue")
    low.branch(low.value(f"icmp eq i32 {_load(low, at + IN_FLIGHT)}, 0"), fresh, on)
    low.label(fresh)
    for position, index in enumerate(names):
        _store(low, low.read(Reg(index), 32), at + VALUES + 4 * position)
    low.jump(on)
    low.label(on)
    words = [str(mode), str(columns)]
    frame = low.value("ptrtoint ptr %frame to i64")
    slot = low.value(f"add i64 {frame}, {low.accumulators_at + at + VALUES}")
    added = low.resize(low.read(scale, 1), 1, 32)
    for wide in ("0" if fragment else low.read(a, 64), low.read(b, 64), slot):
        if wide is slot:
            words.append(added)
        words.append(low.resize(wide, 64, 32))
        words.append(low.resize(low.value(f"lshr i64 {wide}, 32"), 64, 32))
    low.suspend(Yield.WGMMA, (*words, *fragment))
    _store(low, "1", at + IN_FLIGHT)
    _store(low, _load(low, COMMITTED), at + GROUP)
    for index in names:
        low.write(Reg(index), str(POISON), 32)
