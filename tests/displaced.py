"""Arrays that begin anywhere: copies a chosen number of elements past an aligned address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

BOUNDARY = 64  # bytes
WIDEST = 16  # bytes that one access moves; NumPy's own arrays begin at its multiples


def displaced(array: np.ndarray, elements: int) -> np.ndarray:
    """A C-contiguous copy whose address is that many elements past a multiple of BOUNDARY."""
    space = np.empty(array.size + BOUNDARY // array.itemsize + elements, array.dtype)
    start = -space.ctypes.data % BOUNDARY // array.itemsize + elements
    copy = space[start : start + array.size].reshape(array.shape)
    copy[...] = array
    return copy


def offsets(inputs: Mapping[str, Any]) -> dict[str, int]:
    """By name, the elements by which arrays lie past an address that any access may take."""
    return {
        name: array.ctypes.data % WIDEST // array.itemsize
        for name, array in inputs.items()
        if isinstance(array, np.ndarray)
    }
