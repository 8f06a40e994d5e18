"""The stages of a device run, most valuable first.

Contract: a stage is a function without arguments that returns a JSON-able result and raises if it
cannot do its work; what is wrong with a kernel is in the result, not an exception. `STAGES` orders
them. Each prints one line when it ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from quantassay.gpu.evidence import ROOT

EXAMPLES = 60
SANITIZED = ("int8.quantize_per_token", "int8.gemm_dequant", "int8.linear")


def differential() -> dict[str, Any]:
    """Every kernel and dialect of both wings on the GPU against the oracle."""
    from quantassay.engine import run_checks
    from quantassay.loading import load_wings

    load_wings()
    results = run_checks(device="gpu", examples=EXAMPLES, seed=0, on_progress=_tell)
    return {
        "checks": [result.as_dict() for result in results],
        "elements": sum(result.elements for result in results),
        "mismatches": sum(result.mismatches for result in results),
    }


def sanitizer() -> dict[str, Any]:
    """compute-sanitizer memcheck and racecheck over a few kernels, in processes of their own."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return {"missing": "compute-sanitizer is not on the PATH"}
    found = {}
    for tool in ("memcheck", "racecheck"):
        words = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m"]
        words += ["quantassay", "check", "--device", "gpu", "--examples", "2", "--wing", "cupy"]
        for op in SANITIZED:
            words += ["--op", op]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=420)
        lines = [line for line in done.stdout.splitlines() if line.startswith("=========")]
        found[tool] = {
            "exit": done.returncode,
            "report": lines[-40:],
            "stderr": done.stderr[-2000:],
        }
    return found


def _tell(label: str, done: int, total: int) -> None:
    if done == total or done % 500 == 0:
        print(f"  {done}/{total} {label}", flush=True)


def golden() -> dict[str, Any]:
    """Each opcode's fuzz inputs on the hardware: outputs kept as a fixture, differences counted."""
    from quantassay.gpu.golden import record_opcodes

    return record_opcodes()


def timings() -> dict[str, Any]:
    """First timings of the CuPy wing, cold and warm, beside torch._int_mm and a device copy."""
    from quantassay.gpu.timings import measure

    return measure()


Stage = Callable[[], dict[str, Any]]
STAGES: dict[str, Stage] = {
    "differential": differential,
    "golden": golden,
    "sanitizer": sanitizer,
    "timings": timings,
}


def carried_output() -> str | None:
    """The folder whose files come back from a borrowed machine, if there is one."""
    return os.environ.get("OUT")
