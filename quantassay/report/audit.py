"""The report's share of the static audit: what ptxas made of the CUDA C++ kernels, per arch.

Contract: one row per kernel of the CuPy wing, in its widest fp16 (or only) path and the first
dialect, for every arch of the audit. Where no disassembler is installed there are no rows and the
reason in words. roofline/audit.py says what is looked at and what counts as a problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernels_cupy.configuration import Configuration
    from roofline.audit import AuditRow

WING = "cupy"


@dataclass(frozen=True)
class AuditedKernel:
    """One kernel on one arch. `slots`: issue slots in one pass of its hot loop; `slow_calls`: calls
    of out-of-line code (division's slow path)."""

    op: str
    variant: str
    kernel: str
    path: str
    arch: str
    registers: int
    shared_bytes: int
    spills: int
    widest: str
    tensor: int
    slots: int | None
    slow_calls: int
    problems: tuple[str, ...]
    cubin_sha256: str


def audited(wings: Sequence[str] | None) -> tuple[list[AuditedKernel], str]:
    """The rows, and why there are none (empty if there are). Only the CuPy wing has CUBINs."""
    if wings is not None and WING not in wings:
        return [], ""
    from kernels_cupy.catalogue import catalogue
    from roofline.audit import audit

    try:
        rows = audit(configurations=representative(catalogue()))
    except FileNotFoundError as error:
        return [], f"no static audit: {error}"
    return [_row(row) for row in rows], ""


def representative(configurations: Sequence[Configuration]) -> list[Configuration]:
    """One per op and kernel: fp16 before other dtypes, the widest access path first."""
    chosen: dict[tuple[str, str], Configuration] = {}
    for one in configurations:
        key = (one.op, one.kernel)
        old = chosen.get(key)
        if old is None or ("fp16" in one.path and "fp16" not in old.path):
            chosen[key] = one
    return list(chosen.values())


def _row(row: AuditRow) -> AuditedKernel:
    from roofline.audit import problems

    hot = row.hot_loop
    return AuditedKernel(
        op=row.op,
        variant=row.variant,
        kernel=row.kernel,
        path=row.path,
        arch=row.arch,
        registers=row.registers,
        shared_bytes=row.shared_bytes,
        spills=row.local_loads + row.local_stores,
        widest=max((*row.loads, *row.stores), key=lambda name: int(name.split(".")[1])),
        tensor=sum(row.tensor.values()),
        slots=hot.issue_slots if hot else None,
        slow_calls=row.slow_calls,
        problems=tuple(problems(row)),
        cubin_sha256=row.cubin_sha256,
    )
