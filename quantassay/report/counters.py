"""What the emulator counts while a kernel runs on a real layer: instructions, traffic, conflicts.

Contract: every kernel runs once more, on the first of the given layers that feeds its op, with the
access log on, in one dialect (one whose tensors are fp16 throughout, if it speaks it). One row per
kernel: which, where, and bench.counters.Figures. Off the emulator there is nothing to count: the
list is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from bench.counters import figures
from bench.workloads import Layer
from emulator.recording import recording
from quantassay import devices
from quantassay.calling import Calling
from quantassay.report.checks import options_for
from quantassay.report.inputs import EXHIBITED, Case, cases
from quantassay.running import call, send
from reference.op import Kernel
from reference.op import kernels as registered

Step = Callable[[str, int, int], None]
TOKENS = 64  # the access log costs time and shows the same at any size


def counters(
    layers: Sequence[Layer], wings: Sequence[str] | None, device: str, on_progress: Step
) -> list[dict[str, Any]]:
    """Rows for every kernel that gives the right answer's shape; one that raises is left out, since
    the checks already tell of it."""
    if devices.choose(device) != "emulator":
        return []
    few = [layer.first(TOKENS) for layer in layers]
    pool = [k for k in registered() if wings is None or k.wing in wings]
    made: list[dict[str, Any]] = []
    by_dialect: dict[str, dict[str, Case]] = {}
    for number, kernel in enumerate(pool, 1):
        dialect = next((d for d in EXHIBITED if d in kernel.dialects), kernel.dialects[0])
        if dialect not in by_dialect:
            ops = {one.op for one in pool}
            found = {case.op.name: case for case in reversed(list(cases(few, dialect, ops)))}
            by_dialect[dialect] = found
        if kernel.op in by_dialect[dialect]:
            row = _count(kernel, dialect, by_dialect[dialect][kernel.op])
            made += [] if row is None else [row]
        on_progress(f"{kernel.op} {kernel.label}", number, len(pool))
    return made


def _count(kernel: Kernel, dialect: str, case: Case) -> dict[str, Any] | None:
    calling = Calling(kernel, case.op, dialect)
    with recording(trace=True) as session:
        try:
            call(calling, send(calling, case.inputs, "emulator"), options_for(calling, case))
        except Exception:  # the checks report what a kernel raises; nothing to count then
            return None
    if not session.launches:
        return None  # a kernel in plain Python launches nothing
    arrays = [array for array in case.inputs.values() if isinstance(array, np.ndarray)]
    moved = sum(array.nbytes for array in (*arrays, *case.expected))
    counted = figures(session.launches, case.elements, moved)
    return {
        "op": kernel.op,
        "wing": kernel.wing,
        "variant": kernel.variant,
        "dialect": dialect,
        "layer": case.layer,
        "dtype": case.dtype,
        "instructions_per_element": counted.instructions_per_element,
        **asdict(counted),
    }
