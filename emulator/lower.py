"""Lower a PTX kernel to LLVM IR and compile it: `void step(ptr THREAD, ptr FRAME, ptr CONTEXT)`.

Contract: `compile_kernel(module, name)` returns a CompiledKernel (below). The code does exactly
what PTX says, instruction by instruction; what PTX leaves open is written down in the lower_*.py
file of the instruction. An unknown opcode or modifier raises UnsupportedPTX with its PTX line.

How a kernel runs: `step` enters through a switch on THREAD.resume. Where a thread must wait
(barrier, shuffle, ...) it stores its operands in THREAD.args and returns; layout.py lists who
stores what. Registers that must survive such a return lie in FRAME, all others are SSA values, so
loops without barriers run at native speed. At each basic block a counter in CONTEXT.coverage goes
up by one; a predicated instruction counts as executed with its block. Each entry of a loop costs
one unit of THREAD.fuel. FRAME need not be cleared between blocks.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from emulator import (
    flow,
    jit,
    lower_bits,
    lower_collective,
    lower_convert,
    lower_float,
    lower_integer,
    lower_matrix,
    lower_memory,
    lower_wgmma,
    prelude,
)
from emulator.layout import CONTEXT, THREAD, Yield, offset
from emulator.lowering import LOWERERS, TBAA, Lowering, Modifiers
from emulator.operands import Name
from emulator.program import Instruction, flatten
from emulator.ptx import Module, Parameter, UnsupportedPTX

FAMILIES = (
    lower_bits, lower_collective, lower_convert, lower_float, lower_integer, lower_matrix,
    lower_memory, lower_wgmma,
)  # fmt: skip
_UNSUFFIXED = ("f16", "f16x2", "bf16", "bf16x2", "f32", "f32x2", "f64")


class Site(NamedTuple):
    """One instruction of the kernel; its index in CompiledKernel.sites is THREAD.site."""

    ptx_line: int
    text: str
    source: str
    opcode: str


class BlockInfo(NamedTuple):
    """One basic block: its index in CompiledKernel.blocks is its place in CONTEXT.coverage."""

    ptx_line: int
    histogram: dict[str, int]
    last_line: int


@dataclass(slots=True)
class CompiledKernel:
    """Machine code of one kernel and what its launcher must know.

    A launch gives the block `dynamic_offset + shared_bytes` bytes of shared memory when it asks for
    dynamic memory or the kernel names an extern array (`uses_dynamic`), else shared_static_size.
    """

    name: str
    step_address: int
    frame_size: int
    sites: Sequence[Site]
    blocks: Sequence[BlockInfo]
    shared_static_size: int
    dynamic_offset: int
    uses_dynamic: bool
    params: tuple[Parameter, ...]
    params_size: int
    directives: str  # .maxntid, .reqntid and the like, as written
    object_name: str  # of the machine code, in jit's cache
    cached: bool
    keepalive: tuple[Any, ...] = field(repr=False)


class Driver(Lowering):
    """Lowers a whole kernel, block by block."""

    def lower(self) -> str:
        """The whole module as IR text."""
        for block in self.flow.blocks:
            self._block(block)
        if not self.terminated:
            self._exit_at_end()
        return self._module_text()

    def _exit_at_end(self) -> None:
        if self.at is None:
            raise UnsupportedPTX("empty kernel", self.program.entry.line, self.program.entry.name)
        self.leave(Yield.EXIT, ())

    def _block(self, block: flow.Block) -> None:
        self.jump(f"block.{block.index}")
        self.label(f"block.{block.index}")
        if block.instructions:
            counters = self.entry_load("coverage", "ptr")
            old = self.load("i64", counters, 8 * block.index, "coverage")
            new = self.value(f"add i64 {old}, 1")
            self.store("i64", new, counters, 8 * block.index, "coverage")
        if block.is_loop_head and block.instructions:
            self.at = block.instructions[0]
            self.burn_fuel()
        for instruction in block.instructions:
            self._instruction(instruction)
        self.taints.at_end(block)

    def _instruction(self, instruction: Instruction) -> None:
        self.at = instruction
        if self.terminated:  # unreachable code behind a call that does not return
            self.label(self.fresh("dead"))
        self.taints.before(instruction)
        if instruction.root == "bra":
            self._bra(instruction)
            return
        if instruction.predicate is None:
            self._dispatch(instruction)
            return
        yes, join = self.fresh("then"), self.fresh("join")
        self.branch(self.read(instruction.predicate, 1), yes, join)
        self.label(yes)
        self._dispatch(instruction)
        self.jump(join)
        self.label(join)

    def _dispatch(self, instruction: Instruction) -> None:
        if instruction.root == "brx":
            self._brx(instruction)
            return
        function = LOWERERS.get(instruction.root)
        if function is None:
            raise instruction.unsupported(f"opcode {instruction.root!r} is not supported")
        function(self, instruction)

    def _bra(self, instruction: Instruction) -> None:
        modifiers = Modifiers(instruction)
        modifiers.flag("uni")
        if instruction.opcode.startswith("bra"):
            modifiers.finish()
        (name,) = instruction.operands
        assert isinstance(name, Name)
        target = self.flow.at_label[name.text]
        place = f"block.{target}"
        if instruction.predicate:
            taken, other = self.fresh("taken"), self.fresh("next")
            self.branch(self.read(instruction.predicate, 1), taken, other)
            self.label(taken)
            self.jump(place)
            self.label(other)
            return
        self.jump(place)

    def _brx(self, instruction: Instruction) -> None:
        """An index beyond the table is undefined in PTX: trap."""
        modifiers = Modifiers(instruction)
        modifiers.choice(("idx",))
        modifiers.flag("uni")
        modifiers.finish()
        index, *names = instruction.operands
        value, beyond = self.read(index, 32), self.fresh("beyond")
        targets = [self.flow.at_label[name.text] for name in names if isinstance(name, Name)]
        cases = " ".join(f"i32 {i}, label %block.{target}" for i, target in enumerate(targets))
        self.emit(f"switch i32 {value}, label %{beyond} [ {cases} ]")
        self.label(beyond)
        self.leave(Yield.TRAP, ())

    def _registers(self) -> list[str]:
        lines = []
        for index, register in enumerate(self.program.registers):
            if index in self.register_offset:
                where = self.register_offset[index]
                lines.append(f"  %r{index} = getelementptr i8, ptr %frame, i64 {where}")
            else:
                lines.append(f"  %r{index} = alloca i{register.bits}")
                lines.append(f"  store i{register.bits} 0, ptr %r{index}")
        return lines

    def _module_text(self) -> str:
        zero = [
            f"  store i{r.bits} 0, ptr %r{i}{self.tag('frame')}"
            for i, r in enumerate(self.program.registers)
            if self.flow.zeroed >> i & 1
        ]
        where = offset(THREAD, "resume")
        cases = " ".join(f"i32 {i}, label %resume.{i}" for i in range(1, self.resumes + 1))
        helpers, declares = prelude.text(self.helpers)
        names = [f"!{100 + i} = !{{!{200 + i}, !{200 + i}, i64 0}}" for i in range(len(TBAA))]
        kinds = [f'!{200 + i} = !{{!"{name}", !1}}' for i, name in enumerate(TBAA)]
        owned = "noalias writable" if jit.LLVM_VERSION >= 18 else "noalias"
        sizes = THREAD.itemsize, self.frame_size, CONTEXT.itemsize
        arguments = ", ".join(
            f"ptr {owned} dereferenceable({size}) %{name}"
            for name, size in zip(("thread", "frame", "context"), sizes, strict=True)
        )
        return "\n".join(
            [
                "@globals_base = global i64 0",
                *sorted(self.declares | declares),
                helpers,
                f"define void @step({arguments}) {{",
                "entry:",
                *self._registers(),
                *self.entry,
                f"  %resume.p = getelementptr i8, ptr %thread, i64 {where}",
                f"  %resume = load i32, ptr %resume.p{self.tag('thread')}",
                f"  switch i32 %resume, label %body [ {cases} ]",
                "body:",
                *zero,
                *("  " + line for line in lower_wgmma.start(self)),
                *self.lines,
                "return:",
                "  ret void",
                "}",
                "!0 = !{}",
                '!1 = !{!"quantassay"}',
                *names,
                *kinds,
            ]
        )

    @property
    def sites(self) -> list[Site]:
        return [Site(i.line, i.text, i.source, i.opcode) for i in self.program.instructions]

    @property
    def blocks(self) -> list[BlockInfo]:
        return [
            BlockInfo(b.ptx_line, b.histogram(), b.instructions[-1].line if b.instructions else 0)
            for b in self.flow.blocks
        ]


def bind(compiled: jit.Compiled, module: Module) -> int:
    """Tell machine code where the module's variables are; the address of its `step`."""
    base = compiled.variable("globals_base")
    ctypes.c_uint64.from_address(base).value = module.globals_address
    return compiled.address("step")


