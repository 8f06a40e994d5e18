"""The catalogue of what the emulator finds, and the page made of it: docs/sanitizer.md.

Contract: every Entry of `ENTRIES` is a planted bug that `found` runs and describes; `page` is the
text of docs/sanitizer.md, which `python -m tests.emulator.catalogue --write` writes. A test holds
the page current, each finding with its kernel, source line, thread and block, and each right twin
clean.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from emulator import EmulatorError, Kernel
from emulator.arguments import SHARED_LIMIT
from tests.emulator import catalogue_memory, catalogue_races, catalogue_threads
from tests.emulator.planted import Bug, Entry, launch

ENTRIES: tuple[Entry, ...] = (
    *catalogue_memory.ENTRIES,
    *catalogue_threads.ENTRIES,
    *catalogue_races.ENTRIES,
)
FUEL = 100_000
DOCUMENT = Path(__file__).parents[2] / "docs" / "sanitizer.md"
INTRODUCTION = Path(__file__).parent / "catalogue.md"
MARK = "<!-- the catalogue -->"


def options(entry: Entry) -> dict[str, object]:
    together = entry.name in catalogue_threads.TOGETHER
    return {"fuel": 10_000_000, "cooperative": True} if together else {"fuel": FUEL}


def found(kernel: Kernel, entry: Entry) -> EmulatorError:
    """What the emulator says about an entry's wrong kernel."""
    try:
        launch(kernel, entry.bug.ready(), **options(entry))
    except EmulatorError as error:
        return error
    raise AssertionError(f"{entry.group}, {entry.name}: nothing was found")


def within_the_limit(bug: Bug) -> Bug:
    return replace(bug, shared_bytes=SHARED_LIMIT)


def run_right(kernel: Kernel, bug: Bug, entry: Entry) -> None:
    """The right twin of an entry; its launch must find nothing."""
    launch(kernel, bug.ready(), **options(entry))


def said(error: EmulatorError) -> str:
    """The message without what differs from compiler to compiler: register names, PTX lines."""
    lines = str(error).splitlines()
    kept = [line for line in lines if not line.startswith("  PTX line")]
    text = "\n".join(kept)
    text = re.sub(r"/[^\n:()]*test\.cu:", "line ", text)  # a path may hold spaces
    return re.sub(r"PTX line \d+, ", "", re.sub(r"[^\s(]*test\.cu:", "line ", text))


def _lines(source: str) -> str:
    """The kernel, its lines numbered as the compiler counts them."""
    body = textwrap.dedent(source).rstrip().splitlines()
    first = next(i for i, line in enumerate(body) if line.strip())
    return "\n".join(f"{i + 1:3} {line}".rstrip() for i, line in enumerate(body) if i >= first)


def section(entry: Entry, error: EmulatorError) -> str:
    more = "".join(f", {name}={value}" for name, value in entry.bug.options.items())
    launched = f"{entry.bug.blocks} x {entry.bug.threads} threads{more}"
    if entry.bug.shared_bytes:
        launched += f", shared_bytes={entry.bug.shared_bytes}"
    return "\n".join(
        [
            f"**{entry.name}** ({launched})\n",
            f"```cuda\n{_lines(entry.bug.source)}\n```\n",
            f"```text\n{said(error)}\n```\n",
        ]
    )


def page(cuda: Callable[[str], Kernel]) -> str:
    """The whole document."""
    parts: dict[str, list[str]] = {}
    for entry in ENTRIES:
        error = found(cuda(entry.bug.source), entry)
        parts.setdefault(entry.group, []).append(section(entry, error))
    body = [f"## {group[0].upper()}{group[1:]}\n\n" + "\n".join(p) for group, p in parts.items()]
    head = INTRODUCTION.read_text().replace("ENTRIES", str(len(ENTRIES)))
    head = head.replace("GROUPS", str(len(parts)))
    return head.replace(MARK, "\n".join(body))


def main(arguments: list[str]) -> int:
    """Print the page, or write it with --write."""
    import emulator
    from tests.emulator.conftest import compile_cuda

    text = page(lambda source: emulator.compile(compile_cuda(source)).kernel("k"))
    if "--write" in arguments:
        DOCUMENT.write_text(text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
