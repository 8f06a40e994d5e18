"""Triton kernels with no GPU: `kernel[grid](...)` runs the compiled PTX in the emulator.

Contract: inside `emulated()` a launch of a `@triton.jit` function, autotuned or not, compiles it as
Triton would for sm_80 or sm_90 (its own signature, specialisation, options and passes; only the
target is named instead of asked for) and runs that PTX. Arguments may be NumPy arrays, CPU tensors,
numbers, None and tuples of them. Nothing of a user's file changes.
- Shared memory, warps and the hidden scratch pointers are those of the compiled kernel's metadata.
- Approximate instructions are allowed and noted (approximations.py). So are products and sums that
  ptxas may fuse (`enable_fp_fusion`): the emulator runs what the PTX says.
- Autotuning measures nothing: every configuration runs once, and the first is kept.
- Not here: tensor descriptors (TMA), clusters (num_ctas > 1): UsageError.
Written against triton 3.9 (runtime/jit.py, compiler/compiler.py, backends/nvidia/driver.py).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction, create_function_from_signature

import emulator
from emulator.recording import Launch, emulator_options, record
from quantassay.errors import UsageError
from quantassay.frameworks.approximations import approximations, left_open
from quantassay.frameworks.lines import near
from quantassay.frameworks.spans import span
from quantassay.notes import note

ARCHES = (80, 90)  # targets whose PTX the emulator runs; 90 without TMA and mbarriers
WING = "triton"
# Of an A100, for host code that asks.
PROPERTIES = {
    "multiprocessor_count": 108,
    "max_shared_mem": 166912,
    "max_num_regs": 65536,
    "warpSize": 32,
    "sm_clock_rate": 1410000,
    "mem_clock_rate": 1215000,
    "mem_bus_width": 5120,
}
_PARAMETERS = re.compile(r"\.entry\s+[\w$]+\s*\(([^)]*)\)")


@dataclass(frozen=True)
class _Compiled:
    """A specialisation: Triton's own record and the emulator's kernel."""

    triton: Any
    kernel: Any
    types: tuple[Any, ...]  # one per parameter of the Python function: "*fp32", "constexpr", ...
    hidden: int  # parameters behind the function's own
    notes: tuple[str, ...]


class _Pointer:
    """A NumPy array as Triton asks it: its address and the name of its dtype."""

    def __init__(self, array: Any) -> None:
        self.array, self.dtype, self.shape = array, array.dtype.name, array.shape

    def data_ptr(self) -> int:
        return int(self.array.ctypes.data)

    def stride(self, axis: int | None = None) -> Any:
        strides = tuple(step // self.array.itemsize for step in self.array.strides)
        return strides if axis is None else strides[axis]


@contextmanager
def emulated(arch: int = ARCHES[0]) -> Iterator[None]:
    """Launches inside run in the emulator, whatever GPU there is. For one thread at a time.

    arch: of ARCHES. Raises UsageError for another.
    """
    if arch not in ARCHES:
        raise UsageError(f"arch: got {arch!r}; allowed: {', '.join(map(str, ARCHES))}")
    before, launch = driver._active, JITFunction.run
    driver.set_active(_driver(arch))
    JITFunction.run = _run
    try:
        yield
    finally:
        JITFunction.run = launch
        driver._active = before


@cache
def _driver(arch: int) -> Any:
    """What Triton and host code ask of a device."""
    return SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", arch, 32),
        get_current_device=lambda: 0,
        get_current_stream=lambda device=None: 0,
        set_current_device=lambda device: None,
        get_device_capability=lambda device=None: divmod(arch, 10),
        get_active_torch_device=_cpu,
        get_benchmarker=lambda: _run_once,
        utils=SimpleNamespace(get_device_properties=lambda device: dict(PROPERTIES)),
    )


def _cpu() -> Any:
    from quantassay.frameworks import torch_tensors

    return torch_tensors.module().device("cpu")


def _run_once(call: Callable[[], Any], quantiles: Sequence[float] = (), **_: Any) -> list[float]:
    """A benchmark that measures nothing: of equal times the autotuner keeps the first."""
    call()
    note("autotuning: every configuration ran, outputs are of the first")
    return [1.0] * max(1, len(quantiles))


def _run(function: Any, *args: Any, grid: Any, warmup: bool = False, **options: Any) -> Any:
    """In place of JITFunction.run: the same arguments, the emulator's launch."""
    options["debug"] = options.get("debug") or bool(function.debug)
    for hook in function.pre_run_hooks:
        hook(*args, **options)
    args = tuple(map(_asked, args))
    options = {name: _asked(value) for name, value in options.items()}
    compiled, bound = _specialised(function, args, options)
    if warmup:
        return compiled.triton
    size = tuple(grid(bound) if callable(grid) else grid)
    _launch(compiled, (*size, 1, 1)[:3], list(bound.values()))
    return compiled.triton


