"""Numba CUDA kernels with no GPU: `kernel[grid, block](...)` runs the compiled PTX in the emulator.

Contract: inside `emulated()` a launch of a `@cuda.jit` function compiles it for the types of its
arguments (or for the signature in the decorator) as Numba would for sm_80, and runs the PTX. Host
code may use `cuda.to_device`, `device_array`, `device_array_like`, `copy_to_host`, `synchronize`
and `forall`, and ask for the device; device arrays know what was written to them. Nothing of a
user's file changes, as long as it says `from numba import cuda`.
- Approximate instructions, and products and sums that ptxas may fuse, are noted.
- `debug=True` is compiled as False: the emulator's own checks say more. `link=` is a UsageError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import cuda, types
from numba.cuda.dispatcher import CUDADispatcher, ForAll
from numba.np.numpy_support import as_dtype

import emulator
from emulator.recording import Launch, emulator_options, record
from kernels_numba import compile as compiler
from quantassay.errors import UsageError
from quantassay.frameworks.approximations import approximations, left_open
from quantassay.frameworks.lines import near
from quantassay.frameworks.spans import span
from quantassay.notes import note

WING = "numba"
# An A100, for host code that asks.
DEVICE = SimpleNamespace(
    compute_capability=compiler.EMULATED,
    MULTIPROCESSOR_COUNT=108,
    WARP_SIZE=32,
    MAX_THREADS_PER_BLOCK=1024,
    MAX_SHARED_MEMORY_PER_BLOCK=48 * 1024,
    name="quantassay's emulator",
)
THREADS = 128  # of a block of `forall`, where the user gives none

_known: dict[tuple[Any, ...], tuple[Any, tuple[str, ...]]] = {}


class DeviceArray(np.ndarray):
    """What `cuda.device_array` gives here: emulated device memory."""

    def copy_to_host(self, ary: Any = None, stream: Any = 0) -> Any:
        """The contents as an ordinary array, or copied into `ary`."""
        if ary is None:
            return np.array(self.view(np.ndarray))
        np.copyto(ary, self.view(np.ndarray))
        return ary

    def copy_to_device(self, ary: Any, stream: Any = 0) -> None:
        """Overwrites the contents."""
        self.view(np.ndarray)[...] = ary
        emulator.mark_written(self.view(np.ndarray))


@contextmanager
def emulated() -> Iterator[None]:
    """Launches inside run in the emulator, whatever GPU there is. For one thread at a time."""
    changed: list[tuple[Any, str, Any]] = [
        (CUDADispatcher, "__getitem__", _configured),
        (CUDADispatcher, "compile", _compile_later),
        (CUDADispatcher, "disable_compile", _nothing),
        (CUDADispatcher, "specialize", _itself),
        (ForAll, "__call__", _for_all),
        (cuda, "to_device", _to_device),
        (cuda, "device_array", _device_array),
        (cuda, "device_array_like", _device_array_like),
        (cuda, "synchronize", _nothing),
        (cuda, "stream", _nothing),
        (cuda, "is_available", lambda: True),
        (cuda, "get_current_device", lambda: DEVICE),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changed]
    for owner, name, value in changed:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _nothing(*_: Any, **__: Any) -> int:
    return 0


def _to_device(obj: Any, stream: Any = 0, copy: bool = True, to: Any = None) -> Any:
    array = np.ascontiguousarray(obj)
    target = _device_array(array.shape, array.dtype) if to is None else to
    target.copy_to_device(array)
    return target


def _device_array(shape: Any, dtype: Any = np.float64, *_: Any, **__: Any) -> Any:
    return emulator.empty(shape, dtype).view(DeviceArray)


def _device_array_like(ary: Any, stream: Any = 0) -> Any:
    return _device_array(ary.shape, ary.dtype)


def _itself(self: Any, *_: Any) -> Any:
    return self


def _for_all(self: Any, *args: Any) -> None:
    """In place of ForAll.__call__, which asks the driver for a block size."""
    block = int(self.thread_per_block or THREADS)
    grid = -(-self.ntasks // block)
    if grid:
        _launch(self.dispatcher, (grid, 1, 1), (block, 1, 1), int(self.sharedmem), args)


def _compile_later(self: Any, sig: Any) -> Any:
    """In place of CUDADispatcher.compile: keeps the signature that the decorator names."""
    self.__dict__.setdefault("_quantassay_signatures", []).append(tuple(sig))
    return None


def _configured(self: Any, geometry: Any) -> Callable[..., None]:
    """In place of CUDADispatcher.__getitem__."""
    if not isinstance(geometry, tuple) or not 2 <= len(geometry) <= 4:
        raise ValueError(f"[...]: got {geometry!r}; allowed: [grid, block, stream, shared bytes]")
    grid, block = (one if isinstance(one, tuple) else (one,) for one in geometry[:2])
    shared = int(geometry[3]) if len(geometry) == 4 else 0

    def call(*args: Any) -> None:
        _launch(self, _three(grid), _three(block), shared, args)

    return call


def _three(dims: tuple[Any, ...]) -> tuple[int, int, int]:
    x, y, z = (*dims, 1, 1)[:3]
    return int(x), int(y), int(z)


def _launch(
    dispatcher: Any,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    shared: int,
    args: tuple[Any, ...],
) -> None:
    plain = tuple(map(_plain, args))
    kinds = _signature(dispatcher, plain)
    name, kernel = _compiled(dispatcher, kinds)
    flat = [member for kind, arg in zip(kinds, plain, strict=True) for member in _flat(kind, arg)]
    stats = kernel.launch(grid, block, flat, shared_bytes=shared, **emulator_options())
    record(Launch(name, WING, grid, block, stats))


def _plain(arg: Any) -> Any:
    return arg.view(np.ndarray) if isinstance(arg, np.ndarray) else arg


def _signature(dispatcher: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The decorator's, where it names one of this length, else the arguments' own types."""
    for given in dispatcher.__dict__.get("_quantassay_signatures", ()):
        if len(given) == len(args):
            return tuple(given)
    return tuple(dispatcher.typeof_pyval(arg) for arg in args)


