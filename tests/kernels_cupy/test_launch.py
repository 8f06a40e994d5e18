"""Where a call runs, what it leaves behind, and what it refuses. The GPU is a stand-in here."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import emulator.recording
from kernels_cupy import compile as compiler
from kernels_cupy import geometry, int8_gemm, int8_linear, int8_quantize, launch
from kernels_cupy.launch import recording
from reference.numerics import DTYPES

ROOT = Path(__file__).resolve().parents[2]


class CudaArray:
    """Another framework's array on a GPU."""

    __cuda_array_interface__ = {"version": 3}  # noqa: RUF012
    dtype, shape, strides = np.dtype(np.float32), (2, 16), (64, 4)


class FakeCupy(ModuleType):
    """As much of CuPy as a launch needs; notes what is loaded and launched."""

    def __init__(self) -> None:
        super().__init__("cupy")
        outer, self.loaded, self.launched, self.cooperative = self, [], [], []

        class ndarray:  # noqa: N801
            __cuda_array_interface__ = {"version": 3}  # noqa: RUF012

            def __init__(self, array: np.ndarray) -> None:
                self.array, self.dtype, self.shape = array, array.dtype, array.shape
                self.strides, self.size = array.strides, array.size
                self.data = SimpleNamespace(ptr=array.ctypes.data)
                self.device = outer.device()

        class RawModule:
            def __init__(self, path: str, enable_cooperative_groups: bool = False) -> None:
                outer.loaded.append(Path(path))
                outer.cooperative.append(enable_cooperative_groups)

            def get_function(self, name: str) -> Any:
                def function(grid: Any, block: Any, args: Any, shared_mem: int) -> None:
                    outer.launched.append((name, grid, block, args, shared_mem))

                function.kernel = SimpleNamespace(ptr=1)
                return function

        self.ndarray, self.RawModule = ndarray, RawModule
        device = SimpleNamespace(compute_capability="90")
        self.cuda = SimpleNamespace(Device=lambda number: device, driver=SimpleNamespace())

    processors = 132

    def device(self) -> Any:
        class Device(nullcontext):
            id = 0
            attributes = {"MultiProcessorCount": self.processors}  # noqa: RUF012

        return Device()

    def array(self, array: np.ndarray) -> Any:
        return self.ndarray(array)

    def empty(self, shape: Any, dtype: Any) -> Any:
        return self.array(np.empty(shape, dtype))

    zeros = empty


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCupy:
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(launch, "gpu_problem", lambda: "")
    monkeypatch.setenv("QUANTASSAY_CACHE", str(tmp_path))
    monkeypatch.delenv("QUANTASSAY_CUBINS", raising=False)
    compiler.forget()
    launch._loaded.cache_clear()
    yield fake
    launch._loaded.cache_clear()
    compiler.forget()


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "gpu_problem", lambda: "CUDA sees no device")


def matrices(M: int = 4, N: int = 3, K: int = 32) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-128, 128, (side, K)).astype(np.int8) for side in (M, N))
    return a, b


# ---- the emulator


def test_launches_are_recorded() -> None:
    a, b = matrices()
    x = np.ones((4, 32), np.float16)
    with recording() as session:
        int8_gemm.gemm_dp4a(a, b)
        int8_quantize.quantize_per_tensor(x)
    names = [one.kernel for one in session.launches]
    assert names == ["gemm_dp4a", "tensor_maximum", "quantize_tensor"]
    first = session.launches[0]
    assert (first.wing, first.grid, first.block) == ("cupy", (1, 1, 1), (256, 1, 1))
    assert first.constants == ("int8_gemm.cu", ("COPY", 16), ("OUTPUT", 3))
    assert first.stats.instructions > 0
    assert session.instructions == sum(one.stats.instructions for one in session.launches)


def test_forms_of_the_linear_differ_in_launches() -> None:
    x, w = np.ones((4, 32), np.float32), matrices()[1]
    counts = []
    for form in (int8_linear.linear_unfused, int8_linear.linear_fused, int8_linear.linear_prologue):
        with recording() as session:
            form(x, w, np.ones(3, np.float32))
        counts.append(len(session.launches))
    assert counts == [3, 2, 1]


