"""Opcode fuzz on the hardware: the same tiny PTX kernels and inputs as tests/emulator.

Contract: every case's PTX is loaded by the driver (its own ptxas), run on the case's inputs, and
compared with the model; outputs go to tests/emulator/golden/<gpu>.npz, so that the emulator is
tested against hardware where there is none. Where PTX leaves a result open the difference is
counted apart.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from quantassay.gpu.evidence import ROOT, gpu_folder, gpu_state

GOLDEN = ROOT / "tests" / "emulator" / "golden"
THREADS = 128  # the cases pad their inputs to a multiple of it


def run_case(case: Any, folder: Path) -> np.ndarray:
    """One opcode case on the current GPU."""
    import cupy

    path = folder / "case.ptx"
    path.write_text(case.ptx)
    kernel = cupy.RawModule(path=str(path)).get_function("k")
    inputs = [cupy.asarray(array) for array in case.inputs]
    out = cupy.full(case.count, 0xA5, dtype=case.output_dtype)
    kernel((case.count // THREADS,), (THREADS,), (out, *inputs))
    return np.asarray(cupy.asnumpy(out))


def record_opcodes() -> dict[str, Any]:
    """Runs every case, writes the fixture, and returns where hardware and model differ."""
    sys.path.insert(0, str(ROOT))
    cases = importlib.import_module("tests.emulator.opcode_models").CASES
    outputs: dict[str, np.ndarray] = {}
    differing: dict[str, Any] = {}
    refused: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            try:
                got = run_case(case, Path(folder))
            except RuntimeError as error:  # the driver's compiler refuses this PTX: a finding
                refused[case.name] = str(error)
                continue
            outputs[case.name] = got
            wrong = got != case.expected()
            open_there = case.open_mask()
            if wrong.any():
                differing[case.name] = _described(case, got, wrong, open_there)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    path = GOLDEN / f"{gpu_folder(gpu_state()['name'])}.npz"
    np.savez_compressed(path, **outputs)  # type: ignore[arg-type]
    return {
        "cases": len(cases),
        "elements": int(sum(case.count for case in cases)),
        "differing": differing,
        "refused": refused,
        "files": [str(path.relative_to(ROOT))],
    }


def _described(case: Any, got: np.ndarray, wrong: np.ndarray, open_there: np.ndarray) -> Any:
    expected = case.expected()
    defined = np.flatnonzero(wrong & ~open_there)
    return {
        "where defined": int(defined.size),
        "where open": int((wrong & open_there).sum()),
        "first": [
            {
                "inputs": [hex(int(array[i])) for array in case.inputs],
                "hardware": hex(int(got[i])),
                "model": hex(int(expected[i])),
            }
            for i in defined[:4]
        ],
    }
