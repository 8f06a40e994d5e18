"""CUBINs read without a GPU: a kernel's resources, its SASS instructions and its loops.

Contract: registers, stack and shared memory come from the ELF file itself (.nv.info and section
sizes); instructions from nvdisasm's text. A loop is a natural loop of the control flow graph; its
issue slots are the instructions of its body: what a warp issues that goes round once along every
path in it.

nvdisasm: the PyPI package nvidia-cuda-nvdisasm, or one on PATH.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

# .nv.info attributes: (symbol index, value) pairs of 32 bits, one per function.
_FRAME_SIZE, _REGCOUNT = 0x11, 0x2F
_INFO_SIZED = 0x04
_INSTRUCTION = re.compile(
    r"^\s+/\*([0-9a-f]+)\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z]\w*(?:\.\w+)*)\s*(.*?)\s*;"
)
_LABEL = re.compile(r"^(\.L\w+):")
_TARGET = re.compile(r"`\((\.L\w+)\)")
TENSOR = ("IMMA", "HMMA", "BMMA", "DMMA", "QMMA", "IGMMA", "HGMMA", "QGMMA", "BGMMA")
_BRANCHES = ("BRA", "JMP", "CALL")
_WIDTHS = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}


@dataclass(frozen=True)
class Instruction:
    """One SASS instruction: address, predicate ("" or "@!P0"), opcode with modifiers, operands."""

    address: int
    predicate: str
    opcode: str
    operands: str

    @property
    def root(self) -> str:
        return self.opcode.partition(".")[0]

    @property
    def calls(self) -> bool:
        """Whether it calls a function: a CALL of a local label is a branch."""
        return self.root == "CALL" and not _TARGET.search(self.operands)

    @property
    def width(self) -> int:
        """Bytes per thread of a memory access."""
        parts = self.opcode.split(".")
        return next((size for word, size in _WIDTHS.items() if word in parts), 4)


@dataclass(frozen=True)
class Loop:
    """A natural loop. Bytes are those that one thread loads and stores in global memory."""

    start: int  # address of its header
    issue_slots: int
    load_bytes: int
    store_bytes: int
    tensor: int
    dp4a: int
    calls: int  # of out-of-line code: division's slow path
    innermost: bool


@dataclass(frozen=True)
class Function:
    """A kernel in a CUBIN: resources from the ELF, code from nvdisasm."""

    registers: int
    stack_bytes: int
    shared_bytes: int
    code: tuple[Instruction, ...]
    labels: Mapping[str, int]


@cache
def find_nvdisasm() -> str:
    """Path of nvdisasm: a wheel's on sys.path, else PATH's. Raises FileNotFoundError."""
    for folder in sys.path:
        for found in Path(folder or ".").glob("nvidia/*/bin/nvdisasm"):
            return str(found)
    on_path = shutil.which("nvdisasm")
    if on_path is None:
        raise FileNotFoundError("nvdisasm: install nvidia-cuda-nvdisasm, or put it on PATH")
    return on_path


@cache
def disassemble(data: bytes) -> Mapping[str, Function]:
    """The kernels of a CUBIN by name. Raises RuntimeError with nvdisasm's words if it refuses."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(data)
        file.flush()
        command = [find_nvdisasm(), "--print-code", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"nvdisasm: {done.stderr.strip()}")
    resources = read_resources(data)
    texts = re.split(r"^\s*\.section\s+\.text\.(\w+),.*$", done.stdout, flags=re.M)[1:]
    listings = dict(zip(texts[::2], texts[1::2], strict=True))
    return {name: Function(*resources[name], *_parse(listings[name])) for name in resources}


def _parse(listing: str) -> tuple[tuple[Instruction, ...], dict[str, int]]:
    """Instructions, without the padding after the last one; label -> address."""
    code: list[Instruction] = []
    pending: list[str] = []
    labels: dict[str, int] = {}
    for line in listing.splitlines():
        label = _LABEL.match(line)
        if label:
            pending.append(label[1])
            continue
        found = _INSTRUCTION.match(line)
        if found:
            address = int(found[1], 16)
            code.append(Instruction(address, found[2] or "", found[3], found[4]))
            labels.update(dict.fromkeys(pending, address))
            pending = []
    while code and (code[-1].root == "NOP" or _jumps_to_itself(code[-1], labels)):
        code.pop()
    return tuple(code), labels


def _jumps_to_itself(instruction: Instruction, labels: Mapping[str, int]) -> bool:
    target = _TARGET.search(instruction.operands)
    return bool(target) and labels.get(target[1]) == instruction.address  # type: ignore[index]


def read_resources(data: bytes) -> dict[str, tuple[int, int, int]]:
    """kernel -> (registers, stack bytes, shared bytes) from a CUBIN's ELF sections."""
    sections = _sections(data)
    symbols = _symbols(sections)
    registers: dict[str, int] = {}
    frames: dict[str, int] = {}
    _, info, _ = sections[".nv.info"]
    at = 0
    while at + 4 <= len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        at += 4
        if form != _INFO_SIZED:
            continue
        if attribute in (_FRAME_SIZE, _REGCOUNT):
            symbol, value = struct.unpack_from("<II", info, at)
            (registers if attribute == _REGCOUNT else frames)[symbols[symbol]] = value
        at += size
    kernels = [name.removeprefix(".text.") for name in sections if name.startswith(".text.")]
    return {
        name: (registers[name], frames.get(name, 0), sections.get(f".nv.shared.{name}", (0,))[0])
        for name in kernels
    }


