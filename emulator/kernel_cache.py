"""Compiled kernels kept on disk whole, so that a later process need not read their PTX.

Contract: `load_module` and `load_kernel` give what `store_module` and `store_kernel` kept, or None
where nothing fitting is there: then the caller parses, lowers and stores. A record is named after
the hash of all it depends on: the PTX text, the kernel's name and options, the emulator's own
sources and jit.environment(). It is JSON (tables only; machine code stays in jit's object file,
which the record names), with a checksum, in jit.cache_directory(). A damaged or missing file, or an
object that has gone, counts as nothing; a directory that cannot be written is no error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from emulator import jit, ptx
from emulator.lower import BlockInfo, CompiledKernel, Site, bind

_PLAIN = (  # fields of CompiledKernel that JSON holds as they are
    "name",
    "frame_size",
    "shared_static_size",
    "dynamic_offset",
    "uses_dynamic",
    "params_size",
    "directives",
    "object_name",
)


def _sources() -> str:
    """Hash of the emulator's code: all of it, so that no list can go stale."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


SOURCES = _sources()  # at import: what this process runs, though someone edits a file meanwhile


def module_key(text: str, approximate: Iterable[str] = ()) -> str:
    """Names a module: what it and all its kernels depend on."""
    parts = (SOURCES, jit.environment(), " ".join(sorted(approximate)), text)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _path(key: str, suffix: str, *more: object) -> Path | None:
    directory = jit.cache_directory()
    if directory is None:
        return None
    name = hashlib.sha256("\0".join((key, *map(str, more))).encode()).hexdigest()
    return directory / (name + suffix)


def _read(path: Path | None) -> Any:
    body = jit.read(path) if path else None
    return None if body is None else json.loads(body)


def _write(path: Path | None, record: dict[str, Any]) -> None:
    if path:
        jit.write(path, json.dumps(record, separators=(",", ":")).encode())


def load_module(key: str, text: str) -> tuple[tuple[str, ...], ptx.Module] | None:
    """(names of the kernels, a module that has the variables and nothing else)."""
    record = _read(_path(key, ".module"))
    if record is None:
        return None
    module = ptx.Module(text)
    for name, space, size, align, extern, initial in record["globals"]:
        elements = tuple((width, number, symbol) for width, number, symbol in initial)
        module.globals[name] = ptx.Variable(name, space, size, align, extern, elements)
    ptx.place_globals(module)
    return tuple(record["entries"]), module


def store_module(key: str, module: ptx.Module) -> None:
    """Keep the kernels' names and the variables of a parsed module."""
    variables = [
        (v.name, v.space, v.size, v.align, v.extern, v.initial) for v in module.globals.values()
    ]
    _write(_path(key, ".module"), {"entries": list(module.entries), "globals": variables})


def load_kernel(key: str, name: str, module: ptx.Module, **options: bool) -> CompiledKernel | None:
    """A kernel of this module, its code bound to the module's variables."""
    record = _read(_path(key, ".kernel", name, sorted(options.items())))
    compiled = jit.load(record["object_name"]) if record else None
    if compiled is None:
        return None
    return CompiledKernel(
        step_address=bind(compiled, module),
        sites=_sites(record),
        blocks=[BlockInfo(*block) for block in record["blocks"]],
        params=tuple(ptx.Parameter(*parameter) for parameter in record["params"]),
        cached=True,
        keepalive=(compiled, module),
        **{field: record[field] for field in _PLAIN},
    )


def store_kernel(key: str, kernel: CompiledKernel, **options: bool) -> None:
    """Keep what load_kernel returns."""
    sources, source = _table(site.source for site in kernel.sites)
    opcodes, opcode = _table(site.opcode for site in kernel.sites)
    record = {field: getattr(kernel, field) for field in _PLAIN} | {
        "lines": [site.ptx_line for site in kernel.sites],
        "texts": [site.text for site in kernel.sites],
        "sources": sources,
        "source": source,
        "opcodes": opcodes,
        "opcode": opcode,
        "blocks": kernel.blocks,
        "params": [(p.name, p.offset, p.size, p.align) for p in kernel.params],
    }
    _write(_path(key, ".kernel", kernel.name, sorted(options.items())), record)


def _table(values: Iterable[str]) -> tuple[list[str], list[int]]:
    """(distinct values, index of each value)."""
    known: dict[str, int] = {}
    indices = [known.setdefault(value, len(known)) for value in values]
    return list(known), indices


def _sites(record: dict[str, Any]) -> Sequence[Site]:
    sources, opcodes = record["sources"], record["opcodes"]
    return list(
        map(
            Site,
            record["lines"],
            record["texts"],
            map(sources.__getitem__, record["source"]),
            map(opcodes.__getitem__, record["opcode"]),
        )
    )
