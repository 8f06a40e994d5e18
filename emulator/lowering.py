"""What every instruction family needs to emit LLVM IR: text, operands, memory fields, suspension.

Contract: a family registers one function per opcode root with `@lowers(...)`. The function gets the
Lowering and an Instruction and emits IR through the methods here; it takes every modifier through
`Modifiers`, whose `finish` refuses the rest. Register values are integers of the register's width;
`read` zero-extends or truncates to the width asked for, `write` extends or truncates to the
register's. A family never returns from `step` but through `suspend`, `leave` and `fail`.

Alias metadata: kernel memory, frame registers, THREAD, CONTEXT, counters and site caches are told
apart (TBAA), because generated code never reaches one through another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from emulator import accumulators, flow, prelude
from emulator.layout import CONTEXT, MAX_ARGS, THREAD, Fault, Yield, offset
from emulator.lower_special import special
from emulator.operands import Imm, Operand, Pair, Reg, Sink, Special, Symbol, Vector
from emulator.program import Instruction, Program
from emulator.ptx import BITS, Module, align_up
from emulator.speculated import Taints

Lowerer = Callable[["Lowering", Instruction], None]
LOWERERS: dict[str, Lowerer] = {}
TBAA = ("memory", "frame", "thread", "coverage", "cache", "context", "shadow")


def lowers(*roots: str) -> Callable[[Lowerer], Lowerer]:
    """Register the function that lowers these opcode roots."""

    def register(function: Lowerer) -> Lowerer:
        for root in roots:
            assert root not in LOWERERS, root
            LOWERERS[root] = function
        return function

    return register


class Modifiers:
    """The modifiers of one instruction; each must be taken, `finish` refuses what is left."""

    def __init__(self, instruction: Instruction) -> None:
        self.instruction = instruction
        self.left = list(instruction.modifiers)

    def type(self, allowed: Sequence[str]) -> str:
        """Take the last modifier, a type."""
        if not self.left or self.left[-1] not in allowed:
            got = self.left[-1] if self.left else "none"
            raise self.instruction.unsupported(f"type {got!r}, known: {', '.join(allowed)}")
        return self.left.pop()

    def flag(self, *names: str) -> bool:
        """Take all of these that are present; whether there was one."""
        found = [m for m in self.left if m in names]
        self.left = [m for m in self.left if m not in names]
        return bool(found)

    def choice(self, names: Sequence[str], default: str | None = None) -> str:
        """Take the first modifier that is one of `names`."""
        for position, modifier in enumerate(self.left):
            if modifier in names:
                return self.left.pop(position)
        if default is None:
            raise self.instruction.unsupported(f"needs one of {', '.join(names)}")
        return default

    def finish(self) -> None:
        if self.left:
            raise self.instruction.unsupported(f"modifier .{self.left[0]} is not supported")


def only_type(instruction: Instruction, types: Sequence[str]) -> tuple[str, int]:
    """(type, width) of an instruction whose only modifier is its type."""
    modifiers = Modifiers(instruction)
    data = modifiers.type(types)
    modifiers.finish()
    return data, BITS[data]


class Lowering:
    """State while one kernel is lowered, and the operations that all instruction families share."""

    def __init__(
        self,
        module: Module,
        program: Program,
        *,
        checks: bool,
        trace: bool,
        approximate: frozenset[str],
        races: bool = False,
    ) -> None:
        self.module, self.program = module, program
        self.races = races
        self.checks, self.trace, self.approximate = checks, trace, approximate
        self.flow = flow.analyse(program)
        self.taints = Taints(self)
        self.lines: list[str] = []
        self.entry: list[str] = []
        self.declares: set[str] = set()
        self.helpers: set[str] = set()
        self.counter = 0
        self.resumes = 0
        self.at: Instruction | None = None
        self.terminated = False
        self._entry_values: dict[str, str] = {}
        self._place_frame()
        self._place_shared()

    # -- memory of a thread and a block -----------------------------------------------------------

    def _place_frame(self) -> None:
        """Slots (local memory, call parameters) first, then resident registers."""
        size = 0
        self.slot_offset: dict[str, int] = {}
        for name, slot in self.program.slots.items():
            size = align_up(size, max(16, slot.align))
            self.slot_offset[name] = size
            size += slot.size
        self.slots_size = size
        size = align_up(size, 16)
        self.register_offset: dict[int, int] = {}
        resident = [i for i in range(len(self.program.registers)) if self.flow.resident >> i & 1]
        for index in sorted(resident, key=lambda i: -self.program.registers[i].bits):
            self.register_offset[index] = size
            size += max(1, self.program.registers[index].bits // 8)
        self.accumulators_at = align_up(size, 16)  # of wgmma: lower_wgmma.py
        size = self.accumulators_at + accumulators.size(self.program)
        self.frame_size = align_up(max(size, 16), 64)

    def _place_shared(self) -> None:
        self.shared_offset: dict[str, int] = {}
        size, dynamic = 0, 16
        for name, var in self.program.shared.items():
            if not var.extern:
                size = align_up(size, var.align)
                self.shared_offset[name] = size
                size += var.size
            else:
                dynamic = max(dynamic, var.align)
        self.shared_static_size = size
        self.dynamic_offset = align_up(size, dynamic)
        self.uses_dynamic = any(var.extern for var in self.program.shared.values())
        for name, var in self.program.shared.items():
            if var.extern:
                self.shared_offset[name] = self.dynamic_offset

    # -- text -------------------------------------------------------------------------------------

    def emit(self, line: str) -> None:
        self.lines.append("  " + line)

    def value(self, expression: str) -> str:
        self.counter += 1
        self.lines.append(f"  %v{self.counter} = {expression}")
        return f"%v{self.counter}"

    def fresh(self, prefix: str) -> str:
        self.counter += 1
        return f"{prefix}.{self.counter}"

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.terminated = False

    def jump(self, name: str) -> None:
        if not self.terminated:
            self.emit(f"br label %{name}")
        self.terminated = True

    def branch(self, condition: str, yes: str, no: str) -> None:
        self.emit(f"br i1 {condition}, label %{yes}, label %{no}")
        self.terminated = True

    def call(self, result: str, name: str, *arguments: tuple[str, str]) -> str:
        """Call an intrinsic; returns its value."""
        types = ", ".join(kind for kind, _ in arguments)
        self.declares.add(f"declare {result} @{name}({types})")
        listed = ", ".join(f"{kind} {value}" for kind, value in arguments)
        return self.value(f"call {result} @{name}({listed})")

    def helper(self, result: str, name: str, *arguments: tuple[str, str]) -> str:
        """Call a function of the prelude; returns its value ("" for void)."""
        self.helpers.add(name)
        listed = ", ".join(f"{kind} {value}" for kind, value in arguments)
        touched = prelude.touches(name)
        call = f"call {result} @{name}({listed}){self.tag(touched) if touched else ''}"
        if result == "void":
            self.emit(call)
            return ""
        return self.value(call)

    def load(self, kind: str, base: str, where: int, tag: str, more: str = "") -> str:
        pointer = self.value(f"getelementptr i8, ptr {base}, i64 {where}") if where else base
        return self.value(f"load {kind}, ptr {pointer}, align 1{self.tag(tag)}{more}")

    def store(self, kind: str, value: str, base: str, where: int, tag: str) -> None:
        pointer = self.value(f"getelementptr i8, ptr {base}, i64 {where}") if where else base
        self.emit(f"store {kind} {value}, ptr {pointer}, align 1{self.tag(tag)}")

    def tag(self, name: str) -> str:
        return f", !tbaa !{100 + TBAA.index(name)}"

    def thread(self, field: str, index: int = 0, kind: str = "i32") -> str:
        """A field that does not change while `step` runs."""
        more = "" if field == "results" else ", !invariant.load !0"
        return self.load(kind, "%thread", offset(THREAD, field) + 4 * index, "thread", more)

    def thread_offset(self, field: str) -> int:
        return offset(THREAD, field)

    def context(self, field: str, index: int = 0, kind: str = "i32") -> str:
        where = offset(CONTEXT, field) + 4 * index
        return self.load(kind, "%context", where, "context", ", !invariant.load !0")

    def at_entry(self, name: str, lines: Sequence[str]) -> str:
        """A value computed once per call of `step`: `lines` define %name."""
        if name not in self._entry_values:
            self._entry_values[name] = f"%{name}"
            self.entry.extend("  " + line for line in lines)
        return f"%{name}"

    def entry_load(self, field: str, kind: str) -> str:
        """A CONTEXT field loaded at entry as %field."""
        return self.at_entry(
            field,
            [
                f"%{field}.p = getelementptr i8, ptr %context, i64 {offset(CONTEXT, field)}",
                f"%{field} = load {kind}, ptr %{field}.p, align 4{self.tag('context')}",
            ],
        )

    # -- operands ---------------------------------------------------------------------------------

    @property
    def now(self) -> Instruction:
        assert self.at is not None
        return self.at

    def bits(self, register: Reg) -> int:
        return self.program.registers[register.index].bits

    def read(self, operand: Operand, width: int) -> str:
        """The operand as an integer of `width` bits: narrower registers are zero-extended."""
        if isinstance(operand, Reg):
            have = self.bits(operand)
            tag = self.tag("frame") if operand.index in self.register_offset else ""
            value = self.value(f"load i{have}, ptr %r{operand.index}{tag}")
        elif isinstance(operand, Imm):
            return self._immediate(operand, width)
        elif isinstance(operand, Special):
            value, have = special(self, operand.name)
        elif isinstance(operand, Symbol):
            value, have = self.symbol(operand), 64
        elif isinstance(operand, Vector):
            value, have = self.pack(operand, width), width
        else:
            raise self.now.unsupported(f"operand of kind {type(operand).__name__.lower()}")
        value = self.resize(value, have, width)
        if isinstance(operand, Reg) and operand.negated:
            value = self.value(f"xor i{width} {value}, -1")
        return value

    def sources(self, instruction: Instruction, width: int) -> list[str]:
        """All operands behind the first, `width` bits each."""
        return [self.read(operand, width) for operand in instruction.operands[1:]]

    def _immediate(self, operand: Imm, width: int) -> str:
        bits = operand.bits(width)
        if bits is None:
            raise self.now.unsupported(f"literal {operand.text!r} in {width} bits")
        if width == 1:
            return "true" if bits else "false"
        return str(bits - (1 << width) if bits >> (width - 1) else bits)

    def resize(self, value: str, have: int, want: int, signed: bool = False) -> str:
        if have == want:
            return value
        how = "trunc" if have > want else "sext" if signed else "zext"
        return self.value(f"{how} i{have} {value} to i{want}")

    def pack(self, vector: Vector, width: int) -> str:
        """{a, b, ...} as one integer, the first item lowest."""
        part = width // len(vector.items)
        total = ""
        for position, item in enumerate(vector.items):
            value = self.resize(self.read(item, part), part, width)
            if position:
                value = self.value(f"shl i{width} {value}, {position * part}")
                value = self.value(f"or i{width} {total}, {value}")
            total = value
        return total

    def write(self, operand: Operand, value: str, width: int, signed: bool = False) -> None:
        """Put an integer of `width` bits into a register, a vector of registers or `_`."""
        if isinstance(operand, Sink):
            return
        if isinstance(operand, Vector):
            part = width // len(operand.items)
            for position, item in enumerate(operand.items):
                if isinstance(item, Sink):
                    continue
                moved = self.value(f"lshr i{width} {value}, {position * part}")
                self.write(item, self.resize(moved, width, part), part)
            return
        if not isinstance(operand, Reg) or operand.negated:
            raise self.now.unsupported("destination is no register")
        have = self.bits(operand)
        value = self.resize(value, width, have, signed)
        tag = self.tag("frame") if operand.index in self.register_offset else ""
        self.emit(f"store i{have} {value}, ptr %r{operand.index}{tag}")

    def pair(self, operand: Operand) -> tuple[Operand, Operand]:
        """`d|p` as (d, p); a plain `d` as (d, _)."""
        if isinstance(operand, Pair):
            first, second = operand.items
            return first, second
        return operand, Sink()

    def items(self, operand: Operand) -> tuple[Operand, ...]:
        return operand.items if isinstance(operand, Vector) else (operand,)

    def symbol(self, symbol: Symbol) -> str:
        """Address of a variable as i64: an offset for shared memory, a host address otherwise."""
        if symbol.kind == "shared":
            return str(self.shared_offset[symbol.name] + symbol.offset)
        if symbol.kind == "global":
            where = self.module.globals[symbol.name].offset + symbol.offset
            base = self.value("load i64, ptr @globals_base, !invariant.load !0")
            return self.value(f"add i64 {base}, {where}")
        if symbol.kind == "param":
            base = self.context("params", kind="i64")
            where = self.program.params[symbol.name].offset + symbol.offset
            return self.value(f"add i64 {base}, {where}")
        frame = self.value("ptrtoint ptr %frame to i64")
        return self.value(f"add i64 {frame}, {self.slot_offset[symbol.name] + symbol.offset}")

    # -- leaving and coming back ------------------------------------------------------------------

    def leave(self, yop: Yield, args: Sequence[str]) -> None:
        """Store operands, site and reason, and return."""
        assert len(args) <= MAX_ARGS
        for index, value in enumerate(args):
            where = offset(THREAD, "args") + 4 * index
            self.store("i32", value, "%thread", where, "thread")
        self.store("i32", str(self.now.site), "%thread", offset(THREAD, "site"), "thread")
        self.store("i32", str(int(yop)), "%thread", offset(THREAD, "yop"), "thread")
        self.jump("return")

    def suspend(self, yop: Yield, args: Sequence[str]) -> None:
        """Leave, and go on here when the scheduler calls `step` again."""
        assert flow.suspends(self.now), self.now.text
        self.resumes += 1
        where = offset(THREAD, "resume")
        self.store("i32", str(self.resumes), "%thread", where, "thread")
        self.leave(yop, args)
        self.label(f"resume.{self.resumes}")

    def result(self, index: int = 0) -> str:
        return self.thread("results", index)

    def fail(self, kind: str, address: str, size: int, store: bool) -> None:
        """Report a fault (a Fault number as i32) of the current instruction and stop the thread."""
        self.helper(
            "void", "fault", ("ptr", "%thread"), ("i32", str(self.now.site)),
            ("i32", kind), ("i64", address), ("i32", str(size)), ("i32", str(int(store))),
        )  # fmt: skip
        self.jump("return")

    def burn_fuel(self) -> None:
        """Entering a loop's head costs fuel; without any left the thread stops."""
        where = offset(THREAD, "fuel")
        left = self.value(f"sub i64 {self.load('i64', '%thread', where, 'thread')}, 1")
        self.store("i64", left, "%thread", where, "thread")
        empty, enough = self.fresh("empty"), self.fresh("enough")
        self.branch(self.value(f"icmp slt i64 {left}, 0"), empty, enough)
        self.label(empty)
        self.fail(str(int(Fault.FUEL)), "0", 0, False)
        self.label(enough)
