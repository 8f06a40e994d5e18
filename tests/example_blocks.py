"""The commands of examples/*/README.md and what they print: run them, compare, write them anew.

    python -m tests.example_blocks --write cuda ptx

Contract: a block fenced as `console` holds commands ("$ " at the start, "\\" at the end of a line
that goes on) and, verbatim, what each prints, run in the README's folder. `quantassay` runs in this
process, anything else in its own. Left out of the comparison are what differs between machines:
seconds, and the line and text of an instruction in the compiler's PTX.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
WIDE = {"COLUMNS": "140"}  # of the terminal, whatever this process has


@dataclass(frozen=True)
class Example:
    """One command, as a list of words, and the text that follows it."""

    folder: Path
    shown: str
    expected: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.shown.replace("\\\n", " "))

    @property
    def status(self) -> int:
        """The exit status that the text tells."""
        if self.expected.startswith("quantassay: "):
            return 2
        failed = re.search(r"checks failed;|\b[1-9]\d* failed", self.expected)
        return 1 if failed else 0


def examples(readme: Path) -> list[Example]:
    """Every command of a README, in order."""
    found = []
    for block in BLOCK.findall(readme.read_text()):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command = re.match(r"(?:[^\n]*\\\n)*[^\n]*\n", part)
            assert command is not None, part
            found.append(Example(readme.parent, command[0][:-1], part[command.end() :]))
    return found


def run(example: Example) -> tuple[int, str]:
    """Exit status and output, standard error included."""
    words = example.words
    if words[0] != "quantassay":
        words = [sys.executable, *words[1:]] if words[0] == "python" else words
        # A checkout installed before the plugin was has no entry point; twice does no harm.
        env = {**os.environ, "COLUMNS": "80", "PYTEST_PLUGINS": "quantassay.pytest_plugin"}
        for name in ("CI", "BUILD_NUMBER"):  # with them pytest cuts no line
            env.pop(name, None)
        done = subprocess.run(
            words, cwd=example.folder, env=env, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr
    from typer.testing import CliRunner

    from quantassay import engine
    from quantassay.cli import app

    patience, engine.PATIENCE = engine.PATIENCE, math.inf  # a slow machine runs as many cases
    try:
        with contextlib.chdir(example.folder):
            result = CliRunner().invoke(app, words[1:], env=WIDE)
    finally:
        engine.PATIENCE = patience
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def comparable(text: str) -> str:
    """Without what differs between machines."""
    text = re.sub(r" +\d+\.\d(?=  (?:ok|WRONG))", " N", text)
    text = re.sub(r"in \d+\.\d+s", "in Ns", text)
    text = re.sub(r"PTX line \d+: .*", "PTX line N", text)
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()


def rewritten(readme: Path) -> str:
    """The README with what its commands print now."""
    outputs = iter([(one, run(one)[1]) for one in examples(readme)])

    def block(_: re.Match[str]) -> str:
        return "```console\n" + "".join(_printed(outputs, _[1].count("\n$ ") + 1)) + "```"

    return BLOCK.sub(block, readme.read_text())


def _printed(outputs: Iterator[tuple[Example, str]], count: int) -> Iterator[str]:
    for _, (example, text) in zip(range(count), outputs, strict=False):
        lines = "".join(f"{line.rstrip()}\n" for line in text.strip().splitlines())
        yield f"$ {example.shown}\n{lines}"


def main() -> None:
    for name in [word for word in sys.argv[1:] if word != "--write"]:
        readme = EXAMPLES / name / "README.md"
        text = rewritten(readme)
        if "--write" in sys.argv:
            readme.write_text(text)
        else:
            print(text)


if __name__ == "__main__":
    main()
