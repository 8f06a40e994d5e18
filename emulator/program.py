"""Flatten an entry: inline its calls, resolve every name, number every instruction.

Contract: `flatten(module, entry)` gives a Program whose instructions carry operands that need no
further lookup: registers are indices, labels are unique, variables are Symbols. Each instruction
has a `site`, its index in Program.instructions; an instruction inlined twice has two sites with the
same PTX line. Calls to functions with a body are inlined at each call, recursion is refused.
`vprintf` and `__assertfail` stay as calls.

Errors: UnsupportedPTX for unknown names, indirect calls, recursion.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from emulator.operands import (
    Address,
    Imm,
    Name,
    Operand,
    Pair,
    Reg,
    Sink,
    Special,
    Symbol,
    Vector,
)
from emulator.ptx import (
    BITS,
    Function,
    Module,
    Parameter,
    Statement,
    UnsupportedPTX,
    Variable,
    number,
    split,
    variable,
)

BUILTINS = ("vprintf", "__assertfail")
MAX_INLINED = 1000
SPECIAL = re.compile(
    r"%(?:tid|ntid|ctaid|nctaid)(?:\.[xyzw])?|%laneid|%warpid|%nwarpid|%smid|%nsmid|%gridid|"
    r"%lanemask_(?:eq|lt|le|gt|ge)|%clock(?:_hi|64)?|%globaltimer(?:_lo|_hi)?|"
    r"%(?:dynamic|total|aggr)_smem_size|%envreg\d+|%pm\d+(?:_64)?|WARP_SZ"
)
_INSTRUCTION = re.compile(r"(?:@(!?)\s*([\w%$]+)\s+)?([A-Za-z][\w.:]*)\s*(.*)$", re.S)
_NUMBERED = re.compile(r"(.*?)(0|[1-9]\d*)")
_ADDRESS = re.compile(r"\[\s*([^\s+\]-]+|-?\d\w*)\s*(?:([+-])\s*(-?\w+))?\s*\]$")
_CALL = re.compile(
    r"(?:\(([^)]*)\)\s*,\s*)?([\w$%]+)\s*(?:,\s*\(([^)]*)\)\s*)?(?:,\s*(.*))?$", re.S
)


@dataclass(slots=True)
class Instruction:
    site: int
    line: int
    text: str
    source: str
    opcode: str  # as written: "mul.wide.s32"
    root: str  # "mul"; an inlined ret has root "bra"
    modifiers: tuple[str, ...]
    predicate: Reg | None
    operands: tuple[Operand, ...]

    def unsupported(self, message: str) -> UnsupportedPTX:
        return UnsupportedPTX(message, self.line, self.text)


@dataclass(frozen=True, slots=True)
class Register:
    name: str
    bits: int


@dataclass(frozen=True, slots=True)
class Slot:
    """Memory of one thread that lies in its frame: .local variables and call parameters."""

    size: int
    align: int


@dataclass(slots=True)
class Program:
    entry: Function
    items: list[Instruction | str] = field(default_factory=list)  # str: a label
    instructions: list[Instruction] = field(default_factory=list)
    registers: list[Register] = field(default_factory=list)
    slots: dict[str, Slot] = field(default_factory=dict)
    shared: dict[str, Variable] = field(default_factory=dict)  # only what the kernel names
    params: dict[str, Parameter] = field(default_factory=dict)
    carry: int = -1  # register of the condition code CC.CF


class _Scope:
    """Names of one { } block."""

    def __init__(self, parent: _Scope | None) -> None:
        self.parent = parent
        self.names: dict[str, Operand] = {}
        self.ranges: dict[str, tuple[int, int]] = {}  # prefix -> bits, count
        self.labels: dict[str, str] = {}
        self.targets: dict[str, list[str]] = {}  # of .branchtargets


class _Flattener:
    def __init__(self, module: Module, entry: Function) -> None:
        self.module = module
        self.program = Program(entry, params={p.name: p for p in entry.params})
        self.program.carry = self.new_register("CC.CF", 1).index
        self.stack: list[str] = []
        self.inlined = 0
        self.unique = 0

    def fresh(self, name: str) -> str:
        self.unique += 1
        return f"{name}@{self.unique}"

    def new_register(self, name: str, bits: int) -> Reg:
        self.program.registers.append(Register(name, bits))
        return Reg(len(self.program.registers) - 1)

    # -- names ----------------------------------------------------------------------------------

    def lookup(self, name: str, scope: _Scope) -> Operand | None:
        if name in scope.names:
            return scope.names[name]
        found: _Scope | None = scope
        split_name = _NUMBERED.fullmatch(name)
        while found:
            if name in found.names:
                return found.names[name]
            if split_name and split_name[1] in found.ranges:
                bits, count = found.ranges[split_name[1]]
                if int(split_name[2]) < count:
                    found.names[name] = self.new_register(name, bits)
                    return found.names[name]
            found = found.parent
        if name in self.module.globals:
            return Symbol("global", name)
        if name in self.module.shared:
            self.program.shared[name] = self.module.shared[name]
            return Symbol("shared", name)
        return None

    def label(self, name: str, scope: _Scope) -> str | None:
        found: _Scope | None = scope
        while found:
            if name in found.labels:
                return found.labels[name]
            found = found.parent
        return None

    # -- operands -------------------------------------------------------------------------------

    def operand(self, text: str, scope: _Scope, at: Statement) -> Operand:
        text = text.strip()
        known = scope.names.get(text)  # most operands are registers seen before
        if known is not None:
            return known
        if text.startswith("["):
            return self.address(text, scope, at)
        if text.startswith("{"):
            return Vector(tuple(self.operand(t, scope, at) for t in split(text[1:-1])))
        if "|" in text:
            return Pair(tuple(self.operand(t, scope, at) for t in text.split("|")))
        if text == "_":
            return Sink()
        if text.startswith("!"):
            inner = self.operand(text[1:], scope, at)
            if not isinstance(inner, Reg):
                raise UnsupportedPTX(f"operand {text!r}", at.line, at.text)
            return Reg(inner.index, True)
        found = self.lookup(text, scope)
        if found is not None:
            return found
        if SPECIAL.fullmatch(text):
            return Special(text)
        if number(text) is not None or re.match(r"0[fFdD][0-9a-fA-F]{8}|-?\d+\.", text):
            return Imm(text)
        total = re.fullmatch(r"([\w$%]+)\s*\+\s*(\d+)", text)
        base = self.lookup(total[1], scope) if total else None
        if total and isinstance(base, Symbol):
            return Symbol(base.kind, base.name, base.offset + int(total[2]))
        label = self.label(text, scope)
        if label is not None:
            return Name(label)
        raise UnsupportedPTX(f"operand {text!r}", at.line, at.text)

    def address(self, text: str, scope: _Scope, at: Statement) -> Operand:
        match = _ADDRESS.match(text)
        if not match:
            raise UnsupportedPTX(f"address {text!r}", at.line, at.text)
        offset = number(match[3]) if match[3] else 0
        if offset is None:
            raise UnsupportedPTX(f"address {text!r}", at.line, at.text)
        return Address(self.operand(match[1], scope, at), -offset if match[2] == "-" else offset)

    # -- declarations ---------------------------------------------------------------------------

    def declare(self, at: Statement, scope: _Scope) -> None:
        text = at.text
        if text.startswith(".reg"):
            match = re.match(r"\.reg\s+\.(\w+)\s+(.*)$", text)
            if not match or match[1] not in BITS:
                raise UnsupportedPTX("register declaration", at.line, text)
            for name in split(match[2]):
                many = re.fullmatch(r"(.*)<(\d+)>", name)
                if many:
                    scope.ranges[many[1]] = (BITS[match[1]], int(many[2]))
                else:
                    scope.names[name] = self.new_register(name, BITS[match[1]])
            return
        space = re.match(r"\.(shared|local|param)\b", text)
        if not space:
            if re.match(r"\.(pragma|branchtargets|callprototype|noreturn)\b", text):
                return
            raise UnsupportedPTX("directive", at.line, text)
        var = variable(text, at.line)
        unique = self.fresh(var.name)
        if space[1] == "shared":
            # One variable however often the function is inlined.
            unique = f"{self.stack[-1]}:{var.name}"
            self.program.shared.setdefault(unique, var)
            scope.names[var.name] = Symbol("shared", unique)
            return
        self.program.slots[unique] = Slot(var.size, var.align)
        scope.names[var.name] = Symbol("slot", unique)

    def find_labels(self, body: tuple[Statement, ...], start: int, scope: _Scope) -> None:
        """Labels of the scope that starts at `start`, up to its closing brace."""
        depth, latest = 0, ""
        for statement in body[start:]:
            if statement.text == "{":
                depth += 1
            elif statement.text == "}":
                depth -= 1
                if depth < 0:
                    return
            elif depth == 0 and statement.text.endswith(":"):
                latest = statement.text[:-1]
                scope.labels[latest] = self.fresh(latest)
            elif depth == 0 and statement.text.startswith(".branchtargets"):
                scope.targets[latest] = split(statement.text.removeprefix(".branchtargets"))

    # -- bodies ---------------------------------------------------------------------------------

    def body(self, function: Function, outer: dict[str, Operand], end: str | None) -> None:
        """Emit a function's statements; `end` is the label that an inlined `ret` goes to."""
        assert function.body is not None
        self.stack.append(function.name)
        scope: _Scope | None = _Scope(None)
        assert scope is not None
        scope.names.update(outer)
        self.find_labels(function.body, 0, scope)
        for position, statement in enumerate(function.body):
            assert scope is not None
            if statement.text == "{":
                scope = _Scope(scope)
                self.find_labels(function.body, position + 1, scope)
            elif statement.text == "}":
                scope = scope.parent
            elif statement.text.endswith(":"):
                self.program.items.append(scope.labels[statement.text[:-1]])
            elif statement.text.startswith("."):
                self.declare(statement, scope)
            else:
                self.instruction(statement, scope, end)
        self.stack.pop()

    def instruction(self, at: Statement, scope: _Scope, end: str | None) -> None:
        match = _INSTRUCTION.match(at.text)
        if not match:
            raise UnsupportedPTX("statement", at.line, at.text)
        negated, guard, opcode, rest = match.groups()
        predicate = None
        if guard:
            found = self.lookup(guard, scope)
            if not isinstance(found, Reg) or self.program.registers[found.index].bits != 1:
                raise UnsupportedPTX(f"guard {guard!r} is no predicate register", at.line, at.text)
            predicate = Reg(found.index, bool(negated))
        root, *modifiers = opcode.split(".")
        if root == "call":
            self.call(at, rest, scope, predicate, tuple(modifiers))
            return
        operands: tuple[Operand, ...]
        if root == "bra":
            operands = (self.target(rest.strip(), scope, at),)
        elif root == "brx":
            operands = self.branch_table(rest, scope, at)
        elif root == "ret" and end is not None:
            root, operands = "bra", (Name(end),)
        else:
            operands = tuple(self.operand(text, scope, at) for text in split(rest))
        self.append(at, opcode, root, tuple(modifiers), predicate, operands)

    def target(self, name: str, scope: _Scope, at: Statement) -> Name:
        label = self.label(name, scope)
        if label is None:
            raise UnsupportedPTX(f"unknown label {name!r}", at.line, at.text)
        return Name(label)

    def branch_table(self, rest: str, scope: _Scope, at: Statement) -> tuple[Operand, ...]:
        """(index, target 0, target 1, ...) of a brx.idx."""
        index, table = split(rest)
        found: _Scope | None = scope
        while found and table not in found.targets:
            found = found.parent
        if found is None:
            raise UnsupportedPTX(f"unknown branch targets {table!r}", at.line, at.text)
        names = [self.target(name, found, at) for name in found.targets[table]]
        return (self.operand(index, scope, at), *names)

    def append(
        self,
        at: Statement,
        opcode: str,
        root: str,
        modifiers: tuple[str, ...],
        predicate: Reg | None,
        operands: tuple[Operand, ...],
    ) -> None:
        site = len(self.program.instructions)
        item = Instruction(
            site, at.line, at.text, at.source, opcode, root, modifiers, predicate, operands
        )
        self.program.instructions.append(item)
        self.program.items.append(item)

    def call(
        self,
        at: Statement,
        rest: str,
        scope: _Scope,
        predicate: Reg | None,
        modifiers: tuple[str, ...],
    ) -> None:
        match = _CALL.match(rest.strip())
        if not match or match[4]:
            raise UnsupportedPTX("indirect call", at.line, at.text)
        returns, name, params = split(match[1] or ""), match[2], split(match[3] or "")
        actual = [self.operand(text, scope, at) for text in [*returns, *params]]
        opcode = ".".join(("call", *modifiers))
        if name in BUILTINS:
            self.append(at, opcode, "call", modifiers, predicate, (Name(name), *actual))
            return
        function = self.module.functions.get(name)
        if function is None or function.body is None:
            raise UnsupportedPTX(f"call of {name!r}, which has no body here", at.line, at.text)
        if name in self.stack:
            raise UnsupportedPTX(f"recursive call of {name!r}", at.line, at.text)
        self.inlined += 1
        if self.inlined > MAX_INLINED:
            raise UnsupportedPTX(f"more than {MAX_INLINED} inlined calls", at.line, at.text)
        formal = [p.name for p in (*function.returns, *function.params)]
        if len(formal) != len(actual):
            raise UnsupportedPTX(f"{name!r} takes {len(formal)} parameters", at.line, at.text)
        end = self.fresh("return")
        if predicate:
            skip = Reg(predicate.index, not predicate.negated)
            self.append(at, opcode, "bra", (), skip, (Name(end),))
        else:
            self.append(at, opcode, "nop", (), None, ())
        self.body(function, dict(zip(formal, actual, strict=True)), end)
        self.program.items.append(end)


def flatten(module: Module, entry: Function) -> Program:
    """Inline, resolve and number. Raises UnsupportedPTX."""
    if entry.body is None:
        raise UnsupportedPTX(f"entry {entry.name!r} has no body", entry.line, entry.name)
    flattener = _Flattener(module, entry)
    params: dict[str, Operand] = {p.name: Symbol("param", p.name) for p in entry.params}
    flattener.body(entry, params, None)
    return flattener.program
