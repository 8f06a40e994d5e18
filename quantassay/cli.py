"""The command line: `quantassay check`, `doctor`, `report` and `identify`.

Contract: exit status 0 when all is well, 1 when a kernel is wrong, 2 on bad usage (an unknown op,
wing or dialect, a file that cannot be used, a device that is not there), with one line that says
what was got and what is allowed. Heavy imports happen inside the commands.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from quantassay import console
from quantassay import options as opt
from quantassay.identify.command import identify
from quantassay.report import report

if TYPE_CHECKING:
    from quantassay.engine import CheckResult
    from reference.op import Kernel

SCHEMA = "quantassay.check/1"

app = typer.Typer(
    name="quantassay",
    help="Proves quantization kernels bit for bit against a NumPy oracle, with or without a GPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _commands() -> None:
    """Keeps `check` a subcommand however many there are."""


@app.command(cls=console.JsonCommand)
def check(
    op: opt.Ops = None,
    dialect: opt.Dialects = None,
    wing: opt.Wings = None,
    kernels: opt.File = None,
    function: opt.Function = None,
    framework: opt.Framework = None,
    cu: opt.Cu = None,
    ptx: opt.Ptx = None,
    entry: opt.Entry = None,
    grid: opt.Grid = None,
    block: opt.Block = None,
    args: opt.Args = None,
    shared: opt.Shared = None,
    cooperative: opt.Cooperative = False,
    dtype: opt.Dtypes = None,
    out_dtype: opt.OutDtypes = None,
    option: opt.Options = None,
    multiple: opt.Multiples = None,
    aligned: opt.Aligned = False,
    define: opt.Defines = None,
    include: opt.Includes = None,
    arch: opt.Arch = "sm_80",
    fmad: opt.Fmad = True,
    fast_math: opt.FastMath = False,
    device: opt.Device = "auto",
    examples: opt.Examples = 100,
    seed: opt.Seed = 0,
    sweep: opt.Sweep = False,
    workers: opt.Workers = 0,
    json: opt.Json = None,
) -> None:
    """Differential tests of kernels against the oracle, bit for bit: all of ours, or yours.

    Yours: --cu or --ptx with a grid, a block and an argument list; --kernels with a Python file; or
    --function of such a file. No GPU is needed. A wrong kernel is shown with the smallest input on
    which it is wrong and the reason in words.
    """
    given = dict(locals())
    with console.user_errors():
        if json not in (None, console.STDOUT):
            console.check_writable(Path(str(json)))
        results = _run(given)
    if json is not None:
        with console.user_errors():
            console.write_json(as_json(results, examples, seed), json)
    if json != console.STDOUT:
        show(results)
    if not all(result.passed for result in results):
        raise typer.Exit(console.FAILED)


def _run(given: Mapping[str, Any]) -> list[CheckResult]:
    """given: the options of `check` by name."""
    from quantassay import devices
    from quantassay.engine import run_checks
    from quantassay.foreign.command import described
    from quantassay.parallel import run_parallel

    devices.choose(given["device"])
    one = described(given)
    options = {name: given[name] for name in ("examples", "seed", "sweep")}
    with console.progress() as bar:
        task = bar.add_task("check", total=None)

        def step(label: str, done: int, total: int) -> None:
            bar.update(task, description=label, completed=done, total=total)

        if one is not None:
            place = given["device"] if given["function"] else "emulator"
            return run_checks(kernels=[one], device=place, on_progress=step, **options)
        filters = [given[name] for name in ("op", "wing", "dialect")]
        return run_parallel(
            *filters,
            device=given["device"],
            kernels=_loaded(given["kernels"], given["wing"]),
            file=given["kernels"],
            count=given["workers"],
            on_progress=step,
            **options,
        )


def _loaded(file: Path | None, wings: list[str] | None) -> list[Kernel] | None:
    """The file's kernels, and those of wings that are named beside it; None: the registered."""
    import reference
    from quantassay import loading

    own = None if file is None else loading.load_file(file)
    others = set(wings or ()) - {kernel.wing for kernel in own or ()}
    if file is None or others:
        loading.load_wings(others)
        return None if file is None else reference.kernels()
    return own


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
    extra = ("allowed",) if any(one.approximate for one in results) else ()
    for heading in ("cases", "elements", "mismatches", *extra, "seconds"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for one in results:
        numbers = (one.cases, one.elements, one.mismatches, *(one.allowed for _ in extra))
        counts = [f"{number:,}" for number in numbers]
        verdict = "ok" if one.passed else "WRONG"
        table.add_row(one.op, one.label, one.dialect, *counts, f"{one.seconds:.1f}", verdict)
    out.print(table)
    for alike in _failures(results):
        one, dialects = alike[0], ", ".join(result.dialect for result in alike)
        out.print(f"\n{one.op} {one.label}, dialect {dialects}: WRONG")
        for example in one.counterexamples:
            out.print(f"smallest input: {example}")
    for text in dict.fromkeys(text for one in results for text in one.notes):
        out.print(f"note: {text}")
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
def doctor(json: opt.Json = None) -> None:
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
app.command(cls=console.JsonCommand)(identify)


def main() -> None:
    """The entry point of `quantassay` and of `python -m quantassay`."""
    sys.exit(console.run(app))
