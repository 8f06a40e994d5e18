"""Mutants of files, judged one after another, each in a forked process.

Contract: `Campaign.run` judges mutants of one file and hands on every verdict as it comes. One
process holds the unchanged wings and their cases; a mutant's process is a copy of it that ends with
its mutant, by itself, by a time limit, or by a crash. Linux only (fork, CPU limits).
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import re
import select
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kernels_cupy.catalogue import catalogue
from quantassay.mutation import judge, operators_cuda, operators_python
from quantassay.mutation.build import ROOT, scratch_sources
from quantassay.mutation.judge import Known, Verdict
from quantassay.mutation.mutant import Mutant, mutants_of
from quantassay.mutation.plan import Case, Plan
from reference.op import Kernel, get_op, kernels

DIALECTS = ("ieee", "vllm")  # those that differ most
WALL_SECONDS = 1800  # of one mutant, however busy the machine is
HOST_SIDE = ("__init__", "launch", "compile", "contraction", "inlined", "intrinsics",
             "tile_shapes")  # fmt: skip
_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
_IMPORT = re.compile(r"^\s*from kernels_numba(?:\.(\w+))? import (\([^)]*\)|[^\n]*)", re.M)
Seen = Callable[[Mutant, Verdict], None]


def files(wing: str) -> list[str]:
    """The files of a wing that have device code, as paths in the checkout."""
    if wing == "cupy":
        found = sorted((ROOT / "kernels_cupy").glob("*.cu*"))
    else:
        found = [path for path in sorted((ROOT / "kernels_numba").glob("*.py"))
                 if path.stem not in HOST_SIDE]  # fmt: skip
    return [f"{path.parent.name}/{path.name}" for path in found]


def wing_of(file: str) -> str:
    """ "cupy" or "numba" for a path in the checkout. Raises ValueError for another file."""
    for wing in ("cupy", "numba"):
        if file in files(wing):
            return wing
    known = ", ".join([*files("cupy"), *files("numba")])
    raise ValueError(f"--file: got {file!r}; allowed: {known}")


def mutants(file: str) -> tuple[str, list[Mutant]]:
    """(source, all its mutants)."""
    source = (ROOT / file).read_text()
    operators: Any = operators_cuda if wing_of(file) == "cupy" else operators_python
    return source, mutants_of(file, source, operators.edits(source))


def digest(source: str) -> str:
    """How a result names the source that it was had with."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


@dataclass
class Campaign:
    """One wing's plan, kept from file to file. ops: those to use, all where it is empty."""

    plan: Plan
    dialects: Sequence[str] = DIALECTS
    ops: Sequence[str] = ()

    def run(self, file: str, chosen: Sequence[Mutant], source: str, seen: Seen) -> None:
        """Judges mutants of one file. Raises RuntimeError where the unchanged kernels fail."""
        users = [one for one in users_of(file) if not self.ops or one.op in self.ops]
        sources = _including(file)
        cases = [case for one in users for case in self.plan.cases_of(one, self.dialects)]
        cases = [case for case in cases if _launches(case, sources)]
        launched = {case.kernel for case in cases}
        known = Known(
            self.plan.wing,
            cases,
            self.plan.kernels,
            self.plan.digests,
            self.plan.lines,
            self.plan.figures_of,
        )
        for kernel in users:
            if (kernel.op, kernel.wing, kernel.variant) in launched:
                self.plan.figures_of(kernel)
        gc.collect()
        gc.freeze()  # children share what is here, and never write to it by counting references
        try:
            with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
                for mutant in chosen:
                    copies = scratch_sources(Path(folder))
                    seen(mutant, _in_child(mutant, mutant.apply(source), known, copies))
        finally:
            gc.unfreeze()


def users_of(file: str) -> list[Kernel]:
    """The registered kernels of the schemes whose sources include or import a file, near or far."""
    wing = wing_of(file)
    if wing == "cupy":
        schemes = {get_op(one.op).scheme for one in catalogue() if one.source in _including(file)}
    else:
        schemes = _importing(Path(file).stem)
    return [one for one in kernels(wing=wing) if get_op(one.op).scheme in schemes]


def _launches(case: Case, sources: set[str]) -> bool:
    """Whether a case launches a kernel of these CUDA sources; any of Numba's may be meant."""
    return case.kernel[1] == "numba" or any(key[1] in sources for key in case.keys)


@cache
def _including(file: str) -> set[str]:
    """The .cu files that include a file, near or far, or are it."""
    name = Path(file).name
    return {path.name for path in (ROOT / "kernels_cupy").glob("*.cu") if name in _closure(path)}


def _closure(path: Path) -> set[str]:
    found, ahead = {path.name}, _INCLUDE.findall(path.read_text())
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += _INCLUDE.findall((path.parent / name).read_text())
    return found


def _importing(stem: str) -> set[str]:
    """Stems of the wing's modules that import one, near or far, and itself."""
    uses: dict[str, set[str]] = {}
    for path in (ROOT / "kernels_numba").glob("*.py"):
        names: set[str] = set()
        for module, imported in _IMPORT.findall(path.read_text()):
            names |= {module} if module else set(re.findall(r"\w+", imported))
        uses[path.stem] = names - {"__init__"}
    found = {stem}
    while (
        more := {one for one, names in uses.items() if names & found and one != "__init__"} - found
    ):
        found |= more
    return found


def _in_child(mutant: Mutant, text: str, known: Known, copies: Path) -> Verdict:
    reading, writing = os.pipe()
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads: the child needs none
        child = os.fork()
    if child == 0:
        os.close(reading)
        _child(mutant, text, known, copies, writing)
    os.close(writing)
    started = time.monotonic()
    said, late = _listen(reading, started + WALL_SECONDS)
    if late:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(reading)
    if said and said[-1].startswith("{"):
        return Verdict(**json.loads(said[-1]))
    return _died(status, late, said[-1] if said else "", time.monotonic() - started)


def _died(status: int, late: bool, stage: str, seconds: float) -> Verdict:
    """The verdict on a mutant whose process ended without one."""
    slow = late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU)
    if stage != "running":
        words = "takes too long to compile" if slow else f"the compiler ends the process ({status})"
        return Verdict("stillborn", words=words, seconds=round(seconds, 2))
    if slow:
        return Verdict(
            "killed", judge.TIMEOUT, "runs longer than its time limit", round(seconds, 2)
        )
    words = f"the process ended with status {status}"
    return Verdict("killed", judge.FAULT, words, round(seconds, 2))


def _listen(reading: int, until: float) -> tuple[list[str], bool]:
    """(lines that the child said, whether it was not done in time)."""
    data = b""
    while True:
        ready, _, _ = select.select([reading], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            return data.decode().splitlines(), True
        some = os.read(reading, 65536)
        if not some:
            return data.decode().splitlines(), False
        data += some


def _child(mutant: Mutant, text: str, known: Known, copies: Path, writing: int) -> None:
    """Never returns."""
    status = 1
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        judge.limit_memory()

        def say(words: str) -> None:
            os.write(writing, words.encode() + b"\n")

        found = judge.judge(mutant, text, known, copies, say)
        say(json.dumps(found.plain()))
        status = 0
    except BaseException as error:  # a fault of the tool: said, not counted
        words = f"{type(error).__name__}: {error}"
        os.write(writing, json.dumps(Verdict("error", words=words[:300]).plain()).encode() + b"\n")
    finally:
        os._exit(status)
