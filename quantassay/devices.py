"""Where kernels run, and how arrays get there and back.

Contract: "emulator" passes NumPy arrays; "gpu" passes CuPy arrays and is an error where no GPU is
usable; "auto" is "gpu" where one is. Whatever a kernel returns (NumPy, CuPy, anything with
__cuda_array_interface__, __array_interface__ or DLPack) comes back as NumPy; an emulator's array
comes back as it is, so that it can still be asked what was written.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import numpy as np

from quantassay.errors import DeviceError, UsageError

DEVICES = ("auto", "gpu", "emulator")
BOUNDARY = 256  # bytes; what device memory is aligned to


@cache
def gpu_problem() -> str:
    """Why no GPU can be used here; empty if one can."""
    try:
        import cupy
    except ImportError as error:
        return f"CuPy cannot be imported ({error})"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"no CUDA device ({error})"
    return "" if count else "CUDA finds 0 devices"


def choose(device: str) -> str:
    """ "gpu" or "emulator" for one of DEVICES. Raises UsageError."""
    if device not in DEVICES:
        raise UsageError(f"device: got {device!r}; allowed: {', '.join(DEVICES)}")
    if device == "emulator":
        return "emulator"
    problem = gpu_problem()
    if device == "gpu" and problem:
        raise DeviceError(f"device: got 'gpu', but {problem}; allowed here: emulator")
    return "emulator" if problem else "gpu"


def name(device: str) -> str:
    """The device as results name it: "emulator", or the GPU's own name."""
    if device == "emulator":
        return device
    import cupy

    return str(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())


def send(array: Any, device: str, shift: int = 0) -> Any:
    """A copy of a NumPy array as the device's kernels take it; None and numbers as they are.

    It starts `shift` elements past a 256-byte boundary.
    """
    if not isinstance(array, np.ndarray):
        return array
    xp = np if device == "emulator" else importlib.import_module("cupy")
    spare = BOUNDARY // array.dtype.itemsize
    memory = xp.empty(array.size + shift + spare, array.dtype)
    start = -_address(memory) % BOUNDARY // array.dtype.itemsize + shift
    copy = memory[start : start + array.size].reshape(array.shape)
    if device == "emulator":
        copy[...] = array
    else:
        copy.set(array)
    return copy


def _address(array: Any) -> int:
    if isinstance(array, np.ndarray):
        return int(array.ctypes.data)
    return int(array.data.ptr)


def fetch(array: Any) -> Any:
    """As NumPy if it is an array of any kind, else what it is. Raises TypeError for a dtype that
    NumPy cannot take over DLPack."""
    if isinstance(array, np.ndarray):
        return array
    if hasattr(array, "__cuda_array_interface__"):
        import cupy

        return cupy.asarray(array).get()
    if hasattr(array, "__dlpack__"):
        return _from_dlpack(array)
    if hasattr(array, "__array_interface__"):
        return np.asarray(array)
    return array


def _from_dlpack(array: Any) -> Any:
    kind, _ = array.__dlpack_device__()
    try:
        if kind == 2:  # kDLCUDA
            import cupy

            return cupy.from_dlpack(array).get()
        return np.from_dlpack(array)
    except (BufferError, RuntimeError, TypeError) as error:
        raise TypeError(
            f"an output of type {type(array).__name__} cannot be read over DLPack ({error}); "
            "allowed: fp32, fp16, int8, int32, or an array with __cuda_array_interface__"
        ) from error


def lost(device: str) -> str:
    """Why nothing more can run on the device in this process; empty if it can.

    An illegal access on a GPU ends the CUDA context: every later call fails, of whatever kernel.
    """
    if device == "emulator":
        return ""
    import cupy

    try:
        cupy.cuda.Device().synchronize()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"the CUDA context is lost ({error}): nothing more can run in this process"
    return ""


@contextmanager
def thread_order(seed: int) -> Iterator[None]:
    """The order in which the emulator runs threads, for the launches inside.

    Nothing to do where no kernel of ours has been loaded.
    """
    loaded = sys.modules.get("emulator.recording")
    with loaded.recording(seed=seed) if loaded is not None else nullcontext():
        yield
