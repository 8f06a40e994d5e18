"""A user's function as a kernel: which framework it is written in, how it is given its arrays.

Contract: the function takes the op's inputs in their order and returns its outputs; options that it
takes by keyword are passed. It need not import quantassay.

| framework | what it is given | what it runs on |
|---|---|---|
| numpy | NumPy arrays | NumPy |
| torch | CPU tensors over the same memory | torch |
| numba | NumPy arrays | `kernel[grid, block]` in the emulator |
| triton | CPU tensors if its file imports torch, else NumPy arrays | `kernel[grid]` likewise |

NaN outputs of numpy and torch on the CPU get the bits that a GPU gives a NaN: a host has others.
On a GPU (device "gpu") it is given CuPy arrays or CUDA tensors and nothing is emulated. The
framework is seen from what the function's file imports: triton before numba, torch, numpy.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from quantassay import loading
from quantassay.errors import LoadError, UsageError
from reference.arguments import check_kind, check_list, check_names
from reference.numerics import NAMES, NAN_BITS, canonical_nan
from reference.op import Kernel, adopt, as_tuple, get_op

if TYPE_CHECKING:
    from quantassay.results import CheckResult

FRAMEWORKS = ("triton", "numba", "torch", "numpy")  # in the order in which they are looked for
UNLINKED = ("bf16",)  # numba's bf16 functions are linked in by the driver: not in its PTX
LAUNCHERS = {
    "triton": "quantassay.frameworks.triton_jit",
    "numba": "quantassay.frameworks.numba_cuda",
}
Function = Callable[..., Any]
Options = Sequence[tuple[str, tuple[str, ...]]]


@contextmanager
def emulated(
    framework: str | None = None, *, torch: bool | None = None, arch: int = 80
) -> Iterator[None]:
    """Inside, launches of a framework's kernels run in the emulator on NumPy arrays or CPU tensors.

    framework: one of FRAMEWORKS; None: triton and numba, as far as they are imported already.
    torch: whether torch's host code may speak of CUDA devices (quantassay/frameworks/
    torch_tensors.py); None: where torch is imported. arch: what Triton compiles for, 80 or 90.
    Raises UsageError for another framework or target.
    """
    if torch is not None:
        check_kind("torch", torch, bool, "True, False or None")
    both = [name for name in ("triton", "numba") if name in sys.modules]
    names = both if framework is None else [_framework(framework)]
    pretend = "torch" in sys.modules if torch is None else torch
    with ExitStack() as stack:
        for name in names:
            if name in LAUNCHERS:
                launcher = _launcher(name)
                stack.enter_context(
                    launcher.emulated(arch) if name == "triton" else launcher.emulated()
                )
        if pretend:
            from quantassay.frameworks import torch_tensors

            stack.enter_context(torch_tensors.pretending(tracked="triton" in names))
        yield


def kernel_of(
    function: Function,
    op: str,
    dialects: Sequence[str] = (),
    *,
    framework: str | None = None,
    dtypes: Sequence[str] = (),
    options: Options = (),
) -> Kernel:
    """The function as a kernel that the engine can check.

    dialects: those that it speaks; none: all of the op's. framework: one of FRAMEWORKS; None: as
    its file imports. dtypes, options: input dtypes and option values that it takes, if not all
    (numba: all but bf16, whose functions numba links from a library that is no PTX).
    Raises UsageError for what is unknown or not installed, ValueError for an unknown op.
    """
    check_names("dtypes", dtypes)
    check_list("options", options, tuple, "(name, values)")
    for pair in options:
        check_names("options", pair[1] if len(pair) == 2 else None)
    declared, name = get_op(op), getattr(function, "__name__", type(function).__name__)
    used = _imported(function)
    chosen = _framework(framework or _first(used))
    _refuse_device_code(function, name)
    _listed("dtype", dtypes, declared.dtypes, op)
    known = declared.options.get("dialect", ())
    spoken = tuple(dialects) or known
    _listed("dialect", spoken, known, op)
    if chosen == "numba" and not dtypes:
        dtypes = [name for name in declared.dtypes if name not in UNLINKED]
    tensors = chosen == "torch" or (chosen == "triton" and "torch" in used)
    _need(chosen, tensors)
    adapted = _adapted(function, chosen, tensors=tensors)
    return Kernel(op, chosen, name, spoken, adapted, tuple(dtypes), tuple(options))


def check_function(
    function: Function,
    op: str,
    dialect: str,
    *,
    framework: str | None = None,
    dtypes: Sequence[str] = (),
    options: Options = (),
    **check: Any,
) -> CheckResult:
    """Checks a function in one dialect, as `quantassay check --function` does.

    check: examples, seed, sweep and device of `check_kernel`. Raises UsageError as `kernel_of` and
    `check_kernel` do.
    """
    from quantassay.engine import check_kernel

    more: dict[str, Any] = {"framework": framework, "dtypes": dtypes, "options": options}
    return check_kernel(kernel_of(function, op, [dialect], **more), dialect, **check)


def load_function(
    path: Path,
    name: str,
    op: str,
    dialects: Sequence[str] = (),
    *,
    framework: str | None = None,
    dtypes: Sequence[str] = (),
    options: Options = (),
) -> Kernel:
    """The function called `name` of a Python file, as a kernel; `kernel_of` says the rest.

    Raises LoadError for a file that cannot be run or has no such function, UsageError as
    `kernel_of` does.
    """
    chosen = _framework(framework or _first(_imports(path)))
    module = run_file(path)
    function = getattr(module, name, None)
    if not callable(function):
        there = [
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", "") == module.__name__
        ]
        raise LoadError(f"--function: {path} has no {name!r}; it has: {', '.join(there) or 'none'}")
    more: dict[str, Any] = {"dtypes": dtypes, "options": options}
    return kernel_of(function, op, dialects, framework=chosen, **more)


def run_file(path: Path) -> ModuleType:
    """As loading.run_file; a file may ask for devices, or compile kernels, when it is run.

    Where a framework is missing, the file's own import statement says so.
    """
    used = _imports(path)
    with ExitStack() as stack:
        try:
            stack.enter_context(emulated(_first(used), torch="torch" in used))
        except (ImportError, UsageError):
            stack.close()
        return loading.run_file(path)


def launching(kernel: Kernel) -> Kernel:
    """A registered kernel; if its file launches Triton or Numba kernels, they run in the emulator
    where its arrays are NumPy's."""
    used = _imported(kernel.function)
    framework = _first(used)
    if framework not in LAUNCHERS:
        return kernel
    function = kernel.function

    @functools.wraps(function)
    def call(*arrays: Any, **options: Any) -> Any:
        if _on_gpu(arrays):
            return function(*arrays, **options)
        with emulated(framework, torch="torch" in used):
            return function(*arrays, **options)

    return adopt(replace(kernel, function=call))


