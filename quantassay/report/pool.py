"""The report's kernel checks on all cores: compiling hundreds of kernels is what takes the time.

Contract: `check_everything` gives the same checks in the same order for any number of workers. One
task is one wing in one dialect, so that a worker meets again what it has compiled. Workers are
fresh processes that load the wings (and the user's file) themselves; with one worker, or on a GPU,
everything runs in this process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.workloads import Layer
from quantassay import devices, workers
from quantassay.engine import select
from quantassay.report import checks as check_kinds
from quantassay.report.checks import Check, check_hostile, check_layers, layer_runs
from reference.op import get_op

LAYERS, HOSTILE = "layers", "hostile"  # the two stages that are told of
Tell = Callable[[str, str], None]  # (stage, what has run)
Progress = Callable[[str, str, int, int], None]  # (stage, what has run, done, in all)


@dataclass(frozen=True)
class Job:
    """What to check. `kernels` is the user's file, for workers to load."""

    layers: tuple[Layer, ...]
    dialects: tuple[str, ...]
    wings: tuple[str, ...] | None
    device: str
    examples: int
    seed: int
    kernels: Path | None = None


def check_everything(job: Job, count: int, on_progress: Progress) -> list[Check]:
    """Every kernel on every layer and on hostile inputs. Raises UsageError for unknown names."""
    pairs = select(None, job.wings, job.dialects)
    tasks = sorted({(kernel.wing, dialect) for kernel, dialect in pairs}, reverse=True)
    totals = {
        LAYERS: layer_runs(pairs, job.layers),
        HOSTILE: sum(len(get_op(kernel.op).hostile) + job.examples for kernel, _ in pairs),
    }
    done = dict.fromkeys(totals, 0)

    def tell(stage: str, what: str) -> None:
        done[stage] = min(done[stage] + 1, totals[stage])
        on_progress(stage, what, done[stage], totals[stage])

    if count > 1 and len(tasks) > 1 and devices.choose(job.device) == "emulator":
        calls = [(_in_worker, (job, *task)) for task in tasks]
        found = workers.spread(calls, min(count, len(tasks)), job.kernels, tell)
    else:
        found = [_task(job, *task, tell) for task in tasks]
    for stage, total in totals.items():  # an early end after a failure leaves some undone
        on_progress(stage, "", total, total)
    order = {(k.op, k.wing, k.variant, d): number for number, (k, d) in enumerate(pairs)}
    checks = [check for one in found for check in one]
    return sorted(
        checks,
        key=lambda c: (
            c.inputs == check_kinds.HOSTILE,
            order[c.op, c.wing, c.variant, c.dialect],
        ),
    )


def _task(job: Job, wing: str, dialect: str, tell: Tell) -> list[Check]:
    one = replace(job, wings=(wing,), dialects=(dialect,))
    on_layers = check_layers(
        one.layers, one.dialects, one.wings, device=one.device,
        on_progress=lambda what, done, total: tell(LAYERS, what),
    )  # fmt: skip
    hostile = check_hostile(
        one.dialects, one.wings, device=one.device, examples=one.examples, seed=one.seed,
        on_progress=lambda what, done, total: tell(HOSTILE, what),
    )  # fmt: skip
    return on_layers + hostile


def _in_worker(job: Job, wing: str, dialect: str) -> list[Check]:
    return _task(job, wing, dialect, workers.tell)
