"""The command line: `quantassay check`, `doctor` and `report`.

Contract: exit status 0 when all is well, 1 when a kernel is wrong, 2 on bad usage (an unknown op,
wing or dialect, a file that cannot be used, a device that is not there), with one line that says
what was got and what is allowed. Heavy imports happen inside the commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from quantassay import console
from quantassay.report import report

if TYPE_CHECKING:
    from quantassay.engine import CheckResult

SCHEMA = "quantassay.check/1"

app = typer.Typer(
    name="quantassay",
    help="Proves quantization kernels bit for bit against a NumPy oracle, with or without a GPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Ops = Annotated[list[str] | None, typer.Option("--op", help="Only this op. Repeatable.")]
Wings = Annotated[list[str] | None, typer.Option("--wing", help="Only this wing. Repeatable.")]
Dialects = Annotated[
    list[str] | None, typer.Option("--dialect", help="Only this dialect. Repeatable.")
]
Device = Annotated[
    str, typer.Option(help="auto (a GPU if one is usable), gpu or emulator.", metavar="DEVICE")
]
File = Annotated[
    Path | None,
    typer.Option(
        "--kernels",
        metavar="FILE",
        help="A Python file whose @implements functions are checked, in place of the wings' "
        "(name a wing as well to check both).",
    ),
]
Examples = Annotated[int, typer.Option(min=0, help="Random inputs after the hostile ones.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the random inputs and of the search.")]
Sweep = Annotated[
    bool, typer.Option("--sweep", help="Also every batch of 1 to 33 tokens at served hidden sizes.")
]
Workers = Annotated[int, typer.Option(min=0, help="Processes; 0: a core each.")]
Json = Annotated[str | None, typer.Option("--json", metavar="[FILE]", help=console.JSON_HELP)]


@app.callback()
def _commands() -> None:
    """Keeps `check` a subcommand however many there are."""


@app.command(cls=console.JsonCommand)
def check(
    op: Ops = None,
    wing: Wings = None,
    dialect: Dialects = None,
    device: Device = "auto",
    kernels: File = None,
    examples: Examples = 100,
    seed: Seed = 0,
    sweep: Sweep = False,
    workers: Workers = 0,
    json: Json = None,
) -> None:
    """Differential tests: every registered kernel against the oracle, bit for bit.

    A wrong kernel is shown with the smallest input on which it is wrong and the reason in words.
    """
    with console.user_errors():
        if json not in (None, console.STDOUT):
            console.check_writable(Path(str(json)))
        results = _run(op, wing, dialect, device, kernels, examples, seed, sweep, workers)
    if json is not None:
        with console.user_errors():
            console.write_json(as_json(results, examples, seed), json)
    if json != console.STDOUT:
        show(results)
    if not all(result.passed for result in results):
        raise typer.Exit(console.FAILED)


def _run(
    op: list[str] | None,
    wing: list[str] | None,
    dialect: list[str] | None,
    device: str,
    file: Path | None,
    examples: int,
    seed: int,
    sweep: bool,
    workers: int,
) -> list[CheckResult]:
    import reference
    from quantassay import devices, loading
    from quantassay.parallel import run_parallel

    devices.choose(device)
    own = None
    if file is not None:
        own = loading.load_file(file)
    others = set(wing or ()) - {kernel.wing for kernel in own or ()}
    if file is None or others:
        loading.load_wings(others)
        own = None if file is None else reference.kernels()
    with console.progress() as bar:
        task = bar.add_task("check", total=None)

        def step(label: str, done: int, total: int) -> None:
            bar.update(task, description=label, completed=done, total=total)

        return run_parallel(
            op,
            wing,
            dialect,
            device=device,
            examples=examples,
            seed=seed,
            sweep=sweep,
            kernels=own,
            file=file,
            count=workers,
            on_progress=step,
        )


def as_json(results: list[CheckResult], examples: int, seed: int) -> dict[str, Any]:
    """The machine-readable form: schema, totals, one entry per kernel and dialect."""
    return {
        "schema": SCHEMA,
        "device": results[0].device,
        "seed": seed,
        "examples": examples,
        "passed": all(result.passed for result in results),
        "elements": sum(result.elements for result in results),
        "mismatches": sum(result.mismatches for result in results),
        "checks": [result.as_dict() for result in results],
    }


def show(results: list[CheckResult]) -> None:
    """The table, then every failure, the same one in several dialects once."""
    out = console.console()
    table = Table("op", "kernel", "dialect", box=None, pad_edge=False)
    for heading in ("cases", "elements", "mismatches", "seconds"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for one in results:
        numbers = (one.cases, one.elements, one.mismatches)
        counts = [f"{number:,}" for number in numbers]
        verdict = "ok" if one.passed else "WRONG"
        table.add_row(one.op, one.label, one.dialect, *counts, f"{one.seconds:.1f}", verdict)
    out.print(table)
    for alike in _failures(results):
        one, dialects = alike[0], ", ".join(result.dialect for result in alike)
        out.print(f"\n{one.op} {one.label}, dialect {dialects}: WRONG")
        for example in one.counterexamples:
            out.print(f"smallest input: {example}")
    wrong = sum(not one.passed for one in results)
    verdict = f"{wrong} of {len(results)} checks failed" if wrong else "no mismatch"
    elements = sum(one.elements for one in results)
    out.print(f"\n{verdict}; {elements:,} elements compared on {results[0].device}")


def _failures(results: list[CheckResult]) -> list[list[CheckResult]]:
    """Failed results; those of one kernel that show the same in several dialects together."""
    found: dict[tuple[str, ...], list[CheckResult]] = {}
    for one in results:
        shown = one.counterexample
        if shown is not None:
            texts = [(x.case, x.words, x.reason) for x in one.counterexamples]
            key = (one.op, one.label, *(word for text in texts for word in text))
            found.setdefault(key, []).append(one)
    return list(found.values())


@app.command(cls=console.JsonCommand)
def doctor(json: Json = None) -> None:
    """What this machine has: Python, packages, compilers, disassembler, GPU, model, cache."""
    from quantassay.doctor import examine

    findings = examine()
    if json is not None:
        with console.user_errors():
            if json != console.STDOUT:
                console.check_writable(Path(json))
            facts = {one.name: one.as_dict() for one in findings}
            console.write_json({"schema": "quantassay.doctor/1", "findings": facts}, json)
    if json != console.STDOUT:
        table = Table(box=None, pad_edge=False, show_header=False)
        for _ in range(4):
            table.add_column(overflow="fold")
        for one in findings:
            table.add_row("ok" if one.ok else "--", one.name, one.found, one.purpose)
        console.console().print(table)


app.command()(report)


def main() -> None:
    """The entry point of `quantassay` and of `python -m quantassay`."""
    app()
