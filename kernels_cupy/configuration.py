"""One way in which a kernel is compiled, as the audit and the carried CUBINs list them.

Contract: every launcher module has `configurations(full)`, which yields all compilations that it
can ask for (of dialects beyond CORE the widest and the scalar access alone: what lies between
differs in the width only), or with `full` False a representative choice: every kernel, access width
and dtype once, in the dialects that differ most. catalogue.py collects them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reference.dialects import CORE, DIALECTS, Dialect
from reference.numerics import DTYPES

COPIES = (16, 4, 1)  # bytes per load of a code matrix


@dataclass(frozen=True)
class Configuration:
    """One kernel of one compilation. `path` says in words which access width and formats."""

    op: str
    variant: str
    source: str
    kernel: str
    defines: Mapping[str, int]
    dialect: str
    path: str


def speaking(full: bool, *names: str) -> list[Dialect]:
    """All dialects, or those named."""
    return [spoken for name, spoken in DIALECTS.items() if full or name in names]


def widths(dtype: str, dialect: str = "ieee") -> list[int]:
    """Elements per access from 16 bytes down to one element; in dialects beyond CORE those two."""
    found = [16 // DTYPES[dtype].itemsize]
    while found[-1] > 1:
        found.append(found[-1] // 2)
    return found if dialect in CORE else [found[0], 1]
