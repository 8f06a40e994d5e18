"""Operands of flattened instructions: what is left of a name once it is resolved.

Contract: frozen records without behaviour, but for a literal, which knows its bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from emulator.ptx import float_bits, number


@dataclass(frozen=True, slots=True)
class Reg:
    index: int
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Imm:
    text: str

    def bits(self, width: int) -> int | None:
        """The literal in a register of `width` bits; None if it cannot be one."""
        value = number(self.text)
        return (value if value is not None else float_bits(self.text, width) or 0) & (
            (1 << width) - 1
        )


@dataclass(frozen=True, slots=True)
class Special:
    name: str


@dataclass(frozen=True, slots=True)
class Symbol:
    """A variable: kind "global", "shared", "slot" (local memory, call parameters) or "param"."""

    kind: str
    name: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Vector:
    items: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """`d|p`."""

    items: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Address:
    base: Operand
    offset: int


@dataclass(frozen=True, slots=True)
class Sink:
    """`_`."""


@dataclass(frozen=True, slots=True)
class Name:
    """A label or a function."""

    text: str


Operand = Reg | Imm | Special | Symbol | Vector | Pair | Address | Sink | Name
