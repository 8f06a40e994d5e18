"""Work spread over processes: compiling hundreds of kernels is what takes the time.

Contract: `spread` runs calls of module-level functions in fresh processes that have loaded the
wings and the user's file themselves, and returns their results in order. A call reports news with
`tell`, which the calling process hands on as it comes. A worker that dies is a UsageError that says
what to do; any other exception of a call is raised here, and what has not begun is not run.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from quantassay import loading
from quantassay.errors import UsageError

BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
Call = tuple[Callable[..., Any], tuple[Any, ...]]
News = Callable[..., None]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(calls: Sequence[Call], count: int, file: Path | None, on_news: News) -> list[Any]:
    """Runs (function, arguments) pairs in `count` processes; `on_news(*news)` for each `tell`."""
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    with _one_blas_thread(), ProcessPoolExecutor(count, context, _start, (file, told)) as pool:
        futures = [pool.submit(function, *arguments) for function, arguments in calls]
        try:
            for news in _until_done(futures, told):
                on_news(*news)
            return [future.result() for future in futures]
        except BrokenProcessPool:
            raise UsageError(
                "a worker process died, from a crash or for want of memory; --workers 1 runs all "
                "in one process and shows where"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def tell(*news: Any) -> None:
    """In a worker: hands `news` to the caller of `spread`."""
    _TOLD[0].put(news)


_TOLD: list[Any] = []  # of a worker: the queue that it tells


def _start(file: Path | None, told: Any) -> None:
    loading.load_wings()
    if file is not None:
        loading.load_file(file)
    _TOLD.append(told)


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


def _until_done(futures: Sequence[Future[Any]], told: Any) -> Iterator[tuple[Any, ...]]:
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
