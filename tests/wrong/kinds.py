"""What is wrong with a planted wrong kernel, as a class: derived from its words, or given.

Contract: `kind_of(words)` is the first class of KINDS one of whose phrases is in the words that the
reason must contain; ValueError where none is. `page(wrong)` is docs/wrong-kernels.md, written by
`python -m tests.wrong.kinds --write`; tests/test_wrong_kinds.py holds it current.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "docs" / "wrong-kernels.md"

# The first that fits counts: what a checker of memory and threads says comes before numerics.
KINDS: dict[str, tuple[str, ...]] = {
    "out of bounds": ("out-of-bounds",),
    "misaligned access": ("misaligned",),
    "uninitialised read": ("nobody has written",),
    "missing copy wait": ("cp.async",),
    "race or missing barrier": ("race", "barrier"),
    "deadlock": ("deadlock",),
    "wrong shuffle or mask": ("member mask", "shuffle step"),
    "incomplete reduction": ("first 32 lanes", "drops the tail", "tile edge"),
    "unwritten output": ("never written",),
    "modified input": ("modifies its input",),
    "not reproducible": ("different bits",),
    "wrong outputs": ("returns shape", "returns dtype", "outputs; expected", "raises ValueError"),
    "another dialect": ("dialect",),
    "NaN": ("NaN",),
    "zero row": ("zero row",),
    "subnormals and signed zeros": ("subnormals", "zeros of the wrong sign", "canonical"),
    "zero point": ("zero point", "wrong sign", "widen the range"),
    "clamp": ("clamp", "saturates"),
    "overflow and accumulator": ("int16", "in fp32", "accumulator to fp32"),
    "signedness": ("unsigned", "u8 as s8"),
    "division or reciprocal": ("reciprocal", "the inverse of the", "multiplies by the smooth"),
    "levels of the scale": ("amax/128", "(max - min)/256", "scale to fp16", "scale sA to fp16",
                            "scale rounded to fp16", "largest element, not"),
    "wrong row, group or batch": ("wrong row", "wrong group", "wrong matrix", "whole row",
                                  "whole tensor", "groups that begin", "one for all"),
    "layout": ("transpose", "swaps", "wrong axis", "packs", "packed weights", "beyond K",
               "reads b as"),
    "order of operations": ("before the scales", "scales first", "another order", "bias after",
                            "one element after another", "before it is", "two things at once",
                            "value to fp16"),
    "fused or double rounding": ("FMA", "fma", "double rounding", "without a fixed rounding"),
    "rounding": ("truncates", "halves", "nearest even", "rounds"),
    "formula": ("leaves out", "divides", "after the square root", "mean", "weight", "sigmoid",
                "exp", "tanh", "residual"),
}  # fmt: skip


def kind_of(words: Sequence[str]) -> str:
    """The class of a wrong kernel from the words of its reason. Raises ValueError."""
    text = " ".join(words)
    for kind, phrases in KINDS.items():
        if any(phrase in text for phrase in phrases):
            return kind
    raise ValueError(
        f"words: got {tuple(words)}; allowed: words of a class in tests/wrong/kinds.py"
    )


def by_kind(wrong: Iterable[Any]) -> dict[str, list[Any]]:
    """The wrong kernels (planted.Planted) of each class, in the order of KINDS."""
    found: dict[str, list[Any]] = {}
    for one in wrong:
        found.setdefault(one.kind or kind_of(one.words), []).append(one)
    order = list(KINDS)
    return dict(sorted(found.items(), key=lambda item: order.index(item[0])))


def page(wrong: Sequence[Any]) -> str:
    """The document: every wrong kernel under its class, with the words its reason must have."""
    classes = by_kind(wrong)
    lines = [
        "# Wrong kernels that the check engine rejects",
        "",
        f"{len(wrong)} planted kernels in {len(classes)} classes (`tests/wrong`). Each is rejected",
        "by `quantassay check`'s engine, and its reason must contain the words given here. Made by",
        "`python -m tests.wrong.kinds --write`; what the emulator finds by itself, with the text",
        "of the kernels, is in `sanitizer.md`.",
        "",
        "| class | kernel | op | written in | the reason says |",
        "|---|---|---|---|---|",
    ]
    for kind, members in classes.items():
        for one in members:
            words = "; ".join(one.words).replace("|", "\\|")
            lines.append(f"| {kind} | {one.name} | {one.op} | {one.wing} | {words} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Print the page, or write it with --write."""
    from tests.test_wrong_kernels import WRONG

    text = page(WRONG)
    if "--write" in arguments:
        DOCUMENT.write_text(text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
