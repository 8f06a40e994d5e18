"""LLVM IR text -> machine code, kept on disk between runs.

Contract: `compile_ir(ir)` returns a Compiled whose `address(name)` is the address of a function or
variable of the module; the code lives as long as the object. `load(name)` gives the same from the
cache alone, or None. Few passes run: LLVM's O1 pipeline takes twice as long and its code was not
faster here. No fast-math flag is anywhere: floating point stays as written. The object file goes to
the cache's folder "kernels" (reference/storage.py), named after the hash of the IR, llvmlite's
version, the passes and the CPU with its features; a file that is damaged is not used.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from reference.storage import keep, private_folder

OPTIMISATION = 1  # of the code generator
PASSES = ("always_inliner", "sroa", "instruction_combine", "simplify_cfg")
LLVM_VERSION: int = llvm.llvm_version_info[0]
_MAGIC = b"quantassay object 1\n"


class Compiled:
    """Loaded machine code and its name in the cache; `cached`: it came from disk."""

    def __init__(self, name: str, object_code: bytes, cached: bool) -> None:
        self.name = name
        self.cached = cached
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
        engine.add_object_file(llvm.ObjectFileRef.from_data(object_code))
        engine.finalize_object()
        self._engine = engine

    def address(self, name: str) -> int:
        """Address of a function."""
        return int(self._engine.get_function_address(name))

    def variable(self, name: str) -> int:
        """Address of a global variable."""
        return int(self._engine.get_global_value_address(name))


@lru_cache(maxsize=1)
def _host() -> tuple[str, str, str]:
    """(triple, cpu, features) of this machine."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    triple = llvm.get_process_triple()
    if triple.startswith("x86_64") and not (features.get("f16c") and features.get("fma")):
        raise RuntimeError("the emulator needs an x86-64-v3 processor (F16C and FMA) or AArch64")
    return triple, llvm.get_host_cpu_name(), features.flatten()


def _machine() -> Any:
    triple, cpu, features = _host()
    target = llvm.Target.from_triple(triple)
    return target.create_target_machine(
        cpu=cpu,
        features=features,
        opt=OPTIMISATION,
        jit=True,
        reloc="default",
        codemodel="jitdefault",
    )


def cache_directory() -> Path | None:
    """Where objects are kept, or None if no directory is ours and writable."""
    return private_folder("kernels")


def environment() -> str:
    """What machine code depends on besides the IR."""
    return "\n".join((llvmlite.__version__, str(OPTIMISATION), *PASSES, *_host()))


def read(path: Path) -> bytes | None:
    """What `write` stored; None if it is missing or damaged."""
    try:
        raw = path.read_bytes()
    except OSError:
        return None
    digest, body = raw[len(_MAGIC) : len(_MAGIC) + 32], raw[len(_MAGIC) + 32 :]
    if not raw.startswith(_MAGIC) or hashlib.sha256(body).digest() != digest:
        return None
    return body


def write(path: Path, body: bytes) -> None:
    """Keep `body` with a checksum; where that fails it is compiled again next time."""
    keep(path, _MAGIC + hashlib.sha256(body).digest() + body)


def optimise(ir: str) -> tuple[Any, Any]:
    """(optimised module, target machine). Invalid IR, a bug of the lowering: RuntimeError."""
    machine = _machine()
    module = llvm.parse_assembly(ir)
    module.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options())
    passes = llvm.create_new_module_pass_manager()
    for name in PASSES:
        getattr(passes, f"add_{name}_pass")()
    passes.run(module, builder)
    return module, machine


def compile_ir(ir: str) -> Compiled:
    """Compile, or load from the cache."""
    name = hashlib.sha256(f"{environment()}\n{ir}".encode()).hexdigest()
    known = load(name)
    if known:
        return known
    module, machine = optimise(ir)
    object_code = machine.emit_object(module)
    directory = cache_directory()
    if directory:
        write(directory / f"{name}.o", object_code)
    return Compiled(name, object_code, cached=False)


def load(name: str) -> Compiled | None:
    """Machine code that an earlier compile_ir kept under this name."""
    directory = cache_directory()
    stored = read(directory / f"{name}.o") if directory else None
    return Compiled(name, stored, cached=True) if stored is not None else None
