"""Real text for the real model: English prose that comes with every Python.

Contract: the text is `pydoc_data.topics`, the chapters of the Python language reference that
`help("TOPICS")` shows. It lies in the standard library (Debian: libpython3.x-stdlib), so it needs
no network and no download. Sentences are cut deterministically: topics in alphabetical order,
blocks of unindented prose, whitespace squeezed, full sentences of 6 to 48 words, duplicates
dropped. The text differs between Python versions, so a report records `Corpus.sha256` and the
version; nothing fails because of it.
"""

from __future__ import annotations

import hashlib
import platform
import re
from dataclasses import dataclass
from pydoc_data.topics import topics

from reference.arguments import check_int

MIN_WORDS, MAX_WORDS = 6, 48
_END = re.compile(r"(?<!i\.e\.)(?<!e\.g\.)(?<=[.?!])\s+(?=[A-Z\"*])")
_MARKUP = re.compile(r"::=|->|>>>|\.\. |\*\*\*|===|---|[{}|\\<>]")


@dataclass(frozen=True)
class Corpus:
    """Sentences and where they come from. `sha256` is that of the sentences joined by newlines."""

    sentences: tuple[str, ...]
    source: str
    sha256: str


def corpus(count: int) -> Corpus:
    """`count` sentences, spread evenly over the whole text in its order.

    Raises ValueError if `count` is below 1 or above what the text holds.
    """
    everything = sentences()
    check_int("count", count, 1, len(everything))
    chosen = tuple(everything[i * len(everything) // count] for i in range(count))
    return Corpus(
        chosen,
        f"pydoc_data.topics of Python {platform.python_version()} (the language reference)",
        hashlib.sha256("\n".join(chosen).encode()).hexdigest(),
    )


def sentences() -> tuple[str, ...]:
    """Every sentence of the text, in order, without duplicates."""
    found: dict[str, None] = {}
    for name in sorted(topics):
        for block in topics[name].split("\n\n"):
            found.update(dict.fromkeys(_sentences_of(block)))
    return tuple(found)


def _sentences_of(block: str) -> list[str]:
    """The full sentences of one paragraph; none of an indented (code, grammar) block."""
    if not block.strip() or block.startswith((" ", "\t")) or _MARKUP.search(block):
        return []
    text = " ".join(block.split())
    return [
        sentence
        for sentence in _END.split(text)
        if MIN_WORDS <= len(sentence.split()) <= MAX_WORDS
        and sentence[0].isupper()
        and sentence.endswith((".", "?", "!"))
    ]