@pytest.mark.parametrize("seed", [1, 7])
def test_thread_order_changes_nothing(seed: int) -> None:
    a, b = matrices(70, 65, 200)
    with recording(seed=seed):
        shuffled = int8_gemm.gemm_pipeline(a, b)
    assert shuffled.tobytes() == int8_gemm.gemm_pipeline(a, b).tobytes()


def test_memory_is_touched_as_intended() -> None:
    """Vector paths: whole sectors only, no bank conflict."""
    x = aligned(np.random.default_rng(0).standard_normal((4, 4096)).astype(np.float16))
    a, b = (aligned(one) for one in matrices(128, 128, 256))
    with recording(trace=True) as session:
        int8_quantize.quantize_per_token(x)
        int8_gemm.gemm_dp4a(a, b)
        int8_gemm.gemm_mma(a, b)
    for one in session.launches:
        assert one.stats.global_sectors == one.stats.ideal_sectors, one.kernel
        assert one.stats.shared_wavefronts == one.stats.shared_ideal_wavefronts, one.kernel


def aligned(array: np.ndarray) -> np.ndarray:
    copy = emulator.empty(array.shape, array.dtype)
    copy[...] = array
    emulator.mark_written(copy)
    return copy


def test_importing_the_wing_compiles_nothing_and_needs_no_cupy() -> None:
    code = """
import sys
sys.modules["cupy"] = None
import kernels_cupy
assert not any(name.startswith("cuda.bindings") for name in sys.modules)
import numpy as np
codes, scales = kernels_cupy.int8_quantize.quantize_per_token(np.eye(3, dtype=np.float32))
assert codes.tolist() == [[127, 0, 0], [0, 127, 0], [0, 0, 127]]
from kernels_cupy.launch import gpu_problem
assert gpu_problem().startswith("CuPy cannot be imported"), gpu_problem()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- refusals


@pytest.mark.usefixtures("no_gpu")
def test_a_cuda_array_without_a_gpu() -> None:
    with pytest.raises(RuntimeError, match=r"x is a CUDA array, but no GPU is usable here: CUDA"):
        int8_quantize.quantize_per_token(CudaArray())
    with pytest.raises(RuntimeError, match="w_codes is a CUDA array, but no GPU"):
        int8_linear.linear_fused(None, CudaArray(), None)


def test_a_mixture(gpu: FakeCupy) -> None:
    a, b = matrices()
    with pytest.raises(TypeError, match="b is a CUDA array but a is a NumPy array"):
        int8_gemm.gemm_pipeline(a, gpu.array(b))


@pytest.mark.usefixtures("gpu")
def test_a_foreign_cuda_array() -> None:
    with pytest.raises(TypeError, match=r"x: got CudaArray; allowed: NumPy or CuPy.*cupy\.asarray"):
        int8_quantize.quantize_per_token(CudaArray())


def test_no_array_at_all() -> None:
    with pytest.raises(TypeError, match="a: got list; allowed"):
        int8_gemm.gemm_naive([[1]], matrices()[1])
    with pytest.raises(TypeError, match="missing a required argument: 'b'"):
        int8_gemm.gemm_naive(matrices()[0])


@pytest.mark.parametrize("kernel", [int8_gemm.gemm_naive, int8_gemm.gemm_split_k])
def test_validation_is_the_references(kernel: Any) -> None:
    a, b = matrices()
    with pytest.raises(ValueError, match="b: got K = 16"):
        kernel(a, b[:, :16].copy())
    with pytest.raises(ValueError, match="a: got strides"):
        kernel(a[:, ::2], b)
    with pytest.raises(TypeError, match="a: got dtype float32; allowed: s8"):
        kernel(a.astype(np.float32), b)
    with pytest.raises(ValueError, match="dialect: got 'none'"):
        kernel(a, b, dialect="none")


# ---- the GPU's side


def test_cupy_arrays_launch_the_cached_cubin(gpu: FakeCupy, tmp_path: Path) -> None:
    a, b = (gpu.array(one) for one in matrices(130, 3, 32))
    out = int8_gemm.gemm_pipeline(a, b)
    ((name, grid, block, args, shared),) = gpu.launched
    assert (name, grid, block, shared) == ("gemm_pipeline_128", (2,), (128,), 0)
    assert args[:6] == (a, b, np.uint64(0), np.uint64(0), np.uint64(0), out)
    assert all(arg.dtype == np.uint64 for arg in args[2:5])
    assert [(int(arg), arg.dtype) for arg in args[6:]] == [
        (n, np.int32) for n in (130, 3, 32, 0, 0, 0)
    ]
    (path,) = gpu.loaded
    copy = geometry.copy_width(32, a, b)
    told = int8_gemm.gemm_defines(copy)
    assert path.read_bytes() == compiler.cubin("int8_gemm.cu", told, "sm_90a")
    assert path.parent == tmp_path
    int8_gemm.gemm_pipeline(a, b)
    assert len(gpu.loaded) == 1
    assert len(gpu.launched) == 2


def test_gpu_outputs_have_the_declared_types(gpu: FakeCupy) -> None:
    x = gpu.array(np.ones((4, 32), DTYPES["bf16"]))
    codes, scales = int8_quantize.quantize_per_token(x)
    assert (codes.dtype, codes.shape) == (np.int8, (4, 32))
    assert (scales.dtype, scales.shape) == (np.float32, (4,))
    with recording() as session:
        int8_quantize.dequantize(codes, scales, out_dtype="bf16")
    assert [one.stats for one in session.launches] == [None]


@pytest.mark.parametrize(
    ("capability", "arch"),
    [
        ("80", "sm_80"),
        ("86", "sm_80"),
        ("89", "sm_89"),
        ("90", "sm_90a"),
        ("100", "sm_100"),
        ("120", "sm_120"),
    ],
)
def test_device_arch(capability: str, arch: str) -> None:
    assert launch.device_arch(capability) == arch


# ---- NVTX


class Domain:
    """Notes the ranges that are pushed and popped."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def push_range(self, **what: Any) -> None:
        self.events.append(what)

    def pop_range(self) -> None:
        self.events.append("pop")


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Domain:
    made = Domain()
    monkeypatch.setattr(emulator.recording, "_domain", lambda: made)
    return made


