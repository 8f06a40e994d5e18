"""Every opcode case: tiny kernels, inputs and models, for the emulator now and for a GPU later."""

from __future__ import annotations

from tests.emulator import (
    opcode_convert,
    opcode_float,
    opcode_foreign,
    opcode_integer,
    opcode_mma,
    opcode_mma_float,
    opcode_round,
)
from tests.emulator.opcode_case import THREADS, Case

CASES: list[Case] = [
    *opcode_integer.CASES, *opcode_float.CASES, *opcode_convert.CASES, *opcode_round.CASES,
    *opcode_foreign.CASES, *opcode_mma_float.CASES, *opcode_mma.CASES,
]  # fmt: skip
assert len({case.name for case in CASES}) == len(CASES)

__all__ = ["CASES", "THREADS", "Case"]
