"""What becomes of one mutant.

Contract: `judge` is for a process of its own (campaign.py forks it): the wings stay mutated. It
runs the cases whose compiled kernels the mutant changes, the likeliest and quickest first, until
one fails. A mutant that none finds within FIRST_SECONDS faces the audit and the counters, then the
other cases and the suite's further sizes. Verdicts:

    stillborn   a configuration does not compile, and no other shows it   not counted
    equivalent  every configuration's PTX is what it was           not counted
    killed      by an output, an emulator's finding, a time limit, a check that refuses the kernel,
                or the counters
    survived    by none of them
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import emulator
from quantassay.calling import Calling
from quantassay.mutation import build, plan
from quantassay.mutation.build import DoesNotCompileError, Key
from quantassay.mutation.mutant import Mutant
from quantassay.mutation.plan import Case, Figures
from quantassay.mutation.registers import unwritten
from quantassay.running import Outcome, outcome
from reference.op import Kernel, get_op, kernels

FUEL = 1_000_000  # loop iterations of one thread: five times what the deepest sum takes
CASE_SECONDS = 20  # of the processor, for one case and the compilations it needs
FIRST_SECONDS = 12  # of cases, before the audit and the counters
ALL_SECONDS = 60  # after which no further case begins
MATCHED, OTHERS = 10, 4  # compilations: those that have the mutant's line, and others
MEMORY = 6 << 30  # bytes beyond what the process has
COUNTED = 3  # kernels whose figures are compared, at most
OUTPUT, FAULT, TIMEOUT, REFUSED, COUNTERS = "output", "fault", "timeout", "refused", "counters"


@dataclass(frozen=True)
class Verdict:
    """verdict: see above. kind: how it was killed. words: by what, or why not."""

    verdict: str
    kind: str = ""
    words: str = ""
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Known:
    """What is known of the unchanged wing: cases, kernels' digests and source lines, counters."""

    wing: str
    cases: Sequence[Case]
    kernels: Mapping[Key, Any]  # emulator.Kernel
    digests: Mapping[Key, str]
    lines: Mapping[Key, frozenset[tuple[str, int]]]
    figures: Callable[[Kernel], Figures]


def judge(
    mutant: Mutant, text: str, known: Known, copies: Path, say: Callable[[str], None]
) -> Verdict:
    """text: the mutated source. copies: CUDA sources that may be overwritten. say: told what is
    under way, "compiling" or "running", so that whoever waits knows what a time limit means.
    """
    started = time.process_time()
    say("compiling")
    _limit(CASE_SECONDS)
    try:
        if known.wing == "cupy":
            build.serve_cuda(copies, mutant.file, text)
        else:
            build.serve_numba(mutant.file, text)
    except Exception as error:  # a module that does not import
        return Verdict("stillborn", words=_short(error))
    _burn_quickly()
    emulator.coverage_reset()  # it knows the unchanged kernels' blocks by the same names
    return _Trial(mutant, known, say, started).verdict()


