"""Registers of compiled PTX that are read and that nothing writes.

Contract: `unwritten(ptx)` gives, per kernel, the registers that some instruction reads and none
writes, each with the first such instruction. A compiler leaves them where a source reads what was
never set (past the end of an array in registers, a value without initialiser); whatever is in them
then is no error that a run would show. It does not look at the order of instructions.
"""

from __future__ import annotations

import re

_ENTRY = re.compile(r"^(?:\.visible\s+)?\.entry\s+([\w$]+)", re.M)
_REGISTER = re.compile(r"%(?:r|rd|f|fd|rs|p|rc|h|hh|b)\d+\b")
_INSTRUCTION = re.compile(r"(?:@!?(%\w+)\s+)?([a-z][\w.:]*)\s*(.*);$")
_FIRST = re.compile(r"\{[^}]*\}|[^,]+")
_NO_RESULT = (
    "st.", "red.", "bra", "bar.", "barrier", "membar", "fence", "ret", "exit", "cp.", "prefetch",
    "trap", "call", "griddepcontrol", "mbarrier", "nanosleep",
)  # fmt: skip


def unwritten(ptx: str) -> dict[str, dict[str, str]]:
    """Kernel -> register -> the first instruction that reads it; only kernels that have such."""
    parts = _ENTRY.split(ptx)
    found = {name: _unwritten(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}
    return {name: registers for name, registers in found.items() if registers}


def _unwritten(text: str) -> dict[str, str]:
    written: set[str] = set()
    read: dict[str, str] = {}
    for line in text.splitlines():
        plain = line.partition("//")[0].strip()
        instruction = _INSTRUCTION.match(plain)
        if instruction is None:
            continue
        guard, opcode, operands = instruction.groups()
        results = None if opcode.startswith(_NO_RESULT) else _FIRST.match(operands)
        if results:
            written.update(_REGISTER.findall(results[0]))
            operands = operands[results.end() :]
        for register in _REGISTER.findall(f"{guard or ''} {operands}"):
            read.setdefault(register, plain)
    return {name: where for name, where in read.items() if name not in written}
