"""What threads do together: barriers and warp operations; and calls and exits.

Each collective stores its operands in THREAD.args in the order that layout.Yield names and returns;
the scheduler performs it. elect.sync elects the lowest lane of its mask. `bar.arrive` is refused.
`vprintf` prints nothing and returns 0; `__assertfail` traps.

Source: PTX ISA 9.0, sections 9.7.13 (barriers, shfl, vote, match, redux, elect).
"""

from __future__ import annotations

from emulator.layout import (
    MatchMode,
    Reduction,
    ReduxMode,
    ShuffleMode,
    VoteMode,
    Yield,
)
from emulator.lowering import Lowering, Modifiers, lowers
from emulator.operands import Name, Operand, Symbol
from emulator.program import Instruction

SIGNED_REDUX = 8


@lowers("bar", "barrier")
def barrier(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    if modifiers.flag("warp"):
        modifiers.choice(("sync",))
        modifiers.finish()
        low.suspend(Yield.WARPSYNC, (low.read(ins.operands[0], 32),))
        return
    modifiers.flag("cta")
    aligned = ins.root == "bar" or modifiers.flag("aligned")
    modifiers.flag("aligned")
    if modifiers.choice(("sync", "red")) == "red":
        _reduce_barrier(low, ins, modifiers, aligned)
        return
    modifiers.finish()
    number, *count = ins.operands
    threads = low.read(count[0], 32) if count else "0"
    low.suspend(Yield.BARRIER, (low.read(number, 32), threads, str(int(aligned)), "-1", "0"))


def _reduce_barrier(low: Lowering, ins: Instruction, modifiers: Modifiers, aligned: bool) -> None:
    operation = modifiers.choice(("popc", "and", "or"))
    data = modifiers.type(("u32",) if operation == "popc" else ("pred",))
    modifiers.finish()
    target, number, *count, predicate = ins.operands
    threads = low.read(count[0], 32) if count else "0"
    value = low.resize(low.read(predicate, 1), 1, 32)
    kind = str(int(Reduction[operation.upper()]))
    low.suspend(Yield.BARRIER, (low.read(number, 32), threads, str(int(aligned)), kind, value))
    _write_answer(low, target, data)


def _write_answer(low: Lowering, target: Operand, data: str) -> None:
    """results[0] as a predicate or a word."""
    answer = low.result()
    if data == "pred":
        low.write(target, low.value(f"icmp ne i32 {answer}, 0"), 1)
    else:
        low.write(target, answer, 32)


@lowers("shfl")
def shfl(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    modifiers.type(("b32",))
    modifiers.choice(("sync",))
    mode = ShuffleMode[modifiers.choice(("up", "down", "bfly", "idx")).upper()]
    modifiers.finish()
    target, value, b, c, mask = ins.operands
    first, second = low.pair(target)
    arguments = [low.read(operand, 32) for operand in (mask, value, b, c)]
    arguments.insert(1, str(int(mode)))
    low.suspend(Yield.SHUFFLE, arguments)
    low.write(first, low.result(0), 32)
    low.write(second, low.value(f"icmp ne i32 {low.result(1)}, 0"), 1)


@lowers("vote")
def vote(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    data = modifiers.type(("pred", "b32"))
    modifiers.choice(("sync",))
    mode = modifiers.choice(("all", "any", "uni", "ballot"))
    modifiers.finish()
    if (mode == "ballot") != (data == "b32"):
        raise ins.unsupported(f"vote {mode} of type {data}")
    target, predicate, mask = ins.operands
    value = low.resize(low.read(predicate, 1), 1, 32)
    low.suspend(Yield.VOTE, (low.read(mask, 32), str(int(VoteMode[mode.upper()])), value))
    _write_answer(low, target, data)


@lowers("redux")
def redux(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    data = modifiers.type(("u32", "s32", "b32"))
    modifiers.choice(("sync",))
    operation = modifiers.choice(("add", "min", "max", "and", "or", "xor"))
    modifiers.finish()
    if (operation in ("and", "or", "xor")) != (data == "b32"):
        raise ins.unsupported(f"redux {operation} of type {data}")
    target, value, mask = ins.operands
    mode = int(ReduxMode[operation.upper()]) | (SIGNED_REDUX if data == "s32" else 0)
    low.suspend(Yield.REDUX, (low.read(mask, 32), str(mode), low.read(value, 32)))
    low.write(target, low.result(), 32)


@lowers("match")
def match(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    data = modifiers.type(("b32", "b64"))
    modifiers.choice(("sync",))
    mode = MatchMode[modifiers.choice(("any", "all")).upper()]
    modifiers.finish()
    target, value, mask = ins.operands
    first, second = low.pair(target)
    wide = low.read(value, 64 if data == "b64" else 32)
    wide = wide if data == "b64" else low.resize(wide, 32, 64)
    high = low.resize(low.value(f"lshr i64 {wide}, 32"), 64, 32)
    arguments = (low.read(mask, 32), str(int(mode)), low.resize(wide, 64, 32), high)
    low.suspend(Yield.MATCH, arguments)
    low.write(first, low.result(0), 32)
    low.write(second, low.value(f"icmp ne i32 {low.result(1)}, 0"), 1)


@lowers("activemask")
def activemask(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    modifiers.type(("b32",))
    modifiers.finish()
    low.suspend(Yield.ACTIVEMASK, ())
    low.write(ins.operands[0], low.result(), 32)


@lowers("elect")
def elect(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    modifiers.choice(("sync",))
    modifiers.finish()
    target, mask = ins.operands
    low.suspend(Yield.WARPSYNC, (low.read(mask, 32),))
    leader = low.call("i32", "llvm.cttz.i32", ("i32", low.read(mask, 32)), ("i1", "false"))
    first, second = low.pair(target)
    low.write(second, low.value(f"icmp eq i32 {leader}, {low.thread('lane')}"), 1)
    low.write(first, leader, 32)


@lowers("nanosleep")
def nanosleep(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    modifiers.type(("u32",))
    modifiers.finish()
    low.suspend(Yield.PAUSE, ())


@lowers("ret", "exit")
def leave(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    modifiers.flag("uni")
    modifiers.finish()
    low.leave(Yield.EXIT, ())


@lowers("trap", "brkpt")
def trap(low: Lowering, ins: Instruction) -> None:
    Modifiers(ins).finish()
    low.leave(Yield.TRAP, ())


@lowers("call")
def call(low: Lowering, ins: Instruction) -> None:
    """vprintf and __assertfail; every other call has been inlined."""
    modifiers = Modifiers(ins)
    modifiers.flag("uni")
    modifiers.finish()
    name, *operands = ins.operands
    assert isinstance(name, Name)
    if name.text == "__assertfail":
        low.leave(Yield.TRAP, ())
        return
    if operands and isinstance(operands[0], Symbol):
        pointer = low.value(f"inttoptr i64 {low.symbol(operands[0])} to ptr")
        low.store("i32", "0", pointer, 0, "memory")


@lowers("nop", "bra")
def nothing(low: Lowering, ins: Instruction) -> None:
    """An inlined call itself does nothing; branches are lowered with their block (lower.py)."""
