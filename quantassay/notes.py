"""What a run leaves open, in words: "div.full.f32 runs as IEEE division; a GPU may differ".

Contract: `note` may be called by anything that runs a kernel; inside `collected()` every text is
kept once, in order, and outside of it nothing happens. A note never changes a verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_TEXTS: ContextVar[dict[str, None] | None] = ContextVar("notes", default=None)


def note(text: str) -> None:
    """Adds a sentence to the result of the check that is running, if one is."""
    texts = _TEXTS.get()
    if texts is not None:
        texts[text] = None


@contextmanager
def collected() -> Iterator[dict[str, None]]:
    """The texts noted inside, as a dict's keys. Nested ones hear only what is noted in them."""
    texts: dict[str, None] = {}
    token = _TEXTS.set(texts)
    try:
        yield texts
    finally:
        _TEXTS.reset(token)
