"""What every command of the tool shares: consoles, errors, progress and JSON output.

Contract: results go to stdout, everything else to stderr. A user's error is one line and exit
status 2, never a traceback. JSON goes to stdout alone (`--json`) or to a file (`--json FILE`),
which is replaced in one step: a reader never sees half of one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typer.core import TyperCommand

from quantassay.errors import UsageError
from reference.storage import replace

STDOUT = "-"  # what a bare --json stands for
FAILED, BAD_USAGE = 1, 2  # exit statuses
# ClickException: Typer has a Click of its own in newer versions and shows its errors' base nowhere.
COMMAND_LINE_ERROR: Any = typer.BadParameter.__mro__[2]
PLAIN_WIDTH = 140  # columns where there is no terminal to ask
JSON_HELP = "Machine-readable results to stdout, or to FILE (replaced in one step)."


class JsonCommand(TyperCommand):
    """A command whose `--json` may stand alone: a bare one means stdout."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return list(super().parse_args(ctx, bare_json(args)))


def bare_json(args: Sequence[str]) -> list[str]:
    """Gives a `--json` that no file name follows the value "-"."""
    found = []
    for place, word in enumerate(args):
        alone = place + 1 == len(args) or (args[place + 1][:1] == "-" and args[place + 1] != STDOUT)
        found.append(f"--json={STDOUT}" if word == "--json" and alone else word)
    return found


def console(file: TextIO | None = None) -> Console:
    """A console on stdout or `file`: plain text, wide where there is no terminal."""
    target = file or sys.stdout
    width = None if target.isatty() or "COLUMNS" in os.environ else PLAIN_WIDTH
    return Console(file=target, width=width, highlight=False, markup=False, emoji=False)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turns what a user did wrong into one line on stderr and exit status 2."""
    try:
        yield
    except (UsageError, OSError) as error:
        typer.echo(f"quantassay: {error}", err=True)
        raise typer.Exit(BAD_USAGE) from None


def run(app: typer.Typer, words: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status. Bad words are one line, as other errors."""
    command = typer.main.get_command(app)
    try:
        given = None if words is None else list(words)
        return int(command.main(given, prog_name="quantassay", standalone_mode=False) or 0)
    except COMMAND_LINE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            typer.echo(f"quantassay: {' '.join(error.format_message().split())}", err=True)
        return BAD_USAGE
    except typer.Abort:
        typer.echo("quantassay: interrupted", err=True)
        return FAILED


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress bar on stderr; nothing where stderr is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    out = Console(file=sys.stderr, markup=False, highlight=False)
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        yield bar


def check_writable(target: Path) -> None:
    """Raises UsageError, before any work, where `target` cannot become a file."""
    if target.is_dir():
        raise UsageError(f"--json: {target} is a folder; allowed: a file name")
    if not target.parent.is_dir():
        raise UsageError(f"--json: the folder {target.parent} does not exist")


def write_json(value: Any, target: str) -> None:
    """To stdout for "-", else to the file `target`. Infinities and NaN do not occur in results."""
    text = json.dumps(value, indent=1, allow_nan=False)
    if target == STDOUT:
        typer.echo(text)
    else:
        replace(Path(target), text + "\n")