def _sections(data: bytes) -> dict[str, tuple[Any, ...]]:
    """Name -> (size, bytes, header index) of a 64-bit little-endian ELF file."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"cubin: got {data[:6]!r}...; allowed: a 64-bit little-endian ELF file")
    (start,) = struct.unpack_from("<Q", data, 0x28)
    entry, count, names = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, start + i * entry) for i in range(count)]
    text = data[headers[names][4] :]
    found = {}
    for index, (name, kind, _, _, offset, size, *_) in enumerate(headers):
        body = b"" if kind == 8 else data[offset : offset + size]  # 8: SHT_NOBITS
        found[text[name : text.index(b"\0", name)].decode()] = (size, body, index)
    return found


def _symbols(sections: Mapping[str, tuple[Any, ...]]) -> list[str]:
    table, names = sections[".symtab"][1], sections[".strtab"][1]
    starts = [struct.unpack_from("<I", table, at)[0] for at in range(0, len(table), 24)]
    return [names[start : names.index(b"\0", start)].decode() for start in starts]


# ---- loops


def find_loops(function: Function) -> tuple[Loop, ...]:
    """The natural loops of a kernel's control flow graph, in address order of their headers."""
    blocks, edges = _flow(function)
    dominators = _dominators(len(blocks), edges)
    bodies: dict[int, set[int]] = {}
    for block, successors in edges.items():
        for header in successors:
            if header in dominators[block]:
                bodies.setdefault(header, {header}).update(_reaching(block, header, edges))
    return tuple(
        _loop(
            [instruction for number in sorted(body) for instruction in blocks[number]],
            blocks[header][0].address,
            not any(other < body for other in bodies.values()),
        )
        for header, body in sorted(bodies.items())
    )


def _loop(code: Sequence[Instruction], start: int, innermost: bool) -> Loop:
    return Loop(
        start=start,
        issue_slots=len(code),
        load_bytes=sum(i.width for i in code if i.root in ("LDG", "LDGSTS")),
        store_bytes=sum(i.width for i in code if i.root == "STG"),
        tensor=sum(i.root in TENSOR for i in code),
        dp4a=sum(i.root == "IDP" for i in code),
        calls=sum(i.calls for i in code),
        innermost=innermost,
    )


def _flow(function: Function) -> tuple[list[list[Instruction]], dict[int, list[int]]]:
    """Basic blocks and their successors. A call comes back; BSYNC goes to its BSSY's label."""
    code, labels = function.code, function.labels
    targets = _targets(code, labels)
    starts = {code[0].address, *(address for found in targets.values() for address in found)}
    starts |= {b.address for a, b in pairwise(code) if _ends(a)}
    blocks: list[list[Instruction]] = []
    for instruction in code:
        if instruction.address in starts:
            blocks.append([])
        blocks[-1].append(instruction)
    number = {block[0].address: index for index, block in enumerate(blocks)}
    edges: dict[int, list[int]] = {}
    for index, block in enumerate(blocks):
        last = block[-1]
        after = [number[address] for address in targets.get(last.address, ()) if address in number]
        if not _leaves(last) and index + 1 < len(blocks):
            after.append(index + 1)
        edges[index] = after
    return blocks, edges


def _targets(code: Iterable[Instruction], labels: Mapping[str, int]) -> dict[int, list[int]]:
    """Address of a branch or BSYNC -> where it may go."""
    found: dict[int, list[int]] = {}
    meeting: dict[str, int] = {}  # barrier register -> address after the BSYNC
    for instruction in code:
        named = [labels[name] for name in _TARGET.findall(instruction.operands) if name in labels]
        if instruction.root == "BSSY" and named:
            meeting[instruction.operands.split(",")[0]] = named[0]
        elif instruction.root == "BSYNC" and instruction.operands in meeting:
            found[instruction.address] = [meeting[instruction.operands]]
        elif instruction.root in _BRANCHES and named:  # ptxas also writes branches as CALL
            found[instruction.address] = named
    return found


def _ends(instruction: Instruction) -> bool:
    return instruction.root in ("BRA", "JMP", "EXIT", "RET", "BSYNC", "BRX") or (
        instruction.root == "CALL" and not instruction.calls
    )


def _leaves(instruction: Instruction) -> bool:
    """Whether control never falls through to the next instruction."""
    always = not instruction.predicate and not re.match(r"!?U?P\d", instruction.operands)
    return always and _ends(instruction)


def _dominators(count: int, edges: Mapping[int, list[int]]) -> list[set[int]]:
    before: list[list[int]] = [[] for _ in range(count)]
    for block, successors in edges.items():
        for successor in successors:
            before[successor].append(block)
    found = [{0}] + [set(range(count)) for _ in range(count - 1)]
    changed = True
    while changed:
        changed = False
        for block in range(1, count):
            sets = [found[p] for p in before[block]]
            new = {block} | (set.intersection(*sets) if sets else set())
            if new != found[block]:
                found[block], changed = new, True
    return found


def _reaching(block: int, header: int, edges: Mapping[int, list[int]]) -> set[int]:
    """Blocks from which `block` is reached without passing `header`, itself included."""
    inside, pending = {header, block}, [block]
    while pending:
        current = pending.pop()
        if current == header:
            continue
        for other, successors in edges.items():
            if current in successors and other not in inside:
                inside.add(other)
                pending.append(other)
    return inside
