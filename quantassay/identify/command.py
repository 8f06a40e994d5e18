"""`quantassay identify`: which dialect is my kernel?

Contract: exit status 0 when every kernel speaks a known dialect exactly, 1 when one does not, 2 on
bad usage. The dialect that a kernel is registered for does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from quantassay import console
from quantassay import options as opt

if TYPE_CHECKING:
    from quantassay.identify.finding import Finding
    from reference.op import Kernel

SCHEMA = "quantassay.identify/1"

Examples = Annotated[
    int, typer.Option(min=0, help="Random inputs beside the hostile ones and the built ones.")
]


def identify(
    op: opt.Ops = None,
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
    examples: Examples = 12,
    seed: opt.Seed = 0,
    json: opt.Json = None,
) -> None:
    """Which dialect is my kernel? All dialects of its op, ranked by how many elements differ.

    Kernels come as for `check`, without --dialect. Shows the smallest input that tells the best two
    dialects apart, and where none fits which word of the nearest to change.
    """
    given = dict(locals())
    with console.user_errors():
        if json not in (None, console.STDOUT):
            console.check_writable(Path(str(json)))
        findings = _run(given)
    if json is not None:
        with console.user_errors():
            console.write_json(as_json(findings, examples, seed), json)
    if json != console.STDOUT:
        out = console.console()
        for one in findings:
            show(one, out)
    if not all(one.dialects for one in findings):
        raise typer.Exit(console.FAILED)


def _run(given: Mapping[str, Any]) -> list[Finding]:
    """given: the options of `identify` by name."""
    from quantassay import devices
    from quantassay.foreign.command import described
    from quantassay.identify.search import Pools
    from quantassay.identify.search import identify as find

    devices.choose(given["device"])
    one = described({**given, "dialect": _any_dialect(given["op"])})
    chosen = [one] if one else _registered(given["kernels"], given["op"], given["wing"])
    place = "emulator" if given["cu"] or given["ptx"] else given["device"]
    options: dict[str, Any] = {name: given[name] for name in ("examples", "seed")}
    pools: Pools = {}
    found: list[Finding] = []
    with console.progress() as bar:
        task = bar.add_task("identify", total=None)
        for kernel in chosen:
            label = f"{kernel.op} {kernel.label}"

            def step(done: int, total: int, label: str = label) -> None:
                bar.update(task, description=label, completed=done, total=total)

            found += find(kernel, device=place, on_input=step, pools=pools, **options)
    return found


def _any_dialect(ops: list[str] | None) -> list[str]:
    """A dialect of the op that was named, for a kernel that is described on the command line."""
    from reference.op import OPS

    known = [OPS[name] for name in ops or () if name in OPS]
    return list(known[0].options.get("dialect", ())[:1]) if known else []


def _registered(file: Path | None, ops: list[str] | None, wings: list[str] | None) -> list[Kernel]:
    """The kernels of the file, or of the wings. Raises UsageError for unknown names."""
    import reference
    from quantassay import loading
    from quantassay.engine import select

    own = None if file is None else loading.load_file(file)
    others = set(wings or ()) - {kernel.wing for kernel in own or ()}
    if file is None or others:
        loading.load_wings(others)
        own = None if file is None else reference.kernels()
    return list(dict.fromkeys(kernel for kernel, _ in select(ops, wings, None, own)))


def as_json(findings: list[Finding], examples: int, seed: int) -> dict[str, Any]:
    """The machine-readable form."""
    return {
        "schema": SCHEMA,
        "device": findings[0].device,
        "seed": seed,
        "examples": examples,
        "identified": all(one.dialects for one in findings),
        "kernels": [one.as_dict() for one in findings],
    }


def show(one: Finding, out: Console) -> None:
    """The verdict, the ranking, and the inputs that tell."""
    out.print(f"{one.op} {one.label}: {one.verdict}", soft_wrap=True)
    names = list(one.standings[0].outputs)
    table = Table("  dialect", box=None, pad_edge=False)
    together = ["together"] if len(names) > 1 else []
    for heading in (*names, *together, "differ", "inputs"):
        table.add_column(heading, justify="right")
    for row in one.standings:
        cells = [f"{wrong:,} of {total:,}" for wrong, total in row.outputs.values()]
        if not row.total:
            cells, share = ["-"] * len(cells), "-"
        else:
            share = f"{100 * row.share:.3g}%"
        whole = [f"{row.wrong:,} of {row.total:,}" if row.total else "-"] * len(together)
        table.add_row(f"  {row.dialect}", *cells, *whole, share, str(row.inputs))
    if one.raised < one.inputs:
        out.print(table)
    for example in one.examples:
        out.print(example.words, soft_wrap=True)
    out.print()
