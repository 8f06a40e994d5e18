"""Triton kernels of somebody else's file -> PTX for a chosen architecture, without a GPU.

Contract: `functions(path)` gives the @triton.jit functions of a Python file and nothing else of it:
the file is not imported (tutorials ask for a GPU and run benchmarks when they are). Their
decorators but `triton.jit` (autotuners, heuristics) are dropped, and what they name at module level
is kept where it is a constant or an import of triton itself. `build(...)` compiles one of them and
returns a Built, whose `launch` runs it on the emulator.

What Triton adds to a kernel's parameters (3.2 to 3.9): arguments that are constants, or integers
declared as 1, are left out; then come pointers to global scratch and profile scratch memory, null
where the kernel asks for none. A block has 32 * num_warps threads (more where warp
specialisation adds warps; .reqntid says so); all shared memory is dynamic, of the metadata's size.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import emulator

PREAMBLE = """import math
import triton
import triton.language as tl
from triton.language.extra import libdevice
"""


def _is_jit(function: ast.FunctionDef) -> bool:
    names = [ast.unparse(decorator).split("(")[0] for decorator in function.decorator_list]
    return any(name in ("triton.jit", "jit") for name in names)


def _constant(node: ast.stmt) -> bool:
    """NAME = a literal, or tl.constexpr(...) of one."""
    if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
        return False
    value: ast.expr = node.value
    if isinstance(value, ast.Call) and ast.unparse(value.func) in ("tl.constexpr", "constexpr"):
        value = value.args[0] if value.args else value
    try:
        ast.literal_eval(value)
    except ValueError:
        return False
    return True


@cache
def functions(path: Path) -> ModuleType:
    """A module that holds the file's kernels."""
    tree = ast.parse(path.read_text())
    kept: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and _is_jit(node):
            node.decorator_list = [ast.parse("triton.jit", mode="eval").body]
            kept.append(ast.unparse(node))
    constants = [ast.unparse(node) for node in tree.body if _constant(node)]
    folder = Path(tempfile.mkdtemp(prefix="foreign-triton-"))
    name = re.sub(r"\W", "_", path.stem)
    copy = folder / f"foreign_{name}.py"
    copy.write_text("\n\n".join([PREAMBLE, *constants, *kept]) + "\n")
    spec = importlib.util.spec_from_file_location(copy.stem, copy)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Built:
    """A compiled Triton kernel: PTX and what a launch of it needs."""

    ptx: str
    name: str
    block: int
    shared: int
    hidden: int  # pointers behind the kernel's own arguments

    def opcodes(self) -> dict[str, int]:
        """Every opcode of the text, and how often it stands there."""
        found: dict[str, int] = {}
        for opcode in re.findall(r"^\s*(?:@!?%\w+\s+)?([a-z][\w.:]+)\s", self.ptx, re.M):
            found[opcode] = found.get(opcode, 0) + 1
        return found

    def launch(self, grid: Any, args: Sequence[Any], **options: Any) -> emulator.Stats:
        module = emulator.compile(self.ptx, approximate=allowed(self.ptx))
        everything = [*args, *[None] * self.hidden]
        kernel = module.kernel(self.name)
        return kernel.launch(grid, self.block, everything, shared_bytes=self.shared, **options)


def allowed(ptx: str) -> tuple[str, ...]:
    """The opcodes of a text whose bits PTX leaves open."""
    found = set(re.findall(r"\b([a-z0-9]+(?:\.[\w:]+)*\.(?:approx|full)(?:\.\w+)*)\b", ptx))
    found |= set(re.findall(r"\b(mma\.sync\.[\w.:]+\.(?:f16|bf16|tf32)\.[\w.:]+)", ptx))
    found |= set(re.findall(r"\b(wgmma\.mma_async\.[\w.:]+)", ptx))
    return tuple(sorted(found))


def build(
    function: Any,
    signature: Mapping[str, str],
    constants: Mapping[str, Any],
    arch: int,
    *,
    warps: int = 4,
    stages: int = 2,
    aligned: Sequence[str] = (),
) -> Built:
    """Compile a kernel. signature: Triton types by argument ("*fp16", "i32", "fp32").

    aligned: arguments that are multiples of 16 (pointers: their addresses).
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    full = {name: signature.get(name, "constexpr") for name in function.arg_names}
    place = {name: (i,) for i, name in enumerate(function.arg_names)}
    attributes = {place[name]: [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(function, full, dict(constants), attributes)
    options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": False}
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    ptx = compiled.asm["ptx"]
    name = compiled.metadata.name
    module = emulator.ptx.parse(ptx)
    entry = module.entries[name]
    threads = re.search(r"\.reqntid\s+(\d+)", entry.directives)
    own = sum(1 for kind in full.values() if kind != "constexpr")
    return Built(
        ptx=ptx,
        name=name,
        block=int(threads.group(1)) if threads else 32 * warps,
        shared=compiled.metadata.shared,
        hidden=len(entry.params) - own,
    )
