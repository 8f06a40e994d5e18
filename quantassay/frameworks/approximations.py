"""Approximate instructions of compiled PTX: which may run, and what is said of them.

Contract: `approximations(ptx)` gives the opcodes that the emulator may be told to allow, for
kernels that are not ours, and notes each in words (quantassay/notes.py): the emulator rounds their
exact result, and a GPU may give another one. Bounds are the PTX ISA's ("Floating Point
Instructions").
"""

from __future__ import annotations

import re
from typing import Any

from quantassay.notes import collected, note

_OPCODE = re.compile(
    r"\b(?:div\.full|(?:div|rcp|sqrt|rsqrt|ex2|lg2|sin|cos)\.approx)(?:\.ftz)?\.f32\b"
)
_WORDS = {
    "div.full": "IEEE division; a GPU may be up to 2 ulp off",
    "div.approx": "IEEE division; a GPU may be up to 2 ulp off, and more for divisors near the "
    "ends of float32's range",
    "rcp.approx": "the rounded reciprocal; a GPU may be 1 ulp off",
}
SHOWN = 3  # lines of fusable sums
_OTHERS = "the rounded exact result; a GPU's last bits may differ"


def approximations(ptx: str) -> frozenset[str]:
    """The opcodes in this PTX to pass as `emulator.compile(ptx, approximate=...)`, each noted."""
    found = frozenset(_OPCODE.findall(ptx))
    for opcode in sorted(found):
        root = ".".join(opcode.split(".")[:2])
        note(f"{opcode} runs as {_WORDS.get(root, _OTHERS)}")
    return found


def left_open(ptx: str, module: Any, name: str, cure: str) -> tuple[str, ...]:
    """The notes on one compiled kernel: its approximate instructions, and the products and sums
    that ptxas may fuse. `module`: the emulator's; `cure`: what rules the fusion out, in words, ""
    where it is ruled out.
    """
    from quantassay.foreign.ptx_file import fusable

    with collected() as texts:
        approximations(ptx)
        lines = fusable(module.parsed, name) if cure else []
        if lines:
            shown = ", ".join(lines[:SHOWN]) + (", ..." if len(lines) > SHOWN else "")
            note(
                f"ptxas may fuse a product and a sum that the PTX has apart ({shown}); {cure} "
                "rules that out"
            )
    return tuple(texts)