def _compiled(dispatcher: Any, signature: tuple[Any, ...]) -> tuple[str, Any]:
    """The kernel's name and the emulator's kernel, compiled when first asked for."""
    key = (dispatcher, signature)
    if key not in _known:
        _known[key] = _compile(dispatcher, signature)
    kernel, texts = _known[key]
    for text in texts:
        note(text)
    return kernel.name, kernel


def _compile(dispatcher: Any, signature: tuple[Any, ...]) -> tuple[Any, tuple[str, ...]]:
    """The emulator's kernel, and what is to be noted of it."""
    options = dispatcher.targetoptions
    if options.get("link"):
        raise UsageError("link: got files to link; allowed in the emulator: none")
    found = compiler.compiled(
        dispatcher.py_func,
        signature,
        compiler.EMULATED,
        fastmath=bool(options.get("fastmath")),
        launch_bounds=options.get("launch_bounds"),
    )
    text = near(found.ptx)
    module = emulator.compile(text, approximate=approximations(text))
    cure = "libdevice.fmul_rn and fadd_rn"
    return module.kernel(found.name), left_open(text, module, found.name, cure)


def _flat(kind: Any, arg: Any) -> Iterator[Any]:
    """An argument's parameters: Numba passes an array as the members of a struct."""
    if isinstance(kind, types.BaseTuple):
        members: Any = kind
        for member, value in zip(members, arg, strict=True):
            yield from _flat(member, value)
    elif isinstance(kind, types.Array):
        head = (0, 0, arg.size, arg.itemsize)  # meminfo, parent
        yield from (*map(np.int64, head), span(arg), *map(np.int64, (*arg.shape, *arg.strides)))
    elif isinstance(kind, types.Boolean):
        yield np.uint8(bool(arg))
    elif isinstance(kind, types.Number):
        yield as_dtype(kind).type(arg)
    else:
        raise TypeError(f"got an argument of Numba type {kind}; allowed: arrays, numbers, tuples")
