"""The smallest part of an input on which something still holds.

Contract: `shrunk(op, inputs, holds)` leaves out rows, columns and groups, the same of every array
that has them, as long as `holds(inputs)` is true, then gives floats fewer significant bits where
few are left. It calls `holds` at most `TRIES` times, and returns inputs on which it was true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.numerics import dtype_name
from reference.op import Arg, Op, solve

Arrays = dict[str, Any]
Holds = Callable[[Arrays], bool]
TRIES = 240
FEW = 6  # elements of an array whose values are simplified
SIGNIFICANT = (1, 2, 3, 4, 6, 8, 10, 12, 16)  # bits


def shrunk(op: Op, inputs: Mapping[str, Any], holds: Holds, tries: int = TRIES) -> Arrays:
    """inputs: arrays and numbers by name, on which `holds` is true."""
    best, left = dict(inputs), [tries]

    def still(candidate: Arrays | None) -> bool:
        if candidate is None or left[0] <= 0:
            return False
        left[0] -= 1
        return holds(candidate)

    for symbol in op.dims:
        best = _fewer(op, best, symbol, still)
    return _simpler(op, best, still)


def sizes(op: Op, inputs: Mapping[str, Any]) -> dict[str, int]:
    """The op's symbols, as far as its inputs tell them."""
    dims = {arg.symbol: int(inputs[arg.name]) for arg in op.inputs if arg.symbol}
    found = []
    for arg in op.arrays():
        if inputs.get(arg.name) is not None:
            sides = zip(arg.shape, inputs[arg.name].shape, strict=True)
            found += [(str(formula), side) for formula, side in sides]
    solve([pair for pair in found if _plain(pair[0])], dims)
    return dims


def _plain(formula: str) -> bool:
    return all(part.isidentifier() for part in formula.split("*"))


def _fewer(op: Op, inputs: Arrays, symbol: str, still: Callable[[Arrays | None], bool]) -> Arrays:
    """Delta debugging over the indices of one symbol."""
    count = sizes(op, inputs).get(symbol, 1)
    kept, parts = list(range(count)), 2
    while len(kept) > 1:
        chunks = [list(part) for part in np.array_split(kept, min(parts, len(kept)))]
        rests = [[at for at in kept if at not in chunk] for chunk in chunks]
        options = chunks + (rests if len(chunks) > 2 else [])
        found = next((keep for keep in options if still(take(op, inputs, symbol, keep))), None)
        if found is not None:
            kept, parts = found, max(2, parts - 1) if found in rests else 2
        elif len(chunks) < len(kept):
            parts = min(2 * parts, len(kept))
        else:
            break
    return take(op, inputs, symbol, kept) or inputs


def take(op: Op, inputs: Mapping[str, Any], symbol: str, keep: list[int]) -> Arrays | None:
    """The inputs with only these indices of a symbol; None where a shape does not allow it."""
    dims, found = sizes(op, inputs), {}
    if symbol not in dims:
        return None
    for arg in op.inputs:
        value = inputs.get(arg.name)
        if isinstance(value, np.ndarray):
            value = _taken(op, arg, value, dims, symbol, keep)
            if value is None:
                return None
        elif arg.symbol == symbol:
            value = len(keep)
        found[arg.name] = value
    return found


def _taken(
    op: Op, arg: Arg, array: NDArray[Any], dims: Mapping[str, int], symbol: str, keep: list[int]
) -> NDArray[Any] | None:
    for axis, formula in enumerate(map(str, arg.shape)):
        factors = formula.split("*")
        by_row = formula == "S" and symbol == op.dims[0]
        if by_row and array.shape[axis] == dims[symbol] > 1:
            array = array.take(keep, axis)
        elif symbol in factors and array.shape[axis] != 1:
            if not _plain(formula) or not set(factors) <= set(dims):
                return None
            sides = [dims[factor] for factor in factors]
            wide = array.reshape(*array.shape[:axis], *sides, *array.shape[axis + 1 :])
            part = wide.take(keep, axis + factors.index(symbol))
            side = array.shape[axis] // dims[symbol] * len(keep)
            array = part.reshape(*array.shape[:axis], side, *array.shape[axis + 1 :])
        elif symbol in formula and not (factors == [symbol] or dims[symbol] == 1):
            return None  # a broadcast side of a product, or a formula that is none
    return np.ascontiguousarray(array)


def _simpler(op: Op, inputs: Arrays, still: Callable[[Arrays | None], bool]) -> Arrays:
    """Fewer significant bits, element by element."""
    for name, array in list(inputs.items()):
        if not isinstance(array, np.ndarray) or array.size > FEW:
            continue
        if dtype_name(array.dtype) not in ("fp32", "fp16", "bf16"):
            continue
        for index in np.ndindex(array.shape):
            value = float(inputs[name][index])
            if value == 0 or not np.isfinite(value):
                continue
            for bits in SIGNIFICANT:
                changed = inputs[name].copy()
                changed[index] = _rounded(value, bits)
                if float(changed[index]) == value:
                    break
                if still({**inputs, name: changed}):
                    inputs = {**inputs, name: changed}
                    break
    return inputs


def _rounded(value: float, bits: int) -> float:
    """To so many significant bits."""
    fraction, exponent = np.frexp(value)
    return float(np.ldexp(np.rint(np.ldexp(fraction, bits)), exponent - bits))