def test_every_public_function_runs_in_a_range(domain: Domain) -> None:
    x, w = np.ones((4, 32), np.float16), matrices()[1]
    scales = np.ones(3, np.float32)
    int8_linear.linear_fused(x, w, scales, out_dtype="fp16")
    messages = [event["message"] for event in domain.events if event != "pop"]
    assert messages == [
        "int8.linear cupy/fused",
        "int8.quantize_per_token cupy",
        "int8.gemm_dequant cupy/pipeline",
    ]
    assert domain.events[0]["category"] == "M=4 K=32 N=3 fp16"
    assert domain.events[0]["payload"] == x.nbytes + w.nbytes + scales.nbytes + 4 * 3 * 2
    assert domain.events[1]["payload"] == x.nbytes + 4 * 32 + 4 * 4
    assert domain.events[-1] == domain.events[2] == "pop" or domain.events.count("pop") == 3


def test_the_range_is_closed_after_an_error(domain: Domain) -> None:
    a, b = matrices()
    with pytest.raises(ValueError, match="b: got K"):
        int8_gemm.gemm_pipeline(a, b[:, :16].copy())
    assert domain.events[-1] == "pop"


# ---- geometry


@pytest.mark.parametrize(
    ("rows", "vectors", "expected"),
    [
        (1, 1, ((1,), (32, 1))),
        (9, 128, ((3,), (32, 4))),
        (9, 129, ((9,), (64, 1))),
        (2, 4096, ((2,), (1024, 1))),
        (2, 10**6, ((2,), (1024, 1))),
    ],
)
def test_row_geometry(rows: int, vectors: int, expected: Any) -> None:
    assert geometry.row_geometry(rows, vectors) == expected


def test_widths_follow_length_and_address() -> None:
    buffer = emulator.empty((256,), np.int8)
    assert geometry.copy_width(32, buffer, buffer[16:]) == 16
    assert geometry.copy_width(32, buffer, buffer[4:]) == 4
    assert geometry.copy_width(32, buffer, buffer[1:]) == 1
    assert geometry.copy_width(36, buffer) == 4
    assert geometry.copy_width(33, buffer) == 1
    halves = buffer.view(np.float16)
    widths = [geometry.vector_width(K, [halves], 8) for K in (4096, 1368, 1076, 1074, 1073)]
    assert widths == [8, 8, 4, 2, 1]
    assert [geometry.vector_width(64, [halves[n:]], 8) for n in (8, 4, 2, 1)] == [8, 4, 2, 1]
