"""Loads of shared memory that nobody wrote, whose value the kernel then throws away.

Contract: compilers load before they know whether they need to: `i < n ? max(a, s[i]) : a` becomes
ld.shared, max, selp. A read of bytes that nobody wrote is an error only if its value is used.
`deferred` finds the loads whose value certainly meets a chance to be thrown away in their basic
block: each use, through arithmetic, ends in a gate (selp, or a predicate combined by and, or). All
other loads fault at once, and kernels that have no such load are lowered as if this file were not
there.

A deferred load notes its origin (site, offset, size as one i64; 0 is "fine") beside its registers.
Arithmetic hands an origin on; a gate hands on that of what it chose, or of an operand that decides.
Any other use (store, address, branch, shuffle, ...), a suspension and the end of the block fault if
the register is live and has an origin: the fault names the load. Bounds, alignment, pending copies
and races are still found at the load. A read of unwritten bytes leaves no trace in the reader
words: a later write to them is no race, as that read's value was thrown away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from emulator import flow
from emulator.layout import THREAD, Fault, offset
from emulator.operands import Reg
from emulator.program import Instruction

if TYPE_CHECKING:
    from emulator.lowering import Lowering

# Without effects but on their registers, for any bits of their operands.
PURE = frozenset(
    [
        *("mov", "cvt", "selp", "slct", "setp", "set", "min", "max", "abs", "neg", "copysign"),
        *("add", "sub", "addc", "subc", "mul", "mad", "madc", "fma", "mul24", "mad24", "sad"),
        *("and", "or", "xor", "not", "cnot", "lop3", "shl", "shr", "shf", "prmt", "testp"),
        *("bfe", "bfi", "bfind", "bmsk", "szext", "clz", "popc", "brev", "dp4a", "dp2a"),
    ]
)
_SITE_AT, _OFFSET_AT = 40, 8  # of an origin; its size is below


def deferred(analysed: flow.Flow, carry: int) -> tuple[set[int], dict[int, int]]:
    """(sites of the loads that may read what nobody wrote, live registers behind each site).

    The second has the instructions of the blocks that hold one of the first, as bitsets. carry: the
    register of the condition code.
    """
    sites: set[int] = set()
    live: dict[int, int] = {}
    for block in analysed.blocks:
        loads = [n for n, i in enumerate(block.instructions) if _is_plain_load(i)]
        if not loads or not any(_may_gate(i) for i in block.instructions[loads[0] :]):
            continue
        effects = [flow.effects(i, carry) for i in block.instructions]
        behind = _live_behind(block, effects, analysed.live_out[block.index])
        found = [n for n in loads if _is_thrown_away(block.instructions, effects, behind, n)]
        if found:
            sites |= {block.instructions[n].site for n in found}
            live |= {i.site: b for i, b in zip(block.instructions, behind, strict=True)}
    return sites, live


def _is_plain_load(ins: Instruction) -> bool:
    return (
        ins.root == "ld"
        and ins.predicate is None
        and not {"shared", "shared::cta"}.isdisjoint(ins.modifiers)
        and not flow.suspends(ins)
    )


def _may_gate(ins: Instruction) -> bool:
    if ins.root == "setp":
        return len(ins.operands) == 4 and isinstance(ins.operands[0], Reg)
    return ins.root == "selp" or (ins.root in ("and", "or") and ins.modifiers == ("pred",))


def _gates(ins: Instruction, tainted: int) -> bool:
    """Whether a gate may throw away the operands that lie in `tainted`."""
    if not _may_gate(ins):
        return False
    if ins.root == "setp":
        return not _bit(ins.operands[3]) & tainted
    first, second = (_bit(operand) & tainted for operand in ins.operands[1:3])
    choice = _bit(ins.operands[3]) & tainted if ins.root == "selp" else 0
    return not choice and not (first and second)


def _bit(operand: object) -> int:
    return 1 << operand.index if isinstance(operand, Reg) else 0


def _live_behind(block: flow.Block, effects: list[tuple[int, int]], live: int) -> list[int]:
    behind = []
    for instruction, (written, read) in zip(
        reversed(block.instructions), reversed(effects), strict=True
    ):
        behind.append(live)
        live = (live & ~written if instruction.predicate is None else live) | read
    return behind[::-1]


def _is_thrown_away(
    instructions: list[Instruction],
    effects: list[tuple[int, int]],
    behind: list[int],
    position: int,
) -> bool:
    """Every use of a load's value ends in a gate of its block, and there is one."""
    tainted, gated = effects[position][0] & behind[position], False
    for n in range(position + 1, len(instructions)):
        if not tainted:
            break
        ins, (written, read) = instructions[n], effects[n]
        hands_on = False
        if read & tainted:
            if ins.root not in PURE or ins.predicate is not None:
                return False
            gate = _gates(ins, tainted)
            gated, hands_on = gated or gate, not gate
        if hands_on:
            tainted |= written
        elif ins.predicate is None:
            tainted &= ~written
        if flow.suspends(ins) and tainted & behind[n]:
            return False
        tainted &= behind[n]
    return gated and not tainted


