"""The launch layer: NumPy arrays to the emulator, CuPy arrays to the GPU, NVTX around both.

Contract: `run` launches one kernel of one of our sources on the arrays given. NumPy arrays: its
sm_80 PTX in the emulator. CuPy arrays: its cached CUBIN for the device at hand, on CuPy's current
stream. All arrays of a call are of one kind; a CUDA array where no GPU is usable is a RuntimeError
that names the argument. CuPy is imported only once a CUDA array is seen.

Every public function is a `kernel`: it runs inside an NVTX range of the domain "quantassay" with
message "<op>/<variant>", category the sizes and the input's dtype, payload the bytes that an ideal
kernel moves. With no tool attached a range costs one look-up.

bf16 arrays have dtype ml_dtypes.bfloat16 in NumPy and in CuPy (14.0 and later).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, wraps
from typing import Any, TypeVar

import numpy as np
import nvtx

from kernels_cupy import compile as compiler
from reference.numerics import DTYPES, dtype_name
from reference.op import get_op, implements

WING = "cupy"
EMULATED_ARCH = "sm_80"
STATIC_SHARED = 48 * 1024  # beyond it a kernel must be told its dynamic maximum
Dim = tuple[int, ...]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Launch:
    """One launch, as `recording` saw it. `stats`: the emulator's counters; None on a GPU."""

    source: str
    kernel: str
    defines: Mapping[str, int]
    grid: Dim
    block: Dim
    stats: Any


@dataclass
class Recording:
    """Launches in order, and how the emulator is to run them."""

    options: Mapping[str, Any]
    launches: list[Launch] = field(default_factory=list)


_recording: ContextVar[Recording | None] = ContextVar("recording", default=None)


@contextmanager
def recording(**options: Any) -> Iterator[list[Launch]]:
    """Collects the launches made inside the block, in this thread or task.

    options go to the emulator's `launch`: seed=7 permutes thread order, trace=True counts sectors
    and bank conflicts, checks=False is faster. A GPU ignores them.
    """
    inner = Recording(options)
    token = _recording.set(inner)
    try:
        yield inner.launches
    finally:
        _recording.reset(token)


def kernel(op: str, variant: str = "", dialects: Sequence[str] | None = None) -> Callable[[F], F]:
    """Makes a function one of this wing's kernels: registered, inside its NVTX range, and sure
    that its arrays are all NumPy's or all CuPy's.
    """

    def join(function: F) -> F:
        return implements(op, wing=WING, variant=variant, dialects=dialects)(
            _ranged(op, variant, function)
        )

    return join


def _ranged(op: str, variant: str, function: F) -> F:
    names = tuple(inspect.signature(function).parameters)
    message = f"{op}/{variant}" if variant else op

    @wraps(function)
    def ranged(*args: Any, **options: Any) -> Any:
        arrays = dict(zip(names, args, strict=False))
        arrays.update((name, options[name]) for name in options if name in names)
        _check_place(arrays)
        domain = _nvtx_domain()
        if domain is None:
            return function(*args, **options)
        sizes, nbytes = describe(op, arrays, options)
        domain.push_range(message=message, category=sizes, payload=nbytes)
        try:
            return function(*args, **options)
        finally:
            domain.pop_range()

    return ranged  # type: ignore[return-value]


@cache
def _nvtx_domain() -> Any:
    """The domain, or None where no tool listens. A tool attaches before the first range."""
    domain = nvtx.get_domain("quantassay")
    return None if domain.get_event_attributes(message="quantassay") is None else domain


