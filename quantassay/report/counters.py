"""What the emulator counts while a kernel runs on a real layer: instructions, traffic, conflicts.

Contract: every kernel runs once more on the first of the given layers with the access log on, in
one dialect (one of the two whose tensors are fp16 throughout, if it speaks them). One row per
kernel, summed over its launches. Off the emulator there is nothing to count: the list is empty.
`ideal_bytes` are those of the op's declaration: every input read once, every output written once.
Sectors are 32 bytes; one that two requests touch counts twice: the emulator has no cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.workloads import Layer
from emulator.recording import Launch, recording
from quantassay import devices
from quantassay.calling import Calling
from quantassay.report.checks import EXHIBITED, SOURCES, Case, cases, options_for
from quantassay.running import call, send
from reference.op import Kernel
from reference.op import kernels as registered

Step = Callable[[str, int, int], None]
TOKENS = 64  # the access log costs time and shows the same at any size


@dataclass(frozen=True)
class Counters:
    """One kernel on one layer. Bytes are those that its instructions asked for; `wavefronts` over
    `ideal_wavefronts` are shared-memory bank conflicts."""

    op: str
    wing: str
    variant: str
    dialect: str
    layer: str
    dtype: str
    elements: int
    launches: int
    threads: int
    instructions: int
    instructions_per_element: float
    tensor_instructions: int
    load_bytes: int
    store_bytes: int
    ideal_bytes: int
    sectors: int
    ideal_sectors: int
    wavefronts: int
    ideal_wavefronts: int


def counters(
    layers: Sequence[Layer], wings: Sequence[str] | None, device: str, on_progress: Step
) -> list[dict[str, Any]]:
    """Rows for every kernel that gives the right answer's shape; one that raises is left out, since
    the checks already tell of it."""
    if devices.choose(device) != "emulator":
        return []
    layer = layers[0]
    few = Layer(
        layer.name,
        layer.kind,
        layer.weight,
        layer.bias,
        layer.activations[:TOKENS].copy(),
        layer.origin,
    )
    pool = [k for k in registered() if k.op in SOURCES and (wings is None or k.wing in wings)]
    made: list[dict[str, Any]] = []
    by_dialect: dict[str, dict[str, Case]] = {}
    for number, kernel in enumerate(pool, 1):
        dialect = next((d for d in EXHIBITED if d in kernel.dialects), kernel.dialects[0])
        if dialect not in by_dialect:
            by_dialect[dialect] = {case.op.name: case for case in cases([few], dialect)}
        row = _count(kernel, dialect, by_dialect[dialect][kernel.op])
        if row is not None:
            made.append(asdict(row))
        on_progress(f"{kernel.op} {kernel.label}", number, len(pool))
    return made


def _count(kernel: Kernel, dialect: str, case: Case) -> Counters | None:
    calling = Calling(kernel, case.op, dialect)
    with recording(trace=True) as session:
        try:
            call(calling, send(calling, case.inputs, "emulator"), options_for(calling, case))
        except Exception:  # the checks report what a kernel raises; nothing to count then
            return None
    if not session.launches:
        return None  # a kernel in plain Python launches nothing
    return _summed(kernel, dialect, case, session.launches)


def _summed(kernel: Kernel, dialect: str, case: Case, launches: Sequence[Launch]) -> Counters:
    stats = [launch.stats for launch in launches]
    instructions = sum(one.instructions for one in stats)
    moved = [array for array in case.inputs.values() if array is not None]
    return Counters(
        op=kernel.op,
        wing=kernel.wing,
        variant=kernel.variant,
        dialect=dialect,
        layer=case.layer,
        dtype=case.dtype,
        elements=case.elements,
        launches=len(launches),
        threads=sum(int(np.prod(one.grid) * np.prod(one.block)) for one in launches),
        instructions=instructions,
        instructions_per_element=instructions / case.elements,
        tensor_instructions=sum(_tensor(one.opcodes) for one in stats),
        load_bytes=sum(one.global_load_bytes for one in stats),
        store_bytes=sum(one.global_store_bytes for one in stats),
        ideal_bytes=sum(array.nbytes for array in (*moved, *case.expected)),
        sectors=sum(one.global_sectors for one in stats),
        ideal_sectors=sum(one.ideal_sectors for one in stats),
        wavefronts=sum(one.shared_wavefronts for one in stats),
        ideal_wavefronts=sum(one.shared_ideal_wavefronts for one in stats),
    )


def _tensor(opcodes: Mapping[str, int]) -> int:
    """Tensor-core instructions of warps: every one of the 32 lanes is counted as executing one."""
    return sum(n for name, n in opcodes.items() if name.startswith(("mma", "wgmma"))) // 32
