"""quantassay: is this quantization kernel right, bit for bit, and in which dialect?

What users import: `implements` registers a kernel, `register` an op; `check_kernel` and
`run_checks` prove kernels against the oracle; `Dialect` and `dialect` say what "right" means.
Names are loaded when they are first used, so that importing the package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantassay.engine import CheckResult, check_kernel, run_checks
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
    "Kernel",
    "Op",
    "Recipe",
    "check_kernel",
    "dialect",
    "get_op",
    "implements",
    "kernels",
    "recipe",
    "register",
    "run_checks",
]
_ENGINE = {"CheckResult", "check_kernel", "run_checks"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'quantassay' has no attribute {name!r}")
    return getattr(
        importlib.import_module("quantassay.engine" if name in _ENGINE else "reference"), name
    )


def __dir__() -> list[str]:
    return sorted(__all__)