class Taints:
    """Origins of registers while a kernel is lowered; emits nothing where no load is deferred."""

    def __init__(self, low: Lowering) -> None:
        self.low = low
        self.sites: set[int] = set()
        self.live: dict[int, int] = {}
        if low.checks:
            self.sites, self.live = deferred(low.flow, low.program.carry)
        self.some = 0  # registers that may have an origin here

    def before(self, ins: Instruction) -> None:
        """Emit what an instruction does to origins, and the checks of its uses."""
        if not self.some and ins.site not in self.sites:
            return
        written, read = flow.effects(ins, self.low.program.carry)
        used = read & self.some
        if used and ins.root in PURE and ins.predicate is None:
            origin = self._result(ins, used)
            self._set(written, origin)
            self.some |= written
            return
        self._check(used)
        if ins.root in flow.ENDS or flow.suspends(ins):
            kept = self.live[ins.site]
            self._check(kept & ~written if ins.predicate is None else kept)
            self.some = 0
        elif ins.predicate is None:
            self.some &= ~written
        else:
            self._overwrite(ins.predicate, written & self.some)
        if ins.site in self.sites:
            self._set(written, "0")
            self.some |= written

    def at_end(self, block: flow.Block) -> None:
        """Emit the checks of a block's end."""
        if self.some:
            self._check(self.live[block.instructions[-1].site])
            self.some = 0

    def unwritten(self, failed: str, place: str, size: int, good: str) -> None:
        """Behind the check of a deferred load: unwritten memory is noted, the rest is a fault."""
        low, noted = self.low, self.low.fresh("unwritten")
        low.branch(failed, noted, good)
        low.label(noted)
        kind = low.load("i32", "%thread", offset(THREAD, "args"), "shadow")  # as `failed` left it
        moved = low.value(f"shl i64 {place}, {_OFFSET_AT}")
        origin = low.value(f"or i64 {moved}, {low.now.site << _SITE_AT | size}")
        self._set(flow.effects(low.now, low.program.carry)[0], origin)
        low.branch(low.value(f"icmp eq i32 {kind}, {int(Fault.UNINITIALISED)}"), good, "return")

    # -- origins ----------------------------------------------------------------------------------

    def _place(self, index: int) -> str:
        return self.low.at_entry(
            f"origin{index}", [f"%origin{index} = alloca i64", f"store i64 0, ptr %origin{index}"]
        )

    def _set(self, registers: int, origin: str) -> None:
        for index in _indices(registers):
            self.low.emit(f"store i64 {origin}, ptr {self._place(index)}")

    def _get(self, operand: object) -> str:
        if not _bit(operand) & self.some:
            return "0"
        assert isinstance(operand, Reg)
        return self.low.value(f"load i64, ptr {self._place(operand.index)}")

    def _merged(self, origins: Iterable[str]) -> str:
        """The first that is one, or 0."""
        total = "0"
        for origin in origins:
            if total == "0":
                total = origin
            elif origin != "0":
                some = self.low.value(f"icmp ne i64 {total}, 0")
                total = self.low.value(f"select i1 {some}, i64 {total}, i64 {origin}")
        return total

    def _overwrite(self, predicate: Reg, registers: int) -> None:
        if registers:
            run = self.low.read(predicate, 1)
            for index in _indices(registers):
                old = self._get(Reg(index))
                self._set(1 << index, self.low.value(f"select i1 {run}, i64 0, i64 {old}"))

    def _result(self, ins: Instruction, used: int) -> str:
        """The origin of what a pure instruction computes."""
        if not _may_gate(ins):
            return self._merged(self._get(Reg(index)) for index in _indices(used))
        if ins.root == "selp":
            first, second, choice = (self._get(operand) for operand in ins.operands[1:])
            taken = self.low.read(ins.operands[3], 1)
            value = self.low.value(f"select i1 {taken}, i64 {first}, i64 {second}")
            return self._merged((choice, value))
        if ins.root == "setp":
            compared = self._merged(self._get(operand) for operand in ins.operands[1:3])
            other = ins.operands[3]
            how = next((m for m in ins.modifiers if m in ("and", "or")), "xor")
            return self._merged((self._get(other), self._unless_decided(compared, other, how)))
        a, b = ins.operands[1:]
        pair = ((self._get(a), b), (self._get(b), a))
        return self._merged([self._unless_decided(x, other, ins.root) for x, other in pair])

    def _unless_decided(self, origin: str, other: object, how: str) -> str:
        """`origin`, or 0 if the other operand of a predicate's and, or decides alone."""
        if origin == "0" or how == "xor" or not isinstance(other, Reg):
            return origin
        value = self.low.read(other, 1)
        decides = value if how == "or" else self.low.value(f"xor i1 {value}, true")
        theirs = self._get(other)
        if theirs != "0":
            known = self.low.value(f"icmp eq i64 {theirs}, 0")
            decides = self.low.value(f"and i1 {decides}, {known}")
        return self.low.value(f"select i1 {decides}, i64 0, i64 {origin}")

    def _check(self, registers: int) -> None:
        """Fault if one of these registers has an origin."""
        registers &= self.some
        if not registers:
            return
        low = self.low
        origin = self._merged(self._get(Reg(index)) for index in _indices(registers))
        used, fine = low.fresh("used"), low.fresh("fine")
        low.branch(low.value(f"icmp eq i64 {origin}, 0"), fine, used)
        low.label(used)
        site = low.resize(low.value(f"lshr i64 {origin}, {_SITE_AT}"), 64, 32)
        place = low.value(f"lshr i64 {origin}, {_OFFSET_AT}")
        place = low.value(f"and i64 {place}, {(1 << (_SITE_AT - _OFFSET_AT)) - 1}")
        host = low.value(f"add i64 {low.entry_load('shared', 'i64')}, {place}")
        size = low.resize(low.value(f"and i64 {origin}, {(1 << _OFFSET_AT) - 1}"), 64, 32)
        low.helper(
            "void", "fault", ("ptr", "%thread"), ("i32", site),
            ("i32", str(int(Fault.UNINITIALISED))), ("i64", host), ("i32", size), ("i32", "0"),
        )  # fmt: skip
        low.jump("return")
        low.label(fine)
        self.some &= ~registers


def _indices(registers: int) -> Iterator[int]:
    while registers:
        low = registers & -registers
        yield low.bit_length() - 1
        registers ^= low
