"""Checks of arguments that are no arrays: numbers, words, lists of names, sizes, objects.

Contract: as validate.py: a wrong type is a TypeError, a wrong value a ValueError, and the message
names the argument, what was got and what is allowed. Nothing is converted but a NumPy integer to
an int.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

SHOWN = 60  # characters of a value in a message


def shown(value: Any) -> str:
    """A value as messages show it: one short line, what it is where it is no plain value."""
    text = " ".join(repr(value).split())
    text = text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
    plain = value is None or isinstance(value, (bool, int, float, str))
    return text if plain else f"{text}, a {type(value).__name__}"


def check_int(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """An int (no bool) from `least` to `most`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: got {shown(value)}; allowed: an int")
    if (least is not None and value < least) or (most is not None and value > most):
        high = f">= {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{name}: got {value}; allowed: {high}")
    return int(value)


def check_number(name: str, value: Any, least: float | None = None) -> float:
    """A finite int or float, at least `least`."""
    number = isinstance(value, (int, float, np.integer, np.floating))
    if not number or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: got {shown(value)}; allowed: a number")
    if not np.isfinite(float(value)) or (least is not None and value < least):
        bound = "finite" if least is None else f"finite and >= {least}"
        raise ValueError(f"{name}: got {value}; allowed: {bound}")
    return float(value)


def check_text(name: str, value: Any) -> str:
    """A str."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: got {shown(value)}; allowed: a str")
    return value


def check_word(name: str, value: Any, allowed: Iterable[str]) -> str:
    """One of the words `allowed`."""
    words = list(allowed)
    if not isinstance(value, str):
        raise TypeError(f"{name}: got {shown(value)}; allowed: {', '.join(words)}")
    if value not in words:
        raise ValueError(f"{name}: got {value!r}; allowed: {', '.join(words)}")
    return value


def check_names(name: str, values: Any) -> tuple[str, ...]:
    """A list or other collection of str (one str alone is a mistake, not a list of letters)."""
    right = isinstance(values, Iterable) and not isinstance(values, (str, bytes))
    found = tuple(values) if right else ()
    if not right or not all(isinstance(value, str) for value in found):
        raise TypeError(f"{name}: got {shown(values)}; allowed: a list or tuple of str")
    return found


def check_kind(name: str, value: Any, kinds: type | tuple[type, ...], words: str) -> None:
    """An object of one of these classes, called `words`."""
    if not isinstance(value, kinds):
        raise TypeError(f"{name}: got {shown(value)}; allowed: {words}")


def check_list(name: str, values: Any, kinds: type | tuple[type, ...], words: str) -> None:
    """A list or tuple of objects of one of these classes, each called `words`."""
    right = isinstance(values, Sequence) and not isinstance(values, (str, bytes))
    if not right or not all(isinstance(value, kinds) for value in values):
        raise TypeError(f"{name}: got {shown(values)}; allowed: a list or tuple, each {words}")


def check_sizes(name: str, dims: Any, needed: Iterable[str] = ()) -> None:
    """A mapping of symbols to ints >= 1 that has every symbol of `needed`."""
    check_kind(name, dims, Mapping, "a mapping of symbols to sizes")
    for symbol, size in dims.items():
        check_text(f"{name}: a symbol", symbol)
        check_int(f"{name}[{symbol!r}]", size, 1)
    missing = [symbol for symbol in needed if symbol not in dims]
    if missing:
        raise ValueError(f"{name}: got {shown(dict(dims))}; allowed: sizes of all of "
                         f"{', '.join(needed)}")  # fmt: skip
