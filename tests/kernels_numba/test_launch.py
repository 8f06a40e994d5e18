"""The launch layer: Numba's array convention, the cache, placement, errors."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numba import types

import kernels_numba
from kernels_numba import compile as compiler
from kernels_numba import launch
from kernels_numba.contraction import ContractionError
from kernels_numba.device import cuda
from kernels_numba.int8_gemm import epilogue, gemm_naive, gemm_tiled
from kernels_numba.int8_quantize import quantize_per_token, quantize_static

# -- the array struct ------------------------------------------------------------------------------


def facts(rank: int) -> Callable[..., None]:
    """A kernel that writes down what it was told about an array, and one scalar."""

    def one(x: Any, scalar: Any, out: Any) -> None:
        out[0] = x.size
        out[1] = x.itemsize
        out[2] = scalar
        for axis in range(rank):
            out[3 + axis] = x.shape[axis]
            out[3 + rank + axis] = x.strides[axis]

    return one


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4), (1, 1), (1, 9)])
@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.float32])
def test_kernels_see_shape_strides_size_and_scalars(shape: tuple[int, ...], dtype: type) -> None:
    x = np.zeros(shape, dtype)
    out = np.zeros(3 + 2 * x.ndim, np.int64)
    launch.run(facts, (x.ndim,), (1,), (1,), x, np.int32(-7), out)
    assert out.tolist() == [x.size, x.itemsize, -7, *x.shape, *x.strides]


def doubled() -> Callable[..., None]:
    def kernel(x: Any, y: Any) -> None:
        row, column = cuda.blockIdx.x, cuda.threadIdx.x
        if column < x.shape[1]:
            y[row, column] = 2 * x[row, column]

    return kernel


def test_indices_reach_the_elements() -> None:
    x = np.arange(15, dtype=np.int32).reshape(3, 5)
    y = launch.empty(x, x.shape, "s32")
    launch.run(doubled, (), (3,), (32,), x, y)
    assert np.array_equal(y, 2 * x)


def test_the_entry_takes_as_many_parameters_as_flatten_gives() -> None:
    x = np.zeros((2, 3), np.int8)
    found = compiler.program(doubled, (), (types.int8[:, ::1], types.int8[:, ::1]))
    assert found.ptx.split(")", 1)[0].count(".param") == 2 * len(launch.flatten(x))
    assert found.name == "kernel"


VECTOR = types.int32[::1]


def summed() -> Callable[..., None]:
    @compiler.bounded(64, 2)
    def kernel(given: Any, y: Any) -> None:
        x, offsets, factor = given
        i = cuda.threadIdx.x
        if i < x.shape[0]:
            y[i] = x[i] * factor + offsets[0] + offsets[1]

    return kernel


def test_tuples_reach_kernels_member_by_member() -> None:
    x, y = np.arange(5, dtype=np.int32), np.zeros(5, np.int32)
    launch.run(summed, (), (1,), (32,), (x, (np.int32(3), np.int32(4)), np.int32(2)), y)
    assert np.array_equal(y, 2 * x + 7)
    assert launch.flatten((x, (np.int32(3),)))[-1] == 3


def test_launch_bounds_and_names_in_the_ptx_do_not_depend_on_what_was_compiled_before() -> None:
    given = types.Tuple((VECTOR, types.UniTuple(types.int32, 2), types.int32))
    texts = {compiler._compile(summed(), (given, VECTOR), (8, 0)).ptx for _ in range(2)}
    assert len(texts) == 1
    (text,) = texts
    assert ".maxntid 64, 1, 1" in text
    assert ".minnctapersm 2" in text
    assert not re.search(r"_Z|NumbaEnv|\bcall\b", text)


# -- the cache -------------------------------------------------------------------------------------

SIGNATURE = (types.int32[:, ::1], types.int32[:, ::1])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("QUANTASSAY_CACHE", str(folder))
    monkeypatch.setattr(compiler, "_memory", {})
    return folder


def refuse(*_: Any) -> None:
    raise AssertionError("compiled anew")


def test_a_program_is_compiled_once_and_then_read(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compiler.program(doubled, (), SIGNATURE)
    assert [path.read_text() for path in cache.iterdir()] == [first.ptx]
    monkeypatch.setattr(compiler, "_compile", refuse)
    assert compiler.program(doubled, (), SIGNATURE) is first
    compiler.forget()
    assert compiler.program(doubled, (), SIGNATURE) == first


def test_constants_signature_target_and_sources_are_in_the_key(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {
        compiler._path(doubled, (), SIGNATURE, (8, 0)),
        compiler._path(facts, (), SIGNATURE, (8, 0)),
        compiler._path(doubled, (1,), SIGNATURE, (8, 0)),
        compiler._path(doubled, (), SIGNATURE[:1], (8, 0)),
        compiler._path(doubled, (), SIGNATURE, (9, 0)),
    }
    assert Path(__file__).read_text() in compiler._sources(__file__)
    monkeypatch.setattr(compiler, "_sources", lambda file: ("changed",))
    keys.add(compiler._path(doubled, (), SIGNATURE, (8, 0)))
    monkeypatch.setattr(compiler, "_toolchain", lambda: ("another NVVM",))
    keys.add(compiler._path(doubled, (), SIGNATURE, (8, 0)))
    assert len(keys) == 7


def test_an_unwritable_cache_still_works(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert compiler.program(doubled, (), SIGNATURE).name == "kernel"
    assert cache.read_text() == "a file where the folder should be"


def test_a_failed_write_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert compiler.program(doubled, (), SIGNATURE).name == "kernel"
    assert list(cache.iterdir()) == []


def test_an_empty_file_in_the_cache_is_replaced(cache: Path) -> None:
    path = compiler._path(doubled, (), SIGNATURE, (8, 0))
    cache.mkdir()
    path.write_text("")
    found = compiler.program(doubled, (), SIGNATURE)
    assert path.read_text() == found.ptx


def test_constants_that_are_addresses_are_refused(cache: Path) -> None:
    with pytest.raises(ValueError, match=r"constants: got .*refuse.*; allowed: values that"):
        compiler.program(doubled, (refuse,), SIGNATURE)


def test_importing_the_wing_compiles_nothing_and_warns_of_nothing(tmp_path: Path) -> None:
    code = """
