"""Small phrases that messages share."""

from __future__ import annotations

from collections.abc import Iterable


def plural(count: int, noun: str) -> str:
    """ "1 byte", "4 bytes"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def spans(numbers: Iterable[int]) -> str:
    """Sorted numbers as ranges: "0-3, 7"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def lanes(mask: int) -> str:
    """ "lane 3", "lanes 0-3, 7"."""
    members = [lane for lane in range(32) if mask >> lane & 1]
    return f"lane{'s' if len(members) > 1 else ''} {spans(members)}"


def threads(linear: list[int]) -> str:
    """Threads by their linear index in the block: "thread 3", "threads 0-31"."""
    return f"thread{'s' if len(linear) > 1 else ''} {spans(linear)}"


def dims_of(index: int, dims: tuple[int, int, int]) -> tuple[int, int, int]:
    """(x, y, z) of a linear index."""
    x, y, _ = dims
    return index % x, index // x % y, index // (x * y)
