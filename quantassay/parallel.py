"""The same checks on all cores: compiling hundreds of kernels is what takes the time.

Contract: `run_parallel` gives the results of `engine.run_checks`, in the same order, for any number
of workers. A task is one wing in one dialect, so that a worker meets again what it has compiled.
Workers are fresh processes that load the wings and the user's file themselves. On a GPU, or where
there is one task, everything runs in this process.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quantassay import devices, workers
from quantassay.cases import planned
from quantassay.engine import Progress, run_checks, select
from quantassay.results import CheckResult
from reference.op import Kernel, get_op


def run_parallel(
    ops: Sequence[str] | None = None,
    wings: Sequence[str] | None = None,
    dialects: Sequence[str] | None = None,
    *,
    device: str = "auto",
    examples: int = 100,
    seed: int = 0,
    sweep: bool = False,
    kernels: Sequence[Kernel] | None = None,
    file: Path | None = None,
    count: int = 0,
    on_progress: Progress | None = None,
) -> list[CheckResult]:
    """As `run_checks`. file: the user's, for workers to load; count: processes, 0 = a core each.

    Raises UsageError as `run_checks` does.
    """
    pairs = select(ops, wings, dialects, kernels)
    # By dialect: two workers then hold different wings, and do not compile the same at once.
    tasks = sorted({(k.wing, d) for k, d in pairs}, key=lambda task: (task[1], task[0]))
    count = min(count or workers.cores(), len(tasks))
    options: dict[str, Any] = {"examples": examples, "seed": seed, "sweep": sweep}
    if count < 2 or devices.choose(device) == "gpu":
        return run_checks(
            ops, wings, dialects, device=device, kernels=kernels, on_progress=on_progress, **options
        )
    names = sorted({kernel.op for kernel, _ in pairs})
    total = sum(planned(get_op(kernel.op), examples, sweep) for kernel, _ in pairs)
    done = 0

    def hear(label: str, steps: int) -> None:
        nonlocal done
        done = min(done + steps, total)
        if on_progress is not None:
            on_progress(label, done, total)

    calls = [(_run, (names, wing, dialect, options)) for wing, dialect in tasks]
    results = [one for found in workers.spread(calls, count, file, hear) for one in found]
    order = {(k.op, k.wing, k.variant, d): place for place, (k, d) in enumerate(pairs)}
    kept = [one for one in results if _key(one) in order]
    return sorted(kept, key=lambda one: order[_key(one)])


def _key(one: CheckResult) -> tuple[str, str, str, str]:
    return one.op, one.wing, one.variant, one.dialect


def _run(ops: Sequence[str], wing: str, dialect: str, options: dict[str, Any]) -> list[CheckResult]:
    last = 0

    def tell(label: str, done: int, total: int) -> None:
        nonlocal last
        workers.tell(label, done - last)
        last = done

    here = [op for op in ops if any(k.op == op for k, _ in select(None, [wing], [dialect]))]
    return run_checks(here, [wing], [dialect], device="emulator", on_progress=tell, **options)
