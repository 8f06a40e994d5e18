"""Functions of other frameworks as kernels: NumPy and Numba here; torch and Triton in packages/."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import emulator
from quantassay import check_function, notes
from quantassay.errors import LoadError, UsageError
from quantassay.frameworks import emulated, kernel_of, load_function
from quantassay.frameworks.approximations import approximations
from quantassay.frameworks.spans import span

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TOKEN = "int8.quantize_per_token"


def check(folder: str, file: str, dialect: str, **options: Any) -> Any:
    from quantassay import check_kernel

    loaded = load_function(EXAMPLES / folder / file, "quantize", TOKEN, [dialect], **options)
    return check_kernel(loaded, dialect, examples=5, device="emulator")


# --- NumPy


def test_a_numpy_function_is_checked_as_it_is() -> None:
    result = check("numpy", "right.py", "ieee")
    assert result.passed
    assert (result.wing, result.variant, result.mismatches) == ("numpy", "quantize", 0)


def test_a_wrong_numpy_function_is_told_why() -> None:
    result = check("numpy", "wrong.py", "ieee")
    assert not result.passed
    assert "rounds halves up" in result.counterexample.reason


def test_nan_of_a_host_is_not_held_against_a_function() -> None:
    def scales_only(x: Any) -> Any:
        return x.astype(np.int8), np.full(len(x), np.nan, np.float32)

    call = kernel_of(scales_only, TOKEN, ["ieee"], framework="numpy").function
    _, scales = call(np.zeros((2, 3), np.float32))
    assert set(scales.view(np.uint32)) == {0x7FFFFFFF}


# --- Numba


def test_a_numba_kernel_runs_from_its_ptx() -> None:
    result = check("numba", "right.py", "vllm")
    assert result.passed, result.counterexample
    assert result.wing == "numba"
    assert result.elements > 1000


def test_a_numba_kernel_without_a_barrier_is_a_race() -> None:
    result = check("numba", "wrong.py", "vllm", dtypes=["fp32"])
    assert not result.passed
    assert "race" in result.counterexample.words
    assert "wrong.py:" in result.counterexample.words  # the user's own source line


NUMBA = """
import numpy as np
from numba import cuda

@cuda.jit("void(int32[:,:], int32[:,:], boolean, float32)")
def add(x, out, twice, more):
    i, j = cuda.grid(2)
    if i < x.shape[0] and j < x.shape[1]:
        out[i, j] = x[i, j] * (2 if twice else 1) + int(more)