def _need(framework: str, tensors: bool) -> None:
    """Imports what a function of this framework needs; UsageError for what is missing."""
    if framework in LAUNCHERS:
        _launcher(framework)
    if tensors:
        from quantassay.frameworks import torch_tensors

        torch_tensors.module()


def _launcher(framework: str) -> ModuleType:
    try:
        return importlib.import_module(LAUNCHERS[framework])
    except ImportError as error:
        raise UsageError(
            f"framework: got {framework!r}, which cannot be imported ({error}); install "
            f"quantassay[{'frameworks' if framework == 'triton' else 'cuda13'}]"
        ) from error


def _framework(name: str) -> str:
    if name not in FRAMEWORKS:
        raise UsageError(f"framework: got {name!r}; allowed: {', '.join(FRAMEWORKS)}")
    return name


def _first(used: set[str]) -> str:
    return next((name for name in FRAMEWORKS if name in used), "numpy")


def _imports(path: Path) -> set[str]:
    """Which of the frameworks a file imports, before it is run."""
    try:
        text = path.read_text()
        tree = ast.parse(text)
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError):
        return set()  # run_file says what is wrong
    found = {one.name for n in ast.walk(tree) if isinstance(n, ast.Import) for one in n.names}
    found |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    names = {name.partition(".")[0] for name in found} & set(FRAMEWORKS)
    return names if "cuda" in text else names - {"numba"}  # numba for the CPU is Python to us


def _imported(function: Function) -> set[str]:
    """Which of the frameworks the names in a function's file come from."""
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    inner = inspect.unwrap(getattr(inner, "__func__", inner))
    home = getattr(inner, "__module__", None) or type(inner).__module__
    module = vars(sys.modules[home]) if home in sys.modules else {}
    names = getattr(inner, "__globals__", module)
    found = set()
    for value in list(names.values()):
        origin = value.__name__ if isinstance(value, ModuleType) else type(value).__module__
        package, _, rest = str(origin).partition(".")
        if package != "numba" or rest.startswith("cuda"):
            found.add(package)
    return found & set(FRAMEWORKS)


def _refuse_device_code(function: Function, name: str) -> None:
    origin = type(function).__module__.partition(".")[0]
    if origin in ("triton", "numba"):
        raise UsageError(
            f"function: {name} is a {origin} kernel; allowed: the Python function that launches "
            "it, which takes the op's inputs and returns its outputs"
        )


def _listed(what: str, given: Sequence[str], known: Sequence[str], op: str) -> None:
    for name in given:
        if name not in known:
            raise UsageError(f"{what}: got {name!r}; allowed for {op}: {', '.join(known)}")


def _adapted(function: Function, framework: str, *, tensors: bool) -> Function:
    """The function between arrays of ours and what its framework takes."""

    @functools.wraps(function)
    def call(*arrays: Any, **options: Any) -> Any:
        on_gpu = _on_gpu(arrays)
        with ExitStack() as stack:
            if not on_gpu:
                stack.enter_context(emulated(framework, torch=tensors))
            result = _called(function, arrays, options, tensors)
        emulates = framework in LAUNCHERS or on_gpu
        return result if emulates else tuple(map(_as_on_a_gpu, as_tuple(result)))

    return call


def _on_gpu(arrays: Sequence[Any]) -> bool:
    return any(hasattr(one, "__cuda_array_interface__") for one in arrays)


def _called(function: Function, arrays: Any, options: dict[str, Any], tensors: bool) -> Any:
    if not tensors:
        return _plain(function(*arrays, **options))
    from quantassay.frameworks.torch_tensors import to_numpy, to_tensor

    result = function(*map(to_tensor, arrays), **options)
    return tuple(map(to_numpy, as_tuple(_plain(result))))


def _as_on_a_gpu(result: Any) -> Any:
    """A float array with NaN of canonical bits."""
    floats = isinstance(result, np.ndarray) and NAMES.get(result.dtype, "") in NAN_BITS
    return canonical_nan(result) if floats else result


def _plain(result: Any) -> Any:
    return tuple(result) if isinstance(result, list) else result
