"""torch functions as kernels: on CPU tensors, every dtype, in every shape that they return."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from quantassay import check_function, check_kernel
from quantassay.frameworks import emulated, kernel_of, load_function

torch = pytest.importorskip("torch")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "torch"
TOKEN = "int8.quantize_per_token"


def check(name: str, dialect: str) -> Any:
    kernel = load_function(EXAMPLES / name, "quantize", TOKEN, [dialect])
    assert kernel.wing == "torch"
    return check_kernel(kernel, dialect, examples=5, device="emulator")


def test_a_right_function_passes() -> None:
    assert check("right.py", "ieee").passed


def test_arithmetic_in_half_precision_is_told() -> None:
    result = check("wrong.py", "ieee")
    assert not result.passed
    assert "x's own dtype" in result.counterexample.reason
    assert "fp16" in result.counterexample.case  # fp32 inputs are right


def test_tensors_share_memory_with_arrays_of_every_dtype() -> None:
    from quantassay.frameworks.torch_tensors import to_numpy, to_tensor

    names = ("float32", "float16", "int8", "uint8", "int32", "bfloat16", "float8_e4m3fn")
    for name in names:
        dtype = np.dtype(getattr(ml_dtypes, name, name))
        array = np.arange(12).astype(dtype).reshape(3, 4)
        tensor = to_tensor(array)
        assert str(tensor.dtype) == f"torch.{name}"
        assert tensor.data_ptr() == array.ctypes.data
        back = to_numpy(tensor.T)
        assert back.dtype == dtype
        assert back.T.tobytes() == array.tobytes()
        assert np.shares_memory(back, array)
    assert to_tensor(3) == 3
    assert to_numpy(None) is None


def test_what_a_function_changes_is_seen() -> None:
    def clears(x: Any) -> Any:
        result = x.to(torch.int8), x[:, 0].float()
        x.zero_()
        return result

    result = check_function(clears, TOKEN, "ieee", framework="torch", examples=0, device="emulator")
    assert "modifies its input x" in " ".join(one.reason for one in result.counterexamples)


def test_bf16_results_and_lists_come_back() -> None:
    def outputs(codes: Any, scales: Any, *, out_dtype: str) -> Any:
        assert out_dtype == "bf16"
        return [(codes.float() * scales[:, None]).bfloat16()]

    chosen = [("out_dtype", ("bf16",))]
    result = check_function(
        outputs, "int8.dequantize", "ieee", framework="torch", options=chosen, device="emulator"
    )
    assert result.passed, result.counterexample


def test_cuda_devices_are_the_cpu_and_only_inside() -> None:
    def on_gpu(x: Any) -> Any:
        assert x.is_cuda
        codes = torch.zeros(x.shape, dtype=torch.int8, device=torch.device("cuda", 0))
        return codes.to("cuda:0"), torch.ones(len(x), device="cuda")

    available = torch.cuda.is_available()
    call = kernel_of(on_gpu, TOKEN, ["ieee"], framework="torch").function
    codes, scales = call(np.ones((2, 3), np.float32))
    assert (codes.shape, scales.tolist()) == ((2, 3), [1, 1])
    assert not torch.ones(1).is_cuda
    with emulated("torch"):
        assert torch.ones(1).is_cuda
        assert torch.cuda.is_available()
        assert torch.cuda.get_device_properties(0).multi_processor_count > 0
        with torch.cuda.device(torch.ones(1).device):
            torch.cuda.synchronize()
    assert torch.cuda.is_available() == available
