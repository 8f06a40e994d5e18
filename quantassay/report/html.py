"""report.html from the report's dictionary: one file that needs no network.

Contract: `render(report)` takes what `data.collect` made (or what report.json holds) and
returns HTML with its style and charts inside and no reference to anything outside. Every string
from the report is escaped by the template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench.workloads import LLMS, TOKENS, Shape
from quantassay.report import charts
from quantassay.report.counters import TOKENS as TOKENS_COUNTED
from quantassay.report.inputs import op_order
from quantassay.report.roofline import FP16_LINEAR, SWEEP, crossover
from reference.op import get_op
from roofline.devices import DEVICES
from roofline.model import FORMS, bound

Report = Mapping[str, Any]
CHART_SHAPE = next(s for s in LLMS if (s.model, s.layer) == ("Llama-3.1-8B", "down"))
ERRORS = ("weights", "activations", "activations_per_tensor", "output")
ERROR_NAMES = ("weights", "activations", "activations, one scale per tensor", "layer output")


def render(report: Report) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader("quantassay.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=count, si=charts.short, percent=percent, fixed=fixed)
    return environment.get_template("report.html.j2").render(
        report=report,
        matrix=matrix(report["checks"]),
        failures=[check for check in report["checks"] if not check["passed"]],
        charts={name: Markup(svg) for name, svg in _charts(report).items()},
        legends={name: legend(names) for name, names in _legends().items()},
        quality=_quality(report),
        spreads=_spreads(report),
        linears=linears(report["roofline"]),
        layer_tables=[layer_rows(report["roofline"], linear) for linear in (True, False)],
        counters=by_op(report["counters"]),
        counted_tokens=min(TOKENS_COUNTED, report["settings"]["tokens"]),
        wasteful=wasteful(report["counters"]),
        audit=audit_table(report["audit"]),
        archs=list(dict.fromkeys(row["arch"] for row in report["audit"])),
        problems=[words for row in report["audit"] for words in row["problems"]],
        devices=DEVICES,
        forms=(*(f"linear {form}" for form in FORMS), FP16_LINEAR),
        error_names=ERROR_NAMES,
        chart_shape=CHART_SHAPE,
    )


def count(value: int) -> str:
    """12,345,678 with thin spaces, which do not break."""
    return f"{value:,}".replace(",", "\u202f")


def percent(part: float, whole: float) -> str:
    """A share, with two or three digits."""
    share = 100 * part / whole if part else 0.0
    return f"{share:.1f}%" if share >= 10 else f"{share:.2g}%"


def fixed(value: float | None, digits: int = 1) -> str:
    return "\u2013" if value is None else f"{value:.{digits}f}"


def matrix(checks: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """op -> kernel label -> dialect -> {elements, cases, mismatches, passed}: layers and hostile
    inputs together. Ops in the order in which a layer runs them."""
    made: dict[str, dict[str, dict[str, Any]]] = {}
    for check in sorted(checks, key=lambda check: op_order(check["op"])):
        label = "/".join(filter(None, (check["wing"], check["variant"])))
        row = made.setdefault(check["op"], {}).setdefault(label, {})
        cell = row.setdefault(
            check["dialect"], {"elements": 0, "cases": 0, "mismatches": 0, "passed": True}
        )
        for key in ("elements", "cases", "mismatches"):
            cell[key] += check[key]
        cell["passed"] = cell["passed"] and check["passed"]
    return made


def by_op(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """op -> rows, ops in the order of `op_order`."""
    made: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: op_order(row["op"])):
        made.setdefault(row["op"], []).append(row)
    return made


def wasteful(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """(kernel, source line) of accesses above their ideal, the worst of all first."""
    found = [
        (f"{row['op']} {'/'.join(filter(None, (row['wing'], row['variant'])))}", line)
        for row in rows
        for line in row["waste"]
    ]
    return sorted(found, key=lambda pair: -pair[1]["moved"] / max(1, pair[1]["ideal"]))


def layer_rows(rows: Sequence[Mapping[str, Any]], linear: bool) -> dict[str, list[dict[str, Any]]]:
    """The model's own layers: kind -> one line per op (or per form of the linear), with the row
    of every device."""
    made: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        if row["model"] == "MiniLM-L6" and row["what"].startswith("int8.") != linear:
            line = made.setdefault(row["layer"], {}).setdefault(
                row["what"], {"row": row, "devices": {}}
            )
            line["devices"][row["device"]] = row
    return {kind: list(lines.values()) for kind, lines in made.items()}


def linears(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """LLM shapes: device -> one line per shape and M, with the bound of every form."""
    made: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
    for row in rows:
        if row["model"] == "MiniLM-L6":
            continue
        key = (row["model"], row["layer"], row["dims"]["M"])
        table = made.setdefault(row["device"], {})
        line = table.setdefault(key, {"model": key[0], "layer": key[1], "dims": row["dims"]})
        line[row["what"]] = row
    return {device: list(table.values()) for device, table in made.items()}


def _quality(report: Report) -> dict[str, list[Mapping[str, Any]]]:
    """Layer quality by layer kind."""
    made: dict[str, list[Mapping[str, Any]]] = {}
    for row in report["quality"]["layers"]:
        made.setdefault(row["kind"], []).append(row)
    return made


def audit_table(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[tuple[str, str], Any]]:
    """op -> (kernel, path) -> arch -> row."""
    made: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: op_order(row["op"])):
        line = made.setdefault(row["op"], {}).setdefault((row["kernel"], row["path"]), {})
        line[row["arch"]] = row
    return made


def spread(rows: Sequence[float | None]) -> float:
    """Largest minus smallest of the defined values."""
    values = [value for value in rows if value is not None]
    return max(values) - min(values) if values else 0.0


def _spreads(report: Report) -> dict[str, float]:
    """How far apart, in dB of output SQNR, dialects are on the same layer, at most."""
    kinds = _quality(report).values()
    exhibited = [layer["output_error"] for one in report["exhibits"] for layer in one["layers"]]
    return {
        "dialects": max(
            (spread([row["output"]["sqnr_db"] for row in rows]) for rows in kinds), default=0.0
        ),
        "exhibit": max(
            (spread([each["sqnr_db"] for each in pair]) for pair in exhibited), default=0.0
        ),
    }


def _charts(report: Report) -> dict[str, str]:
    made = {"crossover": _crossover(CHART_SHAPE), "roofs": _roofs(CHART_SHAPE)}
    if report["exhibits"]:
        made["buckets"] = _buckets(report["exhibits"][0])
    layers = report["quality"]["layers"]
    if layers:
        first = layers[0]["dialect"]
        rows = {
            row["kind"]: [row[name]["sqnr_db"] for name in ERRORS]
            for row in layers
            if row["dialect"] == first
        }
        made["sqnr"] = charts.dot_rows(
            f"SQNR in dB per layer, dialect {first}", rows, ERROR_NAMES, "SQNR, dB (more is better)"
        )
    if report["quality"]["embeddings"]:
        made["cosines"] = charts.strips(
            "1 - cosine of each sentence's embedding with the fp32 model's",
            {
                row["scheme"].replace(" without quantization", ""): [1 - c for c in row["cosines"]]
                for row in report["quality"]["embeddings"]
            },
            "1 \u2212 cosine (less is better; bar: mean)",
        )
    return made


def _buckets(exhibit: Mapping[str, Any]) -> str:
    ranges = [(b["low"], b["high"]) for b in exhibit["layers"][0]["buckets"]]
    totals = [
        [sum(layer["buckets"][i][key] for layer in exhibit["layers"]) for key in
         ("elements", "differing")]
        for i in range(len(ranges))
    ]  # fmt: skip
    return charts.bars(
        "Share of codes that differ, by magnitude of the code",
        [f"{low}\u2013{high - 1}" for low, high in ranges],
        [differing / elements if elements else 0.0 for elements, differing in totals],
        [f"{differing:,} of {elements:,}" for elements, differing in totals],
        "|code|",
    )


def _crossover(shape: Shape) -> str:
    return charts.lines(
        f"fp16 bound over fused W8A8 bound against M, {shape.model} {shape.layer}",
        SWEEP,
        crossover(shape),
        "M, tokens in the batch",
        "fp16 bound / W8A8 bound",
        marks={M: f"M={M}" for M in TOKENS if M > 1},
    )


def _roofs(shape: Shape) -> str:
    """INT8 roofs over operations per byte; marks where the GEMM of `shape` lies at each M."""
    knees = [device.ridge("int8_tensor") for device in DEVICES.values()]
    x = sorted([0.5, 8192.0, *knees])
    roofs = {
        device.title: [
            min(i * device.bandwidth, device.peak("int8_tensor").per_second) / 1e12 for i in x
        ]
        for device in DEVICES.values()
    }
    marks: dict[float, str] = {}
    gemm, device = get_op("int8.gemm_dequant"), next(iter(DEVICES.values()))
    for M in TOKENS:
        made = bound(gemm, {"M": M, "N": shape.N, "K": shape.K}, device, {"out": "fp16"})
        marks[made.operations["int8_tensor"] / made.bytes] = f"M={M}"
    return charts.lines(
        "INT8 rooflines", x, roofs, "operations per byte of DRAM traffic", "TOP/s",
        log_y=True, marks=marks,
    )  # fmt: skip


def _legends() -> dict[str, tuple[tuple[str, ...], str]]:
    return {
        "devices": (tuple(device.title for device in DEVICES.values()), "line"),
        "errors": (ERROR_NAMES, "marker"),
    }


def legend(entry: tuple[Sequence[str], str]) -> Markup:
    """Swatches and names, in the order of the series."""
    names, kind = entry
    made = []
    for number, name in enumerate(names):
        chart = charts.Chart(name)
        if kind == "line":
            chart.path([(0, 7), (26, 7)], number)
        else:
            chart.marker(13, 7, number)
        body = "".join(chart.parts)
        made.append(
            Markup('<span><svg viewBox="0 0 26 14" aria-hidden="true">{}</svg>{}</span>').format(
                Markup(body), name
            )
        )
    return Markup('<div class="legend">{}</div>').format(Markup("").join(made))
