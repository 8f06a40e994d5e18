"""PTX text -> Module: entries, device functions, variables and statements with their PTX lines.

Contract: `parse(text)` accepts what NVRTC and NVVM (Numba) print for 64-bit addressing, and
hand-written PTX of the same form. It checks syntax and declarations only; opcodes are judged by the
lowering. Anything it cannot represent raises UnsupportedPTX with the PTX line and its text.
Statements keep their text; registers and labels are resolved when a kernel is flattened (flow.py),
because scopes and inlining give one name several meanings.

Parameters lie in the parameter block at their natural or declared alignment, in order, as the
driver places them. Module variables (.global, .const) get host memory at once, 256 bytes apart,
and keep their values between launches.

Source: PTX ISA 9.0, sections 4 (syntax), 5 (state spaces, types, variables), 11 (directives).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

BITS = {
    "pred": 1,
    "b8": 8, "u8": 8, "s8": 8,
    "b16": 16, "u16": 16, "s16": 16, "f16": 16, "bf16": 16,
    "b32": 32, "u32": 32, "s32": 32, "f32": 32, "f16x2": 32, "bf16x2": 32,
    "b64": 64, "u64": 64, "s64": 64, "f64": 64,
    "b128": 128,
}  # fmt: skip
WORD = re.compile(r"[\w$%]+")
_BRACKET = re.compile(r"[{}()\[\]]")
_INTEGER = re.compile(r"(-?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|(0[0-7]*)|([1-9]\d*))U?")
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.S)
_LABEL = re.compile(r"([\w$%]+)\s*:(?!:)")
_LINE_DIRECTIVE = re.compile(r"\.(loc|file|version|target|address_size)\b[^\n]*|@@\w+[^\n]*")
_LOC = re.compile(r"\.loc\s+(\d+)\s+(\d+)\s+\d+(?:.*inlined_at\s+(\d+)\s+(\d+)\s+\d+)?")
_FILE = re.compile(r'\.file\s+(\d+)\s+"((?:[^"\\]|\\.)*)"')
_VARIABLE = re.compile(
    r"\.(?P<space>global|const|shared|local|param|tex)\b\s*"
    r"(?:\.attribute\s*\([^)]*\)\s*)?(?:\.align\s+(?P<align>\d+)\s*)?"
    r"\.(?P<type>\w+)\s*(?:\.ptr\s*(?:\.(?:global|shared|const|local)\s*)?"
    r"(?:\.align\s+\d+\s*)?)?(?P<name>[\w$%]+)\s*(?P<dims>(?:\[\s*\w*\s*\]\s*)*)"
    r"(?:=\s*(?P<init>.*))?$",
    re.S,
)
_FUNCTION = re.compile(
    r"(?P<link>(?:\.(?:visible|weak|extern|common)\s+)*)\.(?P<kind>entry|func)\b\s*"
    r"(?:\((?P<returns>[^)]*)\)\s*)?(?P<name>[\w$%]+)\s*(?:\((?P<params>[^)]*)\))?(?P<rest>.*)$",
    re.S,
)


class UnsupportedPTX(ValueError):  # noqa: N818  (the name says what it is)
    """PTX that the emulator does not know, or is told to refuse; `line` is the PTX line."""

    def __init__(self, message: str, line: int, text: str) -> None:
        super().__init__(f"{message} (PTX line {line}: {' '.join(text.split())})")
        self.line, self.text = line, text


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a body: an instruction, a directive, `label:`, `{` or `}`."""

    line: int
    text: str
    source: str  # "file:line" of the latest .loc, or ""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A kernel or function parameter; `offset` is its place in the kernel's parameter block."""

    name: str
    offset: int
    size: int
    align: int


@dataclass(slots=True)
class Variable:
    """A module or function variable. `address` is set for .global and .const (host memory)."""

    name: str
    space: str
    size: int
    align: int
    extern: bool = False
    initial: tuple[tuple[int, int, str], ...] = ()  # (bytes, number, symbol to add or "")
    address: int = 0
    offset: int = 0  # from Module.globals_address


@dataclass(slots=True)
class Function:
    """An .entry or .func with its body; `body` is None for a declaration."""

    name: str
    line: int
    params: tuple[Parameter, ...]
    returns: tuple[Parameter, ...]
    body: tuple[Statement, ...] | None
    directives: str = ""
    is_entry: bool = False


Entry = Function


@dataclass(slots=True)
class Module:
    """A parsed PTX module."""

    text: str
    entries: dict[str, Entry] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    globals: dict[str, Variable] = field(default_factory=dict)  # .global and .const
    shared: dict[str, Variable] = field(default_factory=dict)  # module-level .shared
    globals_address: int = 0
    keepalive: list[object] = field(default_factory=list)


