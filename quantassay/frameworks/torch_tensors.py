"""NumPy arrays as torch tensors and back, and what a CPU tensor must pretend inside the emulator.

Contract: tensors share memory with their arrays, bf16 and the fp8 types included (torch and NumPy
name them differently, so they go through integers of the same size). `pretending()` lets host code
written for a GPU run on CPU tensors: a CUDA device means the CPU, `is_cuda` is True, `torch.cuda`
answers for an A100, and memory from `torch.empty` and its like is the emulator's, so that a kernel
which reads or returns what nobody wrote is found. What torch itself does in place counts as writing
all of its tensor.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

import emulator
from quantassay.errors import UsageError

_BY_BITS = ("bfloat16", "float8_e4m3fn", "float8_e5m2")  # dtypes that torch does not give NumPy
CAPABILITY = (8, 0)


def _nothing(*_: Any, **__: Any) -> None:
    return None


# What torch.cuda answers inside `pretending`: an A100, on which nothing is left to wait for.
CUDA: dict[str, Any] = {
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "set_device": _nothing,
    "synchronize": _nothing,
    "device": nullcontext,
    "device_of": nullcontext,
    "get_device_capability": lambda device=None: CAPABILITY,
    "get_device_name": lambda device=None: "quantassay's emulator",
    "get_device_properties": lambda device=None: SimpleNamespace(
        name="quantassay's emulator",
        major=CAPABILITY[0],
        minor=CAPABILITY[1],
        multi_processor_count=108,
        warp_size=32,
        total_memory=40 << 30,
    ),
}
_INTEGERS = {1: "int8", 2: "int16"}


@cache
def module() -> Any:
    """torch. Raises UsageError that says how to get it."""
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise UsageError(
            f"framework: got 'torch', which cannot be imported ({error}); install torch (a CPU "
            "build is enough)"
        ) from error


def to_tensor(array: Any) -> Any:
    """A NumPy or CuPy array as a tensor over the same memory; anything else as it is."""
    torch = module()
    if hasattr(array, "__cuda_array_interface__"):
        return _from_cuda(torch, array)
    if not isinstance(array, np.ndarray):
        return array
    name = array.dtype.name
    if name in _BY_BITS:
        plain = array.view(np.dtype(_INTEGERS[array.itemsize]))
        return torch.from_numpy(plain).view(getattr(torch, name))
    return torch.from_numpy(array)


def _from_cuda(torch: Any, array: Any) -> Any:
    name = array.dtype.name
    if name in _BY_BITS:
        plain = array.view(np.dtype(_INTEGERS[array.dtype.itemsize]))
        return torch.as_tensor(plain, device="cuda").view(getattr(torch, name))
    return torch.as_tensor(array, device="cuda")


def to_numpy(tensor: Any) -> Any:
    """A tensor as a NumPy array, on the CPU over the same memory; anything else as it is."""
    torch = module()
    if not isinstance(tensor, torch.Tensor):
        return tensor
    plain = tensor.detach().cpu()
    name = str(plain.dtype).removeprefix("torch.")
    if name not in _BY_BITS:
        return plain.resolve_conj().resolve_neg().numpy()
    import ml_dtypes

    bits = plain.view(getattr(torch, _INTEGERS[plain.element_size()]))
    return bits.numpy().view(np.dtype(getattr(ml_dtypes, name)))


@contextmanager
def pretending(*, tracked: bool = True) -> Iterator[None]:
    """A context in which torch's host code runs on CPU tensors as it would on a GPU's.

    tracked: whether `torch.empty` and its like give the emulator's memory.
    """
    place = module().cuda
    before = {name: getattr(place, name) for name in CUDA}
    for name, value in CUDA.items():
        setattr(place, name, value)
    try:
        with _mode()(tracked):
            yield
    finally:
        for name, value in before.items():
            setattr(place, name, value)


@cache
def _mode() -> Any:
    torch = module()
    from torch.overrides import TorchFunctionMode

    makers = {torch.empty, torch.empty_like, torch.Tensor.new_empty, torch.empty_strided}
    on_gpu = torch.Tensor.is_cuda.__get__

    class Pretending(TorchFunctionMode):
        def __init__(self, tracked: bool) -> None:
            super().__init__()
            self.tracked = tracked

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            given = dict(kwargs or {})
            if func == on_gpu:
                return True
            if _is_cuda(torch, given.get("device")):
                given["device"] = "cpu"
            if func is torch.Tensor.cuda:
                return args[0]
            if func is torch.Tensor.to:
                args = tuple("cpu" if _is_cuda(torch, one) else one for one in args)
            made = func(*args, **given)
            if not self.tracked:
                return made
            if func in makers:
                return _tracked(torch, made)
            for tensor in _written(torch, func, args, given):
                emulator.mark_written(to_numpy(tensor))
            return made

    return Pretending


def _is_cuda(torch: Any, device: Any) -> bool:
    if isinstance(device, str):
        return device.partition(":")[0] == "cuda"
    return isinstance(device, torch.device) and device.type == "cuda"


def _tracked(torch: Any, made: Any) -> Any:
    """A tensor like `made`, in memory that knows what was written to it."""
    if made.device.type != "cpu" or made.numel() == 0 or made.requires_grad:
        return made
    memory = emulator.empty(made.untyped_storage().nbytes(), np.uint8)
    flat = torch.from_numpy(memory).view(made.dtype)
    return flat.as_strided(made.size(), made.stride())


def _written(torch: Any, func: Any, args: Any, given: dict[str, Any]) -> list[Any]:
    """The tensors that an operation of torch's writes in place."""
    name = getattr(func, "__name__", "")
    found = given.get("out")
    outs = list(found) if isinstance(found, (tuple, list)) else [found]
    in_place = name.endswith("_") and (not name.endswith("__") or name.startswith("__i"))
    if args and (in_place or name == "__setitem__"):
        outs.append(args[0])
    return [one for one in outs if isinstance(one, torch.Tensor) and one.device.type == "cpu"]
