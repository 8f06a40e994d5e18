"""Raw memory and `step` calls for the scheduler: the few things Numba cannot say by itself.

Contract: everything in compiled scheduler code is an int64. Addresses fit (user space ends at
2**47), a uint32 is its zero-extended value, so no expression mixes signed and unsigned types (which
Numba would turn into float64). Nothing here checks an address: callers do.

`jit` compiles a helper together with whoever calls it; `entry` marks the functions that Python
calls, and keeps their machine code in a cache directory named after the content of every runtime
source file, because Numba's own cache looks at one file only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from reference.storage import private_folder

RUNTIME_SOURCES = (
    "layout.py",
    "native.py",
    "state.py",
    "shadow.py",
    "race_records.py",
    "global_races.py",
    "tensor.py",
    "tensor_float.py",
    "wgmma.py",
    "collectives.py",
    "barriers.py",
    "copies.py",
    "scheduler.py",
    "trace.py",
)

_I64 = ir.IntType(64)
_OPTIONS: dict[str, Any] = {
    "boundscheck": False,
    "error_model": "numpy",
    "nogil": True,
    "_nrt": False,  # no reference counts (2-3x faster): compiled code must not allocate
}
_INTERNAL: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def jit(function: Callable[..., Any]) -> Any:
    """Compile a helper of the runtime (no cache of its own)."""
    return numba.njit(**_OPTIONS, **_INTERNAL)(function)


def entry(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, cached on disk where some directory is writable."""
    directory = cache_directory()
    if directory is None:
        return numba.njit(**_OPTIONS)(function)
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(directory)
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    finally:
        config.CACHE_DIR = before


def c_entry(function: Callable[..., Any], arguments: int) -> Any:
    """Compile a function of int64s that machine code calls by its `address`, cached as `entry`."""
    directory = cache_directory()
    options = {name: value for name, value in _OPTIONS.items() if name != "nogil"}
    make = numba.cfunc(types.int64(*[types.int64] * arguments), cache=bool(directory), **options)
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(directory or before)
    try:
        return make(function)
    finally:
        config.CACHE_DIR = before


def primitive(codegen: Callable[..., Any]) -> Any:
    """A function that scheduler code calls and that is given as LLVM IR."""
    return intrinsic(codegen)


def cache_directory() -> Path | None:
    """The cache's folder for this runtime; None where nothing can be kept."""
    here = Path(__file__).parent
    digest = hashlib.sha256(numba.__version__.encode())
    for name in RUNTIME_SOURCES:
        digest.update((here / name).read_bytes())
    return private_folder(f"emulator-{digest.hexdigest()[:16]}")


def _load(bits: int, signed: bool) -> Any:
    def load(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], ir.IntType(bits).as_pointer())
            value = builder.load(pointer, align=1)
            if bits == 64:
                return value
            return builder.sext(value, _I64) if signed else builder.zext(value, _I64)

        return types.int64(types.int64), codegen

    return primitive(load)


def _store(bits: int) -> Any:
    def store(typingctx: Any, address: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], ir.IntType(bits).as_pointer())
            low = args[1] if bits == 64 else builder.trunc(args[1], ir.IntType(bits))
            builder.store(low, pointer, align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return primitive(store)


load8 = _load(8, signed=False)
load16 = _load(16, signed=False)
load32 = _load(32, signed=False)
load32s = _load(32, signed=True)
load64 = _load(64, signed=False)
store8 = _store(8)
store16 = _store(16)
store32 = _store(32)
store64 = _store(64)


@primitive
def lowest_bit(typingctx: Any, mask: Any) -> Any:
    """Index of the lowest set bit of a non-zero mask."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


@primitive
def count_bits(typingctx: Any, mask: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.int64), codegen


@primitive
def fill(typingctx: Any, address: Any, byte: Any, count: Any) -> Any:
    """memset."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte_type = ir.IntType(8)
        pointer = builder.inttoptr(args[0], byte_type.as_pointer())
        memset = builder.module.declare_intrinsic("llvm.memset", [byte_type.as_pointer(), _I64])
        low = builder.trunc(args[1], byte_type)
        builder.call(memset, [pointer, low, args[2], ir.Constant(ir.IntType(1), 0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@primitive
def call_step(typingctx: Any, function: Any, thread: Any, frame: Any, context: Any) -> Any:
    """Run one thread of a compiled kernel until it yields."""

    def codegen(target: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        step = ir.FunctionType(ir.VoidType(), [pointer] * 3)
        address = builder.inttoptr(args[0], step.as_pointer())
        builder.call(address, [builder.inttoptr(value, pointer) for value in args[1:]])
        return target.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen
