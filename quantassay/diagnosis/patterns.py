"""Where the wrong elements lie and how they are wrong, when no hypothesis reproduces them.

Contract: every sentence is a fact that holds on each of the failing inputs that can show it (an
output of one row says nothing about "the last row"). Nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantassay.values import bits

Array = NDArray[Any]
Mask = NDArray[np.bool_]
POISON = 0xA5  # what the emulator fills fresh memory with
# What an output's axes are called, by their number.
AXES: dict[int, tuple[str, ...]] = {
    0: (),
    1: ("row",),
    2: ("row", "column"),
    3: ("matrix", "row", "column"),
}
STEPS = (2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Wrong:
    """One output of one failing case. mask: True where it differs."""

    got: Array
    expected: Array
    mask: Mask


def describe(failures: Sequence[Wrong]) -> list[str]:
    """Sentences that hold on all failures: how the values are wrong, then where they lie."""
    axes = AXES[failures[0].got.ndim]
    facts = [words for words, test in HOW.items() if _holds(test, failures)]
    facts += [words for words, test in _neighbours(axes) if _holds(test, failures)]
    place = next((words for words, test in _places(axes) if _holds(test, failures)), "")
    return facts + ([place] if place else [])


def _holds(test: Callable[[Wrong], bool | None], failures: Sequence[Wrong]) -> bool:
    """True on every failure that can show it (the others give None), and on one at least."""
    verdicts = [test(one) for one in failures]
    return any(verdicts) and all(verdict is not False for verdict in verdicts)


# --- how the values are wrong


def _poison(one: Wrong) -> bool:
    pattern = bits(one.got)[one.mask]
    word = int.from_bytes(bytes([POISON]) * one.got.dtype.itemsize, "little")
    return bool((pattern == word).all())


def _values(one: Wrong) -> tuple[Array, Array]:
    """(got, expected) at the wrong elements, as float64."""
    return one.got[one.mask].astype(np.float64), one.expected[one.mask].astype(np.float64)


def _zero(one: Wrong) -> bool:
    return bool((_values(one)[0] == 0).all())


def _new_nan(one: Wrong) -> bool:
    got, expected = _values(one)
    return bool((np.isnan(got) & ~np.isnan(expected)).all())


def _lost_nan(one: Wrong) -> bool:
    got, expected = _values(one)
    return bool((~np.isnan(got) & np.isnan(expected)).all())


def _zero_sign(one: Wrong) -> bool:
    got, expected = _values(one)
    return bool(((got == 0) & (expected == 0)).all())


def _negated(one: Wrong) -> bool:
    got, expected = _values(one)
    return bool(((got == -expected) & (expected != 0)).all())


def _one_step(one: Wrong) -> bool | None:
    """Integers off by 1, or floats off by one unit in the last place."""
    got, expected = _values(one)
    if one.got.dtype.kind in "iu":
        return bool((np.abs(got - expected) == 1).all())
    if np.isnan(got).any() or np.isnan(expected).any():
        return False
    distance = bits(one.got)[one.mask].astype(np.int64) - bits(one.expected)[one.mask]
    return bool((np.abs(distance) == 1).all())


def _wrapped(one: Wrong) -> bool | None:
    if one.got.dtype.kind not in "iu":
        return None
    got, expected = _values(one)
    return bool((np.abs(got - expected) == 256).all())


def _shifted(axis: int, step: int) -> Callable[[Wrong], bool | None]:
    """The wrong elements hold what the neighbour along `axis` should hold."""

    def test(one: Wrong) -> bool | None:
        if one.got.ndim <= axis or one.got.shape[axis] < 2:
            return None
        neighbour = np.roll(bits(one.expected), -step, axis=axis)
        return bool((bits(one.got) == neighbour)[one.mask].all())

    return test


HOW: dict[str, Callable[[Wrong], bool | None]] = {
    "the wrong elements hold the poison 0xA5: nothing was written there": _poison,
    "the wrong elements are 0": _zero,
    "the kernel gives NaN where a number is expected": _new_nan,
    "the kernel gives a number where NaN is expected": _lost_nan,
    "zeros of the wrong sign": _zero_sign,
    "every wrong element has the wrong sign": _negated,
    "every wrong element is off by one step (1 code, or 1 unit in the last place): "
    "a rounding, a contraction or the order of operations": _one_step,
    "every wrong element is off by 256: an integer wrapped": _wrapped,
}


def _neighbours(axes: Sequence[str]) -> Iterator[tuple[str, Callable[[Wrong], bool | None]]]:
    for axis, name in enumerate(axes):
        words = f"the wrong elements hold the values of the {{}} {name}"
        yield words.format("next"), _shifted(axis, 1)
        yield words.format("previous"), _shifted(axis, -1)


# --- where they lie


def _places(axes: Sequence[str]) -> Iterator[tuple[str, Callable[[Wrong], bool | None]]]:
    """Regions, the narrower first."""
    for axis, name in reversed(list(enumerate(axes))):
        yield f"all wrong elements lie in the last {name}", _last(axis)
        yield f"all wrong elements lie in the first {name}", _residue(axis, None, 0)
        for step in STEPS:
            words = f"all wrong elements lie in the tail: the last {name}s % {step}"
            yield words, _tail(axis, step)
        for step in reversed(STEPS):
            for at in (step - 1, 0):
                words = f"all wrong elements lie at a tile's edge: {name} % {step} == {at}"
                yield words, _residue(axis, step, at)
        for step in reversed(STEPS):
            yield f"all wrong elements lie in {name}s >= {step}", _beyond(axis, step)


def _indices(one: Wrong, axis: int) -> tuple[NDArray[np.int64], int] | None:
    """Indices of the wrong elements along an axis, and its length; None where there is none."""
    if one.mask.ndim <= axis or one.mask.shape[axis] < 2:
        return None
    return np.nonzero(one.mask)[axis], one.mask.shape[axis]


def _last(axis: int) -> Callable[[Wrong], bool | None]:
    def test(one: Wrong) -> bool | None:
        found = _indices(one, axis)
        return None if found is None else bool((found[0] == found[1] - 1).all())

    return test


def _residue(axis: int, step: int | None, at: int) -> Callable[[Wrong], bool | None]:
    """index % step == at, or index == at without a step; needs more than one whole tile."""

    def test(one: Wrong) -> bool | None:
        found = _indices(one, axis)
        if found is None or (step is not None and found[1] < step):
            return None
        index = found[0] if step is None else found[0] % step
        return bool((index == at).all())

    return test


def _tail(axis: int, step: int) -> Callable[[Wrong], bool | None]:
    def test(one: Wrong) -> bool | None:
        found = _indices(one, axis)
        if found is None or found[1] < step:
            return None
        return bool((found[0] >= found[1] - found[1] % step).all())

    return test


def _beyond(axis: int, step: int) -> Callable[[Wrong], bool | None]:
    def test(one: Wrong) -> bool | None:
        found = _indices(one, axis)
        if found is None:
            return None
        return bool((found[0] >= step).all())

    return test
