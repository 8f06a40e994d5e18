"""Static audit: what ptxas made of the CUDA C++ kernels, read from their CUBINs. Needs no GPU.

Contract: `audit(archs)` compiles the CuPy wing's catalogue to CUBINs and gives one AuditRow per
kernel and arch; `problems(row)` says in words where a row is not what its source was written for.
LDL and STL count spills and local arrays alike: there are to be none.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from kernels_cupy.catalogue import catalogue
from kernels_cupy.compile import ARCHS, cubin
from kernels_cupy.configuration import Configuration
from roofline.sass import TENSOR, Instruction, Loop, disassemble, find_loops


@dataclass(frozen=True)
class AuditRow:
    """What one kernel became on one arch."""

    op: str
    variant: str
    kernel: str
    dialect: str
    path: str
    defines: Mapping[str, int]
    arch: str
    registers: int
    stack_bytes: int
    shared_bytes: int
    instructions: int
    local_loads: int
    local_stores: int
    loads: Mapping[str, int]  # "LDG.128" -> instructions; LDGSTS: cp.async
    stores: Mapping[str, int]
    tensor: Mapping[str, int]  # "IMMA.16832.S8.S8" -> instructions
    ldmatrix: int
    slow_calls: int  # calls of out-of-line code: division's slow path
    loops: tuple[Loop, ...]
    cubin_sha256: str

    @property
    def name(self) -> str:
        words = self.kernel, self.dialect, self.path, self.arch
        return " ".join(word for word in words if word)

    @property
    def wide(self) -> bool:
        """Whether this is a kernel's path of 16-byte accesses."""
        if "COPY" in self.defines:
            return self.defines["COPY"] == 16
        itemsize = 4 if self.op == "int8.epilogue" or self.path.startswith("fp32") else 2
        return self.defines["VECTOR"] * itemsize == 16

    @property
    def hot_loop(self) -> Loop | None:
        """The innermost loop that does most: tensor instructions, else dp4a, else bytes.

        A loop with calls (groups whose scale is out of the ordinary) comes after one without.
        """
        return max(
            (loop for loop in self.loops if loop.innermost),
            key=lambda loop: (
                loop.tensor,
                loop.dp4a,
                -loop.calls,
                loop.load_bytes + loop.store_bytes,
                loop.issue_slots,
            ),
            default=None,
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def audit(
    archs: Sequence[str] = ARCHS, configurations: Iterable[Configuration] | None = None
) -> list[AuditRow]:
    """One row per configuration (default: the wing's representative ones) and arch."""
    chosen = list(catalogue() if configurations is None else configurations)
    jobs = [(configuration, arch) for arch in archs for configuration in chosen]
    binaries = [cubin(c.source, c.defines, arch) for c, arch in jobs]
    with ThreadPoolExecutor() as pool:  # nvdisasm runs outside Python
        list(pool.map(disassemble, dict.fromkeys(binaries)))
    return [_row(c, arch, data) for (c, arch), data in zip(jobs, binaries, strict=True)]


def _row(configuration: Configuration, arch: str, data: bytes) -> AuditRow:
    function = disassemble(data)[configuration.kernel]
    roots = Counter(instruction.root for instruction in function.code)
    return AuditRow(
        op=configuration.op,
        variant=configuration.variant,
        kernel=configuration.kernel,
        dialect=configuration.dialect,
        path=configuration.path,
        defines=dict(configuration.defines),
        arch=arch,
        registers=function.registers,
        stack_bytes=function.stack_bytes,
        shared_bytes=function.shared_bytes,
        instructions=len(function.code),
        local_loads=roots["LDL"],
        local_stores=roots["STL"],
        loads=_by_width(function.code, ("LDG", "LDGSTS")),
        stores=_by_width(function.code, ("STG",)),
        tensor=dict(Counter(i.opcode for i in function.code if i.root in TENSOR)),
        ldmatrix=roots["LDSM"],
        slow_calls=sum(i.calls for i in function.code),
        loops=find_loops(function),
        cubin_sha256=hashlib.sha256(data).hexdigest(),
    )


def _by_width(code: Iterable[Instruction], roots: tuple[str, ...]) -> dict[str, int]:
    return dict(Counter(f"{i.root}.{8 * i.width}" for i in code if i.root in roots))


def problems(row: AuditRow) -> list[str]:
    """Where the compiler did not do what the source was written for; empty if it did."""
    found = []
    if row.local_loads or row.local_stores or row.stack_bytes:
        spills = f"{row.local_loads} LDL, {row.local_stores} STL, {row.stack_bytes} B of stack"
        found.append(f"registers spill: {spills}")
    if row.wide and not any(name.endswith(".128") for name in (*row.loads, *row.stores)):
        found.append(f"no 128-bit access: {dict(row.loads)}, {dict(row.stores)}")
    piped = "_pipeline" in row.kernel or "_split_k" in row.kernel
    if piped or row.kernel.endswith("_mma"):
        if not any(name.startswith("IMMA") for name in row.tensor):
            found.append("no tensor instruction (IMMA)")
        if not row.ldmatrix:
            found.append("no LDSM")
    copied = any(name.startswith("LDGSTS") for name in row.loads)
    if piped and row.defines["COPY"] > 1 and not copied:
        found.append("no asynchronous copy (LDGSTS)")
    return [f"{row.name}: {words}" for words in found]


def table(rows: Iterable[AuditRow]) -> str:
    """The rows as a Markdown table."""
    heads = (
        "kernel",
        "arch",
        "registers",
        "stack",
        "shared",
        "widest",
        "tensor",
        "hot loop: slots",
    )
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows:
        hot, tensor = row.hot_loop, sum(row.tensor.values())
        widest = max((*row.loads, *row.stores), key=lambda name: int(name.split(".")[1]))
        cells = (row.name.removesuffix(f" {row.arch}"), row.arch, row.registers, row.stack_bytes)
        shown = (*cells, row.shared_bytes, widest, tensor, hot.issue_slots if hot else "-")
        lines.append(f"| {' | '.join(map(str, shown))} |")
    return "\n".join(lines)