def split(text: str) -> list[str]:
    """Split at the commas that are outside of brackets."""
    if not _BRACKET.search(text):
        return [part.strip() for part in text.split(",")] if text.strip() else []
    parts, depth, start = [], 0, 0
    for position, char in enumerate(text):
        if char in "{[(":
            depth += 1
        elif char in "}])":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    last = text[start:].strip()
    return [*parts, last] if last or parts else []


def align_up(value: int, align: int) -> int:
    return -(-value // align) * align


def number(text: str) -> int | None:
    """The value of an integer literal (decimal, hex, octal, binary, suffix U), or None."""
    match = _INTEGER.fullmatch(text)
    if not match:
        return None
    sign, hexa, binary, octal, decimal = match.groups()
    pairs = ((hexa, 16), (binary, 2), (octal, 8), (decimal, 10))
    value = next(int(digits, base) for digits, base in pairs if digits)
    return -value if sign else value


def float_bits(text: str, width: int) -> int | None:
    """The bits of a floating-point literal (0f…, 0d…, 1.5) in a register of `width` bits."""
    if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", text):
        return int(text[2:], 16) if width == 32 else None
    if re.fullmatch(r"0[dD][0-9a-fA-F]{16}", text):
        return int(text[2:], 16) if width == 64 else None
    if width not in (32, 64) or not re.fullmatch(r"-?\d+\.\d*(?:[eE][+-]?\d+)?", text):
        return None
    value = float(text)
    return int.from_bytes(struct.pack("<d" if width == 64 else "<f", value), "little")


def _strip_comments(text: str) -> str:
    return _COMMENT.sub(lambda m: m.group(1) or "\n" * m.group(0).count("\n"), text)


class _Scanner:
    """Walks the text once and yields (line, text) pieces: statements, `{`, `}`, `label:`."""

    def __init__(self, text: str) -> None:
        self.text = _strip_comments(text)
        self.position = 0
        self.line = 1
        self.files = {int(i): name for i, name in _FILE.findall(self.text)}
        self.source = ""

    def advance(self, end: int) -> str:
        piece = self.text[self.position : end]
        self.line += piece.count("\n")
        self.position = end
        return piece

    def skip_space(self) -> bool:
        end = self.position
        while end < len(self.text) and self.text[end].isspace():
            end += 1
        self.advance(end)
        return end < len(self.text)

    def note_location(self, directive: str) -> None:
        match = _LOC.match(directive)
        if not match:
            return
        inner, line, outer, outer_line = match.groups()
        if int(line) == 0:  # "compiler generated": keep the last real one
            return
        self.source = f"{self.files.get(int(inner), inner)}:{line}"
        if outer:
            self.source += f" (inlined at {self.files.get(int(outer), outer)}:{outer_line})"

    def skip_line_directive(self) -> bool:
        match = _LINE_DIRECTIVE.match(self.text, self.position)
        if match:
            self.note_location(match.group(0))
            self.advance(match.end())
        return bool(match)

    def closing(self, start: int) -> int:
        """Position after the brace that closes the one at `start`."""
        depth = 0
        for position in range(start, len(self.text)):
            char = self.text[position]
            depth += (char == "{") - (char == "}")
            if depth == 0:
                return position + 1
        raise UnsupportedPTX("unbalanced {", self.line, self.text[start : start + 60])

    def until(self, stops: str) -> str:
        """Text up to one of `stops` outside of brackets and strings (not consumed)."""
        depth, position, quoted = 0, self.position, False
        while position < len(self.text):
            char = self.text[position]
            if char == '"':
                quoted = not quoted
            elif not quoted:
                if depth == 0 and char in stops:
                    return self.advance(position)
                depth += (char in "([") - (char in ")]")
            position += 1
        raise UnsupportedPTX("statement without an end", self.line, self.text[self.position :][:60])


def _body(scan: _Scanner) -> Iterator[Statement]:
    """Statements of a function body; the scanner stands after its `{`."""
    depth = 1
    while scan.skip_space():
        if scan.skip_line_directive():
            continue
        line, char = scan.line, scan.text[scan.position]
        if char in "{}":
            scan.advance(scan.position + 1)
            depth += 1 if char == "{" else -1
            if depth == 0:
                return
            yield Statement(line, char, scan.source)
            continue
        label = _LABEL.match(scan.text, scan.position)
        if label:
            scan.advance(label.end())
            yield Statement(line, label.group(1) + ":", scan.source)
            continue
        end = scan.text.find(";", scan.position)
        if end < 0:
            raise UnsupportedPTX("statement without ;", line, scan.text[scan.position :][:60])
        text = " ".join(scan.advance(end).split())
        scan.advance(end + 1)
        if text:
            yield Statement(line, text, scan.source)
    raise UnsupportedPTX("function without }", scan.line, "")


def _initial(text: str, size: int, line: int) -> tuple[tuple[int, int, str], ...]:
    """Elements of an initialiser: (bytes, number, symbol)."""
    found = []
    for element in split(text.replace("{", " ").replace("}", " ")):
        value = number(element)
        if value is None:
            value = float_bits(element, size * 8)
        symbol = ""
        if value is None:
            match = re.fullmatch(r"(?:generic\s*\()?\s*([\w$%]+)\s*\)?\s*(?:\+\s*(\d+))?", element)
            if not match:
                raise UnsupportedPTX(f"initialiser {element!r}", line, text[:80])
            symbol, value = match.group(1), int(match.group(2) or 0)
        found.append((size, value, symbol))
    return tuple(found)


def variable(text: str, line: int) -> Variable:
    """One variable declaration, e.g. `.shared .align 4 .b8 name[128]`."""
    extern = ".extern" in text.split("=")[0]
    match = _VARIABLE.search(text)
    if not match or match["type"] not in BITS:
        raise UnsupportedPTX("declaration", line, text[:100])
    size = max(1, BITS[match["type"]] // 8)
    dims = re.findall(r"\[\s*(\w*)\s*\]", match["dims"])
    initial = _initial(match["init"], size, line) if match["init"] else ()
    count = 1
    for dim in dims:
        if dim:
            count *= int(dim, 0)
        else:
            count *= len(initial)  # `[]`: 0 for extern, the initialiser's length otherwise
    align = int(match["align"] or size)
    return Variable(match["name"], match["space"], size * count, align, extern, initial)


def _parameters(text: str | None, line: int) -> tuple[Parameter, ...]:
    found, offset = [], 0
    for declaration in split(text or ""):
        if not declaration.startswith(".param"):
            raise UnsupportedPTX("only .param parameters are supported", line, declaration)
        var = variable(declaration, line)
        offset = align_up(offset, var.align)
        found.append(Parameter(var.name, offset, var.size, var.align))
        offset += var.size
    return tuple(found)


def place_globals(module: Module) -> None:
    """Give .global and .const variables host memory and write their initial values."""
    size = 256
    for var in module.globals.values():
        var.offset = align_up(size, max(256, var.align))
        size = var.offset + var.size + 256
    memory = np.zeros(size + 4096, np.uint8)
    base = align_up(memory.ctypes.data, 4096)
    start = base - memory.ctypes.data
    module.keepalive.append(memory)
    module.globals_address = base
    for var in module.globals.values():
        var.address = base + var.offset
    for var in module.globals.values():
        raw = bytearray()
        for width, value, symbol in var.initial:
            if symbol and symbol not in module.globals:
                raise UnsupportedPTX(f"initialiser names {symbol!r}", 0, var.name)
            value += module.globals[symbol].address if symbol else 0
            raw += (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        if len(raw) > var.size:
            raise UnsupportedPTX("initialiser longer than its variable", 0, var.name)
        where = start + var.offset
        memory[where : where + len(raw)] = np.frombuffer(bytes(raw), np.uint8)


def _function(module: Module, scan: _Scanner, line: int, head: str) -> None:
    match = _FUNCTION.search(head)
    if not match:
        raise UnsupportedPTX("function header", line, head)
    has_body = scan.text[scan.position] == "{"
    scan.source = ""
    scan.advance(scan.position + 1)
    body = tuple(_body(scan)) if has_body else None
    function = Function(
        match["name"],
        line,
        _parameters(match["params"], line),
        _parameters(match["returns"], line),
        body,
        " ".join(match["rest"].split()),
        match["kind"] == "entry",
    )
    table = module.entries if function.is_entry else module.functions
    known = table.get(function.name)
    if known is None or known.body is None:
        table[function.name] = function


def parse(text: str) -> Module:
    """Parse PTX text. Raises UnsupportedPTX (a ValueError) naming the PTX line."""
    module, scan = Module(text), _Scanner(text)
    target = re.search(r"\.address_size\s+(\d+)", scan.text)
    if target and target.group(1) != "64":
        raise UnsupportedPTX("only .address_size 64 is supported", 0, target.group(0))
    while scan.skip_space():
        if scan.skip_line_directive():
            continue
        line = scan.line
        if scan.text.startswith(".section", scan.position):
            scan.advance(scan.closing(scan.text.index("{", scan.position)))
            continue
        if scan.text[scan.position] == ";":
            scan.advance(scan.position + 1)
            continue
        head = scan.until("{;=")
        if re.search(r"\.(entry|func)\b", head):
            _function(module, scan, line, head)
            continue
        if scan.text[scan.position] == "{":
            raise UnsupportedPTX("unexpected {", line, head)
        head += scan.until(";")
        scan.advance(scan.position + 1)
        if re.match(r"\s*\.(pragma|alias)\b", head):
            continue
        var = variable(" ".join(head.split()), line)
        if var.space not in ("global", "const", "shared"):
            raise UnsupportedPTX(f"module variable in .{var.space}", line, head)
        (module.shared if var.space == "shared" else module.globals)[var.name] = var
    place_globals(module)
    return module