def describe(op: str, arrays: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[str, int]:
    """("M=4 K=64 fp16", bytes read and written) of a call; ("", 0) if its arrays do not fit."""
    declared = get_op(op)
    dims: dict[str, int] = {}
    dtypes: dict[str, str] = {}
    for arg in declared.inputs:
        array = arrays.get(arg.name)
        if array is None and arg.optional:
            continue
        shape, dtype = getattr(array, "shape", ()), getattr(array, "dtype", np.dtype("O"))
        name = dtype_name(dtype)
        if name not in arg.dtypes or len(shape) != len(arg.shape):
            return "", 0
        dtypes[arg.name] = str(name)
        dims.update((str(s), n) for s, n in zip(arg.shape, shape, strict=True))
    for arg in declared.outputs:
        if options.get("out_dtype") in arg.dtypes:
            dtypes[arg.name] = options["out_dtype"]
    sizes = " ".join(f"{symbol}={size}" for symbol, size in dims.items())
    first = dtypes[declared.inputs[0].name]
    return f"{sizes} {first}", declared.traffic(dims, dtypes).total


def on_gpu(array: Any) -> bool:
    """Whether this is a CUDA array, of CuPy or of anyone else."""
    return not isinstance(array, np.ndarray) and hasattr(array, "__cuda_array_interface__")


def _check_place(arrays: Mapping[str, Any]) -> None:
    cuda = [name for name, array in arrays.items() if on_gpu(array)]
    if not cuda:
        return
    for name in cuda:
        reason = gpu_problem()
        if reason:
            raise RuntimeError(
                f"{name}: got a CUDA array, but no GPU is usable here ({reason}); "
                "NumPy arrays run in the emulator"
            )
        import cupy

        if not isinstance(arrays[name], cupy.ndarray):
            raise TypeError(
                f"{name}: got {type(arrays[name]).__name__}; allowed: NumPy or CuPy arrays "
                f"(cupy.asarray shares a CUDA array's memory)"
            )
    host = [name for name, array in arrays.items() if isinstance(array, np.ndarray)]
    if host:
        raise TypeError(
            f"{host[0]}: got a NumPy array, while {cuda[0]} is a CuPy array; "
            "allowed: all on the GPU or none"
        )


@cache
def gpu_problem() -> str:
    """Why no GPU can be used, in words; "" if one can."""
    try:
        import cupy
    except ImportError as error:
        return f"CuPy cannot be imported: {error}"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return str(error)
    return "" if count else "CUDA sees no device"


def empty(like: Any, shape: Dim, dtype: str) -> Any:
    """An uninitialised array ("fp32", "s8", ...) where `like` lives; in the emulator, reading it
    before a kernel wrote it is an error.
    """
    if on_gpu(like):
        import cupy

        with like.device:
            return cupy.empty(shape, DTYPES[dtype])
    import emulator

    return emulator.empty(shape, DTYPES[dtype])


def zeros(like: Any, shape: Dim, dtype: str) -> Any:
    """An array of zeros where `like` lives."""
    if on_gpu(like):
        import cupy

        with like.device:
            return cupy.zeros(shape, DTYPES[dtype])
    return np.zeros(shape, DTYPES[dtype])


def address(array: Any) -> int:
    """Address of the first element, on whichever device."""
    return int(array.data.ptr if on_gpu(array) else array.__array_interface__["data"][0])


def run(
    source: str,
    name: str,
    defines: Mapping[str, int],
    grid: Dim,
    block: Dim,
    args: Sequence[Any],
    shared_bytes: int = 0,
) -> None:
    """Launches kernel `name` of `source` compiled with `defines`.

    args: one per kernel parameter: an array (its pointer), None (a null pointer) or a NumPy scalar
    of the parameter's size.
    """
    key = tuple(sorted(defines.items()))
    gpu = next((arg for arg in args if on_gpu(arg)), None)
    active = _recording.get()
    stats = None
    if gpu is None:
        options = active.options if active else {}
        emulated = _emulated(source, name, key)
        stats = emulated.launch(grid, block, list(args), shared_bytes=shared_bytes, **options)
    else:
        with gpu.device:
            loaded = _loaded(source, name, key, gpu.device.id)
            if shared_bytes > STATIC_SHARED:
                loaded.max_dynamic_shared_size_bytes = shared_bytes
            pointers = tuple(np.uint64(0) if arg is None else arg for arg in args)
            loaded(grid, block, pointers, shared_mem=shared_bytes)
    if active:
        active.launches.append(Launch(source, name, dict(key), grid, block, stats))


@cache
def _emulated(source: str, name: str, defines: tuple[tuple[str, int], ...]) -> Any:
    import emulator

    return emulator.compile(compiler.ptx(source, dict(defines), EMULATED_ARCH)).kernel(name)


@cache
def _loaded(source: str, name: str, defines: tuple[tuple[str, int], ...], device: int) -> Any:
    import cupy

    arch = device_arch(cupy.cuda.Device(device).compute_capability)
    path = compiler.cubin_path(source, dict(defines), arch)
    return cupy.RawModule(path=str(path)).get_function(name)


def device_arch(capability: str) -> str:
    """The CUBIN for a compute capability such as "86": of the audited ones the newest that runs
    there (same major, minor not above), else the device's own.
    """
    major, minor = int(capability[:-1]), int(capability[-1])
    own = {"sm_80": (8, 0), "sm_89": (8, 9), "sm_90a": (9, 0)}
    fitting = [arch for arch, (a, b) in own.items() if a == major and b <= minor]
    return fitting[-1] if fitting else f"sm_{capability}"
