"""Basic blocks and the liveness of registers.

Contract: `analyse(program)` gives the blocks in program order and `resident`, the set (a Python int
used as bitset, bit = register index) of registers whose value must outlive some return of `step`:
those live in the thread's frame, all others become SSA values. `zeroed` are the resident registers
that some path reads before it writes them.

A block ends after a branch, a predicated or plain exit, and before a label. An instruction that
suspends does not end a block: it is counted once, when the block is entered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from emulator.operands import Address, Name, Operand, Pair, Reg, Vector
from emulator.program import Instruction, Program

NO_DESTINATION = frozenset(
    [
        *("st", "stmatrix", "red", "cp", "membar", "fence", "prefetch", "prefetchu", "call", "nop"),
        *("bra", "brx", "exit", "ret", "trap", "brkpt", "bar", "barrier", "nanosleep"),
    ]
)
# Instructions whose operands are read again after the thread resumes.
REREAD = frozenset(["ld", "atom", "elect"])
STRONG = frozenset(["volatile", "relaxed", "acquire"])
_ALWAYS_SUSPEND = frozenset(
    [
        *("bar", "barrier", "shfl", "vote", "redux", "match", "activemask", "elect"),
        *("mma", "ldmatrix", "stmatrix", "nanosleep"),
    ]
)
ENDS = frozenset(["bra", "brx", "exit", "ret", "trap"])


def suspends(instruction: Instruction) -> bool:
    """Whether `step` may return in this instruction and go on behind it."""
    root, modifiers = instruction.root, instruction.modifiers
    if root in _ALWAYS_SUSPEND:
        return True
    if root == "cp":
        return modifiers[:1] == ("async",)
    if root == "wgmma":
        return modifiers[0] == "mma_async"
    if root == "ld":
        return not STRONG.isdisjoint(modifiers)
    return root == "atom"


@dataclass(slots=True)
class Block:
    index: int
    labels: list[str] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    successors: list[int] = field(default_factory=list)
    is_loop_head: bool = False  # the target of a backward branch

    @property
    def ptx_line(self) -> int:
        return self.instructions[0].line if self.instructions else 0

    def histogram(self) -> dict[str, int]:
        return dict(Counter(i.opcode for i in self.instructions))


@dataclass(slots=True)
class Flow:
    blocks: list[Block]
    at_label: dict[str, int]
    resident: int
    zeroed: int
    live_out: list[int]  # registers that are read behind each block, as bitsets


def _registers(operand: Operand) -> Iterator[int]:
    if isinstance(operand, Reg):
        yield operand.index
    elif isinstance(operand, Vector | Pair):
        for item in operand.items:
            yield from _registers(item)
    elif isinstance(operand, Address):
        yield from _registers(operand.base)


def _mask(operands: tuple[Operand, ...]) -> int:
    mask = 0
    for operand in operands:
        if isinstance(operand, Reg):
            mask |= 1 << operand.index
            continue
        for index in _registers(operand):
            mask |= 1 << index
    return mask


def effects(instruction: Instruction, carry: int) -> tuple[int, int]:
    """(written, read) registers as bitsets."""
    root, modifiers, operands = instruction.root, instruction.modifiers, instruction.operands
    has_destination = root not in NO_DESTINATION or (
        root in ("bar", "barrier") and "red" in modifiers
    )
    written, read = 0, 0
    if has_destination and operands:
        written, read = _mask(operands[:1]), _mask(operands[1:])
    else:
        read = _mask(operands)
    if root == "wgmma":
        read |= written  # accumulators; a wait may leave them as they are
    if instruction.predicate:
        read |= 1 << instruction.predicate.index
    if "cc" in modifiers:
        written |= 1 << carry
    if root in ("addc", "subc", "madc"):
        read |= 1 << carry
    return written, read


def _blocks(program: Program) -> tuple[list[Block], dict[str, int]]:
    blocks, at_label = [Block(0)], {}
    for item in program.items:
        if isinstance(item, str):
            if blocks[-1].instructions:
                blocks.append(Block(len(blocks)))
            blocks[-1].labels.append(item)
            at_label[item] = blocks[-1].index
            continue
        block = blocks[-1]
        if block.instructions and block.instructions[-1].root in ENDS:
            block = Block(len(blocks))
            blocks.append(block)
        block.instructions.append(item)
    for block in blocks:
        last = block.instructions[-1] if block.instructions else None
        if last and last.root in ("bra", "brx"):
            names = [name for name in last.operands if isinstance(name, Name)]
            block.successors = [at_label[name.text] for name in names]
        ends = last is not None and last.root in ENDS and last.predicate is None
        if not ends and block.index + 1 < len(blocks):
            block.successors.append(block.index + 1)
    for block in blocks:
        for successor in block.successors:
            if successor <= block.index:
                blocks[successor].is_loop_head = True
    return blocks, at_label


def analyse(program: Program) -> Flow:
    """Blocks and liveness of a flattened kernel."""
    blocks, at_label = _blocks(program)
    table = [[effects(i, program.carry) for i in block.instructions] for block in blocks]
    live_in = [0] * len(blocks)

    def summary(block: Block) -> tuple[int, int]:
        """(registers that it surely writes, registers that it reads before)."""
        killed, needed = 0, 0
        pairs = zip(reversed(block.instructions), reversed(table[block.index]), strict=True)
        for instruction, (written, read) in pairs:
            if instruction.predicate is None:
                killed |= written
                needed &= ~written
            needed |= read
        return killed, needed

    def across_suspensions(block: Block, live: int) -> Iterator[int]:
        """What is live where `step` may return, given what is live at the block's end."""
        pairs = zip(reversed(block.instructions), reversed(table[block.index]), strict=True)
        for instruction, (written, read) in pairs:
            across = live & ~written if instruction.predicate is None else live
            live = across | read
            if suspends(instruction):
                yield across | (read if instruction.root in REREAD else 0)

    def live_out(block: Block) -> int:
        live = 0
        for successor in block.successors:
            live |= live_in[successor]
        return live

    summaries = [summary(block) for block in blocks]
    changed = True
    while changed:
        changed = False
        for block in reversed(blocks):
            killed, needed = summaries[block.index]
            live = (live_out(block) & ~killed) | needed
            if live != live_in[block.index]:
                live_in[block.index] = live
                changed = True
    resident = 0
    for block in blocks:
        for live in across_suspensions(block, live_out(block)):
            resident |= live
    live_outs = [live_out(block) for block in blocks]
    return Flow(blocks, at_label, resident, resident & live_in[0], live_outs)
