"""Argument list against kernel: does each item fit its parameter, and what does it pass in a call?

Contract: `check` raises UsageError, before anything runs, where the counts differ or an item cannot
be what the parameter takes; the message shows the kernel's parameters beside the items. `Values`
makes the arguments of one call: NumPy arrays, NumPy scalars, None, and bytes for structs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import emulator
from quantassay.errors import UsageError
from quantassay.foreign import types
from quantassay.foreign.grammar import Item, Null, Number, Pointer, Scratch, Struct
from quantassay.foreign.types import DTYPE_OF, SCALARS, Parameter
from reference.numerics import DTYPES, dtype_name
from reference.op import Arg, Op, evaluate, solve

POINTER_BYTES = 8
MOST_SCRATCH = 1 << 30  # bytes
Array = NDArray[Any]


class LaunchError(RuntimeError):
    """The grid, block or an argument has no valid value at the sizes of an input."""


def check(entry: str, op: Op, items: Sequence[Item], parameters: Sequence[Parameter]) -> None:
    """Raises UsageError that names the item."""
    if len(items) != len(parameters):
        raise UsageError(
            f"--args: got {len(items)} for {entry}, which has {len(parameters)} parameters; "
            f"got: {', '.join(map(word, items)) or 'none'}; {entry} takes: "
            f"{'; '.join(f'{n}: {_shown(one)}' for n, one in enumerate(parameters)) or 'none'}"
        )
    for place, (item, parameter) in enumerate(zip(items, parameters, strict=True)):
        problem = _problem(op, item, parameter)
        if problem:
            raise UsageError(
                f"--args: {word(item)} {problem}; parameter {place} of {entry} is "
                f"{_shown(parameter)}"
            )


def _shown(parameter: Parameter) -> str:
    return f"{parameter.words} ({parameter.size} bytes)"


def word(item: Item) -> str:
    """An item as it is written, or nearly."""
    if isinstance(item, Pointer):
        return item.name
    if isinstance(item, Scratch):
        return f"{item.name}:{item.type}[{item.size.text}]"
    if isinstance(item, Number):
        return f"{item.text}:{item.type}" if item.type else item.text
    if isinstance(item, Struct):
        return "{" + ", ".join(map(word, item.members)) + "}"
    return "null"


def _problem(op: Op, item: Item, parameter: Parameter) -> str:
    """Why an item cannot be a parameter; "" if it can."""
    if isinstance(item, Struct):
        size = _struct_size(op, item)
        return "" if size == parameter.size else f"is a struct of {size} bytes"
    if isinstance(item, Number):
        return _number_problem(op, item, parameter)
    if parameter.pointer is False or parameter.size != POINTER_BYTES:
        return "is a pointer"
    if isinstance(item, Pointer):
        return _element_problem(op, item, parameter)
    return ""


def _number_problem(op: Op, item: Number, parameter: Parameter) -> str:
    if parameter.pointer:
        return "is a number"
    name = _type(op, item, parameter)
    size = SCALARS[name].itemsize
    if size != parameter.size:
        hint = " (write its type, such as :i64)" if not item.type else ""
        return f"is {name}, {size} bytes{hint}"
    known = parameter.element
    if known and (known in types.FLOATS) != (name in types.FLOATS):
        return f"is {name}"
    return ""


def _element_problem(op: Op, item: Pointer, parameter: Parameter) -> str:
    """Two different kinds of floats do not fit; integers may be packed or bits of floats."""
    arg = argument(op, item.name)
    have = DTYPE_OF.get(parameter.element)
    floats = {"fp32", "fp16", "bf16"}
    if have in floats and floats.issuperset(arg.dtypes) and have not in arg.dtypes:
        return f"is {' or '.join(arg.dtypes)}"
    return ""


def argument(op: Op, name: str) -> Arg:
    """An input or output by its name."""
    return next(arg for arg in (*op.inputs, *op.outputs) if arg.name == name)


def dtype_of(op: Op, arg: Arg, choice: Mapping[str, str]) -> str:
    """The dtype of an array of several: an output's by the option that chooses it, else that of
    the inputs, `choice["dtype"]`; "" where neither tells it.
    """
    if len(arg.dtypes) == 1:
        return arg.dtypes[0]
    chosen = [value for name, value in choice.items() if name.endswith("_dtype")]
    if arg in op.outputs and any(value in arg.dtypes for value in chosen):
        return next(value for value in chosen if value in arg.dtypes)
    return choice["dtype"] if choice["dtype"] in arg.dtypes else ""


def _type(op: Op, item: Number, parameter: Parameter | None) -> str:
    """The type that a number is passed as."""
    if item.type:
        return item.type
    if parameter is not None and parameter.element:
        return parameter.element
    names = {arg.name: arg for arg in op.inputs}
    real = item.literal is not None or (
        item.text in names and names[item.text].dtypes[0] == "float"
    )
    return "f32" if real else "i32"


def _struct_size(op: Op, struct: Struct) -> int:
    size, most = 0, 1
    for member in struct.members:
        width = _struct_size(op, member) if isinstance(member, Struct) else _width(op, member)
        align = _alignment(op, member)
        size = -(-size // align) * align + width
        most = max(most, align)
    return -(-size // most) * most


def _width(op: Op, item: Item) -> int:
    return SCALARS[_type(op, item, None)].itemsize if isinstance(item, Number) else POINTER_BYTES


def _alignment(op: Op, item: Item) -> int:
    if isinstance(item, Struct):
        return max((_alignment(op, member) for member in item.members), default=1)
    return _width(op, item)


def dims_of(op: Op, inputs: Mapping[str, Any]) -> dict[str, int]:
    """The op's sizes, from its inputs. One that may stand for many tells nothing alone."""
    dims: dict[str, int] = {}
    sides: list[tuple[str, int]] = []
    for arg in op.inputs:
        value = inputs[arg.name]
        if arg.scalar:
            dims |= {arg.symbol: int(value)} if arg.symbol else {}
        elif value is not None and not (arg.broadcast and value.size == 1):
            pairs = zip(arg.shape, value.shape, strict=True)
            sides += [(side, size) for side, size in pairs if isinstance(side, str)]
    solve(sides, dims)
    return dims


