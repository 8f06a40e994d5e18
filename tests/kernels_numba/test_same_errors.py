"""Bad calls are refused alike: the oracle and every kernel of both wings raise the same exception.

Contract: for each op that both wings implement, faults are made from its declaration alone, one at
a time in an otherwise valid call: per array a wrong dtype, rank, layout, size or value, no array at
all; per number a wrong type or value; per option an unknown word. Whatever the oracle refuses,
every kernel refuses with the same type and message. Of something that is no array the wings say
more than the oracle, namely where arrays run: there the type and the beginning are equal, and the
wings' messages among themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from quantassay.loading import load_wings
from reference.op import OPS, Arg, Op, kernels, recipe

load_wings()

SIZES = {"M": 3, "N": 16, "K": 32, "Q": 2, "G": 16, "B": 2, "P": 2}
NUMBERS = {"int": ("3", None, 2.5, True, 0, -1, 7), "float": ("x", None, float("nan"), -1.0)}
VALUES = (0.0, -1.0, np.nan, np.inf)  # of scales: 0, negative, no number, infinite
Fault = tuple[str, dict[str, Any], dict[str, Any]]  # in words; inputs, options

BOTH = sorted({one.op for one in kernels(wing="numba")} & {one.op for one in kernels(wing="cupy")})


def valid(op: Op) -> dict[str, Any]:
    sizes = {symbol: SIZES[symbol] for symbol in op.dims}
    return op.build(recipe(op.kinds[0], seed=1, dtype=op.dtypes[0], **sizes))


def faults(op: Op) -> Iterator[Fault]:
    """Calls with one fault each. Some are none to this op: an optional None, a broadcast size."""
    good = valid(op)
    first = {name: values[0] for name, values in op.options.items()}
    for arg in op.inputs:
        makers = _numbers(arg) if arg.scalar else _arrays(arg, good[arg.name])
        for words, value in makers:
            yield f"{arg.name}: {words}", {**good, arg.name: value}, first
    for name in op.options:
        for value in ("nonsense", "", None, 3):
            yield f"{name}={value!r}", good, {**first, name: value}
    for dialect in op.options.get("dialect", ()):
        yield f"float64 in {dialect}", _widened(op, good), {**first, "dialect": dialect}


def _numbers(arg: Arg) -> Iterator[tuple[str, Any]]:
    for value in NUMBERS[arg.dtypes[0]]:
        yield repr(value), value


def _arrays(arg: Arg, array: Any) -> Iterator[tuple[str, Any]]:
    for other in (None, [1.0], "text", 3):
        yield type(other).__name__, other
    if array is None:
        array = np.ones([SIZES[str(side)] for side in arg.shape], np.float32)
    yield "float64", array.astype(np.float64)
    yield "complex", array.astype(np.complex64)
    yield "int16", np.ones(array.shape, np.int16)
    yield "one axis more", array[None]
    yield "flat", np.concatenate([array.ravel(), array.ravel()])
    yield "no axis", np.array(array.flat[0])
    for axis in range(array.ndim):
        yield f"axis {axis} empty", array.take([], axis)
        yield f"axis {axis} shorter", np.ascontiguousarray(array.take([0], axis))
        yield f"axis {axis} twice", np.concatenate([array, array], axis)
        yield f"axis {axis} strided", np.repeat(array, 2, axis)[_every_second(axis)]
    if array.ndim == 2:
        yield "column-major", np.asfortranarray(array)
    if arg.dtypes == ("fp32",):
        for value in VALUES:
            changed = array.copy()
            changed.flat[-1] = value
            yield f"a {value}", changed
    if arg.dtypes == ("s32",):
        yield "huge", np.full_like(array, np.iinfo(np.int32).max)


def _every_second(axis: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(None, None, 2),)


def _widened(op: Op, good: dict[str, Any]) -> dict[str, Any]:
    """The first array as float64."""
    name = op.arrays()[0].name
    return {**good, name: good[name].astype(np.float64)}


def raised(call: Callable[..., Any], op: Op, fault: Fault) -> tuple[type, str] | None:
    _, inputs, options = fault
    try:
        call(*(inputs[arg.name] for arg in op.inputs), **options)
    except (TypeError, ValueError) as error:
        return type(error), str(error)
    return None


def same(wing: tuple[type, str] | None, oracle: tuple[type, str]) -> bool:
    """Equal, or equal up to what is allowed where something is no array."""
    if wing == oracle:
        return True
    beginning = oracle[1].partition("; allowed: a NumPy or CuPy array")
    return (
        wing is not None
        and wing[0] is oracle[0]
        and bool(beginning[1])
        and (wing[1].startswith(f"{beginning[0]}; allowed: a NumPy array"))
    )


@pytest.mark.parametrize("name", BOTH)
def test_bad_calls_raise_the_same_everywhere(name: str) -> None:
    op, refused, differing = OPS[name], 0, []
    for fault in faults(op):
        oracle = raised(op.oracle, op, fault)
        if oracle is None:
            continue
        refused += 1
        got = {one.label: raised(one.function, op, fault) for one in kernels(op=name)}
        if len(set(got.values())) > 1 or not all(same(one, oracle) for one in got.values()):
            differing.append((fault[0], oracle, got))
    assert not differing
    assert refused > 10 * len(op.arrays())


def test_every_op_has_both_wings() -> None:
    assert set(BOTH) == set(OPS)


@pytest.mark.parametrize("name", BOTH)
def test_messages_name_the_argument_and_what_is_allowed(name: str) -> None:
    op = OPS[name]
    names = {arg.name for arg in op.inputs} | set(op.options)
    for fault in faults(op):
        found = raised(op.oracle, op, fault)
        if found is not None:
            assert found[1].partition(":")[0] in names, (fault[0], found)
            assert "allowed" in found[1], (fault[0], found)
