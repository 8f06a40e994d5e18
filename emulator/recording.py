"""What both wings leave behind at a launch: an NVTX range, and statistics for whoever records.

Contract: `nvtx_range` opens a range in the domain "quantassay". Its message is the op and the
kernel's label ("int8.gemm numba/tiled"); its payload holds the op's sizes (M, N, K, ...) and the
bytes that an ideal kernel moves, all from the op's declaration. Inside `recording()` every launch
appends a `Launch`; without it launches record nothing. Recordings are per thread and per context;
an inner one hides the outer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import nvtx

from reference.numerics import dtype_name
from reference.op import get_op

DOMAIN = "quantassay"
Dims = tuple[int, int, int]


@dataclass(frozen=True)
class Launch:
    """One kernel launch: where it ran, how, and what the emulator counted (None on a GPU)."""

    kernel: str
    wing: str
    grid: Dims
    block: Dims
    stats: Any


@dataclass
class Recording:
    """How the emulator shall run the launches inside it, and what they left."""

    seed: int = 0
    trace: bool = False
    launches: list[Launch] = field(default_factory=list)

    @property
    def instructions(self) -> int:
        """PTX instructions that the emulator executed, over all launches."""
        return sum(launch.stats.instructions for launch in self.launches if launch.stats)


_CURRENT: ContextVar[Recording | None] = ContextVar("recording", default=None)


@contextmanager
def recording(*, seed: int = 0, trace: bool = False) -> Iterator[Recording]:
    """Records every launch of both wings. `seed` orders the threads, `trace` logs accesses."""
    session = Recording(seed, trace)
    token = _CURRENT.set(session)
    try:
        yield session
    finally:
        _CURRENT.reset(token)


def emulator_options() -> dict[str, Any]:
    """Keywords for the emulator's `launch`: seed and trace of the current recording."""
    session = _CURRENT.get()
    return {"seed": session.seed, "trace": session.trace} if session else {}


def record(kernel: str, wing: str, grid: Dims, block: Dims, stats: Any) -> None:
    """Appends a launch to the current recording, if there is one."""
    session = _CURRENT.get()
    if session is not None:
        session.launches.append(Launch(kernel, wing, grid, block, stats))


@contextmanager
def nvtx_range(op: str, label: str, arrays: Mapping[str, Any]) -> Iterator[None]:
    """A range around one public function. `arrays`: the op's inputs by name, unchecked so far.

    Inputs that don't fit the declaration give a range without payload: refusing them, in words,
    is the validation's task.
    """
    with nvtx.annotate(f"{op} {label}", domain=DOMAIN, payload=_payload(op, arrays)):
        yield


def _payload(op: str, arrays: Mapping[str, Any]) -> np.ndarray | None:
    declared = get_op(op)
    dims: dict[str, int] = {}
    dtypes: dict[str, str] = {}
    for arg in declared.inputs:
        array = arrays.get(arg.name)
        if array is None and arg.optional:
            continue
        shape = getattr(array, "shape", ())
        name = _dtype_name(getattr(array, "dtype", None))
        if len(shape) != len(arg.shape) or name not in arg.dtypes:
            return None
        dtypes[arg.name] = name
        dims.update({s: n for s, n in zip(arg.shape, shape, strict=True) if isinstance(s, str)})
    if not set(declared.dims) <= set(dims):
        return None
    total = declared.traffic(dims, dtypes).total
    return np.array((*dims.values(), total), _payload_dtype((*dims, "bytes")))


def _dtype_name(dtype: Any) -> str | None:
    try:
        return None if dtype is None else dtype_name(dtype)
    except TypeError:  # a foreign framework's dtype
        return None


@lru_cache(maxsize=None)
def _payload_dtype(names: tuple[str, ...]) -> np.dtype[Any]:
    return np.dtype([(name, np.int64) for name in names])
