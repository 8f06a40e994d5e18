"""quantassay: is this quantization kernel right, bit for bit, and in which dialect?

What users import: `implements` registers a kernel, `register` an op; `check_kernel` and
`run_checks` prove kernels against the oracle; `Dialect` and `dialect` say what "right" means;
`DynamicQuantLinear`, `StaticQuantLinear` and `WeightOnlyLinear` are layers made of the ops.
Names are loaded when they are first used, so that importing the package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantassay.engine import CheckResult, check_kernel, run_checks
    from quantassay.frameworks import check_function, emulated
    from quantassay.linear import DynamicQuantLinear, StaticQuantLinear, WeightOnlyLinear
    from reference import (
        Arg,
        Dialect,
        Kernel,
        Op,
        Recipe,
        dialect,
        get_op,
        implements,
        kernels,
        recipe,
        register,
    )

__all__ = [
    "Arg",
    "CheckResult",
    "Dialect",
    "DynamicQuantLinear",
    "Kernel",
    "Op",
    "Recipe",
    "StaticQuantLinear",
    "WeightOnlyLinear",
    "check_function",
    "check_kernel",
    "dialect",
    "emulated",
    "get_op",
    "implements",
    "kernels",
    "recipe",
    "register",
    "run_checks",
]
_MODULES = {
    "quantassay.frameworks": ("check_function", "emulated"),
    "quantassay.engine": ("CheckResult", "check_kernel", "run_checks"),
    "quantassay.linear": ("DynamicQuantLinear", "StaticQuantLinear", "WeightOnlyLinear"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'quantassay' has no attribute {name!r}")
    module = next((path for path, names in _MODULES.items() if name in names), "reference")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