class Values:
    """The arguments of one call of an op: what stays the same over its launches."""

    def __init__(
        self, op: Op, inputs: Mapping[str, Any], options: Mapping[str, str], names: dict[str, int]
    ) -> None:
        """names: integers that formulas may use beside the op's sizes."""
        self.op, self.inputs, self.options = op, inputs, options
        first = getattr(inputs[op.inputs[0].name], "dtype", None)
        self.choice = {**options, "dtype": str(dtype_name(first))}
        self.dims = dims_of(op, inputs)
        self.names = {**names, **self.dims}
        self.outputs: dict[str, Array] = {}
        self.scratch: dict[str, Array] = {}
        self.buffers: dict[str, Array] = {}  # reached through pointers in structs, by name

    def results(self) -> tuple[Array, ...]:
        """The outputs in the op's order."""
        return tuple(self.outputs[arg.name] for arg in self.op.outputs)

    def value(self, item: Item, parameter: Parameter | None) -> Any:
        """What is passed for an item."""
        if isinstance(item, Null):
            return None
        if isinstance(item, Number):
            return self._number(item, _type(self.op, item, parameter))
        if isinstance(item, Struct):
            return self._struct(item)
        return self._array(item)

    def _number(self, item: Number, name: str) -> Any:
        if item.formula is not None:
            number: Any = evaluated(item.formula, self.names)
        else:
            number = self.inputs[item.text] if item.literal is None else item.literal
        dtype = SCALARS[name]
        if dtype.kind in "iu":
            low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
            if not low <= number <= high:
                raise LaunchError(f"--args: {word(item)} is {number}; {name} holds {low} to {high}")
        return dtype.type(number)

    def _array(self, item: Pointer | Scratch) -> Array | None:
        if isinstance(item, Scratch):
            if item.name not in self.scratch:
                count = evaluated(item.size, self.names)
                most = MOST_SCRATCH // SCALARS[item.type].itemsize
                if not 1 <= count <= most:
                    raise LaunchError(
                        f"--args: {word(item)} has {count} elements at {self.dims}; allowed: 1 to "
                        f"{most}"
                    )
                self.scratch[item.name] = memory((count,), SCALARS[item.type], item.zeroed)
            return self.scratch[item.name]
        if not item.output:
            return self._input(item.name)
        if item.name not in self.outputs:
            self.outputs[item.name] = self._output(item)
        return self.outputs[item.name]

    def _input(self, name: str) -> Array | None:
        """One for all is spread to the full size."""
        arg, array = argument(self.op, name), self.inputs[name]
        if array is None or not arg.broadcast:
            return None if array is None else np.asarray(array)
        return np.ascontiguousarray(np.resize(array, self._shape(arg)))

    def _output(self, item: Pointer) -> Array:
        arg = argument(self.op, item.name)
        made = memory(
            self._shape(arg), DTYPES[dtype_of(self.op, arg, self.choice)], item.start == "0"
        )
        if item.start not in ("", "0"):
            made[...] = self.inputs[item.start]
            emulator.mark_written(made)
        return made

    def _shape(self, arg: Arg) -> tuple[int, ...]:
        return tuple(s if isinstance(s, int) else evaluate(s, self.dims) for s in arg.shape)

    def _struct(self, struct: Struct) -> bytes:
        packed = b""
        for member in struct.members:
            align = _alignment(self.op, member)
            packed = packed.ljust(-(-len(packed) // align) * align, b"\0")
            packed += self._packed(member)
        return packed.ljust(_struct_size(self.op, struct), b"\0")

    def _packed(self, member: Item) -> bytes:
        value = self.value(member, None)
        if isinstance(value, np.ndarray):
            name = word(member)
            if emulator.written(value) is None:  # an ordinary array: the emulator needs its own
                value = self.buffers.get(name, copied(value))
            self.buffers[name] = value
            return int(value.ctypes.data).to_bytes(POINTER_BYTES, "little")
        if value is None:
            return bytes(POINTER_BYTES)
        return value if isinstance(value, bytes) else bytes(value.tobytes())


def evaluated(formula: Any, names: Mapping[str, int]) -> int:
    """A formula's value. Raises LaunchError where it divides by 0."""
    try:
        return int(formula.value(names))
    except ZeroDivisionError:
        raise LaunchError(f"{formula.option}: {formula.text!r} divides by 0 at {names}") from None


def memory(shape: tuple[int, ...], dtype: np.dtype[Any], zeroed: bool) -> Array:
    """Memory of the emulator's: unwritten, or zeros."""
    made = emulator.empty(shape, dtype)
    if zeroed:
        made[...] = np.zeros((), dtype)
        emulator.mark_written(made)
    return made


def copied(array: Array) -> Array:
    """The same elements in memory of the emulator's."""
    made = memory(array.shape, array.dtype, False)
    made[...] = array
    emulator.mark_written(made)
    return made
