"""Malformed arguments, made from a valid one: the wrong type, dtype, shape, layout, size or word.

Contract: `malformed(value)` yields (words, other value), each a plausible mistake for an argument
whose right value is like `value`. Some are none to a given function (a read-only array, an int for
a float): the tests ask only that what is refused is refused in the documented way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

HUGE = 2**40
Fault = tuple[str, Any]


class Strange:
    """An object of no known type; its representation is fixed, so that messages are."""

    def __repr__(self) -> str:
        return "Strange()"


def malformed(value: Any) -> Iterator[Fault]:
    """Mistakes for an argument that is rightly like `value`."""
    if isinstance(value, np.ndarray):
        yield from _arrays(value)
    elif isinstance(value, bool):
        yield from _each(None, "yes", 2, [], Strange())
    elif isinstance(value, int):
        yield from _each(None, "3", 2.5, [], True, 0, -1, HUGE, -HUGE, 1 << 70, Strange())
        yield from _each(float("nan"), 1j, np.float32(2), np.zeros(2, np.int32))
    elif isinstance(value, float):
        yield from _each(None, "1.0", [], Strange(), 1j, 0.0, -1.0, 1e300, np.zeros(2))
        yield from _each(float("nan"), float("inf"), -float("inf"))
    elif isinstance(value, str):
        yield from _each(None, "", "nonsense", "\0", 3, 2.5, [], {}, b"ieee", Strange())
        yield "upper case", value.upper() + "X"
        yield "a list of it", [value]
    elif isinstance(value, Path):
        yield from _each(None, 3, [], Strange(), Path("nowhere/at/all"), Path("/"), Path("\0"))
    elif isinstance(value, Mapping):
        yield from _mappings(value)
    elif isinstance(value, (bytes, bytearray)):
        yield from _each(None, 3, "text", [], b"", b"\x7fELF", bytes(64), Strange())
    elif isinstance(value, Sequence):
        yield from _each(None, 3, "nonsense", (), [None], [Strange()], [[]], Strange())
    elif callable(value):
        yield from _each(None, 3, "text", Strange())
    else:
        yield from _each(None, 3, "text", [], Strange())


def _each(*values: Any) -> Iterator[Fault]:
    for value in values:
        words = f"array {value.shape}" if isinstance(value, np.ndarray) else repr(value)
        yield words, value


def _mappings(value: Mapping[Any, Any]) -> Iterator[Fault]:
    yield from _each(None, 3, "text", [], {}, Strange())
    for key in value:
        yield f"without {key}", {k: v for k, v in value.items() if k != key}
        for word, other in malformed(value[key]):
            yield f"{key}: {word}", {**value, key: other}
    yield "one key more", {**value, "nonsense": 1}
    yield "a key that is no text", {**value, 3: 1}


def _arrays(array: np.ndarray) -> Iterator[Fault]:
    yield from _each(None, [1.0], "text", 3, 2.5, {}, Strange())
    yield from _dtypes(array)
    yield from _shapes(array)
    yield from _ducks(array)
    if array.dtype == np.float32:
        for value in (0.0, -1.0, np.nan, np.inf):
            changed = array.copy()
            changed.flat[-1] = value
            yield f"a {value}", changed


def _dtypes(array: np.ndarray) -> Iterator[Fault]:
    shape = array.shape
    for name in ("float64", "complex64", "int16", "uint64", "bool", "U3", "S2", "M8[s]", "V4"):
        yield name, np.zeros(shape, name)
    yield "object", np.ones(shape, object)
    yield "structured", np.zeros(shape, [("a", "f4"), ("b", "i4")])
    if array.dtype.itemsize > 1 and array.dtype.kind in "fiu":
        yield "big-endian", array.astype(array.dtype.newbyteorder(">"))


def _shapes(array: np.ndarray) -> Iterator[Fault]:
    yield "no axis", np.array(array.flat[0])
    yield "one axis more", array[None]
    yield "flat, twice", np.concatenate([array.ravel(), array.ravel()])
    yield "empty", np.zeros((0,) * array.ndim, array.dtype)
    yield "broadcast", np.broadcast_to(array.flat[0], array.shape)
    if array.ndim > 1:
        yield "transposed", np.swapaxes(array, 0, 1)
        yield "column-major", np.asfortranarray(array)
    for axis in range(array.ndim):
        yield f"axis {axis} empty", array.take([], axis)
        yield f"axis {axis} twice", np.concatenate([array, array], axis)
        yield f"axis {axis} backwards", np.flip(array, axis)
        yield f"axis {axis} strided", np.repeat(array, 2, axis)[_every_second(axis)]


def _every_second(axis: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(None, None, 2),)


def _ducks(array: np.ndarray) -> Iterator[Fault]:
    """Things that look like arrays."""
    fixed = array.copy()
    fixed.flags.writeable = False
    yield "read-only", fixed
    yield "a memoryview", memoryview(np.zeros(array.shape, np.uint8))
    yield "a scalar", array.dtype.type(1)
    yield "a dtype alone", SimpleNamespace(dtype=array.dtype)
    yield "a shape of text", SimpleNamespace(dtype=array.dtype, shape="ab", strides=())
    yield "a dtype of text", SimpleNamespace(dtype="nonsense", shape=array.shape, strides=())
    if array.dtype.kind in "fiu":
        yield "masked", np.ma.masked_array(array, np.ones(array.shape, bool))


def calls(valid: Mapping[str, Any], endless: Sequence[str] = ()) -> Iterator[Fault]:
    """(words, keyword arguments): a valid call with one fault each.

    endless: arguments of which a huge number is no mistake, but work without end.
    """
    for name, value in valid.items():
        for words, other in malformed(value):
            if name in endless and isinstance(other, int) and other >= HUGE:
                continue
            yield f"{name}={words}", {**valid, name: other}
    yield "an unknown keyword", {**valid, "nonsense": 1}
    for name in valid:
        yield f"without {name}", {k: v for k, v in valid.items() if k != name}
