"""What a launch is given: geometry and kernel arguments, checked and packed.

Contract: every problem raises ValueError or TypeError that names the argument, what was got and
what is allowed. Limits are those of compute capability 8.0 to 10.x (CUDA C++ Programming Guide,
"Compute Capabilities").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from emulator.lower import CompiledKernel
from emulator.memory import aligned_bytes
from emulator.ptx import Parameter
from emulator.wording import plural

Dims = tuple[int, int, int]

MAX_GRID: Dims = (2**31 - 1, 65535, 65535)
MAX_BLOCK: Dims = (1024, 1024, 64)
MAX_THREADS = 1024
SHARED_LIMIT = 227 * 1024
MAX_TOGETHER = 132  # blocks of a cooperative launch: one for each multiprocessor of an H100
MEMORY_TOGETHER = 1 << 30  # bytes that they may take, all together
POINTER_BYTES = 8
_LIMIT_DIRECTIVE = re.compile(r"\.(maxntid|reqntid)\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?")


def dims(name: str, value: int | Sequence[int], limits: Dims) -> Dims:
    """A grid or block as (x, y, z)."""
    given = tuple(value) if isinstance(value, Sequence) else (value,)
    if not 1 <= len(given) <= 3 or not all(isinstance(n, (int, np.integer)) for n in given):
        raise TypeError(f"{name}: got {value!r}; allowed: an int or a tuple of 1 to 3 ints")
    x, y, z = (*(int(n) for n in given), 1, 1)[:3]
    for axis, n, limit in zip("xyz", (x, y, z), limits, strict=True):
        if not 1 <= n <= limit:
            raise ValueError(f"{name}.{axis}: got {n}; allowed: 1 to {limit}")
    return x, y, z


def check_block(kernel: CompiledKernel, block: Dims) -> None:
    """The block's size against the hardware's limit and the kernel's __launch_bounds__."""
    threads = block[0] * block[1] * block[2]
    if threads > MAX_THREADS:
        raise ValueError(f"block: got {block}, {threads} threads; allowed: up to {MAX_THREADS}")
    for directive, *sizes in _LIMIT_DIRECTIVE.findall(kernel.directives):
        named = tuple(int(n or 1) for n in sizes)
        most = named[0] * named[1] * named[2]
        if directive == "maxntid" and threads > most:
            raise ValueError(
                f"block: got {threads} threads; {kernel.name} is compiled for up to {most} "
                "(__launch_bounds__)"
            )
        if directive == "reqntid" and block != named:
            raise ValueError(f"block: got {block}; {kernel.name} is compiled for {named} only")


def check_cooperative(grid: Dims, block_bytes: int) -> None:
    """Whether all blocks of a cooperative launch, of so many bytes each, can run at once."""
    blocks = grid[0] * grid[1] * grid[2]
    most = min(MAX_TOGETHER, MEMORY_TOGETHER // block_bytes)
    if blocks > most:
        raise ValueError(
            f"grid: got {grid}, {plural(blocks, 'block')}; allowed in a cooperative launch, whose "
            f"blocks all run at once: up to {most} of this size"
        )


def shared_size(kernel: CompiledKernel, shared_bytes: int) -> int:
    """Bytes of shared memory of one block; may exceed SHARED_LIMIT, which the launch refuses."""
    if shared_bytes < 0:
        raise ValueError(f"shared_bytes: got {shared_bytes}; allowed: >= 0")
    if shared_bytes or kernel.uses_dynamic:
        return kernel.dynamic_offset + int(shared_bytes)
    return kernel.shared_static_size


def name_of(index: int, value: np.ndarray) -> str:
    """What messages call an argument."""
    return f"argument {index} ({value.dtype} {value.shape})"


class Parameters:
    """The parameter block of a launch; array addresses are filled in once they are staged."""

    def __init__(self, kernel: CompiledKernel, args: Sequence[Any]) -> None:
        if len(args) != len(kernel.params):
            raise ValueError(
                f"args: got {plural(len(args), 'argument')}; allowed: {len(kernel.params)}, what "
                f"{kernel.name} takes"
            )
        owner, self.address = aligned_bytes(kernel.params_size, 256)
        skip = self.address - owner.ctypes.data
        self._bytes = owner[skip : skip + kernel.params_size]
        self.arrays: list[tuple[str, np.ndarray]] = []
        self._offsets: list[int] = []
        for index, (value, parameter) in enumerate(zip(args, kernel.params, strict=True)):
            if isinstance(value, np.ndarray):
                _check_size(index, parameter, POINTER_BYTES, "a pointer")
                self.arrays.append((name_of(index, value), value))
                self._offsets.append(parameter.offset)
            else:
                self._put(parameter.offset, _packed(index, value, parameter))

    def _put(self, offset: int, raw: bytes) -> None:
        self._bytes[offset : offset + len(raw)] = np.frombuffer(raw, np.uint8)

    def point(self, addresses: Sequence[int]) -> None:
        """Store where the kernel finds each array."""
        for offset, address in zip(self._offsets, addresses, strict=True):
            self._put(offset, address.to_bytes(POINTER_BYTES, "little"))


def _packed(index: int, value: Any, parameter: Parameter) -> bytes:
    """The bytes of a scalar, a struct or a null pointer."""
    if isinstance(value, (bytes, bytearray)):
        _check_size(index, parameter, len(value), "bytes")
        return bytes(value)
    if isinstance(value, np.generic):
        _check_size(index, parameter, value.itemsize, str(value.dtype))
        return value.tobytes()
    if value is None:
        _check_size(index, parameter, POINTER_BYTES, "None, a null pointer")
        return bytes(POINTER_BYTES)
    if isinstance(value, int):
        low, high = -(1 << 8 * parameter.size - 1), (1 << 8 * parameter.size) - 1
        if not low <= value <= high:
            raise ValueError(f"argument {index}: got {value}; allowed: {low} to {high}")
        return (value & high).to_bytes(parameter.size, "little")
    raise TypeError(
        f"argument {index}: got {type(value).__name__}; allowed: a NumPy array (its pointer), a "
        "NumPy scalar, an int, None (a null pointer) or bytes (a struct)"
    )


def _check_size(index: int, parameter: Parameter, size: int, what: str) -> None:
    if size != parameter.size:
        raise ValueError(
            f"argument {index}: got {what} ({plural(size, 'byte')}); "
            f"{parameter.name} takes {plural(parameter.size, 'byte')}"
        )