import os, pathlib, kernels_numba
from kernels_numba import compile
from reference import kernels
assert compile._memory == {}
assert list(pathlib.Path(os.environ["QUANTASSAY_CACHE"]).rglob("*.ptx")) == []
assert len(kernels(wing="numba")) > 40
"""
    root = Path(kernels_numba.__file__).parents[1]
    environment = {"QUANTASSAY_CACHE": str(tmp_path / "none"), "PYTHONPATH": str(root)}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


# -- placement and errors --------------------------------------------------------------------------

X = np.ones((2, 4), np.float32)
CODES = np.ones((2, 4), np.int8)


class OnDevice:
    """What CuPy's arrays look like, as far as the launch layer can see without a GPU."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.dtype, self.shape = array, array.dtype, array.shape
        self.strides, self.size, self.itemsize = array.strides, array.size, array.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self.array.__array_interface__, "version": 3, "stream": 7}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quantize_per_token(OnDevice(X)), "x is a CUDA array, but no GPU is usable here: "),
        (lambda: gemm_tiled(OnDevice(CODES), OnDevice(CODES)), "a is a CUDA array, but no GPU"),
        (lambda: gemm_naive(b=OnDevice(CODES), a=OnDevice(CODES)), "a is a CUDA array, but no GPU"),
    ],
)
def test_cuda_arrays_without_a_gpu(
    call: Callable[[], Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "gpu_problem", lambda: "there is none")
    with pytest.raises(RuntimeError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gemm_tiled(CODES, OnDevice(CODES)), "b is a CUDA array but a is a NumPy array"),
        (
            lambda: quantize_static(OnDevice(X), np.ones(1, np.float32)),
            "x is a CUDA array but scal",
        ),
        (lambda: quantize_per_token([[1.0]]), r"x: got list; allowed: a NumPy array \(runs in the"),
        (lambda: epilogue(CODES, X, X, "none"), "bias: got str; allowed: a NumPy array"),
        (lambda: quantize_per_token(CODES), "x: got dtype int8; allowed: fp32, fp16, bf16"),
        (
            lambda: quantize_per_token(X, dialect="article_torch"),
            "x: got dtype float32; allowed in",
        ),
    ],
)
def test_wrong_arrays_are_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_gpu_problem_is_told_in_words_or_empty() -> None:
    problem = launch.gpu_problem()
    assert problem == "" if cuda.is_available() else len(problem) > 10


def test_on_a_gpu_the_dispatcher_gets_views_on_the_arrays_own_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []
    stub = SimpleNamespace(
        get_current_device=lambda: SimpleNamespace(compute_capability=(9, 0)),
        external_stream=lambda handle: ("stream", handle),
        as_cuda_array=lambda array, sync: ("view", array.shape, sync),
    )
    dispatcher = type("D", (), {"__getitem__": lambda _, key: lambda *a: seen.append((key, a))})()
    monkeypatch.setattr(launch, "cuda", stub)
    monkeypatch.setattr(launch, "_dispatcher", lambda factory, constants: dispatcher)
    array = OnDevice(np.ones((3, 5), np.int32))
    with launch.recording() as session:
        launch.run(doubled, (), (3,), (32,), array, array)
    key = ((3, 1, 1), (32, 1, 1), ("stream", 7))
    assert seen == [(key, (("view", (3, 5), False),) * 2)]
    assert [(one.kernel, one.stats) for one in session.launches] == [("kernel", None)]


def contracted() -> Callable[..., None]:
    def kernel(x: Any, y: Any) -> None:
        y[0, 0] = x[0, 0] * x[0, 0] + x[0, 0]

    return kernel


def test_on_a_gpu_too_a_contracted_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimpleNamespace(compute_capability=(9, 0))
    monkeypatch.setattr(launch, "cuda", SimpleNamespace(get_current_device=lambda: device))
    with pytest.raises(ContractionError, match=r"PTX line \d+: fma\.rn\.f32"):
        launch.run(contracted, (), (1,), (32,), OnDevice(X), OnDevice(X))
