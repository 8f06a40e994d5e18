"""The command line: exit status, one-line errors, JSON, files written in one step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from quantassay.console import bare_json

ROOT = Path(__file__).resolve().parents[2]
KERNELS = """
import numpy as np
from quantassay import implements
from reference import int8_gemm, int8_quantize

@implements("int8.gemm", wing="right")
def gemm(a, b, *, dialect):
    return int8_gemm.gemm(a, b, dialect=dialect)

@implements("int8.gemm", wing="wrong", variant="tail")
def tail(a, b, *, dialect):
    K = a.shape[1] // 16 * 16
    return a[:, :K].astype(np.int32) @ b[:, :K].astype(np.int32).T

@implements("int8.quantize_per_token", wing="ambiguous")
def ambiguous(x):
    return int8_quantize.quantize_per_token(x)
"""


def quantassay(
    *words: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The tool in a process of its own, away from the checkout unless `cwd` says otherwise."""
    path = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **environment}
    return subprocess.run(
        [sys.executable, "-m", "quantassay", *words],
        capture_output=True,
        text=True,
        cwd=cwd or ROOT,
        env={**os.environ, **path},
        check=False,
    )


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(KERNELS)
    return str(path)


def test_a_right_kernel_exits_0(file: str) -> None:
    done = quantassay("check", "--kernels", file, "--wing", "right", "--examples", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert "int8.gemm  right" in done.stdout
    assert "article_torch" in done.stdout
    assert "no mismatch;" in done.stdout


def test_a_wrong_kernel_exits_1_and_is_explained_once(file: str, tmp_path: Path) -> None:
    words = ("check", "--kernels", file, "--wing", "wrong", "--examples", "3")
    done = quantassay(*words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    text = " ".join(done.stdout.split())
    assert "int8.gemm wrong/tail, dialect ieee, vllm, article_cuda, article_torch: WRONG" in text
    assert text.count("smallest input: normal(K=1, M=1, N=1, fp32, seed=0)") == 1
    assert "acc[0, 0]: got 0 (0x00000000), expected" in text
    assert "reason: the kernel drops the tail of K: the last K % 16 products" in text
    assert "4 of 4 checks failed" in text
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]  # nothing left behind


def test_json_goes_to_stdout_alone(file: str) -> None:
    words = ("check", "--kernels", file, "--wing", "wrong", "--wing", "right", "--json")
    done = quantassay(*words, "--examples", "3", "--dialect", "ieee", "--seed", "7")
    assert (done.returncode, done.stderr) == (1, "")
    report = json.loads(done.stdout)
    assert report["schema"] == "quantassay.check/1"
    assert (report["device"], report["seed"], report["examples"]) == ("emulator", 7, 3)
    assert report["passed"] is False
    right, wrong = report["checks"]
    for key in ("op", "wing", "variant", "dialect", "cases", "elements", "mismatches", "seconds"):
        assert key in right
    assert (right["wing"], right["mismatches"], right["counterexample"]) == ("right", 0, None)
    assert (wrong["wing"], wrong["variant"], wrong["passed"]) == ("wrong", "tail", False)
    assert wrong["mismatches"] > 0
    assert "drops the tail of K" in wrong["counterexample"]["reason"]
    assert wrong["counterexample"]["mismatch"]["output"] == "acc"
    assert report["mismatches"] == wrong["mismatches"]
    assert report["elements"] == right["elements"] + wrong["elements"]


def test_json_goes_to_a_file_beside_the_table(file: str, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    words = ("check", "--kernels", file, "--wing", "right", "--examples", "0")
    done = quantassay(*words, "--json", str(target))
    assert done.returncode == 0
    assert "no mismatch" in done.stdout
    assert json.loads(target.read_text())["passed"] is True
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py", "out.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--op", "int8.gem"],
            "op: got 'int8.gem'; known: int8.add_rms_norm_quantize, ",
        ),
        (["--wing", "cuda"], "wing: got 'cuda'; known: ambiguous, cupy, numba, right, wrong"),
        (["--dialect", "iee"], "dialect: got 'iee'; known: article_cuda, article_torch, "),
        (["--device", "tpu"], "device: got 'tpu'; allowed: auto, gpu, emulator"),
        (["--op", "int8.linear"], "no kernel is left to check: op int8.linear"),
        (["--wing", "ambiguous"], "takes no dialect= but is registered for ieee, vllm, article_c"),
        (["--json", "/no/such/folder/out.json"], "--json: the folder /no/such/folder does not"),
        (["--json", "/"], "--json: / is a folder; allowed: a file name"),
        (["--examples", "-1"], "--examples"),
        (["--examples", "many"], "--examples"),
        (["--color"], "--color"),
    ],
)
def test_bad_usage_exits_2_with_one_line(file: str, words: list[str], message: str) -> None:
    done = quantassay("check", "--kernels", file, *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not a file"),
        ("x = 1\n", "registers no kernel"),
        ("x = (\n", "SyntaxError"),
        ("1 / 0\n", "fails: ZeroDivisionError: division by zero (line 1)"),
    ],
)
def test_a_file_that_cannot_be_used_exits_2(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "bad.py"
    if text is not None:
        path.write_text(text)
    done = quantassay("check", "--kernels", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("quantassay: --kernels: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_gpu_is_an_error_and_not_a_skip(file: str) -> None:
    words = ("check", "--kernels", file, "--wing", "right", "--device", "gpu")
    done = quantassay(*words, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert done.stderr.startswith("quantassay: device: got 'gpu', but ")


def test_a_wing_is_checked_beside_a_file_when_it_is_named(file: str) -> None:
    words = ("--wing", "numba", "--wing", "right", "--op", "int8.gemm", "--dialect", "ieee")
    done = quantassay("check", "--kernels", file, *words, "--examples", "0", "--json")
    assert done.returncode == 0
    checks = {(one["wing"], one["variant"]) for one in json.loads(done.stdout)["checks"]}
    assert checks > {("numba", "naive"), ("numba", "pipeline"), ("right", "")}
    assert {wing for wing, _ in checks} == {"numba", "right"}


def test_any_number_of_workers_gives_the_same(file: str) -> None:
    words = ("check", "--kernels", file, "--wing", "wrong", "--examples", "3", "--json")
    found = []
    for workers in ("1", "2"):
        done = quantassay(*words, "--workers", workers)
        assert (done.returncode, done.stderr) == (1, "")
        checks = json.loads(done.stdout)["checks"]
        found.append([{**one, "seconds": 0} for one in checks])
    assert found[0] == found[1]
    assert [one["dialect"] for one in found[0]] == ["ieee", "vllm", "article_cuda", "article_torch"]


def test_a_worker_that_dies_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "crash.py"
    path.write_text(KERNELS.replace("return int8_gemm", "import os; os._exit(3)  # "))
    done = quantassay("check", "--kernels", str(path), "--wing", "right", "--workers", "2")
    assert (done.returncode, done.stdout) == (2, "")
    assert "quantassay: a worker process died" in done.stderr


def test_help_names_every_option() -> None:
    done = quantassay("check", "--help", COLUMNS="200")
    assert done.returncode == 0
    names = (
        "op wing dialect device kernels examples seed sweep workers json function framework cu ptx "
        "entry grid block args shared cooperative dtype out-dtype option multiple aligned define "
        "include arch fmad fast-math"
    )
    assert all(f"--{name}" in done.stdout for name in names.split())
    for panel in ("Which kernels", "Your own CUDA or PTX", "Inputs", "Output"):
        assert f"─ {panel} ─" in done.stdout


def test_doctor_says_what_is_here() -> None:
    done = quantassay("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)["findings"]
    expected = "Python numpy llvmlite NVRTC NVVM nvdisasm GPU model cache"
    assert set(expected.split()) <= set(found)
    assert found["numpy"]["ok"] is True
    assert found["Python"]["found"].startswith(".".join(map(str, sys.version_info[:3])))
    for one in found.values():
        assert one["found"]
        assert isinstance(one["ok"], bool)


def test_doctor_prints_a_table_and_never_fails(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done = quantassay("doctor", QUANTASSAY_CACHE=str(cache), CUDA_VISIBLE_DEVICES="", COLUMNS="300")
    assert (done.returncode, done.stderr) == (0, "")
    assert str(cache) in done.stdout
    assert "-- " in done.stdout  # the GPU is missing


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--json"], ["--json=-"]),
        (["--json", "--op", "x"], ["--json=-", "--op", "x"]),
        (["--json", "out.json"], ["--json", "out.json"]),
        (["--json", "-"], ["--json", "-"]),
        (["--json=out.json"], ["--json=out.json"]),
        (["--op", "x", "--json"], ["--op", "x", "--json=-"]),
    ],
)
def test_a_bare_json_means_stdout(words: list[str], expected: list[str]) -> None:
    assert bare_json(words) == expected
