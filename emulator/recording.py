"""What both wings leave behind at a launch: an NVTX range, and statistics for whoever records.

Contract: `nvtx_range` opens a range in the domain "quantassay": its message is the op and the
kernel's label ("int8.gemm numba/tiled"), its category the sizes and the first input's dtype
("M=64 K=384 fp16"), its payload the bytes that an ideal kernel moves. Sizes and bytes come from
the op's declaration. With no tool attached a range costs one look-up.

Inside `recording()` every launch appends a `Launch`; without it launches record nothing.
Recordings belong to a thread or task. They nest: an inner one takes the options that it is not
given from the outer, and its launches are the outer's too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import nvtx

from reference.numerics import dtype_name
from reference.op import get_op, solve

DOMAIN = "quantassay"
Dims = tuple[int, int, int]


@dataclass(frozen=True)
class Launch:
    """One kernel launch. `stats`: what the emulator counted; None on a GPU. `constants`: what the
    kernel was compiled for, as its wing names it.
    """

    kernel: str
    wing: str
    grid: Dims
    block: Dims
    stats: Any
    constants: tuple[Any, ...] = ()


@dataclass
class Recording:
    """The launches in order, and how the emulator shall run them (a GPU ignores it)."""

    seed: int = 0
    trace: bool = False
    checks: bool = True
    launches: list[Launch] = field(default_factory=list)
    outer: Recording | None = None

    @property
    def instructions(self) -> int:
        """PTX instructions that the emulator executed, over all launches."""
        return sum(launch.stats.instructions for launch in self.launches if launch.stats)


_CURRENT: ContextVar[Recording | None] = ContextVar("recording", default=None)


@contextmanager
def recording(
    *, seed: int | None = None, trace: bool | None = None, checks: bool | None = None
) -> Iterator[Recording]:
    """Records the launches inside, of both wings.

    seed permutes the order of threads (0: natural), trace logs memory accesses for sectors and
    bank conflicts, checks=False is faster. None: as the enclosing recording has it, or else
    0, False, True.
    """
    outer = _CURRENT.get()
    base = outer or Recording()
    session = Recording(
        seed=base.seed if seed is None else seed,
        trace=base.trace if trace is None else trace,
        checks=base.checks if checks is None else checks,
        outer=outer,
    )
    token = _CURRENT.set(session)
    try:
        yield session
    finally:
        _CURRENT.reset(token)


def emulator_options() -> dict[str, Any]:
    """Keywords for the emulator's `launch`, from the current recording."""
    now = _CURRENT.get()
    return {"seed": now.seed, "trace": now.trace, "checks": now.checks} if now else {}


def record(launch: Launch) -> None:
    """Appends a launch to the current recordings, if there are any."""
    session = _CURRENT.get()
    while session is not None:
        session.launches.append(launch)
        session = session.outer


@contextmanager
def nvtx_range(op: str, label: str, arguments: Mapping[str, Any]) -> Iterator[None]:
    """A range around one public function.

    arguments: its inputs and options by name, unchecked so far. Inputs that don't fit the
    declaration give a range without sizes: refusing them, in words, is the validation's task.
    """
    domain = _domain()
    if domain is None:
        yield
        return
    sizes, nbytes = describe(op, arguments)
    domain.push_range(message=f"{op} {label}", category=sizes, payload=nbytes)
    try:
        yield
    finally:
        domain.pop_range()


@cache
def _domain() -> Any:
    """The NVTX domain, or None where no tool listens; a tool attaches before the first range."""
    domain = nvtx.get_domain(DOMAIN)
    return None if domain.get_event_attributes(message=DOMAIN) is None else domain


def describe(op: str, arguments: Mapping[str, Any]) -> tuple[str, int]:
    """("M=64 K=384 fp16", bytes that an ideal kernel moves) of a call; ("", 0) if it is no fit."""
    declared = get_op(op)
    dims: dict[str, int] = {}
    dtypes: dict[str, str] = {}
    formulas: list[tuple[str, int]] = []
    for arg in declared.inputs:
        array = arguments.get(arg.name)
        if arg.scalar:
            if arg.symbol and isinstance(array, int) and array > 0:
                dims[arg.symbol] = array
            continue
        if array is None and arg.optional:
            continue
        shape, name = getattr(array, "shape", ()), _dtype_name(getattr(array, "dtype", None))
        if len(shape) != len(arg.shape) or name not in arg.dtypes:
            return "", 0
        dtypes[arg.name] = str(name)
        formulas += [(s, n) for s, n in zip(arg.shape, shape, strict=True) if isinstance(s, str)]
    for arg in declared.outputs:
        if arguments.get("out_dtype") in arg.dtypes:
            dtypes[arg.name] = arguments["out_dtype"]
    solve(formulas, dims)
    sizes = " ".join(f"{symbol}={size}" for symbol, size in dims.items())
    try:
        nbytes = declared.traffic(dims, dtypes).total
    except ValueError:  # a size that the shapes given do not tell
        return "", 0
    return f"{sizes} {dtypes[declared.inputs[0].name]}", nbytes


def _dtype_name(dtype: Any) -> str | None:
    try:
        return None if dtype is None else dtype_name(dtype)
    except TypeError:  # a foreign framework's dtype
        return None
