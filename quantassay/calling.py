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
                f"dialect: got {dialect!r}; allowed: {', '.join(kernel.dialects)}, which kernel "
                f"{kernel.label} of {op.name} speaks"
            )
        self.function, self.op, self.dialect = kernel.function, op, dialect
        self.dtypes = _dtypes(kernel, op, dialect)
        self.taken = {name for name in op.options if _takes(kernel.function, name)}
        if "dialect" in op.options and "dialect" not in self.taken and len(kernel.dialects) != 1:
            raise UsageError(
                f"kernel {kernel.label} of {op.name} takes no dialect= but is registered for "
                f"{', '.join(kernel.dialects)}; name one: "
                f'@implements("{op.name}", wing="{kernel.wing}", dialects=["{dialect}"])'
            )
        self.allowed = _allowed(kernel, op, self.taken)
        self.multiples, self.aligned = kernel.multiples, kernel.aligned

    @property
    def narrowed(self) -> dict[str, tuple[str, ...]]:
        """`allowed`, and under "dtype" the input dtypes, where the kernel takes not all; under a
        size's symbol what it must be a multiple of; "shift" where inputs must be aligned."""
        found = {**self.allowed, **({"dtype": self.dtypes} if self.dtypes else {})}
        found |= {symbol: (str(number),) for symbol, number in self.multiples}
        return {**found, "shift": ("0",)} if self.aligned else found

    @property
    def conditions(self) -> tuple[str, ...]:
        """On which inputs alone the kernel is run, in words."""
        found = [f"{symbol} is a multiple of {number}" for symbol, number in self.multiples]
        found += ["inputs start at a 16-byte boundary"] if self.aligned else []
        return (f"run only where {' and '.join(found)}",) if found else ()

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


def _allowed(kernel: Kernel, op: Op, taken: set[str]) -> dict[str, tuple[str, ...]]:
    """The values of options that cases may have, where they are not all of the op's."""
    own = dict(kernel.options)
    for name, values in own.items():
        unknown = [value for value in values if value not in op.options.get(name, ())]
        if unknown or not values:
            raise UsageError(
                f"option: got {name}={', '.join(unknown)} for kernel {kernel.label}; allowed for "
                f"{op.name}: {_listed(op)}"
            )
    found: dict[str, tuple[str, ...]] = {}
    for name, values in op.options.items():
        chosen = own.get(name, values)
        if name != "dialect" and (name not in taken or name in own):
            found[name] = chosen if name in taken else chosen[:1]
    return found


def _listed(op: Op) -> str:
    return "; ".join(f"{name} = {', '.join(values)}" for name, values in op.options.items())


def _dtypes(kernel: Kernel, op: Op, dialect: str) -> tuple[str, ...]:
    """The input dtypes that a kernel restricts itself to, of those that the dialect accepts."""
    known = [dtype for dtype in op.dtypes if op.allows(dtype, dialect)]
    chosen = tuple(dtype for dtype in known if dtype in kernel.dtypes)
    if kernel.dtypes and not chosen:
        raise UsageError(
            f"dtype: got {', '.join(kernel.dtypes)} for kernel {kernel.label}; allowed for "
            f"{op.name} in dialect {dialect}: {', '.join(known)}"
        )
    return chosen


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
