"""Where a call runs: NumPy arrays in the emulator, CUDA arrays on the GPU, nothing in between.

Contract: one rule for both wings, applied before any other check, so that an array which cannot
be used here is named as such and never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def is_cuda_array(value: Any) -> bool:
    return hasattr(value, "__cuda_array_interface__")


def on_gpu(arrays: Mapping[str, Any], gpu_problem: Callable[[], str]) -> bool:
    """Whether these arguments (by name; None = not given) are CUDA arrays.

    `gpu_problem()` says why no GPU can be used, "" if one can; it is asked only when needed.
    Raises TypeError for anything but NumPy and CUDA arrays and for a mixture of them (naming one
    of each), RuntimeError for a CUDA array where no GPU is usable.
    """
    host = [name for name, value in arrays.items() if isinstance(value, np.ndarray)]
    cuda = [name for name, value in arrays.items() if is_cuda_array(value)]
    for name, value in arrays.items():
        if value is not None and name not in host and name not in cuda:
            raise TypeError(
                f"{name}: got {type(value).__name__}; allowed: a NumPy array (runs in the "
                "emulator) or a CUDA array (runs on the GPU)"
            )
    if host and cuda:
        raise TypeError(
            f"{cuda[0]} is a CUDA array but {host[0]} is a NumPy array; "
            "allowed: all arguments of one kind"
        )
    if cuda:
        problem = gpu_problem()
        if problem:
            raise RuntimeError(
                f"{cuda[0]} is a CUDA array, but no GPU is usable here: {problem}; "
                "NumPy arrays run in the emulator"
            )
    return bool(cuda)