class _Trial:
    def __init__(
        self, mutant: Mutant, known: Known, say: Callable[[str], None], started: float
    ) -> None:
        self.mutant, self.known, self.say, self.started = mutant, known, say, started
        self.changed: dict[Key, bool] = {}
        self.modules: dict[tuple[str, ...], str] = {}  # compilation -> its error, or ""
        self.left = {True: MATCHED, False: OTHERS}
        self.texts: dict[Key, str] = {}  # PTX that is changed
        self.by_name = {(one.op, one.wing, one.variant): one for one in kernels(wing=known.wing)}

    def verdict(self) -> Verdict:
        try:
            cases = iter(self._ordered())
            found = self._run(cases, FIRST_SECONDS)
            if found is None and not any(self.changed.values()):
                self.left = dict.fromkeys(self.left, sys.maxsize)  # no configuration is left out
                found = self._run(iter(self._ordered()), ALL_SECONDS)
            if found is None:
                self._look_closely()
            if found is None and any(self.changed.values()):
                found = self._audit() or self._counters() or self._run(cases, ALL_SECONDS)
                found = found or self._run(iter(self._further()), ALL_SECONDS, more=True)
        except MemoryError as error:
            found = self._killed(FAULT, f"MemoryError: {error}")
        if found is not None:
            return found
        errors = [error for error in self.modules.values() if error]
        if errors:
            return Verdict("stillborn", words=errors[0][:200], seconds=self._spent())
        if not any(self.changed.values()):
            words = f"the PTX of {len(self.changed)} kernels is the same"
            return Verdict("equivalent", words=words, seconds=self._spent())
        kinds = sorted({key[1] for key, other in self.changed.items() if other})
        words = f"changes {', '.join(kinds)}"
        return Verdict("survived", words=words, seconds=self._spent())

    def _run(self, cases: Iterator[Case], until: float, more: bool = False) -> Verdict | None:
        """The first failure, or None when the cases, or the seconds, are over."""
        while self._spent() < until:
            case = next(cases, None)
            if case is None:
                return None
            found = self._one(case) if more or self._worthwhile(case) else None
            if found is not None:
                return found
        return None

    def _ordered(self) -> list[Case]:
        """Those that reach the mutant's line first; a few of each compilation, then the rest."""
        turns: dict[frozenset[Key], int] = {}
        ranked: list[tuple[tuple[bool, int, float], int, Case]] = []
        for case in sorted(self.known.cases, key=lambda case: case.seconds):
            turn = turns[case.keys] = turns.get(case.keys, -1) + 1
            rank = (not self._has_line(case.keys), turn // 4, case.seconds)
            ranked.append((rank, len(ranked), case))
        return [case for *_, case in sorted(ranked, key=lambda one: one[:2])]

    def _has_line(self, keys: Iterable[Key]) -> bool:
        first = self.mutant.line  # a statement's code may be told of its later lines
        places = {(self.mutant.file, line) for line in range(first, first + 3)}
        return any(places & self.known.lines[key] for key in keys)

    def _worthwhile(self, case: Case) -> bool:
        """Whether the case launches a kernel that is changed, or may be."""
        for key in case.keys:
            if key in self.changed:
                continue
            module = key[:2] + key[3:] if key[0] == "cupy" else key
            if self.modules.get(module):
                continue
            matched = self._has_line([key])
            if module not in self.modules:
                if not self.left[matched]:
                    continue
                self.left[matched] -= 1
            if key[0] == "cupy":
                self._compile(module, key)
            else:
                self.modules.setdefault(module, "")
                return True  # compiled when it is launched
        return any(self.changed.get(key) for key in case.keys)

    def _compile(self, module: tuple[str, ...], key: Key) -> None:
        import ast

        from kernels_cupy import compile as compiler

        self.say("compiling")
        _limit(CASE_SECONDS)
        try:
            text = compiler.ptx(key[1], dict(ast.literal_eval(key[3])))
        except compiler.CompileError as error:
            self.modules[module] = _short(error.log)
            return
        self.modules[module] = ""
        self._compare(key, text, ast.literal_eval(key[2]))

    def _compare(self, key: Key, text: str, name: str) -> None:
        digest, _ = build.entry(text, name)
        self.changed[key] = digest != self.known.digests.get(key)
        if self.changed[key]:
            self.texts[key] = text

    def _one(self, case: Case) -> Verdict | None:
        op = get_op(case.kernel[0])
        calling = Calling(self.by_name[case.kernel], op, case.dialect)
        self.say("compiling" if self.known.wing == "numba" else "running")
        _limit(CASE_SECONDS)
        expected = case.expected or None
        try:
            with build.watched(self._tell):
                found = outcome(
                    calling, case.inputs, dict(case.options), "emulator", expected,
                    shift=case.shift, order=case.order,
                )  # fmt: skip
        except DoesNotCompileError as error:
            for key in case.keys:
                if key not in self.changed:
                    self.modules[key] = _short(error)
            return None
        return self._killed(*_how(found, case)) if found.failed else None

    def _tell(self, key: Key, kernel: Any) -> None:
        self.say("running")
        if key in self.changed:
            return
        self._compare(key, kernel.module.text, kernel.name)

    def _further(self) -> Iterable[Case]:
        """The suite's other sizes for the kernels that are changed."""
        done = set()
        for case in self.known.cases:
            name = (case.kernel, case.dialect)
            if name not in done and any(self.changed.get(key) for key in case.keys):
                done.add(name)
                yield from plan.more(self.by_name[case.kernel], case.dialect)

    def _look_closely(self) -> None:
        """A kernel whose registers have other numbers, and nothing else, is not changed."""
        for key, text in self.texts.items():
            before = self.known.kernels.get(key)
            if before and build.same_but_for_names(before.module.text, text, before.name):
                self.changed[key] = False

    def _audit(self) -> Verdict | None:
        """What the suite asks of code that it does not run: no register is read that nothing
        writes, and ptxas takes every CUDA kernel.
        """
        import ast

        from kernels_cupy import compile as compiler

        for text in set(self.texts.values()):
            for name, registers in unwritten(text).items():
                where = next(iter(registers.values()))
                return self._killed(REFUSED, f"{name} reads what nothing writes: {where}")
        told = {key[1::2] for key, other in self.changed.items() if other and key[0] == "cupy"}
        for source, defines in sorted(told)[:COUNTED]:
            self.say("running")
            _limit(2 * CASE_SECONDS)
            try:
                compiler.cubin(source, dict(ast.literal_eval(defines)), "sm_80")
            except compiler.CompileError as error:
                return self._killed(REFUSED, f"{source}: {_short(error.log)}")
        return None

    def _counters(self) -> Verdict | None:
        names = {}
        for case in self.known.cases:
            if any(self.changed.get(key) for key in case.keys):
                names[case.kernel] = self.by_name[case.kernel]
        for kernel in list(names.values())[:COUNTED]:
            self.say("running")
            _limit(2 * CASE_SECONDS)
            before = self.known.figures(kernel)
            try:
                after = plan.counted(kernel)
            except Exception as error:
                return self._killed(FAULT, f"{kernel.op} {kernel.label}: {_short(error)}")
            other = [f"{name} {before[name]} -> {after[name]}" for name in before
                     if before[name] != after[name]]  # fmt: skip
            if other:
                return self._killed(COUNTERS, f"{kernel.op} {kernel.label}: {other[0]}")
        return None

    def _killed(self, kind: str, words: str) -> Verdict:
        return Verdict("killed", kind, words, self._spent())

    def _spent(self) -> float:
        return round(time.process_time() - self.started, 2)


def _how(found: Outcome, case: Case) -> tuple[str, str]:
    """Kind and words of an outcome that failed."""
    op, wing, variant = case.kernel
    where = f"{op} {wing}{'/' if variant else ''}{variant} {case.dialect}"
    if found.error is None:
        assert found.mismatch is not None
        return OUTPUT, f"{where}: {_short(found.mismatch.words)}"
    if found.fault == "FUEL":
        return TIMEOUT, f"{where}: a thread runs for ever"
    if found.fault:
        return FAULT, f"{where}: {found.fault}"
    if found.kind == "modified input":
        return OUTPUT, f"{where}: {_short(found.error)}"
    return REFUSED, f"{where}: {found.kind}: {_short(found.error)}"


def _short(words: object) -> str:
    return " ".join(str(words).split())[:160]


def _limit(seconds: int) -> None:
    """Ends the process when it has used that many more seconds of the processor."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + seconds + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def limit_memory() -> None:
    """At most MEMORY bytes more than the process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _burn_quickly() -> None:
    """Both wings launch with little fuel."""
    for name in ("kernels_cupy.launch", "kernels_numba.launch"):
        module: Any = sys.modules.get(name)
        if module is not None:
            options = module.emulator_options
            module.emulator_options = lambda options=options: {**options(), "fuel": FUEL}
