"""The engine: what fails, what it says, what it counts, how kernels are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from quantassay import check_kernel, devices, run_checks
from quantassay.errors import DeviceError, UsageError
from reference import Kernel, get_op, int8_gemm, int8_quantize

TOKEN, GEMM, EPILOGUE = "int8.quantize_per_token", "int8.gemm", "int8.epilogue"


def kernel(op: str, function: Callable[..., Any], dialects: tuple[str, ...] = ("ieee",)) -> Kernel:
    return Kernel(op, "test", function.__name__, dialects, function)


def check(op: str, function: Callable[..., Any], dialect: str = "ieee", **options: Any) -> Any:
    return check_kernel(kernel(op, function, (dialect,)), dialect, device="emulator", **options)


# --- verdicts


def test_a_right_kernel_passes_and_is_counted() -> None:
    result = check(TOKEN, int8_quantize.quantize_per_token, examples=5)
    hostile = len(get_op(TOKEN).hostile)
    assert result.passed
    assert (result.cases, result.mismatches, result.error) == (hostile + 5, 0, None)
    assert result.counterexample is None
    assert result.elements > 10_000
    assert result.device == "emulator"
    assert result.as_dict()["passed"] is True


def test_a_wrong_kernel_gives_the_smallest_input_and_the_reason() -> None:
    def fourth_column(a: Any, b: Any) -> Any:
        out = int8_gemm.gemm(a, b)
        out[:, 3:4] += 1
        return out

    result = check(GEMM, fourth_column)
    assert not result.passed
    assert result.mismatches > 0
    found = result.counterexample
    assert found is not None
    assert found.case == "normal(K=1, M=1, N=4, fp32, seed=0)"
    assert found.mismatch is not None
    assert found.mismatch["differences"][0]["index"] == [0, 3]
    assert "acc: 1 of 4 elements differ" in found.words
    assert "off by one step" in found.reason


def test_what_the_kernel_raises_is_a_failure_with_its_place() -> None:
    def picky(a: Any, b: Any) -> Any:
        if a.shape[1] > 16:
            raise RuntimeError("no deep sums here")
        return int8_gemm.gemm(a, b)

    result = check(GEMM, picky, examples=3)
    assert not result.passed
    assert result.error == result.counterexample.words
    assert "raises RuntimeError on valid input: no deep sums here (test_engine.py" in result.error
    assert "K=17" in result.counterexample.case


def test_a_modified_input_is_a_failure() -> None:
    def clears(x: Any) -> Any:
        out = int8_quantize.quantize_per_token(x)
        x.fill(0)
        return out

    result = check(TOKEN, clears, examples=0)
    assert "modifies its input x" in result.counterexample.reason
    assert "first x[0, 0]: was" in result.counterexample.reason


def test_every_way_to_fail_gets_its_own_smallest_input() -> None:
    def wrong_in_three_ways(x: Any) -> Any:
        if x.shape[1] == 129:
            raise RuntimeError("129")
        codes, scales = int8_quantize.quantize_per_token(x)
        codes[2:] += codes[2:] == 5
        return codes, np.where(np.isnan(scales), np.float32("nan"), scales)  # 0x7fc00000

    result = check(TOKEN, wrong_in_three_ways)
    raised, values, nan = result.counterexamples
    assert result.others == (values, nan)
    assert "raises RuntimeError" in raised.reason
    assert "codes: 1 of " in values.words
    assert "off by one step" in values.reason
    assert nan.case == "nan(K=1, M=1, fp32, seed=0)"
    assert "nan (0x7fc00000) where the contract has nan (0x7fffffff)" in nan.reason


def test_a_thing_that_is_wrong_in_each_output_is_said_of_each() -> None:
    def two_outputs(x: Any) -> Any:
        wide = x.astype(np.float32)
        codes, scales = int8_quantize.quantize_per_token(x)
        rounded = scales.astype(np.float16).astype(np.float32)
        rounded[np.isnan(scales)] = scales[np.isnan(scales)]
        trunc = np.nan_to_num(np.trunc(wide / scales[:, None]), posinf=127, neginf=-127)
        codes = np.where(scales[:, None] == 0, 0, np.clip(trunc, -127, 127)).astype(np.int8)
        codes[:, 5:6] = 1
        return codes, rounded

    reason = check(TOKEN, two_outputs).counterexample.reason
    assert reason.startswith("codes: no known mistake reproduces these values; scales: the kernel ")
    assert "the kernel stores the scale rounded to fp16; the contract" in reason


def test_numpy_warnings_of_a_kernel_are_its_own_business() -> None:
    def noisy(x: Any) -> Any:
        np.float32(1) / np.zeros(1, np.float32)
        return int8_quantize.quantize_per_token(x)

    assert check(TOKEN, noisy, examples=0).passed


def test_results_are_the_same_for_the_same_seed() -> None:
    def rare(a: Any, b: Any) -> Any:
        out = int8_gemm.gemm(a, b)
        return out + (out % 1000 == 7).astype(np.int32)

    first, second = (check(GEMM, rare, examples=40, seed=5) for _ in range(2))
    assert not first.passed
    assert first.counterexample == second.counterexample
    assert (first.cases, first.elements, first.mismatches) == (
        second.cases,
        second.elements,
        second.mismatches,
    )
    other = check(GEMM, rare, examples=40, seed=6)
    assert other.elements != first.elements


# --- calling conventions


def test_optional_inputs_and_options_reach_the_kernel() -> None:
    seen = set()

    def spy(acc: Any, a: Any, b: Any, bias: Any, *, dialect: str, out_dtype: str) -> Any:
        seen.add((dialect, out_dtype, bias is None))
        return int8_gemm.epilogue(acc, a, b, bias, dialect=dialect, out_dtype=out_dtype)

    assert check(EPILOGUE, spy, "vllm", examples=6).passed
    assert seen == {("vllm", d, n) for d in ("fp32", "fp16", "bf16") for n in (True, False)}


def test_a_kernel_without_out_dtype_meets_only_the_first() -> None:
    def plain(*arrays: Any) -> Any:
        return int8_gemm.epilogue(*arrays)

    assert check(EPILOGUE, plain, examples=6).passed


def test_keywords_of_any_name_are_taken() -> None:
    def anything(*arrays: Any, **options: Any) -> Any:
        return int8_gemm.epilogue(*arrays, **options)

    both = kernel(EPILOGUE, anything, ("ieee", "vllm"))
    assert all(r.passed for r in run_checks(kernels=[both], examples=3, device="emulator"))


def test_no_dialect_parameter_needs_one_dialect() -> None:
    def fixed(x: Any) -> Any:
        return int8_quantize.quantize_per_token(x)

    both = kernel(TOKEN, fixed, ("ieee", "vllm"))
    with pytest.raises(UsageError, match=r"takes no dialect= but is registered for ieee, vllm"):
        check_kernel(both, "ieee", device="emulator")


def test_a_dialect_that_the_kernel_does_not_name_is_refused() -> None:
    with pytest.raises(UsageError, match=r"dialect: got 'vllm'; allowed: ieee, which kernel test/"):
        check_kernel(kernel(TOKEN, int8_quantize.quantize_per_token), "vllm", device="emulator")


# --- arrays


class Interface:
    """Something that is no ndarray but says how to read it."""

    def __init__(self, array: np.ndarray, name: str) -> None:
        self.array = array
        if name == "dlpack":
            self.__dict__.update(__dlpack__=None)
        else:
            self.__array_interface__ = array.__array_interface__


class Packed:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("wrap", [Packed, lambda a: Interface(a, "array")])
def test_outputs_may_come_as_other_arrays(wrap: Callable[[Any], Any]) -> None:
    def foreign(x: Any) -> Any:
        return tuple(wrap(one) for one in int8_quantize.quantize_per_token(x))

    assert check(TOKEN, foreign, examples=2).passed


def test_inputs_lie_where_the_case_says() -> None:
    places = set()

    def spy(x: Any) -> Any:
        places.add((x.ctypes.data % devices.BOUNDARY, x.dtype.itemsize))
        assert x.flags.c_contiguous
        return int8_quantize.quantize_per_token(x)

    assert check(TOKEN, spy, examples=0).passed
    assert places == {(0, 4), (4, 4), (0, 2), (2, 2)}


def test_a_device_is_named_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"device: got 'tpu'; allowed: auto, gpu, emulator"):
        devices.choose("tpu")
    monkeypatch.setattr(devices, "gpu_problem", lambda: "CUDA finds 0 devices")
    with pytest.raises(DeviceError, match=r"got 'gpu', but CUDA finds 0 devices; allowed here"):
        devices.choose("gpu")
    assert devices.choose("auto") == "emulator"
    monkeypatch.setattr(devices, "gpu_problem", lambda: "")
    assert devices.choose("auto") == "gpu"
    assert devices.choose("emulator") == "emulator"


def test_a_lost_device_ends_the_check_with_the_case_that_lost_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = {"lost": ""}

    def fatal(a: Any, b: Any) -> Any:
        if a.shape[1] > 16:
            state["lost"] = "the CUDA context is lost"
            raise RuntimeError("cudaErrorIllegalAddress")
        return int8_gemm.gemm(a, b)

    monkeypatch.setattr(devices, "lost", lambda device: state["lost"])
    first, second = (check(GEMM, function) for function in (fatal, int8_gemm.gemm))
    assert "K=17" in first.counterexample.case or "K=31" in first.counterexample.case
    assert first.counterexample.reason.endswith("the CUDA context is lost")
    assert second.counterexample.reason == "not run: the CUDA context is lost"
    assert (second.cases, second.passed) == (0, False)
