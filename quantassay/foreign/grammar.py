"""The argument list of --args: what each parameter of a kernel is given.

Contract: `parse(text, op, names)` gives one item per parameter. Items, separated by commas:
    x, codes        an input or output of the op: its pointer
    bias?           an optional input: a null pointer where it is absent
    codes=0         an output that is zeroed before the launch; an output is otherwise unwritten
                    memory, whose reads are errors
    sum=residual    an output that starts as a copy of an input: for kernels that work in place
    M, M*K, 3       a formula over the op's sizes: the parameter's own type, i32 where it is unknown
    K:i64, 1e-5:f32 the same of a given type
    eps             a number that the op takes
    tmp:f32[M*8]    memory of the kernel's own, unwritten; by its name the same in every launch
    tmp:f32[M*8]=0  the same, zeroed
    null            a null pointer
    {x, codes, M}   a struct by value, its members aligned as C++ does
Raises UsageError that quotes the item and says what is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from quantassay.errors import UsageError
from quantassay.foreign import types
from quantassay.foreign.formulas import Formula, split
from reference.op import Arg, Op

_NAME = re.compile(r"[A-Za-z_]\w*")
_FLOAT = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)?|[+-]?inf|nan")
_SCRATCH = re.compile(r"(\w+)\s*:\s*(\w+)\s*\[(.*)\]\s*(=\s*0)?", re.S)


@dataclass(frozen=True)
class Pointer:
    """An input or output of the op. start: "" unwritten, "0", or the input that it is a copy of."""

    name: str
    output: bool = False
    start: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Scratch:
    """Memory of the kernel's own."""

    name: str
    type: str
    size: Formula
    zeroed: bool


@dataclass(frozen=True)
class Number:
    """A formula, a literal float or a number that the op takes. type: "" is the parameter's own."""

    text: str
    type: str
    formula: Formula | None = None
    literal: float | None = None


@dataclass(frozen=True)
class Null:
    """A null pointer."""


@dataclass(frozen=True)
class Struct:
    """A struct by value."""

    members: tuple[Item, ...]


Item = Pointer | Scratch | Number | Null | Struct


def parse(text: str, op: Op, defines: Iterable[str] = ()) -> tuple[Item, ...]:
    """The items of an argument list. defines: names of integer macros, which formulas may use."""
    if not text.strip():
        return ()
    return _Parser(op, tuple(defines)).items(text)


def sizes(op: Op) -> tuple[str, ...]:
    """The symbols that a call's inputs tell, the op's own sizes first."""
    found = dict.fromkeys(op.dims)
    for arg in op.inputs:
        words = [arg.symbol, *(side for side in arg.shape if isinstance(side, str))]
        found |= dict.fromkeys(word for text in words for word in _NAME.findall(text))
    return tuple(found)


class _Parser:
    def __init__(self, op: Op, defines: tuple[str, ...]) -> None:
        self.op = op
        self.inputs = {arg.name: arg for arg in op.inputs}
        self.outputs = {arg.name: arg for arg in op.outputs}
        self.names = (*sizes(op), *defines)

    def items(self, text: str) -> tuple[Item, ...]:
        return tuple(self.item(part.strip()) for part in split(text))

    def item(self, text: str) -> Item:
        if text == "null":
            return Null()
        if text.startswith("{") and text.endswith("}"):
            return Struct(self.items(text[1:-1]))
        scratch = _SCRATCH.fullmatch(text)
        if scratch:
            return self.scratch(text, scratch)
        name, equal, start = (part.strip() for part in text.partition("="))
        if equal:
            return self.started(text, name, start)
        if text.endswith("?"):
            return self.optional(text, text[:-1].strip())
        arg = self.inputs.get(text) or self.outputs.get(text)
        if arg is None or arg.scalar:
            return self.number(text)
        if arg.optional:
            raise UsageError(
                f"--args: {text} may be absent; write {text}? and the kernel gets a null pointer"
            )
        return Pointer(text, output=text in self.outputs)

    def scratch(self, text: str, match: re.Match[str]) -> Scratch:
        name, kind, size, zeroed = match.groups()
        if name in self.inputs or name in self.outputs:
            raise UsageError(f"--args: {text!r}: {name} is the op's own; allowed: another name")
        made = Formula(size.strip(), "--args")
        made.check_names(self.names)
        return Scratch(name, self.type(text, kind), made, bool(zeroed))

    def started(self, text: str, name: str, start: str) -> Pointer:
        arrays = [arg.name for arg in self.op.arrays() if not arg.optional]
        if name not in self.outputs:
            raise UsageError(f"--args: {text!r}: {name} is no output; {self._outputs()}")
        if start != "0" and start not in arrays:
            raise UsageError(f"--args: {text!r}: allowed after =: 0, {', '.join(arrays)}")
        if start != "0" and not _alike(self.inputs[start], self.outputs[name]):
            raise UsageError(f"--args: {text!r}: {start} has not the shape or the dtypes of {name}")
        return Pointer(name, output=True, start=start)

    def optional(self, text: str, name: str) -> Pointer:
        arg = self.inputs.get(name)
        if arg is None or not arg.optional:
            names = [one.name for one in self.op.inputs if one.optional]
            raise UsageError(
                f"--args: {text!r}: {name} is no optional input; "
                f"{self.op.name} has: {', '.join(names) or 'none'}"
            )
        return Pointer(name, optional=True)

    def number(self, text: str) -> Number:
        body, colon, kind = (part.strip() for part in text.partition(":"))
        type_name = self.type(text, kind) if colon else ""
        arg = self.inputs.get(body)
        if arg is not None and arg.scalar:
            return Number(body, type_name)
        if arg is not None or body in self.outputs:
            raise UsageError(f"--args: {text!r}: {body} is an array; its type is the op's own")
        if _FLOAT.fullmatch(body):
            if type_name and type_name not in types.FLOATS:
                raise UsageError(f"--args: {text!r}: allowed types: {', '.join(types.FLOATS)}")
            return Number(body, type_name, literal=float(body))
        if body in ("true", "false"):
            return Number(body, type_name or "bool", Formula(str(int(body == "true")), "--args"))
        if _NAME.fullmatch(body) and body not in self.names:
            raise UsageError(f"--args: got {body!r}; {self._known()}")
        made = Formula(body, "--args")
        made.check_names(self.names)
        return Number(body, type_name, made)

    def type(self, text: str, name: str) -> str:
        short = types.known(name)
        if short is None:
            raise UsageError(f"--args: {text!r}: allowed types: {', '.join(types.SCALARS)}")
        return short

    def _outputs(self) -> str:
        return f"outputs: {', '.join(self.outputs)}"

    def _known(self) -> str:
        return (
            f"{self.op.name} has inputs {', '.join(self.inputs)}; {self._outputs()}; "
            f"sizes {', '.join(self.names)}; also null, numbers, name:type[size] for scratch"
        )


def _alike(a: Arg, b: Arg) -> bool:
    return a.shape == b.shape and set(a.dtypes) == set(b.dtypes)


def pointers(items: Iterable[Item]) -> list[Pointer]:
    """Every op array of a list, those inside structs too."""
    found: list[Pointer] = []
    for item in items:
        if isinstance(item, Pointer):
            found.append(item)
        elif isinstance(item, Struct):
            found += pointers(item.members)
    return found
