"""The launch layer: NumPy arrays run in the emulator, CUDA arrays on the GPU.

Contract: `run` compiles (or recalls) a kernel for its constants and argument types and launches it.
- NumPy: the kernel's PTX runs in the emulator. Numba's kernels take an array as the members of a
  struct: meminfo, parent, nitems, itemsize, data, the shape, the strides in bytes.
- CUDA arrays (anything with `__cuda_array_interface__`, such as CuPy's): Numba's dispatcher
  launches the same function on the arrays' own stream, after the PTX for that GPU has passed the
  contraction check. No copy is made and nothing waits.
`entry` wraps a public function: it refuses arrays that cannot be used here, by name and before any
other check, and opens the NVTX range. `recording` (emulator/recording.py) collects the launches.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from numba import cuda, from_dtype, types

import emulator
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
from kernels_numba import compile as compiler
from reference.numerics import DTYPES
from reference.op import get_op

__all__ = ["Recording", "aligned", "bits", "empty", "entry", "recording", "run", "zeros"]

WING = "numba"
F = TypeVar("F", bound=Callable[..., Any])


def entry(op: str, variant: str = "") -> Callable[[F], F]:
    """Wraps the public function of one kernel: placement of its arrays, NVTX range."""
    label = f"{WING}/{variant}" if variant else WING
    names = tuple(arg.name for arg in get_op(op).arrays())

    def wrap(function: F) -> F:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            given = signature.bind(*args, **options).arguments
            on_gpu({name: given.get(name) for name in names}, gpu_problem)
            with nvtx_range(op, label, given):
                return function(*args, **options)

        return call  # type: ignore[return-value]

    return wrap


def run(
    factory: compiler.Factory,
    constants: tuple[Any, ...],
    grid: tuple[int, ...],
    block: tuple[int, ...],
    *args: Any,
) -> None:
    """Launches the kernel `factory(*constants)`. `args`: arrays, NumPy scalars and tuples of them.

    Raises ContractionError (a ValueError) for a kernel whose float results are not fixed,
    emulator.EmulatorError for what the emulator finds.
    """
    signature = tuple(_type(arg) for arg in args)
    dims = _three(grid), _three(block)
    if any(is_cuda_array(one) for one in _members(args)):
        name, stats = _run_gpu(factory, constants, signature, *dims, args), None
    else:
        kernel = _emulated(factory, constants, signature)
        flat = [member for arg in args for member in flatten(arg)]
        name, stats = kernel.name, kernel.launch(*dims, flat, **emulator_options())
    record(Launch(name, WING, *dims, stats, constants))


def flatten(arg: Any) -> tuple[Any, ...]:
    """A kernel argument as Numba's calling convention passes it: the array struct's members, and
    a tuple's one after another.
    """
    if isinstance(arg, tuple):
        return tuple(member for one in arg for member in flatten(one))
    if not isinstance(arg, np.ndarray):
        return (arg,)
    meminfo = parent = np.int64(0)
    numbers = map(np.int64, (*arg.shape, *arg.strides))
    return (meminfo, parent, np.int64(arg.size), np.int64(arg.itemsize), arg, *numbers)


def module_label(kernel: str, constants: tuple[Any, ...]) -> str:
    """How emulator.coverage() names a kernel's modules: this and a hash of the PTX."""
    words = ", ".join(str(getattr(value, "name", value)) for value in constants)
    return f"{WING} {kernel}({words})"


def gpu_problem() -> str:
    """Why Numba can't use a GPU here, in words; "" if it can."""
    if cuda.is_available():
        return ""
    error = cuda.cuda_error()
    return " ".join(str(error).split()) if error else "no CUDA device was found"


def empty(like: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """An unwritten array where `like` lives. `dtype`: "fp32", "s8", ..."""
    if is_cuda_array(like):
        import cupy

        return cupy.empty(shape, DTYPES[dtype])
    return emulator.empty(shape, DTYPES[dtype])


def zeros(like: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """As `empty`, but filled with zeros."""
    if is_cuda_array(like):
        import cupy

        return cupy.zeros(shape, DTYPES[dtype])
    return np.zeros(shape, DTYPES[dtype])


def bits(array: Any) -> Any:
    """A float array as the kernels take it: its bits, as uint32 or uint16."""
    return array.view(np.dtype(f"u{array.dtype.itemsize}"))


def aligned(array: Any, row_bytes: int, width: int) -> bool:
    """Whether every row of `array` (rows of `row_bytes`) starts at a multiple of `width`."""
    if isinstance(array, np.ndarray):
        address = array.ctypes.data
    else:
        address = array.__cuda_array_interface__["data"][0]
    return address % width == 0 and row_bytes % width == 0


def _three(dims: tuple[int, ...]) -> Dims:
    x, y, z = (*dims, 1, 1)[:3]
    return int(x), int(y), int(z)


def _members(args: tuple[Any, ...]) -> Iterator[Any]:
    for arg in args:
        if isinstance(arg, tuple):
            yield from _members(arg)
        else:
            yield arg


def _type(arg: Any) -> types.Type:
    if isinstance(arg, tuple):
        return types.BaseTuple.from_types(tuple(map(_type, arg)))
    if hasattr(arg, "shape") and arg.shape:
        return types.Array(from_dtype(np.dtype(arg.dtype)), len(arg.shape), "C")
    return from_dtype(np.dtype(type(arg)))


@functools.cache
def _emulated(
    factory: compiler.Factory, constants: tuple[Any, ...], signature: compiler.Signature
) -> Any:
    found = compiler.program(factory, constants, signature)
    digest = hashlib.sha256(found.ptx.encode()).hexdigest()[:8]
    module = emulator.compile(found.ptx, name=f"{module_label(found.name, constants)} {digest}")
    return module.kernel(found.name)


def _run_gpu(
    factory: compiler.Factory,
    constants: tuple[Any, ...],
    signature: compiler.Signature,
    grid: Dims,
    block: Dims,
    args: tuple[Any, ...],
) -> str:
    found = compiler.program(
        factory, constants, signature, cuda.get_current_device().compute_capability
    )
    first = next(one for one in _members(args) if is_cuda_array(one))
    interface = first.__cuda_array_interface__
    stream = cuda.external_stream(interface["stream"]) if interface.get("stream") else 0
    views = _views(args)
    with warnings.catch_warnings():
        # A grid of few blocks is what a small input needs, not a fault of the kernel.
        warnings.simplefilter("ignore", _performance_warning())
        _dispatcher(factory, constants)[grid, block, stream](*views)
    return found.name


def _views(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments with Numba's views in place of CUDA arrays."""
    return tuple(
        _views(arg)
        if isinstance(arg, tuple)
        else cuda.as_cuda_array(arg, sync=False)
        if is_cuda_array(arg)
        else arg
        for arg in args
    )


@functools.cache
def _dispatcher(factory: compiler.Factory, constants: tuple[Any, ...]) -> Any:
    # Without lto the dispatcher compiles as compile_ptx does: to the PTX that was checked.
    jit: Any = cuda.jit
    kernel = factory(*constants)
    bounds = compiler.launch_bounds(kernel)
    return jit(kernel, opt=True, fastmath=False, lineinfo=True, lto=False, launch_bounds=bounds)


def _performance_warning() -> type[Warning]:
    from numba.cuda.core.errors import NumbaPerformanceWarning

    return NumbaPerformanceWarning
