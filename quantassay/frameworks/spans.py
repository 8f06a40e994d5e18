"""Strided arrays as the emulator takes them: the stretch of memory that they lie in.

Contract: `span(array)` is a C-contiguous array over the same memory, from the array's first element
to its last: what a kernel reaches that is given the pointer and the strides. A C-contiguous array
is returned as it is. Raises ValueError for negative strides.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Array = NDArray[Any]


def span(array: Array, name: str = "array") -> Array:
    """The memory of an array, `name` being what errors call it."""
    plain = array.view(np.ndarray)
    if plain.flags.c_contiguous or plain.size == 0:
        return plain
    size = plain.itemsize
    steps = [(side - 1) * stride for side, stride in zip(plain.shape, plain.strides, strict=True)]
    if min(steps) < 0 or any(stride % size for stride in plain.strides):
        raise ValueError(f"{name}: got strides {plain.strides}; allowed: multiples of {size} >= 0")
    return as_strided(plain, (sum(steps) // size + 1,), (size,))
