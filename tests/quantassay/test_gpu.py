"""The device run's parts that need no GPU: carried CUBINs, evidence files, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.timing import copies_for, summary
from kernels_cupy import catalogue
from quantassay.errors import UsageError
from quantassay.gpu import __main__ as runner
from quantassay.gpu import build, evidence, golden
from tests.emulator.opcode_models import CASES


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One configuration in place of the whole catalogue."""
    chosen = [entry for entry in catalogue() if entry.kernel == "dequantize"][:1]
    monkeypatch.setattr(build, "catalogue", lambda full: chosen)


@pytest.mark.usefixtures("small")
def test_build_writes_audited_cubins_and_their_digest(tmp_path: Path) -> None:
    digest = build.build("sm_90a", tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (key,) = manifest["cubins"]
    assert (tmp_path / f"{key}.cubin").read_bytes()[:4] == b"\x7fELF"
    assert digest == evidence.manifest_digest(tmp_path)
    manifest["cubins"][key]["sha256"] = "0" * 64
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert digest != evidence.manifest_digest(tmp_path)


@pytest.mark.usefixtures("small")
def test_build_refuses_what_the_audit_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roofline.audit.problems", lambda row: [f"{row.kernel}: registers spill"])
    with pytest.raises(UsageError, match=r"the audit refuses.*\n.*dequantize: registers spill"):
        build.build("sm_90a", tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_without_a_build_the_message_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run `make cubins`"):
        evidence.manifest_digest(tmp_path)


def test_evidence_counts_for_its_commit_and_cubins_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "stage.json"
    monkeypatch.setattr(evidence, "manifest_digest", lambda: "d1")
    monkeypatch.setattr(evidence, "commit", lambda: "c1")
    assert not evidence.is_done(path)
    evidence.write_json(path, {"cubins": "d1", "commit": "c1"})
    assert evidence.is_done(path)
    for other in ({"cubins": "d2", "commit": "c1"}, {"cubins": "d1", "commit": "c2"}):
        evidence.write_json(path, other)
        assert not evidence.is_done(path)


def test_a_copy_without_git_takes_the_noted_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert evidence.commit(tmp_path) == "unknown"
    (tmp_path / "commit").write_text("abc123\n")
    assert evidence.commit(tmp_path) == "abc123"


def test_gpu_folders_are_plain_names() -> None:
    assert evidence.gpu_folder("NVIDIA H200") == "nvidia_h200"


def test_the_run_needs_a_gpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "gpu_problem", lambda: "CUDA finds 0 devices")
    assert runner.main([]) == 2
    assert "no GPU is usable here: CUDA finds 0 devices" in capsys.readouterr().err
    assert runner.main(["speed"]) == 2
    assert "stage: got 'speed'; known: differential, golden" in capsys.readouterr().err


def test_a_stage_with_mismatches_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole runner, with a stage that found a wrong kernel."""
    monkeypatch.setattr(runner, "gpu_problem", lambda: "")
    monkeypatch.setattr(evidence, "manifest_digest", lambda: "d")
    monkeypatch.setattr(evidence, "commit", lambda: "c")
    monkeypatch.setattr(evidence, "gpu_state", lambda: {"name": "NVIDIA H200"})
    monkeypatch.setattr(evidence, "EVIDENCE", tmp_path)
    monkeypatch.setenv("QUANTASSAY_CUBINS", "restored afterwards")
    monkeypatch.setitem(runner.STAGES, "differential", lambda: {"mismatches": 3})
    assert runner.main(["differential"]) == 1
    kept = json.loads((tmp_path / "nvidia_h200" / "differential.json").read_text())
    assert kept["result"] == {"mismatches": 3}
    assert kept["cubins"] == "d"
    assert runner.main(["differential"]) == 0  # done before


def test_a_difference_from_the_model_is_told_with_its_inputs() -> None:
    case = CASES[0]
    got = case.expected()
    got[5] ^= 1
    told = golden._described(case, got, got != case.expected(), np.zeros(got.size, bool))
    assert told["where defined"] == 1
    assert told["first"][0]["inputs"] == [hex(int(array[5])) for array in case.inputs]


def test_timing_summaries() -> None:
    found = summary([3.0, 1.0, 2.0], calls=20)
    assert (found.median_us, found.min_us, found.replays) == (2.0, 1.0, 3)
    assert copies_for(1 << 20, cold=True) == 64
    assert copies_for(100_000_000, cold=True) == 3
    assert copies_for(1, cold=False) == 1
    with pytest.raises(ValueError, match="nbytes: got 0"):
        copies_for(0, cold=True)
    with pytest.raises(ValueError, match="times: got none"):
        summary([], calls=1)
