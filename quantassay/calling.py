"""How a kernel function is called, and what to say of the exception that it raises.

Contract: inputs go positionally in the op's declared order (None for an optional one that is
absent), options by keyword where the function takes them. A function that takes no `dialect` must
be registered for exactly one; an option that it does not take stays at the op's first value.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from quantassay.errors import UsageError
from reference.op import Kernel, Op


class Calling:
    """One kernel's calling convention in one dialect. `allowed` narrows the options of cases.

    Raises UsageError where the registration and the function's signature contradict each other.
    """

    def __init__(self, kernel: Kernel, op: Op, dialect: str) -> None:
        if dialect not in kernel.dialects:
            raise UsageError(
                f"dialect: got {dialect!r}; kernel {kernel.label} of {op.name} speaks "
                f"{', '.join(kernel.dialects)}"
            )
        self.function, self.op, self.dialect = kernel.function, op, dialect
        self.taken = {name for name in op.options if _takes(kernel.function, name)}
        if "dialect" in op.options and "dialect" not in self.taken and len(kernel.dialects) != 1:
            raise UsageError(
                f"kernel {kernel.label} of {op.name} takes no dialect= but is registered for "
                f"{', '.join(kernel.dialects)}; name one: "
                f'@implements("{op.name}", wing="{kernel.wing}", dialects=["{dialect}"])'
            )
        self.allowed: dict[str, tuple[str, ...]] = {
            name: values[:1]
            for name, values in op.options.items()
            if name not in self.taken and name != "dialect"
        }

    def __call__(self, arrays: Mapping[str, Any], options: Mapping[str, str]) -> Any:
        """arrays: by input name, as the device takes them."""
        keywords = {name: value for name, value in options.items() if name in self.taken}
        return self.function(*(arrays[arg.name] for arg in self.op.inputs), **keywords)

    def raised(self, error: Exception) -> str:
        """The exception in words, with the line of the kernel's file where it arose."""
        if fault(error):
            return f"the emulator stopped the kernel: {error}"
        if _unsupported(error):
            return f"the emulator cannot run this kernel, right or wrong: {error}"
        return (
            f"the kernel raises {type(error).__name__} on valid input: {error}{self._line(error)}"
        )

    def _line(self, error: Exception) -> str:
        file = (
            inspect.getsourcefile(inspect.unwrap(self.function)) if _pure(self.function) else None
        )
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename == file]
        return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def fault(error: Exception) -> str:
    """The kind of an emulator's finding, such as "RACE"; empty for any other exception."""
    emulator = sys.modules.get("emulator")
    if emulator is None or not isinstance(error, emulator.EmulatorError):
        return ""
    return str(error.kind.name)


def _unsupported(error: Exception) -> bool:
    emulator = sys.modules.get("emulator")
    return emulator is not None and isinstance(error, emulator.UnsupportedPTX)


def _pure(function: Callable[..., Any]) -> bool:
    return inspect.isfunction(inspect.unwrap(function))


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Whether the function takes this keyword. One without a signature is taken to."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return True
    return any(
        (one.name == name and one.kind != one.POSITIONAL_ONLY) or one.kind == one.VAR_KEYWORD
        for one in parameters.values()
    )
