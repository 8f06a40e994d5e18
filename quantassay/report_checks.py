"""The proof in the report: every registered kernel against the oracle, on real layers and on
hostile inputs.

Contract: on layers, each op's inputs are what the layer itself gives it: real activations and
weights, then the oracle's codes, scales and accumulators of them, so that every kernel meets real
data alone and not through another kernel's output. Outputs are compared byte for byte. A kernel
that raises counts with all its elements. On hostile inputs the differential engine does the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from bench.workloads import Layer
from quantassay import devices
from quantassay.calling import Calling
from quantassay.engine import CheckResult, run_checks, select
from quantassay.running import outcome
from reference.dialects import DIALECTS
from reference.numerics import round_to
from reference.op import Kernel, Op, get_op

Array = NDArray[Any]
Progress = Callable[[str, int, int], None]  # (what runs, done, in all)
HOSTILE = "hostile"  # and "real layers" or "generated layers", by Layer.origin
# These two are compared with each other in the first exhibit, so both see the same fp16 tensors.
EXHIBITED = ("article_cuda", "article_torch")


@dataclass
class Check:
    """One kernel in one dialect on one kind of inputs. `mismatches` counts output elements that
    differ from the oracle's; `failure` says how and why, in words."""

    op: str
    wing: str
    variant: str
    dialect: str
    inputs: str
    device: str
    cases: int = 0
    elements: int = 0
    mismatches: int = 0
    seconds: float = 0.0
    failure: str | None = None

    @property
    def label(self) -> str:
        return f"{self.wing}/{self.variant}" if self.variant else self.wing

    @property
    def passed(self) -> bool:
        return self.mismatches == 0 and self.failure is None


@dataclass(frozen=True)
class Case:
    """One op's inputs from one layer, with the oracle's outputs."""

    op: Op
    layer: str
    dtype: str
    inputs: Mapping[str, Any]
    options: Mapping[str, str]
    expected: tuple[Array, ...]

    @property
    def elements(self) -> int:
        return sum(array.size for array in self.expected)


@dataclass
class Tensors:
    """A layer's tensors in one dialect and dtype: real ones, and the oracle's results on them."""

    dtype: str
    real: dict[str, Any]
    made: dict[str, Any] = field(default_factory=dict)


# op -> its inputs, as keys of Tensors; in this order each op finds what it needs already made.
SOURCES: Mapping[str, tuple[str, ...]] = {
    "int8.quantize_per_token": ("x",),
    "int8.quantize_per_channel": ("w",),
    "int8.quantize_per_tensor": ("x",),
    "int8.quantize_static": ("x", "scales"),
    "int8.dequantize": ("codes", "scales"),
    "int8.gemm": ("codes", "w_codes"),
    "int8.epilogue": ("acc", "scales", "w_scales", "bias"),
    "int8.gemm_dequant": ("codes", "w_codes", "scales", "w_scales", "bias"),
    "int8.linear": ("x", "w_codes", "w_scales", "bias"),
}
_RESULTS: Mapping[str, tuple[str, ...]] = {
    "int8.quantize_per_token": ("codes", "scales"),
    "int8.quantize_per_channel": ("w_codes", "w_scales"),
    "int8.gemm": ("acc",),
}


def cases(layers: Sequence[Layer], dialect: str) -> Iterator[Case]:
    """Every op on every layer in one dialect.

    Dtypes turn with the layer through those that the dialect accepts, for inputs and outputs
    alike, except in the exhibited dialects: fp16 throughout.
    """
    allowed = ("fp16",) if dialect in EXHIBITED else DIALECTS[dialect].inputs
    for number, layer in enumerate(layers):
        dtype = allowed[number % len(allowed)]
        real = {
            "x": round_to(layer.activations, dtype),
            "w": round_to(layer.weight, dtype),
            "bias": layer.bias,
        }
        yield from _layer_cases(layer, dialect, Tensors(dtype, real))


def _layer_cases(layer: Layer, dialect: str, tensors: Tensors) -> Iterator[Case]:
    for name, sources in SOURCES.items():
        op = get_op(name)
        pool = {**tensors.real, **tensors.made}
        inputs = {arg.name: pool[key] for arg, key in zip(op.inputs, sources, strict=True)}
        options = {"dialect": dialect}
        if "out_dtype" in op.options:
            options["out_dtype"] = tensors.dtype
        expected = op.expected(inputs, **options)
        tensors.made.update(zip(_RESULTS.get(name, ()), expected, strict=False))
        yield Case(op, layer.kind, tensors.dtype, inputs, options, expected)


def check_layers(
    layers: Sequence[Layer],
    dialects: Sequence[str],
    wings: Sequence[str] | None = None,
    *,
    device: str = "auto",
    on_progress: Progress | None = None,
) -> list[Check]:
    """Every kernel of the wings (None: all) in every dialect on every layer."""
    where = devices.choose(device)
    name = devices.name(where)
    pairs = [pair for pair in select(None, wings, dialects) if pair[0].op in SOURCES]
    total = layer_runs(pairs) * len(layers)
    checks: dict[tuple[str, str, str, str], Check] = {}
    done = 0
    for dialect in dialects:
        spoken = [kernel for kernel, name in pairs if name == dialect]
        for case in cases(layers, dialect):
            for kernel in spoken:
                if kernel.op != case.op.name:
                    continue
                key = (kernel.op, kernel.wing, kernel.variant, dialect)
                check = checks.setdefault(
                    key, Check(*key, inputs=f"{layers[0].origin} layers", device=name)
                )
                _add(check, kernel, case, where)
                done += 1
                if on_progress is not None:
                    words = f"{kernel.op} {kernel.label} {dialect}, {case.layer}"
                    on_progress(words, done, total)
    return list(checks.values())


def layer_runs(pairs: Sequence[tuple[Kernel, str]]) -> int:
    """How many of the (kernel, dialect) pairs have inputs in a layer: each runs once a layer."""
    return sum(kernel.op in SOURCES for kernel, _ in pairs)


def _add(check: Check, kernel: Kernel, case: Case, device: str) -> None:
    """Runs one case and adds its outcome to the check."""
    calling = Calling(kernel, case.op, check.dialect)
    options = options_for(calling, case)
    expected = case.expected if options == dict(case.options) else None
    start = time.perf_counter()
    found = outcome(calling, case.inputs, options, device, expected)
    check.seconds += time.perf_counter() - start
    check.cases += 1
    check.elements += found.elements
    check.mismatches += found.wrong
    if found.failed and check.failure is None:
        words = found.error or (found.mismatch.words if found.mismatch else "")
        check.failure = f"layer {case.layer}, {case.dtype}: {words}"


def options_for(calling: Calling, case: Case) -> dict[str, str]:
    """The case's options, but for those that the kernel does not take."""
    return {**case.options, **{name: values[0] for name, values in calling.allowed.items()}}


def check_hostile(
    dialects: Sequence[str],
    wings: Sequence[str] | None = None,
    *,
    device: str = "auto",
    examples: int = 20,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> list[Check]:
    """The differential engine's hostile and random cases, for every kernel."""
    results = run_checks(
        None, wings, dialects,
        device=device, examples=examples, seed=seed, on_progress=on_progress,
    )  # fmt: skip
    return [_from_result(result) for result in results]


def _from_result(result: CheckResult) -> Check:
    return Check(
        result.op,
        result.wing,
        result.variant,
        result.dialect,
        HOSTILE,
        result.device,
        result.cases,
        result.elements,
        result.mismatches,
        result.seconds,
        None if result.counterexample is None else str(result.counterexample),
    )