def _asked(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _Pointer(value)
    if type(value) is tuple:
        return tuple(map(_asked, value))
    return value


_known: dict[tuple[Any, ...], _Compiled] = {}


def _specialised(function: Any, args: Any, options: Any) -> tuple[_Compiled, dict[str, Any]]:
    """The kernel for these arguments' types and what Triton specialises on, and them by name."""
    target = driver.active.get_current_target()
    binder, backend = _binder(function, target)
    bound, special, others = binder(*args, **options)
    key = (function, target.arch, str(special), str(others))
    if key not in _known:
        _known[key] = _compile(function, backend, target, options, bound, special, others)
    found = _known[key]
    for text in found.notes:
        note(text)
    return found, bound


_binders: dict[tuple[int, int], tuple[Any, Any, Any]] = {}


def _binder(function: Any, target: Any) -> tuple[Any, Any]:
    key = (id(function), target.arch)
    if key not in _binders:
        backend = make_backend(target)
        made = create_function_from_signature(function.signature, function.params, backend)
        _binders[key] = function, made, backend  # keeps the function, and so its id
    _, made, backend = _binders[key]
    return made, backend


def _compile(
    function: Any,
    backend: Any,
    target: Any,
    options: Any,
    bound: Any,
    special: Any,
    others: Any,
) -> _Compiled:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # triton's own, of defaults that will change
        chosen, signature, constants, attributes = function._pack_args(
            backend, options, bound, special, others
        )
        source = ASTSource(function, signature, constants, attributes)
        made = triton.compile(source, target=target, options=chosen.__dict__)
    _check(made.metadata, signature)
    text = near(made.asm["ptx"])
    module = emulator.compile(text, approximate=approximations(text))
    header = _PARAMETERS.search(text)
    parameters = header[1].count(".param") if header else 0
    types = tuple(signature.values())
    cure = "enable_fp_fusion=False" if chosen.enable_fp_fusion else ""
    texts = left_open(text, module, made.name, cure)
    hidden = parameters - _count(types)
    return _Compiled(made, module.kernel(made.name), types, hidden, texts)


def _check(metadata: Any, signature: Any) -> None:
    if metadata.num_ctas > 1:
        raise UsageError(f"num_ctas: got {metadata.num_ctas}; allowed in the emulator: 1")
    for name, kind in signature.items():
        if isinstance(kind, str) and kind.startswith("tensordesc"):
            raise UsageError(f"{name}: got a tensor descriptor; allowed in the emulator: pointers")


def _count(types: Any) -> int:
    """Parameters that arguments of these types become."""
    if isinstance(types, (tuple, list)):
        return sum(map(_count, types))
    return 0 if types == "constexpr" else 1


def _launch(compiled: _Compiled, grid: tuple[int, ...], values: list[Any]) -> None:
    if 0 in grid:
        raise UsageError(f"grid: got {grid}; allowed: sizes >= 1")
    metadata = compiled.triton.metadata
    flat = list(_parameters(compiled.types, values))
    flat += _scratch(metadata, grid, compiled.hidden)
    block = (32 * metadata.num_warps, 1, 1)
    stats = compiled.kernel.launch(
        grid,
        block,
        flat,
        shared_bytes=metadata.shared,
        cooperative=bool(metadata.launch_cooperative_grid),
        **emulator_options(),
    )
    x, y, z = (int(side) for side in grid)
    record(Launch(compiled.triton.name, WING, (x, y, z), block, stats))


def _parameters(types: Any, values: Any) -> Iterator[Any]:
    """The kernel's parameters, as the emulator takes them."""
    for kind, value in zip(types, values, strict=True):
        if isinstance(kind, (tuple, list)):
            yield from _parameters(kind, value)
        elif kind != "constexpr":
            yield _parameter(str(kind), value)


def _parameter(kind: str, value: Any) -> Any:
    if isinstance(value, _Pointer):
        return span(value.array)
    if hasattr(value, "data_ptr"):
        from quantassay.frameworks.torch_tensors import to_numpy

        if getattr(value, "base", None) is not None and not hasattr(value, "detach"):
            value = value.base  # triton.reinterpret: another dtype over the same memory
        return span(to_numpy(value))
    if kind.startswith("*"):
        raise TypeError(f"got {type(value).__name__} for a pointer; allowed: an array or a tensor")
    if kind in ("fp16", "bf16"):
        return np.float32(value).astype(_half(kind))
    if kind in ("fp32", "f32", "fp64"):
        return np.float64(value) if kind == "fp64" else np.float32(value)
    return int(value)


def _half(kind: str) -> Any:
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16 if kind == "bf16" else np.float16)


def _scratch(metadata: Any, grid: tuple[int, ...], hidden: int) -> list[Any]:
    """What Triton's launcher passes behind the arguments: global scratch, profile scratch."""
    blocks = int(np.prod(grid))
    names = ("global_scratch_size", "profile_scratch_size")
    sizes = [getattr(metadata, name, 0) * blocks for name in names]
    return [emulator.empty(size, np.uint8) if size else None for size in sizes[:hidden]]
