"""The proof in the report: every registered kernel against the oracle, on real layers and on
hostile inputs.

Contract: on layers, each op's inputs are what the layer itself gives it: real activations and
weights, then the oracle's codes, scales and accumulators of them, so that every kernel meets real
data alone and not through another kernel's output. Outputs are compared byte for byte. A kernel
that raises counts with all its elements. On hostile inputs the differential engine does the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.workloads import Layer
from emulator.recording import recording
from quantassay import devices
from quantassay.calling import Calling
from quantassay.cases import cases as engine_cases
from quantassay.engine import CheckResult, check_kernel, select
from quantassay.report.inputs import Case, cases, fed
from quantassay.running import Outcome, outcome
from reference.op import Kernel, get_op

Progress = Callable[[str, int, int], None]  # (what runs, done, in all)
HOSTILE = "hostile"  # and "real layers" or "generated layers", by Layer.origin

# dtype of the hostile cases, in and out; the layers' cases take the others. `quantassay check` and
# the test suite run all.
HOSTILE_DTYPE = {"ieee": "fp32", "vllm": "bf16", "article_cuda": "fp16", "article_torch": "fp16"}


@dataclass
class Check:
    """One kernel in one dialect on one kind of inputs. `mismatches` counts output elements that
    differ from the oracle's; `failure` says how and why, in words; `launched`: whether a kernel of
    ours ran, in the emulator or on a GPU, and not only Python; `allowed`: elements with other bits
    than the oracle's, inside what the dialect's own approximate division allows."""

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
    launched: bool = False
    allowed: int = 0

    def add(self, found: Outcome, where: str) -> None:
        """Counts one case; the first failure stays, with where it was."""
        self.cases += 1
        self.elements += found.elements
        self.mismatches += found.wrong
        self.allowed += found.allowed
        if found.failed and self.failure is None:
            words = found.error or (found.mismatch.words if found.mismatch else "")
            self.failure = f"{where}: {words}"

    @property
    def label(self) -> str:
        return f"{self.wing}/{self.variant}" if self.variant else self.wing

    @property
    def passed(self) -> bool:
        return self.mismatches == 0 and self.failure is None


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
    pairs = select(None, wings, dialects)
    total = layer_runs(pairs, layers)
    checks: dict[tuple[str, str, str, str], Check] = {}
    done = 0
    for dialect in dialects:
        spoken = [kernel for kernel, name in pairs if name == dialect]
        for case in cases(layers, dialect, {kernel.op for kernel in spoken}):
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


def layer_runs(pairs: Sequence[tuple[Kernel, str]], layers: Sequence[Layer]) -> int:
    """How many runs the (kernel, dialect) pairs make on layers that feed their op."""
    ops = {(d, n): fed(one, d) for d in {d for _, d in pairs} for n, one in enumerate(layers)}
    return sum(kernel.op in ops[d, n] for kernel, d in pairs for n in range(len(layers)))


def _add(check: Check, kernel: Kernel, case: Case, device: str) -> None:
    """Runs one case and adds its outcome to the check."""
    calling = Calling(kernel, case.op, check.dialect)
    options = options_for(calling, case)
    expected = case.expected if options == dict(case.options) else None
    start = time.perf_counter()
    with recording() as session:
        found = outcome(calling, case.inputs, options, device, expected)
    check.launched = check.launched or bool(session.launches)
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

    One dtype per dialect (HOSTILE_DTYPE): every combination would be mostly compile time. A kernel
    that fails goes to the engine, which runs all of them, shrinks the input and says why.
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
            check = _from_result(result, check.launched) if result.counterexample else check
        checks.append(check)
    return checks


def _sweep(
    kernel: Kernel, dialect: str, place: str, examples: int, seed: int, step: Callable[[], None]
) -> Check:
    """All cases, or those up to the first failure."""
    op = get_op(kernel.op)
    calling = Calling(kernel, op, dialect)
    check = Check(kernel.op, kernel.wing, kernel.variant, dialect, HOSTILE, devices.name(place))
    allowed = dict(calling.narrowed)
    chosen = HOSTILE_DTYPE.get(dialect, op.dtypes[0])
    if "out_dtype" in op.options:
        allowed.setdefault("out_dtype", (chosen,))
    start = time.perf_counter()
    for case in engine_cases(op, dialect, examples=examples, seed=seed, allowed=allowed):
        if case.recipe.dtype != chosen and chosen in op.dtypes and len(op.dtypes) > 1:
            step()
            continue
        inputs = op.build(case.recipe)
        options, shift = case.keywords(), case.shift
        with recording() as session:
            found = outcome(calling, inputs, options, place, shift=shift, order=case.order)
        check.launched = check.launched or bool(session.launches)
        check.add(found, str(case))
        step()
        if not check.passed:
            break
    check.seconds = time.perf_counter() - start
    return check


def _from_result(result: CheckResult, launched: bool) -> Check:
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
        launched,
        result.allowed,
    )
