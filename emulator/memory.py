"""Memory that kernels may touch: tracked arrays, and ordinary arrays staged for a launch.

Contract: `empty` gives device-like memory: 256-byte aligned, filled with 0xA5, with a shadow that
knows which bytes a kernel (or `mark_written`) has written. The shadow lives as long as the memory.
Every other array counts as initialised. For a launch it is copied to an aligned place that keeps
its address modulo 16, so that a misaligned slice stays misaligned, and copied back if the kernel
changed it; arguments that overlap in memory overlap in the copy.

Arguments must be C-contiguous. A kernel sees exactly the bytes of the array it was given: a slice
of a larger array ends where the slice ends.
"""

from __future__ import annotations

import math
import weakref
from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emulator.layout import BUFFER
from reference.arguments import check_int, check_kind, shown

ALIGNMENT = 256
KEPT_ALIGNMENT = 16  # of an ordinary array's address, what its copy keeps
POISON = 0xA5
MOST_BYTES = 1 << 40


class _Allocation:
    """Tracked memory: the bytes [start, start + size) and their shadow, 1 = written."""

    def __init__(self, owner: np.ndarray, start: int, size: int) -> None:
        self.start, self.size = start, size
        self.shadow = np.zeros(size, np.uint8)
        self.owner = weakref.ref(owner, self._forget)

    def _forget(self, _: object) -> None:
        if _allocations.get(self.start) is self:
            del _allocations[self.start]
            _starts.remove(self.start)


_allocations: dict[int, _Allocation] = {}
_starts: list[int] = []  # sorted


def empty(shape: int | Sequence[int], dtype: Any) -> np.ndarray:
    """Uninitialised device-like memory of this shape and dtype.

    Raises ValueError for a negative size, TypeError for a dtype that holds Python objects.
    """
    dtype = _plain_dtype(dtype)
    dims = (shape,) if not isinstance(shape, (list, tuple)) else tuple(shape)
    for n in dims:
        check_int("shape", n)
    if any(n < 0 for n in dims):
        raise ValueError(f"shape: got {dims}; allowed: sizes >= 0")
    size = math.prod(dims) * dtype.itemsize
    if size > MOST_BYTES:
        raise ValueError(f"shape: got {dims} of {dtype}; allowed: up to {MOST_BYTES} bytes")
    owner, start = aligned_bytes(size, ALIGNMENT)
    owner[:] = POISON
    if size:
        _allocations[start] = _Allocation(owner, start, size)
        insort(_starts, start)
    skip = start - owner.ctypes.data
    return owner[skip : skip + size].view(dtype).reshape(dims)


def _plain_dtype(dtype: Any) -> np.dtype:
    if dtype is None:
        raise TypeError("dtype: got None; allowed: dtypes of plain bytes")
    try:
        made = np.dtype(dtype)
    except (TypeError, ValueError) as error:
        raise TypeError(f"dtype: got {shown(dtype)}; allowed: dtypes of plain bytes") from error
    if made.hasobject or made.itemsize == 0 or not made.isnative:
        raise TypeError(f"dtype: got {made}; allowed: native dtypes of plain bytes")
    return made


def aligned_bytes(size: int, alignment: int, residue: int = 0) -> tuple[np.ndarray, int]:
    """(uint8 array that owns the memory, an address in it equal to `residue` mod `alignment`)."""
    owner = np.empty(size + alignment, np.uint8)
    base = owner.ctypes.data
    return owner, base + (residue - base) % alignment


def _allocation_of(array: np.ndarray) -> _Allocation | None:
    address = array.ctypes.data
    index = bisect_right(_starts, address) - 1
    if index < 0:
        return None
    found = _allocations[_starts[index]]
    return found if address < found.start + found.size else None


def _shadow_view(array: np.ndarray) -> np.ndarray | None:
    """The shadow of each byte of `array`, shape (*array.shape, itemsize); None = ordinary."""
    found = _allocation_of(array)
    if found is None:
        return None
    return np.ndarray(
        (*array.shape, array.itemsize),
        np.uint8,
        buffer=found.shadow,
        offset=array.ctypes.data - found.start,
        strides=(*array.strides, 1),
    )


def mark_written(array: np.ndarray) -> None:
    """Declare every element of a tracked array (or a slice of it) initialised, as by an upload."""
    check_kind("array", array, np.ndarray, "a NumPy array")
    shadow = _shadow_view(array)
    if shadow is not None:
        shadow[...] = 1


