"""Where a thread keeps the accumulators of wgmma while the tensor core has them.

Contract: `slots(program)` gives, for each distinct list of accumulator registers, the offset of its
slot from Lowering.accumulators_at; `size(program)` is the room for all. The room starts with how
many groups the thread has committed; a slot holds whether it is in flight, its latest group, and
the values, four bytes each.
"""

from __future__ import annotations

from emulator.operands import Operand, Reg, Vector
from emulator.program import Program

COMMITTED, FIRST_SLOT = 0, 16
IN_FLIGHT, GROUP, VALUES = 0, 4, 8  # of a slot

Registers = tuple[int, ...]


def registers(operand: Operand) -> Registers:
    """The registers of an accumulator list; () if it is none."""
    items = operand.items if isinstance(operand, Vector) else (operand,)
    found = tuple(item.index for item in items if isinstance(item, Reg))
    return found if len(found) == len(items) else ()


def slots(program: Program) -> dict[Registers, int]:
    found: dict[Registers, int] = {}
    at = FIRST_SLOT
    for instruction in program.instructions:
        if instruction.root == "wgmma" and instruction.modifiers[0] == "mma_async":
            names = registers(instruction.operands[0])
            if names and names not in found:
                found[names] = at
                at += -(-(VALUES + 4 * len(names)) // 16) * 16
    return found


def size(program: Program) -> int:
    found = slots(program)
    if not found:
        return 0
    names, at = max(found.items(), key=lambda item: item[1])
    return at + VALUES + 4 * len(names)
