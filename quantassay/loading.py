"""How kernels come in: wings through entry points, users' files by path.

Contract: importing a module registers its kernels (`@implements`); nothing else is asked of it. An
import that fails is a LoadError with the reason and the place, never a wing that is silently not
there.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from quantassay.errors import LoadError
from reference.op import Kernel, kernels

GROUP = "quantassay.kernels"
BUILT_IN = {"cupy": "kernels_cupy", "numba": "kernels_numba"}  # as pyproject.toml has them


def load_wings(names: Iterable[str] = ()) -> None:
    """Imports every module of the entry point group, and the built-in wings of a bare checkout.

    names: wings that are wanted; where all of them are entry points, only they are imported.
    Raises LoadError naming the wing whose import fails.
    """
    modules = dict(BUILT_IN)
    for entry in importlib.metadata.entry_points(group=GROUP):
        modules[entry.name] = entry.value
    wanted = set(names)
    if wanted and wanted <= set(modules):
        modules = {wing: target for wing, target in modules.items() if wing in wanted}
    for wing, target in modules.items():
        try:
            importlib.import_module(target.split(":")[0])
        except Exception as error:
            raise LoadError(f"wing {wing} ({target}) cannot be imported: {_last(error)}") from error


def load_file(path: Path) -> list[Kernel]:
    """Runs a Python file; returns the kernels that it registered.

    Triton's and Numba's launches in it run in the emulator on NumPy arrays. Raises LoadError as
    `run_file` does, and for a file that registers nothing.
    """
    from quantassay.frameworks import functions

    before = set(map(id, kernels()))
    functions.run_file(path)
    found = [functions.launching(kernel) for kernel in kernels() if id(kernel) not in before]
    if not found:
        raise LoadError(
            f"--kernels: {path} registers no kernel; decorate a function with "
            "@quantassay.implements(op, wing=...), or name one with --function"
        )
    return found


def run_file(path: Path) -> ModuleType:
    """Runs a Python file as a module of its own; returns the module.

    Raises LoadError for a file that is not there or fails. The file's folder is importable while it
    loads.
    """
    if not path.is_file():
        raise LoadError(f"--kernels: {path} is not a file")
    where = path.resolve()
    unique = f"_quantassay_{hashlib.sha256(str(where).encode()).hexdigest()[:12]}_{where.stem}"
    spec = importlib.util.spec_from_file_location(unique, where)
    if spec is None or spec.loader is None:
        raise LoadError(f"--kernels: {path} is not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module
    sys.path.append(str(where.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[unique]
        raise LoadError(f"--kernels: {path} fails: {_last(error, where)}") from error
    finally:
        sys.path.remove(str(where.parent))
    return module


def _last(error: BaseException, file: Path | None = None) -> str:
    """The error's type and message, and the last line of `file` on its way."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} (line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file is not None and frame.filename == str(file)]
    line = f" (line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{line}"
