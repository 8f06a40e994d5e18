"""Triton kernels from their PTX, with no GPU: what may stay unchanged in a user's file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import emulator
from quantassay import check_kernel, notes
from quantassay.errors import UsageError
from quantassay.frameworks import emulated, kernel_of, load_function
from quantassay.loading import run_file

pytest.importorskip("triton")
torch = pytest.importorskip("torch")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "triton"
TOKEN = "int8.quantize_per_token"
FILE = """
import torch
import triton
import triton.language as tl

DEVICE = triton.runtime.driver.active.get_active_torch_device()
PROPERTIES = triton.runtime.driver.active.utils.get_device_properties(DEVICE.index)

@triton.jit
def scaled(x, y, out, n, stride, factor, flag, BLOCK: tl.constexpr, MORE: tl.constexpr = None):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at * stride, mask=at < n, other=0).to(tl.float32) * factor
    if y is not None:
        value += tl.load(y + at, mask=at < n, other=0)
    if flag:
        value += 1
    if MORE is not None:
        value += MORE
    tl.store(out + at, value, mask=at < n)

tuned = triton.autotune([triton.Config({"BLOCK": b}, num_warps=w) for b, w in ((64, 1), (32, 1))],
                        key=["n"])(scaled)

@triton.heuristics({"BLOCK": lambda args: triton.next_power_of_2(args["n"])})
@triton.jit
def unmasked(x, out, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at))

