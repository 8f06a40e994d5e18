"""CuPy's own generated kernels: elementwise ufuncs, reductions, the building blocks of its scans.

Contract: CuPy makes the CUDA C++ text (its code generators, called without a GPU), NVRTC the PTX.
Arrays reach such kernels as structs with a pointer, a size, a shape and strides (carray.cuh), so
their memory is from emulator.empty. All data is exact; NumPy's ufuncs are the expected values.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

import emulator
from bench.foreign.case import Case, Tally
from bench.foreign.cuda_build import compile_cuda, package_folder
from bench.foreign.triton_build import allowed

NDARRAY, INDEXER, SCALAR = 1, 2, 3  # cupy._core._kernel._ArgKind
HEADERS = ("complex.cuh", "carray.cuh", "atomics.cuh", "math_constants.h")
SCAN_SUM = 0


def device(values: np.ndarray, *, written: bool = True) -> np.ndarray:
    """The same values in memory that a kernel reaches through a pointer inside a struct."""
    array = emulator.empty(values.shape, values.dtype)
    if written:
        array[...] = values
        emulator.mark_written(array)
    return array


def carray(array: np.ndarray) -> bytes:
    """CArray<T, ndim>: pointer, size, shape, strides in bytes."""
    numbers = [array.ctypes.data, array.size, *array.shape, *array.strides]
    return np.array(numbers, np.int64).tobytes()


def cindexer(shape: tuple[int, ...]) -> bytes:
    """CIndexer<ndim>: size, shape, room for an index."""
    return np.array([int(np.prod(shape)), *shape, *[0] * len(shape)], np.int64).tobytes()


def infos(arrays: list[np.ndarray], *indexed: int) -> tuple[Any, ...]:
    """_ArgInfo of C-contiguous arrays and of indexers of so many dimensions."""
    import cupy
    from cupy._core import _carray
    from cupy._core._kernel import _ArgInfo

    made = [_ArgInfo(NDARRAY, cupy.ndarray, a.dtype, a.ndim, True, True) for a in arrays]
    made += [_ArgInfo(INDEXER, _carray.Indexer, None, ndim, True, True) for ndim in indexed]
    return tuple(made)


def launch(
    tally: Tally, code: str, name: str, grid: int, block: int, args: list[Any], arrays: list[Any]
) -> None:
    text = "".join(f"#include <cupy/{header}>\n" for header in HEADERS) + code
    core = package_folder("cupy") / "_core" / "include"
    cccl = core / "cupy" / "_cccl"
    folders = [core, *(cccl / name for name in ("libcudacxx", "thrust", "cub"))]
    ptx = compile_cuda(text, 80, folders)
    module = emulator.compile(ptx, approximate=allowed(ptx))
    tally.ran(module.kernel(name).launch(grid, block, args, buffers=arrays))


def ufunc(name: str, inputs: tuple[np.ndarray, ...], want: Callable[..., np.ndarray]) -> Tally:
    """The kernel of a ufunc's loop for these dtypes, over 1-d arrays."""
    import cupy
    from cupy._core import _kernel

    function = getattr(cupy, name)
    with np.errstate(all="ignore"):
        expected = want(*inputs)
    dtypes = tuple(array.dtype for array in inputs)
    (op,) = [
        op for op in function._ops.ops
        if tuple(map(np.dtype, op.in_types)) == dtypes
        and np.dtype(op.out_types[0]) == expected.dtype
    ][:1]  # fmt: skip
    arrays = [device(array) for array in inputs] + [device(expected, written=False)]
    pairs = [(f"in{i}_type", dtype.type) for i, dtype in enumerate(dtypes)]
    types = _kernel._TypeMap((*pairs, ("out0_type", expected.dtype.type)))
    params = _kernel._get_param_info(
        ", ".join(f"{t} {n}{i}" for n, i, t in _named(dtypes, expected.dtype)), False
    )
    params += _kernel._get_param_info("CIndexer _ind", False)
    code = _kernel._get_elementwise_kernel_code(
        infos(arrays, 1), types, params, op.routine, f"cupy_{name}", function._preamble,
        function._loop_prep,
    )  # fmt: skip
    tally, size = Tally(), expected.size
    args = [*(carray(array) for array in arrays), cindexer((size,))]
    launch(tally, code, f"cupy_{name}", -(-size // 128), 128, args, arrays)
    tally.compare("out", np.array(arrays[-1]), expected)
    return tally


def _named(dtypes: tuple[np.dtype, ...], out: np.dtype) -> list[tuple[str, int, str]]:
    return [("in", i, d.name) for i, d in enumerate(dtypes)] + [("out", 0, out.name)]


def reduction(map_text: str, reduce_text: str, identity: str, values: np.ndarray,
              want: np.ndarray) -> Tally:  # fmt: skip
    """CuPy's reduction template over the first axis of (rows, columns)."""
    from cupy._core import _kernel, _reduction

    arrays = [device(values), device(want, written=False)]
    params = _kernel._get_param_info("T in0", True) + _kernel._get_param_info("T out0", False)
    params += _kernel._get_param_info("CIndexer _in_ind, CIndexer _out_ind", False)
    params += _kernel._get_param_info("int32 _block_stride", True)
    from cupy._core._kernel import _ArgInfo
    from cupy._core._scalar import CScalar

    scalar = _ArgInfo(SCALAR, CScalar, np.dtype(np.int32), 0, True, True)
    code = _reduction._create_reduction_function_code(
        "cupy_reduce", 128, "type_in0_raw", params, (*infos(arrays, 2, 1), scalar), identity,
        map_text, reduce_text, "out0 = a", _kernel._TypeMap((("T", values.dtype.type),)),
        "const type_in0_raw in0 = _raw_in0[_in_ind.get()];",
        "type_out0_raw &out0 = _raw_out0[_out_ind.get()];", "", (),
    )  # fmt: skip
    code = f"typedef int IndexT;\n#define type_in0_raw T\n#define type_out0_raw T\n{code}"
    tally = Tally()
    args = [*(carray(array) for array in arrays), cindexer(values.shape), cindexer(want.shape)]
    launch(tally, code, "cupy_reduce", 4, 128, [*args, np.int32(1)], arrays)
    tally.compare("out", np.array(arrays[1]), want)
    return tally


def scan(kind: str) -> Tally:
    """Sums of chunks of 256, then an inclusive scan of each chunk onto the sums before it."""
    from cupy._core import _kernel, _routines_math

    values = np.random.default_rng(41).integers(-1000, 1000, 256 * 5 - 37).astype(np.int64)
    tally, chunks = Tally(), 5
    a, sums, out = device(values), device(np.zeros(chunks, np.int64)), device(values, written=False)
    starts = values[: chunks * 256].copy()
    totals = np.array([part.sum() for part in np.split(starts, range(256, len(starts), 256))])
    with mock.patch.object(_kernel, "_full_mask", return_value=0xFFFFFFFF):  # asks the device
        block = _routines_math._cupy_bsum_shfl.__wrapped__(SCAN_SUM, 256)
    _raw(tally, _kernel, block, [a, sums], 128 * chunks, 128)
    tally.compare("block sums", np.array(sums), totals)
    before = device(np.cumsum(totals))
    made = getattr(_routines_math, f"_cupy_scan_{kind}").__wrapped__(SCAN_SUM, 256)
    _raw(tally, _kernel, made, [before, a, out], 256 * chunks, 256)
    tally.compare("scan", np.array(out), np.cumsum(values))
    return tally


def _raw(
    tally: Tally, kernel: Any, made: Any, arrays: list[np.ndarray], size: int, block: int
) -> None:
    """Launch an ElementwiseKernel of raw arrays."""
    types = kernel._TypeMap((("T", np.int64), ("O", np.int64)))
    options = {key: made.kwargs[key] for key in ("loop_prep", "after_loop") if key in made.kwargs}
    code = kernel._get_elementwise_kernel_code(
        infos(arrays, 1), types, made.params, made.operation, made.name, made.preamble, **options
    )
    args = [*(carray(array) for array in arrays), cindexer((size,))]
    launch(tally, code, made.name, size // block, block, args, arrays)


def _draw(dtype: type, count: int, seed: int) -> np.ndarray:
    """Any bits, for floats without NaN."""
    random = np.random.default_rng(seed)
    values: np.ndarray = (
        random.integers(0, 256, count * np.dtype(dtype).itemsize).astype(np.uint8).view(dtype)
    )
    if np.dtype(dtype).kind == "f":
        values[np.isnan(values)] = 1.5
    return values


def _divisor(dtype: type, count: int, seed: int) -> np.ndarray:
    values = _draw(dtype, count, seed)
    values[values == 0] = 3
    return values


def cases() -> list[Case]:
    if importlib.util.find_spec("cupy") is None:
        return []
    made: list[tuple[str, str, Callable[[], Tally]]] = []
    two = {
        np.int32: ("add", "subtract", "multiply", "maximum", "bitwise_xor", "floor_divide",
                   "remainder"),
        np.int8: ("add", "multiply", "minimum", "floor_divide"),
        np.uint64: ("add", "multiply", "floor_divide"),
        np.float32: ("add", "multiply", "maximum", "copysign"),
        np.float64: ("add", "multiply", "minimum"),
        np.float16: ("add", "multiply"),
    }  # fmt: skip
    for dtype, names in two.items():
        for name in names:
            inputs = _draw(dtype, 1000, 42), _divisor(dtype, 1000, 43)
            run = partial(ufunc, name, inputs, getattr(np, name))
            made.append((f"{name}, {np.dtype(dtype)}", "cupy _core (ufunc)", run))
    one = {np.float32: ("rint", "floor", "sqrt", "sign"), np.float64: ("trunc", "ceil", "sqrt")}
    for dtype, names in one.items():
        for name in names:
            values = _draw(dtype, 1000, 44)
            run = partial(ufunc, name, (np.abs(values),), getattr(np, name))
            made.append((f"{name}, {np.dtype(dtype)}", "cupy _core (ufunc)", run))
    numbers = np.random.default_rng(45).integers(-999, 999, (1000, 5))
    for dtype in (np.int64, np.float32):
        values = numbers.astype(dtype)
        run = partial(reduction, "in0", "a + b", "0", values, values.sum(axis=0, dtype=dtype))
        made.append((f"sum over columns, {np.dtype(dtype)}", "cupy _core/_reduction", run))
        run = partial(reduction, "in0", "max(a, b)", "T(-1000)", values, values.max(axis=0))
        made.append((f"maximum over columns, {np.dtype(dtype)}", "cupy _core/_reduction", run))
    for kind in ("naive", "btree"):
        made.append(
            (f"cumsum ({kind} scan), int64", "cupy _core/_routines_math", partial(scan, kind))
        )
    return [Case(name, origin, "sm_80", run) for name, origin, run in made]