def written(array: np.ndarray) -> np.ndarray | None:
    """Per element of a tracked array: were all of its bytes written? None for ordinary arrays."""
    check_kind("array", array, np.ndarray, "a NumPy array")
    shadow = _shadow_view(array)
    return None if shadow is None else np.asarray(shadow.all(axis=-1))


def shadow_address(array: np.ndarray) -> int:
    """Address of the shadow of the array's first byte, 0 if all of it counts as initialised."""
    found = _allocation_of(array)
    if found is None:
        return 0
    return int(found.shadow.ctypes.data) + array.ctypes.data - found.start


@dataclass(frozen=True)
class Range:
    """Memory that a launch may touch: [start, start + size), and what to call it."""

    start: int
    size: int
    shadow: int
    name: str
    itemsize: int = 1


class Staging:
    """The arrays of one launch where the kernel finds them."""

    def __init__(self, arrays: Sequence[tuple[str, np.ndarray]]) -> None:
        """`arrays`: (name for messages, array). Raises TypeError, ValueError naming the array."""
        for name, array in arrays:
            _check(name, array)
        self._arrays = arrays
        self._copies: list[np.ndarray | None] = [None] * len(arrays)
        self.addresses = [int(array.ctypes.data) for _, array in arrays]
        ordinary = [
            index for index, (_, array) in enumerate(arrays) if _allocation_of(array) is None
        ]
        for group in self._overlapping(ordinary):
            self._copy(group)

    def _overlapping(self, indices: list[int]) -> list[list[int]]:
        """Indices grouped so that arrays of different groups share no byte."""
        groups: list[list[int]] = []
        end = -1
        for index in sorted(indices, key=lambda i: self.addresses[i]):
            start = self.addresses[index]
            if start < end:
                groups[-1].append(index)
            else:
                groups.append([index])
            end = max(end, start + self._arrays[index][1].nbytes)
        return groups

    def _copy(self, group: list[int]) -> None:
        first = self.addresses[group[0]]
        last = max(self.addresses[i] + self._arrays[i][1].nbytes for i in group)
        owner, start = aligned_bytes(last - first, ALIGNMENT, first % KEPT_ALIGNMENT)
        for index in group:
            array = self._arrays[index][1]
            skip = start - owner.ctypes.data + self.addresses[index] - first
            copy = owner[skip : skip + array.nbytes]
            copy[:] = _bytes(array)
            self._copies[index] = copy
            self.addresses[index] += start - first

    def ranges(self) -> list[Range]:
        """What the kernel may touch, in the order of the arrays."""
        return [
            Range(address, array.nbytes, shadow_address(array), name, array.itemsize)
            for address, (name, array) in zip(self.addresses, self._arrays, strict=True)
        ]

    def copy_back(self) -> None:
        """Give every ordinary array what the kernel wrote to its copy.

        Raises ValueError if the kernel changed an array that is not writeable.
        """
        changed = [
            (name, array, copy)
            for (name, array), copy in zip(self._arrays, self._copies, strict=True)
            if copy is not None and not np.array_equal(copy, _bytes(array))
        ]
        for _, array, copy in changed:
            if array.flags.writeable:
                _bytes(array)[:] = copy
        for name, array, copy in changed:
            if not array.flags.writeable and not np.array_equal(copy, _bytes(array)):
                raise ValueError(f"{name}: the kernel wrote to this array, which is read-only")


def _check(name: str, array: np.ndarray) -> None:
    if array.dtype.hasobject:
        raise TypeError(f"{name}: got dtype {array.dtype}; allowed: dtypes of plain bytes")
    if not array.dtype.isnative:
        raise TypeError(f"{name}: got dtype {array.dtype}; allowed: the machine's byte order")
    if not array.flags.c_contiguous:
        raise ValueError(
            f"{name} must be C-contiguous; got shape {array.shape} with strides {array.strides}; "
            "use numpy.ascontiguousarray"
        )


def _bytes(array: np.ndarray) -> np.ndarray:
    """The memory of a C-contiguous array as uint8 (nbytes,)."""
    return array.reshape(-1).view(np.uint8)


def buffer_table(ranges: Sequence[Range]) -> np.ndarray:
    """BUFFER records for the kernel's bounds checks; never empty, so that it has an address."""
    table = np.zeros(max(1, len(ranges)), BUFFER)
    for index, item in enumerate(ranges):
        table[index] = (item.start, item.size, item.shadow)
    return table