@triton.jit
def reduced(x, out, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(out, tl.max(tl.load(x + at, mask=at < n, other=float("-inf"))))

def launch(kernel, x, y=None, factor=2.0, flag=False, n=None, **options):
    n = n or len(x)
    out = torch.empty(len(x), dtype=torch.float32, device="cuda")
    stride = x.stride(0) if hasattr(x, "stride") else x.strides[0] // x.itemsize
    grid = lambda meta: (triton.cdiv(n, meta["BLOCK"]),)
    kernel[grid](x, y, out, n, stride, factor, flag, **options)
    return out
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("triton") / "kernels.py"
    path.write_text(FILE)
    with emulated("triton", torch=True):
        return run_file(path)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_tensors_of_every_dtype(file: Any, dtype: str) -> None:
    x = torch.arange(100).to(getattr(torch, dtype))
    with emulated("triton", torch=True):
        out = file.launch(file.scaled, x, BLOCK=32, num_warps=1)
    assert torch.equal(out, 2 * torch.arange(100).float())


def test_arguments_of_every_kind(file: Any) -> None:
    x, y = torch.arange(100).float(), torch.ones(100)
    with emulated("triton", torch=True):
        out = file.launch(file.scaled, x, y, 0.5, True, BLOCK=64, MORE=7, num_warps=2)
        assert torch.equal(out, x / 2 + 9)
        strided = file.launch(file.scaled, x[::4], BLOCK=16, num_warps=1)
        assert torch.equal(strided, 2 * x[::4])
        odd = file.launch(file.scaled, x[1:], factor=1.0, BLOCK=128, num_warps=1)
        assert torch.equal(odd, x[1:])  # an address that is no multiple of 16
        one = file.launch(file.scaled, x[:1], factor=3, BLOCK=16, num_warps=1)
        assert torch.equal(one, 3 * x[:1])  # n = 1: a constant to Triton
        plain = file.launch(file.scaled, x.numpy(), BLOCK=32, num_warps=1)
        assert torch.equal(plain, 2 * x)


def test_host_code_may_speak_of_a_gpu(file: Any) -> None:
    assert file.DEVICE.type == "cpu"
    assert file.PROPERTIES["multiprocessor_count"] > 0
    with emulated("triton", torch=True):
        x = torch.ones(3, device="cuda").to("cuda").cuda()
        assert x.is_cuda
        assert x.device.type == "cpu"
        compiled = file.scaled.warmup(x, None, x, 3, 1, 2.0, False, BLOCK=16, grid=(1,))
    assert "scaled" in compiled.asm["ptx"]
    assert not x.is_cuda


def test_autotuning_runs_every_configuration(file: Any) -> None:
    x = torch.arange(70).float()
    with notes.collected() as texts, emulated("triton", torch=True):
        assert torch.equal(file.launch(file.tuned, x), 2 * x)
    assert any(text.startswith("autotuning: every configuration ran") for text in texts)
    assert len(file.tuned.configs_timings) == 2


def test_what_the_emulator_finds(file: Any) -> None:
    x = torch.ones(48)
    with emulated("triton", torch=True):
        with pytest.raises(
            emulator.EmulatorError, match=r"out-of-bounds load (?s:.*)kernels.py:30"
        ):
            file.unmasked[(1,)](x, torch.empty(64), 48, num_warps=1)
        with pytest.raises(emulator.EmulatorError, match="which nobody has written"):
            file.launch(file.scaled, torch.empty(48), BLOCK=64, num_warps=1)
        partly = file.launch(file.scaled, x, n=40, BLOCK=64, num_warps=1)
        assert emulator.written(partly.numpy()).sum() == 40
        partly.add_(1)  # torch writes too
        assert emulator.written(partly.numpy()).all()


@pytest.mark.parametrize("warps", [1, 4])
def test_block_reductions(file: Any, warps: int) -> None:
    x = torch.randn(777)
    with emulated("triton", torch=True):
        out = torch.empty(1)
        file.reduced[(1,)](x, out, 777, BLOCK=1024, num_warps=warps)
    assert out[0] == x.max()


def test_what_cannot_be_launched_says_so(file: Any) -> None:
    x = torch.ones(4)
    with emulated("triton", torch=True):
        with pytest.raises(UsageError, match=r"grid: got \(0, 1, 1\); allowed: sizes >= 1"):
            file.unmasked[(0,)](x, x, 4, num_warps=1)
        with pytest.raises(KeyError, match="no_such"):
            file.unmasked[(1,)](x, x, 4, no_such=3)
    with pytest.raises(
        UsageError, match=r"scaled is a triton kernel; allowed: the Python function"
    ):
        kernel_of(file.scaled, TOKEN)


def test_triton_is_as_before_outside_of_the_context() -> None:
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    before = driver._active, JITFunction.run
    with emulated("triton"):
        assert JITFunction.run is not before[1]
    assert (driver._active, JITFunction.run) == before


# --- the examples


def check(name: str, dialect: str) -> Any:
    kernel = load_function(EXAMPLES / name, "quantize", TOKEN, [dialect])
    assert kernel.wing == "triton"
    return check_kernel(kernel, dialect, examples=5, device="emulator")


def test_a_right_kernel_is_right_and_its_approximations_are_named() -> None:
    result = check("right.py", "sglang")
    assert result.passed, result.counterexample
    assert any(text.startswith("div.full.f32 runs as IEEE division") for text in result.notes)


def test_a_right_kernel_is_wrong_in_another_dialect() -> None:
    result = check("right.py", "vllm")
    assert not result.passed
    assert "speaks dialect sglang, not vllm" in result.counterexample.reason


def test_lanes_beyond_k_that_hold_minus_infinity() -> None:
    result = check("wrong.py", "sglang")
    assert not result.passed
    assert result.counterexample.case.startswith("normal(K=3")  # the least K that is no power of 2


def test_a_matmul_on_tensor_cores() -> None:
    file = Path(__file__).with_name("triton_kernels.py")
    kernel = load_function(file, "gemm", "int8.gemm", ["ieee"])
    result = check_kernel(kernel, "ieee", examples=5, device="emulator")
    assert result.passed, result.counterexample
    assert result.notes == ()


def test_a_division_by_a_constant_is_a_product() -> None:
    file = Path(__file__).with_name("triton_kernels.py")
    kernel = load_function(file, "quantize_per_group", "int8.quantize_per_group", ["vllm"])
    result = check_kernel(kernel, "vllm", examples=5, device="emulator")
    assert not result.passed
    assert "multiplies amax by 1/127 for the scale" in result.counterexample.reason


def test_triton_needs_no_torch(tmp_path: Path) -> None:
    gone = ("import torch", "DEVICE =", "PROPERTIES =")
    lines = [line for line in FILE.splitlines() if not line.startswith(gone)]
    text = "\n".join(["import numpy as np", *lines])
    old, new = 'torch.empty(len(x), dtype=torch.float32, device="cuda")', "np.empty(len(x), 'f4')"
    (tmp_path / "plain.py").write_text(text.replace(old, new))
    code = f"""
import sys
from pathlib import Path
import numpy as np
from quantassay.frameworks import emulated
from quantassay.frameworks.functions import run_file
file = run_file(Path({str(tmp_path / "plain.py")!r}))
x = np.arange(100, dtype=np.float16)
with emulated("triton"):
    assert (file.launch(file.scaled, x[::2], BLOCK=32, num_warps=1) == 2 * x[::2]).all()
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_targets(file: Any) -> None:
    from quantassay.loading import run_file as load

    kernels = load(Path(__file__).with_name("triton_kernels.py"))
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randint(-128, 128, (48, 96), dtype=torch.int8, generator=generator) for _ in "ab")
    with emulated("triton", torch=True, arch=90):
        compiled = file.scaled.warmup(a, None, a, 3, 1, 2.0, False, BLOCK=16, grid=(1,))
        assert ".target sm_90" in compiled.asm["ptx"]
        product = kernels.gemm(a, b)
    assert torch.equal(product, a.int() @ b.int().T)
    with (
        pytest.raises(UsageError, match="arch: got 75; allowed: 80, 90"),
        emulated("triton", arch=75),
    ):
        pass
