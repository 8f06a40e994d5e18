"""The report's kernel checks on all cores: compiling hundreds of kernels is what takes the time.

Contract: `check_everything` gives the same checks in the same order for any number of workers. One
task is one wing in one dialect, so that a worker meets again what it has compiled. Workers are
fresh processes that load the wings (and the user's file) themselves; with one worker, or on a GPU,
everything runs in this process.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.workloads import Layer
from quantassay import devices, loading
from quantassay.engine import select
from quantassay.report import checks as check_kinds
from quantassay.report.checks import Check, check_hostile, check_layers, layer_runs
from reference.op import get_op

LAYERS, HOSTILE = "layers", "hostile"  # the two stages that are told of
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
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


def check_everything(job: Job, workers: int, on_progress: Progress) -> list[Check]:
    """Every kernel on every layer and on hostile inputs. Raises UsageError for unknown names."""
    pairs = select(None, job.wings, job.dialects)
    tasks = sorted({(kernel.wing, dialect) for kernel, dialect in pairs}, reverse=True)
    totals = {
        LAYERS: layer_runs(pairs) * len(job.layers),
        HOSTILE: sum(len(get_op(kernel.op).hostile) + job.examples for kernel, _ in pairs),
    }
    done = dict.fromkeys(totals, 0)

    def tell(stage: str, what: str) -> None:
        done[stage] = min(done[stage] + 1, totals[stage])
        on_progress(stage, what, done[stage], totals[stage])

    if workers > 1 and len(tasks) > 1 and devices.choose(job.device) == "emulator":
        found = _in_processes(job, tasks, min(workers, len(tasks)), tell)
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


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def _in_processes(
    job: Job, tasks: Sequence[tuple[str, str]], workers: int, tell: Tell
) -> list[list[Check]]:
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    with _one_blas_thread(), ProcessPoolExecutor(workers, context, _start, (job, told)) as pool:
        futures = [pool.submit(_run, *task) for task in tasks]
        try:
            for stage, what in _until_done(futures, told):
                tell(stage, what)
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Workers started inside use one thread each for BLAS: together they have every core already,
    and threads that wait for each other by spinning cost more than they give."""
    with ExitStack() as restore:
        for name in BLAS_THREADS:
            if name not in os.environ:
                os.environ[name] = "1"
                restore.callback(os.environ.pop, name)
        yield


def _until_done(futures: Sequence[Future[Any]], told: Any) -> Iterator[tuple[str, str]]:
    """What the workers tell, until all are done or one has failed."""
    waiting = set(futures)
    while waiting:
        finished, waiting = wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED)
        while True:
            try:
                yield told.get_nowait()
            except queue.Empty:
                break
        if any(future.exception() is not None for future in finished):
            return


_STATE: dict[str, Any] = {}  # of a worker: its job and its queue


def _start(job: Job, told: Any) -> None:
    loading.load_wings()
    if job.kernels is not None:
        loading.load_file(job.kernels)
    _STATE.update(job=job, told=told)


def _run(wing: str, dialect: str) -> list[Check]:
    return _task(_STATE["job"], wing, dialect, lambda *news: _STATE["told"].put(news))
