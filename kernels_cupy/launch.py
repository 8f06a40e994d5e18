"""The launch layer: NumPy arrays to the emulator, CuPy arrays to the GPU, NVTX around both.

Contract: `run` launches one kernel of one of our sources on the arrays given. NumPy arrays: its
sm_80 PTX in the emulator, as the current `recording` (emulator/recording.py) asks. CuPy arrays:
its cached CUBIN for the device at hand, on CuPy's current stream. All arrays of a call are of one
kind; a CUDA array where no GPU is usable is a RuntimeError that names the argument
(emulator/placement.py). CuPy is imported only once a CUDA array is seen.

A cooperative launch runs all blocks of its grid at once; a grid too large for that is a ValueError
that names `grid`. (CuPy itself would shrink it with a warning: cupy/cuda/function.pyx, _launch.)

Every public function is a `kernel`: registered, and inside an NVTX range (emulator/recording.py).

bf16 arrays have dtype ml_dtypes.bfloat16 in NumPy and in CuPy (14.0 and later).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from typing import Any, TypeVar

import numpy as np

from emulator.placement import is_cuda_array, on_gpu
from emulator.recording import (
    Dims,
    Launch,
    Recording,
    emulator_options,
    nvtx_range,
    record,
    recording,
)
from kernels_cupy import compile as compiler
from reference.numerics import DTYPES
from reference.op import get_op, implements

__all__ = [
    "Dim", "Recording", "address", "empty", "kernel", "multiprocessors", "recording", "run",
    "zeros",
]  # fmt: skip

WING = "cupy"
EMULATED_ARCH = "sm_80"
EMULATED_MULTIPROCESSORS = 4  # few, so that grids that keep within them are quickly too small
STATIC_SHARED = 48 * 1024  # beyond it a kernel must be told its dynamic maximum
Dim = tuple[int, ...]
F = TypeVar("F", bound=Callable[..., Any])


def kernel(op: str, variant: str = "", dialects: Sequence[str] | None = None) -> Callable[[F], F]:
    """Makes a function one of this wing's kernels: registered, its arrays known to be all NumPy's
    or all CuPy's, inside its NVTX range.
    """
    label = f"{WING}/{variant}" if variant else WING
    names = tuple(arg.name for arg in get_op(op).arrays())

    def join(function: F) -> F:
        signature = inspect.signature(function)

        @wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            given = signature.bind(*args, **options).arguments
            _check_place({name: given.get(name) for name in names})
            with nvtx_range(op, label, given):
                return function(*args, **options)

        register = implements(op, wing=WING, variant=variant, dialects=dialects)
        return register(call)  # type: ignore[return-value]

    return join


def _check_place(arrays: Mapping[str, Any]) -> None:
    if not on_gpu(arrays, gpu_problem):
        return
    import cupy

    for name, array in arrays.items():
        if array is not None and not isinstance(array, cupy.ndarray):
            raise TypeError(
                f"{name}: got {type(array).__name__}; allowed: NumPy or CuPy arrays "
                "(cupy.asarray shares a CUDA array's memory)"
            )


@cache
def gpu_problem() -> str:
    """Why CuPy can use no GPU here, in words; "" if it can."""
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
    if is_cuda_array(like):
        import cupy

        with like.device:
            return cupy.empty(shape, DTYPES[dtype])
    import emulator

    return emulator.empty(shape, DTYPES[dtype])


def zeros(like: Any, shape: Dim, dtype: str) -> Any:
    """An array of zeros where `like` lives."""
    if is_cuda_array(like):
        import cupy

        with like.device:
            return cupy.zeros(shape, DTYPES[dtype])
    return np.zeros(shape, DTYPES[dtype])


def address(array: Any) -> int:
    """Address of the first element, on whichever device."""
    return int(array.data.ptr if is_cuda_array(array) else array.__array_interface__["data"][0])


def run(
    source: str,
    name: str,
    defines: Mapping[str, int],
    grid: Dim,
    block: Dim,
    args: Sequence[Any],
    shared_bytes: int = 0,
    cooperative: bool = False,
) -> None:
    """Launches kernel `name` of `source` compiled with `defines`.

    args: one per kernel parameter: an array (its pointer), None (a null pointer) or a NumPy scalar
    of the parameter's size. cooperative: all blocks run at once and may wait for each other.
    """
    key = tuple(sorted(defines.items()))
    gpu = next((arg for arg in args if is_cuda_array(arg)), None)
    stats = None
    if gpu is None:
        emulated = _emulated(source, name, key)
        options = {**emulator_options(), "cooperative": cooperative}
        stats = emulated.launch(grid, block, list(args), shared_bytes=shared_bytes, **options)
    else:
        with gpu.device:
            loaded = _loaded(source, name, key, gpu.device.id, cooperative)
            if shared_bytes > STATIC_SHARED:
                loaded.max_dynamic_shared_size_bytes = shared_bytes
            if cooperative:
                _check_together(loaded, gpu, _three(grid), math.prod(block), shared_bytes)
            pointers = tuple(np.uint64(0) if arg is None else arg for arg in args)
            loaded(grid, block, pointers, shared_mem=shared_bytes)
    record(Launch(name, WING, _three(grid), _three(block), stats, (source, *key)))


def multiprocessors(like: Any) -> int:
    """Of the GPU on which `like` lives, or what the emulator stands for."""
    if is_cuda_array(like):
        return int(like.device.attributes["MultiProcessorCount"])
    return EMULATED_MULTIPROCESSORS


def _check_together(loaded: Any, gpu: Any, grid: Dims, threads: int, shared_bytes: int) -> None:
    import cupy

    blocks, function = math.prod(grid), loaded.kernel.ptr
    occupancy = cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor
    each = occupancy(function, threads, shared_bytes)
    most = each * multiprocessors(gpu)
    if blocks > most:
        raise ValueError(
            f"grid: got {grid}, {blocks} blocks of {threads} threads; allowed in a cooperative "
            f"launch on this GPU, whose blocks all run at once: up to {most}"
        )


def _three(dims: Dim) -> Dims:
    x, y, z = (*dims, 1, 1)[:3]
    return x, y, z


@cache
def _emulated(source: str, name: str, defines: tuple[tuple[str, int], ...]) -> Any:
    import emulator

    text = compiler.ptx(source, dict(defines), EMULATED_ARCH)
    return emulator.compile(text, name=module_label(source, defines)).kernel(name)


def module_label(source: str, defines: Sequence[tuple[str, int]]) -> str:
    """What emulator.coverage() calls this compilation: "int8_gemm.cu COPY=16 OUTPUT=3"."""
    return " ".join([source, *(f"{name}={value}" for name, value in sorted(defines))])


@cache
def _loaded(
    source: str,
    name: str,
    defines: tuple[tuple[str, int], ...],
    device: int,
    cooperative: bool,
) -> Any:
    import cupy

    arch = device_arch(cupy.cuda.Device(device).compute_capability)
    path = compiler.cubin_path(source, dict(defines), arch)
    module = cupy.RawModule(path=str(path), enable_cooperative_groups=cooperative)
    return module.get_function(name)


def device_arch(capability: str) -> str:
    """The CUBIN for a compute capability such as "86": of the audited ones the newest that runs
    there (same major, minor not above), else the device's own.
    """
    major, minor = int(capability[:-1]), int(capability[-1])
    own = {"sm_80": (8, 0), "sm_89": (8, 9), "sm_90a": (9, 0)}
    fitting = [arch for arch, (a, b) in own.items() if a == major and b <= minor]
    return fitting[-1] if fitting else f"sm_{capability}"
