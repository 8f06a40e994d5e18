"""The emulator against what hardware gave for the opcode cases, where a recording is committed.

`make gpu` records them (quantassay/gpu/golden.py): one file per GPU, an array of outputs per case.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import emulator
from tests.emulator import opcode_mma_float
from tests.emulator.opcode_models import CASES, THREADS, Case

FOLDER = Path(__file__).parent / "golden"
RECORDINGS = sorted(FOLDER.glob("*.npz"))
BY_NAME = {case.name: case for case in CASES}


def emulated(case: Case) -> np.ndarray:
    out = emulator.empty((case.count,), case.output_dtype)
    allowed = opcode_mma_float.ALLOWED.values()
    kernel = emulator.compile(case.ptx, approximate=allowed).kernel("k")
    kernel.launch(case.count // THREADS, THREADS, [out, *case.inputs])
    return np.asarray(out)


def compare(recording: Path) -> list[str]:
    """Cases in which the emulator differs from hardware where PTX defines the result."""
    wrong = []
    with np.load(recording) as outputs:
        for name in outputs.files:
            if name not in BY_NAME:
                wrong.append(f"{name}: no such case any more; record again")
                continue
            case = BY_NAME[name]
            differs = (emulated(case) != outputs[name]) & ~case.open_mask()
            if differs.any():
                first = int(np.flatnonzero(differs)[0])
                inputs = [hex(int(array[first])) for array in case.inputs]
                wrong.append(f"{name}: {int(differs.sum())} differ, first at {inputs}")
    return wrong


@pytest.mark.skipif(not RECORDINGS, reason="no GPU has recorded tests/emulator/golden/*.npz yet")
@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_the_emulator_gives_what_hardware_gave(recording: Path) -> None:
    assert compare(recording) == []


def test_a_differing_recording_is_noticed(tmp_path: Path) -> None:
    """The comparison itself, on a recording made of the models with one bit flipped."""
    right, wrong = CASES[0], CASES[-1]
    outputs = {case.name: case.expected() for case in (right, wrong)}
    path = tmp_path / "made_up.npz"
    np.savez(path, **outputs)
    assert compare(path) == []
    defined = int(np.flatnonzero(~wrong.open_mask())[3])
    outputs[wrong.name][defined] ^= 1
    np.savez(path, **outputs)
    (words,) = compare(path)
    assert words.startswith(f"{wrong.name}: 1 differ, first at ")
