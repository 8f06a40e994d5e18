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
from quantassay.cases import cases as engine_cases
from quantassay.engine import CheckResult, check_kernel, select
from quantassay.running import Outcome, outcome
from reference.dialects import DIALECTS
from reference.numerics import round_to
from reference.op import Kernel, Op, get_op

Array = NDArray[Any]
Progress = Callable[[str, int, int], None]  # (what runs, done, in all)
HOSTILE = "hostile"  # and "real layers" or "generated layers", by Layer.origin
# These two are compared with each other in the first exhibit, so both see the same fp16 tensors.
EXHIBITED = ("article_cuda", "article_torch")

# Output dtype of the hostile cases; the layers' cases take the others. `quantassay check` runs all.
HOSTILE_OUT = {"ieee": "fp32", "vllm": "bf16", "article_cuda": "fp16", "article_torch": "fp16"}


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

    def add(self, found: Outcome, where: str) -> None:
        """Counts one case; the first failure stays, with where it was."""
        self.cases += 1
        self.elements += found.elements
        self.mismatches += found.wrong
        if found.failed and self.failure is None:
            words = found.error or (found.mismatch.words if found.mismatch else "")
            self.failure = f"{where}: {words}"

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
    check.add(found, f"layer {case.layer}, {case.dtype}")


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
    """The differential engine's hostile and random cases, for every kernel.

    One output dtype per dialect (HOSTILE_OUT): every combination would be mostly compile time. A
    kernel that fails goes to the engine, which runs all of them, shrinks the input and says why.
    """
    place = devices.choose(device)
    pairs = select(None, wings, dialects)
    total = sum(len(get_op(kernel.op).hostile) + examples for kernel, _ in pairs)
    checks: list[Check] = []
    end = 0
    for kernel, dialect in pairs:
        start, end = end, end + len(get_op(kernel.op).hostile) + examples
        words = f"{kernel.op} {kernel.label} {dialect}"
        done = start

        def step(words: str = words, end: int = end) -> None:
            nonlocal done
            done = min(done + 1, end)
            if on_progress is not None:
                on_progress(words, done, total)

        check = _sweep(kernel, dialect, place, examples, seed, step)
        if not check.passed:
            result = check_kernel(kernel, dialect, examples=examples, seed=seed, device=device)
            check = _from_result(result) if result.counterexample else check
        checks.append(check)
    return checks


def _sweep(
    kernel: Kernel, dialect: str, place: str, examples: int, seed: int, step: Callable[[], None]
) -> Check:
    """All cases, or those up to the first failure."""
    op = get_op(kernel.op)
    calling = Calling(kernel, op, dialect)
    check = Check(kernel.op, kernel.wing, kernel.variant, dialect, HOSTILE, devices.name(place))
    allowed = dict(calling.allowed)
    if "out_dtype" in op.options and dialect in HOSTILE_OUT:
        allowed.setdefault("out_dtype", (HOSTILE_OUT[dialect],))
    start = time.perf_counter()
    for case in engine_cases(op, dialect, examples=examples, seed=seed, allowed=allowed):
        inputs = op.build(case.recipe)
        found = outcome(calling, inputs, case.keywords(), place, shift=case.shift, order=case.order)
        check.add(found, str(case))
        step()
        if not check.passed:
            break
    check.seconds = time.perf_counter() - start
    return check


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
