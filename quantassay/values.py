"""Bits of arrays and values as text: what comparison, provenance and diagnosis share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.numerics import dtype_name

Array = NDArray[Any]
_DIGITS = {"fp32": 9, "fp16": 5, "bf16": 4}  # enough to tell any two values apart


def bits(array: Array) -> NDArray[Any]:
    """The array's bit patterns as unsigned integers of the same size and shape."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").reshape(array.shape)


def number(value: Any) -> str:
    """A NumPy scalar in as many digits as its dtype needs."""
    array = np.asarray(value)
    name = dtype_name(array.dtype)
    return f"{float(array):.{_DIGITS[name]}g}" if name in _DIGITS else str(int(array))


def show(value: Any) -> str:
    """ "value (0xbits)" of a NumPy scalar."""
    array = np.asarray(value)
    pattern = int(bits(array.reshape(1))[0])
    return f"{number(value)} (0x{pattern:0{2 * array.dtype.itemsize}x})"


def place(name: str, index: tuple[int | None, ...]) -> str:
    """ "codes[3, 17]"; None prints as a colon."""
    return f"{name}[{', '.join(':' if i is None else str(i) for i in index)}]"
