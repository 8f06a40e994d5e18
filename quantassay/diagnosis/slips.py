"""A slip: knobs turned by mistake, and the words for it. What the families' lists share.

Contract: a slip is (knobs, words); the words complete the sentence "the kernel ...".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from quantassay.diagnosis import knobs

Slip = tuple[dict[str, Any], str]
NARROW = ("fp16", "bf16")


def rows(knob: str, what: str, axis: str) -> Iterator[Slip]:
    """Entry of another index: `what` of the wrong row or column."""
    yield from places((knob,), what, axis)


def places(turned: tuple[str, ...], what: str, axis: str) -> Iterator[Slip]:
    """The same, of several knobs at once."""
    wrong = f"takes {what} of the wrong {axis}"
    for name, index in knobs.ROWS.items():
        yield dict.fromkeys(turned, index), f"{wrong}: {name}"
    for tile in (2, 4, 8, 16, 32, 64, 128):
        first, within = knobs.first_of(tile), knobs.within(tile)
        yield dict.fromkeys(turned, first), f"{wrong}: the first of each {tile}"
        yield (
            dict.fromkeys(turned, within),
            f"{wrong}: index % {tile}, the place inside a tile",
        )


def groups(turned: tuple[str, ...], what: str) -> Iterator[Slip]:
    """The entry of another group along K."""
    for name, index in knobs.GROUPS.items():
        yield dict.fromkeys(turned, index), f"takes {what} of the wrong group: {name}"


def output() -> Iterator[Slip]:
    """The rounding to the output dtype."""
    yield {"out_rounding": "rz"}, "truncates toward zero when it rounds to the output dtype"
    for name in NARROW:
        turned = {"out_rounding": "rz", "out_rounding_of": name}
        yield turned, f"truncates toward zero when it rounds to the output dtype {name}"
    yield {"out_rounding": "via fp16"}, "rounds to fp16 on the way to the output (double rounding)"
    yield {"out_rounding": "via bf16"}, "rounds to bf16 on the way to the output (double rounding)"
    yield {"out_rounding": "saturate"}, "saturates the output where it should overflow to infinity"
    yield {"out_rounding": "flush"}, "flushes subnormals of the output to zero"


def subsets(of: str, what: str = "amax") -> Iterator[Slip]:
    """A row or group that is not looked at in full."""
    part = f"takes {what} over a part of the {of} only: {{}}"
    for step in (2, 4, 8, 16, 32, 64, 128, 256):
        turned = {"amax_of": knobs.whole_of(step)}
        yield turned, part.format(f"the last K % {step} are left out")
    for end in ("last", "first"):
        yield {"amax_of": knobs.all_but(1, end)}, part.format(f"without the {end} element")
    for count in (1, 16, 32, 64, 128, 256, 512, 1024):
        yield {"amax_of": knobs.head(count)}, part.format(f"the first {count} elements")
    for vector in (1, 2, 4, 8, 16):
        each = f", {vector} elements a lane" if vector > 1 else ""
        for threads in (64, 128, 256, 512, 1024):
            subset = knobs.lanes(threads, vector, lambda lane: lane < 32)
            text = f"the first 32 lanes of {threads} (the other warps are lost){each}"
            yield {"amax_of": subset}, part.format(text)
        for step in (16, 8, 4, 2, 1):
            subset = knobs.lanes(32, vector, lambda lane, step=step: lane & step == 0)  # type: ignore[misc]
            text = f"the shuffle step {step} of the reduction is lost{each}"
            yield {"amax_of": subset}, part.format(text)
