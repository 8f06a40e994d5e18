"""Which input elements made one output element, in words.

Contract: read off the op's declaration alone. An input whose every symbol is a symbol of the
output gives one element; one with a further symbol (the K of a GEMM, the row of a dynamic scale)
gives the line along it, with its largest magnitude. A length-1 axis is broadcast, and S (one
scale, or one per row) goes with the first axis of the output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantassay.values import number, place, show
from reference.op import Arg, Op, solve

Array = NDArray[Any]
Place = tuple[int | None, ...]
SHOWN = 8  # elements of a line that are printed


def provenance(
    op: Op,
    inputs: Mapping[str, Any],
    expected: Mapping[str, Array],
    output: str,
    index: tuple[int, ...],
) -> list[str]:
    """One line per input, and per scale that the op computes, behind `output[index]`.

    inputs, expected: arrays by name (an optional input may be None); `index` is into `output`.
    """
    declared = next(arg for arg in op.outputs if arg.name == output)
    symbols = {s: i for s, i in zip(declared.shape, index, strict=True) if isinstance(s, str)}
    symbols |= _groups(declared, op.inputs, inputs, symbols)
    lines = []
    for arg in op.inputs:
        array = inputs.get(arg.name)
        if arg.scalar:
            lines.append(f"{arg.name} = {array}")
        elif array is not None:
            lines.append(_describe(arg.name, array, _where(arg, array.shape, symbols, index)))
    for arg in op.outputs:
        array = expected[arg.name]
        if arg.name != output and array.ndim == 1:
            group = _group(op, inputs, array.size, index)
            lines.append(_describe(arg.name, array, _where(arg, array.shape, symbols, index)))
            lines[-1] += f" (the group's {group})" if group else ""
    return lines


def _groups(
    output: Arg, args: Sequence[Arg], inputs: Mapping[str, Any], symbols: Mapping[str, int]
) -> dict[str, int]:
    """The group that an element lies in: of the side "Q*G", element i is of group i // G."""
    dims = {arg.symbol: int(inputs[arg.name]) for arg in args if arg.symbol}
    sides: list[tuple[str, int]] = []
    for arg in args:
        array = inputs.get(arg.name)
        if isinstance(array, np.ndarray) and array.ndim == len(arg.shape):
            sides += [
                (s, n) for s, n in zip(arg.shape, array.shape, strict=True) if isinstance(s, str)
            ]
    solve(sides, dims)
    found = {}
    for formula, place_ in symbols.items():
        group, _, size = formula.partition("*")
        if size in dims:
            found[group] = place_ // dims[size]
    return found


def _where(
    arg: Arg, shape: tuple[int, ...], symbols: Mapping[str, int], index: tuple[int, ...]
) -> Place:
    """Index per axis; None along an axis that the output element is summed or reduced over."""
    where: list[int | None] = []
    for symbol, side in zip(arg.shape, shape, strict=True):
        if side == 1:
            where.append(0)
        elif symbol in symbols:
            where.append(symbols[str(symbol)])
        else:
            where.append(index[0] if symbol == "S" else None)
    return tuple(where)


def _describe(name: str, array: Array, where: Place) -> str:
    free = where.count(None)
    if not free:
        return f"{place(name, where)} = {show(array[tuple(i or 0 for i in where)])}"
    if free == 1:
        line = array[tuple(slice(None) if i is None else i for i in where)]
        values = ", ".join(number(value) for value in line[:SHOWN])
        more = f", ... {line.size} in all" if line.size > SHOWN else ""
        return f"{place(name, where)} = [{values}{more}]; {_largest(line)}"
    return f"{name}: the whole array of shape {array.shape}; {_largest(array)}"


def _group(op: Op, inputs: Mapping[str, Any], scales: int, index: tuple[int, ...]) -> str:
    """Largest magnitude of the elements that share a computed scale: a row, or everything."""
    array = inputs.get(op.inputs[0].name)
    if array is None or array.ndim != 2:
        return ""
    return _largest(array[index[0]] if scales == array.shape[0] else array)


def _largest(line: Array) -> str:
    """The largest magnitude and how many NaN there are."""
    wide = np.abs(line.astype(np.float64)).reshape(-1)
    missing = int(np.isnan(wide).sum())
    if missing == wide.size:
        return "elements are all NaN"
    amax = f"amax {float(np.nanmax(wide)):.9g}"
    return f"{amax}, {missing} NaN" if missing else amax