@cuda.jit
def pairs(x, scale, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = x[0][i] + x[1][i] * scale

@cuda.jit
def dynamic(out):
    shared = cuda.shared.array(0, np.int32)
    i = cuda.threadIdx.x
    shared[i] = i
    cuda.syncthreads()
    out[i] = cuda.shfl_sync(0xffffffff, shared[31 - i], 3)

def calls(x):
    out = cuda.device_array(x.shape, np.int32)
    add[(2, 2), (8, 8)](cuda.to_device(x), out, True, np.float32(3))
    host = np.empty(x.shape, np.int32)
    return out.copy_to_host(), out.copy_to_host(host)

def transposed(x):
    out = np.zeros(x.shape[::-1], np.int32)
    add[(2, 2), (8, 8)](x.T, out, False, 0.0)
    return out

def tuples(x, y):
    assert cuda.is_available() and cuda.get_current_device().WARP_SIZE == 32
    out = cuda.device_array_like(x)
    pairs.forall(x.size)((x, y), np.int64(2), out)
    cuda.synchronize()
    return out.copy_to_host()

def lanes():
    out = np.zeros(32, np.int32)
    dynamic[1, 32, 0, 128](out)
    return out

def reads_nothing():
    out = cuda.device_array(4, np.float32)
    pairs[1, 4]((cuda.device_array(4, np.float32), out), np.int64(1), out)
"""


@pytest.fixture(scope="module")
def numba_file(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from quantassay.loading import run_file

    file = tmp_path_factory.mktemp("numba") / "numba_kernels.py"
    file.write_text(NUMBA)
    with emulated("numba"):
        return run_file(file)


def test_numba_host_code_runs_unchanged(numba_file: Any) -> None:
    x = np.arange(35, dtype=np.int32).reshape(5, 7)
    y = np.arange(10, dtype=np.float32)
    with emulated("numba"):
        assert all(np.array_equal(out, 2 * x + 3) for out in numba_file.calls(x))
        assert np.array_equal(numba_file.transposed(x), x.T)
        assert np.array_equal(numba_file.tuples(y, y), 3 * y)
        assert (numba_file.lanes() == 28).all()
        with pytest.raises(emulator.EmulatorError, match="which nobody has written"):
            numba_file.reads_nothing()


def test_numba_is_as_before_outside_of_the_context() -> None:
    from numba import cuda
    from numba.cuda.dispatcher import CUDADispatcher

    before = CUDADispatcher.__getitem__, cuda.to_device

    def interrupted() -> None:
        with emulated("numba"):
            assert CUDADispatcher.__getitem__ is not before[0]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert (CUDADispatcher.__getitem__, cuda.to_device) == before


def test_a_framework_is_seen_through_wrappers(numba_file: Any) -> None:
    from functools import partial, wraps

    @wraps(numba_file.calls)
    def wrapped(*args: Any) -> Any:
        return numba_file.calls(*args)

    class Called:
        def __call__(self, x: Any) -> Any:
            return x

    for function in (numba_file.calls, partial(numba_file.calls), partial(wrapped)):
        assert kernel_of(function, TOKEN, ["ieee"]).wing == "numba"
    assert kernel_of(Called(), TOKEN, ["ieee"]).wing == "numpy"
    assert kernel_of(np.sign, TOKEN, ["ieee"]).wing == "numpy"


# --- files and names that cannot be used


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("def other(x): return x\n", "mine", r"--function: .*f.py has no 'mine'; it has: other"),
        ("mine = 3\n", "mine", r"has no 'mine'; it has: none"),
        ("import no_such\n", "mine", r"fails: ModuleNotFoundError: .*no_such.* \(line 1\)"),
        ("def mine(:\n", "mine", r"fails: SyntaxError"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, name: str, message: str) -> None:
    file = tmp_path / "f.py"
    file.write_text(text)
    with pytest.raises(LoadError, match=message):
        load_function(file, name, TOKEN, ["ieee"])
    with pytest.raises(LoadError, match="is not a file"):
        load_function(tmp_path / "none.py", name, TOKEN, ["ieee"])


def test_names_that_are_unknown_are_listed(numba_file: Any) -> None:
    def mine(x: Any) -> Any:
        return x

    for options, message in (
        ({"framework": "jax"}, r"framework: got 'jax'; allowed: triton, numba, torch, numpy"),
        ({"dtypes": ["fp8"]}, r"dtype: got 'fp8'; allowed for int8.\w+: fp32, fp16, bf16"),
        ({"dtypes": ["fp32"], "options": [("form", ("erf",))]}, r"option: got form=erf"),
    ):
        with pytest.raises(UsageError, match=message):
            check_function(mine, TOKEN, "ieee", examples=0, device="emulator", **options)
    for missing in ("triton", "torch"):
        if importlib.util.find_spec(missing) is None:
            with pytest.raises(UsageError, match=f"got '{missing}', which cannot be imported"):
                kernel_of(mine, TOKEN, framework=missing)
    with pytest.raises(UsageError, match=r"dialect: got 'iee'; allowed for int8.*: ieee, "):
        check_function(mine, TOKEN, "iee")
    with pytest.raises(UsageError, match=r"dtype: got fp32 .*; allowed .* article_torch: fp16"):
        check_function(mine, TOKEN, "article_torch", dtypes=["fp32"], device="emulator")
    with pytest.raises(UsageError, match=r"add is a numba kernel; allowed: the Python function"):
        kernel_of(numba_file.add, TOKEN)


def test_a_kernel_of_few_dtypes_and_options_meets_only_those() -> None:
    seen = set()

    def half_only(codes: Any, scales: Any, *, out_dtype: str) -> Any:
        seen.add(out_dtype)
        scales = scales if len(scales) > 1 else np.repeat(scales, len(codes))
        return (codes * scales[:, None]).astype(np.float16)

    chosen = [("out_dtype", ("fp16",))]
    check_function(half_only, "int8.dequantize", "ieee", options=chosen, device="emulator")
    assert seen == {"fp16"}

    def one_dtype(x: Any) -> Any:
        seen.add(x.dtype.name)
        raise ValueError(x.dtype)

    check_function(one_dtype, TOKEN, "ieee", dtypes=["bf16"], device="emulator")
    assert seen == {"fp16", "bfloat16"}


# --- parts


def test_approximate_instructions_are_allowed_by_name_and_noted() -> None:
    ptx = "div.full.f32 %a, %b, %c;\nex2.approx.ftz.f32 %d, %a;\ndiv.rn.f32 %e, %d, %a;"
    with notes.collected() as texts:
        assert approximations(ptx) == {"div.full.f32", "ex2.approx.ftz.f32"}
    assert list(texts) == [
        "div.full.f32 runs as IEEE division; a GPU may be up to 2 ulp off",
        "ex2.approx.ftz.f32 runs as the rounded exact result; a GPU's last bits may differ",
    ]
    assert approximations("div.rn.f32 %e, %d, %a;") == frozenset()


def test_strided_arrays_keep_their_memory() -> None:
    base = np.arange(24, dtype=ml_dtypes.bfloat16).reshape(4, 6)
    for array in (base, base.T, base[1:3, 2:5], base[:, ::2]):
        flat = span(array)
        assert flat.flags.c_contiguous
        assert flat.ctypes.data == array.ctypes.data
        last = sum((n - 1) * s for n, s in zip(array.shape, array.strides, strict=True))
        assert flat.nbytes == (array.nbytes if array is base else last + array.itemsize)
    with pytest.raises(
        ValueError, match=r"x: got strides \(-12, 2\); allowed: multiples of 2 >= 0"
    ):
        span(base[::-1], "x")


def test_importing_it_is_cheap() -> None:
    code = (
        "import sys, quantassay.frameworks, quantassay.pytest_plugin\n"
        "heavy = {'numba', 'llvmlite', 'numpy', 'emulator', 'torch', 'triton', 'hypothesis'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


REGISTERED = """
import numpy as np
from numba import cuda
from quantassay import implements

@cuda.jit("void(int8[:,:], int8[:,:], int32[:,:])")
def products(a, b, acc):
    i, j = cuda.grid(2)
    if i < acc.shape[0] and j < acc.shape[1]:
        total = 0
        for k in range(a.shape[1]):
            total += a[i, k] * b[j, k]
        acc[i, j] = total

@implements("int8.gemm", wing="registered", dialects=["ieee"])
def gemm(a, b):
    acc = np.zeros((len(a), len(b)), np.int32)
    products[((len(a) + 7) // 8, (len(b) + 31) // 32), (8, 32)](a, b, acc)
    return acc
"""


def test_a_registered_kernel_may_launch_numba_too(tmp_path: Path) -> None:
    from quantassay import check_kernel
    from quantassay.loading import load_file
    from reference import kernels
    from reference.op import forget

    (tmp_path / "registered.py").write_text(REGISTERED)
    try:
        (found,) = load_file(tmp_path / "registered.py")
        (again,) = kernels(wing="registered")  # as a worker finds it
        assert again.function is found.function
        result = check_kernel(found, "ieee", examples=2, device="emulator")
        assert result.passed, result.counterexample
    finally:
        forget("registered")
