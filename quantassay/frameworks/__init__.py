"""Anybody's kernels with no GPU: Triton, Numba CUDA, torch and NumPy functions, as they are.

`load_function` takes a function out of a file, `check_function` checks one that is at hand,
`emulated` is the context in which launches run in the emulator. Names are loaded when they are
first used: neither torch nor triton nor numba is imported unless a file needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantassay.frameworks.approximations import approximations
    from quantassay.frameworks.functions import (
        FRAMEWORKS,
        check_function,
        emulated,
        kernel_of,
        load_function,
    )

__all__ = [
    "FRAMEWORKS",
    "approximations",
    "check_function",
    "emulated",
    "kernel_of",
    "load_function",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'quantassay.frameworks' has no attribute {name!r}")
    module = "approximations" if name == "approximations" else "functions"
    return getattr(importlib.import_module(f"quantassay.frameworks.{module}"), name)
