"""Timing on a GPU: CUDA events around the replay of a captured graph, cold and warm.

Contract: a measurement is the time of one call inside a graph of many, in microseconds, from CUDA
events; the host's launch cost is not in it. *Cold* calls rotate over so many copies of the inputs
that at least `COLD_BYTES` pass between two uses of one (several times the L2 cache); *warm* calls
use one copy. Outputs are poisoned before the timed replays and compared after them, on the very
buffers that were timed. Needs CuPy and a GPU; nothing here runs without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from reference.arguments import check_int, check_list

COLD_BYTES = 300_000_000
POISON = 0xA5


@dataclass(frozen=True)
class Timing:
    """Microseconds per call: median, 10th and 90th percentile and minimum over the replays."""

    median_us: float
    p10_us: float
    p90_us: float
    min_us: float
    calls: int  # per replay
    replays: int
    clock: str = "cuda events around graph replay"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def copies_for(nbytes: int, cold: bool, most: int = 64) -> int:
    """How many copies of inputs of `nbytes` a rotation needs."""
    check_int("nbytes", nbytes, 1)
    check_int("most", most, 1)
    return min(most, max(2, -(-COLD_BYTES // nbytes))) if cold else 1


def replayed(
    call: Callable[[int], Any], *, copies: int, calls: int = 20, replays: int = 15
) -> tuple[Timing, list[Any]]:
    """Times `call(i)`, i rotating over the copies, and returns the outputs of the last replay.

    `call` launches on the current stream and returns its output arrays (one or a tuple). The
    outputs were poisoned before the first timed replay.
    """
    import cupy

    count = max(calls, copies)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        for i in range(copies):  # modules loaded, memory in the pool
            call(i)
        stream.synchronize()
        stream.begin_capture()
        outputs = [call(i % copies) for i in range(count)]
        graph = stream.end_capture()
        graph.launch(stream)
        stream.synchronize()
        for output in outputs:
            for array in output if isinstance(output, tuple) else (output,):
                array.view(cupy.uint8).fill(POISON)
        times = []
        for _ in range(replays):
            start, stop = cupy.cuda.Event(), cupy.cuda.Event()
            start.record(stream)
            graph.launch(stream)
            stop.record(stream)
            stop.synchronize()
            times.append(cupy.cuda.get_elapsed_time(start, stop) * 1e3 / count)
    return summary(times, count), outputs


def summary(times: Sequence[float], calls: int) -> Timing:
    """The statistics of per-call times in microseconds."""
    check_list("times", times, (int, float), "a number")
    check_int("calls", calls, 1)
    values = np.asarray(times, dtype=np.float64)
    if values.size == 0:
        raise ValueError("times: got none; allowed: at least one")
    p10, median, p90 = np.quantile(values, (0.1, 0.5, 0.9))
    return Timing(
        median_us=float(median),
        p10_us=float(p10),
        p90_us=float(p90),
        min_us=float(values.min()),
        calls=calls,
        replays=int(values.size),
    )