def compile_kernel(
    module: Module,
    name: str,
    *,
    checks: bool = True,
    trace: bool = False,
    races: bool = False,
    approximate: frozenset[str] = frozenset(),
) -> CompiledKernel:
    """Lower and compile one entry of a parsed module.

    checks: bounds, alignment, uninitialised reads and shared-memory races. trace: write TRACE
    records. races: tell global_races.py of every access of global memory. approximate: opcodes
    ("ex2.approx.f32", ...) that may run though their last bits are not specified. Raises
    KeyError-like ValueError for an unknown entry, UnsupportedPTX otherwise.
    """
    entry = module.entries.get(name)
    if entry is None:
        known = ", ".join(module.entries) or "none"
        raise ValueError(f"name: no entry {name!r} in this module; it has: {known}")
    program = flatten(module, entry)
    options = {"checks": checks, "trace": trace, "races": races}
    lowering = Driver(module, program, approximate=approximate, **options)
    compiled = jit.compile_ir(lowering.lower())
    last = entry.params[-1] if entry.params else None
    return CompiledKernel(
        name=name,
        step_address=bind(compiled, module),
        frame_size=lowering.frame_size,
        sites=lowering.sites,
        blocks=lowering.blocks,
        shared_static_size=lowering.shared_static_size,
        dynamic_offset=lowering.dynamic_offset,
        uses_dynamic=lowering.uses_dynamic,
        params=entry.params,
        params_size=last.offset + last.size if last else 0,
        directives=entry.directives,
        object_name=compiled.name,
        cached=compiled.cached,
        keepalive=(compiled, module),
    )


def unsuffixed_float_ops(module: Module) -> list[tuple[int, str]]:
    """(PTX line, text) of every add, sub, mul or mad that ptxas may contract into an FMA.

    PTX ISA on add, sub and mul: without a rounding modifier they round to nearest even and "may be
    optimized aggressively by the code optimizer"; with an explicit .rn they may not.
    """
    found = []
    for function in (*module.entries.values(), *module.functions.values()):
        for statement in function.body or ():
            words = statement.text.split()
            opcode = words[1] if words[0].startswith("@") and len(words) > 1 else words[0]
            root, *modifiers = opcode.split(".")
            is_float = bool(modifiers) and modifiers[-1] in _UNSUFFIXED
            rounded = not {"rn", "rz", "rm", "rp"}.isdisjoint(modifiers)
            if root in ("add", "sub", "mul", "mad") and is_float and not rounded:
                found.append((statement.line, statement.text))
    return found
